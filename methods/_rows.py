"""Pieces of the rows in closed form: maps from PAN values to band values, fitted to distributions alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pansharp_bench.imaging import decimate, mtf_filter
from pansharp_bench.method import TrainedMethod
from pansharp_bench.scene import Scene, Sensor


def ms_like(pan: Tensor, sensor: Sensor) -> Tensor:
    """PAN as each MS band would see it: band MTF and decimation; (N, 1, H, W) -> (N, C, h, w).

    For comparing the distributions of one scene's PAN and MS at one resolution, that of the MS.
    """
    return decimate(mtf_filter(pan, sensor), sensor.ratio)


def transport(values: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Monotone optimal transport in one dimension: the quantile of ``source`` becomes that of ``target``.

    Linear between the samples; where source samples are equal, the middle of what they map to; beyond the
    source's range a line of slope std(target) / std(source).

    Args:
        values: (..., M), what to map.
        source, target: (..., K), sorted samples of equal rank, K > 1.

    >>> x = torch.tensor([1.0, 2.0, 4.0])
    >>> transport(torch.tensor([1.5, 4.0]), x, 10 * x)
    tensor([15., 40.])
    """
    last = source.shape[-1] - 1
    inside = values.clamp(source[..., :1], source[..., -1:])
    mapped = torch.zeros_like(values)
    for right in (False, True):
        upper = torch.searchsorted(source, inside, right=right).clamp(1, last)
        x0, x1, y0, y1 = (a.gather(-1, i) for a in (source, target) for i in (upper - 1, upper))
        share = torch.where(x1 > x0, (inside - x0) / (x1 - x0), float(right))
        mapped += 0.5 * torch.lerp(y0, y1, share)
    spread = source.std(-1, keepdim=True)
    slope = torch.where(spread > 0, target.std(-1, keepdim=True) / spread, 0)
    return mapped + slope * (values - inside)


class UnpairedRow(TrainedMethod):
    """Base of rows that map each PAN value to band values by what unpaired training images look like.

    Nothing is learnt by gradient. ``fit`` compares the PAN and MS training images as every unpaired method
    gets them: PAN sharp, MS expanded to the PAN grid. Comparing both on the MS grid instead, where their
    deviations belong to one resolution, gives stronger contrast and a larger error.
    """

    @dataclass(frozen=True)
    class Config(TrainedMethod.Config):
        """``pairing``: how PAN and MS training images are kept apart."""

        pairing: str = "disjoint"


class AffineRow(UnpairedRow):
    """gain_b PAN + offset_b."""

    gain: Tensor
    offset: Tensor

    def __init__(self, sensor: Sensor, config: UnpairedRow.Config | None = None) -> None:
        super().__init__(sensor, config)
        self.register_buffer("gain", torch.ones(sensor.channels, 1, 1))
        self.register_buffer("offset", torch.zeros(sensor.channels, 1, 1))

    def fuse(self, scene: Scene) -> Tensor:
        return self.gain * scene.pan + self.offset
