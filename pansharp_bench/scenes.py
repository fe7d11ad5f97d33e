"""Scenes in files: a PAN and an MS raster become a fused one, on PAN's grid."""

from __future__ import annotations

import math
import os
import shutil
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import check_writable, sha256_of
from pansharp_bench.imaging.registration import Read, Registration, measure
from pansharp_bench.method import named_method
from pansharp_bench.raster import (
    Format,
    Grid,
    Placement,
    Raster,
    aligned,
    check_name,
    geotiff,
    held,
    in_unit_of,
    misfit,
    place,
    relate,
    relate_counts,
)
from pansharp_bench.record import canonical
from pansharp_bench.registry import METHODS, load_plugin, loaded_plugins
from pansharp_bench.scene import Sensor
from pansharp_bench.sensors import sensor_given, unknown_sensor
from pansharp_bench.source import source_of
from pansharp_bench.tiles import TiledFusion, fuse_pair
from pansharp_bench.unfinished import Tile, Unfinished
from pansharp_bench.weights import located

Align = Literal["geo", "counts", "toolbox"]
Paths = str | Path | Sequence[str | Path]

MEMORY = 2 << 30
"""Bytes that fusing takes by default, whatever the scene's size."""
_COPIES = 24  # float64 images of all bands that a method holds at a time, halo aside
_ITSELF = 256 << 20  # bytes that the program takes before any image
_CACHE = 8  # the part of memory, as 1 / this, in which GDAL may keep blocks of files
_ARRAY = 24 << 20
"""Bytes of one of these, halo aside, at which to stop: beyond 32 MiB glibc asks the system for every array anew and
gives it back, so that a sum takes four times as long."""
_STRIP = 1 << 17  # values that are made samples at a time: so few that they stay in the processor's cache
_MIDDLE = 128  # MS or PAN pixels a side, of the part that is looked at for values in [0, 1]
_CORNER = 8  # MS pixels a side, of a corner that is looked at for fill
_CLIPPED = 0.02  # of all values: more is no matter of dark pixels and overshoots
_WHICH = "say which is which by --bands, e.g. --bands 3,2,1,4"
_FAR = 0.5  # PAN pixels of residual offset that are worth a warning


@dataclass(frozen=True)
class SensorFigures:
    """What is known of a sensor that has no name: the largest DN, and perhaps MTF gains and the ratio."""

    peak: float
    mtf: tuple[float, ...] = ()
    ratio: int | None = None


@dataclass(frozen=True)
class RasterPair:
    """A :class:`~pansharp_bench.tiles.Pair` of rasters, cut to the whole MS pixels that both cover.

    Values are in the DN of PAN: where the files give scales and offsets, MS is brought to PAN's. ``named`` says
    whether the bands were found by their names, or taken in the order of the file.
    """

    pan: Raster
    ms: Raster
    sensor: Sensor
    placement: Placement
    named: bool

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in PAN pixels."""
        return self.placement.pan_size

    @property
    def grid(self) -> Grid:
        """Of the part of PAN that is fused."""
        return self.pan.grid.window(*self.placement.pan, self.size)

    def read_pan(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor | None]:
        """See :class:`~pansharp_bench.tiles.Pair`."""
        return self.pan.read(*_moved((rows, cols), self.placement.pan))

    def read_ms(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor | None]:
        """See :class:`~pansharp_bench.tiles.Pair`."""
        values, valid = self.ms.read(*_moved((rows, cols), self.placement.ms))
        return in_unit_of(self.pan, self.ms, values), valid

    def registration(self) -> Registration:
        """The offset of MS that is left, as :func:`~pansharp_bench.imaging.registration.measure` finds it."""
        at = self.placement
        return measure(self.read_pan, self.read_ms, at.size, at.ratio, at.phase)

    def registered(self, found: Registration) -> RasterPair:
        """The same pair with MS where it was found to lie."""
        by, at = found.median, self.placement
        moved = (at.centre[0] - by[0], at.centre[1] - by[1])
        return self._placed(place(moved, at.ratio, self.pan.grid.size, self.ms.grid.size))

    def within(self, row: int, column: int, size: tuple[int, int]) -> RasterPair:
        """The same pair, where a raster lies that begins at this row and column of PAN and has this size.

        Raises DataError where no whole MS pixel does.
        """
        at, ends = self.placement, (row + size[0], column + size[1])
        first = [max(0, -((p - start) // at.ratio)) for p, start in zip(at.pan, (row, column), strict=True)]
        last = [min(n, (end - p) // at.ratio) for p, n, end in zip(at.pan, at.size, ends, strict=True)]
        count = (last[0] - first[0], last[1] - first[1])
        if min(count) < 1:
            raise DataError("the images have no ground in common")
        return self._placed(
            replace(
                at,
                pan=(at.pan[0] + at.ratio * first[0], at.pan[1] + at.ratio * first[1]),
                ms=(at.ms[0] + first[0], at.ms[1] + first[1]),
                size=count,
            )
        )

    def _placed(self, placement: Placement) -> RasterPair:
        known = self.sensor.phase is not None
        return replace(
            self, placement=placement, sensor=replace(self.sensor, phase=placement.phase if known else None)
        )


def _moved(window: tuple[slice, slice], start: tuple[int, int]) -> tuple[slice, slice]:
    rows, cols = (slice(w.start + s, w.stop + s) for w, s in zip(window, start, strict=True))
    return rows, cols


@contextmanager
def open_pair(
    pan: str | Path,
    ms: Paths,
    sensor: str | Sensor | SensorFigures,
    *,
    align: Align = "geo",
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    warp: bool = False,
    resample: bool = False,
) -> Iterator[RasterPair]:
    """The pair of a PAN and an MS raster (or one file a band), open for reading.

    Args:
        pan: of one band.
        ms: its bands are found by description or colour interpretation where the files name them.
        sensor: a registered name, a TOML file, a Sensor, or what is known of one.
        align: ``geo``: by both transforms. ``counts``: the images begin at the same corner, and the numbers of
            pixels give the ratio. ``toolbox``: likewise, but MS pixel 0 is centred on PAN pixel ratio // 2.
        bands: the bands of ``ms`` in the sensor's order, numbered from 1 over all its files.
        nodata: a pixel that has this value in every band has none, whatever else the files declare.
        warp: resample an MS that is in another coordinate system than PAN, rotated or mirrored against it, onto a
            grid that lies on PAN's; PAN is never resampled.
        resample: likewise an MS whose pixels are no whole number of PAN pixels in size.

    Warns where whole corners have one value, 0 or none of the sensor's, and nothing says that it means none.

    Raises:
        DataError: files that cannot be read, or do not belong together.
        BenchError: a sensor that does not fit them.
    """
    _one_of("align", align, Align)
    mends = {name for name, asked in (("warp", warp), ("resample", resample)) if asked}
    if mends and align != "geo":
        raise BenchError(
            f"--{max(mends)} goes by the georeferences, which --align {align} sets aside: leave one of them out"
        )
    with Raster(pan, "PAN", nodata) as fine, Raster(ms, "MS", nodata) as coarse:
        if nodata is not None and not (math.isfinite(nodata) and {fine.fill, coarse.fill} != {None}):
            raise BenchError(
                f"nodata {nodata:g} is no number that samples of PAN ({fine.dtype}) or MS ({coarse.dtype}) can be "
                "(NaN and infinities are no values anyway)"
            )
        if len(fine) != 1:
            raise DataError(f"PAN {pan} has {len(fine)} bands where one is expected: are PAN and MS swapped?")
        if align == "geo":
            if (found := misfit(fine.grid, coarse.grid)) and found.mend in mends:
                coarse.onto(aligned(fine.grid, coarse.grid))
            ratio, centre = relate(fine.grid, coarse.grid)
        else:
            ratio = relate_counts(fine.grid, coarse.grid)
            centre = ((ratio - 1) / 2,) * 2 if align == "counts" else (float(ratio // 2),) * 2
        if ratio & (ratio - 1):
            raise DataError(
                f"an MS pixel of these files is {ratio} PAN pixels wide, and images expand by powers of two: bring "
                f"MS to {1 << ratio.bit_length() - 1} PAN pixels first, e.g. by gdalwarp -tr … -r lanczos"
            )
        if bands:
            if double := [band for band in set(bands) if bands.count(band) > 1]:
                raise BenchError(f"--bands names band {double[0]} twice")
            coarse.choose(bands)
        camera = _camera(sensor, coarse.names, ratio)
        if camera.ratio != ratio:
            raise BenchError(
                f"{camera.title} has ratio {camera.ratio}, but an MS pixel of these files is {ratio} PAN pixels "
                "wide: is it another sensor? (A TOML file of your own may say ratio = …)"
            )
        if bands and len(bands) != camera.channels:
            raise BenchError(
                f"--bands names {len(bands)} bands, but {camera.title} has {camera.channels}: "
                f"{', '.join(camera.bands)}"
            )
        named = bool(bands) or coarse.choose_named(camera.bands, _WHICH)
        at = place(centre, ratio, fine.grid.size, coarse.grid.size)
        phase = None if align == "toolbox" else at.phase
        pair = RasterPair(fine, coarse, replace(camera, phase=phase), at, named)
        _warn_of_fill(pair)
        yield pair


def _one_of(name: str, given: str, kind: Any) -> None:
    if given not in get_args(kind):
        raise BenchError(f"{name} is {given!r}, where one of {', '.join(get_args(kind))} is expected")


def _warn_of_fill(pair: RasterPair) -> None:
    """Many products are filled with one value around a rotated scene, and do not say so."""
    at, r = pair.placement, pair.placement.ratio
    (h, w), found = at.size, []
    side = min(_CORNER, h, w)
    for row, column in ((0, 0), (0, w - side), (h - side, 0), (h - side, w - side)):
        coarse = slice(row, row + side), slice(column, column + side)
        fine = slice(r * row, r * (row + side)), slice(r * column, r * (column + side))
        looks = pair.pan.read(*_moved(fine, at.pan)), pair.ms.read(*_moved(coarse, at.ms))
        if all(valid is None or valid.all() for _, valid in looks):
            values = torch.cat([values.flatten() for values, _ in looks])
            least, most = values.aminmax()
            if least == most and not 0 < least <= pair.sensor.peak:
                found.append(f"{least.item():.9g}")
    if found:
        warnings.warn(
            f"{len(found)} of the scene's 4 corners hold nothing but {found[0]} in PAN and MS: where that is fill, "
            f"--nodata {found[0]} (nodata={found[0]}) keeps it out of statistics, scores and the result",
            stacklevel=4,
        )


def warn_if_normalised(name: str, sensor: Sensor, size: tuple[int, int], read: Read) -> bool:
    """Whether the middle of an image of this ``size`` holds nothing but values in [0, 1], where networks and
    indices are of the sensor's DN; that is warned of. Zeros alone are no values."""
    rows, cols = (slice(n // 3, min(n, n // 3 + _MIDDLE)) for n in size)
    values, valid = read(rows, cols)
    values = values if valid is None else values[:, valid]
    scaled = values.numel() > 0 and sensor.looks_normalised(*(v.item() for v in values.aminmax()))
    if scaled:
        warnings.warn(
            f"{name}: all values lie in [0, 1] where the sensor's peak is {sensor.peak:g}; networks, and indices "
            "such as HQNR and Q2n, are of digital numbers, so that results and scores say little: bring images "
            f"to these, e.g. by gdal_translate -scale 0 1 0 {sensor.peak:g}",
            stacklevel=3,
        )
    return scaled


def _camera(sensor: str | Sensor | SensorFigures, bands: Sequence[str], ratio: int) -> Sensor:
    if isinstance(sensor, SensorFigures):
        return unknown_sensor(bands, sensor.peak, sensor.ratio or ratio, sensor.mtf)
    return sensor if isinstance(sensor, Sensor) else sensor_given(sensor)


@dataclass(frozen=True)
class FusedFile:
    """What was written: ``phase`` of MS on PAN, the kernel by which MS was ``resampled`` onto PAN's grid ("" where
    it lay there), the ``registration`` that was measured then and whether it was corrected (``registered``),
    whether bands were found by their names (``named``), the ``valid`` share of the pixels, values ``clipped`` to
    the type's range, values ``beyond`` 1.5 times the sensor's peak, and the mean and largest difference at the
    ``seam`` of tiles, of a method that would see the whole."""

    path: Path
    bands: tuple[str, ...]
    size: tuple[int, int]
    dtype: str
    sensor: Sensor
    phase: tuple[float, float]
    resampled: str
    registration: Registration
    registered: bool
    named: bool
    valid: float
    clipped: int
    beyond: int
    seam: tuple[float, float] | None
    seconds: float

    @property
    def remarks(self) -> list[str]:
        """What speaks against it."""
        found = [] if self.registered else misregistered(self.registration)
        values = math.prod(self.size) * len(self.bands) * self.valid
        if self.clipped > _CLIPPED * values:
            found.append(
                f"{self.clipped / values:.0%} of the values are beyond the range of {self.dtype}, and clipped: "
                "--dtype names a type that holds them"
            )
        if self.beyond:
            found.append(
                f"{self.beyond} values lie beyond 1.5 times the sensor's peak of {self.sensor.peak:g}, or as far "
                "below zero: is it the right sensor, and the right method for such a scene? Is there fill that no "
                "file declares (--nodata)?"
            )
        if self.seam:
            found.append(
                "the method sees tiles where it would see the whole: neighbouring tiles differ by "
                f"{self.seam[0]:.3g} DN on average, {self.seam[1]:.3g} at most"
            )
        return found


def misregistered(found: Registration) -> list[str]:
    """What is to be said of an offset or drift that is large, or not known; else nothing."""
    if not found.judged:
        return [str(found)]
    said = []
    if found.size > _FAR:
        said.append(f"PAN and MS are misregistered: {found}. --register corrects the offset")
    if math.hypot(*found.drift) > 2 * _FAR:
        said.append(
            f"PAN and MS drift apart by {found.drift[0]:.2f} rows and {found.drift[1]:.2f} columns over the scene, "
            "which no one offset mends: are their pixel sizes right, and both orthorectified alike?"
        )
    return said


def fuse_files(
    pan: str | Path,
    ms: Paths,
    out: str | Path,
    method: str = "",
    *,
    sensor: str | Sensor | SensorFigures,
    weights: str | Path | None = None,
    align: Align = "geo",
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    warp: bool = False,
    resample: bool = False,
    register: bool = False,
    dtype: str | None = None,
    tile: int | None = None,
    memory: int = MEMORY,
    threads: int = 1,
    scheduler: str = "",
    approximate: bool = False,
    options: Mapping[str, str] | None = None,
    format: Format = "GTiff",
    overviews: bool = False,
    resume: bool = False,
    force: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> FusedFile:
    """Fuse a PAN and an MS raster into a GeoTIFF on PAN's grid, over the whole MS pixels that both cover.

    Where MS lies on PAN is computed from both transforms (``align="geo"``), and the offset that is left is
    measured and said in the file's metadata, with version, method, sensor and weights. Pixels without a value
    (nodata, mask or alpha of either file) take no part and have none in the result. The result appears whole or
    not at all; what is finished of it lies in ``.<name>.part`` beside it until then.

    Args:
        pan, ms, sensor, align, bands, nodata, warp, resample: see :func:`open_pair`.
        out: the GeoTIFF to be written; one that is there is replaced.
        method: a registered method; may be left out where weights say it, as those do that a run saved.
        weights: of a trained method.
        register: correct the measured offset, where it can be judged.
        dtype: of the samples, PAN's by default; integers are rounded and saturated.
        tile: side of a tile in PAN pixels; by default what ``memory`` (bytes) holds.
        threads: tiles fused at the same time.
        scheduler: address of a Dask scheduler, ``tcp://host:8786``, whose workers fuse the tiles, with the same
            result; they reach the same files by the same paths. ``memory`` is then of each of their threads.
        approximate: let a method that looks at the whole scene at once look at tiles.
        options: GDAL's creation options, e.g. ``{"COMPRESS": "ZSTD"}``.
        format: ``COG`` for a cloud-optimised GeoTIFF; ``options`` are then those of GDAL's COG driver.
        overviews: with smaller versions in the file, which a COG has anyway.
        resume: go on with an interrupted fusion of the same files and options, with the same result.
        force: begin anew where there is an interrupted one.
        progress: called with the share done.

    Returns:
        A :class:`FusedFile`: the file and what was found on the way. Its ``remarks`` are also given as warnings.

    Raises:
        DataError: files that cannot be read, or do not belong together.
        BenchError: a sensor or method that does not fit, a file that cannot be written, an interrupted fusion that
            is neither to be resumed nor replaced, or none to resume, or of other files or options.
    """
    import rasterio

    _one_of("format", format, Format)
    for name, number in (("threads", threads), ("memory", memory), ("tile", 1 if tile is None else tile)):
        if number < 1:
            raise BenchError(f"{name} is {number}, where a number above 0 is expected")
    if resume and force:
        raise BenchError("--resume goes on with what --force would drop: leave one of them out")
    if scheduler and threads > 1:
        raise BenchError("--threads are of this machine, and --scheduler has its own: leave one of them out")
    out, start = Path(out), time.perf_counter()
    check_name(out)
    method = named_method(method, weights)
    if register and align == "toolbox":
        raise BenchError(
            "align 'toolbox' says where MS lies, and register would move it: leave one of them out"
        )
    with (
        rasterio.Env(GDAL_CACHEMAX=max(16 << 20, memory // _CACHE)),
        open_pair(
            pan, ms, sensor, align=align, bands=bands, nodata=nodata, warp=warp, resample=resample
        ) as pair,
    ):
        _refuse_overwriting(out, pair)
        check_writable(out.parent)
        kind = _type(dtype or pair.pan.dtype)
        side = tile or _tile(memory, pair.sensor, threads)
        whole = max(pair.size) <= side
        if not resume:
            _refuse_too_large(out, pair, kind, whole)
        work = Unfinished(out)
        made_of = _made_of(pair, method, weights)
        plan = {
            **made_of,
            "sensor": pair.sensor.facts(),
            "align": align,
            "bands": bands,
            "nodata": nodata,
            "warp": warp,
            "resample": resample,
            "register": register,
            "dtype": kind.name,
            "tile": side,
            "approximate": approximate,
        }
        warn_if_normalised("MS", pair.sensor, pair.placement.size, pair.read_ms)
        with work.held(plan, resume, force), ExitStack() as stack:
            found = pair.registration()
            elsewhere, camera = None, pair.sensor
            if moved := register and found.judged:
                pair = pair.registered(found)
            none = _nodata(pair, kind)
            how: dict[str, Any] = {
                "tile": side,
                "weights": weights and Path(weights).absolute(),
                "approximate": approximate,
                "border": "toolbox" if align == "toolbox" else "mirror",
            }
            if scheduler:
                from pansharp_bench.cluster import on_workers

                files = {
                    "pan": _absolute(pan), "ms": _absolute(ms), "sensor": camera, "align": align, "bands": bands,
                    "nodata": nodata, "warp": warp, "resample": resample,
                }  # fmt: skip
                opened = partial(
                    _opened, method, files, found if moved else None, how, loaded_plugins(), made_of
                )
                elsewhere = stack.enter_context(on_workers(scheduler, opened))
            running = fuse_pair(
                method,
                pair,
                **how,
                threads=threads,
                elsewhere=elsewhere,
                progress=progress,
                reached=work.reached(),
                surveyed=work.keep_statistics,
            )
            counted = {"clipped": 0, "valid": 0}
            grid, camera = pair.grid, pair.sensor
            own = {"NUM_THREADS": str(threads)} | dict(options or {}) if threads > 1 else options
            with geotiff(
                out, pair.size, camera.bands, crs=grid.crs, transform=grid.transform, dtype=kind.name,
                nodata=none, options=own, format=format, overviews=overviews, folder=work.folder,
            ) as file:  # fmt: skip
                scale, offset = pair.pan.scaling[0]
                if (scale, offset) != (1.0, 0.0):
                    file.scales, file.offsets = (scale,) * camera.channels, (offset,) * camera.channels
                for kept in work.finished():
                    file.write(kept.samples.numpy(), window=kept.window)
                    counted = {name: kept.counted[name] for name in counted}
                for rows, cols, fused, mask in running:
                    samples, lost = as_samples(fused, mask, kind, none)
                    counted["clipped"] += lost
                    counted["valid"] += fused[0].numel() if mask is None else int(mask.sum())
                    window = (rows.start, rows.stop), (cols.start, cols.stop)
                    if len(running) > 1:
                        told = {**counted, "beyond": running.beyond, "seams": running.reached.seams}
                        work.keep(running.reached.tiles, Tile(torch.from_numpy(samples), window, told))
                    file.write(samples, window=window)
                if not counted["valid"]:
                    raise DataError("no pixel has a value in both PAN and MS: all is nodata or masked")
                file.update_tags(**_tags(method, weights, pair, found, moved))
        done = FusedFile(
            out, camera.bands, pair.size, kind.name, camera, pair.placement.phase, pair.ms.resampled, found, moved,
            pair.named, counted["valid"] / math.prod(pair.size), counted["clipped"], running.beyond, running.seam,
            time.perf_counter() - start,
        )  # fmt: skip
    for text in done.remarks:
        warnings.warn(text, stacklevel=2)
    return done


@contextmanager
def _opened(
    method: str,
    files: Mapping[str, Any],
    moved: Registration | None,
    how: Mapping[str, Any],
    plugins: Sequence[Path],
    made_of: Mapping[str, Any],
) -> Iterator[TiledFusion]:
    """A worker's own of the fusion that :func:`fuse_files` describes. Raises BenchError where its tiles would be
    made of something else."""
    for path in plugins:
        load_plugin(path)
    with open_pair(**files) as pair:
        own = _made_of(pair, method, how["weights"])
        if differ := [f"{k} is {own[k]}, not {made_of[k]}" for k in own if own[k] != made_of[k]]:
            raise BenchError(
                f"a worker on {socket.gethostname()} would make other tiles: {'; '.join(differ)}"
            )
        yield fuse_pair(method, pair.registered(moved) if moved else pair, **how)


def _made_of(pair: RasterPair, method: str, weights: str | Path | None) -> dict[str, Any]:
    """What the tiles depend on beside options."""
    from pansharp_bench import __version__

    return {
        "pansharp-bench": __version__,
        "torch": torch.__version__,
        "method": method,
        "code": source_of(METHODS.get(method)),
        "weights": weights and (located(Path(weights))[1], sha256_of(located(Path(weights))[0])),
        "pan": _fingerprint(pair.pan),
        "ms": _fingerprint(pair.ms),
    }


def _absolute(paths: Paths) -> list[Path] | Path:
    return Path(paths).absolute() if isinstance(paths, (str, Path)) else [Path(p).absolute() for p in paths]


def _refuse_overwriting(out: Path, pair: RasterPair) -> None:
    for raster in (pair.pan, pair.ms):
        if out.exists() and any(os.path.samefile(out, path) for path in raster.files):
            raise BenchError(f"{out} is one of the files to be read; write to another")


def _refuse_too_large(out: Path, pair: RasterPair, kind: np.dtype, whole: bool) -> None:
    """Raises BenchError where the disk has no room for the finished tiles (none where it is one tile, ``whole``)
    and the result, even if that could be compressed to a quarter."""
    needed = math.prod(pair.size) * pair.sensor.channels * kind.itemsize
    free = shutil.disk_usage(out.parent).free
    if needed * (0.25 if whole else 1.25) > free:
        raise BenchError(
            f"{out} would hold {pair.size[0]} x {pair.size[1]} pixels, {needed / 2**30:.3g} GiB, and {out.parent} "
            f"has {free / 2**30:.3g} GiB left: choose another folder, or look whether {pair.pan.path} is sound"
        )


def _fingerprint(raster: Raster) -> list[tuple[str, int, int]]:
    """Name, bytes and time of the last change of its files."""
    return [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in raster.files]


def _type(name: str) -> np.dtype:
    from rasterio.dtypes import check_dtype

    try:
        kind = np.dtype(name)
    except TypeError:
        kind = np.dtype(object)
    if kind.kind not in "uif" or not check_dtype(kind.name):
        raise BenchError(
            f"{name!r} is no type of samples; take uint8, uint16, int16, int32, float32 or float64"
        )
    return kind


def _tile(memory: int, sensor: Sensor, threads: int) -> int:
    free = memory - memory // _CACHE - _ITSELF
    side = math.isqrt(max(1, free // (_COPIES * 8 * (sensor.channels + 1) * threads)))
    side = min(side, math.isqrt(_ARRAY // (8 * sensor.channels)))
    step = 64 * sensor.ratio
    return max(step, side // step * step)


def _nodata(pair: RasterPair, kind: np.dtype) -> float | None:
    """The value that means none in the result: PAN's, MS's, or NaN or 0 where a mask alone says so."""
    for own in (pair.pan.nodata, pair.ms.nodata):
        if own is not None and (value := held(own, kind)) is not None:
            return value
    if not (pair.pan.masked or pair.ms.masked):
        return None
    return math.nan if kind.kind == "f" else 0


def as_samples(
    fused: Tensor, valid: Tensor | None, kind: np.dtype, nodata: float | None
) -> tuple[np.ndarray, int]:
    """As the file's type: saturated, and rounded where it holds integers. Also how many values that changed by more
    than rounding. A value that happens to be the one that means none becomes its neighbour."""
    rows = max(1, _STRIP // fused[:, 0].numel())
    strips = fused.split(rows, 1)
    known = [None] * len(strips) if valid is None else valid.split(rows)
    made = [_samples(*part, kind, nodata) for part in zip(strips, known, strict=True)]
    return np.concatenate([samples for samples, _ in made], 1), sum(clipped for _, clipped in made)


def _samples(
    fused: Tensor, valid: Tensor | None, kind: np.dtype, nodata: float | None
) -> tuple[np.ndarray, int]:
    values = fused.numpy()  # NumPy finds extremes and rounds in a third of the time
    known = np.True_ if valid is None else valid.numpy()
    least, most = values.min(), values.max()
    if np.isnan(least):
        known = known & ~np.isnan(values)
    clipped = 0
    limits = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    low, high = float(limits.min), float(limits.max)
    if kind.kind != "f":
        values = np.rint(values)
    if not low <= least <= most <= high:
        clipped = int(np.count_nonzero(((values < low) | (values > high)) & known))
        values = values.clip(low, high)
    if nodata is None:
        return values.astype(kind), clipped
    samples = np.where(known, values, nodata).astype(kind)
    samples[(samples == nodata) & known] = _beside(nodata, kind)
    return samples, clipped


def _beside(value: float, kind: np.dtype) -> float:
    """The neighbour of a value among those of a type: of floats the nearest that GDAL tells from it."""
    if kind.kind == "f":
        limits = np.finfo(kind)
        return value + max(8 * float(limits.eps) * abs(value), float(limits.tiny))
    return value + (1 if value < np.iinfo(kind).max else -1)


def _tags(
    method: str, weights: str | Path | None, pair: RasterPair, found: Registration, registered: bool
) -> dict[str, str]:

    from pansharp_bench import __version__

    tags = {
        "SOFTWARE": f"pansharp-bench {__version__}",
        "METHOD": method,
        "SENSOR": canonical(pair.sensor.facts()),
        "PHASE": canonical(pair.placement.phase),
        "REGISTRATION": canonical({**found.facts(), "corrected": registered}),
    }
    if pair.ms.resampled:
        tags["MS_RESAMPLED"] = pair.ms.resampled
    if weights:
        file, name = located(Path(weights))
        tags["WEIGHTS_SHA256"] = sha256_of(file)
        if name:
            tags["WEIGHTS_NAME"] = name
    return {f"PANSHARP_{key}": value for key, value in tags.items()}
