"""Maps of the whole planet, in memory and from files: JunoCam mosaics and the OPAL maps of Hubble.

Two conventions are in use, and both were checked on real maps by the Great Red Spot:

===============  ===================  ==========================  ============================
source           latitude             left edge                   Great Red Spot
===============  ===================  ==========================  ============================
JunoCam mosaics  planetocentric       180 W, decreasing right     242 W in February 2019 (PJ18)
OPAL             planetographic       360 W, decreasing right     25 W in April 2017
===============  ===================  ==========================  ============================

The Spot then moves through 0.32 degrees a day of System III between the two, as it did; with any other pair of
edges it would not.

What was never seen is blank: NaN, transparent, black, a FITS file's BLANK, and *fill*, which maps have beyond their
coverage in a colour of its own (grey-green in OPAL's pictures, drifting from row to row): it is of one colour over
whole areas, as no cloud is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.datasets.jupiter.ellipsoid import Latitude, to_planetocentric, to_planetographic
from pansharp_bench.errors import BenchError, DataError

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_OTHERS = re.compile("saturn|uranus|neptune", re.I)
RGB_FILTERS = ("F631N", "F502N", "F395N")  # red, green, blue
EXTRA_FILTERS = ("F275W", "FQ889N")  # ultraviolet, methane: of the second stage
BLANK = 1e-10  # an I/F this dark in every channel was never seen
BLACK = 0.01  # a picture's pixel this dark was never seen: where PJ17's mosaic is empty it holds 1 of 255
FILL = 17  # pixels each way of the least area that is fill: more than a block of JPEG, which may be flat by itself
_BEYOND = (
    0.01  # share of a map's values that may lie above 1, as noise and the brightest clouds of a mosaic do
)
_ONE_COLOUR = 2.5  # codes of an integer picture that are one colour: 1 either way, as JPEG rounds


@dataclass(frozen=True)
class GlobalMap:
    """A cylindrical map of the planet: ``values`` (C, H, 2H) float32, NaN where blank.

    Row 0 begins at the north pole; column 0 begins at west longitude ``west_left``, which decreases to the
    right (east is to the right).
    """

    values: Tensor
    latitude: Latitude = "planetocentric"
    west_left: float = 180.0

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.shape[2] != 2 * self.values.shape[1]:
            raise DataError(
                f"a map has shape {tuple(self.values.shape)}; expected (C, H, 2H), all of the planet"
            )
        if self.latitude not in ("planetocentric", "planetographic"):
            raise BenchError(f"latitude {self.latitude!r} is neither planetocentric nor planetographic")

    @property
    def degrees_per_pixel(self) -> float:
        return 180 / self.values.shape[1]

    def row(self, latitude: Tensor) -> Tensor:
        """Row coordinate (0 is the centre of row 0) of a planetographic latitude, degrees."""
        own = to_planetocentric(latitude) if self.latitude == "planetocentric" else latitude
        return (90 - own) / self.degrees_per_pixel - 0.5

    def column(self, west: Tensor) -> Tensor:
        """Column coordinate, in [-0.5, 2H - 0.5), of a west longitude, degrees."""
        return torch.remainder(self.west_left - west, 360) / self.degrees_per_pixel - 0.5

    def latitudes(self) -> Tensor:
        """(H,) planetographic latitude of each row's centre, float64."""
        rows = torch.arange(self.values.shape[1], dtype=torch.float64)
        own = 90 - (rows + 0.5) * self.degrees_per_pixel
        return to_planetographic(own) if self.latitude == "planetocentric" else own

    def degraded(self, degrees: float) -> GlobalMap:
        """The map at about this many degrees a pixel: the mean of all old pixels that lie in a new one, if only in
        part, so that at 6.3 to 1 seven or eight are averaged, about a place up to half an old pixel off.

        Raises BenchError for a resolution finer than the map's own."""
        if degrees < self.degrees_per_pixel:
            raise BenchError(f"a map of {self.degrees_per_pixel:g} degrees/pixel has no {degrees:g} to give")
        height = round(180 / degrees)
        known = self.values.isfinite()
        size = (height, 2 * height)
        total = F.adaptive_avg_pool2d(torch.where(known, self.values, 0).double(), size)
        share = F.adaptive_avg_pool2d(known.double(), size)
        return replace(self, values=torch.where(share > 0.999, total / share, torch.nan).float())

    def blank(self, bounds: Mapping[str, tuple[float, float]]) -> dict[str, float]:
        """Share of the pixels between each pair of latitudes (south, north) that are blank in the first channel."""
        lacking, lat = self.values[0].isnan().sum(1), self.latitudes()
        inside = {name: (lat > south) & (lat <= north) for name, (south, north) in bounds.items()}
        width = self.values.shape[2]
        return {n: int(lacking[i].sum()) / max(int(i.sum()) * width, 1) for n, i in inside.items()}

    def checked(self, what: str) -> GlobalMap:
        """The map itself. Raises DataError, naming ``what``, where it holds nothing, infinite values, or values
        that are no brightness of 0 to 1: above 1 in more than a hundredth of what was seen."""
        if torch.isinf(self.values).any():
            raise DataError(f"{what}: found infinite values; expected I/F or brightness")
        if not self.values.isfinite().any():
            raise DataError(f"{what}: found no image, every pixel is blank or NaN")
        beyond = (self.values > 1).sum() / self.values.isfinite().sum()
        if beyond > _BEYOND:
            raise DataError(
                f"{what}: found values up to {self.values.nan_to_num().max():g}, {beyond:.0%} of them above 1; "
                "expected I/F or brightness of 0 to 1 (are they integers kept as floats, or is the I/F scale "
                "another map's?)"
            )
        return self


def read_picture(
    path: str | Path,
    latitude: Latitude = "planetocentric",
    west_left: float = 180.0,
    east_right: bool = True,
    north_up: bool = True,
) -> GlobalMap:
    """A colour mosaic (PNG, JPEG, TIFF) as a map of red, green and blue, 0..1.

    Pixels that are transparent, black (below 0.01) in every channel, or fill are blank. A TIFF of floating point is
    taken as it is, one of integers and every other picture is divided by its largest code. ``east_right`` and
    ``north_up`` say how the picture lies; the map always has north up and east to the right.

    Raises DataError for a file that is no picture, a truncated one, one without three colours, one that does
    not span the whole planet (twice as wide as high), one without any image, and a GeoTIFF that says it lies
    otherwise than it is to be read.
    """
    path = Path(path)
    array, code = _read_tiff(path, latitude, west_left) if _is_tiff(path) else _read_pil(path)
    colours = array.shape[0]
    if colours not in (3, 4):
        raise DataError(f"{path}: found {colours} channel(s); expected red, green and blue (and alpha)")
    values = array[:3]
    blank = ~(values > BLACK).any(0)
    if colours == 4:
        blank |= ~(array[3] > 0)
    values = _without_fill(torch.where(blank, torch.nan, values), _ONE_COLOUR * code)
    return _laid(values, path, latitude, west_left, east_right, north_up)


def read_opal_fits(
    paths: Mapping[str, str | Path],
    scales: Mapping[str, float],
    filters: tuple[str, ...] = RGB_FILTERS,
    latitude: Latitude = "planetographic",
    west_left: float = 360.0,
    east_right: bool = True,
    north_up: bool = True,
) -> GlobalMap:
    """OPAL maps of one rotation, one FITS file a filter, as I/F: value x the scale of the release's readme.

    The first row of an OPAL FITS array is the northernmost (against the usual order of FITS; ``north_up=False``
    for files that keep to it). What is zero, NaN or the header's BLANK in one of the first three filters, or fill
    in all of them, is blank. Raises DataError for a missing filter or scale, a file that is not FITS, maps of
    unequal size.
    """
    try:
        from astropy.io import fits
    except ImportError as error:
        raise BenchError('FITS maps need astropy; install it: pip install "pansharp-bench[juno]"') from error
    if missing := [f for f in filters if f not in paths]:
        raise DataError(f"no map of filter {', '.join(missing)}; found {', '.join(paths) or 'none'}")
    if missing := [f for f in filters if f not in scales]:
        raise DataError(
            f"no I/F scale for filter {', '.join(missing)}; give the release's readme (--hst-readme) or "
            "--hst-scale FILTER=SCALE"
        )
    bands = []
    for name in filters:
        path = Path(paths[name])
        try:
            with fits.open(path, memmap=False) as file:
                data = next((found for h in file if (found := _image(h)) is not None), None)
        except (OSError, TypeError, ValueError) as error:
            raise DataError(f"{path}: found no readable FITS file ({_first(error)})") from error
        if data is None:
            raise DataError(f"{path}: found no image of two axes; expected an OPAL map")
        bands.append(torch.from_numpy(data) * scales[name])
        if bands[-1].shape != bands[0].shape:
            shapes = f"{tuple(bands[-1].shape)} against {tuple(bands[0].shape)}"
            raise DataError(f"{path}: found another size than the other filters' ({shapes})")
    values = torch.stack(bands)
    blank = ~(values[: len(RGB_FILTERS)].nan_to_num(0).abs() > BLANK).all(0)
    values = _without_fill(torch.where(blank, torch.nan, values), 0.0)
    return _laid(values, path, latitude, west_left, east_right, north_up)


def _image(part: Any) -> np.ndarray | None:
    """(H, W) float32 of a part of a FITS file, NaN where blank; None where it is no image of two axes."""
    blank = part.header.get("BLANK")
    if part.data is None or part.data.ndim != 2:
        return None
    data = np.ascontiguousarray(part.data, dtype=np.float32)
    if blank is not None and part.data.dtype.kind in "iu":  # scaled integers are NaN there already
        data[part.data == blank] = np.nan
    return data


def _without_fill(values: Tensor, spread: float) -> Tensor:
    """(C, H, W) values, NaN where they are fill: squares of 17 x 17 pixels of one colour, that is, over which none
    of the first three channels spreads further. The map closes on itself."""
    from scipy import ndimage

    colours = values[: len(RGB_FILTERS)]
    if min(colours.shape[1:]) < FILL:
        return values
    blocks = colours.unfold(1, FILL // 2, FILL // 2).unfold(2, FILL // 2, FILL // 2)
    if not (blocks.amax((3, 4)) - blocks.amin((3, 4)) <= spread).all(0).any():
        return values  # every square holds one of these blocks; maps without fill are told quickly
    mode = ("nearest", "wrap")
    flat = ndimage.minimum_filter(colours.isfinite().all(0).numpy(), FILL, mode=mode)
    for channel in colours.nan_to_num(0).numpy():
        highest = ndimage.maximum_filter(channel, FILL, mode=mode)
        flat &= highest - ndimage.minimum_filter(channel, FILL, mode=mode) <= spread
    return torch.where(torch.from_numpy(ndimage.maximum_filter(flat, FILL, mode=mode)), torch.nan, values)


def read_opal_scales(path: str | Path) -> dict[str, dict[str, float]]:
    """I/F scale factors of an OPAL readme: rotation ``A`` or ``B`` -> filter -> factor.

    Lines are read as filter, Minnaert exponent, factor; a table belongs to the headings "Rotation n" above it
    since the last table, and to both rotations where there is no heading.
    Raises DataError where the text holds no factor.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    scales: dict[str, dict[str, float]] = {}
    current, fresh = ["A", "B"], False
    for line in lines:
        if heading := re.match(r"\s*Rotation\s+([12])\b", line):
            rotation = "AB"[int(heading[1]) - 1]
            current = [*current, rotation] if fresh else [rotation]
            fresh = True
        elif entry := re.match(r"\s*(FQ?\d{3,4}[A-Z]+)\s+\S+\s+(\d*\.\d+(?:[eE]-?\d+)?)", line):
            fresh = False
            for rotation in current:
                scales.setdefault(rotation, {})[entry[1]] = float(entry[2])
    if not scales:
        raise DataError(f"{path}: found no I/F scale factor; expected an OPAL readme with a table of them")
    return scales


def _laid(
    values: Tensor, path: Path, latitude: Latitude, west_left: float, east_right: bool, north_up: bool
) -> GlobalMap:
    height, width = values.shape[1:]
    if width != 2 * height:
        raise DataError(
            f"{path}: found {width} x {height} pixels; expected a map of the whole planet, twice as wide as high"
        )
    if not north_up:
        values = values.flip(1)
    if not east_right:  # the left edge becomes the right one: the same longitude, a turn further
        values = values.flip(2)
    return GlobalMap(values, latitude, float(west_left)).checked(str(path))


def _read_pil(path: Path) -> tuple[Tensor, float]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            array = np.asarray(picture.convert("RGBA") if picture.mode in ("P", "PA") else picture)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: found a file that is no picture; expected a PNG or JPEG mosaic") from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: found a picture too large to be opened safely; give it as a TIFF"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path}: found a truncated or damaged picture ({_first(error)}); fetch it again"
        ) from error
    values, code = _unit(array if array.ndim == 3 else array[..., None])
    return values.permute(2, 0, 1), code


def _is_tiff(path: Path) -> bool:
    return path.suffix.lower() in (".tif", ".tiff")


def _read_tiff(path: Path, latitude: Latitude, west_left: float) -> tuple[Tensor, float]:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(path) as file:
            _check_place(file, path, latitude, west_left)
            array = file.read(masked=True)
    except RasterioError as error:
        raise DataError(f"{path}: found no readable TIFF ({_first(error)})") from error
    values, code = _unit(array.data)
    return torch.where(torch.from_numpy(np.ma.getmaskarray(array)), torch.nan, values), code


def _check_place(file: Any, path: Path, latitude: Latitude, west_left: float) -> None:
    """Raises DataError where a GeoTIFF's tags or coordinates tell another place than it is to be read at."""
    told = file.tags().get("latitude", latitude)
    if told != latitude:
        raise DataError(
            f"{path} says its latitudes are {told}, but it is read as {latitude}: tell (--…-latitude)"
        )
    if file.crs is None or not file.crs.is_geographic:
        return
    left, bottom, right, top = file.bounds
    if not np.allclose((right - left, bottom, top), (360, -90, 90), rtol=0, atol=1e-3):
        raise DataError(
            f"{path} lies from {left:g} to {right:g} E and {bottom:g} to {top:g} N; expected a map of the whole "
            "planet"
        )
    if abs((left + west_left + 180) % 360 - 180) > 1e-3:
        raise DataError(
            f"{path} says its left edge lies at {-left % 360:g} W, but it is read as {west_left:g} W: tell "
            "(--…-left)"
        )


def _unit(array: np.ndarray) -> tuple[Tensor, float]:
    """Values of 0..1, and the size of one code among them: 0 for floating point."""
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32)), 0.0
    largest = 1 if array.dtype == bool else np.iinfo(array.dtype).max
    return torch.from_numpy(array.astype(np.float32)).div_(float(largest)), 1 / largest


def _first(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class Source:
    """A map that can be read: what it shows, its files, and how they are laid out."""

    name: str  # "PJ18", "cycle 26 A"
    number: int  # perijove or cycle
    rotation: str  # "A", "B", or "" for a perijove
    paths: tuple[Path, ...]
    options: Mapping[str, Any]

    @property
    def extra_bands(self) -> tuple[str, ...]:
        """Filters beyond red, green and blue."""
        return tuple(self.options.get("filters", ()))[len(RGB_FILTERS) :]

    def read(self) -> GlobalMap:
        if self.paths[0].suffix.lower() == ".fits":
            files = {_filter(p): p for p in self.paths}
            return read_opal_fits(files, **self.options)
        return read_picture(self.paths[0], **self.options)


def find_junocam(
    places: Iterable[str | Path],
    perijoves: Iterable[int],
    latitude: Latitude = "planetocentric",
    west_left: float = 180.0,
    east_right: bool = True,
) -> list[Source]:
    """The mosaics of these perijoves among files and folders: ``PJ18.png``, ``PJ18/globe_mosaic_highres.png``.

    Where a folder holds several pictures of a perijove, one with ``highres`` in its name is taken.
    Raises DataError naming the perijoves that are missing, or that several pictures could be.
    """
    found: dict[int, list[Path]] = {}
    for path in _files(places, PICTURES):
        if match := re.search(r"PJ_?(\d+)", path.name, re.I) or re.search(
            r"PJ_?(\d+)", path.parent.name, re.I
        ):
            found.setdefault(int(match[1]), []).append(path)
    wanted = sorted(set(perijoves))
    if missing := [f"PJ{n}" for n in wanted if n not in found]:
        there = ", ".join(f"PJ{n}" for n in sorted(found)) or "none"
        raise DataError(f"no mosaic of {', '.join(missing)}; found {there} (named like PJ18.png)")
    sources = []
    for number in wanted:
        chosen = [p for p in found[number] if "highres" in p.name] or found[number]
        if len(chosen) > 1:
            raise DataError(f"several mosaics could be PJ{number}: {', '.join(map(str, chosen))}; name one")
        options = {"latitude": latitude, "west_left": west_left, "east_right": east_right}
        sources.append(Source(f"PJ{number}", number, "", (chosen[0],), options))
    return sources


def find_hst(
    places: Iterable[str | Path],
    cycles: Iterable[int] | None = None,
    scales: Mapping[str, float] | None = None,
    readme: str | Path | None = None,
    cycle: int | None = None,
    latitude: Latitude = "planetographic",
    west_left: float = 360.0,
    east_right: bool = True,
    north_up: bool = True,
) -> list[Source]:
    """The OPAL maps among files and folders, one Source a rotation.

    FITS files by their OPAL names (year, rotation a or b, filter), with I/F scales from ``scales`` (filter ->
    factor), from ``readme``, or from a ``*readme.txt`` beside them; colour pictures by year and rotation in
    their names, or as rotation A of ``cycle``. Cycle 22 is 2015. F275W and FQ889N are read too where every rotation
    has both. OPAL's maps of other planets are passed over.
    Raises DataError where none is found, a filter or scale is missing, or a picture's cycle is not known.
    """
    maps: dict[tuple[int, str], list[Path]] = {}
    extra: dict[tuple[int, str], list[Path]] = {}
    for path in _files(places, (*PICTURES, ".fits")):
        is_fits = path.suffix.lower() == ".fits"
        if (is_fits and _filter(path) not in RGB_FILTERS + EXTRA_FILTERS) or _OTHERS.search(path.name):
            continue
        if match := re.search(r"(20\d\d)([ab])(?![a-z])", path.name, re.I):
            key = int(match[1]) - 1993, match[2].upper()
        elif cycle is not None:
            key = cycle, "A"
        else:
            raise DataError(f"{path}: its name has no year and rotation such as 2019a; give --hst-cycle")
        into = extra if is_fits and _filter(path) in EXTRA_FILTERS else maps
        into.setdefault(key, []).append(path)
    wanted = None if cycles is None else set(cycles)
    chosen = {k: v for k, v in sorted(maps.items()) if wanted is None or k[0] in wanted}
    if not chosen:
        there = ", ".join(f"cycle {c} {r}" for c, r in sorted(maps)) or "none"
        asked = "" if wanted is None else f" of cycle {', '.join(map(str, sorted(wanted)))}"
        raise DataError(f"no OPAL map{asked}; found {there}")
    sources = []
    placed = {"latitude": latitude, "west_left": west_left, "east_right": east_right, "north_up": north_up}
    for (number, rotation), paths in chosen.items():
        name = f"cycle {number} {rotation}"
        pictures = [p for p in paths if p.suffix.lower() != ".fits"]
        if len(pictures) != len(paths):
            paths = [p for p in paths if p not in pictures]  # calibrated files before pictures of them
            known = dict(scales or _scales_beside(paths[0], readme)[rotation])
            options: dict[str, Any] = {"scales": known, **placed}
            found = [_filter(p) for p in paths]
            if sorted(found) != sorted(RGB_FILTERS):
                raise DataError(
                    f"{name}: found filters {', '.join(found)}; expected {', '.join(RGB_FILTERS)}"
                )
            if missing := [f for f in RGB_FILTERS if f not in known]:
                raise DataError(f"{name}: no I/F scale for {', '.join(missing)} (--hst-scale FILTER=SCALE)")
        else:
            if len(paths) > 1:
                raise DataError(f"several maps could be {name}: {', '.join(map(str, paths))}; name one")
            options = placed
        sources.append(Source(name, number, rotation, tuple(paths), options))
    further = [tuple(extra.get((s.number, s.rotation), ())) for s in sources]
    if all(_is_extra(s, paths) for s, paths in zip(sources, further, strict=True)):
        filters = {"filters": RGB_FILTERS + EXTRA_FILTERS}
        return [
            replace(s, paths=s.paths + paths, options={**s.options, **filters})
            for s, paths in zip(sources, further, strict=True)
        ]
    return sources


def _is_extra(source: Source, paths: tuple[Path, ...]) -> bool:
    """Whether these are ultraviolet and methane of the source, with their scales."""
    known = source.options.get("scales", ())
    return sorted(map(_filter, paths)) == sorted(EXTRA_FILTERS) and all(f in known for f in EXTRA_FILTERS)


def _scales_beside(path: Path, readme: str | Path | None) -> dict[str, dict[str, float]]:
    year = re.search(r"20\d\d", path.name)
    beside = sorted(path.parent.glob("*readme*.txt"))
    named = [p for p in beside if year and year[0] in p.name] or beside
    if readme is None and len(named) != 1:
        what = "none" if not named else ", ".join(p.name for p in named)
        raise DataError(
            f"{path}: I/F needs the scales of the release's readme; found {what} beside it. "
            "Give --hst-readme FILE or --hst-scale FILTER=SCALE"
        )
    scales = read_opal_scales(readme or named[0])
    empty: dict[str, float] = {}
    return {r: scales.get(r, empty) for r in "AB"}


def _filter(path: Path) -> str:
    match = re.search(r"_(fq?\d{3,4}[nwm])(?![a-z0-9])", path.name, re.I)
    return match[1].upper() if match else ""


def _files(places: Iterable[str | Path], suffixes: tuple[str, ...]) -> list[Path]:
    found = []
    for place in map(Path, places):
        if place.is_dir():
            found += [p for p in sorted(place.rglob("*")) if p.suffix.lower() in suffixes and p.is_file()]
        elif place.is_file():
            found.append(place)
        else:
            raise DataError(f"{place} does not exist")
    return found
