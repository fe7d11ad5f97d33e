"""How far the colours of a set of images are from those of another: χ², intersection, earth mover's distance.

The images of both sets are unpaired, so nothing but the aggregate histogram of each channel is compared.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pansharp_bench.errors import ImageError
from pansharp_bench.metrics._common import check_images, pieces
from pansharp_bench.registry import register_metric
from pansharp_bench.scene import Sensor, as_sensor

COARSE, MEDIUM = 31, 256
FINE = COARSE * MEDIUM  # whole numbers of its bins make up the 31 and the 256 bins
_COLUMNS = ("chi2", "chi2_256", "intersection", "emd")


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
    columns=_COLUMNS, better=("low", "low", "high", "low"), order=10,
)  # fmt: skip
class Histograms:
    """Colour histograms of all outputs against those of all target images.

    Columns: :func:`chi2_histogram` with 31 and with 256 bins, :func:`histogram_intersection` with 31, and
    :func:`earth_movers_distance` in the unit of the images. One pass counts 31 · 256 bins, of which the
    others are made up exactly; memory does not grow with the sets.

    >>> import torch
    >>> metric = Histograms("junocam2hst")
    >>> for role in ("output", "target"):
    ...     metric.add(role, torch.full((2, 3, 8, 8), 0.3))
    >>> metric.scores()
    (0.0, 0.0, 1.0, 0.0)
    """

    def __init__(self, sensor: str | Sensor) -> None:
        self.peak = as_sensor(sensor).peak
        self._counts: dict[str, Tensor] = {}

    def add(self, role: str, images: Tensor) -> None:
        """Count (N, C, H, W) images of a role: output, source, target or truth."""
        counts = _count(images, FINE, self.peak).cpu()
        self._counts[role] = self._counts[role] + counts if role in self._counts else counts

    def _values(self) -> dict[str, Tensor]:
        """The columns, each (C,); empty where images of a role are missing."""
        if not {"output", "target"} <= set(self._counts):
            return {}
        (p, q), medium, fine = (
            [_normalised(self._counts[role], bins) for role in ("output", "target")]
            for bins in (COARSE, MEDIUM, FINE)
        )
        values = _chi2(p, q), _chi2(*medium), _intersection(p, q), _moved(fine[0], fine[1], self.peak)
        return dict(zip(_COLUMNS, values, strict=True))

    def scores(self) -> tuple[float, ...]:
        """chi2, chi2_256, intersection, emd: means over the channels; NaN without outputs or targets."""
        values = self._values()
        return tuple(values[k].mean().item() if values else math.nan for k in _COLUMNS)

    def curves(self) -> dict[str, Any]:
        """``histogram``: bin centres (``value``) and the 31-bin histogram of each role, a list per channel;
        ``histogram_channels``: each column's value per channel."""
        centres = (torch.arange(COARSE, dtype=torch.float64) + 0.5) * self.peak / COARSE
        roles = {role: _normalised(c, COARSE).tolist() for role, c in self._counts.items()}
        return {
            "histogram": {"value": centres.tolist(), **roles},
            "histogram_channels": {k: v.tolist() for k, v in self._values().items()},
        }


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
    return 0.5 * torch.where(both == 0, 0, (p - q) ** 2 / both).sum(1)


def _intersection(p: Tensor, q: Tensor) -> Tensor:
    return torch.minimum(p, q).sum(1)


def _moved(p: Tensor, q: Tensor, peak: float) -> Tensor:
    return (p - q).cumsum(1).abs().sum(1) * peak / p.shape[1]
