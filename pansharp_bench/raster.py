"""GeoTIFF: rasters with their place on the ground, written strip by strip, so that none need fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.files import atomically

if TYPE_CHECKING:
    from rasterio import Affine

SUFFIXES = (".tif", ".tiff")

Strips = Iterable[tuple[int, Tensor]]
"""(first row, (C, rows, W) values), from the top."""


def check_name(path: Path) -> None:
    """Raises BenchError for a name that no GeoTIFF has: better before the work than after."""
    if path.suffix.lower() not in SUFFIXES:
        raise BenchError(f"{path} is no name of a GeoTIFF; let it end in .tif")


def write_geotiff(
    path: Path,
    strips: Strips,
    size: tuple[int, int],
    bands: tuple[str, ...],
    *,
    crs: str,
    transform: Affine,
    dtype: str = "float32",
    nodata: float | None = None,
    tags: Mapping[str, str] | None = None,
) -> Path:
    """Write a raster of ``size`` (height, width) as a GeoTIFF; it appears whole or not at all.

    Args:
        path: ends in .tif or .tiff.
        strips: they cover all rows; an error they raise leaves nothing behind.
        size: rows and columns of the whole.
        bands: a description each.
        crs: the coordinate reference system, as an authority's code or WKT.
        transform: from column and row to its coordinates.
        dtype: of the samples; values are converted as they are.
        nodata: the value that means none.
        tags: of the whole file.

    Raises BenchError for another suffix, or where it cannot be written.
    """
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.windows import Window

    check_name(path)
    height, width = size
    with atomically(path) as part:
        try:
            with rasterio.open(
                part, "w", driver="GTiff", width=width, height=height, count=len(bands), dtype=dtype, crs=crs,
                transform=transform, nodata=nodata, compress="deflate", tiled=True, bigtiff="if_safer",
                predictor=3 if np.dtype(dtype).kind == "f" else 2,
            ) as out:  # fmt: skip
                out.descriptions = bands
                out.update_tags(**(tags or {}))
                for row, strip in strips:
                    values = strip.cpu().numpy().astype(dtype, copy=False)
                    out.write(values, window=Window(0, row, width, strip.shape[1]))
        except RasterioError as error:
            raise BenchError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error
    return path


class Thumbnail:
    """A raster made small, of its strips as they pass: ``values`` (C, h, w) is the mean of each block's known
    values (NaN where there is none), the blocks no larger than a picture of ``largest`` columns needs.

    >>> small = Thumbnail(width=4, largest=2)
    >>> for row, strip in small.watch([(0, torch.ones(1, 1, 4)), (1, torch.full((1, 1, 4), 3.0))]):
    ...     pass
    >>> small.values
    tensor([[[2., 2.]]])
    """

    def __init__(self, width: int, largest: int) -> None:
        self._block = max(1, -(-width // largest))
        self._rows: list[Tensor] = []

    def watch(self, strips: Strips) -> Iterator[tuple[int, Tensor]]:
        """The strips, unchanged."""
        pending: Tensor | None = None
        for row, strip in strips:
            yield row, strip
            pending = strip if pending is None else torch.cat([pending, strip], 1)
            whole = pending.shape[1] // self._block * self._block
            if whole:
                self._rows.append(_block_means(pending[:, :whole], self._block))
            pending = pending[:, whole:]

    @property
    def values(self) -> Tensor:
        """Of what has passed; rows at the end that fill no block are left out."""
        return torch.cat(self._rows, 1)


def _block_means(values: Tensor, block: int) -> Tensor:
    if block == 1:
        return values
    known = values.isfinite()
    total = F.avg_pool2d(torch.where(known, values, 0), block)
    share = F.avg_pool2d(known.float(), block)
    return torch.where(share > 0, total / share, torch.nan)
