"""How fast methods and metrics are on this machine, and how fast they could be.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from pansharp_bench.contract import InMemory, scenes
from pansharp_bench.environment import environment
from pansharp_bench.method import TrainedMethod, build, call_by_name
from pansharp_bench.presets import is_trained, takes_steps
from pansharp_bench.registry import METHODS, METRICS, Entry, MethodCard
from pansharp_bench.scene import Sensor, as_sensor
from pansharp_bench.timings import KINDS, Figure, Kind, Rates, Speeds, machine_of, read_speeds
from pansharp_bench.training import Learner, PairedData, Trainer, TrainingSummary, UnpairedData

_PER_WEIGHT = (
    7  # numbers that Adam moves: weight, gradient, two moments are read, all but the gradient written
)


@dataclass(frozen=True)
class Extent:
    """How much is measured: ``side`` of the image fused or scored, ``batch`` of patches of ``patch`` pixels in a
    training step, medians of so many ``repeats``, for sensors of these names."""

    side: int = 256
    patch: int = 64
    batch: int = 8
    repeats: int = 5
    sensors: tuple[str, ...] = ("qb", "wv3")
    presets: tuple[str, ...] = ("quick", "standard", "paper")


QUICK = Extent(64, 32, 2, 1, ("qb",), ("quick",))


Work = Callable[[], list[Figure]]


def measure(
    device: torch.device,
    kinds: Sequence[Kind] = KINDS,
    extent: Extent | None = None,
    methods: Sequence[str] = (),
    progress: bool = False,
) -> Speeds:
    """Time these kinds of things: of all ``methods`` of the pansharpening track or of some, and every metric.

    What fails is told in its figure and costs the others nothing. Raises BenchError for an unknown method.
    """
    extent = extent or Extent()
    entries = [METHODS.get(n) for n in methods] or list(METHODS)
    entries = [e for e in entries if "pansharpening" in e.card.tracks]
    load = _load()
    rates = probe(device, 1024 if extent.repeats > 1 else 256)
    figures: list[Figure] = []
    works = [work for kind in kinds for work in _WORKS[kind](entries, extent, device)]
    for work in tqdm(works, disable=not progress, dynamic_ncols=True, desc="speeds"):
        figures += (replace(f, floor=rates.floor(f.operations, f.moved)) for f in work())
    conditions = {**asdict(extent), "cores": os.cpu_count(), "load": [load, _load()]}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Speeds(now, environment(device, "32-true"), conditions, rates, figures)


def expected_seconds(results: Path, device: torch.device, kinds: Sequence[Kind]) -> float | None:
    """What this will take, from what it took before on this machine; None where it was never measured."""
    here = machine_of(environment(device, "32-true"))
    for known in read_speeds(results):
        times = [f.seconds for f in known.figures if f.kind in kinds]
        if known.machine == here and times:
            return sum(times) * (known.conditions["repeats"] + 2)
    return None


def probe(device: torch.device, side: int = 1024, seconds: float = 0.5) -> Rates:
    """The best of what the device did within so many seconds each: products of float32 matrices of this side (on
    CUDA eight times that, with TF32, which convolutions may use), copies of a tensor sixteen times as large."""
    side *= 8 if device.type == "cuda" else 1
    a, b = torch.rand(2, side, side, device=device)
    source = torch.rand(16 * side * side, device=device)
    into = torch.empty_like(source)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        product, copy = (_best(w, device, seconds) for w in (lambda: a @ b, lambda: into.copy_(source)))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
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


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


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


def _inference(entries: Sequence[Entry[MethodCard]], extent: Extent, device: torch.device) -> Iterator[Work]:
    return (partial(_fusing, e, as_sensor(s), extent, device) for s in extent.sensors for e in entries)


@torch.inference_mode()
def _fusing(entry: Entry[MethodCard], sensor: Sensor, extent: Extent, device: torch.device) -> list[Figure]:
    """Of presets that fuse with as many operations and weights, one is timed."""
    side = max(extent.side, -(-entry.card.smallest // 16) * 16)
    scene = scenes(sensor, 1, side, side).to(device).seen_by(entry.card)
    figures: dict[tuple[int, int], Figure] = {}
    found = []
    for preset in extent.presets if is_trained(entry) else ("untrained",):
        config = entry.obj.configure(preset) if is_trained(entry) else None
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


def _steps(entries: Sequence[Entry[MethodCard]], extent: Extent, device: torch.device) -> Iterator[Work]:
    sensor = as_sensor(extent.sensors[0])
    return (partial(_stepping, e, sensor, extent, device) for e in entries if takes_steps(e))


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


def _metrics(entries: Sequence[Entry[MethodCard]], extent: Extent, device: torch.device) -> Iterator[Work]:
    chosen = [
        *METRICS.entries(protocol="reduced", scope="image"),
        *METRICS.entries(protocol="full", scope="image"),
    ]
    return (partial(_scoring, e, as_sensor(s), extent, device) for s in extent.sensors for e in chosen)


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


_WORKS: dict[Kind, Callable[..., Iterator[Work]]] = {
    "inference": _inference,
    "step": _steps,
    "metric": _metrics,
}
