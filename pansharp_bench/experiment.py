"""One run, from specification to record: data, fit, evaluate, write."""

from __future__ import annotations

import fcntl
import hashlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pansharp_bench import record as records
from pansharp_bench.environment import device_name, environment, peak_memory
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.figures import compare_scene, training_curves
from pansharp_bench.files import sha256_of
from pansharp_bench.method import TrainedMethod, build, resolve_config
from pansharp_bench.protocols.evaluate import Evaluation, Protocol, evaluate
from pansharp_bench.record import Record
from pansharp_bench.registry import DATASETS, METHODS, TRACKS, Entry, MethodCard
from pansharp_bench.scene import Dataset, FileIdentity, Scene, SplitName, as_sensor, load_dataset
from pansharp_bench.training import PairedData, Trainer, UnpairedData
from pansharp_bench.training.loop import LOG, choose_device, choose_precision
from pansharp_bench.training.samplers import Pairing, Target
from pansharp_bench.weights import described, save_weights

WEIGHTS = "weights.safetensors"
Say = Callable[[str], None]


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
    if learns != (card.training != "none"):
        raise BenchError(
            f"method {card.name!r} has training={card.training!r} on its card, which is not what it is"
        )
    if spec.weights and not learns:
        raise BenchError(f"method {card.name!r} has no weights; leave out --weights")
    dataset = load_dataset(spec.dataset, spec.data, spec.label)
    protocols = _protocols(track, dataset, card)
    needed = _needed_splits(learns and spec.weights is None, protocols, dataset)
    described = _describe_dataset(dataset, dataset.files(*needed), protocols)
    identity = {
        "track": track,
        "dataset": dataset.name,
        "method": card.name,
        "preset": preset if learns else "untrained",
        "options": asdict(config) if config else {},
        "changed": _changed(entry, preset, config),
        "seed": spec.seed if learns and not spec.weights else 0,  # elsewhere nothing is drawn
        "data": described["fingerprint"],
        "weights": {"file_sha256": sha256_of(spec.weights)} if spec.weights else {},
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
    if resume and (it.config is None or it.spec.weights):
        raise BenchError("there is no training to resume; leave out --resume")
    path = it.path(results)
    if not force:
        records.refuse_existing(path)
    folder = runs / path.relative_to(results).with_suffix("")
    records.check_writable(path.parent)
    with _only_run_in(folder):
        return _run(it, results, folder, force, resume, pictures, progress, say)


def _run(
    it: Plan, results: Path, folder: Path, force: bool, resume: bool, pictures: int, progress: bool, say: Say
) -> Outcome:
    spec, identity, dataset, device = it.spec, it.identity, it.dataset, it.device
    say(
        f"method {identity['method']} · dataset {dataset.name} · preset {identity['preset']} · "
        f"seed {identity['seed']} · {device_name(device)}"
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainer = Trainer(folder, str(device), identity["precision"], spec.seed, resume, progress, it.sha256)
    method = build(it.entry, dataset.sensor, it.config)

    training: dict[str, Any] = {}
    weights: dict[str, Any] = {}
    checkpoint = None
    if isinstance(method, TrainedMethod):
        if spec.weights:
            method.load_weights(spec.weights)
            training = {"weights_from": spec.weights.name}
        else:
            training = _fit(method, dataset, trainer)
        method.to(device).eval()
        checkpoint = folder / WEIGHTS
        trained_on = _train_files(it)
        own = described(spec.weights).get("train_files", {}) if spec.weights else trained_on
        # given weights keep what they said of their training, or say nothing of it
        about = {**identity, "sensor": method.sensor.name, "train_files": own}
        save_weights(method.state_dict(), checkpoint, records.canonical(about))
        weights = {"sha256": sha256_of(checkpoint), **identity["weights"]}
        if spec.weights:
            weights["trained_here"] = bool(own) and own == trained_on
        weights["parameters"] = sum(p.numel() for p in method.parameters())

    scores: dict[str, Any] = {}
    inference: dict[str, Any] = {}
    kept: dict[SplitName, list[Tensor]] = {}
    for split_name in dict.fromkeys(p.split for p in it.protocols):
        asked = [p for p in it.protocols if p.split == split_name]
        result = evaluate(method, dataset, asked, device, pictures, progress)
        for protocol in asked:
            better = {c: b for e in protocol.entries() for c, b in e.card.directions.items()}
            scores[protocol.name] = {**records.summarise(result.scores[protocol.name]), "better": better}
            if curves := result.curves[protocol.name]:
                scores[protocol.name]["curves"] = curves
        inference[split_name] = _timing(result)
        kept[split_name] = result.fused

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
        environment=environment(device, identity["precision"]) | {"peak_memory": peak_memory(device)},
    )
    path = records.write(made, results, force)
    return Outcome(made, path, folder, _draw(it, folder, kept), checkpoint)


def _draw(it: Plan, folder: Path, kept: dict[SplitName, list[Tensor]]) -> list[Path]:
    """Pictures of the run: training curves where a log lies, and the first scenes of every split."""
    title, pictures = f"{it.entry.card.label} · {it.dataset.name}", folder / "pictures"
    curves = training_curves(folder / LOG, pictures / "training.png", title)
    drawn = [curves] if curves else []
    for split, images in kept.items():
        for index, fused in enumerate(images):
            protocol = next(p for p in it.protocols if p.split == split)
            where = f"{title} · {protocol.title.lower()}, scene {index}"
            path = pictures / f"{split}-{index:02d}.png"
            source = TRACKS.get(it.identity["track"]).obj.source
            drawn.append(compare_scene(it.dataset.split(split)[index], fused, path, where, source))
    return drawn


def mosaic(
    spec: RunSpec,
    out: Path,
    results: Path,
    runs: Path,
    *,
    second_stage: Path | None = None,
    progress: bool = True,
    say: Say = lambda text: None,
) -> list[Path]:
    """The test images and a method's outputs on the map they were cut from, under ``out``.

    A trained method takes ``spec.weights``, or the weights of its finished run, which is made where there is
    none. ``second_stage``: weights of a run of the track ``bands``, whose bands the outputs get beside their own.
    Raises BenchError where the dataset's images do not come from a map.
    """
    it = plan(spec)
    bands, extended = it.dataset.sensor.bands, _extension(it, second_stage)
    method = build(it.entry, it.dataset.sensor, it.config)
    if isinstance(method, TrainedMethod):
        trained = runs / it.path(results).relative_to(results).with_suffix("") / WEIGHTS
        if not spec.weights and not trained.exists():
            run(it, results, runs, force=True, progress=progress, say=say)
        method.load_weights(spec.weights or trained)
        method.to(it.device).eval()
    split = it.dataset.split("test")

    def outputs() -> Iterator[Tensor]:
        with torch.inference_mode():
            for index in tqdm(range(len(split)), desc="test scenes", disable=not progress):
                scene = split[index].to(it.device)
                fused = method.fuse(scene.seen_by(it.entry.card, seed=index)).float()
                yield (extended.fuse(fused) if extended else fused).cpu()

    name = f"{it.dataset.name}-{it.identity['method']}"
    sources = (split.read("pan", i) for i in range(len(split)))
    before = it.dataset.mosaic(split, sources, out / f"{it.dataset.name}-source", bands)
    after = it.dataset.mosaic(split, outputs(), out / name, (*bands, *(extended.bands if extended else ())))
    return [*before, *after]


@dataclass(frozen=True)
class _Extension:
    """A trained method of the track ``bands``, for images of another sensor."""

    method: TrainedMethod
    source: list[int]

    @property
    def bands(self) -> tuple[str, ...]:
        return self.method.sensor.bands

    def fuse(self, images: Tensor) -> Tensor:
        """(n, C + further, H, W) of images (n, C, H, W): as they are, and the further bands."""
        made = self.method.fuse(Scene(self.method.sensor, pan=images[:, self.source]))
        return torch.cat([images, made.float()], 1)


def _extension(it: Plan, weights: Path | None) -> _Extension | None:
    """Raises BenchError for weights that do not say they are a second stage's, or of bands that are not there."""
    if weights is None:
        return None
    if not weights.exists():
        raise BenchError(f"--second-stage {weights} does not exist")
    told = described(weights)
    if told.get("track") != "bands":
        raise BenchError(
            f"--second-stage {weights} was not saved by a run of track 'bands'; `bench list` shows its datasets "
            "and methods"
        )
    entry, sensor = METHODS.get(told["method"]), as_sensor(told["sensor"])
    if missing := [b for b in sensor.source if b not in it.dataset.sensor.bands]:
        raise BenchError(f"--second-stage {weights} needs bands {', '.join(missing)}, which the outputs lack")
    method = build(entry, sensor, resolve_config(entry, told["preset"], told["options"]))
    assert isinstance(method, TrainedMethod)
    method.load_weights(weights)
    return _Extension(method.to(it.device).eval(), [it.dataset.sensor.bands.index(b) for b in sensor.source])


@contextmanager
def _only_run_in(folder: Path) -> Iterator[None]:
    """Hold the run's folder; raises BenchError where another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BenchError(f"this run is under way in another process (its folder: {folder})") from None
        yield


def _is_simulated(dataset: Dataset) -> bool:
    return dataset.name in DATASETS and DATASETS.get(dataset.name).card.simulated


def _changed(entry: Entry[MethodCard], preset: str, config: TrainedMethod.Config | None) -> list[str]:
    """Names of the options that differ from their preset."""
    usual = resolve_config(entry, preset)
    if config is None or usual is None:
        return []
    before = asdict(usual)
    return sorted(k for k, v in asdict(config).items() if v != before[k])


def _protocols(track: str, dataset: Dataset, card: MethodCard) -> list[Protocol]:
    """The track's protocols that this dataset can serve; to an oracle only those that have a reference."""
    chosen = []
    for protocol in TRACKS.get(track).obj.protocols:
        if not {protocol.split, protocol.target or protocol.split} <= set(dataset.available()):
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
    needed: list[SplitName] = ["train", _second(dataset)] if fits else []
    for split in needed:
        dataset.split(split)  # raises the reader's own account of what is missing
    read = [s for p in protocols for s in (p.split, p.target) if s]
    return tuple(dict.fromkeys((*needed, *read)))


def _second(dataset: Dataset) -> SplitName:
    """What training reads beside ``train``: a target domain of its own, or the validation samples."""
    return "target" if "target" in dataset.available() else "valid"


def _fit(method: TrainedMethod, dataset: Dataset, trainer: Trainer) -> dict[str, Any]:
    train, second = dataset.split("train"), dataset.split(_second(dataset))
    half = "16" in trainer.precision  # half a DN is lost to such autocast anyway
    data: PairedData | UnpairedData
    if second.name == "target":
        data = UnpairedData.between(dataset.sensor, train, second, trainer.device, half)
    elif method.card.training == "unpaired":
        pairing: Pairing = getattr(method.config, "pairing", "disjoint")
        target: Target = getattr(method.config, "target", "lms")
        data = UnpairedData.halves(
            dataset.sensor, train, second, trainer.device, trainer.seed, pairing, target, half
        )
    else:
        data = PairedData(dataset.sensor, train, second, trainer.device, half)
    method.to(trainer.device).train()
    started = time.perf_counter()
    told = method.fit(data, trainer) or {}
    return {"data": data.describe(), "seconds": time.perf_counter() - started, **told}


def _describe_dataset(
    dataset: Dataset, files: tuple[FileIdentity, ...], protocols: list[Protocol]
) -> dict[str, Any]:
    """The dataset's identity: its content. ``fingerprint`` hashes the files of every split in use;
    ``test_fingerprint`` those that scores depend on, which is what a table may not mix."""

    def fingerprint(chosen: list[FileIdentity]) -> str:
        return hashlib.sha256("\n".join(f"{f.split} {f.sha256}" for f in chosen).encode()).hexdigest()

    scored = {s for p in protocols for s in (p.split, p.target)}
    tests = [f for f in files if f.split in scored]
    return {
        "name": dataset.name,
        "simulated": _is_simulated(dataset),
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


def _train_files(it: Plan) -> dict[str, str]:
    """SHA-256 of the dataset's training files, by split; empty where it has none."""
    splits = [s for s in ("train", "target") if s in it.dataset.available()]
    return {f.split: f.sha256 for f in it.dataset.files(*splits)} if "train" in splits else {}


__all__ = ["Outcome", "Plan", "RunSpec", "mosaic", "plan", "run"]
