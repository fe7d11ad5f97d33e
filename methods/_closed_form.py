"""Pieces of the rows in closed form: maps from source values to band values, fitted to distributions alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import mtf_reduce
from pansharp_bench.method import Pairing, TrainedMethod, TrainingData
from pansharp_bench.methods._classical import FLAT, divide
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Trainer, UnpairedData

_SAMPLES = 1 << 22  # values per band that quantiles are taken from


def ms_like(pan: Tensor, sensor: Sensor) -> Tensor:
    """PAN as each MS band would see it: band MTF and decimation; (N, 1, H, W) -> (N, C, h, w).

    For comparing the distributions of one scene's PAN and MS at one resolution, that of the MS.
    """
    return mtf_reduce(pan, sensor)


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
    target_spread, spread = (
        torch.linalg.vector_norm(deviations(x.double()), dim=-1, keepdim=True) for x in (target, source)
    )
    return mapped + divide(target_spread, spread).to(values) * (values - inside)


def deviations(x: Tensor) -> Tensor:
    """(..., K) less their mean; exactly 0 where all that varies is rounding."""
    away = x - x.mean(-1, keepdim=True)
    spread, size = (torch.linalg.vector_norm(v, dim=-1, keepdim=True) for v in (away, x))
    return away.masked_fill(spread <= FLAT * size, 0)


def sample(images: Tensor, count: int) -> Tensor:
    """Evenly spread pixels, count of them or a few more: (N, C, H, W) -> (C, K)."""
    n, _, h, w = images.shape
    stride = (n * h * w // count) | 1  # odd, or it would pick one phase of an interpolated image
    at = torch.arange(0, n * h * w, stride, device=images.device)
    return images.flatten(2)[at // (h * w), :, at % (h * w)].T.contiguous()


def quantiles(values: Tensor, knots: int) -> Tensor:
    """(C, K) values -> (C, knots), evenly spaced in rank from the smallest to the largest."""
    ordered = values.sort(1).values
    rank = torch.linspace(0, ordered.shape[1] - 1, knots, device=ordered.device)
    return ordered[:, rank.round().long()]


class UnpairedRow(TrainedMethod):
    """Base of rows that map each PAN value to band values by what unpaired training images look like.

    Nothing is learnt by gradient. ``fit`` compares the PAN and MS training images as every unpaired method
    gets them: PAN sharp, MS expanded to the PAN grid. Comparing both on the MS grid instead, where their
    deviations belong to one resolution, gives stronger contrast and a larger error.
    """

    closed_form = True

    @dataclass(frozen=True)
    class Config(TrainedMethod.Config):
        """``pairing``: how PAN and MS training images are kept apart."""

        pairing: Pairing = "disjoint"

    config: Config

    def training_data(self) -> TrainingData:
        return TrainingData(self.config.pairing)


class AffineRow(UnpairedRow):
    """gain_b x + offset_b, x being PAN or the source's own band.

    As fitted here, (x - μ(x)) σ(y_b) / σ(x) + μ(y_b), the statistics those of all source images x and targets y;
    where the sources do not vary, μ(y_b).
    """

    gain: Tensor
    offset: Tensor

    def __init__(self, sensor: Sensor, config: UnpairedRow.Config | None = None) -> None:
        super().__init__(sensor, config)
        self.register_buffer("gain", torch.ones(sensor.channels, 1, 1))
        self.register_buffer("offset", torch.zeros(sensor.channels, 1, 1))

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        (mean, std), (target_mean, target_std) = (moments(x) for x in (data.all_source(), data.all_target()))
        gain = (target_std / std).where(std > 0, 0)
        offset = target_mean - gain * mean
        self.gain.copy_(gain[:, None, None])
        self.offset.copy_(offset[:, None, None])
        return {"gain": gain.tolist(), "offset": offset.tolist()}

    def fuse(self, scene: Scene) -> Tensor:
        return self.gain * scene.pan + self.offset


def moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (C,) float64, a slice of the images at a time; the deviation is
    0 where all that varies is rounding."""
    count, slices = images[:, 0].numel(), images.split(64)
    mean = torch.stack([x.double().sum((0, 2, 3)) for x in slices]).sum(0) / count
    squares = [(x.double() - mean[:, None, None]).square_().sum((0, 2, 3)) for x in slices]
    std = (torch.stack(squares).sum(0) / count).sqrt()
    return mean, std.where(std > FLAT * mean.abs(), 0)


class TransportRow(UnpairedRow):
    """Each band by monotone optimal transport, from PAN or from the source's own band."""

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
        self.register_buffer("source", ramp.repeat(sensor.source_bands, 1))
        self.register_buffer("target", ramp.repeat(sensor.channels, 1))

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        self.source.copy_(quantiles(sample(data.all_source(), _SAMPLES), self.config.knots))
        self.target.copy_(quantiles(sample(data.all_target(), _SAMPLES), self.config.knots))
        return {"knots": self.config.knots}

    def fuse(self, scene: Scene) -> Tensor:
        n, _, h, w = scene.pan.shape
        values = scene.pan.transpose(0, 1).flatten(1)
        target = self.target.to(values)
        source = self.source.to(values).expand_as(target).contiguous()
        fused = transport(values.expand(len(target), -1).contiguous(), source, target)
        return fused.view(len(target), n, h, w).transpose(0, 1)
