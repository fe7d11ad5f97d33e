"""Segments back to a map: a known planet is recovered, strips equal the whole, files say where they lie."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from jupiter import planet
from PIL import Image

from pansharp_bench.datasets.junocam2hst.store import Writer
from pansharp_bench.datasets.jupiter.ellipsoid import centres
from pansharp_bench.datasets.jupiter.maps import GlobalMap
from pansharp_bench.datasets.jupiter.mosaic import command, lay_out, mosaic, strips, write_map
from pansharp_bench.datasets.jupiter.segments import Cutter
from pansharp_bench.errors import BenchError, DataError

CLOSE = 1.5e-3  # two bilinear interpolations of waves of 20 degrees and more, on pixels of half a degree


@pytest.fixture(scope="module")
def cut():
    """A planet at half a degree, and segments of 64 pixels on every second centre of all zones."""
    whole = planet(360)
    where = centres(16)
    images, kept = Cutter(whole, 64)(where.latitude[::2], where.longitude[::2])
    assert len(kept) == 1484
    return whole, images, where.latitude[::2], where.longitude[::2]


def test_a_known_planet_is_recovered(cut):
    whole, images, latitude, longitude = cut
    found = mosaic(images, latitude, longitude, 0.5)
    assert (found.latitude, found.west_left, found.values.shape) == (
        "planetocentric",
        180,
        whole.values.shape,
    )
    error = (found.values - whole.values).abs()
    covered = found.values.isfinite().all(0)
    rows = whole.latitudes()
    for middle in (0.0, 65.0, -65.0):
        band = (rows - middle).abs() < 3
        assert covered[band].all()
        assert error[:, band].max() < CLOSE
    assert error[:, covered].max() < CLOSE
    assert not covered[rows.abs() > 81].any()


def test_conventions_of_the_map_are_the_callers(cut):
    _, images, latitude, longitude = cut
    found = mosaic(
        [images[:700], images[700:]], latitude, longitude, 0.5, latitude="planetographic", west_left=360
    )
    expected = planet(360, "planetographic", 360.0).values
    known = found.values.isfinite()
    assert known.float().mean() > 0.8 and (found.values - expected)[known].abs().max() < CLOSE


def test_overlaps_are_plain_means_and_nan_is_left_out():
    images = torch.tensor([0.2, 0.6]).view(2, 1, 1, 1).expand(2, 3, 32, 32).clone()
    found = mosaic(images, [0.0, 0.0], [100.0, 106.0], 1.0)
    row = found.values[0, 90]
    column = found.column(torch.tensor([96.0, 103.0, 110.0, 130.0])).round().long()
    assert row[column].tolist() == pytest.approx([0.2, 0.4, 0.6, float("nan")], nan_ok=True)
    images[0] = torch.nan
    again = mosaic(images, [0.0, 0.0], [100.0, 106.0], 1.0).values[0, 90]
    assert again[column[1]].item() == pytest.approx(0.6)


def test_a_coarse_map_is_not_aliased():
    """Stripes of two pixels vanish where a pixel of the map covers many."""
    stripes = torch.zeros(1, 3, 256, 256)
    stripes[..., ::2] = 1
    found = mosaic(stripes, [0.0], [0.0], 0.5).values
    inside = found[0][found[0].isfinite()]
    assert len(inside) > 400 and (inside - 0.5).abs().max() < 1e-3


def test_strips_equal_the_whole_and_read_only_what_they_need(cut):
    images, latitude, longitude = (x[::4] for x in cut[1:])
    asked = []

    def read(part):
        asked.append(part)
        return images[part]

    pieces = list(strips(read, latitude, longitude, 90, rows=20, batch=50))
    assert [start for start, _ in pieces] == [0, 20, 40, 60, 80] and pieces[-1][1].shape == (3, 10, 180)
    whole = mosaic(images, latitude, longitude, 2.0).values
    torch.testing.assert_close(torch.cat([p for _, p in pieces], 1), whole, equal_nan=True, atol=1e-6, rtol=0)
    assert max(p.stop - p.start for p in asked) <= 50
    assert sum(p.stop - p.start for p in asked) < 2.5 * len(images)


def test_segments_and_centres_must_agree(cut):
    _, images, latitude, longitude = cut
    with pytest.raises(DataError, match="10 segments, but 12 centres"):
        mosaic(images[:10], latitude[:12], longitude[:12], 2.0)
    with pytest.raises(DataError, match="10 segments or more, but 9 centres"):
        mosaic(images[:10], latitude[:9], longitude[:9], 2.0)
    with pytest.raises(DataError, match="centre of a segment is not known"):
        mosaic(images[:2], [np.nan, 0], longitude[:2], 2.0)
    with pytest.raises(BenchError, match="out of reach"):
        mosaic(images[:2], latitude[:2], longitude[:2], 0.0)


@pytest.mark.parametrize("known", [None, np.array([0.0, np.nan])])
def test_a_split_without_centres_is_not_laid_out(known, tmp_path):
    split = SimpleNamespace(name="test", column=lambda name: known)
    with pytest.raises(DataError, match=r"centres of split 'test' are not known \(A_metadata.csv"):
        lay_out(split, [], tmp_path / "map", "junocam2hst", ("red", "green", "blue"))
    assert not list(tmp_path.iterdir())


def test_geotiff_lies_where_the_map_says(tmp_path):
    for kind, left, edge in (("planetocentric", 180.0, -180.0), ("planetographic", 360.0, 0.0)):
        whole = planet(90, kind, left).values
        whole[:, :9] = torch.nan
        pieces = [(0, whole[:, :50]), (50, whole[:, 50:])]
        path, preview = write_map(tmp_path / f"{kind}.tif", pieces, 90, ("red", "green", "blue"), kind, left)
        with rasterio.open(path) as file:
            assert file.bounds == (edge, -90, edge + 360, 90)
            assert file.descriptions == ("red", "green", "blue") and file.tags()["latitude"] == kind
            wkt = file.crs.to_wkt()
            assert file.crs.is_geographic and 'AXIS["Longitude",EAST]' in wkt
            radius, flattening = map(float, re.search(r"SPHEROID\[[^,]*,([\d.]+),([\d.]+)", wkt).groups())
            assert radius == 71492e3
            ellipsoid = 0 if kind == "planetocentric" else 71492 / (71492 - 66854)
            assert flattening == pytest.approx(ellipsoid, rel=1e-9)
            np.testing.assert_array_equal(file.read(), whole.numpy())
        with Image.open(preview) as picture:
            assert (picture.mode, picture.size) == ("RGBA", (180, 90))
            assert np.asarray(picture)[:9, :, 3].max() == 0 and np.asarray(picture)[9:, :, 3].min() == 255
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".png", ".png", ".tif", ".tif"]


def test_nothing_half_written_is_left(tmp_path):
    def killed():
        yield 0, torch.zeros(3, 10, 180)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_map(tmp_path / "a.tif", killed(), 90, ("red", "green", "blue"))
    with pytest.raises(BenchError, match="no segment lies on the map"):
        write_map(tmp_path / "a.tif", [(0, torch.full((3, 90, 180), torch.nan))], 90, ("r", "g", "b"))
    with pytest.raises(BenchError, match=r"end in \.tif"):
        write_map(tmp_path / "a.jpg", [], 90, ("r", "g", "b"))
    assert not list(tmp_path.iterdir())


def test_the_command_lays_out_a_split_or_what_was_made_of_it(tmp_path):
    where = centres(16, ("GRS",))
    images, _ = Cutter(planet(180), 32)(where.latitude, where.longitude)
    file = {"zone": 0, "latitude": where.latitude, "longitude": where.longitude}
    with Writer(
        tmp_path / "junocam2hst.h5", ("red", "green", "blue"), ("GRS",), 500.0, 16000.0, {}
    ) as writer:
        writer.append("train", images, **file, perijove=16)
        writer.append("test", images, **file, perijove=np.repeat([18, 19], 32))
        writer.append("target", images, **file, cycle=26, rotation=0)

    def bench(*words):
        words = ("--data", tmp_path, "--degrees", 1, *words, "--out", tmp_path / "out" / "map.tif")
        return CliRunner().invoke(command, list(map(str, words)))

    assert bench().exit_code == 0
    with rasterio.open(tmp_path / "out" / "map.tif") as made:
        before = torch.from_numpy(made.read())
        assert made.tags()["segments"] == "64"
    known = before.isfinite()
    assert (before - planet(180).values)[known].abs().max() < 5e-3
    assert bench("--perijove", 18).exit_code == 0
    with rasterio.open(tmp_path / "out" / "map.tif") as made:
        part = torch.from_numpy(made.read()).isfinite()
        assert 0.4 < part.sum() / known.sum() < 0.65
    np.save(tmp_path / "calibrated.npy", images.numpy() / 2)
    assert bench("--segments", tmp_path / "calibrated.npy").exit_code == 0
    with rasterio.open(tmp_path / "out" / "map.tif") as made:
        torch.testing.assert_close(torch.from_numpy(made.read())[known], before[known] / 2, atol=1e-5, rtol=0)
    np.save(tmp_path / "calibrated.npy", images.numpy()[:5])
    for words, said in (
        (("--segments", tmp_path / "calibrated.npy"), "expected (64, C, H, H)"),
        (("--perijove", 17), "no segment of perijove 17"),
    ):
        error = bench(*words).exception
        assert isinstance(error, DataError) and said in str(error)


def test_a_map_is_all_of_the_planet():
    with pytest.raises(DataError, match=r"expected \(C, H, 2H\)"):
        GlobalMap(torch.zeros(3, 10, 10))


class Segments:
    """Two segments that overlap by half, of known values."""

    name, pixels = "test", 32

    def column(self, name):
        return {"latitude": np.zeros(2), "longitude": np.array([100.0, 106.0])}.get(name)

    def __getitem__(self, index):
        return SimpleNamespace(pan=torch.zeros(1, 3, self.pixels, self.pixels))


def test_a_map_says_how_far_its_segments_and_samples_agree(tmp_path):
    """Two segments of I/F .2 and .6, and three samples of each about it: every deviation is known."""
    about = torch.tensor([-0.03, 0.0, 0.03])
    images = [(v + about).view(1, 3, 1, 1, 1).expand(1, 3, 3, 32, 32).clone() for v in (0.2, 0.6)]
    made = lay_out(Segments(), iter(images), tmp_path / "map", "toy", ("red", "green", "blue"))
    assert [p.name for p in made] == ["map.tif", "map.png", "map-spread.tif", "map-spread.png"]
    with rasterio.open(tmp_path / "map.tif") as file:
        whole, frame = torch.from_numpy(file.read()), GlobalMap(torch.zeros(1, file.height, file.width))
        assert file.descriptions == ("red", "green", "blue", "red sd", "green sd", "blue sd")
    with rasterio.open(tmp_path / "map-spread.tif") as file:
        assert file.descriptions[0] == "red sd between segments" and file.descriptions[-1] == "segments"
        parts = torch.from_numpy(file.read())
    row = int(frame.row(torch.tensor(0.0)).round())
    alone, both = frame.column(torch.tensor([96.0, 103.0])).round().long().tolist()
    between, within = 0.4 / 2**0.5, 0.03  # of two; of three samples
    assert whole[0, row, both].item() == pytest.approx(0.4)
    # a scatter of means over three samples already holds a third of theirs
    assert whole[3, row, both].item() == pytest.approx((between**2 + within**2 * 2 / 3) ** 0.5)
    assert parts[:, row, both].tolist() == pytest.approx([between] * 3 + [within] * 3 + [2])
    assert parts[:, row, alone].tolist() == pytest.approx(
        [float("nan")] * 3 + [within] * 3 + [1], nan_ok=True
    )
    assert whole[3, row, alone].isnan() and whole[0, row, alone].item() == pytest.approx(0.2)


def test_segments_of_one_map_agree_where_they_overlap(cut, tmp_path):
    """What is left is the error of two interpolations, far below any method's own."""
    _, images, latitude, longitude = cut
    split = Segments()
    split.pixels, places = 64, {"latitude": latitude, "longitude": longitude}
    split.column = places.get
    lay_out(split, [images], tmp_path / "map", "toy", ("red", "green", "blue"))
    with rasterio.open(tmp_path / "map-spread.tif") as file:
        assert file.count == 4  # no samples
        spread = file.read(1)
    assert np.isfinite(spread).mean() > 0.6 and np.nanmax(spread) < CLOSE
