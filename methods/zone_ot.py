"""Each channel with the histogram that the target camera sees at the same latitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.methods._closed_form import UnpairedRow, quantiles, sample, transport
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Trainer, UnpairedData

_SAMPLES = 1 << 20  # values per channel and band of latitudes that quantiles are taken from


@register_method(
    "zone-ot", title="Zone transport", kind="baseline", sees="pan+latitude", training="unpaired",
    tracks=("calibration",),
)  # fmt: skip
class ZoneOT(UnpairedRow):
    """Monotone transport of each channel within bands of latitude, blended linearly between their middles.

    The middles lie every ``step`` degrees; to a band belong the source and target images whose centres are less
    than ``step`` from its middle, so that bands overlap by half. A band that one of the cameras has no image of
    takes the maps of the nearest that both see. Colours then depend on where an image is, which no map of values
    alone can know; within an image one map holds, so that its structure is kept. Values are clamped to [0, peak].
    """

    @dataclass(frozen=True)
    class Config(UnpairedRow.Config):
        """``step``: degrees between the middles of bands; ``knots``: quantiles per band and channel."""

        step: float = 5.0
        knots: int = 512

        def __post_init__(self) -> None:
            if not 0 < self.step <= 90 or self.knots < 2:
                raise BenchError(
                    f"options step={self.step}, knots={self.knots}: above 0 to 90 degrees, and at least 2 quantiles"
                )

    config: Config
    source: Tensor
    target: Tensor

    def __init__(self, sensor: Sensor, config: Config | None = None) -> None:
        super().__init__(sensor, config)
        reach = int(90 // self.config.step)
        self.middles = [self.config.step * k for k in range(-reach, reach + 1)]
        ramp = torch.linspace(0, sensor.peak, self.config.knots)
        self.register_buffer("source", ramp.repeat(len(self.middles), sensor.channels, 1))
        self.register_buffer("target", ramp.repeat(len(self.middles), sensor.channels, 1))

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        if data.source_latitude is None or data.target_latitude is None:
            raise BenchError(
                "method 'zone-ot' needs the latitudes of the training images, which these do not have"
            )
        seen = []
        for k, middle in enumerate(self.middles):
            near = [
                (x - middle).abs() < self.config.step for x in (data.source_latitude, data.target_latitude)
            ]
            if all(bool(n.any()) for n in near):
                seen.append(k)
                for knots, images, chosen in zip(
                    (self.source, self.target), (data.source, data.target), near, strict=True
                ):
                    drawn = images.take(chosen.nonzero()[:, 0])
                    knots[k] = quantiles(sample(drawn, _SAMPLES), self.config.knots)
        if not seen:
            raise BenchError("method 'zone-ot': no latitude is seen by both cameras")
        for k in range(len(self.middles)):
            nearest = min(seen, key=lambda i: abs(i - k))
            self.source[k], self.target[k] = self.source[nearest].clone(), self.target[nearest].clone()
        return {"latitudes": [self.middles[k] for k in seen]}

    def fuse(self, scene: Scene) -> Tensor:
        """Raises BenchError for a scene without latitudes."""
        if scene.latitude is None:
            raise BenchError("method 'zone-ot' needs each image's latitude, which this scene does not have")
        last = len(self.middles) - 1
        place = ((scene.latitude - self.middles[0]) / self.config.step).clamp(0, last)
        below = place.floor().clamp(max=last - 1)
        share = (place - below).to(scene.pan)
        fused = torch.empty_like(scene.pan)
        for n, k in enumerate(below.long().split(1)):
            values = scene.pan[n].flatten(1)
            lower, upper = (
                transport(values, self.source.index_select(0, i)[0], self.target.index_select(0, i)[0])
                for i in (k, k + 1)
            )
            fused[n] = torch.lerp(lower, upper, share[n]).view_as(fused[n])
        return fused.clamp(0, self.sensor.peak)
