"""Where MS lies on PAN follows from both transforms, and what cannot be told is refused."""

import shlex

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from rasterio.rio.main import main_group
from rasterio.transform import Affine, from_origin
from scenes import CORNER, CRS, write

from pansharp_bench.errors import DataError
from pansharp_bench.raster import Grid, Raster, place, relate, relate_counts

PAN = from_origin(500000, 5000000, 0.5, 0.5)


def grid(transform, size, crs=CRS, name="ms.tif"):
    return Grid(name, size, transform, rasterio.crs.CRS.from_user_input(crs) if crs else None)


@pytest.mark.parametrize(
    ("corner", "pixel", "ratio", "centre"),
    [
        ((0, 0), 2.0, 4, 1.5),  # a common corner
        ((0.25, 0.25), 2.0, 4, 2.0),  # as the toolbox has it
        ((-0.25, -0.25), 1.0, 2, 0.0),  # Landsat: common centres
        ((0, 0), 1.0, 2, 0.5),
        ((-10.065, -10.065), 2.0, 4, -18.63),
        ((3, 3), 2.0, 4, 7.5),
    ],
)
def test_the_place_of_ms_on_pan(corner, pixel, ratio, centre):
    ms = grid(from_origin(500000 + corner[0], 5000000 - corner[1], pixel, pixel), (16, 16))
    assert relate(grid(PAN, (80, 80)), ms) == (ratio, pytest.approx((centre, centre), abs=1e-6))


@pytest.mark.parametrize(
    ("centre", "ratio", "pan", "ms", "phase", "starts", "count"),
    [
        (1.5, 4, 64, 16, 1.5, (0, 0), 16),
        (2.0, 4, 64, 16, 2.0, (0, 0), 16),  # of two choices the one that loses nothing
        (1.0, 2, 32, 16, 1.0, (0, 0), 16),
        (0.0, 2, 31, 16, 0.0, (0, 0), 15),
        (-1e-9, 2, 31, 16, 0.0, (0, 0), 15),
        (0.0, 4, 64, 16, 1.0, (3, 1), 15),  # the first MS pixel is half outside
        (-18.63, 4, 64, 16, 1.37, (0, 5), 11),
        (7.5, 4, 64, 16, 1.5, (6, 0), 14),
        (1.5, 4, 62, 16, 1.5, (0, 0), 15),
    ],
)
def test_whole_ms_pixels_that_both_cover(centre, ratio, pan, ms, phase, starts, count):
    found = place((centre, 1.5), ratio, (pan, 64), (ms, 16))
    assert found.phase[0] == pytest.approx(phase, abs=1e-6) and str(found.phase[0])[:2] != "-0"
    assert (found.pan[0], found.ms[0], found.size[0]) == (*starts, count)
    # the part keeps MS where the whole has it, and lies within both images
    assert found.pan[0] + found.phase[0] == pytest.approx(centre + ratio * found.ms[0], abs=1e-6)
    assert found.pan[0] + found.pan_size[0] <= pan and found.ms[0] + found.size[0] <= ms


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"transform": from_origin(500000, 5000000, 2.0075, 2.005)},
            r"4\.01 x 4\.015 PAN pixels.*--resample",
        ),
        ({"transform": from_origin(500000, 5000000, 0.1, 0.1)}, "are PAN and MS swapped"),
        ({"transform": Affine(1.9, 0.2, 500000, 0.2, -1.9, 5000000)}, "rotated or sheared.*--warp"),
        ({"transform": Affine(2, 0, 500000, 0, 2, 4999968)}, "mirrored.*--warp"),
        ({"crs": "EPSG:32634"}, r"EPSG:32633 and ms\.tif in EPSG:32634: --warp"),
        ({"crs": None}, "no known system"),
        ({"transform": None}, r"ms\.tif has no georeference.*--align counts"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    given = {"transform": from_origin(500000, 5000000, 2, 2), "crs": CRS} | change
    with pytest.raises(DataError, match=message):
        relate(grid(PAN, (64, 64), name="pan.tif"), grid(given["transform"], (16, 16), given["crs"]))


def test_an_inexact_ratio_is_shared_out_about_the_middle():
    pixel = 2.0004  # .0008 of a PAN pixel too large, an MS pixel
    ratio, centre = relate(
        grid(PAN, (800, 800)), grid(from_origin(500000, 5000000, pixel, pixel), (200, 200))
    )
    assert ratio == 4 and centre[0] == pytest.approx(1.5 + 0.0008 * 100, abs=1e-6)


def test_apart_and_counts():
    with pytest.raises(DataError, match="no ground in common"):
        place((1000.5, 1.5), 4, (64, 64), (16, 16))
    assert relate_counts(grid(None, (64, 96)), grid(None, (16, 24))) == 4
    for pan, ms in (((64, 64), (16, 20)), ((16, 16), (64, 64)), ((65, 64), (16, 16))):
        with pytest.raises(DataError, match="no whole multiple"):
            relate_counts(grid(None, pan), grid(None, ms))


def test_tie_points_and_camera_models_are_told_to_be_orthorectified(tmp_path):
    path = tmp_path / "raw.tif"
    points = [
        rasterio.control.GroundControlPoint(row=r, col=c, x=15 + c / 1e3, y=45 - r / 1e3)
        for r, c in ((0, 0), (0, 15), (15, 0))
    ]
    with rasterio.open(path, "w", driver="GTiff", height=16, width=16, count=1, dtype="uint8") as out:
        out.write(np.ones((1, 16, 16), "uint8"))
        out.gcps = (points, rasterio.crs.CRS.from_epsg(4326))
    with Raster(path) as raster, pytest.raises(DataError, match="orthorectify"):
        relate(grid(PAN, (64, 64)), raster.grid)


# -- bands --

BGRN = ("blue", "green", "red", "nir")


def raster(folder, names=None, count=4, file="ms.tif", **profile):
    values = torch.arange(1.0, count + 1)[:, None, None] * torch.ones(1, 8, 8)
    return write(folder / file, values, 2.0, names=names, **profile)


def order(file):
    return file.read(slice(0, 1), slice(0, 1))[0].flatten().tolist()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("red", "green", "blue", "nir"), [3, 2, 1, 4]),
        (("NIR", "Red", "Green", "Blue"), [4, 3, 2, 1]),
        (("R", "G", "B", "Near Infrared"), [3, 2, 1, 4]),
        (("red", "green", "blue", None), [3, 2, 1, 4]),  # what is left is what is missing
        (("red", "green", "blue", "swir", "near_ir"), [3, 2, 1, 5]),
    ],
)
def test_bands_are_found_by_description(tmp_path, names, expected):
    with Raster(raster(tmp_path, names, len(names)), "MS") as file:
        assert file.choose_named(BGRN) and order(file) == expected and file.names == BGRN


def test_bands_are_found_by_colour(tmp_path):
    path = raster(tmp_path, dtype="uint8", photometric="rgb", alpha="unspecified")
    with Raster(path, "MS") as file:
        assert file.names == ("red", "green", "blue", "")
        assert file.choose_named(BGRN) and order(file) == [3, 2, 1, 4]


@pytest.mark.parametrize(
    ("names", "count", "message"),
    [
        (None, 5, r"has 5 bands where the sensor has 4 \(blue, green, red, nir\).*: so"),
        (None, 3, r"has 3 bands where the sensor has 4 \(blue, green, red, nir\).*: are these all its bands"),
        (("red", "green", "swir", "nir"), 4, r"are red, green, swir, nir; the sensor's are.*: so"),
        (("red", "red", "blue", "nir"), 4, ": so"),
    ],
)
def test_bands_that_cannot_be_told_are_asked_for(tmp_path, names, count, message):
    with Raster(raster(tmp_path, names, count), "MS") as file, pytest.raises(DataError, match=message):
        file.choose_named(BGRN, "so")


@pytest.mark.parametrize("missed", [lambda f: f.choose_named(BGRN), lambda f: f.choose([3, 2, 1, 4])])
def test_a_band_that_counts_as_alpha_is_told_with_a_command_that_mends_it(tmp_path, missed):
    """As GDAL writes four bands of eight bits, unless it is told otherwise."""
    path = raster(tmp_path, file="m s.tif", dtype="uint8", photometric="rgb", alpha="yes")
    with Raster(path, "MS") as file, pytest.raises(DataError, match="beside one marked as alpha") as told:
        missed(file)
    _, mend, _ = str(told.value).split("`")
    _, *words = shlex.split(mend)
    assert words[-1] == str(path) and CliRunner().invoke(main_group, words).exit_code == 0
    with Raster(path, "MS") as file:
        missed(file)
        assert order(file) == [3, 2, 1, 4]


def test_one_file_a_band(tmp_path):
    paths = [raster(tmp_path, count=i, file=f"b{i}.tif") for i in (1, 2)]
    with Raster(paths, "MS") as file:
        assert len(file) == 3 and order(file) == [1, 1, 2] and not file.choose_named(("a", "b", "c"))
        file.choose([3, 1])
        assert order(file) == [2, 1]
        for band in (3, 0):  # they are counted from 1
            with pytest.raises(DataError, match=f"has no band {band}; it has 2"):
                file.choose([band])
    other = write(tmp_path / "other.tif", torch.ones(1, 9, 8), 2.0)
    with pytest.raises(DataError, match="differ in size or place"):
        Raster([paths[0], other], "MS")


# -- values that are none --


def test_nodata_masks_alpha_and_nan(tmp_path):
    values = torch.full((2, 8, 8), 7.0)
    values[0, 0, 0] = 0
    expected = torch.ones(8, 8, dtype=bool)
    expected[0, 0] = False
    plain = write(tmp_path / "plain.tif", values, 2.0)
    by_value = write(tmp_path / "value.tif", values, 2.0, nodata=0)
    by_mask = write(tmp_path / "mask.tif", values, 2.0)
    with rasterio.open(by_mask, "r+") as file:
        file.write_mask(expected.numpy())
    by_alpha = write(
        tmp_path / "alpha.tif", torch.cat([values, values[:1], 255.0 * expected[None]]), 2.0, dtype="uint8",
        photometric="rgb", alpha="yes",
    )  # fmt: skip
    gap = values.clone()
    gap[1, 0, 0] = torch.nan
    by_nan = write(tmp_path / "nan.tif", gap, 2.0, dtype="float32")
    window = (slice(0, 8), slice(0, 8))
    with Raster(plain) as file:
        assert not file.masked and file.read(*window)[1] is None
    for path in (by_value, by_mask, by_alpha, by_nan):
        with Raster(path) as file:
            assert file.masked and torch.equal(file.read(*window)[1], expected), path.name
            assert file.read(slice(2, 4), slice(2, 8))[
                1
            ].all()  # a window without such has a mask all the same
    with Raster(by_alpha) as file:
        assert len(file) == 3


@pytest.mark.parametrize("crs", [CRS, None])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_fill_is_what_every_band_has_on_the_file_s_grid_and_on_another(tmp_path, dtype, crs):
    values = torch.full((2, 16, 16), 7.0)
    values[0, 4, 4] = 0
    values[:, 8, 8] = 0
    expected = torch.ones(16, 16, dtype=torch.bool)
    expected[8, 8] = False
    path = write(tmp_path / "plain.tif", values, 2.0, dtype=dtype, crs=crs)
    window = slice(0, 16), slice(0, 16)
    with Raster(path, fill=0) as file:
        assert file.masked and file.nodata == 0 and torch.equal(file.read(*window)[1], expected)
        file.onto(file.grid)
        found, valid = file.read(*window)
        assert torch.equal(valid, expected) and found[1, 4, 4].item() == pytest.approx(7)


def test_values_are_read_as_they_are(tmp_path):
    values = torch.randint(0, 65535, (3, 8, 10), generator=torch.Generator().manual_seed(0)).double()
    with Raster(write(tmp_path / "a.tif", values, 2.0)) as file:
        found, _ = file.read(slice(1, 5), slice(2, 9))
        assert found.dtype == torch.float64 and torch.equal(found, values[:, 1:5, 2:9])
        assert file.grid.window(1, 2, (4, 7)).transform == from_origin(CORNER[0] + 4, CORNER[1] - 2, 2, 2)
