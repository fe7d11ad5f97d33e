"""How far the colours of a set of images are from those of another: χ², intersection, earth mover's distance.

The images of both sets are unpaired, so nothing but aggregate histograms of each channel is compared: of all
images, and of those of each group (a zone of latitudes), as an aggregate that matches can hide groups that do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pansharp_bench.errors import ImageError
from pansharp_bench.imaging import least_transport
from pansharp_bench.metrics._common import check_images, pieces
from pansharp_bench.registry import register_metric
from pansharp_bench.scene import Sensor, as_sensor

COARSE, MEDIUM = 31, 256
FINE = COARSE * MEDIUM  # whole numbers of its bins make up the 31 and the 256 bins
_OF_ALL = ("chi2", "chi2_256", "intersection", "emd")
_BY_GROUP = ("chi2_zone", "chi2_zone_worst")
_SOURCE = 16 * COARSE  # bins of the source that a bound is computed from
_PRICES = [2 * 1.6**k for k in range(16)]  # of transport, in units of chi2


def histogram(images: Tensor, bins: int = COARSE, peak: float = 1.0) -> Tensor:
    """Aggregate histogram of each channel over all pixels of all images, normalised to sum 1.

    Bin k holds the values in [k, k + 1) · peak / bins, the last bin also ``peak`` itself. Values outside
    [0, peak] are clamped into the end bins; a channel with a value that is not finite has a histogram of NaN.

    Args:
        images: (N, C, H, W).
        bins: how many bins of equal width divide [0, peak].
        peak: the upper end of the range, 1 for I/F.

    Returns:
        (C, bins) float64.

    Raises:
        ImageError: the images are not (N, C, H, W).

    >>> import torch
    >>> histogram(torch.tensor([0.1, 0.6, 0.6, 1.7]).view(1, 1, 2, 2), bins=4)
    tensor([[0.2500, 0.0000, 0.5000, 0.2500]], dtype=torch.float64)
    """
    return _normalised(_count(images, bins, peak), bins)


def chi2_histogram(images: Tensor, target: Tensor, bins: int = COARSE, peak: float = 1.0) -> Tensor:
    """χ² distance between the aggregate colour histograms of two sets of images.

    ``½ Σ (p - q)² / (p + q)`` over the bins of each channel, p and q normalised to sum 1, bins that are empty
    in both left out; mean over channels. From 0 (equal histograms) to 1 (no common bin). Fewer bins give
    smaller values: figures are comparable at equal ``bins`` only.

    Args:
        images: (N, C, H, W), values in [0, peak]; others are clamped into the end bins.
        target: (M, C, H', W'), the set to be matched.
        bins: 31, or 256 where finer differences matter.
        peak: the upper end of the range, 1 for I/F.

    Returns:
        () float64; NaN where a value is not finite.

    Raises:
        ImageError: not (N, C, H, W), or the numbers of channels differ.

    >>> import torch
    >>> images, target = torch.full((2, 3, 8, 8), 0.2), torch.full((5, 3, 8, 8), 0.2)
    >>> target[:, 0] = 0.7  # one channel of three has nothing in common
    >>> chi2_histogram(images, target)
    tensor(0.3333, dtype=torch.float64)
    """
    return _chi2(*_both(images, target, bins, peak)).mean()


def histogram_intersection(images: Tensor, target: Tensor, bins: int = COARSE, peak: float = 1.0) -> Tensor:
    """The share that the aggregate colour histograms of two sets have in common.

    ``Σ min(p, q)`` over the bins of each channel, mean over channels: 1 for equal histograms, 0 where no bin
    is common. Arguments, result and errors as for :func:`chi2_histogram`.

    >>> import torch
    >>> images, target = torch.full((2, 3, 8, 8), 0.2), torch.full((5, 3, 8, 8), 0.2)
    >>> target[:, 0] = 0.7
    >>> histogram_intersection(images, target)
    tensor(0.6667, dtype=torch.float64)
    """
    return _intersection(*_both(images, target, bins, peak)).mean()


def earth_movers_distance(images: Tensor, target: Tensor, bins: int = FINE, peak: float = 1.0) -> Tensor:
    """Earth mover's (first Wasserstein) distance between the values of two sets, mean over channels.

    ``∫ |P(x) - Q(x)| dx`` with P, Q the cumulative histograms: how far a value must be moved on average, in the
    unit of the images. It is exact for the binned values, so at most peak / bins (0.00013 I/F) from that of the
    values themselves, and mostly far nearer. Arguments, result and errors as for :func:`chi2_histogram`.

    >>> import torch
    >>> images = torch.rand(4, 3, 32, 32) * 0.5
    >>> earth_movers_distance(images, images + 0.25)
    tensor(0.2500, dtype=torch.float64)
    """
    return _moved(*_both(images, target, bins, peak), peak).mean()


@register_metric(
    "histograms", title="Colour histograms", protocol="calibration", tracks=("calibration",), scope="set",
    columns=_OF_ALL + _BY_GROUP, better=("low", "low", "high", "low", "low", "low"), order=10,
)  # fmt: skip
class Histograms:
    """Colour histograms of all outputs against those of all target images.

    Columns: :func:`chi2_histogram` with 31 and with 256 bins, :func:`histogram_intersection` with 31, and
    :func:`earth_movers_distance` in the unit of the images; then the mean and the largest of the groups' own
    :func:`chi2_histogram`, each of the outputs of a group (a latitude zone) against the target images of it, over
    the groups that both have. One pass counts 31 · 256 bins, of which the others are made up exactly; memory does
    not grow with the sets.

    >>> import torch
    >>> metric = Histograms("junocam2hst")
    >>> for role in ("output", "target"):
    ...     metric.add(role, torch.full((2, 3, 8, 8), 0.3))
    >>> metric.scores()
    (0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    """

    def __init__(self, sensor: str | Sensor) -> None:
        self.peak = as_sensor(sensor).peak
        self._counts: dict[str, dict[int, Tensor]] = {}  # of each role, by group
        self._blocks: dict[tuple[int, int], Tensor] = {}  # of the output, (C, 31) by group and block

    def add(
        self, role: str, images: Tensor, groups: Tensor | None = None, blocks: Tensor | None = None
    ) -> None:
        """Count (N, C, H, W) images of a role: output, source, target or truth; ``groups`` and ``blocks`` (N,) are
        integers, all images of one group without the first. What is output is kept by block too."""
        groups = torch.zeros(len(images), dtype=torch.int64) if groups is None else groups
        apart = torch.zeros_like(groups) if blocks is None or role != "output" else blocks
        counted = self._counts.setdefault(role, {})
        for group, block in torch.stack([groups, apart], 1).unique(dim=0).tolist():
            chosen = ((groups == group) & (apart == block)).to(images.device)
            counts = _count(images[chosen], FINE, self.peak).cpu()
            counted[group] = counted[group] + counts if group in counted else counts
            if role == "output" and blocks is not None:
                coarse = counts[:, :-1].unflatten(1, (COARSE, -1)).sum(2)
                self._blocks[group, block] = self._blocks.get((group, block), 0) + coarse

    def _total(self, role: str) -> Tensor:
        return torch.stack(list(self._counts[role].values())).sum(0)

    def _values(self) -> dict[str, Tensor]:
        """The columns of all images, each (C,); empty where images of a role are missing."""
        if not {"output", "target"} <= set(self._counts):
            return {}
        return _of_all(self._total("output"), self._total("target"), self.peak)

    def _zones(self) -> dict[int, float]:
        """Group -> its own χ²."""
        output, target = (self._counts.get(role, {}) for role in ("output", "target"))
        return {
            group: _chi2(_normalised(output[group], COARSE), _normalised(target[group], COARSE)).mean().item()
            for group in sorted(output.keys() & target.keys())
        }

    def scores(self) -> tuple[float, ...]:
        """chi2, chi2_256, intersection, emd: means over the channels; chi2_zone, chi2_zone_worst: mean and maximum
        over the groups. NaN without outputs or targets."""
        values, zones = self._values(), list(self._zones().values())
        of_all = tuple(values[k].mean().item() if values else math.nan for k in _OF_ALL)
        mean = sum(zones) / len(zones) if zones else math.nan
        return *of_all, mean, max(zones, key=lambda x: (math.isnan(x), x), default=math.nan)

    def floors(self) -> dict[str, float]:
        """What chi2, chi2_256, intersection and emd would be if the outputs of each group had the very histogram of
        the target's: where only the mix of groups differs. What is nearer than that has a wrong mix."""
        output, target = (self._counts.get(role, {}) for role in ("output", "target"))
        shared = output.keys() & target.keys()
        if not shared:
            return {}
        share = {group: output[group].sum().item() / target[group].sum().item() for group in shared}
        mixed = torch.stack([target[group] * share[group] for group in sorted(shared)]).sum(0)
        return {k: v.mean().item() for k, v in _of_all(mixed, self._total("target"), self.peak).items()}

    def curves(self) -> dict[str, Any]:
        """``histogram``: bin centres (``value``) and the 31-bin histogram of each role, a list per channel;
        ``histogram_channels``: each column's value per channel; ``histogram_zones``: ``chi2`` of each ``group``;
        where images came with their blocks, ``histogram_blocks``: of the ``output`` the 31 counts of every
        channel by group and block, a line of text each, and the ``target``'s shares by group; ``bound``:
        ``mse`` in units of peak² and the least ``chi2`` that any output can have whose mean squared
        difference from the source is this."""
        centres = (torch.arange(COARSE, dtype=torch.float64) + 0.5) * self.peak / COARSE
        roles = {role: _normalised(self._total(role), COARSE).tolist() for role in self._counts}
        zones = self._zones()
        return {
            "histogram": {"value": centres.tolist(), **roles},
            "histogram_channels": {k: v.tolist() for k, v in self._values().items()},
            "histogram_zones": {"group": list(zones), "chi2": list(zones.values())},
            "bound": self._bound(),
        } | ({"histogram_blocks": self._by_block()} if self._blocks else {})

    def _by_block(self) -> dict[str, Any]:
        output = [
            {"group": group, "block": block, "counts": [" ".join(map(str, c)) for c in counts.tolist()]}
            for (group, block), counts in sorted(self._blocks.items())
        ]
        target = [
            {"group": group, "shares": _normalised(counts, COARSE).tolist()}
            for group, counts in sorted(self._counts.get("target", {}).items())
        ]
        return {"output": output, "target": target}

    @staticmethod
    def resampled(curves: Mapping[str, Any], blocks: Sequence[int], weights: Tensor) -> dict[str, Tensor]:
        """chi2, chi2_zone and chi2_zone_worst, (R,) each, had every block counted so many times.

        Args:
            curves: what :meth:`curves` gave, where images came with their blocks; empty columns elsewhere.
            blocks: (B,) all of them.
            weights: (R, B) float64, how often each of the blocks is taken.
        """
        kept = curves.get("histogram_blocks")
        if not kept or not kept["target"]:
            return {}
        at = {block: i for i, block in enumerate(blocks)}
        times = weights[:, [at[x["block"]] for x in kept["output"]]]
        counts = torch.tensor(
            [[[*map(int, c.split())] for c in x["counts"]] for x in kept["output"]]
        ).double()
        group_of = torch.tensor([x["group"] for x in kept["output"]])
        whole = torch.tensor(curves["histogram"]["target"], dtype=torch.float64)

        def chi2(chosen: Tensor, target: Tensor) -> Tensor:
            mixed = torch.einsum("rk,kcb->rcb", times[:, chosen], counts[chosen])
            return _chi2(mixed / mixed.sum(2, keepdim=True), target).mean(1)

        zones = torch.stack([
            chi2(group_of == x["group"], torch.tensor(x["shares"], dtype=torch.float64))
            for x in kept["target"]
        ])  # fmt: skip
        # NaN where no block of a zone was drawn, or is there: left out of both, and left where no zone has any
        return {
            "chi2": chi2(torch.ones_like(group_of, dtype=torch.bool), whole),
            "chi2_zone": zones.nanmean(0),
            "chi2_zone_worst": reduce(torch.fmax, zones),
        }

    def _bound(self) -> dict[str, list[float]]:
        """The upper envelope of the lines χ² = value - price · MSE: where two of them meet, and its ends."""
        if not {"source", "target"} <= set(self._counts):
            return {}
        source, target = (
            _normalised(self._total(role), bins) for role, bins in (("source", _SOURCE), ("target", COARSE))
        )
        if len(source) != len(target) or source.isnan().any() or target.isnan().any():
            return {}
        bands = [
            least_transport(s, q, _PRICES, anywhere=True).value for s, q in zip(source, target, strict=True)
        ]
        lines = list(zip(_PRICES, torch.stack(bands).mean(0).tolist(), strict=True))
        ends = lines[0][1] / lines[0][0], 0.0
        meet = sorted([*ends, *(max((b[1] - a[1]) / (b[0] - a[0]), 0.0) for a, b in pairwise(lines))])
        return {"mse": meet, "chi2": [max(0.0, *(value - price * m for price, value in lines)) for m in meet]}


def _of_all(output: Tensor, target: Tensor, peak: float) -> dict[str, Tensor]:
    """The columns that compare all images, (C,) each, from counts of the finest bins."""
    (p, q), medium, fine = (
        [_normalised(counts, bins) for counts in (output, target)] for bins in (COARSE, MEDIUM, FINE)
    )
    values = _chi2(p, q), _chi2(*medium), _intersection(p, q), _moved(fine[0], fine[1], peak)
    return dict(zip(_OF_ALL, values, strict=True))


def _count(images: Tensor, bins: int, peak: float) -> Tensor:
    """(C, bins + 1) int64: values per bin, and in the last place those that are not finite.

    The product is exact for float32 values and the quotient rounded once, so a value that lies on an edge is
    counted above it whatever the number of bins.
    """
    check_images(images)
    channels, places = images.shape[1], bins + 1
    first = torch.arange(channels, device=images.device)[:, None, None] * places
    counts = torch.zeros(channels * places, dtype=torch.int64, device=images.device)
    for piece in pieces(images):
        at = (piece.double() * bins).div_(peak).floor_()
        at = torch.where(at.isfinite(), at.clamp(0, bins - 1), bins)
        counts += torch.bincount((at.long() + first).flatten(), minlength=len(counts))
    return counts.view(channels, places)


def _normalised(counts: Tensor, bins: int) -> Tensor:
    """(C, bins) shares from the counts of a multiple of these bins."""
    shares = counts[:, :-1].unflatten(1, (bins, -1)).sum(2).double()
    shares /= shares.sum(1, keepdim=True)
    return torch.where(counts[:, -1:] > 0, torch.nan, shares)


def _both(images: Tensor, target: Tensor, bins: int, peak: float) -> tuple[Tensor, Tensor]:
    p, q = histogram(images, bins, peak), histogram(target, bins, peak)
    if len(p) != len(q):
        raise ImageError(f"images have {len(p)} channels and target {len(q)}")
    return p, q.to(p.device)


def _chi2(p: Tensor, q: Tensor) -> Tensor:
    both = p + q
    return 0.5 * torch.where(both == 0, 0, (p - q) ** 2 / both).sum(-1)


def _intersection(p: Tensor, q: Tensor) -> Tensor:
    return torch.minimum(p, q).sum(1)


def _moved(p: Tensor, q: Tensor, peak: float) -> Tensor:
    return (p - q).cumsum(1).abs().sum(1) * peak / p.shape[1]
