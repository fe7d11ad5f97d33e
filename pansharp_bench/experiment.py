"""One run, from specification to record: data, fit, evaluate, write."""

from __future__ import annotations

import hashlib
import os
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from pansharp_bench import record as records
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.figures import compare_scene, training_curves
from pansharp_bench.method import TrainedMethod, build, resolve_config
from pansharp_bench.protocols.evaluate import Evaluation, Protocol, evaluate
from pansharp_bench.record import Record
from pansharp_bench.registry import DATASETS, METHODS, TRACKS, Entry, MethodCard
from pansharp_bench.scene import Dataset, FileIdentity, SplitName
from pansharp_bench.training import PairedData, Trainer, UnpairedData
from pansharp_bench.training.loop import LOG, choose_device, choose_precision

DATA_VARIABLE = "PANSHARP_DATA"
Say = Callable[[str], None]


def load_dataset(
    name: str, root: str | Path | None = None, label: str | None = None, seed: int | None = None
) -> Dataset:
    """A dataset by registered name.

    Args:
        name: e.g. ``"qb"`` or ``"qb-sim"``.
        root: folder with the data files; default the variable ``PANSHARP_DATA``.
        label: names a set of files that are not the known originals: ``label="mini"`` shows as ``qb-mini``.
        seed: of a simulated dataset.

    Where no root is given or configured and the dataset has a simulated stand-in, that is returned with a
    warning; its ``name`` says so (``qb-sim``).

    Raises:
        UnknownName: no such dataset.
        DataError: a root is given and the files are not there, or not usable.
    """
    entry = DATASETS.get(name)
    root = root or os.environ.get(DATA_VARIABLE) or None
    if root is None and entry.card.stand_in:
        if label:
            raise BenchError(f"--label {label} names real files: give their folder with --data DIR")
        entry = DATASETS.get(entry.card.stand_in)
        warnings.warn(
            f"no data root is configured, so the SIMULATED sensor {entry.name!r} stands in for {name!r}; "
            f"everything written says {entry.name}. For real imagery give --data DIR or set {DATA_VARIABLE} "
            f"(where to get it: `bench data info {name}`)",
            stacklevel=2,
        )
    extra = {} if seed is None else {"seed": seed}
    return entry.obj(root=None if root is None else Path(root), label=label, **extra)


@dataclass(frozen=True)
class RunSpec:
    """What to run. ``preset=None`` takes ``standard`` on CUDA and ``quick`` on CPU."""

    method: str
    dataset: str
    preset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    label: str | None = None
    data: Path | None = None
    weights: Path | None = None
    device: str = "auto"
    precision: str = "auto"


@dataclass(frozen=True)
class Outcome:
    """Where everything went."""

    record: Record
    path: Path
    folder: Path
    pictures: list[Path]
    checkpoint: Path | None


@dataclass(frozen=True)
class Plan:
    """A run settled to the last option: everything is checked, nothing is trained."""

    spec: RunSpec
    entry: Entry[MethodCard]
    dataset: Dataset
    config: TrainedMethod.Config | None
    device: torch.device
    protocols: list[Protocol]
    described: dict[str, Any]
    identity: dict[str, Any]

    @property
    def sha256(self) -> str:
        return records.spec_hash(self.identity)

    def path(self, results: Path) -> Path:
        return records.record_path(results, self.identity, self.sha256)


def plan(spec: RunSpec) -> Plan:
    """Settle a run. Raises BenchError (or a subclass) for every mistake a user can mend."""
    entry = METHODS.get(spec.method)
    card, track = entry.card, DATASETS.get(spec.dataset).card.tracks[0]
    if track not in card.tracks:
        raise BenchError(
            f"method {card.name!r} is not made for {track}, the track of dataset {spec.dataset!r}"
        )
    device = choose_device(spec.device)
    preset = spec.preset or ("standard" if device.type == "cuda" else "quick")
    config = resolve_config(entry, preset, spec.options)
    learns = config is not None
    dataset = load_dataset(spec.dataset, spec.data, spec.label)
    protocols = _protocols(track, dataset, card)
    needed = _needed_splits(learns and spec.weights is None, protocols, dataset)
    described = _describe_dataset(dataset, dataset.files(*needed))
    identity = {
        "track": track,
        "dataset": dataset.name,
        "method": card.name,
        "preset": preset if learns else "untrained",
        "options": asdict(config) if config else {},
        "changed": _changed(entry, preset, config),
        "seed": spec.seed,
        "data": described["fingerprint"],
        "weights": {"file_sha256": _sha256(spec.weights)} if spec.weights else {},
        "precision": choose_precision(device, spec.precision) if learns else "32-true",
    }
    return Plan(spec, entry, dataset, config, device, protocols, described, identity)


def run(
    spec: RunSpec | Plan,
    results: Path = Path("results"),
    runs: Path = Path("runs"),
    *,
    force: bool = False,
    resume: bool = False,
    pictures: int = 2,
    progress: bool = True,
    say: Say = lambda text: None,
) -> Outcome:
    """Carry out a run and write its record under ``results``; checkpoint, log and pictures go under ``runs``.

    Raises BenchError (or a subclass) for every mistake a user can mend, before any training where possible;
    RecordExists where the record of an identical run lies under ``results`` and ``force`` is not given.
    """
    it = plan(spec) if isinstance(spec, RunSpec) else spec
    spec, identity, dataset, device = it.spec, it.identity, it.dataset, it.device
    path = it.path(results)
    if not force:
        records.refuse_existing(path)
    folder = runs / path.relative_to(results).with_suffix("")
    say(
        f"method {identity['method']} · dataset {dataset.name} · preset {identity['preset']} · "
        f"seed {spec.seed} · {_device_name(device)}"
    )
    trainer = Trainer(folder, str(device), identity["precision"], spec.seed, resume, progress, it.sha256)
    method = build(it.entry, dataset.sensor, it.config)

    title = f"{it.entry.card.label} · {dataset.name}"
    training: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    drawn: list[Path] = []
    checkpoint = None
    if isinstance(method, TrainedMethod):
        if spec.weights:
            method.load_weights(spec.weights)
            training = {"weights_from": spec.weights.name}
        else:
            training = _fit(method, dataset, trainer)
            curves = training_curves(folder / LOG, folder / "pictures" / "training.png", title)
            drawn += [curves] if curves else []
        method.to(device).eval()
        checkpoint = folder / "weights.safetensors"
        weights = {"sha256": _save_weights(method, checkpoint), **identity["weights"]}
        weights["parameters"] = sum(p.numel() for p in method.parameters())

    scores: dict[str, Any] = {}
    inference: dict[str, Any] = {}
    for split_name in dict.fromkeys(p.split for p in it.protocols):
        asked = [p for p in it.protocols if p.split == split_name]
        result = evaluate(method, dataset.split(split_name), asked, device, pictures, progress)
        scores |= {k: records.summarise(v) for k, v in result.scores.items()}
        inference[split_name] = _timing(result)
        for index, fused in enumerate(result.fused):
            picture = folder / "pictures" / f"{split_name}-{index:02d}.png"
            where = f"{title} · {split_name} resolution, scene {index}"
            drawn.append(compare_scene(dataset.split(split_name)[index], fused, picture, where))

    made = Record(
        schema=records.SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=identity,
        spec_sha256=it.sha256,
        method=asdict(it.entry.card),
        dataset=it.described,
        protocols=scores,
        training=training,
        inference=inference,
        weights=weights,
        environment=records.environment(str(device), _device_name(device), identity["precision"])
        | {"peak_memory": records.peak_memory(str(device))},
    )
    return Outcome(made, records.write(made, results, force), folder, drawn, checkpoint)


def _changed(entry: Entry[MethodCard], preset: str, config: TrainedMethod.Config | None) -> list[str]:
    """Names of the options that differ from their preset."""
    if config is None:
        return []
    usual = asdict(resolve_config(entry, preset))
    return sorted(k for k, v in asdict(config).items() if v != usual[k])


def _protocols(track: str, dataset: Dataset, card: MethodCard) -> list[Protocol]:
    """The track's protocols that this dataset can serve; to an oracle only those that have a reference."""
    chosen = []
    for protocol in TRACKS.get(track).obj:
        if protocol.split not in dataset.available():
            continue
        needs_gt = protocol.needs_gt or card.sees == "reference"
        if not needs_gt or "gt" in dataset.split(protocol.split).keys:
            chosen.append(protocol)
    if not chosen:
        raise DataError(
            f"dataset {dataset.name} has no test files: found only {', '.join(dataset.available())}"
        )
    return chosen


def _needed_splits(fits: bool, protocols: list[Protocol], dataset: Dataset) -> tuple[SplitName, ...]:
    needed: list[SplitName] = ["train", "valid"] if fits else []
    for split in needed:
        dataset.split(split)  # raises the reader's own account of what is missing
    return (*needed, *dict.fromkeys(p.split for p in protocols))


def _fit(method: TrainedMethod, dataset: Dataset, trainer: Trainer) -> dict[str, Any]:
    train, valid = dataset.split("train"), dataset.split("valid")
    data: PairedData | UnpairedData
    if method.card.training == "unpaired":
        pairing = getattr(method.config, "pairing", "disjoint")
        target = getattr(method.config, "target", "lms")
        data = UnpairedData(dataset.sensor, train, valid, trainer.device, trainer.seed, pairing, target)
    else:
        data = PairedData(dataset.sensor, train, valid, trainer.device)
    method.to(trainer.device).train()
    return {"data": data.describe(), **(method.fit(data, trainer) or {})}


def _describe_dataset(dataset: Dataset, files: tuple[FileIdentity, ...]) -> dict[str, Any]:
    """The dataset's identity: its content. ``fingerprint`` hashes the files of every split in use;
    ``test_fingerprint`` those that scores depend on, which is what a table may not mix."""

    def fingerprint(chosen: list[FileIdentity]) -> str:
        return hashlib.sha256("\n".join(f"{f.split} {f.sha256}" for f in chosen).encode()).hexdigest()

    tests = [f for f in files if f.split not in ("train", "valid")]
    return {
        "name": dataset.name,
        "sensor": dataset.sensor.name,
        "channels": dataset.sensor.channels,
        "peak": dataset.sensor.peak,
        "files": [{**asdict(f), "path": f.path.name} for f in files],
        "fingerprint": fingerprint(list(files)),
        "test_fingerprint": {f.split: f.sha256 for f in tests},
        "provenance": dataset.provenance(),
    }


def _timing(result: Evaluation) -> dict[str, Any]:
    """Median over images without the first, which pays for warming up."""
    seconds = result.seconds[1:] or result.seconds
    median = statistics.median(seconds)
    return {
        "seconds_per_image": median,
        "pixels_per_image": result.pixels,
        "milliseconds_per_megapixel": median * 1e3 / (result.pixels / 1e6),
    }


def _save_weights(method: TrainedMethod, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().contiguous().clone() for k, v in method.state_dict().items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(state, temporary)
    os.replace(temporary, path)
    return _sha256(path)


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from error


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


__all__ = ["DATA_VARIABLE", "Outcome", "RunSpec", "load_dataset", "run"]
