"""PAN coloured on two scales by the statistics of unpaired images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pansharp_bench.methods._closed_form import UnpairedRow, moments
from pansharp_bench.methods._unpaired.networks import LowPass
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Trainer, UnpairedData


@register_method(
    "grey-affine", title="Grey affine", kind="baseline", sees="pan", training="unpaired",
    paper="none: a method of this suite (docs/sp-i2i.md)", year=2026, licence="MIT",
)  # fmt: skip
class GreyAffine(UnpairedRow):
    """Low-passed PAN is taken for the bands' mean and coloured by regression; PAN's detail is added.

    With grey g = mean over the bands of MS and l the low-passed PAN, both of unpaired training images,

        MS_b = μ(b) + cov(g, b) / var(g) (l - μ(l)) σ(g) / σ(l) + (PAN - l) σ(b) / σ(PAN).

    A band that goes with grey only in part thus gets only that part of its contrast: the least squared error,
    where ``pan-affine`` reaches the band's deviation.
    """

    colour: Tensor
    offset: Tensor
    detail: Tensor

    def __init__(self, sensor: Sensor, config: UnpairedRow.Config | None = None) -> None:
        super().__init__(sensor, config)
        for name in ("colour", "offset", "detail"):
            self.register_buffer(name, torch.zeros(sensor.channels, 1, 1))
        self.low_pass = LowPass()

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        pan, ms = data.all_source(), data.all_target()
        low = torch.cat([self.low_pass(x) for x in pan.split(64)])
        (pan_mean, pan_std), (low_mean, low_std), (mean, std) = (moments(x) for x in (pan, low, ms))
        correlation = _correlation_with_grey(ms, mean, std)
        colour = (correlation * std / low_std).where(low_std > 0, 0)
        detail = (std / pan_std).where(pan_std > 0, 0)
        offset = mean - colour * low_mean - detail * (pan_mean - low_mean)
        for name, value in (("colour", colour), ("offset", offset), ("detail", detail)):
            getattr(self, name).copy_(value[:, None, None])
        return {"correlation": correlation.tolist(), "colour": colour.tolist(), "detail": detail.tolist()}

    def fuse(self, scene: Scene) -> Tensor:
        low = self.low_pass(scene.pan)
        return self.offset + self.colour * low + self.detail * (scene.pan - low)


def _correlation_with_grey(ms: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(C,) correlation of each band with the bands' mean, over all pixels; 0 for a band that does not vary."""
    products = torch.zeros_like(mean)
    squares = torch.zeros_like(mean[0])
    for part in ms.split(64):
        apart = part.double() - mean[:, None, None]
        grey = apart.mean(1, keepdim=True)
        products += (apart * grey).sum((0, 2, 3))
        squares += grey.square().sum()
    spread = std * (squares * ms[:, 0].numel()).sqrt()
    return (products / spread).where(spread > 0, 0)
