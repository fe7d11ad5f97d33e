"""Mean reflectance of calibrated images beside reference spectra of Jupiter, read from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.errors import DataError, ImageError
from pansharp_bench.metrics._common import check_images, in_pieces
from pansharp_bench.registry import register_metric
from pansharp_bench.scene import Sensor, as_sensor

BAND_CENTRES = {"red": 631.0, "green": 502.0, "blue": 395.0}
"""Hubble's filters F631N, F502N and F395N, nm."""
BAND_WIDTH = 6.0
"""About the width of these filters (6 to 9 nm)."""
_RGB = tuple(BAND_CENTRES.values())


class Spectrum(NamedTuple):
    """``wavelength`` (K,) in nm, ascending, and ``reflectance`` (K,) in I/F; float64."""

    wavelength: Tensor
    reflectance: Tensor


class Comparison(NamedTuple):
    """``measured`` (..., C) mean I/F of images, ``reference`` (C,) of a spectrum in the same bands, ``ratio``
    measured / reference (..., C); float64, NaN where the spectrum does not cover a band."""

    measured: Tensor
    reference: Tensor
    ratio: Tensor


def read_spectrum(path: str | Path, column: int | None = None) -> Spectrum:
    r"""A reference spectrum from a text file: wavelength in nm, then I/F, a line each; # starts a comment.

    Values are parted by blanks or commas, and sorted by wavelength. Karkoschka's table of the giant planets
    (1998) has eight columns; Jupiter's full-disc albedo is its column 3.

    Args:
        path: the file.
        column: 0-based column of the reflectance; needed where a file has more than two.

    Raises:
        DataError: the file is absent, no table of numbers, or has other columns.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
    ...     _ = file.write("# nm, I/F\n500 0.4\n400, 0.2\n")
    ...     file.flush()
    ...     read_spectrum(file.name).wavelength
    tensor([400., 500.], dtype=torch.float64)
    """
    path = Path(path)
    try:
        lines = (
            line.partition("#")[0].replace(",", " ") for line in path.read_text(encoding="utf-8").splitlines()
        )
        table = np.array([[float(v) for v in line.split()] for line in lines if line.strip()], ndmin=2)
    except OSError as error:
        raise DataError(f"spectrum {path}: {error.strerror or error}") from None
    except ValueError as error:  # undecodable text among them
        raise DataError(f"spectrum {path} is not a table of numbers: {error}") from None
    found = table.shape[1]
    if not table.size or found < 2:
        raise DataError(f"spectrum {path} has no two columns (wavelength in nm, I/F) of numbers")
    if column is None and found > 2:
        raise DataError(f"spectrum {path} has {found} columns; say which one (1 … {found - 1}) is the I/F")
    column = 1 if column is None else column
    if not 1 <= column < found:
        raise DataError(f"spectrum {path} has columns 0 … {found - 1}; {column} cannot be its I/F")
    pairs = torch.from_numpy(table[:, [0, column]])
    if not pairs.isfinite().all() or pairs[:, 0].max() < 100:
        raise DataError(f"spectrum {path}: the first column is not a wavelength in nm, or a value is missing")
    return Spectrum(*pairs[pairs[:, 0].argsort(stable=True)].T.contiguous())


def band_reflectance(
    spectrum: Spectrum, centres: Sequence[float] = _RGB, width: float = BAND_WIDTH
) -> Tensor:
    """What a spectrum is in bands of box shape.

    The mean over [centre - width/2, centre + width/2] of the spectrum, straight lines between its samples
    (integrated exactly); with width 0 the value at the centre.

    Args:
        spectrum: wavelengths ascending, nm.
        centres: of the bands, nm; Hubble's F631N, F502N and F395N by default.
        width: of each band, nm.

    Returns:
        (C,) float64; NaN for a band that the spectrum does not cover.

    >>> import torch
    >>> ramp = Spectrum(torch.tensor([400.0, 700.0]).double(), torch.tensor([0.4, 0.7]).double())
    >>> band_reflectance(ramp)
    tensor([0.6310, 0.5020,    nan], dtype=torch.float64)
    """
    x, y = spectrum
    centre = torch.tensor(centres, dtype=x.dtype, device=x.device)
    low, high = centre - width / 2, centre + width / 2
    covered = (low >= x[0]) & (high <= x[-1])
    if width == 0:
        return torch.where(covered, _interpolate(x, y, centre), torch.nan)
    integral = torch.cat((y.new_zeros(1), torch.cumulative_trapezoid(y, x)))
    upto = [_integral(x, y, integral, at) for at in (low, high)]
    return torch.where(covered, (upto[1] - upto[0]) / width, torch.nan)


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
    centres: Sequence[float] = _RGB,
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


def _interpolate(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    upper = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    step = x[upper] - x[upper - 1]
    share = torch.where(step > 0, (at - x[upper - 1]) / step, 1.0)
    return torch.lerp(y[upper - 1], y[upper], share)


def _integral(x: Tensor, y: Tensor, upto: Tensor, at: Tensor) -> Tensor:
    """Integral from the first sample; ``upto`` holds it at the samples."""
    lower = (torch.searchsorted(x, at) - 1).clamp(0, len(x) - 1)
    return upto[lower] + (at - x[lower]) * 0.5 * (y[lower] + _interpolate(x, y, at))
