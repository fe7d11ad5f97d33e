"""What a protocol is, and how a method is taken through the protocols of a split."""

from __future__ import annotations

import inspect
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tqdm import tqdm

from pansharp_bench.errors import BenchError, blaming
from pansharp_bench.registry import METRICS, Entry, MetricCard, Sees, known_as
from pansharp_bench.scene import Dataset, Scene, Sensor, Split, SplitName

if TYPE_CHECKING:  # a table of records needs protocols and no tensor
    import torch
    from torch import Tensor

    from pansharp_bench.method import Method

F = TypeVar("F", bound=Callable[..., Any])

_AT_ONCE = 32  # target images read at a time


@dataclass(frozen=True)
class Protocol:
    """How fused images are scored.

    ``split`` is what it reads; ``metrics`` the ``protocol`` value of the metrics it computes; ``prepare``
    turns (fused, scene) into the named tensors that metrics ask for. ``needs_gt``: skipped where the split
    has no reference. ``target``: the split whose images, all together, metrics of sets compare with.
    ``cut``: how many pixels a side loses before it is scored. ``asked``: metrics that it computes beside its own.
    ``short`` tells its columns from another protocol's in one table; ``published`` is its name in
    published.csv.
    """

    name: str
    title: str
    split: SplitName
    metrics: str
    prepare: Callable[[Tensor, Scene], dict[str, Tensor]]
    needs_gt: bool = False
    target: SplitName | None = None
    short: str = ""
    published: str = ""
    cut: int = 0
    asked: tuple[Entry[MetricCard], ...] = ()

    @property
    def smallest(self) -> int:
        """The least side, in pixels, of images that all its metrics are defined for."""
        return self.cut + max((e.card.smallest for e in self.entries()), default=1)

    def entries(self, scope: str | None = None) -> list[Entry[MetricCard]]:
        """The metrics of this protocol's table, in its order; of one scope, if that is given."""
        found = [*METRICS.entries(protocol=self.metrics, default=True), *self.asked]
        chosen = (e for e in found if scope in (None, e.card.scope))
        return sorted(chosen, key=lambda e: (e.card.order, e.name))

    def offered(self, fused: Tensor, scene: Scene) -> dict[str, Any]:
        """What a metric may ask for, by name: images, ``sensor``, ``ratio`` and ``peak``."""
        sensor = scene.sensor
        rest = {"sensor": sensor, "ratio": sensor.ratio, "peak": sensor.peak}
        return {**self.prepare(fused, scene), **rest}

    def score(self, fused: Tensor, scene: Scene, where: str = "an image") -> dict[str, Tensor]:
        """Per-image scores, (N,) float64 each, by column.

        Raises BenchError, which says ``where``, for a metric that fails or gives anything else.
        """
        import torch

        from pansharp_bench.method import call_by_name

        named = self.offered(fused, scene)
        scores: dict[str, Tensor] = {}
        for entry in self.entries("image"):
            who = f"metric {entry.name!r}"
            with blaming(f"{who} failed on {where}"):
                result = call_by_name(entry.obj, named, who)
                values = [torch.as_tensor(v) for v in (result if isinstance(result, tuple) else (result,))]
            for column, value in zip(entry.card.columns, values, strict=False):
                if value.numel() != len(fused):
                    raise BenchError(
                        f"{who} gave {value.numel()} values of {column} for {where}: one an image"
                    )
            _enter(scores, entry, values)
        return scores


def _enter(scores: dict[str, Any], entry: Entry[MetricCard], values: Sequence[Any]) -> None:
    if len(values) != len(entry.card.columns):
        raise BenchError(
            f"metric {entry.name!r} gave {len(values)} quantities for its columns {', '.join(entry.card.columns)}"
        )
    for column, value in zip(entry.card.columns, values, strict=True):
        if column in scores:
            raise BenchError(
                f"metric {entry.name!r} of {known_as(entry.origin)} gives {column}, as another does"
            )
        scores[column] = value


@dataclass(frozen=True)
class Track:
    """A kind of task: its protocols, in the order of its tables, and its words for pictures and tables.

    ``source`` is what a method starts from; ``groups`` the heading of a table's rows by what a method sees;
    ``collection`` the public data that published rows were computed on.
    """

    protocols: tuple[Protocol, ...]
    source: str
    groups: Mapping[Sees, str]
    collection: str


class _Sets:
    """The metrics of whole sets of one protocol, fed image by image."""

    def __init__(self, protocol: Protocol, sensor: Sensor) -> None:
        self.metrics: list[tuple[Entry[MetricCard], Any]] = []
        self.asks: dict[str, set[str]] = {}  # which of groups and blocks a metric is to be told
        for entry in protocol.entries("set"):
            with blaming(f"metric {entry.name!r} failed"):
                metric = entry.obj(sensor)
                self.metrics.append((entry, metric))
                self.asks[entry.name] = {"groups", "blocks"} & set(inspect.signature(metric.add).parameters)

    def add(self, role: str, images: Tensor | None, **about: Tensor) -> None:
        for entry, metric in self.metrics if images is not None else ():
            with blaming(f"metric {entry.name!r} failed on a {role} image"):
                metric.add(role, images, **{k: v for k, v in about.items() if k in self.asks[entry.name]})

    def add_all(self, role: str, split: Split, device: torch.device) -> None:
        about = _about(split)
        for start in range(0, len(split) if self.metrics else 0, _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            images = split.read("pan", some).to(device)
            self.add(role, images, **{k: v[some] for k, v in about.items()})

    def scores(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for entry, metric in self.metrics:
            with blaming(f"metric {entry.name!r} failed"):
                values = tuple(metric.scores())
            _enter(found, entry, values)
        return found

    def curves(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for entry, metric in self.metrics:
            with blaming(f"metric {entry.name!r} failed"):
                found |= metric.curves()
        return found

    def floors(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for entry, metric in self.metrics:
            with blaming(f"metric {entry.name!r} failed"):
                found |= metric.floors() if hasattr(metric, "floors") else {}
        return found


def _about(split: Split) -> dict[str, Tensor]:
    """(N,) each, of every sample: ``groups``, one for all where a split has none, and ``blocks`` where it has
    such."""
    import torch

    groups = torch.zeros(len(split), dtype=torch.int64) if split.groups is None else split.groups
    origins = split.origins()
    return {"groups": groups} | ({"blocks": origins["block"]} if "block" in origins else {})


@dataclass(frozen=True)
class Evaluation:
    """Scores by protocol and column, one list entry per image (one in all for metrics of sets); curves and floors
    by protocol; what the images have in common (see :meth:`Split.origins`); seconds per image; the first fused
    images."""

    scores: dict[str, dict[str, list[float]]]
    curves: dict[str, dict[str, Any]]
    floors: dict[str, dict[str, float]]
    origins: dict[str, list[int]]
    seconds: list[float]
    pixels: int
    fused: list[Tensor]


def _without_gradients(function: F) -> F:
    """``torch.inference_mode``, which is imported when the function is called."""

    @wraps(function)
    def called(*args: Any, **given: Any) -> Any:
        import torch

        with torch.inference_mode():
            return function(*args, **given)

    return cast("F", called)


@_without_gradients
def evaluate(
    method: Method,
    dataset: Dataset,
    protocols: Sequence[Protocol],
    device: torch.device,
    keep: int = 0,
    progress: bool = False,
    save: Callable[[int, Tensor], None] = lambda index, fused: None,
) -> Evaluation:
    """Fuse every scene of a split, alone, and score it under these protocols (all of one split).

    The method is given only what its card says it sees. Images are fused one by one, in order, so that memory and
    the recorded times are those of single images; ``save`` gets each. Warns, once, where values are beyond reason.
    Raises BenchError on an output of wrong shape.
    """
    import torch

    from pansharp_bench.method import checked_image, implausible

    split = dataset.split(protocols[0].split)
    scores: dict[str, dict[str, list[float]]] = {p.name: {} for p in protocols}
    sets = {p.name: _Sets(p, dataset.sensor) for p in protocols}
    for protocol in protocols:
        if protocol.target:
            sets[protocol.name].add_all("target", dataset.split(protocol.target), device)
    seconds: list[float] = []
    kept: list[Tensor] = []
    pixels, broken = 0, False
    odd: dict[int, str] = {}
    about = _about(split)
    for index in tqdm(range(len(split)), desc=f"{split.name} scenes", unit="image", disable=not progress):
        with blaming(f"dataset {dataset.name!r} failed on {split.name} scene {index}"):
            scene = split[index].to(device, torch.float32)
        visible = scene.clone().seen_by(method.card, seed=index)  # a method cannot touch what it is scored by
        _wait(device)
        start = time.perf_counter()
        with blaming(f"method {method.card.name!r} failed on {split.name} scene {index}"):
            fused = method.fuse(visible)
        _wait(device)
        seconds.append(time.perf_counter() - start)
        fused = checked_image(fused, scene, f"method {method.card.name!r}", f"{split.name} scene {index}")
        pixels = scene.pan.shape[-2] * scene.pan.shape[-1]
        # some definitions count NaN as 0; an image with NaN has no score
        whole = bool(fused.isfinite().all())
        if whole and (said := implausible(fused, scene.sensor)):
            odd[index] = said
        for protocol in protocols:
            for column, value in protocol.score(fused, scene, f"{split.name} scene {index}").items():
                scores[protocol.name].setdefault(column, []).append(value.item() if whole else math.nan)
            for role, images in (
                ("output", fused if whole else None),
                ("source", scene.pan),
                ("truth", scene.gt),
            ):
                own = {k: v[index : index + 1] for k, v in about.items()}
                sets[protocol.name].add(role, images, **own)
        broken |= not whole
        if index < keep:
            kept.append(fused.float().cpu())
        save(index, fused)
    if odd:
        first, said = next(iter(odd.items()))
        warnings.warn(
            f"method {method.card.name!r} gave {said} in {split.name} scene {first}, and the like in {len(odd)} of "
            f"{len(split)} scenes: their scores say little else",
            stacklevel=2,
        )
    for name, found in sets.items():
        of_set = found.scores()
        scores[name] |= {column: [math.nan if broken else value] for column, value in of_set.items()}
    curves, floors = ({n: f(s) for n, s in sets.items()} for f in (_Sets.curves, _Sets.floors))
    origins = {name: values.tolist() for name, values in split.origins().items()}
    return Evaluation(scores, curves, floors, origins, seconds, pixels, kept)


@_without_gradients
def rehearse(dataset: Dataset, protocols: Sequence[Protocol], device: torch.device) -> None:
    """Score one scene of every split, its PAN as every band, so that a metric that fails does so before a training
    and not after it. Raises BenchError as :func:`evaluate` would."""
    import torch

    for protocol in protocols:
        split = dataset.split(protocol.split)
        scene = split[0].to(device)
        output = scene.pan.mean(1, keepdim=True).repeat(1, scene.sensor.channels, 1, 1)
        protocol.score(output, scene, f"{split.name} scene 0")
        sets = _Sets(protocol, scene.sensor)
        roles: dict[str, Tensor | None] = {}
        if protocol.target:
            roles["target"] = dataset.split(protocol.target).read("pan", slice(0, 1)).to(device)
        roles |= {"output": output, "source": scene.pan, "truth": scene.gt}
        for role, images in roles.items():
            sets.add(role, images, **dict.fromkeys(("groups", "blocks"), torch.zeros(1, dtype=torch.int64)))
        sets.scores()
        sets.curves()
        sets.floors()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
