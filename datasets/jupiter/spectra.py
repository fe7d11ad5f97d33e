"""``bench data spectra``: mean I/F of a map by zone or feature, beside reference spectra through the filters."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from pansharp_bench.datasets.jupiter.ellipsoid import Latitude, share_of_surface, to_planetographic
from pansharp_bench.datasets.jupiter.zones import ZONES
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import atomically
from pansharp_bench.imaging.spectra import (
    BAND_CENTRES,
    BAND_WIDTH,
    Spectrum,
    band_reflectance,
    effective_wavelength,
    read_spectrum,
    through_response,
)

_STRIP = 256  # rows read at a time


@dataclass(frozen=True)
class Box:
    """A feature: planetographic latitudes from ``south`` to ``north``, and west longitudes from ``start`` on to
    ``stop``, increasing (350 to 10 crosses 0); all longitudes where these are equal."""

    south: float
    north: float
    start: float = 0.0
    stop: float = 0.0

    def holds(self, latitude: Tensor, west: Tensor) -> Tensor:
        """(h, w) of rows' latitudes (h,) and columns' longitudes (w,)."""
        across = (self.stop - self.start) % 360 or 360.0
        inside = (west - self.start) % 360 <= across
        return ((latitude > self.south) & (latitude <= self.north))[:, None] & inside[None]


@dataclass(frozen=True)
class Polygon:
    """A feature of a GeoJSON file, in the map's own latitudes and longitudes east, of any turn."""

    geometry: Mapping[str, Any]


Region = Box | Polygon


@dataclass(frozen=True)
class Mean:
    """``area``: of the planet, where the region is seen; of each band the mean I/F, the standard deviation of its
    pixels and the mean of the uncertainty that the map tells (NaN without), each (C,)."""

    area: float
    value: Tensor
    deviation: Tensor
    uncertainty: Tensor


class JupiterMap:
    """A cylindrical map as a GeoTIFF, read in strips. ``bands`` are those that are no standard deviations.

    Raises DataError for a file that is no such map of the whole planet.
    """

    def __init__(self, path: Path) -> None:
        import rasterio
        from rasterio.errors import RasterioError

        self.path = path
        try:
            self.file = rasterio.open(path)
        except RasterioError as error:
            raise DataError(f"{path}: found no readable GeoTIFF ({str(error).splitlines()[0]})") from error
        file = self.file
        tags, (left, bottom, right, top) = file.tags(), file.bounds
        whole = np.allclose((right - left, bottom, top), (360, -90, 90), rtol=0, atol=1e-6)
        if "latitude" not in tags or not whole:
            file.close()
            raise DataError(
                f"{path}: found no map of the whole planet that says its kind of latitude; expected one of "
                "`bench data mosaic`, `bench data project` or `bench figure mosaic`"
            )
        self.latitude: Latitude = tags["latitude"]
        names = [d or f"band {i + 1}" for i, d in enumerate(file.descriptions)]
        self.bands = tuple(n for n in names if not n.endswith(" sd"))
        self._own = [names.index(b) for b in self.bands]
        self._sd = [names.index(f"{b} sd") if f"{b} sd" in names else None for b in self.bands]
        edges = self._graphic(90 - 180 / file.height * torch.arange(file.height + 1, dtype=torch.float64))
        self.rows = self._graphic(
            90 - 180 / file.height * (torch.arange(file.height, dtype=torch.float64) + 0.5)
        )
        self.area = share_of_surface(edges[1:], edges[:-1]) / file.width  # of a pixel of each row
        self.west = -(left + 360 / file.width * (torch.arange(file.width, dtype=torch.float64) + 0.5)) % 360

    def _graphic(self, latitude: Tensor) -> Tensor:
        return to_planetographic(latitude) if self.latitude == "planetocentric" else latitude

    def __enter__(self) -> JupiterMap:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def read(self, part: slice) -> tuple[Tensor, Tensor]:
        """(C, h, W) float64 bands and uncertainties of rows, NaN where blank or not told."""
        from rasterio.windows import Window

        window = Window(0, part.start, self.file.width, part.stop - part.start)
        whole = torch.from_numpy(self.file.read(window=window, masked=True).astype(float).filled(np.nan))
        blank = torch.full_like(whole[0], math.nan)
        return whole[self._own], torch.stack([blank if i is None else whole[i] for i in self._sd])

    def inside(self, region: Region, part: slice) -> Tensor:
        """(h, W) which pixels of rows have their centre in a region."""
        if isinstance(region, Box):
            return region.holds(self.rows[part], self.west)
        from rasterio.features import bounds, geometry_mask
        from rasterio.transform import Affine

        shape = part.stop - part.start, self.file.width
        own = self.file.transform * Affine.translation(0, part.start)
        west, _, east, _ = bounds(region.geometry)
        left, _, right, _ = self.file.bounds
        found = torch.zeros(shape, dtype=torch.bool)
        for turn in range(math.ceil((left - east) / 360), math.floor((right - west) / 360) + 1):
            seen = Affine.translation(-360 * turn, 0) * own  # the map from where the polygon is
            found |= torch.from_numpy(geometry_mask([region.geometry], shape, seen, invert=True))
        return found


def means(source: JupiterMap, regions: Mapping[str, Region]) -> dict[str, Mean]:
    """Of each region of a map, by area; regions that it does not show are left out."""
    sums = {name: torch.zeros(5, len(source.bands), dtype=torch.float64) for name in regions}
    for start in range(0, source.file.height, _STRIP):
        part = slice(start, min(start + _STRIP, source.file.height))
        values, sd = source.read(part)
        known = values.isfinite().all(0)
        if not known.any():
            continue
        area = source.area[part, None].expand_as(known)
        for name, region in regions.items():
            here = known & source.inside(region, part)
            weight, x, s = area[here], values[:, here], sd[:, here]
            told = s.isfinite()
            own = [x * weight, x**2 * weight, s.nan_to_num() * weight, told * weight]
            sums[name] += torch.stack([weight.sum().expand(len(x)), *(y.sum(1) for y in own)])
    found = {}
    for name, (area, first, second, error, told) in sums.items():
        if area[0] > 0:
            mean = first / area
            spread = (second / area - mean**2).clamp_min(0).sqrt()
            found[name] = Mean(float(area[0]), mean, spread, error / told)
    return found


def check_beside(out: Path, source: Path) -> None:
    """Raises BenchError where the figure beside ``out`` would replace the preview that lies beside a map."""
    if out.with_suffix(".png").resolve() == source.with_suffix(".png").resolve():
        raise BenchError(
            f"--out {out}: its figure would replace the map's preview {source.with_suffix('.png')}; take another "
            "name"
        )


def read_features(path: Path) -> dict[str, Polygon]:
    """Name -> feature of a GeoJSON file: the property ``name``, or its number from 1. Raises DataError for a
    file that is none, or has a feature that is no polygon."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        given = told["features"] if told["type"] == "FeatureCollection" else [told]
        found = {}
        for number, feature in enumerate(given, 1):
            geometry = feature["geometry"] if feature["type"] == "Feature" else feature
            if geometry["type"] not in ("Polygon", "MultiPolygon"):
                raise DataError(f"{path}: feature {number} is a {geometry['type']}; polygons are expected")
            polygons = (
                geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
            )
            rings = [np.array(ring, dtype=float) for polygon in polygons for ring in polygon]
            if not rings or any(r.ndim != 2 or len(r) < 4 or not np.isfinite(r).all() for r in rings):
                raise DataError(f"{path}: feature {number} has a ring that is no four points or more")
            name = str((feature.get("properties") or {}).get("name") or f"feature {number}")
            found[name] = Polygon(geometry)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except DataError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: found no GeoJSON of features ({type(error).__name__} {error})") from error
    return found


def read_box(text: str) -> tuple[str, Box]:
    """``NAME=SOUTH,NORTH,WEST,WEST`` or ``NAME=SOUTH,NORTH``. Raises BenchError for anything else."""
    name, _, numbers = text.partition("=")
    try:
        box = Box(*map(float, numbers.split(",")))
    except (TypeError, ValueError):
        box = Box(1, 0)
    if not name or not -90 <= box.south < box.north <= 90:
        raise BenchError(
            f"--box {text!r} is no NAME=SOUTH,NORTH or NAME=SOUTH,NORTH,WEST1,WEST2 (planetographic latitudes, "
            "west longitudes from the first on to the second)"
        )
    return name, box


def _spectrum(text: str) -> tuple[str, Spectrum]:
    """A file, or FILE:COLUMN."""
    path, _, column = text.rpartition(":")
    if path and column.isdigit():
        return f"{Path(path).stem}:{column}", read_spectrum(path, int(column))
    return Path(text).stem, read_spectrum(text)


@click.command("spectra")
@click.argument("source", type=click.Path(path_type=Path), metavar="MAP.tif")
@click.option("--spectrum", "spectra", multiple=True, metavar="FILE[:COLUMN]",
              help="Reference: wavelength in nm and I/F, a line each; COLUMN from 0.")  # fmt: skip
@click.option("--response", "responses", multiple=True, metavar="BAND=FILE",
              help="Throughput of a band's filter, by wavelength in nm.  [default: boxes of 6 nm about F631N, "
              "F502N and F395N]")  # fmt: skip
@click.option("--sun", type=click.Path(path_type=Path), metavar="FILE",
              help="Sun's spectrum, power by wavelength in nm, as a weight.  [default: flat]")  # fmt: skip
@click.option("--zone", "zones", multiple=True, type=click.Choice(list(ZONES)), help="Only these zones.")
@click.option("--box", "boxes", multiple=True, metavar="NAME=S,N[,W1,W2]",
              help="A feature: planetographic latitudes, and west longitudes from W1 on to W2.")  # fmt: skip
@click.option("--features", type=click.Path(path_type=Path), metavar="GEOJSON",
              help="Polygons, in the map's own latitudes and longitudes east (-10 is 350).")  # fmt: skip
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="CSV to write; a PNG goes beside it."
)
def command(
    source: Path,
    spectra: tuple[str, ...],
    responses: tuple[str, ...],
    sun: Path | None,
    zones: tuple[str, ...],
    boxes: tuple[str, ...],
    features: Path | None,
    out: Path,
) -> None:
    """Mean I/F of a map's zones or features, by area, beside reference spectra through the filters: CSV and figure.

    All ten zones, or those named; only the features where such are given. A check of plausibility: a reference
    is of one place and time, or of the whole disc.

    \b
    bench data spectra pj18.tif --spectrum karkoschka.txt:3 --response red=f631n.txt --response green=f502n.txt \\
        --response blue=f395n.txt --box spot=-27,-17,230,250 --zone EZ --out pj18-spectra.csv
    """
    from pansharp_bench.figures import reflectances

    check_beside(out, source)
    regions: dict[str, Region] = {z: Box(*ZONES[z]) for z in zones}
    regions |= dict(map(read_box, boxes))
    regions |= read_features(features) if features else {}
    regions = regions or {z: Box(*bounds) for z, bounds in ZONES.items()}
    references = dict(map(_spectrum, spectra))
    light = read_spectrum(sun) if sun else None
    with JupiterMap(source) as opened:
        filters = _filters(responses, opened.bands)
        found = means(opened, regions)
        bands = opened.bands
    if not found:
        raise DataError(f"{source} shows nothing of {', '.join(regions)}")
    at = [_centre(band, filters) for band in bands]
    expected = {
        name: [_reference(spectrum, band, filters, light) for band in bands]
        for name, spectrum in references.items()
    }
    with atomically(out) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        told = [x for name in expected for x in (name, f"ratio to {name}")]
        writer.writerow(
            ["region", "share_of_planet", "band", "nm", "mean", "deviation_of_pixels", "uncertainty", *told]
        )
        for name, mean in found.items():
            for i, band in enumerate(bands):
                value = mean.value[i].item()
                beside = [x for own in expected.values() for x in (own[i], value / own[i])]
                own = [at[i], value, mean.deviation[i].item(), mean.uncertainty[i].item()]
                writer.writerow([name, mean.area, band, *own, *beside])
    click.echo(out)
    if known := [i for i, nm in enumerate(at) if math.isfinite(nm)]:
        lines = {n: (s.wavelength.tolist(), s.reflectance.tolist()) for n, s in references.items()}
        points = {
            n: sorted((at[i], m.value[i].item(), m.uncertainty[i].item()) for i in known)
            for n, m in found.items()
        }
        click.echo(reflectances(lines, points, out.with_suffix(".png"), f"{source.name}: mean I/F by area"))
    if missing := [z for z in regions if z not in found]:
        click.echo(f"note: not on the map: {', '.join(missing)}", err=True)


def _filters(given: Sequence[str], bands: Sequence[str]) -> dict[str, Spectrum]:
    found = {}
    for text in given:
        band, _, path = text.partition("=")
        if band not in bands or not path:
            raise BenchError(f"--response {text!r} is no BAND=FILE of a band of the map ({', '.join(bands)})")
        found[band] = read_spectrum(path)
        if not found[band].reflectance.sum() > 0 or found[band].reflectance.min() < 0:
            raise DataError(f"{path}: found a response that is negative, or nothing")
    return found


def _centre(band: str, filters: Mapping[str, Spectrum]) -> float:
    return effective_wavelength(filters[band]) if band in filters else BAND_CENTRES.get(band, math.nan)


def _reference(spectrum: Spectrum, band: str, filters: Mapping[str, Spectrum], sun: Spectrum | None) -> float:
    if band in filters:
        return through_response(spectrum, filters[band], sun)
    if band not in BAND_CENTRES:
        return math.nan
    return band_reflectance(spectrum, [BAND_CENTRES[band]], BAND_WIDTH).item()
