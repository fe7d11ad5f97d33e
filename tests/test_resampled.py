"""An MS that does not lie on PAN's pixels is brought there by one resampling, and its place is right after it."""

import math
from functools import cache

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin
from rasterio.warp import transform
from scenes import simulated
from scipy.ndimage import gaussian_filter, map_coordinates

from pansharp_bench.assess import assess_files
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.raster import Grid, Raster, aligned, misfit, relate
from pansharp_bench.scenes import SensorFigures, fuse_files, open_pair

HERE = CRS.from_epsg(32633)
PAN = from_origin(680000, 5000000, 2, 2)  # east in its zone: the next one's north is 3 degrees off
SIDE = 384
CAMERA = SensorFigures(2047)


def sharp():
    return simulated(size=SIDE)[0][0].numpy()


@cache
def blurred():
    """What an MS pixel of four PAN pixels gathers, known everywhere by splines."""
    return gaussian_filter(sharp(), 1.6, mode="mirror")


def field(x, y):
    """MS's scene at PAN column and row, DN."""
    return map_coordinates(blurred(), [y, x], order=5, mode="mirror")


def write(path, values, place, crs=HERE, **profile):
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[1], width=values.shape[2], count=len(values),
        dtype="uint16", crs=crs, transform=place, **profile,
    ) as out:  # fmt: skip
        out.write(values.round().astype("uint16"))
    return path


def centres(shape, place, crs):
    """Column and row of PAN where the pixels of a grid are centred."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    x = place.a * columns + place.b * rows + place.c
    y = place.d * columns + place.e * rows + place.f
    if crs != HERE:
        x, y = (np.reshape(v, shape) for v in transform(crs, HERE, x.ravel(), y.ravel()))
    return (x - PAN.c) / PAN.a - 0.5, (y - PAN.f) / PAN.e - 0.5


def turned(degrees, north):
    s, c = 8 * math.sin(math.radians(degrees)), 8 * math.cos(math.radians(degrees))
    return Affine(c, s, 679990, s if north > 0 else -s, -north * c, 4999990 if north > 0 else 4999240)


def around(crs, pixel, shape):
    """North up in another system, over the middle of PAN."""
    (x,), (y,) = transform(HERE, crs, [PAN.c + SIDE], [PAN.f - SIDE])
    return from_origin(x - shape[1] / 2 * pixel[0], y + shape[0] / 2 * pixel[1], *pixel)


DEGREES = CRS.from_epsg(4326)
NEXT = CRS.from_epsg(32634)
MISFITS = {
    "4.015": ("resample", HERE, from_origin(680000, 5000000, 8.03, 8.03), (96, 96)),
    "next zone": ("warp", NEXT, around(NEXT, (8, 8), (110, 110)), (110, 110)),
    "degrees": ("warp", DEGREES, around(DEGREES, (1.02e-4, 7.2e-5), (104, 104)), (104, 104)),
    "rotated": ("warp", HERE, turned(7, 1), (96, 96)),
    "mirrored": ("warp", HERE, turned(0, -1), (96, 96)),
}


@pytest.fixture(scope="module")
def pan(tmp_path_factory):
    return write(tmp_path_factory.mktemp("scene") / "pan.tif", sharp()[None], PAN)


@pytest.fixture(scope="module", params=MISFITS)
def scene(request, pan):
    mend, crs, place, shape = MISFITS[request.param]
    values = field(*centres(shape, place, crs))
    ms = write(pan.with_name("ms.tif"), values + 100 * np.arange(3)[:, None, None], place, crs)
    return mend, pan, ms


def test_ms_lies_where_it_should(scene):
    mend, pan, ms = scene
    with pytest.raises(DataError, match=f"--{mend}"), open_pair(pan, ms, CAMERA):
        pass
    other = {"warp": "resample", "resample": "warp"}[mend]
    with pytest.raises(DataError, match=f"--{mend}"), open_pair(pan, ms, CAMERA, **{other: True}):
        pass
    with open_pair(pan, ms, CAMERA, **{mend: True}) as pair:
        assert pair.ms.resampled == "lanczos" and pair.placement.ratio == 4
        assert pair.placement.phase == (1.5, 1.5)
        found = pair.registration()
        assert len(found.offsets) == 9 and found.size < 0.05 and math.hypot(*found.drift) < 0.1
        rows, columns = slice(40, 50), slice(40, 50)
        values, valid = pair.read_ms(rows, columns)
        at = pair.placement.pan
        y, x = np.mgrid[40:50, 40:50] * 4 + 1.5
        expected = field(x + at[1], y + at[0])
        assert valid.all() and (values[0].numpy() - expected).std() < 0.2 * expected.std()
        assert values[1].sub(values[0]).sub(100).abs().max() < 2


def test_by_counts_it_drifts(pan):
    _, crs, place, shape = MISFITS["4.015"]
    ms = write(pan.with_name("counts.tif"), field(*centres(shape, place, crs))[None], place)
    with open_pair(pan, ms, CAMERA, align="counts") as pair:
        assert min(pair.registration().drift) > 0.5
    with pytest.raises(BenchError, match="--resample goes by the georeferences"), \
        open_pair(pan, ms, CAMERA, align="counts", resample=True):  # fmt: skip
        pass


def test_what_lies_on_pan_already_is_left_alone(pan):
    ms = write(pan.with_name("fits.tif"), np.full((1, 96, 96), 500.0), from_origin(680000, 5000000, 8, 8))
    with open_pair(pan, ms, CAMERA, warp=True, resample=True) as pair:
        assert not pair.ms.resampled and pair.read_ms(slice(0, 4), slice(0, 4))[1] is None


@pytest.mark.parametrize("by", ["value", "mask", "alpha", "files", "fill", "fill of files"])
def test_pixels_without_a_value_do_not_bleed(pan, by):
    """A constant scene with a hole: what is near the hole is the constant, what is in it has no value."""
    _, crs, place, shape = MISFITS["next zone"]
    values = np.full((2, *shape), 700.0)
    known = np.ones(shape, bool)
    known[50:60, 50:60] = False
    values[:, ~known] = 60000
    profile = {"nodata": 60000} if by in ("value", "files") else {}
    if by == "alpha":
        values, profile = np.concatenate([values, known[None] * 65535]), {"alpha": "yes"}
    if "fill" in by:  # beside a value that the files do declare, and a band of a pixel that may have it
        values[:, :, 90:], profile = 9, {"nodata": 9}
        values[1, 30:40, 30:40] = 60000
    paths = [
        write(pan.with_name(f"{by}{i}.tif"), part, place, crs, **profile)
        for i, part in enumerate(np.split(values, 2) if "files" in by else [values])
    ]
    if by == "alpha":
        with rasterio.open(paths[0], "r+") as file:
            file.colorinterp = [ColorInterp.gray, ColorInterp.undefined, ColorInterp.alpha]
    if by == "mask":
        with rasterio.open(paths[0], "r+") as file:
            file.write_mask(known)
    with open_pair(pan, paths, CAMERA, warp=True, nodata=60000 if "fill" in by else None) as pair:
        assert len(pair.ms) == 2
        values, valid = pair.read_ms(slice(0, pair.size[0] // 4), slice(0, pair.size[1] // 4))
        lost = (~valid[20:80, 20:80]).sum().item()
        assert values[0, valid].sub(700).abs().max() < 0.05 and 90 < lost < 110


def test_the_file_and_the_summary_say_it(scene, tmp_path, monkeypatch):
    mend, pan, ms = scene
    words = ("--peak", "2047", "--pan", str(pan), "--ms", str(ms), f"--{mend}")
    result = CliRunner().invoke(main, ["fuse", "--method", "exp", *words, "-o", str(tmp_path / "fused.tif")])
    assert result.exit_code == 0, result.output
    assert "resampled     MS onto pixels of 4 PAN pixels on PAN's grid (lanczos)" in result.stderr
    assert "!" not in result.stderr
    with rasterio.open(tmp_path / "fused.tif") as file:
        assert file.tags()["PANSHARP_MS_RESAMPLED"] == "lanczos" and file.crs == HERE
        assert ((file.transform.c - PAN.c) / 8).is_integer()


def test_assess_resamples_as_well(pan):
    _, crs, place, shape = MISFITS["4.015"]
    ms = write(pan.with_name("judged.tif"), field(*centres(shape, place, crs))[None], place)
    fused = write(pan.with_name("fused.tif"), sharp()[None, :64, :64], PAN)
    with pytest.raises(DataError, match="--resample"):
        assess_files(fused, pan, ms, sensor=CAMERA)
    assert assess_files(fused, pan, ms, sensor=CAMERA, resample=True).facts()["ms_resampled"] == "lanczos"


def test_tiles_leave_no_trace(pan, tmp_path):
    _, crs, place, shape = MISFITS["next zone"]
    ms = write(pan.with_name("tiles.tif"), field(*centres(shape, place, crs))[None], place, crs)
    found = []
    for tile in (1024, 200):
        fuse_files(
            pan, ms, tmp_path / "fused.tif", "exp", sensor=CAMERA, warp=True, tile=tile, dtype="float64"
        )
        with rasterio.open(tmp_path / "fused.tif") as file:
            found.append(torch.from_numpy(file.read()))
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)


def test_pan_may_be_turned_as_well():
    """PAN is never resampled: the common grid is turned with it, and an MS turned likewise lies there already."""
    pan = Grid("pan.tif", (400, 400), turned(7, 1), HERE)
    ms = Grid("ms.tif", (60, 60), from_origin(680200, 4999400, 12, 12), HERE)
    assert misfit(pan, ms).mend == "warp"
    target = aligned(pan, ms)
    assert misfit(pan, target) is None and relate(pan, target)[0] == 2
    assert all(c == pytest.approx(round(c - 0.5) + 0.5, abs=1e-6) for c in relate(pan, target)[1])


@pytest.mark.parametrize("crs", [HERE, None])
@pytest.mark.parametrize("degrees", [0, 30, 45, 90])
def test_the_ratio_is_that_of_areas_however_ms_is_turned(degrees, crs):
    s, c = 8 * math.sin(math.radians(degrees)), 8 * math.cos(math.radians(degrees))
    ms = Grid("ms", (40, 40), Affine(c, s, 680384, s, -c, 4999616), crs)
    found = aligned(Grid("pan", (SIDE, SIDE), PAN, crs), ms)
    assert (found.transform.a, found.transform.e, found.crs) == (8, -8, crs)


def test_what_no_resampling_brings_together(pan, tmp_path):
    far = write(tmp_path / "far.tif", np.ones((1, 20, 20)), from_origin(500000, 6000000, 8, 8), NEXT)
    fine = write(tmp_path / "fine.tif", np.ones((1, 20, 20)), around(NEXT, (0.5, 0.5), (20, 20)), NEXT)
    nowhere = write(tmp_path / "nowhere.tif", np.ones((1, 20, 20)), PAN, None)
    for path, message in (
        (far, "no ground in common"),
        (fine, "are PAN and MS swapped"),
        (nowhere, r"in no known system: name the one"),
    ):
        with pytest.raises(DataError, match=message), open_pair(pan, path, CAMERA, warp=True):
            pass


def test_a_damaged_file_is_told(pan, tmp_path):
    _, crs, place, shape = MISFITS["next zone"]
    path = write(tmp_path / "ms.tif", np.random.default_rng(0).random((1, *shape)) * 999, place, crs)
    path.write_bytes(path.read_bytes()[:9000])
    with Raster(path, "MS") as file:
        file.onto(aligned(Grid("pan", (SIDE, SIDE), PAN, HERE), file.grid))
        with pytest.raises(DataError, match="damaged or cut short"):
            file.read(slice(0, 90), slice(0, 90))
