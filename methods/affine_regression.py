"""Bands as an affine map of other bands, by least squares."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.method import TrainedMethod
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import PairedData, Trainer

_AT_ONCE = 64  # samples looked at at a time
_LOOKED = 1_000_000  # values a band that the quantiles are taken of
_TAILS = (0.001, 0.999)  # quantiles that bound the source values taken seriously


@register_method(
    "affine-regression", title="Affine regression", kind="baseline", sees="pan", training="paired",
    tracks=("bands",),
)  # fmt: skip
class AffineRegression(TrainedMethod):
    """y = W x + b at every pixel, the least-squares solution over all training pixels; clamped to [0, peak].

    Source values beyond the 0.1 % and 99.9 % quantiles of the training images are taken at these: outside, nothing
    is known of the bands.
    """

    closed_form = True
    weight: Tensor
    bias: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, sensor: Sensor, config: TrainedMethod.Config | None = None) -> None:
        super().__init__(sensor, config)
        self.register_buffer("weight", torch.zeros(sensor.channels, sensor.source_bands))
        self.register_buffer("bias", torch.zeros(sensor.channels))
        self.register_buffer("low", torch.zeros(sensor.source_bands))
        self.register_buffer("high", torch.full((sensor.source_bands,), float(sensor.peak)))

    def fit(self, data: PairedData, trainer: Trainer) -> dict[str, Any]:
        bands = self.sensor.source_bands
        squares = torch.zeros(bands + 1, bands + 1, dtype=torch.float64, device=data.device)
        products = torch.zeros(bands + 1, self.sensor.channels, dtype=torch.float64, device=data.device)
        looked = []
        for index in torch.arange(len(data), device=data.device).split(_AT_ONCE):
            x, y = pixels(data.scenes(index))
            looked.append(_spread(x, _LOOKED * len(index) // len(data) + 1))
            x = torch.cat([x, torch.ones_like(x[:, :1])], 1).double()
            squares += x.T @ x
            products += x.T @ y.double()
        solved = torch.linalg.lstsq(squares.cpu(), products.cpu()).solution
        self.weight.copy_(solved[:bands].T)
        self.bias.copy_(solved[bands])
        seen = torch.cat(looked)
        if not len(seen):
            raise BenchError(
                f"method {self.card.name!r} has nothing to learn from: every training pixel is blank"
            )
        low, high = torch.quantile(seen, torch.tensor(_TAILS, device=seen.device), dim=0)
        self.low.copy_(low)
        self.high.copy_(high)
        return {"weight": self.weight.tolist(), "bias": self.bias.tolist()}

    def values(self, x: Tensor) -> Tensor:
        """(m, C) of source values (m, S)."""
        return x.clamp(self.low, self.high) @ self.weight.T + self.bias

    def fuse(self, scene: Scene) -> Tensor:
        n, _, h, _ = scene.pan.shape
        made = self.values(rearrange(scene.pan, "n s h w -> (n h w) s")).clamp(0, self.sensor.peak)
        return rearrange(made, "(n h w) c -> n c h w", n=n, h=h).contiguous()


def pixels(scene: Scene) -> tuple[Tensor, Tensor]:
    """(m, S) source and (m, C) reference values; without pixels that are blank."""
    x, y, seen = every_pixel(scene)
    return x[seen], y[seen]


def every_pixel(scene: Scene) -> tuple[Tensor, Tensor, Tensor]:
    """(m, S) source and (m, C) reference values, and (m,) whether they are no blank, which is 0 in some band."""
    assert scene.gt is not None
    x, y = (rearrange(v, "n c h w -> (n h w) c") for v in (scene.pan, scene.gt))
    return x, y, (x > 0).all(1) & (y > 0).all(1)


def _spread(values: Tensor, most: int) -> Tensor:
    """Evenly spread rows, at most so many."""
    return values[:: max(1, -(-len(values) // most))]
