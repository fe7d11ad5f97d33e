"""How fast methods, metrics and commands are on this machine, and how fast they could be.

A figure stands beside a floor: the operations of its convolutions and matrix products at the rate at which the
machine multiplies large matrices, or the bytes that it must read and write at the rate at which it copies,
whichever takes longer. Both rates are measured just before.
"""

from __future__ import annotations

import inspect
import math
import os
import statistics
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from pansharp_bench import workloads
from pansharp_bench.contract import InMemory, scenes
from pansharp_bench.environment import environment
from pansharp_bench.errors import BenchError
from pansharp_bench.method import TrainedMethod, build, call_by_name
from pansharp_bench.presets import PRESETS, is_trained, settled_options, takes_steps
from pansharp_bench.registry import DATASETS, METHODS, METRICS, Entry, MethodCard
from pansharp_bench.scene import Sensor, as_sensor
from pansharp_bench.timings import COMMANDS, KINDS, Figure, Kind, Rates, Speeds, machine_of, read_speeds
from pansharp_bench.training import Learner, PairedData, Trainer, TrainingSummary, UnpairedData

_PER_WEIGHT = 7  # numbers that Adam moves: weight, gradient, two moments read, all but the gradient written
_NAMED = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Extent:
    """How much is measured: ``side`` of an image fused or scored, or a segment, ``batch`` of patches of ``patch``
    pixels in a training step, medians of so many ``repeats``, for sensors of these names; once, a ``scene`` in
    files, so many pixels a side, and so many ``records``."""

    side: int = 256
    patch: int = 64
    batch: int = 8
    repeats: int = 5
    sensors: tuple[str, ...] = tuple(_NAMED["sensors"])
    presets: tuple[str, ...] = PRESETS
    scene: int = 4096
    records: int = 1000


QUICK = Extent(64, 32, 2, 1, tuple(_NAMED["sensors"][:1]), ("quick",), 256, 100)


Work = Callable[[], list[Figure]]


@dataclass(frozen=True)
class _Asked:
    entries: Sequence[Entry[MethodCard]]
    named: bool  # the methods, by who asked
    extent: Extent
    device: torch.device
    results: Path
    options: Mapping[str, Any]


def measure(
    device: torch.device,
    kinds: Sequence[Kind] = KINDS,
    extent: Extent | None = None,
    methods: Sequence[str] = (),
    progress: bool = False,
    results: Path = Path("results"),
    options: Mapping[str, Any] | None = None,
) -> Speeds:
    """Time these kinds of things: of all ``methods`` of the sensors' tracks or of some, and every metric.
    ``results``: the folder whose records many are made from. ``options``: changed in the presets of these methods,
    to time how they fuse. :func:`why_not` tells which kinds cannot be timed.

    What fails is told in its figure and costs the others nothing. Raises BenchError for an unknown method, or one
    that has no such option.
    """
    extent = extent or Extent()
    entries = [METHODS.get(n) for n in methods] or list(METHODS)
    for entry in entries if options else ():
        settled_options(entry, extent.presets[0], options or {})
    began = _clocks()
    rates = probe(device, 1024 if extent.repeats > 1 else 256)
    figures: list[Figure] = []
    asked = _Asked(entries, bool(methods), extent, device, Path(results), options or {})
    works = [work for kind in kinds for work in _WORKS[kind](asked)]
    for work in tqdm(works, disable=not progress, dynamic_ncols=True, desc="speeds"):
        figures += (replace(f, floor=rates.floor(f.operations, f.moved)) for f in work())
    others = _others(began, _clocks())
    figures = [replace(f, others=others) for f in figures]
    conditions = {**asdict(extent), "cores": os.cpu_count()}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Speeds(now, environment(device, "32-true"), conditions, rates, figures)


def expected_seconds(results: Path, device: torch.device, kinds: Sequence[Kind]) -> float | None:
    """What this will take, from what it took before on this machine; None where it was never measured."""
    here = machine_of(environment(device, "32-true"))
    for known in read_speeds(results):
        if known.machine == here and any(f.kind in kinds for f in known.figures):
            again = known.conditions["repeats"] + 2
            return sum(
                f.seconds * (1 if f.kind in COMMANDS else again) for f in known.figures if f.kind in kinds
            )
    return None


def why_not(kind: Kind, device: torch.device, results: Path) -> str:
    """Why this machine cannot time such things, in a line; empty where it can."""
    if kind in (*COMMANDS, "segments") and device.type != "cpu":
        return "they are the processor's: --device cpu"
    if kind in COMMANDS and not hasattr(os, "wait4"):
        return "this system does not tell what a command took"
    if kind == "scenes" and find_spec("rasterio") is None:
        return "rasterio is missing: pip install rasterio"
    if kind == "records" and not workloads.templates(results):
        return f"{results} holds no records to make many from: --results DIR"
    return ""


def probe(device: torch.device, side: int = 1024, seconds: float = 0.5) -> Rates:
    """The best of what the device did within so many seconds each: products of float32 matrices of this side (on
    CUDA eight times that, with TF32, which convolutions may use), copies of a tensor sixteen times as large."""
    side *= 8 if device.type == "cuda" else 1
    a, b = torch.rand(2, side, side, device=device)
    source = torch.rand(16 * side * side, device=device)
    into = torch.empty_like(source)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else before)
    try:
        product, copy = (_best(w, device, seconds) for w in (lambda: a @ b, lambda: into.copy_(source)))
    finally:
        torch.set_float32_matmul_precision(before)
    return Rates(2 * side**3 / product, 2 * source.nbytes / copy)


def timed(work: Callable[[], Any], device: torch.device, repeats: int) -> tuple[float, float | None]:
    """Median seconds, and on the CPU those of the processor. Who calls has warmed up."""
    taken = [_once(work, device) for _ in range(repeats)]
    wall, processor = (statistics.median(t) for t in zip(*taken, strict=True))
    return wall, None if device.type == "cuda" else processor


def _once(work: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clocks = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - clocks[0], time.process_time() - clocks[1]


def _best(work: Callable[[], Any], device: torch.device, seconds: float) -> float:
    until, best = time.perf_counter() + seconds, math.inf
    _once(work, device)
    while time.perf_counter() < until or best == math.inf:
        best = min(best, _once(work, device)[0])
    return best


def _clocks() -> tuple[float, float, float] | None:
    """Seconds: on the wall, of all processors at work, and of those for this process and what it started and saw
    end; None where the system does not tell (Linux does). What a virtual machine is denied counts as work."""
    try:
        told = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)
    except OSError:
        return None
    user, nice, system, _idle, _waiting, *rest = (
        int(ticks) / os.sysconf("SC_CLK_TCK") for ticks in told[1:9]
    )
    return time.monotonic(), user + nice + system + sum(rest), sum(os.times()[:4])


def _others(
    began: tuple[float, float, float] | None, ended: tuple[float, float, float] | None
) -> float | None:
    if not (began and ended):
        return None
    wall, work, own = (b - a for a, b in zip(began, ended, strict=True))
    return round(max(0.0, work - own) / wall, 2)


def _counted(figure: Figure, work: Callable[[], Any], device: torch.device, repeats: int) -> Figure:
    """The figure with its operations, counted while warming up, and its time."""
    try:
        with FlopCounterMode(display=False) as counter:
            work()
        work()
        seconds, processor = timed(work, device, repeats)
    except Exception as error:  # of a plug-in, perhaps: the others are worth their time
        return replace(figure, failed=f"{type(error).__name__}: {error}"[:200])
    operations = counter.get_total_flops()
    return replace(figure, operations=operations, seconds=seconds, processor_seconds=processor)


def _of_sensor(entries: Sequence[Entry[MethodCard]], sensor: Sensor) -> list[Entry[MethodCard]]:
    """Those of a track that such images are of."""
    tracks = {track for e in DATASETS.entries(sensor=sensor.name) for track in e.card.tracks}
    return [e for e in entries if tracks.intersection(e.card.tracks)]


def _inference(asked: _Asked) -> Iterator[Work]:
    extent, device = asked.extent, asked.device
    sensors = map(as_sensor, extent.sensors)
    return (
        partial(_fusing, e, s, extent, device, asked.options)
        for s in sensors
        for e in _of_sensor(asked.entries, s)
    )


@torch.inference_mode()
def _fusing(
    entry: Entry[MethodCard],
    sensor: Sensor,
    extent: Extent,
    device: torch.device,
    changed: Mapping[str, Any],
) -> list[Figure]:
    """Of presets that fuse with as many operations and weights, one is timed."""
    side = max(extent.side, -(-entry.card.smallest // 16) * 16)
    scene = scenes(sensor, 1, side, side).to(device).seen_by(entry.card)
    figures: dict[tuple[int, int], Figure] = {}
    found = []
    for preset in extent.presets if is_trained(entry) else ("untrained",):
        config = entry.obj.configure(preset, changed) if is_trained(entry) else None
        options, usual = (asdict(c) if c else {} for c in (config, entry.obj.Config() if config else None))
        apart = tuple(k for k, v in options.items() if v != usual[k])
        torch.manual_seed(0)
        method = build(entry, sensor, config)
        weights = 0
        if isinstance(method, TrainedMethod):
            method.to(device).eval()
            weights = sum(p.numel() for p in method.parameters())
        images = sum(x.nbytes for x in (scene.pan, scene.ms, scene.lms) if x is not None)
        moved = images + 4 * (weights + sensor.channels * side * side)
        own = Figure(
            "inference",
            entry.name,
            sensor.channels,
            side * side,
            1,
            preset,
            options,
            changed=tuple(f"{k}={options[k]}" for k in sorted(changed)),
            moved=moved,
            parameters=weights,
        )
        try:
            with FlopCounterMode(display=False) as counter:
                method.fuse(scene)
        except Exception as error:
            found.append(replace(own, failed=f"{type(error).__name__}: {error}"[:200]))
            continue
        key = counter.get_total_flops(), weights
        if key not in figures:
            if device.type == "cuda":
                method.fuse(scene)  # counting was no usual run
            seconds, processor = timed(partial(method.fuse, scene), device, extent.repeats)
            figures[key] = replace(own, operations=key[0], seconds=seconds, processor_seconds=processor)
        found.append(replace(figures[key], preset=preset, options=options, apart=apart))
    return found


def _steps(asked: _Asked) -> Iterator[Work]:
    extent = asked.extent
    sensor = as_sensor(extent.sensors[0])
    entries = _of_sensor(asked.entries, sensor)
    return (partial(_stepping, e, sensor, extent, asked.device) for e in entries if takes_steps(e))


def _stepping(entry: Entry[MethodCard], sensor: Sensor, extent: Extent, device: torch.device) -> list[Figure]:
    """Of the preset ``paper`` (with QUICK, ``quick``), on patches in memory."""
    preset = extent.presets[-1]
    known = {f.name for f in fields(entry.obj.Config)}
    wanted = {"steps": extent.repeats + 2, "epochs": 0, "batch": extent.batch, "validations": 1}
    config = entry.obj.configure(preset, {k: v for k, v in wanted.items() if k in known})
    own = Figure("step", entry.name, sensor.channels, extent.patch**2, extent.batch, preset)
    try:
        torch.manual_seed(0)
        method = build(entry, sensor, config)
        assert isinstance(method, TrainedMethod)
        side = max(extent.patch, -(-entry.card.smallest // 16) * 16)
        trainer = _Timing(device, replace(own, pixels=side * side), extent.repeats)
        split = InMemory(sensor, 2 * extent.batch, side)
        load = UnpairedData.halves if entry.card.training == "unpaired" else PairedData
        method.to(device).train()
        method.fit(load(sensor, split, split, trainer.device), trainer)
        return [trainer.figure]
    except Exception as error:
        return [replace(own, failed=f"{type(error).__name__}: {error}"[:200])]


class _Timing(Trainer):
    """Times steps instead of training, as they run under its Fabric; nothing is validated or written."""

    def __init__(self, device: torch.device, figure: Figure, repeats: int) -> None:
        super().__init__(None, str(device), "32-true", progress=False)
        self.figure, self.repeats = figure, repeats

    def run(self, learner: Learner, steps: int, *_: Any, **__: Any) -> TrainingSummary:
        learner.networks = {
            k: cast(nn.Module, self.fabric.setup_module(n)) for k, n in learner.networks.items()
        }
        learner.optimizers = {
            k: cast(Optimizer, self.fabric.setup_optimizers(o)) for k, o in learner.optimizers.items()
        }
        weights = sum(p.numel() for n in learner.networks.values() for p in n.parameters())
        f = self.figure
        images = f.batch * f.pixels * (1 + 2 * f.channels)
        step = partial(learner.step, self.fabric.backward)
        moved = 4 * (_PER_WEIGHT * weights + images)
        self.figure = _counted(replace(f, parameters=weights, moved=moved), step, self.device, self.repeats)
        return TrainingSummary(steps, 0.0, 0.0, steps, None, {})


def _metrics(asked: _Asked) -> Iterator[Work]:
    extent, device = asked.extent, asked.device
    chosen = [
        *METRICS.entries(protocol="reduced", scope="image"),
        *METRICS.entries(protocol="full", scope="image"),
    ]
    sensors = [s for s in map(as_sensor, extent.sensors) if len(s.source) == 1]  # of PAN and MS
    return (partial(_scoring, e, s, extent, device) for s in sensors for e in chosen)


@torch.inference_mode()
def _scoring(entry: Entry[Any], sensor: Sensor, extent: Extent, device: torch.device) -> list[Figure]:
    side = max(extent.side, -(-entry.card.smallest // 16) * 16)
    scene = scenes(sensor, 1, side, side).to(device)
    assert scene.lms is not None and scene.ms is not None and scene.gt is not None
    offered = {
        "fused": scene.lms, "reference": scene.gt, "ms": scene.ms, "lms": scene.lms, "pan": scene.pan,
        "sensor": sensor, "ratio": sensor.ratio, "peak": sensor.peak,
    }  # fmt: skip
    wanted = inspect.signature(entry.obj).parameters
    moved = sum(x.nbytes for k, x in offered.items() if k in wanted and isinstance(x, Tensor))
    own = Figure("metric", entry.name, sensor.channels, side * side, moved=moved)
    return [_counted(own, lambda: call_by_name(entry.obj, offered, entry.name), device, extent.repeats)]


def _segments(asked: _Asked) -> Iterator[Work]:
    brought = ((e, e.facts.get("timed", {}).get("segments")) for e in DATASETS)
    return (partial(_cutting, e.name, where, asked.extent, asked.device) for e, where in brought if where)


def _cutting(name: str, where: str, extent: Extent, device: torch.device) -> list[Figure]:
    """Beside the writing of what is cut: how much of the map a segment is made of depends on its place."""
    module, _, function = where.partition(":")
    work = getattr(import_module(module), function)(extent.side)
    first = work()
    own = Figure("segments", name, first.shape[1], extent.side**2, len(first), moved=first.nbytes)
    return [_counted(own, work, device, extent.repeats)]


def _scenes(asked: _Asked) -> Iterator[Work]:
    own = _of_sensor(asked.entries, as_sensor(asked.extent.sensors[0]))
    names = [e.name for e in own if not is_trained(e)] if asked.named else _NAMED["scenes"]
    return iter([partial(_fusing_files, names, asked.extent)] if names else [])


def _fusing_files(names: Sequence[str], extent: Extent) -> list[Figure]:
    """By ``bench fuse``, its start included, beside the copying of the files' bytes."""
    sensor, base = as_sensor(extent.sensors[0]), min(extent.scene, 1024)
    times = extent.scene // base
    figures = []
    with TemporaryDirectory() as folder:
        first, scene, out = Path(folder), Path(folder) / "repeated", Path(folder) / "fused.tif"
        workloads.write_pair(first, sensor, base)
        workloads.mirrored(first, scene, times)
        for name in names:
            own = Figure("scenes", name, sensor.channels, (times * base) ** 2)
            done = _spent(own, workloads.fusing(name, sensor.name, scene, out))
            if not done.failed:
                moved = sum(p.stat().st_size for p in (scene / "pan.tif", scene / "ms.tif", out))
                done = replace(done, moved=moved)
            figures.append(done)
    return figures


def _records(asked: _Asked) -> Iterator[Work]:
    return iter([partial(_reading, asked.results, asked.extent.records)])


def _reading(results: Path, count: int) -> list[Figure]:
    """From JSON, and as every later time, from the cache, which is one of its own."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        workloads.synthesise(results, root, count)
        figures = []
        for name, command in workloads.on_records(root, Path(folder) / "boards").items():
            cache = str(Path(folder) / f"cache-{name}")
            for turn in ("from JSON", ""):
                own = Figure("records", f"{name} {turn}".strip(), 0, 0, count)
                figures.append(_spent(own, command, PANSHARP_CACHE=cache))
    return figures


def _spent(figure: Figure, command: Sequence[str], **variables: str) -> Figure:
    """Once, in as many threads as torch has here."""
    try:
        used = workloads.spent(command, OMP_NUM_THREADS=str(torch.get_num_threads()), **variables)
    except BenchError as error:
        return replace(figure, failed=str(error)[-200:])
    return replace(figure, **vars(used))


_WORKS: dict[Kind, Callable[[_Asked], Iterator[Work]]] = {
    "inference": _inference,
    "step": _steps,
    "metric": _metrics,
    "segments": _segments,
    "scenes": _scenes,
    "records": _records,
}
