"""Cutting segments from a map: the ellipsoid's equal-area projection, sampled bilinearly, many at a time.

All centres of one latitude share one grid but for a shift in longitude, so the projection is worked out once a
latitude (in float64) and a segment costs little more than its interpolation. Where the map is finer than the
segment's pixels it is blurred first, along each row and column by as much as the pixels there need.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.datasets.jupiter.ellipsoid import (
    EQUATORIAL_KM,
    SEGMENT_KM,
    healpix_cell,
    laea_inverse,
    to_planetocentric,
)
from pansharp_bench.datasets.jupiter.maps import GlobalMap
from pansharp_bench.errors import DataError
from pansharp_bench.scene import Split, SplitName

BLANK_LIMIT = 5
BLOCK_NSIDE = 4
_SPREAD = 0.35  # of a Gaussian, in new pixels: leaves 9 % at the sampling frequency, where aliasing is worst
_LEAST = 0.1  # in old pixels: a narrower blur does nothing
_AT_ONCE = 1 << 16  # pixels sampled together: few enough to stay in a processor's cache
_COARSE = 8  # every so many pixels are looked at before a segment is cut


def pixel_grid(pixels: int, size_km: float = SEGMENT_KM) -> tuple[Tensor, Tensor]:
    """Kilometres (x east, y north) of the pixel centres of a segment, each (pixels, pixels) float64."""
    step = size_km / pixels
    line = (torch.arange(pixels, dtype=torch.float64) + 0.5) * step - size_km / 2
    y, x = torch.meshgrid(-line, line, indexing="ij")
    return x, y


class SegmentSplit(Split):
    """Segments of Jupiter: ``zones`` names what the column ``zone`` counts, ``stored_as`` is the type on the disk,
    ``extra_bands`` names what :meth:`extra` gives, where it gives anything."""

    name: SplitName
    zones: tuple[str, ...]
    stored_as: str
    extra_bands: tuple[str, ...] = ()

    @abstractmethod
    def column(self, name: str) -> np.ndarray | None:
        """(N,) one number a segment (zone, perijove, cycle, rotation, latitude, longitude); None where the data
        set has none."""

    def latitude_of(self, index: int | slice) -> Tensor | None:
        """(n,) degrees, where the split knows its latitudes."""
        if self.latitude is None:
            return None
        return torch.from_numpy(np.array(self.latitude.numpy()[index], ndmin=1))

    def origins(self) -> dict[str, Tensor]:
        """``perijove``, and ``block``: a HEALPix cell of nside 4 (14.7 degrees, a little more than a segment)
        at one perijove, or rotation of Hubble's; without ``block`` where centres are not known."""
        seen, lat, lon = (self.column(name) for name in ("perijove", "latitude", "longitude"))
        found = {} if seen is None else {"perijove": seen.astype(np.int64)}
        if seen is None:
            cycle, rotation = self.column("cycle"), self.column("rotation")
            seen = None if cycle is None or rotation is None else 2 * cycle.astype(np.int64) + rotation
        if seen is not None and lat is not None and lon is not None and np.isfinite([lat, lon]).all():
            cells = healpix_cell(BLOCK_NSIDE, lat, lon)
            found["block"] = seen.astype(np.int64) * 12 * BLOCK_NSIDE**2 + cells
        return {name: torch.from_numpy(values) for name, values in found.items()}

    def extra(self, index: int | slice) -> Tensor:
        """(n, E, H, W) I/F of the further bands; raises DataError where there are none."""
        raise DataError(f"split {self.name!r} has no further bands")


class Cutter:
    """Cuts segments of ``pixels`` x ``pixels`` spanning ``size_km`` from a map, on the map's device.

    >>> from pansharp_bench.datasets.jupiter.maps import GlobalMap
    >>> cut = Cutter(GlobalMap(torch.full((3, 90, 180), 0.5)), pixels=32)
    >>> segments, kept = cut([0.0, -22.0], [359.0, 180.0])
    >>> segments.shape, kept.tolist()
    (torch.Size([2, 3, 32, 32]), [0, 1])
    """

    def __init__(self, source: GlobalMap, pixels: int = 256, size_km: float = SEGMENT_KM) -> None:
        self.map = antialiased(source, size_km / pixels)
        self._values = self.map.values.contiguous()  # a picture's colours lie innermost
        self.pixels = pixels
        self._x, self._y = pixel_grid(pixels, size_km)
        self._grids: dict[float, tuple[Tensor, Tensor]] = {}

    def __call__(
        self,
        latitude: Tensor | np.ndarray | list[float],
        longitude: Tensor | np.ndarray | list[float],
        blank_limit: int = BLANK_LIMIT,
    ) -> tuple[Tensor, Tensor]:
        """Segments about these centres (planetographic and west degrees, each (n,)).

        Returns:
            images: (k, C, pixels, pixels) float32, without those that have more than ``blank_limit`` blank pixels
                in the first channel; the blank ones of the others are 0.
            kept: (k,) which of the n centres they are.
        """
        lat = np.atleast_1d(np.asarray(latitude, dtype=np.float64))
        lon = np.atleast_1d(np.asarray(longitude, dtype=np.float64))
        if lat.shape != lon.shape:
            raise ValueError(f"{lat.shape} latitudes and {lon.shape} longitudes")
        images, kept = [], []
        for value in np.unique(lat):
            (index,) = np.nonzero(lat == value)
            index = index[self._seen(value, lon[index], blank_limit)]
            segments = self._sample(value, lon[index], slice(None, None))
            blank = segments[:, 0].isnan().flatten(1).sum(1).cpu() > blank_limit
            images.append(segments if not blank.any() else segments[~blank.to(segments.device)])
            kept.append(torch.from_numpy(index)[~blank])
        if not images:
            shape = (0, self.map.values.shape[0], self.pixels, self.pixels)
            return self.map.values.new_empty(shape), torch.empty(0, dtype=torch.int64)
        which = torch.cat(kept)
        segments = torch.cat(images) if len(images) > 1 else images[0]
        if len(images) > 1:
            order = which.argsort()
            segments, which = segments[order.to(segments.device)], which[order]
        return segments.nan_to_num_(0.0), which

    def _seen(self, latitude: float, west: np.ndarray, limit: int) -> np.ndarray:
        """Which centres need a closer look: few enough blanks among every 8th pixel each way."""
        coarse = self._sample(latitude, west, slice(None, None, _COARSE), channels=1)
        return (coarse[:, 0].isnan().flatten(1).sum(1) <= limit).cpu().numpy()

    def _sample(self, latitude: float, west: np.ndarray, part: slice, channels: int | None = None) -> Tensor:
        """(n, C, h, w), NaN where a neighbour is blank."""
        row, shift = (g[part, part] for g in self._grid(latitude))
        centre = self.map.column(torch.from_numpy(west)).to(shift)  # each centre's own column
        return _bilinear(self._values[:channels], row, centre[:, None, None] + shift)

    def _grid(self, latitude: float) -> tuple[Tensor, Tensor]:
        """Rows, and columns to the east of the centre, of a segment's pixels, float64."""
        if latitude not in self._grids:
            lat, east = laea_inverse(self._x, self._y, torch.tensor(latitude, dtype=torch.float64))
            row, shift = self.map.row(lat), east / self.map.degrees_per_pixel
            device = self.map.values.device
            if len(self._grids) >= 4:
                self._grids.clear()
            self._grids[latitude] = row.to(device), shift.to(device)
        return self._grids[latitude]


def _bilinear(values: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """(n, C, h, w) of a map (C, H, W) at rows (h, w) and columns (n, h, w); columns wrap, rows end.

    In float64 and step by step, where grid_sample would fuse products on some processors and not on others. What is
    left differs by 1e-15, so that of some 10^8 values of a data set none is stored as another of its 65,536 levels.
    """
    height, width = values.shape[1:]
    row = row.clamp(0, height - 1)
    above = row.floor()
    down = row - above
    top, bottom = (y.clamp(max=height - 1).long() * width for y in (above, above + 1))
    out = values.new_empty(len(column), len(values), *row.shape)
    few = max(1, _AT_ONCE // row.numel())
    for made, some in zip(out.split(few), column.split(few), strict=True):
        left = some.floor()
        along, first = some - left, left.long() % width
        second = (first + 1) % width
        corners = [i.flatten() for i in (top + first, top + second, bottom + first, bottom + second)]
        for k, band in enumerate(values.flatten(1)):
            a, b, c, d = (band.index_select(0, i).view_as(some).double() for i in corners)
            upper, lower = b.sub_(a).mul_(along).add_(a), d.sub_(c).mul_(along).add_(c)
            made[:, k] = lower.sub_(upper).mul_(down).add_(upper)
    return out


def antialiased(source: GlobalMap, km_per_pixel: float) -> GlobalMap:
    """The map, blurred as far as pixels of this size need: a Gaussian of 0.35 sqrt(new^2 - old^2) km each way.

    Blank pixels stay blank and lend nothing to their neighbours.
    """
    degree = math.radians(source.degrees_per_pixel)
    along = EQUATORIAL_KM * degree  # north to south; a meridian's degrees differ by a few per cent only
    latitudes = torch.deg2rad(to_planetocentric(source.latitudes()))
    across = (along * torch.cos(latitudes)).clamp_min(along / 100)
    sigma_y = blur_needed(km_per_pixel, along)
    sigma_x = _SPREAD * (km_per_pixel**2 - across**2).clamp_min(0).sqrt() / across
    inner = latitudes.abs() < math.radians(85)
    if not sigma_y and sigma_x[inner].max() < _LEAST:
        return source
    known = source.values.isfinite()
    total = torch.where(known, source.values, 0)
    partial = not bool(known.all())
    share = known[:1].float() if partial else torch.ones(1, 1, 1, device=total.device)
    if partial and not bool((known == known[:1]).all()):
        share = known.float()
    sigma_x = torch.where(inner, sigma_x, sigma_x[inner].max()).to(total.device)
    total = _blur_rows(blur_columns(total, sigma_y), sigma_x)
    if partial:
        share = _blur_rows(blur_columns(share, sigma_y), sigma_x)
    return replace(source, values=torch.where(known, total / share, torch.nan))


def blur_needed(new_km: float, old_km: float) -> float:
    """Spread in old pixels, or 0 where a blur would do nothing."""
    sigma = _SPREAD * math.sqrt(max(new_km**2 - old_km**2, 0)) / old_km
    return sigma if sigma >= _LEAST else 0.0


def blur_columns(values: Tensor, sigma: float) -> Tensor:
    """Gaussian along axis 1 of (C, H, W), in float64; one band at a time, to bound memory."""
    if not sigma:
        return values
    reach = math.ceil(4 * sigma)
    taps = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1)]
    out = torch.empty_like(values)
    for made, band in zip(out, values, strict=True):
        padded = F.pad(band[None, None].double(), (0, 0, reach, reach), mode="replicate")[0, 0]
        total = torch.zeros_like(band, dtype=torch.float64)
        for k, tap in enumerate(taps):  # a tall, narrow convolution is several times slower
            total.add_(padded[k : k + len(band)], alpha=tap / sum(taps))
        made.copy_(total)
    return out


def _blur_rows(values: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian along each row, which closes on itself; ``sigma`` (H,) pixels. In float64 and in blocks, to bound
    memory."""
    width = values.shape[2]
    frequency = torch.fft.rfftfreq(width, dtype=torch.float64, device=values.device)
    out = torch.empty_like(values)
    for start in range(0, values.shape[1], 256):
        rows = slice(start, start + 256)
        gain = torch.exp(-0.5 * (2 * math.pi * sigma[rows, None] * frequency) ** 2)
        out[:, rows] = torch.fft.irfft(torch.fft.rfft(values[:, rows].double()) * gain, n=width).to(out.dtype)
    return out
