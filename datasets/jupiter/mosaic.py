"""Segments back to a cylindrical map: each from its equal-area projection, the plain mean where several overlap.

Appendix A.3 of the SP-I2I paper. Nothing is kept but the sum and the count of the rows in work, and of the segments
a batch, so that a map of any size can be written strip by strip.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.datasets.jupiter.ellipsoid import (
    EQUATORIAL_KM,
    POLAR_KM,
    SEGMENT_KM,
    Latitude,
    laea_forward,
    laea_inverse,
)
from pansharp_bench.datasets.jupiter.maps import GlobalMap
from pansharp_bench.datasets.jupiter.segments import SegmentSplit, blur_columns, blur_needed, pixel_grid
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import atomically
from pansharp_bench.finite import Finite, FiniteRange
from pansharp_bench.raster import Thumbnail, write_geotiff

KM_PER_DEGREE = math.radians(1) * EQUATORIAL_KM
_POINTS = 1 << 22  # map points worked on at a time
_STRIP = 512  # rows of a strip
_PREVIEW = 1800  # largest width of a preview

Reader = Callable[[slice], Tensor]


class MapSum:
    """Sum and count of some rows of a global map, to which segments are added.

    Args:
        height: rows of the whole map, which is twice as wide.
        rows: the rows kept, (first, last + 1).
        latitude, west_left: the map's, as in :class:`GlobalMap`.
        spread: also how far segments differ where they overlap; sums are float64 then.
    """

    def __init__(
        self,
        height: int,
        bands: int,
        rows: tuple[int, int] | None = None,
        latitude: Latitude = "planetocentric",
        west_left: float = 180.0,
        size_km: float = SEGMENT_KM,
        device: torch.device | str = "cpu",
        spread: bool = False,
    ) -> None:
        # an empty map that knows where latitudes and longitudes lie
        self.frame = GlobalMap(torch.empty(1, 1, 1).expand(1, height, 2 * height), latitude, west_left)
        self.rows, self.size_km, self.device = rows or (0, height), size_km, torch.device(device)
        self._latitudes = self.frame.latitudes()
        first, last = self.rows
        self.total = torch.zeros(
            bands, last - first, 2 * height, device=device, dtype=torch.float64 if spread else torch.float32
        )
        self.squares = torch.zeros_like(self.total) if spread else None
        self.count = torch.zeros(last - first, 2 * height, device=device)

    def reaches(self, latitude: float, pixels: int) -> tuple[int, int, float]:
        """Rows (first, last + 1) a segment at this latitude may touch, and its largest reach east in degrees."""
        south, north, east = extent(latitude, pixels, self.size_km)
        found = ((self._latitudes >= south) & (self._latitudes <= north)).nonzero()
        first, last = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)
        reach = east + 2 * self.frame.degrees_per_pixel
        return max(first, self.rows[0]), min(last, self.rows[1]), reach

    def add(self, images: Tensor, latitude: np.ndarray, longitude: np.ndarray) -> None:
        """Add segments (n, C, p, p) about these centres (planetographic, west; (n,)). NaN is not added."""
        images = images.to(self.device, torch.float32)
        sigma = blur_needed(self.frame.degrees_per_pixel * KM_PER_DEGREE, self.size_km / images.shape[-1])
        if sigma:
            flat = blur_columns(images.flatten(0, 1), sigma)  # what it pads at the edges is not used below
            images = blur_columns(flat.mT, sigma).mT.reshape(images.shape)
        margin = (1 + 2 * math.ceil(4 * sigma)) / images.shape[-1]
        for value in np.unique(latitude):
            (index,) = np.nonzero(latitude == value)
            first, last, reach = self.reaches(float(value), images.shape[-1])
            if last <= first:
                continue
            width = 2 * self.frame.values.shape[1]
            columns = min(2 * math.ceil(reach / self.frame.degrees_per_pixel) + 1, width)
            batch = max(1, _POINTS // ((last - first) * columns))
            for start in range(0, len(index), batch):
                part = index[start : start + batch]
                chosen = images if len(part) == len(images) else images[torch.from_numpy(part)]
                self._add(chosen, float(value), longitude[part], (first, last), columns, margin)

    def _add(
        self,
        images: Tensor,
        latitude: float,
        west: np.ndarray,
        rows: tuple[int, int],
        columns: int,
        margin: float,
    ) -> None:
        """Segments of one latitude. ``margin`` is left out on each side, in halves of a segment."""
        (first, last), width = rows, self.frame.values.shape[2]
        centre = self.frame.column(torch.from_numpy(np.asarray(west, dtype=np.float64)))
        column = centre.round().long()[:, None] + torch.arange(columns) - columns // 2
        east = (column - centre[:, None]) * self.frame.degrees_per_pixel
        x, y = laea_forward(
            self._latitudes[first:last].to(self.device)[None, :, None],
            east.to(self.device)[:, None, :],
            torch.tensor(latitude, dtype=torch.float64, device=self.device),
        )
        grid = torch.stack([x, -y], -1).mul_(2 / self.size_km).float()
        values = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        # between pixel centres at most: nothing is extrapolated
        known = (grid.abs() <= 1 - margin).all(-1) & values.isfinite().all(1)
        values = torch.where(known[:, None], values, 0).transpose(0, 1)
        row = torch.arange(first - self.rows[0], last - self.rows[0], device=self.device)[None, :, None]
        flat = (row * width + (column % width).to(self.device)[:, None, :]).flatten()
        values = values.to(self.total.dtype)
        sums = [(self.total, values)] + ([] if self.squares is None else [(self.squares, values**2)])
        for into, added in sums:
            for total, value in zip(into, added, strict=True):  # on more axes at once it is 20 times slower
                total.flatten().index_add_(0, flat, value.flatten())
        self.count.flatten().index_add_(0, flat, known.flatten().float())

    def mean(self) -> Tensor:
        """(C, rows, W) float32, NaN where no segment lies."""
        return torch.where(self.count > 0, self.total / self.count, torch.nan).float()

    def deviation(self) -> Tensor:
        """(C, rows, W) float32: standard deviation of the segments that overlap, NaN where there are not two."""
        assert self.squares is not None
        mean = self.total / self.count
        variance = (self.squares / self.count - mean**2).clamp_min(0) * self.count / (self.count - 1)
        return torch.where(self.count > 1, variance.sqrt(), torch.nan).float()


@lru_cache(1024)
def extent(latitude: float, pixels: int, size_km: float = SEGMENT_KM) -> tuple[float, float, float]:
    """Southernmost and northernmost latitude of a segment's pixels, and their largest distance east, degrees."""
    x, y = pixel_grid(pixels, size_km)
    lat, east = laea_inverse(x, y, torch.tensor(latitude, dtype=torch.float64))
    step = lat.diff(dim=0).abs().max().item()
    return lat.min().item() - step, lat.max().item() + step, east.abs().max().item()


def mosaic(
    segments: Tensor | Iterable[Tensor],
    latitudes: Tensor | np.ndarray,
    longitudes: Tensor | np.ndarray,
    degrees_per_pixel: float,
    *,
    latitude: Latitude = "planetocentric",
    west_left: float = 180.0,
    size_km: float = SEGMENT_KM,
    device: torch.device | str = "cpu",
) -> GlobalMap:
    """A map of the planet from segments.

    Args:
        segments: (N, C, p, p), or batches of it in order.
        latitudes, longitudes: (N,) centres, planetographic and west degrees.
        degrees_per_pixel: of the map; the nearest resolution that divides the planet is taken.

    Returns:
        the mean of the segments at each pixel, NaN where there is none.

    Raises DataError where the segments and centres are not equal in number, or a centre is not known.
    """
    canvas = _laid(segments, latitudes, longitudes, degrees_per_pixel, latitude, west_left, size_km, device)
    return GlobalMap(canvas.mean().cpu(), latitude, west_left)


def _laid(
    segments: Tensor | Iterable[Tensor],
    latitudes: Tensor | np.ndarray,
    longitudes: Tensor | np.ndarray,
    degrees_per_pixel: float,
    latitude: Latitude = "planetocentric",
    west_left: float = 180.0,
    size_km: float = SEGMENT_KM,
    device: torch.device | str = "cpu",
    spread: bool = False,
) -> MapSum:
    height = map_height(degrees_per_pixel)
    lat, lon = (np.asarray(x, dtype=np.float64) for x in (latitudes, longitudes))
    canvas, start = None, 0
    for batch in [segments] if isinstance(segments, Tensor) else segments:
        if canvas is None:
            canvas = MapSum(height, batch.shape[1], None, latitude, west_left, size_km, device, spread)
        where = slice(start, start + len(batch))
        if len(lat[where]) != len(batch):
            raise DataError(f"{start + len(batch)} segments or more, but {len(lat)} centres")
        if not (np.isfinite(lat[where]).all() and np.isfinite(lon[where]).all()):
            raise DataError("the centre of a segment is not known, so it has no place on a map")
        canvas.add(batch, lat[where], lon[where])
        start += len(batch)
    if canvas is None or start != len(lat):
        raise DataError(f"{start} segments, but {len(lat)} centres")
    return canvas


def lay_out(
    split: SegmentSplit, images: Iterable[Tensor], path: Path, name: str, bands: tuple[str, ...]
) -> list[Path]:
    """Images in the order of a split's segments, as fine as these, on their map, and how sure it is.

    ``images`` are batches (n, C, p, p), or (n, K, C, p, p) of K samples each, whose mean is shown. Written are

    - ``path``.tif: the bands, and of each the standard deviation ("red sd") of one sample of one segment, from the
      two parts below (the scatter of means over K samples already holds 1/K of theirs: Searle, Casella and
      McCulloch 1992, section 3.6); ``path``.png, a preview of the bands;
    - ``path``-spread.tif: what that is made of, the deviation of the segments that overlap (of their means over
      samples), that of the samples within a segment, where there are such, and how many segments there are; a
      preview of the first, grey, white where it is largest.

    Deviations are NaN where only one segment lies. Raises DataError where a segment's centre is not known.
    """
    lat, lon, size_km = _places(split, name)
    degrees = size_km / split[0].pan.shape[-1] / KM_PER_DEGREE
    count = len(bands)
    batches = iter(images)
    first = next(batches)
    draws = 1 if first.ndim == 4 else first.shape[1]
    canvas = _laid(map(_moments, chain([first], batches)), lat, lon, degrees, size_km=size_km, spread=True)
    mean, between = canvas.mean().cpu(), canvas.deviation().cpu()[:count]
    within = mean[count:].sqrt()  # no bands without samples
    total = (between**2 + (within**2 * (1 - 1 / draws) if len(within) else 0)).sqrt()
    tags = {"dataset": name, "split": str(split.name), "segments": str(len(lat))}
    height = mean.shape[1]
    whole = torch.cat([mean[:count], total])
    made = write_map(
        path.with_suffix(".tif"), [(0, whole)], height, (*bands, *(f"{b} sd" for b in bands)), tags=tags,
        shown=bands,
    )  # fmt: skip
    parts = [(f"{b} sd between segments", x) for b, x in zip(bands, between, strict=True)]
    parts += [(f"{b} sd between samples", x) for b, x in zip(bands, within, strict=False)]
    parts.append(("segments", canvas.count.cpu()))
    names, values = zip(*parts, strict=True)
    beside = path.with_name(f"{path.name}-spread.tif")
    return [*made, *write_map(beside, [(0, torch.stack(values))], height, names, tags=tags, shown=names[:1])]


def _moments(images: Tensor) -> Tensor:
    """(n, C, p, p) as they are; (n, 2C, p, p) mean and variance of samples (n, K, C, p, p)."""
    return images if images.ndim == 4 else torch.cat([images.mean(1), images.var(1)], 1)


def _places(split: SegmentSplit, name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Latitudes and longitudes of a split's centres, and the width of its segments; ``name`` is the data set's."""
    lat, lon = split.column("latitude"), split.column("longitude")
    if lat is None or lon is None or not (np.isfinite(lat).all() and np.isfinite(lon).all()):
        raise DataError(
            f"{name}: the centres of split {split.name!r} are not known (A_metadata.csv, B_metadata.csv)"
        )
    return lat, lon, getattr(getattr(split, "store", None), "segment_km", SEGMENT_KM)


def map_height(degrees_per_pixel: float) -> int:
    if not 0.005 <= degrees_per_pixel <= 10:
        raise BenchError(f"{degrees_per_pixel:g} degrees/pixel is out of reach; expected 0.005 to 10")
    return round(180 / degrees_per_pixel)


def strips(
    read: Reader,
    latitudes: np.ndarray,
    longitudes: np.ndarray,
    height: int,
    *,
    latitude: Latitude = "planetocentric",
    west_left: float = 180.0,
    size_km: float = SEGMENT_KM,
    batch: int = 64,
    rows: int = _STRIP,
) -> Iterator[tuple[int, Tensor]]:
    """The map of :func:`mosaic` in strips: (first row, (C, rows, W)). ``read`` gives a slice of the segments; it
    is asked only for those that reach into the strip, in batches."""
    probe = read(slice(0, 1))
    bands, pixels = probe.shape[1], probe.shape[-1]
    frame = MapSum(height, 0, None, latitude, west_left, size_km)
    reach = {v: frame.reaches(v, pixels)[:2] for v in np.unique(latitudes).tolist()}
    firsts, lasts = (np.array([reach[v][i] for v in latitudes.tolist()]) for i in (0, 1))
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        canvas = MapSum(height, bands, (start, stop), latitude, west_left, size_km)
        (index,) = np.nonzero((firsts < stop) & (lasts > start))
        for run in _runs(index, batch):
            part = slice(run[0], run[-1] + 1)
            canvas.add(read(part), latitudes[part], longitudes[part])
        yield start, canvas.mean()


def _runs(index: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Consecutive indices, in pieces of at most so many: a slice of a file is read at once."""
    for run in np.split(index, np.nonzero(np.diff(index) != 1)[0] + 1):
        yield from (run[i : i + most] for i in range(0, len(run), most) if len(run))


def crs(latitude: Latitude) -> str:
    """Jupiter's geographic coordinate system, longitudes east: for planetocentric latitudes the International
    Astronomical Union's sphere, as GIS programs read such maps; for planetographic ones the ellipsoid."""
    if latitude == "planetocentric":
        return "IAU_2015:59900"
    return (
        'GEOGCS["Jupiter (2015) / Ographic, longitudes east",DATUM["Jupiter (2015)",'
        f'SPHEROID["Jupiter (2015)",{EQUATORIAL_KM * 1000:.0f},{EQUATORIAL_KM / (EQUATORIAL_KM - POLAR_KM):.13g}]],'
        'PRIMEM["Reference Meridian",0],UNIT["degree",0.0174532925199433]]'
    )


def write_map(
    path: str | Path,
    pieces: Iterable[tuple[int, Tensor]],
    height: int,
    bands: tuple[str, ...],
    latitude: Latitude = "planetocentric",
    west_left: float = 180.0,
    tags: dict[str, str] | None = None,
    shown: tuple[str, ...] | None = None,
) -> list[Path]:
    """Write strips of a map as a GeoTIFF (float32, NaN where blank) and PNG previews beside it: one of the first
    three bands (or the first, up to its own brightest), one of each band beyond. ``shown``: the first bands, where
    not all are to have a preview.

    They appear only when they are complete. Returns their paths. Raises BenchError where they cannot be written,
    or nothing was on the map.
    """
    from rasterio.transform import from_origin

    path = Path(path)
    degrees = 180 / height
    left = -west_left if west_left <= 180 else 360 - west_left  # east longitude of the left edge
    small = Thumbnail(2 * height, _PREVIEW)
    write_geotiff(
        path, small.watch(_not_empty(pieces)), (height, 2 * height), bands, crs=crs(latitude),
        transform=from_origin(left, 90, degrees, degrees), nodata=math.nan,
        tags={"latitude": latitude, "west_longitude_of_left_edge": f"{west_left:g}", **(tags or {})},
    )  # fmt: skip
    shown = bands if shown is None else shown
    return [path, *_write_previews(path, small.values[: len(shown)], shown)]


def _not_empty(pieces: Iterable[tuple[int, Tensor]]) -> Iterator[tuple[int, Tensor]]:
    seen = False
    for row, strip in pieces:
        seen = seen or bool(strip.isfinite().any())
        yield row, strip
    if not seen:
        raise BenchError("no segment lies on the map")


def _write_previews(path: Path, picture: Tensor, bands: tuple[str, ...]) -> list[Path]:
    from PIL import Image

    def brightened(values: Tensor) -> Tensor:
        known = values[values.isfinite()]
        return values[None] / (known.quantile(0.998).clamp_min(1e-6) if len(known) else 1)

    # a band by itself may be dim: it is shown up to its own brightest
    first = picture[:3] if len(bands) >= 3 else brightened(picture[0])
    previews = {path.with_suffix(".png"): first}
    for band, values in zip(bands[3:], picture[3:], strict=True):
        previews[path.with_name(f"{path.stem}-{band}.png")] = brightened(values)
    for preview, values in previews.items():
        known = values.isfinite().all(0, keepdim=True).float()
        shown = torch.cat([values.nan_to_num(0).clamp(0, 1).expand(3, -1, -1), known])
        with atomically(preview) as part:
            Image.fromarray((shown * 255).round().byte().permute(1, 2, 0).numpy()).save(part)
    return list(previews)


@click.command("junocam2hst")
@click.option("--data", "root", envvar="PANSHARP_DATA", type=click.Path(path_type=Path), metavar="DIR",
              help="Folder of the data set (or PANSHARP_DATA).")  # fmt: skip
@click.option("--label", help="Label of the data set.")
@click.option("--dataset", default="junocam2hst", show_default=True, help="A data set of this track.")
@click.option("--split", "split_name", default="test", show_default=True, help="train, target or test.")
@click.option("--segments", type=click.Path(path_type=Path), metavar="NPY",
              help="Calibrated segments, N,C,H,W in the split's order.  [default: the split's own]")  # fmt: skip
@click.option("--perijove", type=int, help="Only this perijove's segments.")
@click.option("--cycle", type=int, help="Only this Hubble cycle's segments.")
@click.option("--degrees", type=Finite(), help="Degrees a pixel.  [default: as fine as the segments]")
@click.option("--latitude", type=click.Choice(["planetocentric", "planetographic"]), default="planetocentric",
              show_default=True)  # fmt: skip
@click.option(
    "--left",
    type=FiniteRange(-360, 360),
    default=180.0,
    show_default=True,
    help="West longitude of the left edge.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="GeoTIFF to write; a PNG goes beside it."
)
def command(
    root: Path | None,
    label: str | None,
    dataset: str,
    split_name: Any,
    segments: Path | None,
    perijove: int | None,
    cycle: int | None,
    degrees: float | None,
    latitude: Latitude,
    left: float,
    out: Path,
) -> None:
    """Lay segments out on a cylindrical map: a GeoTIFF with Jupiter's coordinates, and a PNG preview.

    \b
    bench data mosaic --data data/ --perijove 18 --out before.tif
    bench data mosaic --data data/ --segments calibrated.npy --out after.tif
    """
    import sys

    from tqdm import tqdm

    from pansharp_bench.registry import DATASETS

    opened = DATASETS.get(dataset).obj(root=root, label=label)
    split: SegmentSplit = opened.split(split_name)
    lat, lon, size_km = _places(split, opened.name)
    chosen = np.ones(len(split), bool)
    for name, value in (("perijove", perijove), ("cycle", cycle)):
        if value is None:
            continue
        numbers = split.column(name)
        chosen &= np.zeros(len(split), bool) if numbers is None else numbers == value
        if not chosen.any():
            raise DataError(f"{opened.name}: split {split_name!r} has no segment of {name} {value}")
    given = None if segments is None else _given(segments, split)
    (index,) = np.nonzero(chosen)
    whole = len(index) == len(split)

    def read(part: slice) -> Tensor:
        where = index[part]
        source = slice(int(where[0]), int(where[-1]) + 1)
        images = split.read("pan", source) if given is None else torch.from_numpy(np.array(given[source]))
        return images.float() if whole else images.float()[torch.from_numpy(where - where[0])]

    probe = read(slice(0, 1))
    height = map_height(degrees or size_km / probe.shape[-1] / KM_PER_DEGREE)
    pieces = strips(
        read, lat[chosen], lon[chosen], height, latitude=latitude, west_left=left, size_km=size_km
    )
    shown = tqdm(pieces, total=-(-height // _STRIP), unit="strip", disable=not sys.stderr.isatty())
    bands = opened.sensor.bands if probe.shape[1] == len(opened.sensor.bands) else ()
    names = bands or tuple(f"band {i + 1}" for i in range(probe.shape[1]))
    tags = {"dataset": opened.name, "split": str(split_name), "segments": str(len(index))}
    for path in write_map(out, shown, height, names, latitude, left, tags):
        click.echo(f"wrote {path}")


def _given(path: Path, split: SegmentSplit) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: found no readable .npy file ({str(error).splitlines()[0]})") from error
    if array.ndim != 4 or len(array) != len(split) or array.shape[2] != array.shape[3]:
        raise DataError(f"{path}: found shape {array.shape}; expected ({len(split)}, C, H, H), one a segment")
    return array
