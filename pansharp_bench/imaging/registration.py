"""How far MS lies off the place on PAN that it is said to have, measured on detail that both show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pansharp_bench.scene import as_float

_BAND = (0.06, 0.36)  # cycles per MS pixel: below lie shades of land, above what sampling folds
_REACH = 2.5  # MS pixels searched, each way
_CERTAIN = 6.0  # standard deviations of the likeness of unrelated images
_SIDE = 64  # MS pixels across of a window
_SMALLEST = 12
_FEWEST = 1 / 3  # share of the windows that must tell


class Shift(NamedTuple):
    """Rows and columns (PAN pixels) by which MS lies off, (N, 2), and how alike the images are there, (N,): the
    mean agreement of their phases, 1 for equal detail, 0 for none; ``certain`` (N,) where chance cannot explain
    it."""

    offset: Tensor
    likeness: Tensor
    certain: Tensor


def correlate_phases(pan: Tensor, ms: Tensor, ratio: int, phase: tuple[float, float]) -> Shift:
    """Phase correlation of PAN with MS, between the frequencies that both hold.

    MS is combined to resemble PAN (least squares), the spectra of both are taken on their own grids, so nothing is
    interpolated, and the whitened cross spectrum is searched for the shift that brings its phases together (Kuglin
    and Hines 1975, evaluated at any sub-pixel shift as Guizar-Sicairos et al. 2008 do).

    Args:
        pan: (N, 1, H, W), finite.
        ms: (N, C, h, w) with H = ratio h, W = ratio w.
        ratio: of the pixel sizes.
        phase: row and column of PAN where the centre of MS pixel (0, 0) is said to lie.
    """
    pan, ms = as_float(pan, "pan").double(), as_float(ms, "ms").double()
    h, w = ms.shape[-2:]
    places = [ratio * torch.arange(n, dtype=torch.float64) + p for n, p in zip((h, w), phase, strict=True)]
    tapers = [torch.hann_window(n, periodic=False, dtype=torch.float64) for n in (ratio * h, ratio * w)]
    coarse = [
        0.5 - 0.5 * torch.cos(2 * math.pi * at / (ratio * n - 1))
        for at, n in zip(places, (h, w), strict=True)
    ]
    # frequencies in cycles per PAN pixel that both grids have
    cycles = [torch.fft.fftfreq(n, dtype=torch.float64) / ratio for n in (h, w)]
    waves = [
        torch.exp(-2j * math.pi * torch.outer(f, torch.arange(ratio * n))) * taper
        for f, n, taper in zip(cycles, (h, w), tapers, strict=True)
    ]
    sampled = [
        torch.exp(-2j * math.pi * torch.outer(f, at)) * taper
        for f, at, taper in zip(cycles, places, coarse, strict=True)
    ]
    fine = pan[:, 0] - pan.mean((1, 2, 3))[:, None, None]
    first = waves[0] @ fine.to(waves[0].dtype) @ waves[1].mT
    second = sampled[0] @ _like_pan(pan, ms, ratio).to(waves[0].dtype) @ sampled[1].mT

    radius = torch.hypot(cycles[0][:, None], cycles[1]) * ratio
    held = (radius > _BAND[0]) & (radius < _BAND[1])
    cross = (first * second.conj())[:, held]
    cross = cross / cross.abs().clamp_min(1e-12 * float(cross.abs().max().clamp_min(1e-300)))
    count = int(held.sum())
    field = torch.zeros(len(pan), h, w, dtype=cross.dtype)
    field[:, held] = cross / max(count, 1)

    best = torch.zeros(len(pan), 2, dtype=torch.float64)
    reach = _REACH * ratio
    while reach > 1e-3:
        step = min(1.0, reach / 5)
        best = _search(field, cycles, best, reach, step)
        reach = step
    likeness = _agreement(field, cycles, best[:, :1], best[:, 1:])[:, 0, 0]
    # phases of unrelated images agree by chance to 1/sqrt(frequencies), the taper making neighbours alike
    chance = 1.5 / math.sqrt(max(count, 1))
    inside = (best.abs() < _REACH * ratio - 1).all(1)
    return Shift(best, likeness, inside & (likeness > _CERTAIN * chance))


def _agreement(field: Tensor, cycles: Sequence[Tensor], rows: Tensor, columns: Tensor) -> Tensor:
    """Mean agreement of the phases at shifts ``rows`` (N, R) and ``columns`` (N, C): (N, R, C)."""
    left, right = (
        torch.exp(-2j * math.pi * by[..., None] * f) for by, f in zip((rows, columns), cycles, strict=True)
    )
    return (left @ field @ right.mT).real


def _search(field: Tensor, cycles: Sequence[Tensor], centre: Tensor, reach: float, step: float) -> Tensor:
    steps = torch.arange(-round(reach / step), round(reach / step) + 1, dtype=torch.float64) * step
    rows, columns = centre[:, :1] + steps, centre[:, 1:] + steps
    at = _agreement(field, cycles, rows, columns).flatten(1).argmax(1)
    n = torch.arange(len(at))
    return torch.stack([rows[n, at // len(steps)], columns[n, at % len(steps)]], 1)


def _like_pan(pan: Tensor, ms: Tensor, ratio: int) -> Tensor:
    """The combination of the bands nearest to PAN's means over MS pixels, less its mean: (N, h, w)."""
    bands = (ms - ms.mean((2, 3), keepdim=True)).flatten(2).mT
    target = torch.nn.functional.avg_pool2d(pan, ratio).flatten(2).mT
    weights = torch.linalg.pinv(bands, rtol=1e-6) @ (target - target.mean(1, keepdim=True))
    return (bands @ weights)[..., 0].unflatten(1, ms.shape[-2:])


@dataclass(frozen=True)
class Registration:
    """How MS lies on PAN over a scene: ``offsets`` (n, 2), rows and columns in PAN pixels, of the windows that
    tell, centred at ``places`` (n, 2), rows and columns of PAN; ``windows``: how many were looked at."""

    offsets: Tensor
    places: Tensor
    windows: int

    @property
    def judged(self) -> bool:
        """Whether enough windows tell."""
        return len(self.offsets) >= max(1, math.ceil(_FEWEST * self.windows))

    @property
    def median(self) -> tuple[float, float]:
        """Rows and columns of the offset."""
        row, column = self.offsets.median(0).values.tolist()
        return row, column

    @property
    def size(self) -> float:
        """Length of the median, PAN pixels."""
        return math.hypot(*self.median)

    @property
    def drift(self) -> tuple[float, float]:
        """By how much the offset changes over the scene: the largest difference, in rows and in columns, between
        two of the places on the plane that fits best. 0 where fewer than four windows tell."""
        if len(self.offsets) < 4:
            return 0.0, 0.0
        plane = torch.nn.functional.pad(self.places - self.places.mean(0), (0, 1), value=1.0)
        fitted = plane @ torch.linalg.pinv(plane, rtol=1e-8) @ self.offsets
        row, column = (fitted.amax(0) - fitted.amin(0)).tolist()
        return row, column

    def __str__(self) -> str:
        told = f"{len(self.offsets)} of {self.windows} windows show detail that PAN and MS share"
        if not self.judged:
            return f"registration cannot be judged: {told}"
        drift = "" if len(self.offsets) < 4 else f", drift {math.hypot(*self.drift):.2f} over the scene"
        row, column = self.median
        return f"MS lies {row:+.2f} rows and {column:+.2f} columns off PAN (PAN pixels{drift}; {told})"

    def facts(self) -> dict[str, object]:
        """All of it, JSON-able."""
        return {
            "judged": self.judged,
            "windows": self.windows,
            "telling": len(self.offsets),
            "offset": [round(x, 3) for x in self.median] if self.judged else None,
            "drift": [round(x, 3) for x in self.drift] if self.judged else None,
        }


Read = Callable[[slice, slice], tuple[Tensor, Tensor | None]]
"""Rows and columns -> values (C, h, w), and which pixels are valid (h, w)."""


def measure(
    read_pan: Read,
    read_ms: Read,
    size: tuple[int, int],
    ratio: int,
    phase: tuple[float, float],
    windows: int = 3,
) -> Registration:
    """The offset of MS in ``windows`` x ``windows`` windows or more, spread over a scene of ``size`` MS pixels.

    Windows with much that is not valid, or too little detail that both images show, tell nothing.
    """
    side = min(_SIDE, max(_SMALLEST, min(size) // 2))
    offsets, places, looked = [], [], 0
    starts = [
        torch.linspace(0, n - side, max(windows, min(5, n // (4 * side)))).round().int().tolist()
        for n in size
    ]
    for row in starts[0] if side <= min(size) else ():
        for column in starts[1]:
            looked += 1
            parts = [slice(row, row + side), slice(column, column + side)]
            ms = _filled(*read_ms(*parts))
            pan = _filled(*read_pan(*(slice(ratio * p.start, ratio * p.stop) for p in parts)))
            if pan is None or ms is None:
                continue
            found = correlate_phases(pan[None], ms[None], ratio, phase)
            if found.certain[0]:
                offsets.append(found.offset[0])
                places.append(ratio * torch.tensor([row + side / 2, column + side / 2], dtype=torch.float64))
    none = torch.empty(0, 2, dtype=torch.float64)
    return Registration(
        torch.stack(offsets) if offsets else none, torch.stack(places) if places else none, looked
    )


def _filled(image: Tensor, valid: Tensor | None) -> Tensor | None:
    """The window with its means where it is not valid; None where a fifth is not, or it is flat."""
    if valid is not None and not valid.all():
        if valid.double().mean() < 0.8:
            return None
        means = image[:, valid].mean(1)[:, None, None]
        image = torch.where(valid, image, means)
    return image if (image.amax((1, 2)) > image.amin((1, 2))).any() else None
