"""Rasters read by windows, with what says which pixels have a value."""

from __future__ import annotations

import math
import re
import shlex
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.errors import DataError, first_line
from pansharp_bench.raster.grids import Grid

_ROWS = 512  # read at a time where all are looked at
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
                    raise DataError(f"{what} {path} is no readable raster: {first_line(error)}") from error
                if len(self._files) == 1:
                    self.grid = grid
                elif not _same(grid, self.grid):
                    raise DataError(
                        f"{path} and {files[0]} are to be bands of one image, but differ in size or place"
                    )
                if _alphas(file):
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
            raise DataError(f"{self.what} {self.path} cannot be resampled: {first_line(error)}") from error
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
                for row in range(0, height, _ROWS):
                    rows = slice(row, min(row + _ROWS, height))
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
                f"cut short ({first_line(error)})"
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

    def band(kind: str, name: str, index: int) -> str:
        return (
            f"<VRTRasterBand dataType='{kind}'><SimpleSource><SourceFilename>{escape(name)}</SourceFilename>"
            f"<SourceBand>{index}</SourceBand></SimpleSource></VRTRasterBand>"
        )

    def typed(dtype: str) -> str:
        return "Byte" if dtype == "uint8" else dtype.title().replace("Uint", "UInt")

    place = ", ".join(repr(number) for number in file.transform.to_gdal())
    bands = (band(typed(file.dtypes[i - 1]), file.name, i) for i in file.indexes)
    system = f"<SRS>{escape(file.crs.to_wkt())}</SRS>" if file.crs else ""
    return (
        f"<VRTDataset rasterXSize='{file.width}' rasterYSize='{file.height}'>"
        f"{system}<GeoTransform>{place}</GeoTransform>{''.join(bands)}"
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
