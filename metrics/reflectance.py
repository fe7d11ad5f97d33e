"""Mean reflectance of calibrated images beside reference spectra of Jupiter, read from files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pansharp_bench.errors import ImageError
from pansharp_bench.imaging.spectra import (
    BAND_CENTRES,
    BAND_WIDTH,
    Spectrum,
    band_reflectance,
)
from pansharp_bench.metrics._common import check_images, in_pieces
from pansharp_bench.registry import register_metric
from pansharp_bench.scene import Sensor, as_sensor


class Comparison(NamedTuple):
    """``measured`` (..., C) mean I/F of images, ``reference`` (C,) of a spectrum in the same bands, ``ratio``
    measured / reference (..., C); float64, NaN where the spectrum does not cover a band."""

    measured: Tensor
    reference: Tensor
    ratio: Tensor


def mean_reflectance(images: Tensor, zones: Tensor | None = None) -> Tensor:
    """Mean I/F of each channel over all pixels of all images, or of the images of each zone.

    Args:
        images: (N, C, H, W), I/F.
        zones: (N,) integers, the zone of each image; none to take all together.

    Returns:
        (C,) float64, or (Z, C) with Z = largest zone + 1; NaN for a zone without images.

    Raises:
        ImageError: the images are not (N, C, H, W), or the zones not (N,).

    >>> import torch
    >>> images = torch.tensor([0.1, 0.3, 0.8]).view(3, 1, 1, 1).expand(3, 2, 8, 8)
    >>> mean_reflectance(images, torch.tensor([0, 0, 2]))
    tensor([[0.2000, 0.2000],
            [   nan,    nan],
            [0.8000, 0.8000]], dtype=torch.float64)
    """
    check_images(images)
    means = in_pieces(lambda x: x.mean((2, 3)), images)
    if zones is None:
        return means.mean(0)
    if zones.shape != (len(images),):
        raise ImageError(f"{len(images)} images need as many zones; found zones {tuple(zones.shape)}")
    zones = zones.to(means.device, torch.int64)
    count = torch.bincount(zones)
    sums = means.new_zeros(len(count), images.shape[1]).index_add_(0, zones, means)
    return sums / count[:, None]


def compare_reflectance(
    images: Tensor,
    spectrum: Spectrum,
    zones: Tensor | None = None,
    centres: Sequence[float] = tuple(BAND_CENTRES.values()),
    width: float = BAND_WIDTH,
) -> Comparison:
    """Mean I/F of images, of all or by zone, beside a reference spectrum in the same bands.

    A check of plausibility, not a score: a spectrum is of one place and time (or of the whole disc).

    Args:
        images: (N, C, H, W), I/F, channels in the order of ``centres``.
        spectrum: from :func:`read_spectrum`.
        zones, centres, width: as for :func:`mean_reflectance` and :func:`band_reflectance`.

    Raises:
        ImageError: the images have another number of channels than there are centres.

    >>> import torch
    >>> flat = Spectrum(torch.tensor([300.0, 900.0]).double(), torch.tensor([0.5, 0.5]).double())
    >>> compare_reflectance(torch.full((2, 3, 8, 8), 0.25), flat).ratio
    tensor([0.5000, 0.5000, 0.5000], dtype=torch.float64)
    """
    measured = mean_reflectance(images, zones)
    if measured.shape[-1] != len(centres):
        raise ImageError(
            f"images have {measured.shape[-1]} channels and there are {len(centres)} band centres"
        )
    reference = band_reflectance(spectrum, centres, width).to(measured.device)
    return Comparison(measured, reference, measured / reference)


@register_metric(
    "reflectance", title="Mean reflectance", protocol="calibration", tracks=("calibration",), scope="set",
    columns=(), order=50,
)  # fmt: skip
class Reflectance:
    """Mean and standard deviation of each channel over a set; curves alone, to lay beside reference spectra.

    >>> import torch
    >>> metric = Reflectance("junocam2hst")
    >>> metric.add("output", torch.full((2, 3, 8, 8), 0.5))
    >>> metric.curves()["reflectance"]["output"]
    {'mean': [0.5, 0.5, 0.5], 'std': [0.0, 0.0, 0.0]}
    """

    def __init__(self, sensor: str | Sensor) -> None:
        self._centres = [BAND_CENTRES.get(band) for band in as_sensor(sensor).bands]
        self._moments: dict[str, tuple[int, Tensor, Tensor]] = {}  # values, mean, sum of squared deviations

    def add(self, role: str, images: Tensor) -> None:
        """Add (N, C, H, W) images of a role: output, source, target or truth."""
        if not images.numel():
            return
        mean = mean_reflectance(images).cpu()
        centre = mean.to(images.device)[:, None, None]
        squares = in_pieces(lambda x: (x - centre).square_().sum((2, 3)), images).sum(0).cpu()
        count = images.numel() // images.shape[1]
        if role in self._moments:  # joined without cancellation (Chan et al. 1983)
            n, m, s = self._moments[role]
            total, apart = n + count, mean - m
            mean = m + apart * count / total
            squares = s + squares + apart**2 * n * count / total
            count = total
        self._moments[role] = count, mean, squares

    def scores(self) -> tuple[float, ...]:
        """Nothing."""
        return ()

    def curves(self) -> dict[str, Any]:
        """``reflectance``: ``wavelength`` of the bands in nm (None where a band is not known), and of each role
        ``mean`` and ``std``, a value per channel."""
        roles = {
            role: {"mean": mean.tolist(), "std": (squares / count).sqrt().tolist()}
            for role, (count, mean, squares) in self._moments.items()
        }
        return {"reflectance": {"wavelength": self._centres, **roles}} if roles else {}
