"""What a protocol is, and how a method is taken through the protocols of a split."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pansharp_bench.errors import BenchError
from pansharp_bench.method import Method
from pansharp_bench.registry import METRICS, Entry, MetricCard
from pansharp_bench.scene import Scene, Split, SplitName


@dataclass(frozen=True)
class Protocol:
    """How fused images are scored.

    ``split`` is what it reads; ``metrics`` the ``protocol`` value of the metrics it computes; ``prepare``
    turns (fused, scene) into the named tensors that metrics ask for. ``needs_gt``: skipped where the split
    has no reference.
    """

    name: str
    title: str
    split: SplitName
    metrics: str
    prepare: Callable[[Tensor, Scene], dict[str, Tensor]]
    needs_gt: bool = False

    def entries(self) -> list[Entry[MetricCard]]:
        """The metrics of this protocol's table, in its order."""
        found = METRICS.entries(protocol=self.metrics, default=True)
        return sorted(found, key=lambda e: (e.card.order, e.name))

    def score(self, fused: Tensor, scene: Scene) -> dict[str, Tensor]:
        """Per-image scores, (N,) float64 each, by column."""
        sensor = scene.sensor
        named: dict[str, Any] = {**self.prepare(fused, scene), "sensor": sensor}
        named |= {"ratio": sensor.ratio, "peak": sensor.peak}
        scores = {}
        for entry in self.entries():
            wanted = inspect.signature(entry.obj).parameters
            result = entry.obj(**{k: v for k, v in named.items() if k in wanted})
            values = (result,) if isinstance(result, Tensor) else tuple(result)
            for column, value in zip(entry.card.columns, values, strict=True):
                if column in scores:
                    raise BenchError(
                        f"metric {entry.name!r} of {entry.origin} gives {column}, as another does"
                    )
                scores[column] = value
        return scores


@dataclass(frozen=True)
class Evaluation:
    """Scores by protocol and column, one list entry per image; seconds per image; the first fused images."""

    scores: dict[str, dict[str, list[float]]]
    seconds: list[float]
    pixels: int
    fused: list[Tensor]


@torch.inference_mode()
def evaluate(
    method: Method,
    split: Split,
    protocols: Sequence[Protocol],
    device: torch.device,
    keep: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Fuse every scene of a split, alone, and score it under these protocols (all of one split).

    The method is given only what its card says it sees. Images are fused one by one, so that memory and the
    recorded times are those of single images. Raises BenchError on an output of wrong shape.
    """
    scores: dict[str, dict[str, list[float]]] = {p.name: {} for p in protocols}
    seconds: list[float] = []
    kept: list[Tensor] = []
    pixels = 0
    for index in tqdm(range(len(split)), desc=f"{split.name} scenes", unit="image", disable=not progress):
        scene = split[index].to(device)
        visible = scene.clone().seen_by(method.card, seed=index)  # a method cannot touch what it is scored by
        _wait(device)
        start = time.perf_counter()
        fused = method.fuse(visible)
        _wait(device)
        seconds.append(time.perf_counter() - start)
        expected = (1, scene.sensor.channels, *scene.pan.shape[-2:])
        if fused.shape != expected:
            raise BenchError(
                f"method {method.card.name!r} gave an image of shape {tuple(fused.shape)} for {split.name} "
                f"scene {index}; expected {expected}"
            )
        pixels = scene.pan.shape[-2] * scene.pan.shape[-1]
        whole = bool(
            fused.isfinite().all()
        )  # some definitions count NaN as 0; an image with NaN has no score
        for protocol in protocols:
            for column, value in protocol.score(fused, scene).items():
                scores[protocol.name].setdefault(column, []).append(value.item() if whole else math.nan)
        if index < keep:
            kept.append(fused.float().cpu())
    return Evaluation(scores, seconds, pixels, kept)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
