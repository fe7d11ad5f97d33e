"""GeoTIFF: rasters with their place on the ground, read and written by windows, so that none need fit in memory."""

from __future__ import annotations

import inspect
import logging
import math
import re
import shlex
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.sax.saxutils import escape

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.errors import BenchError, DataError
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


# -- grids --


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie: ``size`` (rows, columns), the ``transform`` from column and row to
    coordinates of ``crs``. ``name`` is for messages. Without a georeference ``transform`` is None; ``rpc`` says
    that the file describes its place by a camera model or by tie points instead.
    """

    name: str
    size: tuple[int, int]
    transform: Affine | None = None
    crs: CRS | None = None
    rpc: bool = False

    def window(self, row: int, column: int, size: tuple[int, int]) -> Grid:
        """The grid of a part of it."""
        if self.transform is None:
            return Grid(self.name, size)
        t = self.transform
        x, y = t.c + column * t.a + row * t.b, t.f + column * t.d + row * t.e
        return Grid(self.name, size, type(t)(t.a, t.b, x, t.d, t.e, y), self.crs)


@dataclass(frozen=True)
class Placement:
    """Where MS lies on PAN, over the whole MS pixels that both cover.

    ``pan`` and ``ms`` are the first row and column of that part on their grids, ``size`` its rows and columns in MS
    pixels; on it the centre of MS pixel (0, 0) lies on PAN row and column ``phase``, counted in PAN pixels from the
    centre of PAN pixel (0, 0). ``centre`` is where MS pixel (0, 0) of the whole lies on the whole of PAN.
    """

    ratio: int
    centre: tuple[float, float]
    phase: tuple[float, float]
    pan: tuple[int, int]
    ms: tuple[int, int]
    size: tuple[int, int]

    @property
    def pan_size(self) -> tuple[int, int]:
        """Rows and columns of the part in PAN pixels."""
        return self.size[0] * self.ratio, self.size[1] * self.ratio


def place(centre: tuple[float, float], ratio: int, pan: tuple[int, int], ms: tuple[int, int]) -> Placement:
    """The placement of an MS grid of size ``ms`` whose pixel (0, 0) is centred at row and column ``centre`` of a
    PAN grid of size ``pan``.

    Every MS pixel is given the ratio x ratio PAN pixels nearest to it; where two choices are equally near (a phase
    of 0 or 1 at ratio 2) the one that keeps more pixels, or else the smaller phase.

    Raises DataError where no whole MS pixel lies on PAN.

    >>> place((1.5, 1.5), 4, (64, 64), (16, 16)).phase  # a common corner
    (1.5, 1.5)
    >>> place((0.0, 0.0), 2, (31, 31), (16, 16)).phase  # common centres, as Landsat's
    (0.0, 0.0)
    """
    parts = [_overlap(c, ratio, p, m) for c, p, m in zip(centre, pan, ms, strict=True)]
    phase, pan_start, ms_start, count = zip(*parts, strict=True)
    if min(count) < 1:
        raise DataError(
            "PAN and MS have no ground in common (no whole MS pixel lies on PAN): MS pixel (0, 0) would lie at row "
            f"{centre[0]:.6g} and column {centre[1]:.6g} of {pan[0]} x {pan[1]} PAN pixels. Are they of one scene?"
        )
    return Placement(ratio, centre, phase, pan_start, ms_start, count)


def _overlap(centre: float, ratio: int, pan: int, ms: int) -> tuple[float, int, int, int]:
    """Of one axis: phase, first PAN pixel, first MS pixel, number of MS pixels."""
    nearest = centre - (ratio - 1) / 2
    found = []
    for start in {math.floor(nearest + 0.5 + 1e-6), math.ceil(nearest - 0.5 - 1e-6)}:
        first = max(0, -(start // ratio))
        count = min(ms, (pan - start) // ratio) - first
        found.append((count, start, (round(centre - start, 6) + 0.0, start + ratio * first, first, count)))
    return max(found)[2]


Mend = Literal["warp", "resample"]


@dataclass(frozen=True)
class Misfit:
    """Why MS does not lie on whole pixels of PAN, and by which resampling it would: ``warp`` where coordinate
    systems or directions differ, ``resample`` where the pixel sizes alone do."""

    why: str
    mend: Mend


_MENDS: dict[Mend, str] = {
    "warp": "--warp resamples it onto PAN's grid",
    "resample": "--resample brings MS to whole ones; or, where the sizes are known to be wrong and the counts of "
    "pixels right, --align counts",
}


def misfit(pan: Grid, ms: Grid) -> Misfit | None:
    """What keeps MS from lying on PAN as it is. Raises DataError where no resampling would help: a georeference is
    missing, or PAN and MS seem to be swapped."""
    for grid in (pan, ms):
        if grid.transform is None and grid.rpc:
            raise DataError(
                f"{grid.name} tells its place by a camera model (RPC) or tie points alone, and that depends on "
                "heights: orthorectify PAN and MS first, e.g. by gdalwarp -rpc -to RPC_DEM=dem.tif"
            )
        if grid.transform is None:
            raise DataError(
                f"{grid.name} has no georeference, so that where MS lies on PAN is not known. Say how the grids "
                "lie: --align counts (they begin at the same corner), or --align toolbox (as the field's toolbox "
                "assumes: the first MS pixel is centred on PAN pixel ratio/2)"
            )
    if pan.crs != ms.crs:
        if not (pan.crs and ms.crs):
            raise DataError(
                f"{pan.name} is in {_named(pan.crs)} and {ms.name} in {_named(ms.crs)}: name the one that is "
                "missing, e.g. by gdal_edit.py -a_srs EPSG:…"
            )
        return Misfit(f"{pan.name} is in {_named(pan.crs)} and {ms.name} in {_named(ms.crs)}", "warp")
    t = within(pan, ms)
    if max(abs(t.b), abs(t.d)) > 1e-9 * max(abs(t.a), abs(t.e)):
        return Misfit(f"{ms.name} is rotated or sheared against {pan.name}", "warp")
    if min(t.a, t.e) < 0:
        return Misfit(f"{ms.name} is mirrored against {pan.name}", "warp")
    shown = f"{t.e:.6g} x {t.a:.6g}"
    if max(t.a, t.e) < 1:
        raise DataError(
            f"the pixels of {ms.name} are finer than those of {pan.name} (ratio {shown}): are PAN and MS swapped?"
        )
    if max(abs(r - round(t.e)) for r in (t.a, t.e)) > 1e-3:
        return Misfit(
            f"pixels of {ms.name} are {shown} PAN pixels in size, which is no whole number to 0.001: their place "
            "would drift over the scene",
            "resample",
        )
    return None


def relate(pan: Grid, ms: Grid, mends: Mapping[Mend, str] = _MENDS) -> tuple[int, tuple[float, float]]:
    """The ratio of the pixel sizes, and at which row and column of PAN the centre of MS pixel (0, 0) lies.

    Raises DataError where MS does not lie on whole pixels of PAN (see :func:`misfit`): its place is in another
    coordinate system, rotated, mirrored or not known, or the ratio is no whole number to 1e-3. ``mends``: the ways
    out that it names.
    """
    if found := misfit(pan, ms):
        raise DataError(f"{found.why}: {mends[found.mend]}")
    t = within(pan, ms)
    ratio = round(t.e)
    middle = [(n - 1) / 2 for n in ms.size]  # where what the ratio lacks of a whole number is felt least
    row, column = (
        round(start + (i + 0.5) * exact - 0.5 - i * ratio, 6) + 0.0  # never -0
        for start, exact, i in zip((t.f, t.c), (t.e, t.a), middle, strict=True)
    )
    return ratio, (row, column)


def within(pan: Grid, other: Grid) -> Affine:
    """From column and row of another grid in the same coordinate system to those of PAN, counted from corners."""
    assert pan.transform is not None and other.transform is not None
    a, b = pan.transform, other.transform
    linear = np.array([[a.a, a.b], [a.d, a.e]])
    # corners are subtracted first: coordinates have many digits
    (xx, xy, x), (yx, yy, y) = np.linalg.solve(
        linear, [[b.a, b.b, b.c - a.c], [b.d, b.e, b.f - a.f]]
    ).tolist()
    return type(a)(xx, xy, x, yx, yy, y)


def aligned(pan: Grid, ms: Grid) -> Grid:
    """The grid for MS that lies on PAN: its pixels are ``ratio`` x ``ratio`` PAN pixels, counted from PAN's corner,
    of the whole ratio that is nearest to MS's own pixels in the middle of MS. It holds the pixels of PAN's ground
    whose centres lie within the rows and columns that MS reaches.

    Raises DataError where these are none, or where MS is finer than PAN.
    """
    from rasterio.errors import RasterioError
    from rasterio.warp import transform

    assert pan.transform is not None and ms.transform is not None
    (height, width), back = ms.size, ~pan.transform

    def on_pan(columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = _at(ms.transform, columns, rows)
        if pan.crs != ms.crs:
            x, y = (np.array(values) for values in transform(ms.crs, pan.crs, x, y))
        return _at(back, x, y)

    try:
        # half a pixel to every side of the middle: how large a pixel is there
        x, y = on_pan(width / 2 + np.array([-0.5, 0.5, 0, 0]), height / 2 + np.array([0, 0, -0.5, 0.5]))
        area = abs((x[1] - x[0]) * (y[3] - y[2]) - (x[3] - x[2]) * (y[1] - y[0]))
        along = np.linspace(0, 1, 33)
        edge, far = np.zeros_like(along), np.ones_like(along)
        outline = on_pan(
            width * np.concatenate([along, along, edge, far]),
            height * np.concatenate([edge, far, along, along]),
        )
    except RasterioError as error:
        raise DataError(
            f"{ms.name} cannot be brought from {_named(ms.crs)} to {_named(pan.crs)}: {_first_line(error)}"
        ) from error
    if not (np.isfinite(area) and np.isfinite(outline).all()):
        raise DataError(f"{ms.name} reaches beyond where {_named(pan.crs)} can tell a place")
    ratio = round(math.sqrt(area))
    if ratio < 1 or area < 1 - 1e-3:
        raise DataError(
            f"the pixels of {ms.name} are finer than those of {pan.name} (ratio {math.sqrt(area):.6g}): "
            "are PAN and MS swapped?"
        )
    starts, sizes = [], []
    for places, whole in zip(reversed(outline), pan.size, strict=True):
        first = max(0, math.ceil(places.min() / ratio - 0.5 + 1e-6))
        starts.append(ratio * first)
        sizes.append(min(whole // ratio, math.floor(places.max() / ratio + 0.5 - 1e-6)) - first)
    if min(sizes) < 1:
        raise DataError("PAN and MS have no ground in common. Are they of one scene?")
    part = pan.window(starts[0], starts[1], (sizes[0], sizes[1]))
    p = part.transform
    assert p is not None
    coarse = type(p)(ratio * p.a, ratio * p.b, p.c, ratio * p.d, ratio * p.e, p.f)
    return Grid(ms.name, part.size, coarse, pan.crs)


def _at(t: Affine, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return t.a * x + t.b * y + t.c, t.d * x + t.e * y + t.f


def relate_counts(pan: Grid, ms: Grid) -> int:
    """The ratio by the numbers of pixels alone. Raises DataError where they are no whole multiples."""
    ratio = pan.size[0] // ms.size[0]
    if ratio < 1 or pan.size != (ratio * ms.size[0], ratio * ms.size[1]):
        raise DataError(
            f"{pan.name} has {pan.size[0]} x {pan.size[1]} pixels, which is no whole multiple of the "
            f"{ms.size[0]} x {ms.size[1]} of {ms.name}: cut them to the same ground first"
        )
    return ratio


def _named(crs: CRS | None) -> str:
    if crs is None:
        return "no known system"
    name = re.search(r'"([^"]+)"', crs.to_wkt())
    return ":".join(crs.to_authority() or ()) or (name[1] if name else "a system without a name")


# -- reading --

_NAMES = {
    "panchromatic": "pan", "coastal-blue": "coastal", "coastal-aerosol": "coastal", "b": "blue", "g": "green",
    "r": "red", "y": "yellow", "rededge": "red-edge", "re": "red-edge", "n": "nir", "near-infrared": "nir",
    "near-ir": "nir", "nir-1": "nir1", "nir-2": "nir2", "near-ir1": "nir1", "near-ir2": "nir2",
}  # fmt: skip


OF_THESE_ALONE = "write a file that holds these alone, by gdal_translate -b 1 -b 2 …"


class Raster:
    """The bands of one file, or of several on one grid, read window by window. ``resampled`` tells by which kernel
    they were brought to another grid than that of the files, "" where they were not.

    ``paths``: a file, or one a band or more. ``fill``: a pixel that has this value in every band has none, whatever
    the files say; None where it is no value of any band's type. ``names``: what each band shows, where its
    description or colour interpretation says so, else ""; an alpha band is no band. Raises DataError for what
    cannot be opened, or does not belong together.
    """

    def __init__(
        self, paths: Path | str | Sequence[Path | str], what: str = "raster", fill: float | None = None
    ) -> None:
        import rasterio
        from rasterio.enums import ColorInterp
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

        files = [Path(p) for p in ([paths] if isinstance(paths, (str, Path)) else paths)]
        if not files:
            raise DataError(f"no file is given for {what}")
        self._files: list[Any] = []
        self._views: dict[Any, Any] = {}  # of files, on another grid
        self._made: list[Any] = []  # what views are made of, beside the files
        self.resampled = ""
        self.left_out = ""  # what of the files is no band, and the mend, to be said where bands are missing
        self._bands: list[tuple[Any, int]] = []  # file and 1-based band
        self.names: tuple[str, ...] = ()
        try:
            for path in files:
                if not path.is_file():
                    raise DataError(f"{what} {_absent(path)}")
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", NotGeoreferencedWarning)
                        file = rasterio.open(path)
                        self._files.append(file)
                        grid = _grid_of(file)
                except RasterioError as error:
                    raise DataError(f"{what} {path} is no readable raster: {_first_line(error)}") from error
                if len(self._files) == 1:
                    self.grid = grid
                elif not _same(grid, self.grid):
                    raise DataError(
                        f"{path} and {files[0]} are to be bands of one image, but differ in size or place"
                    )
                if ColorInterp.alpha in file.colorinterp:
                    colours = ("undefined" if c == ColorInterp.alpha else c.name for c in file.colorinterp)
                    mend = f"rio edit-info --colorinterp {','.join(colours)} {shlex.quote(str(path))}"
                    self.left_out = f" (beside one marked as alpha, which `{mend}` makes a band)"
                if ColorInterp.palette in file.colorinterp:
                    raise DataError(
                        f"{what} {path} holds numbers of colours, no DN: gdal_translate -expand gray (or rgb) "
                        "writes what its colour table makes of them"
                    )
                if 0 in file.scales:
                    raise DataError(
                        f"{what} {path} tells a scale of 0, which makes all values one: set the right one by "
                        "gdal_edit.py -scale"
                    )
                for band, colour in enumerate(file.colorinterp, 1):
                    if colour != ColorInterp.alpha:
                        self._bands.append((file, band))
                        self.names += (_name_of(file.descriptions[band - 1], colour),)
            if any(np.dtype(t).kind not in "uif" for f in self._files for t in f.dtypes):
                raise DataError(f"{what} {files[0]} holds no real numbers")
        except BaseException:
            self.close()
            raise
        self.path, self.what = files[0], what
        kept = () if fill is None else (held(fill, f.dtypes[b - 1]) for f, b in self._bands)
        self.fill = next((value for value in kept if value is not None), None)

    def __enter__(self) -> Raster:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the files back."""
        for file in (*self._views.values(), *self._made, *self._files):
            file.close()

    def __len__(self) -> int:
        return len(self._bands)

    @property
    def files(self) -> list[Path]:
        """All that its values come from: its files, masks beside them, and what a virtual raster puts together."""
        import rasterio
        from rasterio.errors import RasterioError

        found: dict[str, None] = {}
        todo = [name for file in self._files for name in file.files]
        while todo:
            name = todo.pop(0)
            if name not in found and name.lower().endswith(".vrt"):
                with suppress(RasterioError), rasterio.open(name) as file:
                    todo += file.files
            found[name] = None
        # viewers write the others, and values do not depend on them
        return [Path(n) for n in found if not n.endswith((".aux.xml", ".ovr")) and Path(n).is_file()]

    @property
    def dtype(self) -> str:
        """NumPy's name of the type that holds every band."""
        return str(np.result_type(*(f.dtypes[b - 1] for f, b in self._bands)))

    @property
    def nodata(self) -> float | None:
        """The value that means none: the first band's by its file, else ``fill``."""
        file, band = self._bands[0]
        own = file.nodatavals[band - 1]
        return self.fill if own is None else own

    @property
    def scaling(self) -> tuple[tuple[float, float], ...]:
        """Scale and offset of every band: what its values mean is value x scale + offset."""
        return tuple((f.scales[b - 1], f.offsets[b - 1]) for f, b in self._bands)

    @property
    def masked(self) -> bool:
        """Whether pixels may have no value."""
        from rasterio.enums import MaskFlags

        flags = (f.mask_flag_enums[b - 1] for f, b in self._bands)
        return (
            bool(self._views)
            or self.fill is not None
            or np.dtype(self.dtype).kind == "f"
            or any(MaskFlags.all_valid not in found for found in flags)
            or any(_alphas(f) for f in self._files)
        )

    def onto(self, grid: Grid) -> None:
        """Resample from now on onto another grid, of those pixels that have a value; there a pixel has one where
        the nearest of the file has. Raises DataError where GDAL cannot.

        By Lanczos' kernel of three lobes: cubic convolution delays what is finer than about three pixels, by up to
        a twentieth of an MS pixel, which is a fifth of PAN's.
        """
        from rasterio.enums import Resampling
        from rasterio.errors import RasterioError
        from rasterio.vrt import WarpedVRT

        kernel = Resampling.lanczos
        try:
            sources = self._with_mask() if self.masked else self._files
            self._views = {
                file: WarpedVRT(
                    source, crs=grid.crs, transform=grid.transform, height=grid.size[0], width=grid.size[1],
                    resampling=kernel, src_nodata=math.nan, nodata=math.nan, dtype="float64",
                    tolerance=1e-3,  # pixels: place is exact beyond measure
                    XSCALE=1, YSCALE=1,  # else the kernel's width is estimated anew in every block
                )
                for file, source in zip(self._files, sources, strict=True)
            }  # fmt: skip
        except RasterioError as error:
            raise DataError(f"{self.what} {self.path} cannot be resampled: {_first_line(error)}") from error
        self.grid, self.resampled = grid, kernel.name

    def _with_mask(self) -> list[Any]:
        """The files as virtual rasters whose one mask is what :meth:`read` says of all of them: GDAL knows nothing
        of ``fill``, nor that a pixel has a value in every file or in none."""
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
        from rasterio.io import MemoryFile

        height, width = self.grid.size
        memory = MemoryFile(ext=".tif")
        self._made.append(memory)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            profile = {"count": 1, "dtype": "uint8", "nbits": 1, "compress": "deflate"}
            with memory.open(driver="GTiff", width=width, height=height, **profile) as mask:
                for row in range(0, height, _BLOCK):
                    rows = slice(row, min(row + _BLOCK, height))
                    valid = self.read(rows, slice(0, width))[1]
                    assert valid is not None
                    mask.write(valid.numpy().astype("uint8"), 1, window=((rows.start, rows.stop), (0, width)))
        virtual = [rasterio.open(_virtual(file, memory.name)) for file in self._files]
        self._made = [*virtual, memory]  # in the order to be closed
        return virtual

    def choose(self, bands: Sequence[int]) -> None:
        """Keep these bands alone, in this order, numbered from 1 over all files, alpha bands left out.

        Raises DataError for a band that is not there.
        """
        if wrong := [b for b in bands if not 1 <= b <= len(self)]:
            raise DataError(
                f"{self.what} {self.path} has no band {wrong[0]}; it has {len(self)}{self.left_out}"
            )
        self._bands = [self._bands[b - 1] for b in bands]
        self.names = tuple(self.names[b - 1] for b in bands)

    def choose_named(self, wanted: Sequence[str], mend: str = OF_THESE_ALONE) -> bool:
        """Keep the bands of these names, in this order. Where one name is missing and one band has no name, they
        are taken for each other; where no band has such a name all are kept as they are, and False is given.

        Raises DataError, which ends in the ``mend``, where names or the number of bands do not fit.
        """
        missing = [name for name in wanted if name not in self.names]
        nameless = [i for i, name in enumerate(self.names, 1) if not name]
        if len(missing) == len(wanted):
            if len(self) != len(wanted):
                mend = (
                    mend
                    if len(self) > len(wanted)
                    else "are these all its bands, and is it the right sensor?"
                )
                raise DataError(
                    f"{self.what} {self.path} has {len(self)} bands{self.left_out} where the sensor has "
                    f"{len(wanted)} ({', '.join(wanted)}), and does not name them: {mend}"
                )
            return False
        found = {name: i for i, name in enumerate(self.names, 1) if name}
        if len(missing) == len(nameless) == 1:
            found[missing[0]] = nameless[0]
            missing = []
        if missing or any(self.names.count(name) > 1 for name in wanted):
            told = ", ".join(name or "?" for name in self.names)
            raise DataError(
                f"the bands of {self.what} {self.path} are {told}{self.left_out}; the sensor's are "
                f"{', '.join(wanted)}: {mend}"
            )
        self.choose([found[name] for name in wanted])
        self.names = tuple(wanted)
        return True

    def read(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor | None]:
        """A window inside the raster: values (C, h, w) float64, scale and offset not applied, and which pixels have
        a value in every band, (h, w) bool; None where the file says that all have. Raises DataError where it cannot
        be read."""
        from rasterio.errors import RasterioError

        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        values = np.empty((len(self), rows.stop - rows.start, columns.stop - columns.start))
        valid = np.ones(values.shape[1:], bool)
        try:
            for file in dict.fromkeys(file for file, _ in self._bands):
                where = [i for i, (f, _) in enumerate(self._bands) if f is file]
                bands = [self._bands[i][1] for i in where]
                view = self._views.get(file)
                values[where] = (view or file).read(bands, window=window)
                if self.masked and not view:  # a view has NaN where there is no value
                    valid &= (file.read_masks(bands, window=window) > 0).all(0)
                    # GDAL makes a mask of an alpha band beside one or three others alone
                    if alphas := _alphas(file):
                        valid &= (file.read(alphas, window=window) > 0).all(0)
            if self.fill is not None and not self._views:
                valid &= (values != self.fill).any(0)
        except RasterioError as error:
            raise DataError(
                f"{self.what} {self.path} cannot be read at row {rows.start}, column {columns.start}: damaged or "
                f"cut short ({_first_line(error)})"
            ) from error
        if not self.masked:
            return torch.from_numpy(values), None
        return torch.from_numpy(values), torch.from_numpy(valid & np.isfinite(values).all(0))


def in_unit_of(pan: Raster, other: Raster, values: Tensor) -> Tensor:
    """Samples of another raster (C, h, w) in PAN's DN: equal where both give the same scale and offset."""
    scale, offset = pan.scaling[0]
    if all(own == (scale, offset) for own in other.scaling):
        return values
    gain = values.new_tensor([s / scale for s, _ in other.scaling])
    shift = values.new_tensor([(o - offset) / scale for _, o in other.scaling])
    return values * gain[:, None, None] + shift[:, None, None]


def held(value: float, dtype: str | np.dtype) -> float | None:
    """A value as samples of a type hold it: the nearest where they are floats. None where they cannot.

    >>> held(0.1, "float32"), held(255, "uint8"), held(-1, "uint8"), held(1e300, "float32")
    (0.10000000149011612, 255, None, None)
    """
    kind = np.dtype(dtype)
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            near = float(kind.type(value))
        return near if math.isfinite(near) or not math.isfinite(value) else None
    limits = np.iinfo(kind)
    whole = math.isfinite(value) and value == int(value)
    return value if whole and limits.min <= value <= limits.max else None


def _absent(path: Path) -> str:
    """What to say of a path at which no file lies."""
    if re.match(r"/vsi\w+/|\w{2,}:", path.as_posix()):
        return (
            f"{path} is no file on a disk: copy it there, or let a small file stand for it (gdal_translate -of VRT "
            "… pan.vrt takes a web address as /vsicurl/https://…, an archive as /vsizip/…)"
        )
    return f"{path} does not exist" if not path.exists() else f"{path} is no file"


def _alphas(file: Any) -> list[int]:
    """Bands that say how opaque the others are."""
    from rasterio.enums import ColorInterp

    return [i for i, colour in enumerate(file.colorinterp, 1) if colour == ColorInterp.alpha]


def _virtual(file: Any, mask: str) -> str:
    """A virtual raster, as XML: the bands of a file under another mask, the file's own nodata set aside."""
    from rasterio.dtypes import _gdal_typename

    def band(kind: str, name: str, index: int) -> str:
        return (
            f"<VRTRasterBand dataType='{kind}'><SimpleSource><SourceFilename>{escape(name)}</SourceFilename>"
            f"<SourceBand>{index}</SourceBand></SimpleSource></VRTRasterBand>"
        )

    place = ", ".join(repr(number) for number in file.transform.to_gdal())
    bands = (band(_gdal_typename(file.dtypes[i - 1]), file.name, i) for i in file.indexes)
    return (
        f"<VRTDataset rasterXSize='{file.width}' rasterYSize='{file.height}'>"
        f"<SRS>{escape(file.crs.to_wkt())}</SRS><GeoTransform>{place}</GeoTransform>{''.join(bands)}"
        f"<MaskBand>{band('Byte', mask, 1)}</MaskBand></VRTDataset>"
    )


def _grid_of(file: Any) -> Grid:
    placed = not file.transform.is_identity  # which is what GDAL gives where a file tells none
    rpc = not placed and (file.rpcs is not None or bool(file.gcps[0]))
    return Grid(str(file.name), file.shape, file.transform if placed else None, file.crs, rpc)


def _same(a: Grid, b: Grid) -> bool:
    if a.transform is None or b.transform is None:
        return a.size == b.size and a.transform is b.transform
    return a.size == b.size and a.crs == b.crs and a.transform.almost_equals(b.transform, 1e-6)


def _name_of(description: str | None, colour: Any) -> str:
    """What a band shows, in the words that sensors use; "" where the file does not say."""
    told = "-".join((description or "").lower().replace("_", " ").split())
    name = _NAMES.get(told, told)
    by_colour = {"pan", "coastal", "red", "green", "blue", "yellow", "rededge", "nir"}
    if not name and colour.name.lower() in by_colour:
        return _NAMES.get(colour.name.lower(), colour.name.lower())
    return name


def _first_line(error: Exception) -> str:
    return (
        str(error.__cause__ or error).splitlines()[0]
        if str(error.__cause__ or error)
        else type(error).__name__
    )


# -- writing --


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
            raise BenchError(f"{path} cannot be written: {_first_line(error)}") from error
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
        raise BenchError(f"{path} cannot be written so: {_first_line(error)}") from error
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
    share = F.avg_pool2d(known.float(), block)
    return torch.where(share > 0, total / share, torch.nan)
