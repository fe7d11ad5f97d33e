"""GeoTIFFs written by windows, whole or not at all."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.errors import BenchError, first_line
from pansharp_bench.files import atomically

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.crs import CRS

SUFFIXES = (".tif", ".tiff")
_BESIDE = (".msk", ".msk.ovr", ".ovr", ".aux.xml")  # in which GDAL keeps masks, overviews and statistics
_BLOCK = 512  # pixels, a side: what is no larger needs no overview

Format = Literal["GTiff", "COG"]

Strips = Iterable[tuple[int, Tensor]]
"""(first row, (C, rows, W) values), from the top."""


def check_name(path: Path) -> None:
    """Raises BenchError for a name that no GeoTIFF has: better before the work than after."""
    if path.suffix.lower() not in SUFFIXES:
        raise BenchError(f"{path} is no name of a GeoTIFF; let it end in .tif")
    if path.is_dir():
        raise BenchError(f"{path} is a folder; name a file")


@contextmanager
def geotiff(
    path: Path,
    size: tuple[int, int],
    bands: Sequence[str],
    *,
    crs: CRS | str | None,
    transform: Affine | None,
    dtype: str = "float32",
    nodata: float | None = None,
    options: Mapping[str, str] | None = None,
    format: Format = "GTiff",
    overviews: bool = False,
    folder: Path | None = None,
) -> Iterator[Any]:
    """A GeoTIFF of ``size`` (height, width) to write windows to, which appears whole or not at all.

    Args:
        path: ends in .tif or .tiff.
        size: rows and columns of the whole.
        bands: a description each.
        crs: the coordinate reference system, as an authority's code or WKT.
        transform: from column and row to its coordinates.
        dtype: of the samples.
        nodata: the value that means none.
        options: GDAL's creation options; by default it is tiled and compressed without loss.
        format: ``COG``: a cloud-optimised GeoTIFF, which is made of a plain one that lies beside it until then; its
            creation options are those of GDAL's COG driver.
        overviews: smaller versions in the same file, each half the size of the one before, by averages; a COG has
            them anyway.
        folder: where it lies until it is whole, on the same disk; by default beside it.

    Raises BenchError for another suffix, an option that GDAL does not know or take, or where it cannot be written.
    """
    import rasterio
    import rasterio.shutil
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    check_name(path)
    height, width = size
    usual: dict[str, Any] = {"bigtiff": "if_safer"}
    # else GDAL takes bands of 8 bits for red, green, blue, and the fourth for alpha
    tiled = usual | {"tiled": True, "photometric": "minisblack"}
    given = {name.lower(): value for name, value in (options or {}).items()}
    if wrong := sorted(given.keys() & inspect.signature(rasterio.open).parameters.keys()):
        raise BenchError(
            f"{wrong[0].upper()} is no creation option of a GeoTIFF: it follows from PAN and the method"
        )
    predictor = 3 if np.dtype(dtype).kind == "f" else 2
    cog = format == "COG"
    if cog:
        of_cog = usual | {"compress": "deflate", "predictor": "yes", "overview_resampling": "average"} | given
        _try_cog(path, dtype, of_cog)
        creation = tiled | {"compress": "lzw", "predictor": predictor}
    else:
        creation = tiled | given
        if "compress" not in given:
            # the usual level 6 takes 2.5 times as long, for files 2 % smaller
            creation |= {"compress": "deflate", "predictor": predictor, "zlevel": 1}
    with atomically(path, folder=folder) as part, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        plain = part.with_suffix(".plain.tif") if cog else part
        try:
            with _gdal_warnings() as said:
                opened = rasterio.open(
                    plain, "w", driver="GTiff", width=width, height=height, count=len(bands), dtype=dtype, crs=crs,
                    transform=transform, nodata=nodata, **creation,
                )  # fmt: skip
            with opened as out:
                if given and said:  # GDAL would go on without the option
                    raise BenchError(f"{path} cannot be written so: {said[0]}")
                out.descriptions = tuple(bands)
                yield out
            if cog:
                rasterio.shutil.copy(plain, part, driver="COG", **of_cog)
            elif overviews:
                with rasterio.open(part, "r+") as out:
                    out.build_overviews(_factors(size), Resampling.average)
            if not _is_whole(part, sparse="sparse_ok" in given):
                raise BenchError(f"cannot write to {path}: the disk did not take all of it; is it full?")
        except RasterioError as error:
            raise BenchError(f"{path} cannot be written: {first_line(error)}") from error
        finally:
            if cog:
                plain.unlink(missing_ok=True)
    for suffix in _BESIDE:  # of a file that was there before; GDAL would take them for this one's
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _is_whole(path: Path, sparse: bool) -> bool:
    """Whether every block lies within the file: GDAL writes the last of them when a file is closed, and rasterio
    does not tell when that fails. ``sparse``: blocks may be left out."""
    import rasterio
    from rasterio.errors import RasterioError

    end = path.stat().st_size
    try:
        with rasterio.open(path) as file:
            separate = file.profile.get("interleave") == "band"
            for band in file.indexes if separate else file.indexes[:1]:
                for (row, column), _ in file.block_windows(band):
                    start, size = (
                        int(file.get_tag_item(f"BLOCK_{what}_{column}_{row}", "TIFF", bidx=band) or 0)
                        for what in ("OFFSET", "SIZE")
                    )
                    if not (start and size and start + size <= end) and not (sparse and not start):
                        return False
    except RasterioError:
        return False
    return True


def _factors(size: tuple[int, int]) -> list[int]:
    """Of overviews, as GDAL chooses them: halved until the image fits a block."""
    return [2**i for i in range(1, 32) if max(size) > _BLOCK * 2 ** (i - 1)]


def _try_cog(path: Path, dtype: str, options: Mapping[str, Any]) -> None:
    """Raises BenchError where GDAL would not make a COG with these options: it makes one when all else is done."""
    import rasterio.shutil
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import MemoryFile

    try:
        with (
            MemoryFile(ext=".tif") as small, MemoryFile(ext=".tif") as made, warnings.catch_warnings(),
            _gdal_warnings() as said,
        ):  # fmt: skip
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with small.open(driver="GTiff", width=16, height=16, count=1, dtype=dtype):
                pass
            rasterio.shutil.copy(small.name, made.name, driver="COG", **options)
    except RasterioError as error:
        raise BenchError(f"{path} cannot be written so: {first_line(error)}") from error
    if said:
        raise BenchError(f"{path} cannot be written so: {said[0]}")


@contextmanager
def _gdal_warnings() -> Iterator[list[str]]:
    """What GDAL warns of meanwhile, which rasterio leaves to its log."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("rasterio._env")
    log.addHandler(handler)
    try:
        yield said
    finally:
        log.removeHandler(handler)


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
    """Write a raster of ``size`` (height, width) strip by strip, as :func:`geotiff` does.

    ``strips`` cover all rows, and their values are converted as they are; an error they raise leaves nothing
    behind. ``tags`` are of the whole file.
    """
    from rasterio.windows import Window

    with geotiff(path, size, bands, crs=crs, transform=transform, dtype=dtype, nodata=nodata) as out:
        out.update_tags(**(tags or {}))
        for row, strip in strips:
            values = strip.cpu().numpy().astype(dtype, copy=False)
            out.write(values, window=Window(0, row, size[1], strip.shape[1]))
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
    return total / F.avg_pool2d(known.float(), block)  # NaN where no value is known
