"""PAN carried to each band's distribution by optimal transport."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.methods._rows import UnpairedRow, transport
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Trainer, UnpairedData

_SAMPLES = 1 << 22  # values per band that quantiles are taken from


@register_method("pan-ot", title="PAN optimal transport", kind="baseline", sees="pan", training="unpaired")
class PanOT(UnpairedRow):
    """Monotone optimal transport PAN -> band, by the quantiles of unpaired training images.

    Of all maps of the PAN value that reach a band's distribution this is the one that moves least.
    """

    @dataclass(frozen=True)
    class Config(UnpairedRow.Config):
        """``knots``: quantiles kept per band."""

        knots: int = 4096

        def __post_init__(self) -> None:
            if self.knots < 2:
                raise BenchError(f"option knots={self.knots}: a transport needs at least 2 quantiles")

    config: Config
    source: Tensor
    target: Tensor

    def __init__(self, sensor: Sensor, config: Config | None = None) -> None:
        super().__init__(sensor, config)
        ramp = torch.linspace(0, sensor.peak, self.config.knots)
        self.register_buffer("source", ramp[None].clone())
        self.register_buffer("target", ramp.repeat(sensor.channels, 1))

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        self.source.copy_(self._quantiles(data.all_pan()))
        self.target.copy_(self._quantiles(data.all_ms()))
        return {"knots": self.config.knots}

    def _quantiles(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (C, knots), evenly spaced in rank from the smallest to the largest value."""
        values = images.transpose(0, 1).flatten(1)
        stride = (values.shape[1] // _SAMPLES) | 1  # odd, or it would pick one phase of the interpolated MS
        ordered = values[:, ::stride].sort(1).values
        rank = torch.linspace(0, ordered.shape[1] - 1, self.config.knots, device=ordered.device)
        return ordered[:, rank.round().long()]

    def fuse(self, scene: Scene) -> Tensor:
        values = scene.pan.transpose(0, 1).flatten(1).repeat(self.sensor.channels, 1)
        source, target = (x.to(values) for x in (self.source, self.target))
        fused = transport(values, source.expand_as(target).contiguous(), target)
        return fused.view(self.sensor.channels, *scene.pan[:, 0].shape).transpose(0, 1)
