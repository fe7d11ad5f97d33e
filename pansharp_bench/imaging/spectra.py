"""Reflectance spectra from files, and what they are in bands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.errors import DataError

BAND_CENTRES = {"red": 631.0, "green": 502.0, "blue": 395.0}
"""Hubble's filters F631N, F502N and F395N, nm."""
BAND_WIDTH = 6.0
"""About the width of these filters (6 to 9 nm)."""
_RGB = tuple(BAND_CENTRES.values())


class Spectrum(NamedTuple):
    """``wavelength`` (K,) in nm, ascending, and ``reflectance`` (K,) in I/F; float64."""

    wavelength: Tensor
    reflectance: Tensor


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


def through_response(spectrum: Spectrum, response: Spectrum, sun: Spectrum | None = None) -> float:
    """What a spectrum is through a filter: what a detector that counts photons sees, over what it would see
    of I/F 1.

    ∫ R(λ) T(λ) λ F(λ) dλ / ∫ T(λ) λ F(λ) dλ, all of straight lines between their samples; three points of
    Gauss between these are exact.

    Args:
        spectrum: R, I/F.
        response: T, throughput of filter and detector, in any unit, 0 beyond its samples.
        sun: F, power per wavelength in any unit; flat where it is not given.

    Returns:
        NaN where the spectrum (or the Sun's) does not cover a hundredth or more of the response.

    >>> import torch
    >>> ramp = Spectrum(torch.tensor([400.0, 700.0]).double(), torch.tensor([0.4, 0.7]).double())
    >>> box = Spectrum(torch.tensor([500.0, 600.0]).double(), torch.tensor([1.0, 1.0]).double())
    >>> round(through_response(ramp, box), 5)  # photons count: more than the middle's 0.55
    0.55152
    """
    known = [s for s in (spectrum, sun) if s is not None]
    at = torch.cat([response.wavelength, *(s.wavelength for s in known)]).unique()
    at = at[(at >= response.wavelength[0]) & (at <= response.wavelength[-1])]
    step = at.diff()[:, None]
    at = at[:-1, None] + step * (0.5 + 0.5 * 0.6**0.5 * at.new_tensor([-1, 0, 1]))
    weight = _interpolate(*response, at) * at * step * at.new_tensor([5, 8, 5]) / 18
    if sun is not None:
        weight = weight * _interpolate(*sun, at)
    low, high = max(s.wavelength[0] for s in known), min(s.wavelength[-1] for s in known)
    covered = ((at >= low) & (at <= high)).all(1)
    if weight[covered].sum() <= 0.99 * weight.sum():
        return float("nan")
    return float((weight * _interpolate(*spectrum, at))[covered].sum() / weight[covered].sum())


def effective_wavelength(response: Spectrum) -> float:
    """The mean wavelength of a response, nm."""
    at, value = response
    return float(torch.trapezoid(at * value, at) / torch.trapezoid(value, at))


def _interpolate(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    upper = torch.searchsorted(x, at).clamp(1, len(x) - 1)
    step = x[upper] - x[upper - 1]
    share = torch.where(step > 0, (at - x[upper - 1]) / step, 1.0)
    return torch.lerp(y[upper - 1], y[upper], share)


def _integral(x: Tensor, y: Tensor, upto: Tensor, at: Tensor) -> Tensor:
    """Integral from the first sample; ``upto`` holds it at the samples."""
    lower = (torch.searchsorted(x, at) - 1).clamp(0, len(x) - 1)
    return upto[lower] + (at - x[lower]) * 0.5 * (y[lower] + _interpolate(x, y, at))
