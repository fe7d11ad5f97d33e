"""GeoTIFF: what is written is read back with its place, and nothing half-written is left."""

import numpy as np
import pytest
import rasterio
import torch
from rasterio.transform import from_origin

from pansharp_bench.errors import BenchError
from pansharp_bench.raster import Thumbnail, write_geotiff

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
