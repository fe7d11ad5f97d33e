"""Each channel moved as little as a nearness of histograms asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import least_transport
from pansharp_bench.methods._closed_form import UnpairedRow, sample
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Trainer, UnpairedData

_SAMPLES = 1 << 22  # values per channel that histograms are taken from
_FINE = 32  # bins of the source's histogram for one of the target's
_POINTS = 8193  # of each channel's map


@register_method(
    "minimal-ot", title="Minimal transport", kind="baseline", sees="pan", training="unpaired",
    tracks=("calibration",),
)  # fmt: skip
class MinimalOT(UnpairedRow):
    """The monotone map of each channel that makes price · (mean squared displacement) + χ² least.

    The dial between the source itself (a high price: χ² is its own, and no value leaves its bin) and histogram
    matching (a low one); :func:`~pansharp_bench.imaging.least_transport` finds how much goes into each of the
    target's bins. Where in its bin a value comes to lie is left open by χ²: where the target's own values lie in
    it, or only at the edge it comes in by, which is the least transport but leaves as many grey levels as there are
    bins (a χ² of finer bins tells); ``spread`` weighs the two. Values are clamped to [0, peak] first. This
    suite's own.
    """

    @dataclass(frozen=True)
    class Config(UnpairedRow.Config):
        """``price``: of a mean squared displacement of peak², in units of χ²; ``bins``: of the histograms that χ²
        compares; ``spread``: from 0, only up to a bin's edge, to 1, over it as the target's are."""

        price: float = 20.0
        bins: int = 31
        spread: float = 1.0

        def __post_init__(self) -> None:
            if self.price <= 0 or self.bins < 2 or not 0 <= self.spread <= 1:
                raise BenchError(
                    f"options price={self.price}, bins={self.bins}, spread={self.spread}: a price above 0, at "
                    "least 2 bins, and a spread from 0 to 1 are needed"
                )

    config: Config
    curve: Tensor

    def __init__(self, sensor: Sensor, config: Config | None = None) -> None:
        super().__init__(sensor, config)
        self.register_buffer("curve", torch.linspace(0, sensor.peak, _POINTS).repeat(sensor.channels, 1))

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        bins = self.config.bins
        source, target = (sample(x, _SAMPLES) for x in (data.all_source(), data.all_target()))
        for curve, x, y in zip(self.curve, source, target, strict=True):
            curve.copy_(self._map(*(self._shares(z, _FINE * bins) for z in (x, y))))
        moved = self._mapped(source) - source
        return {"mean_squared_displacement": moved.double().square().mean(1).tolist()}

    def _shares(self, values: Tensor, bins: int) -> Tensor:
        counts = torch.histc(values.clamp(0, self.sensor.peak), bins, 0, self.sensor.peak)
        return counts.double() / values.numel()

    def _map(self, source: Tensor, target: Tensor) -> Tensor:
        """(_POINTS,) what the values from 0 to peak become, from histograms of ``_FINE`` parts a bin."""
        within = target.view(-1, _FINE)
        total = within.sum(1, keepdim=True)
        shares = least_transport(source, total[:, 0], [self.config.price]).shares[0].to(source)
        within = (within / total).where(total > 0, 1 / _FINE)

        x = torch.linspace(0, 1, _POINTS, dtype=torch.float64, device=source.device)
        ranks = torch.cat([source.new_zeros(1), source.cumsum(0)])
        place = x * len(source)
        left = place.long().clamp_max(len(source) - 1)
        rank = torch.lerp(ranks[left], ranks[left + 1], place - left)

        parts = (within * shares[:, None]).flatten()
        upper = parts.cumsum(0)
        part = torch.searchsorted(upper - 1e-9, rank).clamp_max(len(parts) - 1)
        share = ((rank - upper[part]) / parts[part] + 1).nan_to_num(0.5).clamp(0, 1)
        goal = part // _FINE
        inside = 1 / (4 * _POINTS)  # of the edge: the map is drawn through points, and rounded
        nearest = x.clamp(goal / len(shares) + inside, (goal + 1) / len(shares) - inside)
        return torch.lerp(nearest, (part + share) / len(parts), self.config.spread) * self.sensor.peak

    def _mapped(self, values: Tensor) -> Tensor:
        """(C, K) values after each channel's map."""
        place = (values / self.sensor.peak).clamp(0, 1) * (_POINTS - 1)
        left = place.long().clamp_max(_POINTS - 2)
        return torch.lerp(self.curve.gather(1, left), self.curve.gather(1, left + 1), place - left)

    def fuse(self, scene: Scene) -> Tensor:
        n, c, h, w = scene.pan.shape
        return self._mapped(scene.pan.transpose(0, 1).flatten(1)).view(c, n, h, w).transpose(0, 1)
