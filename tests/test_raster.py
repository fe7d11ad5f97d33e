"""GeoTIFF: what is written is read back with its place, and nothing half-written is left."""

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from pansharp_bench.errors import BenchError
from pansharp_bench.raster import Thumbnail, geotiff, write_geotiff

PLACE = {"crs": "EPSG:32632", "transform": from_origin(500000, 5000000, 2.0, 2.0)}


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 0), ("float32", np.nan)])
def test_what_is_written_is_read_back(tmp_path, dtype, nodata):
    values = torch.randint(1, 60000, (2, 50, 70)).float()
    strips = [(0, values[:, :30]), (30, values[:, 30:])]
    path = write_geotiff(
        tmp_path / "new" / "a.tif", strips, (50, 70), ("pan", "nir"), dtype=dtype, nodata=nodata,
        tags={"method": "exp"}, **PLACE,
    )  # fmt: skip
    with rasterio.open(path) as file:
        assert (file.crs.to_epsg(), file.transform) == (32632, PLACE["transform"])
        assert file.descriptions == ("pan", "nir") and file.tags()["method"] == "exp"
        assert file.dtypes == (dtype, dtype)
        np.testing.assert_equal(file.nodata, float(nodata))
        np.testing.assert_array_equal(file.read(), values.numpy())
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path):
    def broken():
        yield 0, torch.zeros(1, 4, 8)
        raise KeyboardInterrupt

    path = tmp_path / "a.tif"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_geotiff(path, broken(), (8, 8), ("pan",), **PLACE)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_one_clear_error(tmp_path):
    with pytest.raises(BenchError, match=r"end in \.tif"):
        write_geotiff(tmp_path / "a.png", [], (8, 8), ("pan",), **PLACE)
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match=r"cannot write to .*a\.tif"):
        write_geotiff(tmp_path / "file" / "a.tif", [], (8, 8), ("pan",), **PLACE)
    with pytest.raises(BenchError, match=r"a\.tif cannot be written"):
        write_geotiff(tmp_path / "a.tif", [(6, torch.zeros(1, 4, 8))], (8, 8), ("pan",), **PLACE)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


STRUCTURE = {"ns": "IMAGE_STRUCTURE"}


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 0), ("float32", np.nan)])
def test_a_cloud_optimised_geotiff_by_what_gdal_says(tmp_path, dtype, nodata):
    values = np.random.default_rng(0).integers(1, 60000, (2, 1100, 700)).astype(dtype)
    values[:, :300] = nodata
    path = tmp_path / "a.tif"
    with geotiff(
        path, values.shape[1:], ("pan", "nir"), dtype=dtype, nodata=nodata, format="COG",
        options={"COMPRESS": "ZSTD"}, **PLACE,
    ) as out:  # fmt: skip
        out.write(values)
        out.update_tags(METHOD="exp")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    with rasterio.open(path) as file:
        assert file.tags(**STRUCTURE)["LAYOUT"] == "COG" and file.tags(**STRUCTURE)["COMPRESSION"] == "ZSTD"
        assert file.tags()["METHOD"] == "exp" and file.descriptions == ("pan", "nir")
        assert (file.crs.to_epsg(), file.transform) == (32632, PLACE["transform"])
        np.testing.assert_array_equal(file.read(), values)
        assert file.overviews(1) == [2, 4]
        # every directory comes before any pixel, and the pixels of the smallest overview first
        directories, pixels = (
            [int(file.get_tag_item(key, "TIFF", bidx=1, **at)) for at in ({}, {"ovr": 0}, {"ovr": 1})]
            for key in ("IFD_OFFSET", "BLOCK_OFFSET_0_0")
        )
        assert directories == sorted(directories) and pixels == sorted(pixels, reverse=True)
        assert max(directories) < min(pixels)
    with rasterio.open(path, overview_level=1) as file:
        small = file.read(masked=True)
        assert small.mask[:, :74].all() and not small.mask[:, 76:].any()
        expected = values[:, 400:404, 100:104].astype(float).mean((1, 2))
        assert np.abs(small[:, 100, 25] - expected).max() <= 1


def test_overviews(tmp_path):
    values = np.random.default_rng(0).integers(1, 60000, (1, 1100, 600)).astype("uint16")
    for ask in (True, False):
        with geotiff(
            tmp_path / "a.tif", (1100, 600), ("pan",), dtype="uint16", overviews=ask, **PLACE
        ) as out:
            out.write(values)
        with rasterio.open(tmp_path / "a.tif") as file:
            assert file.overviews(1) == ([2, 4] if ask else [])
            np.testing.assert_array_equal(file.read(), values)


def test_options_of_a_cog_are_looked_at_before_the_work(tmp_path):
    for options, message in (({"COMPRES": "LZW"}, "COMPRES"), ({"COMPRESS": "NOPE"}, "NOPE")):
        with pytest.raises(BenchError, match=message), \
            geotiff(tmp_path / "a.tif", (64, 64), ("pan",), format="COG", options=options, **PLACE):  # fmt: skip
            pytest.fail("the work has begun")
    assert not list(tmp_path.iterdir())


def test_a_thumbnail_does_not_depend_on_the_strips():
    values = torch.rand(3, 40, 60)
    values[:, 3:9, 10:30] = torch.nan
    pictures = []
    for rows in (40, 7):
        small = Thumbnail(60, 20)
        strips = [(r, values[:, r : r + rows]) for r in range(0, 40, rows)]
        assert all(a is b[1] for (_, a), b in zip(small.watch(strips), strips, strict=True))
        pictures.append(small.values)
    assert pictures[0].shape == (3, 13, 20)
    torch.testing.assert_close(*pictures, rtol=0, atol=0, equal_nan=True)
    assert pictures[0][:, 1, 4].isnan().all()
    torch.testing.assert_close(pictures[0][:, 10, 5], values[:, 30:33, 15:18].mean((1, 2)))
