"""Mean I/F of a known planet's regions beside spectra through filters; brightness that hangs on the view."""

import csv
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from jupiter import planet

from pansharp_bench.cli import main
from pansharp_bench.datasets.jupiter.ellipsoid import EQUATORIAL_KM, POLAR_KM, share_of_surface
from pansharp_bench.datasets.jupiter.mosaic import write_map
from pansharp_bench.datasets.jupiter.spectra import Box, JupiterMap, Polygon, means
from pansharp_bench.imaging.spectra import Spectrum, read_spectrum, through_response

BANDS = ("red", "green", "blue")


def bench(*words):
    return CliRunner().invoke(main, list(map(str, words)))


def rows(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def spectrum(x, y):
    return Spectrum(torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64))


def test_surface_is_that_of_the_ellipsoid():
    """Against the integral of 2 pi M N cos(latitude), by the trapezium rule."""
    phi = np.linspace(np.radians(10), np.radians(40), 200_001)
    e2 = 1 - (POLAR_KM / EQUATORIAL_KM) ** 2
    density = np.cos(phi) / (1 - e2 * np.sin(phi) ** 2) ** 2
    whole = np.linspace(-np.pi / 2, np.pi / 2, 200_001)
    total = np.trapezoid(np.cos(whole) / (1 - e2 * np.sin(whole) ** 2) ** 2, whole)
    wanted = np.trapezoid(density, phi) / total
    found = share_of_surface(torch.tensor(10.0).double(), torch.tensor(40.0).double()).item()
    assert found == pytest.approx(wanted, rel=1e-9)


def test_a_spectrum_through_a_filter_is_what_photons_count():
    line, box = spectrum([300, 900], [0.3, 0.9]), spectrum([500, 600], [1, 1])
    assert through_response(line, box) == pytest.approx(
        (600**3 - 500**3) / 3 / ((600**2 - 500**2) / 2) / 1000
    )
    triangle = spectrum([500, 550, 600], [0, 2, 0])  # dense sums, of another kind of integration
    x = np.linspace(500, 600, 1_000_001)
    sun = spectrum([400, 520, 700], [1, 3, 2])
    weight = np.interp(x, triangle[0], triangle[1]) * x * np.interp(x, sun[0], sun[1])
    wanted = np.trapezoid(weight * x / 1000, x) / np.trapezoid(weight, x)
    assert through_response(line, triangle, sun) == pytest.approx(wanted, rel=1e-6)
    assert through_response(spectrum([300, 900], [0.4, 0.4]), triangle, sun) == pytest.approx(0.4, rel=1e-12)
    assert np.isnan(through_response(spectrum([300, 560], [0.4, 0.4]), box))
    tail = spectrum([400, 500, 600, 700], [0, 1, 1, 0])
    assert np.isnan(through_response(spectrum([450, 700], [0.4, 0.4]), tail))
    assert through_response(spectrum([405, 700], [0.4, 0.4]), tail) == pytest.approx(0.4)


@pytest.fixture
def maps(tmp_path):
    """The known planet, blank north of 40 N, with an uncertainty of .01, .02 and .03."""
    truth = planet(720)
    values = truth.values.clone()
    values[:, truth.latitudes() > 40] = torch.nan
    sd = torch.tensor([0.01, 0.02, 0.03])[:, None, None].expand_as(values)
    whole = torch.cat([values, torch.where(values.isnan(), torch.nan, sd)])
    names = (*BANDS, *(f"{b} sd" for b in BANDS))
    write_map(tmp_path / "map.tif", [(0, whole)], 720, names, shown=BANDS)
    (tmp_path / "flat.txt").write_text("# nm I/F\n200 0.5\n1000 0.5\n")
    (tmp_path / "filter.txt").write_text("600 0\n640 1\n680 0\n")
    (tmp_path / "point.json").write_text('{"type": "Point", "coordinates": [1, 2]}')
    (tmp_path / "ring.json").write_text('{"type": "Polygon", "coordinates": []}')
    return tmp_path


def test_a_known_planets_zones_and_features_have_their_means(maps):
    box = json.dumps({"type": "FeatureCollection", "features": [
        {"type": "Feature", "properties": {"name": "square"}, "geometry": {"type": "Polygon", "coordinates": [
            [[-60, -20], [-20, -20], [-20, 0], [-60, 0], [-60, -20]]]}}]})  # fmt: skip
    (maps / "features.json").write_text(box)
    done = bench("data", "spectra", maps / "map.tif", "--spectrum", maps / "flat.txt", "--response",
                 f"red={maps / 'filter.txt'}", "--zone", "EZ", "--box", "all=-30,-10", "--box",
                 "part=-30,-10,350,10", "--box", "north=50,60", "--features", maps / "features.json", "--out",
                 maps / "out.csv")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "not on the map: north" in done.output and (maps / "out.png").stat().st_size > 5000
    found = {(r["region"], r["band"]): r for r in rows(maps / "out.csv")}
    assert len(found) == 4 * 3
    # green is .5 + .2 cos(9 latitude) at every longitude: integrals over planetographic latitude
    e2 = 1 - (POLAR_KM / EQUATORIAL_KM) ** 2
    for region, south, north in (("EZ", -7, 7), ("all", -30, -10), ("part", -30, -10)):
        phi = np.radians(np.linspace(south, north, 100_001))
        area = np.cos(phi) / (1 - e2 * np.sin(phi) ** 2) ** 2
        wanted = np.trapezoid(area * (0.5 + 0.2 * np.cos(9 * phi)), phi) / np.trapezoid(area, phi)
        own = found[region, "green"]
        assert float(own["mean"]) == pytest.approx(wanted, abs=2e-3), (
            region
        )  # pixels of a quarter degree: of edges an eighth is uncertain
        assert float(own["ratio to flat"]) == pytest.approx(float(own["mean"]) / 0.5)
        assert float(own["uncertainty"]) == pytest.approx(0.02, rel=1e-5)
    shares = [float(found[region, "red"]["share_of_planet"]) for region in ("all", "part")]
    assert shares[1] / shares[0] == pytest.approx(20 / 360, rel=1e-6)
    # of the waves of 5 across 360 degrees of longitude nothing is left, over 20 of them there is
    assert float(found["all", "red"]["mean"]) == pytest.approx(0.5, abs=1e-4)
    west = np.radians(np.linspace(-10, 10, 10_001))
    phi = np.radians(np.linspace(-30, -10, 2001))
    area = np.cos(phi) / (1 - e2 * np.sin(phi) ** 2) ** 2
    wave = np.trapezoid(area * np.sin(6 * phi), phi) / np.trapezoid(area, phi) * np.cos(5 * west).mean()
    assert float(found["part", "red"]["mean"]) == pytest.approx(0.5 + 0.3 * wave, abs=2e-3)
    assert float(found["part", "red"]["nm"]) == pytest.approx(640, abs=0.1)
    assert float(found["part", "blue"]["nm"]) == 395
    # the polygon is in the map's planetocentric latitudes and longitudes east: 20 to 60 W
    same = bench(
        "data", "spectra", maps / "map.tif", "--box", "square=-22.51,0,20,60", "--out", maps / "b.csv"
    )
    assert same.exit_code == 0, same.output
    for a in rows(maps / "b.csv"):
        assert float(a["mean"]) == pytest.approx(float(found["square", a["band"]]["mean"]), abs=2e-3)


@pytest.mark.parametrize("left", [180.0, 360.0, 17.0, -60.0])
def test_a_polygon_may_cross_the_maps_edge_and_count_its_longitudes_from_anywhere(tmp_path, left):
    """As a box of the same place, where there are no edges: twenty degrees about 0 and about 180."""
    values = torch.rand(3, 180, 360, generator=torch.Generator().manual_seed(0))
    write_map(tmp_path / "map.tif", [(0, values)], 180, BANDS, "planetographic", left)

    def ring(west, east):
        return {
            "type": "Polygon",
            "coordinates": [[[west, -27], [east, -27], [east, -17], [west, -17], [west, -27]]],
        }

    for middle in (0, 180):
        box = {"box": Box(-27, -17, (middle - 10) % 360, middle + 10)}
        rings = {turn: Polygon(ring(middle + turn - 10, middle + turn + 10)) for turn in (-360, 0, 360)}
        with JupiterMap(tmp_path / "map.tif") as source:
            found = means(source, box | rings)
        for turn in rings:
            assert found[turn].area == pytest.approx(found["box"].area, rel=1e-12)
            torch.testing.assert_close(found[turn].value, found["box"].value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--box", "x=10"], "is no NAME=SOUTH,NORTH"),
        (["--box", "x=10,5"], "is no NAME=SOUTH,NORTH"),
        (["--response", "violet=a.txt"], "no BAND=FILE of a band of the map (red, green, blue)"),
        (["--spectrum", "none.txt"], "none.txt: No such file"),
        (["--box", "x=50,60"], "shows nothing of x"),
        (["--features", "filter.txt"], "found no GeoJSON"),
        (["--features", "point.json"], "Error: point.json: feature 1 is a Point"),
        (["--features", "ring.json"], "Error: ring.json: feature 1 has a ring that is no four points"),
    ],
)
def test_mistakes_are_named(maps, words, said, monkeypatch):
    monkeypatch.chdir(maps)
    done = bench("data", "spectra", "map.tif", *words, "--out", "out.csv")
    assert done.exit_code == 2 and said in done.output and not (maps / "out.csv").exists()


@pytest.mark.parametrize("height", [78, 90])
def test_own_maps_of_any_height_are_read_and_their_previews_stay(tmp_path, height):
    """180 / 78 degrees times 156 is no 360 to the last bit."""
    path, preview = write_map(tmp_path / "map.tif", [(0, planet(height).values)], height, BANDS)
    before = preview.read_bytes()
    for words in (["spectra"], ["limb", "--geometry", path]):
        done = bench("data", words[0], path, *words[1:], "--out", tmp_path / "map.csv")
        assert done.exit_code == 2 and "would replace the map's preview" in done.output
    done = bench("data", "spectra", path, "--out", tmp_path / "means.csv")
    assert done.exit_code == 0 and preview.read_bytes() == before, done.output


@pytest.mark.parametrize(("k", "left"), [(0.95, 0.0), (0.8, 0.15)])
def test_what_a_law_leaves_is_found(tmp_path, k, left):
    """A banded planet under Minnaert's law with k = .95, corrected with k: both exponents are the difference."""
    grid = planet(90)
    lat, lon = torch.deg2rad(grid.latitudes())[:, None], torch.deg2rad(torch.arange(180) * 2.0 + 1)[None]
    mu0 = torch.cos(lat) * torch.cos(lon - 3.0)
    mu = torch.cos(lat - 0.3) * torch.cos(lon - 3.4)
    seen = (mu0 > 0.1) & (mu > 0.15)
    bright = (
        (0.5 + 0.3 * torch.sin(8 * lat)) * mu0.clamp_min(0.1) ** (0.95 - k) * mu.clamp_min(0.15) ** (0.95 - k)
    )
    noise = 1 + 0.02 * torch.randn(3, 90, 180, generator=torch.Generator().manual_seed(0))
    write_map(tmp_path / "one.tif", [(0, torch.where(seen, bright * noise, torch.nan).float())], 90, BANDS)
    angles = torch.where(seen, torch.stack([mu0, mu.expand(90, 180)]), torch.nan).float()
    write_map(tmp_path / "one-geometry.tif", [(0, angles)], 90, ("mu0", "mu"))
    done = bench("data", "limb", tmp_path / "one.tif", "--out", tmp_path / "limb.csv")
    assert done.exit_code == 0 and (tmp_path / "limb.png").stat().st_size > 5000, done.output
    told = rows(tmp_path / "limb.csv")
    for row in told:
        assert float(row["left_mu0_exponent"]) == pytest.approx(left, abs=0.01)
        assert float(row["left_mu_exponent"]) == pytest.approx(left, abs=0.01)
    against = [float(r["residual"]) for r in told if r["band"] == "red" and r["against"] == "mu"]
    assert (max(map(abs, against)) < 0.01) == (left == 0)
    (tmp_path / "one-geometry.tif").unlink()
    assert (
        "project the map with --geometry"
        in bench("data", "limb", tmp_path / "one.tif", "--out", "x.csv").output
    )


def test_spectra_are_sorted_two_columns(tmp_path):
    (tmp_path / "s.txt").write_text("500, 0.4\n400 0.2  # the other way round\n")
    assert read_spectrum(tmp_path / "s.txt").wavelength.tolist() == [400, 500]
