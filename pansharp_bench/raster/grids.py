"""Where the pixels of a raster lie, and where those of MS lie on PAN."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pansharp_bench.errors import DataError, first_line

if TYPE_CHECKING:
    from rasterio import Affine
    from rasterio.crs import CRS


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
            f"{ms.name} cannot be brought from {_named(ms.crs)} to {_named(pan.crs)}: {first_line(error)}"
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
