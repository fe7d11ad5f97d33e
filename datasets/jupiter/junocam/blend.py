"""Flattening and blending of maps larger than memory, strip by strip.

A map is an array (bands, height, width) with NaN where blank, in memory or a memory map; row 0 is the north and
the columns go once round the planet, so that filters wrap in longitude and not in latitude.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

STRIP = 256
LEVEL = 0.5  # mean luminance of a flattened map

Rows = Callable[[slice], np.ndarray]


def strips(height: int) -> Iterator[slice]:
    return (slice(top, min(top + STRIP, height)) for top in range(0, height, STRIP))


class MapLowPass:
    """Gaussian low pass of a map, blanks left out: G∗(value · seen) / G∗seen, σ in pixels of the map.

    The map is read once, in strips, and averaged over blocks of at most a quarter of σ; only the averages are
    kept. ``rows`` gives the (bands, height, width) strips.
    """

    def __init__(self, rows: Rows, height: int, width: int, sigma: float) -> None:
        from scipy import ndimage

        self.block = max(b for b in range(1, max(1, int(sigma / 4)) + 1) if width % b == 0)
        self.width = width
        coarse = -(-height // self.block)
        total = seen = np.zeros(0)
        for part in strips(height):
            values = rows(part)
            known = np.isfinite(values)
            if not total.size:
                total = np.zeros((len(values), coarse, width // self.block))
                seen = np.zeros_like(total)
            index = np.arange(part.start, part.stop) // self.block
            for sums, array in ((total, np.where(known, values, 0)), (seen, known)):
                across = array.reshape(*array.shape[:2], -1, self.block).sum(-1, dtype=np.float64)
                np.add.at(sums, (slice(None), index), across)  # type: ignore[arg-type]
        spread = (0, sigma / self.block, sigma / self.block)
        mode = ("nearest", "constant", "wrap")
        top, bottom = (ndimage.gaussian_filter(a, spread, mode=mode, truncate=3.0) for a in (total, seen))
        self._coarse = np.where(bottom > 1e-9, top / np.maximum(bottom, 1e-9), np.nan)

    def rows(self, part: slice) -> np.ndarray:
        """The low pass of a strip, float32; bilinear between the blocks."""
        bands, height, width = self._coarse.shape
        y = (np.arange(part.start, part.stop) + 0.5) / self.block - 0.5
        x = (np.arange(self.width) + 0.5) / self.block - 0.5
        top, left = np.floor(y).astype(int), np.floor(x).astype(int)
        fy, fx = (y - top)[:, None], x - left
        # blank blocks count for nothing beside known ones
        value, weight = np.nan_to_num(self._coarse), np.isfinite(self._coarse).astype(float)
        out, sure = np.zeros((bands, len(y), self.width)), np.zeros((bands, len(y), self.width))
        for dy, wy in ((0, 1 - fy), (1, fy)):
            r = np.clip(top + dy, 0, height - 1)
            for dx, wx in ((0, 1 - fx), (1, fx)):
                c = (left + dx) % width
                out += value[:, r[:, None], c] * (wy * wx)
                sure += weight[:, r[:, None], c] * (wy * wx)
        return np.where(sure > 0, out / np.where(sure > 0, sure, 1), np.nan).astype(np.float32)


def flattened(rows: Rows, height: int, width: int, sigma: float) -> Rows:
    """The map divided by the low pass of its luminance (mean of the bands), times 0.5: what large-scale
    brightness is left by the photometric correction goes, colour and detail stay."""
    low = MapLowPass(lambda part: rows(part).mean(0, keepdims=True), height, width, sigma)

    def flat(part: slice) -> np.ndarray:
        return rows(part) * np.float32(LEVEL) / np.maximum(low.rows(part), np.float32(1e-6))

    return flat


def blended(maps: Sequence[Rows], height: int, width: int, sigma: float) -> Rows:
    """One map of several: the low pass of their median plus the median of their high passes. So neither a seam
    of brightness nor a doubled edge is left where they overlap."""
    if len(maps) == 1:
        return maps[0]

    def median(part: slice) -> np.ndarray:
        return _median(np.stack([rows(part) for rows in maps]))

    lows = [MapLowPass(rows, height, width, sigma) for rows in maps]
    middle = MapLowPass(median, height, width, sigma)

    def blend(part: slice) -> np.ndarray:
        high = _median(np.stack([rows(part) - low.rows(part) for rows, low in zip(maps, lows, strict=True)]))
        return middle.rows(part) + high

    return blend


def _median(stack: np.ndarray) -> np.ndarray:
    """Median over the first axis of what is known; NaN where nothing is."""
    known = np.isfinite(stack).sum(0)
    order = np.sort(stack, axis=0)  # NaN last
    low, high = np.maximum((known - 1) // 2, 0), known // 2
    high = np.minimum(high, len(stack) - 1)
    pick = [np.take_along_axis(order, i[None], 0)[0] for i in (low, high)]
    return np.where(known > 0, (pick[0] + pick[1]) / 2, np.nan).astype(np.float32)
