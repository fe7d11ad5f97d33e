"""A run settled to the last option: everything is checked, nothing is trained."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pansharp_bench import record as records
from pansharp_bench.environment import check_even, choose_precision, no_cuda
from pansharp_bench.errors import BenchError, DataError, blaming
from pansharp_bench.files import RunFolder, sha256_of
from pansharp_bench.presets import is_trained, options_of, settled_options, takes_steps
from pansharp_bench.protocol import Protocol
from pansharp_bench.registry import DATASETS, METHODS, METRICS, SENSORS, TRACKS, Entry, MethodCard
from pansharp_bench.scene import (
    Dataset,
    FileIdentity,
    SplitName,
    as_sensor,
    data_root,
    load_dataset,
    served_by,
)
from pansharp_bench.settings import asked_metrics
from pansharp_bench.source import source_of

if TYPE_CHECKING:  # which records are there is told without torch
    import torch

    from pansharp_bench.method import TrainedMethod


@dataclass(frozen=True)
class RunSpec:
    """What to run. ``preset=None`` takes ``standard`` on CUDA and ``quick`` on CPU; ``weights`` is a file, or
    ``FILE:NAME`` where a file holds several state dicts; ``accept_faults`` runs on files in which errors are found,
    which the record then says; ``metrics`` are asked for beside the usual ones, e.g. ``["q2n:block=64"]``;
    ``devices`` on each of ``nodes`` share the training, whose result is the same."""

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
    accept_faults: bool = False
    metrics: Sequence[str] = ()
    devices: int = 1
    nodes: int = 1


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
        """Of what is :func:`essential` in the identity: equal runs have equal ones."""
        return records.spec_hash(essential(self.identity))

    @property
    def foreign(self) -> bool:
        """Whether code or a sensor from outside takes part."""
        return not {"source", "sensor"}.isdisjoint(self.identity)

    def path(self, results: Path) -> Path:
        """Where its record lies."""
        return records.record_path(results, self.identity, self.sha256)

    def folder(self, runs: Path) -> RunFolder:
        """Where its checkpoint, log, weights and pictures lie."""
        return RunFolder(self.path(runs).with_suffix(""))

    @property
    def command(self) -> str:
        """What carries it out in the shell."""
        spec = self.spec
        given = {
            "--method": [spec.method],
            "--dataset": [spec.dataset],
            "--preset": [self.identity["preset"]] if self.config is not None else [],
            "--seed": [spec.seed],
            "--set": [f"{k}={v}" for k, v in spec.options.items()],
            "--label": [spec.label] if spec.label else [],
            "--data": [spec.data] if spec.data else [],
            "--precision": [spec.precision] if spec.precision != "auto" else [],
            "--device": [spec.device] if spec.device != "auto" else [],
        }
        words = [word for flag, values in given.items() for value in values for word in (flag, str(value))]
        return shlex.join(["bench", "run", *words, *(["--accept-faults"] if spec.accept_faults else [])])

    @property
    def train_files(self) -> dict[str, str]:
        """SHA-256 of the dataset's training files, by split; empty where it has none."""
        splits = [s for s in ("train", "target") if s in self.dataset.available()]
        return {f.split: f.sha256 for f in self.dataset.files(*splits)} if "train" in splits else {}


def outline(spec: RunSpec) -> dict[str, Any]:
    """The identity of a run but for its data and what is foreign in it, settled without a look at any data file;
    ``dataset`` is the name they should have: that of the spec's label, of known originals, or of the stand-in where
    no root is configured.

    Raises BenchError (or a subclass) for every mistake in method, options, device and weights.
    """
    entry = METHODS.get(spec.method)
    card, track = entry.card, DATASETS.get(spec.dataset).card.tracks[0]
    if track not in card.tracks:
        raise BenchError(
            f"method {card.name!r} is not made for {track}, the track of dataset {spec.dataset!r}"
        )
    if not isinstance(spec.seed, Integral) or isinstance(spec.seed, bool) or not 0 <= spec.seed < 2**63:
        raise BenchError(f"seed {spec.seed!r} is no whole number from 0 to 2^63 - 1")
    learns = is_trained(entry)
    if learns != (card.training != "none"):
        what = "a class that learns" if learns else "a function, or a class not derived from TrainedMethod"
        raise BenchError(f"method {card.name!r} has training={card.training!r} on its card, but is {what}")
    device = device_type(spec.device)
    preset = spec.preset or ("standard" if device == "cuda" else "quick")
    options = settled_options(entry, preset, spec.options)
    if (size := spec.devices * spec.nodes) > 1:
        if spec.weights or not takes_steps(entry):
            raise BenchError(
                f"method {card.name!r} takes no training steps here that {size} devices could share: run it on one"
            )
        check_even((options or {}).get("batch", size), size)
    given = {"weights": spec.weights, "precision": spec.precision != "auto"}
    if not learns and (useless := [f"--{name}" for name, value in given.items() if value]):
        raise BenchError(f"method {card.name!r} is not trained; leave out {' and '.join(useless)}")
    return {
        "track": track,
        "dataset": _called(spec),
        "method": card.name,
        "preset": preset if learns else "untrained",
        "options": options or {},
        "changed": _changed(options, settled_options(entry, preset)) if options else [],
        "seed": spec.seed if learns and not spec.weights else 0,  # elsewhere nothing is drawn
        "weights": _identify(spec.weights) if spec.weights else {},
        "precision": choose_precision(device, spec.precision) if learns else "32-true",
    } | _metrics(spec)


def essential(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a specification that tells one run from another.

    Options at their class default say nothing, so that one which a method learns later leaves the runs before it
    what they were. A default is what the paper or its release does and does not change; presets may.
    """
    entry = METHODS.get(spec["method"]) if spec["method"] in METHODS else None
    own = options_of(entry) if entry else None
    usual = own.usual if own else {}
    apart = {
        k: v
        for k, v in spec["options"].items()
        if k not in usual or records.canonical(v) != records.canonical(usual[k])
    }
    return {**spec, "options": apart}


def plan(spec: RunSpec) -> Plan:
    """Settle a run, its data too, which are opened and (where they are simulated) made.

    Raises BenchError (or a subclass) for every mistake a user can mend.
    """
    from pansharp_bench.method import resolve_config
    from pansharp_bench.training.loop import choose_device

    settled, entry = outline(spec), METHODS.get(spec.method)
    config = resolve_config(entry, settled["preset"], spec.options) if is_trained(entry) else None
    dataset = load_dataset(spec.dataset, spec.data, spec.label)
    with blaming(f"dataset {dataset.name!r} failed"):
        protocols = _asked(_protocols(settled["track"], dataset, entry.card), spec)
        needed = _needed_splits(config is not None and spec.weights is None, protocols, dataset)
        _refuse_small(entry.card, dataset, protocols, needed)
        described = _describe_dataset(dataset, dataset.files(*needed), protocols)
    identity = {**settled, "dataset": dataset.name, "data": described["fingerprint"]}
    identity |= _foreign(entry, spec.dataset, dataset, settled["track"], protocols)
    device = choose_device(spec.device, spec.devices)
    return Plan(spec, entry, dataset, config, device, protocols, described, identity)


def plan_external(spec: RunSpec, card: MethodCard, images: Mapping[SplitName, Sequence[Path]]) -> Plan:
    """Settle the scoring of fused images that were made elsewhere: files by split, one a scene. ``spec.method`` is
    the card's name. Raises BenchError for a name that is one of ours, or images of no scenes of the dataset."""
    from pansharp_bench.training.loop import choose_device

    if card.name in METHODS:
        raise BenchError(
            f"{card.name!r} is a method of this package; give what was made elsewhere another name"
        )
    track = DATASETS.get(spec.dataset).card.tracks[0]
    dataset = load_dataset(spec.dataset, spec.data, spec.label)
    protocols = [p for p in _protocols(track, dataset, card) if p.split in images]
    if not protocols:
        raise BenchError(f"dataset {dataset.name} is not scored on {', '.join(images)}")
    protocols = _asked(protocols, spec)
    described = _describe_dataset(
        dataset, dataset.files(*_needed_splits(False, protocols, dataset)), protocols
    )
    digest = hashlib.sha256(
        "\n".join(f"{s} {sha256_of(p)}" for s, found in images.items() for p in found).encode()
    )
    identity: dict[str, Any] = {
        "track": track,
        "dataset": dataset.name,
        "method": card.name,
        "preset": "external",
        "options": {},
        "changed": [],
        "seed": 0,
        "weights": {},
        "precision": "32-true",
        "data": described["fingerprint"],
        "images": digest.hexdigest(),
    } | _metrics(spec)
    entry = Entry(card, None, __name__)
    identity |= _foreign(entry, spec.dataset, dataset, track, protocols)
    return Plan(spec, entry, dataset, None, choose_device(spec.device), protocols, described, identity)


def recorded(spec: RunSpec, results: Path) -> Path | None:
    """The newest record of a run whose data files are not at hand, found by all the rest of its identity.

    None where there is none, and where a data root is configured: whose files they are is for :func:`plan` to see.
    A simulated dataset, which need not have been made, must be of the same simulator. Warns of a file there that is
    no record, or no longer: it may be this run's.
    """
    if data_root(spec.data):
        return None
    wanted, dataset = outline(spec), _unopened(spec)
    simulator = dataset.provenance() if dataset and _is_simulated(dataset) else None
    found = []
    folder = results / wanted["track"] / wanted["dataset"] / wanted["method"]
    for path, record in records.readable(folder.glob("*.json"), aloud=True):
        served = [p for p in TRACKS.get(wanted["track"]).obj.protocols if p.name in record.protocols]
        protocols = _asked(served, spec)
        foreign = _foreign(METHODS.get(spec.method), spec.dataset, dataset, wanted["track"], protocols)
        own = essential(wanted | foreign)
        theirs = {k: v for k, v in essential(record.spec).items() if k != "data"}
        if records.canonical(theirs) == records.canonical(own) and (
            simulator is None
            or records.canonical(record.dataset["provenance"]) == records.canonical(simulator)
        ):
            found.append((record.created, path))
    return max(found)[1] if found else None


def _metrics(spec: RunSpec) -> dict[str, list[str]]:
    """What a specification says of metrics: nothing where they are the usual ones."""
    asked = list(asked_metrics(spec.metrics))
    return {"metrics": asked} if asked else {}


def _asked(protocols: Sequence[Protocol], spec: RunSpec) -> list[Protocol]:
    """The protocols with the metrics that the specification asks for. Raises BenchError for one that none has."""
    asked = asked_metrics(spec.metrics)
    for text in spec.metrics:
        card = METRICS.get(text.partition(":")[0].strip()).card
        if not any(card.has(protocol=p.metrics) for p in protocols):
            served = ", ".join(p.name for p in protocols)
            raise BenchError(f"metric {text!r} is of none of the protocols of this run: {served}")
    chosen = {p: tuple(e for e in asked.values() if e.card.has(protocol=p.metrics)) for p in protocols}
    return [replace(p, asked=entries) for p, entries in chosen.items()]


def _called(spec: RunSpec) -> str:
    if spec.label:
        return f"{spec.dataset}-{spec.label}"
    return served_by(spec.dataset, data_root(spec.data)).name


def _unopened(spec: RunSpec) -> Dataset | None:
    """A dataset that needs no files, which may not have been made yet; None for one of files."""
    try:
        return None if spec.label else served_by(spec.dataset, None).obj(root=None, label=None)
    except DataError:
        return None


def _foreign(
    method: Entry[MethodCard], name: str, dataset: Dataset | None, track: str, protocols: list[Protocol]
) -> dict[str, Any]:
    """What of a run is not the project's own, so that its commit does not tell it: the source of plug-ins, and a
    sensor that none of the shipped ones is. Empty without such."""
    parts = {
        "track": source_of(TRACKS.get(track)),
        "method": source_of(method),
        "dataset": source_of(DATASETS.get(name), *([dataset] if dataset else [])),
    }
    metrics = {e.name: e for protocol in protocols for e in protocol.entries()}
    parts |= {f"metric {name}": source_of(metric) for name, metric in sorted(metrics.items())}
    source = {part: found for part, found in parts.items() if found}
    sensor = dataset.sensor if dataset else as_sensor(DATASETS.get(name).card.sensor)
    own = sensor in (e.obj for e in SENSORS if not source_of(e))
    return ({"source": source} if source else {}) | ({} if own else {"sensor": sensor.facts()})


def device_type(name: str) -> str:
    """``cpu`` or ``cuda``: what :func:`~pansharp_bench.training.loop.choose_device` gives, asked only where that is
    not certain beforehand."""
    if name == "cpu" or (name == "auto" and no_cuda()):
        return "cpu"
    from pansharp_bench.training.loop import choose_device

    return choose_device(name).type


def _identify(weights: Path) -> dict[str, str]:
    from pansharp_bench.weights import located

    file, name = located(weights)
    return {"file_sha256": sha256_of(file)} | ({"state_dict": name} if name else {})


def _is_simulated(dataset: Dataset) -> bool:
    return dataset.name in DATASETS and DATASETS.get(dataset.name).card.simulated


def _changed(options: dict[str, Any], preset: dict[str, Any] | None) -> list[str]:
    """Names of the options that differ from their preset."""
    return sorted(k for k, v in options.items() if preset and v != preset[k])


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
    needed: list[SplitName] = ["train", second_split(dataset)] if fits else []
    for split in needed:
        dataset.split(split)  # raises the reader's own account of what is missing
    read = [s for p in protocols for s in (p.split, p.target) if s]
    return tuple(dict.fromkeys((*needed, *read)))


def _refuse_small(
    card: MethodCard, dataset: Dataset, protocols: list[Protocol], needed: tuple[SplitName, ...]
) -> None:
    """Raise DataError where the images of a split are too small for the method, or for what scores them."""
    demands = [(f"method {card.name!r}", card.smallest, split) for split in needed]
    demands += [(f"scoring ({p.title.lower()})", p.smallest, p.split) for p in protocols]
    for who, smallest, split in demands:
        height, width = dataset.split(split).read("pan", 0).shape[-2:]
        if min(height, width) < smallest:
            raise DataError(
                f"{who} needs images of at least {smallest} x {smallest} PAN pixels; those of split {split!r} of "
                f"dataset {dataset.name} have {height} x {width}"
            )


def second_split(dataset: Dataset) -> SplitName:
    """What training reads beside ``train``: a target domain of its own, or the validation samples."""
    return "target" if "target" in dataset.available() else "valid"


def _describe_dataset(
    dataset: Dataset, files: tuple[FileIdentity, ...], protocols: list[Protocol]
) -> dict[str, Any]:
    """The dataset's identity: its content. ``fingerprint`` hashes the files of every split in use;
    ``test_fingerprint`` those that scores depend on, which is what a table may not mix."""

    def fingerprint(files: Iterable[FileIdentity]) -> str:
        return hashlib.sha256("\n".join(f"{f.split} {f.sha256}" for f in files).encode()).hexdigest()

    scored = {s for p in protocols for s in (p.split, p.target)}
    tests = [f for f in files if f.split in scored]
    return {
        "name": dataset.name,
        "simulated": _is_simulated(dataset),
        "sensor": dataset.sensor.name,
        "channels": dataset.sensor.channels,
        "peak": dataset.sensor.peak,
        "sensor_facts": dataset.sensor.facts(),
        "files": [{**asdict(f), "path": f.path.name} for f in files],
        "fingerprint": fingerprint(files),
        "test_fingerprint": {f.split: f.sha256 for f in tests},
        "provenance": dataset.provenance(),
    }
