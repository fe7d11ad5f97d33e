"""From a PAN and an MS GeoTIFF to a fused one: the right place, bands and type, or one clear error."""

import json
import math
import re
import shutil
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import torch
from click.testing import CliRunner
from rasterio.enums import ColorInterp
from scenes import (
    CORNER,
    colours,
    cut,
    full_disk,
    huge,
    no_scale,
    no_value,
    nothing,
    one_pixel,
    other_system,
    simulated,
    write,
    write_pair,
)

import pansharp_bench as pb
from pansharp_bench import scenes, tiles
from pansharp_bench.assess import assess_files
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.method import build, resolve_config
from pansharp_bench.raster import Raster
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import as_sensor
from pansharp_bench.scenes import SensorFigures, as_samples, fuse_files, open_pair
from pansharp_bench.weights import save_weights


@pytest.fixture
def pair(tmp_path):
    return write_pair(tmp_path)


def fuse(pair, out, method="exp", **more):
    done = fuse_files(*pair, out, method, **{"sensor": "qb", **more})
    with rasterio.open(done.path) as file:
        return done, torch.from_numpy(file.read().astype(float)), file.profile | {"tags": file.tags()}


def left(folder):
    return sorted(p.name for p in folder.iterdir())


def test_the_result_lies_on_pan_and_says_what_it_is(pair, tmp_path):
    done, fused, profile = fuse(pair, tmp_path / "fused.tif", "gsa")
    with rasterio.open(pair[0]) as pan:
        assert (profile["crs"], profile["transform"]) == (pan.crs, pan.transform)
        assert fused.shape == (4, *pan.shape) and profile["dtype"] == pan.dtypes[0]
    tags = {k.removeprefix("PANSHARP_"): v for k, v in profile["tags"].items() if k.startswith("PANSHARP")}
    assert tags["SOFTWARE"] == f"pansharp-bench {pb.__version__}" and tags["METHOD"] == "gsa"
    assert json.loads(tags["PHASE"]) == [1.5, 1.5] and json.loads(tags["SENSOR"])["name"] == "qb"
    assert json.loads(tags["REGISTRATION"])["judged"]
    assert done.registration.size < 0.1 and not done.remarks and not done.named
    assert left(tmp_path) == ["fused.tif", "ms.tif", "pan.tif"]


def test_the_seams_of_a_method_that_sees_tiles_are_said(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(tiles, "APPROXIMATE", tiles.SEAM)
    monkeypatch.setattr(scenes, "fuse_pair", partial(tiles.fuse_pair, whole=1000))
    entry = METHODS.get("lagnet")
    network = build(entry, as_sensor("qb"), resolve_config(entry, "quick"))
    weights = tmp_path / "lagnet.safetensors"
    save_weights(network.state_dict(), weights, json.dumps({"method": "lagnet", "sensor": "qb"}))
    given = {"weights": weights, "approximate": True, "tile": 96}
    with pytest.warns(UserWarning, match=r"neighbouring tiles differ by .* DN on average, .* at most"):
        done, _, _ = fuse(pair, tmp_path / "fused.tif", "lagnet", **given)
    assert 0 < done.seam[0] < done.seam[1]


@pytest.mark.parametrize("centre", [2.0, 1.2, -5.3])
def test_ms_is_where_its_georeference_says(tmp_path, centre):
    done, _, profile = fuse(write_pair(tmp_path, centre), tmp_path / "fused.tif")
    assert done.registration.size < 0.15
    first = profile["transform"].c - CORNER[0]
    assert first >= 0 and done.phase[0] + first / 0.6 == pytest.approx(
        centre + (4 if centre < 0 else 0) * 2, abs=1e-3
    )


def test_the_offset_that_is_left_is_said_and_corrected(tmp_path):
    pan, ms, truth = simulated(centre=3.0)
    pair = write(tmp_path / "pan.tif", pan, 0.6), write(tmp_path / "ms.tif", ms, 2.4)
    with pytest.warns(UserWarning, match=r"misregistered: MS lies -1\.\d+ rows.*--register"):
        plain = fuse(pair, tmp_path / "plain.tif", "mtf-glp-fs")
    mended = fuse(pair, tmp_path / "mended.tif", "mtf-glp-fs", register=True)
    assert json.loads(mended[2]["tags"]["PANSHARP_REGISTRATION"])["corrected"]
    row = round((CORNER[1] - mended[2]["transform"].f) / 0.6)
    assert mended[0].registered and row + mended[0].phase[0] == pytest.approx(3.0, abs=0.15)
    errors = []
    for fused, start in ((plain[1], 0), (mended[1], row)):
        rows = slice(16 - start, 224 - start)
        errors.append((fused[:, rows, rows] - truth[:, 16:224, 16:224]).square().mean().sqrt())
    assert errors[1] < 0.8 * errors[0]


def test_bands_in_any_order_come_out_right(tmp_path):
    _, ms, _ = simulated()
    pair = write_pair(tmp_path)
    _, right, _ = fuse(pair, tmp_path / "right.tif", "bt-h")
    mixed = write(tmp_path / "rgbn.tif", ms[[2, 1, 0, 3]], 2.4, names=("red", "green", "blue", "nir"))
    plain = write(tmp_path / "plain.tif", ms[[2, 1, 0, 3]], 2.4)
    files = [write(tmp_path / f"{i}.tif", band[None], 2.4) for i, band in enumerate(ms)]
    for given, more in ((mixed, {}), (plain, {"bands": (3, 2, 1, 4)}), (files, {})):
        done, found, _ = fuse((pair[0], given), tmp_path / "found.tif", "bt-h", **more)
        assert torch.equal(found, right) and done.bands == ("blue", "green", "red", "nir")


def test_mistakes_in_python_are_one_message(pair, tmp_path):
    for more, message in (
        ({"align": "corner"}, "align is 'corner', where one of geo, counts, toolbox"),
        ({"format": "PNG"}, "format is 'PNG', where one of GTiff, COG"),
        ({"threads": 0}, "threads is 0"),
        ({"tile": 0}, "tile is 0"),
        ({"memory": 0}, "memory is 0"),
    ):
        with pytest.raises(BenchError, match=message):
            fuse(pair, tmp_path / "fused.tif", **more)
    assert left(tmp_path) == ["ms.tif", "pan.tif"]


def test_names_of_bands_are_kept_where_the_sensor_has_no_name(tmp_path):
    _, ms, _ = simulated()
    pan, _ = write_pair(tmp_path)
    named = write(tmp_path / "named.tif", ms, 2.4, names=("nir", "red", "green", "blue"))
    half = write(tmp_path / "half.tif", ms, 2.4, names=("nir", "red", "", ""))
    with open_pair(pan, named, SensorFigures(2047)) as opened:
        assert opened.named and opened.sensor.bands == ("nir", "red", "green", "blue")
        assert opened.sensor.rgb == (1, 2, 3)
    with open_pair(pan, half, SensorFigures(2047)) as opened:
        assert not opened.named and opened.sensor.bands == ("band 1", "band 2", "band 3", "band 4")


def test_alignment_without_a_georeference(tmp_path):
    pan, ms, _ = simulated()
    for nowhere in ({"transform": None}, {"crs": None, "transform": None}):  # a system alone is no place
        pair = (
            write(tmp_path / "pan.tif", pan, 0.6, **nowhere),
            write(tmp_path / "ms.tif", ms, 2.4, **nowhere),
        )
        with pytest.raises(DataError, match=r"pan\.tif has no georeference.*--align counts"):
            fuse(pair, tmp_path / "fused.tif")
    placed = fuse(write_pair(tmp_path), tmp_path / "placed.tif", "mtf-glp-fs")[1]
    pair = write(tmp_path / "pan.tif", pan, 0.6, **nowhere), write(tmp_path / "ms.tif", ms, 2.4, **nowhere)
    counted, found, profile = fuse(pair, tmp_path / "fused.tif", "mtf-glp-fs", align="counts")
    assert torch.equal(found, placed) and counted.phase == (1.5, 1.5) and profile["crs"] is None
    usual, found, _ = fuse(pair, tmp_path / "fused.tif", "mtf-glp-fs", align="toolbox")
    expected = pb.fuse("mtf-glp-fs", pan[None], ms[None], "qb")[0].round().clamp(0, 65535)
    assert usual.phase == (2, 2) and torch.equal(found, expected)


@pytest.mark.parametrize(("ratio", "near"), [(3, 2), (6, 4)])
def test_a_ratio_that_images_do_not_expand_by_is_told(tmp_path, ratio, near):
    pan = write(tmp_path / "pan.tif", torch.ones(1, 48, 48), 0.6)
    ms = write(tmp_path / "ms.tif", torch.ones(4, 8, 8), ratio * 0.6)
    for sensor in ("qb", SensorFigures(2047)):
        with pytest.raises(DataError, match=f"{ratio} PAN pixels wide.*to {near} PAN pixels first"), \
            open_pair(pan, ms, sensor):  # fmt: skip
            pass


def test_integers_are_rounded_and_saturated(pair, tmp_path):
    exact = fuse(pair, tmp_path / "exact.tif", "gsa", dtype="float64")[1]
    with pytest.warns(UserWarning, match="53% of the values are beyond the range of uint8"):
        done, found, _ = fuse(pair, tmp_path / "uint8.tif", "gsa", dtype="uint8")
    assert torch.equal(found, exact.round().clamp(0, 255))
    assert done.clipped == int(((exact.round() < 0) | (exact.round() > 255)).sum()) > 0


def test_values_beyond_reason_are_warned_of(pair, tmp_path):
    dark = SensorFigures(peak=100, mtf=(0.3,))
    with pytest.warns(UserWarning, match=r"\d+ values lie beyond 1\.5 times the sensor's peak of 100"):
        done, _, _ = fuse(pair, tmp_path / "fused.tif", sensor=dark)
    assert done.beyond > 0 and done.sensor.mtf == (0.3,) * 4


def test_scale_and_offset_are_honoured(tmp_path):
    _, ms, _ = simulated()
    pair = write_pair(tmp_path)
    right = fuse(pair, tmp_path / "right.tif", dtype="float64")[1]
    with rasterio.open(pair[0], "r+") as file:
        file.scales, file.offsets = (2e-4,), (-0.1,)
    scaled = write(tmp_path / "scaled.tif", (ms * 2 - 50) / 4, 2.4, dtype="float64")
    with rasterio.open(scaled, "r+") as file:  # what it means: ms * 2e-4 - 0.1
        file.scales, file.offsets = (4e-4,) * 4, (50e-4 - 0.1,) * 4
    _, found, _ = fuse((pair[0], scaled), tmp_path / "found.tif", dtype="float64")
    torch.testing.assert_close(found, right, atol=1e-9, rtol=0)
    with rasterio.open(tmp_path / "found.tif") as file:
        assert file.scales == (2e-4,) * 4 and file.offsets == (-0.1,) * 4
    alike = write_pair(tmp_path)
    for path in alike:
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = (2e-4,) * file.count, (-0.1,) * file.count
    assert torch.equal(fuse(alike, tmp_path / "found.tif", dtype="float64")[1], right)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_pixels_without_a_value_have_none_in_the_result(tmp_path, dtype):
    pan, ms, _ = simulated()
    pan, ms = pan.clone(), ms.clone()
    pan[:, :, :40] = 0
    ms[:, :10] = 0
    pair = write(tmp_path / "pan.tif", pan, 0.6, nodata=0), write(tmp_path / "ms.tif", ms, 2.4, nodata=0)
    done, fused, profile = fuse(pair, tmp_path / "fused.tif", "gsa", dtype=dtype)
    assert profile["nodata"] == 0
    none = (fused == 0).all(0)
    assert none[:40].all() and none[:, :40].all() and not none[80:, 80:].any()
    assert done.valid == pytest.approx(1 - none.double().mean().item())
    assert 0.5 < done.valid < (1 - 40 / 256) ** 2 + 1e-9


def test_fill_that_no_file_declares_is_told_of_and_left_out_on_request(tmp_path):
    pan, ms, _ = simulated()
    pan, ms = pan.clone(), ms.clone()
    pan[:, :, :40] = 0
    ms[:, :, :10] = 0
    ms[:2, 20, 20] = 0  # two bands of dark ground are no fill
    pair = write(tmp_path / "pan.tif", pan, 0.6), write(tmp_path / "ms.tif", ms, 2.4)
    with pytest.warns(
        UserWarning, match="2 of the scene's 4 corners hold nothing but 0 in PAN and MS.*--nodata 0"
    ):
        _, spoiled, _ = fuse(pair, tmp_path / "all.tif", "gsa")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done, fused, profile = fuse(pair, tmp_path / "fused.tif", "gsa", nodata=0)
        assessed = assess_files(done.path, *pair, sensor="qb", nodata=0)

    rest = tmp_path / "rest"
    rest.mkdir()
    alone = write(rest / "pan.tif", pan[:, :, 40:], 0.6), write(rest / "ms.tif", ms[:, :, 10:], 2.4)
    _, expected, _ = fuse(alone, rest / "fused.tif", "gsa")
    found, with_fill = (x[:, :, 40 + 64 :] - expected[:, :, 64:] for x in (fused, spoiled))
    assert found.abs().mean() < 0.1 * with_fill.abs().mean()  # beside the edge statistics differ a little
    assert profile["nodata"] == 0 and done.valid == pytest.approx((fused != 0).any(0).double().mean().item())
    assert (fused[:, :, :40] == 0).all() and 0 < assessed.skipped < assessed.blocks


def test_a_value_that_means_none_is_not_given_to_pixels_that_have_one():
    fused = torch.tensor([[[0.2, -3.0, 300.0, torch.nan]]], dtype=torch.float64)
    values, clipped = as_samples(fused, torch.tensor([[True, True, True, False]]), np.dtype("uint8"), 0)
    assert values.tolist() == [[[1, 1, 255, 0]]] and clipped == 2
    values, _ = as_samples(fused, torch.tensor([[True, True, True, False]]), np.dtype("uint8"), 255)
    assert values.tolist() == [[[0, 0, 254, 255]]]


def test_samples_are_made_in_strips_that_leave_no_trace(monkeypatch):
    fused = torch.linspace(-9, 300, 2 * 5 * 4, dtype=torch.float64).view(2, 5, 4)
    known = fused[0] % 2 < 1.5
    how = known, np.dtype("uint8"), 3
    values, clipped = as_samples(fused, *how)
    monkeypatch.setattr(scenes, "_STRIP", 2 * 4 * 2)
    again, counted = as_samples(fused, *how)
    assert (values == again).all() and clipped == counted > 0 and (values[:, ~known] == 3).all()


def test_floats_keep_clear_of_the_value_that_means_none_and_of_infinity():
    fused = torch.tensor([[[0.0, 1e300, -2.5, 7.0]]], dtype=torch.float64)
    known = torch.tensor([[True, True, True, False]])
    values, clipped = as_samples(fused, known, np.dtype("float32"), 0)
    assert 0 < values[0, 0, 0] < 1e-30 and np.isfinite(values).all() and clipped == 1
    assert values[0, 0, 2:].tolist() == [-2.5, 0]
    values, _ = as_samples(fused, known, np.dtype("float32"), -2.5)
    assert values[0, 0, 2] == pytest.approx(-2.5, abs=1e-5) and values[0, 0, 2] != -2.5


def test_what_fusing_and_scoring_both_have_to_say_is_said_once(bench, tmp_path, monkeypatch):
    def assess_files(fused, pan, ms, sensor, **more):
        with open_pair(pan, ms, sensor):
            raise BenchError("enough")

    monkeypatch.setattr("pansharp_bench.assess.assess_files", assess_files)
    write(tmp_path / "pan.tif", torch.zeros(1, 64, 64), 0.6)
    write(tmp_path / "ms.tif", torch.zeros(4, 16, 16), 2.4)
    result = bench(*WORDS, "--sensor", "qb", "--score")
    assert "enough" in result.stderr and result.stderr.count("corners hold nothing but 0") == 1


def test_a_fourth_band_of_8_bits_is_no_alpha(pair, tmp_path):
    for format in ("GTiff", "COG"):
        path = fuse(pair, tmp_path / "fused.tif", dtype="uint8", format=format)[0].path
        with Raster(path) as file:
            assert file.names == ("blue", "green", "red", "nir") and not file.masked


def test_alpha_beside_four_bands_says_what_has_a_value(pair, tmp_path):
    _, ms, _ = simulated()
    alpha = torch.full((1, *ms.shape[1:]), 65535)
    alpha[:, :, :10] = 0
    path = write(tmp_path / "five.tif", torch.cat([ms, alpha]), 2.4, photometric="minisblack")
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [ColorInterp.undefined] * 4 + [ColorInterp.alpha]
    done, fused, _ = fuse((pair[0], path), tmp_path / "fused.tif")
    assert done.valid < 1 - 40 / 256 and (fused[:, :, :40] == 0).all()


def test_nodata_is_a_value_of_the_files_types(tmp_path):
    pan, ms, _ = simulated()
    pan, ms = pan.clone(), ms.clone()
    pan[:, :, :40] = 0.1
    pair = write(tmp_path / "pan.tif", pan, 0.6, dtype="float32"), write(tmp_path / "ms.tif", ms, 2.4)
    done, _, profile = fuse(pair, tmp_path / "fused.tif", nodata=0.1)  # which no float32 is
    assert done.valid < 1 - 40 / 256 and profile["nodata"] == float(np.float32(0.1))
    pair = write_pair(tmp_path)
    for value in (65536, -1, 0.5, math.nan):
        with pytest.raises(BenchError, match=rf"nodata {value:g} is no number .* \(uint16\)"):
            fuse(pair, tmp_path / "fused.tif", nodata=value)


@pytest.mark.parametrize(("dtype", "value"), [("uint16", "65535"), ("float32", "-3.40282347e+38")])
def test_fill_of_any_value_is_told_of_as_it_is_to_be_given(tmp_path, dtype, value):
    pan, ms, _ = simulated()
    pan, ms = pan.clone(), ms.clone()
    pan[:, :, :40], ms[:, :, :10] = float(value), float(value)
    pair = (
        write(tmp_path / "pan.tif", pan, 0.6, dtype=dtype),
        write(tmp_path / "ms.tif", ms, 2.4, dtype=dtype),
    )
    with pytest.warns(UserWarning, match=rf"2 of .* nothing but {re.escape(value)} in .*--nodata"), \
        open_pair(*pair, "qb"):  # fmt: skip
        pass
    with open_pair(*pair, "qb", nodata=float(value)) as opened:
        assert not opened.read_pan(slice(0, 8), slice(0, 40))[1].any()


def test_what_a_virtual_raster_is_made_of_is_read_too(bench, pair, tmp_path):
    rasterio.shutil.copy("ms.tif", "band.vrt", driver="VRT")
    Path("all.vrt").write_text(Path("band.vrt").read_text().replace("ms.tif", "band.vrt"))
    with Raster(tmp_path / "all.vrt") as file:
        assert {p.name for p in file.files} == {"all.vrt", "band.vrt", "ms.tif"}
        shutil.copy("band.vrt", "kept.vrt")
        Path("band.vrt").write_text("no more")
        assert {p.name for p in file.files} == {"all.vrt", "band.vrt"}
    shutil.move("kept.vrt", "band.vrt")
    before = Path("ms.tif").read_bytes()
    result = bench(*WORDS[:-3], "all.vrt", "-o", "ms.tif", "--sensor", "qb")
    assert result.exit_code == 2 and "ms.tif is one of the files to be read" in result.stderr
    assert Path("ms.tif").read_bytes() == before


def test_masks_and_overviews_of_a_file_that_was_there_go_with_it(pair, tmp_path):
    path = fuse(pair, tmp_path / "fused.tif")[0].path
    for suffix in (".msk", ".ovr", ".aux.xml"):
        (tmp_path / f"fused.tif{suffix}").write_bytes(path.read_bytes())
    fuse(pair, path)
    assert left(tmp_path) == ["fused.tif", "ms.tif", "pan.tif"]


def test_tiles_and_creation_options(pair, tmp_path):
    whole = fuse(pair, tmp_path / "whole.tif", "exp", dtype="float64", tile=4096)[1]
    _, tiled, profile = fuse(
        pair, tmp_path / "tiled.tif", "exp", dtype="float64", tile=64,
        options={"COMPRESS": "zstd", "BLOCKXSIZE": "64", "BLOCKYSIZE": "64"},
    )  # fmt: skip
    torch.testing.assert_close(tiled, whole, atol=1e-9, rtol=0)
    assert profile["compress"] == "zstd" and profile["blockxsize"] == 64


def test_the_sensor_has_to_fit(pair, tmp_path):
    for sensor, message in (
        ("wv3", r"has 4 bands where the sensor has 8"),
        (
            replace(as_sensor("qb"), ratio=2),
            r"QuickBird has ratio 2, but an MS pixel of these files is 4 PAN pixels",
        ),
        (SensorFigures(2047, ratio=2), "has ratio 2, but"),
        (SensorFigures(2047, (0.3, 0.3)), "4 bands but 2 MTF gains"),
    ):
        with pytest.raises(BenchError, match=message):
            fuse(pair, tmp_path / "fused.tif", sensor=sensor)
    with open_pair(*pair, SensorFigures(2047), bands=(1, 2)) as opened:
        assert opened.sensor.channels == 2
    with pytest.raises(BenchError, match="--bands names 2 bands, but QuickBird has 4"):
        fuse(pair, tmp_path / "fused.tif", bands=(1, 2))
    with pytest.raises(BenchError, match="--bands names band 1 twice"):
        fuse(pair, tmp_path / "fused.tif", bands=(1, 1, 2, 3))


# -- the command --


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, [str(w) for w in words])


WORDS = ("fuse", "--method", "exp", "--pan", "pan.tif", "--ms", "ms.tif", "-o", "fused.tif")


def test_fuse(bench, pair, tmp_path):
    result = bench(*WORDS, "--sensor", "qb", "--memory", "500M", "--co", "COMPRESS=LZW")
    assert result.exit_code == 0, result.output
    for text in (
        "bands         blue, green, red, nir (in the order of the file",
        "row 1.5, column 1.5",
        "MS lies +0.0",
    ):
        assert text in result.stderr
    with rasterio.open(tmp_path / "fused.tif") as file:
        assert file.count == 4 and file.profile["compress"] == "lzw"
    quiet = bench(*WORDS, "--peak", "2047", "--mtf", "0.3,0.3,0.28,0.25", "--ratio", "4", "--quiet")
    assert quiet.exit_code == 0 and not quiet.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name the sensor by --sensor"),
        (("--sensor", "qb", "--peak", "5"), "--sensor qb and --peak"),
        (("--sensor", "qbird"), "did you mean qb?"),
        (("--peak", "2047", "--mtf", "a,b"), "'a,b' is not of the form 1,2,3"),
        (("--sensor", "qb", "--memory", "much"), "'much' is no amount of memory"),
        (("--sensor", "qb", "--co", "LZW"), "'LZW' is not of the form KEY=VALUE"),
        (("--sensor", "qb", "--method", "gas"), "unknown method 'gas'"),
        (("--sensor", "qb", "--dtype", "uint12"), "uint12"),
        (("--sensor", "qb", "--dtype", "float16"), "'float16' is no type of samples"),
        (("--sensor", "qb", "--memory", "inf"), "'inf' is no amount of memory"),
        (("--sensor", "qb", "--co", "DRIVER=PNG"), "DRIVER is no creation option"),
        (("--sensor", "qb", "--co", "COMPRES=LZW"), "does not support creation option COMPRES"),
        (("--sensor", "qb", "--co", "COMPRESS=NOPE"), "COMPRESS"),
        (("--sensor", "qb", "-o", "fused.png"), "let it end in .tif"),
        (("--sensor", "qb", "-o", "ms.tif"), "is one of the files to be read"),
        (("--sensor", "qb", "--align", "toolbox", "--register"), "leave one of them out"),
        (("--sensor", "qb", "--method", "fusionnet"), "fusionnet"),
        (("--sensor", "qb", "--pan", "ms.tif", "--ms", "pan.tif"), "are PAN and MS swapped?"),
        (("--sensor", "qb", "--pan", "none.tif"), "PAN none.tif does not exist"),
        (("--sensor", "qb", "--pan", "https://example.org/pan.tif"), "is no file on a disk"),
        (("--sensor", "qb", "--pan", "/vsizip/scene.zip/pan.tif"), "is no file on a disk"),
    ],
)
def test_mistakes_are_one_message(bench, pair, tmp_path, words, message):
    base = ("fuse", "--method", "exp", "-o", "fused.tif") if "--ms" in words else WORDS
    result = bench(*base, *words)
    assert result.exit_code == 2 and message in result.stderr
    assert left(tmp_path) == ["ms.tif", "pan.tif"]


# -- files that are not what they seem --


@pytest.mark.parametrize(
    ("spoil", "files", "message"),
    [
        (cut, ["pan.tif"], r"PAN pan\.tif"),
        (cut, ["ms.tif"], r"MS ms\.tif"),
        (nothing, ["ms.tif"], r"MS ms\.tif is no readable raster"),
        (other_system, ["ms.tif"], r"EPSG:32634: --warp resamples it"),
        (no_value, ["pan.tif"], "no pixel of PAN is valid"),
        (no_value, ["ms.tif"], "no pixel of MS is valid"),
        (one_pixel, ["pan.tif"], "no ground in common"),
        (one_pixel, ["pan.tif", "ms.tif"], "no ground in common"),
        (huge, ["pan.tif", "ms.tif"], r"GiB left: choose another folder"),
        (no_scale, ["pan.tif"], r"PAN pan\.tif tells a scale of 0"),
        (colours, ["pan.tif"], r"PAN pan\.tif holds numbers of colours.*-expand gray"),
    ],
)
def test_hostile_files(bench, pair, tmp_path, spoil, files, message):
    for name in files:
        spoil(tmp_path / name)
    (tmp_path / "fused.tif").write_text("what was there")
    before = left(tmp_path)
    result = bench(*WORDS, "--sensor", "qb", "--method", "gsa")
    assert result.exit_code == 2, result.output
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("Error")]
    assert re.search(message, line) and "Traceback" not in result.output
    assert left(tmp_path) == before and (tmp_path / "fused.tif").read_text() == "what was there"


def test_one_ms_pixel(bench, tmp_path):
    write(tmp_path / "pan.tif", torch.full((1, 4, 4), 90), 0.6)
    one_pixel(tmp_path / "ms.tif")
    result = bench(*WORDS, "--sensor", "qb")
    assert result.exit_code == 0 and "cannot be judged" in result.stderr


def test_a_folder_that_cannot_be_written_to(bench, pair, tmp_path):
    (tmp_path / "file").touch()
    result = bench(*WORDS, "--sensor", "qb", "-o", "file/fused.tif")
    assert result.exit_code == 2 and "cannot write to file" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a process there")
@pytest.mark.parametrize("more", [(), ("--format", "COG"), ("--overviews",)])
def test_a_full_disk_leaves_nothing(bench, pair, tmp_path, more):
    with full_disk(200_000):
        result = bench(*WORDS, "--sensor", "qb", "--dtype", "float64", "--quiet", *more)
    assert result.exit_code == 2, result.output
    assert "Error" in result.stderr and "fused.tif" in result.stderr and "Traceback" not in result.stderr
    assert left(tmp_path) == ["ms.tif", "pan.tif"]


# -- simulated scenes as files --


@pytest.mark.parametrize(("name", "phase"), [("qb-sim", 1.5), ("wv3-sim", 0.3)])
def test_a_simulated_scene_lies_where_it_says(bench, tmp_path, name, phase):
    words = ("data", "simulate-scene", name, "--out", "scene", "--size", "128", "--phase", phase)
    result = bench(*words)
    assert result.exit_code == 0 and result.stdout.split() == [
        "scene/pan.tif",
        "scene/ms.tif",
        "scene/truth.tif",
    ]
    sensor = name.removesuffix("-sim")
    with open_pair("scene/pan.tif", "scene/ms.tif", sensor) as pair:
        start = pair.placement.pan[0] - 4 * pair.placement.ms[0]
        assert pair.named and start + pair.placement.phase[0] == pytest.approx(phase, abs=1e-5)
        first = pair.read_pan(slice(0, 32), slice(0, 32))[0]
    with rasterio.open("scene/truth.tif") as file:
        assert file.tags()["SIMULATED"].startswith(f"{name}, suburb, seed 0") and file.shape == (128, 128)
    bench(*words)
    with open_pair("scene/pan.tif", "scene/ms.tif", sensor) as pair:
        assert torch.equal(pair.read_pan(slice(0, 32), slice(0, 32))[0], first)
    assert "no multiple of 4" in bench(*words[:-3], "130").stderr


@pytest.mark.parametrize(
    ("phase", "said"),
    [("nan", "is not a finite number"), ("99", "no number above -1"), ("-5", "no number above -1")],
)
def test_a_simulated_phase_lies_on_the_ms_pixel(bench, phase, said):
    result = bench("data", "simulate-scene", "qb-sim", "--out", "scene", "--size", "64", "--phase", phase)
    assert result.exit_code == 2 and phase in result.stderr and said in result.stderr
    assert not Path("scene").exists()


def test_which_sensors_are_simulated_is_said(bench):
    result = bench("data", "simulate-scene", "qb", "--out", "scene")
    assert result.exit_code == 2 and "no dataset 'qb' for simulate-scene; there are: " in result.stderr
    assert "qb-sim" in result.stderr


def test_a_folder_is_no_name_of_a_result(bench, pair, tmp_path):
    (tmp_path / "fused.tif").mkdir()
    result = bench(*WORDS, "--sensor", "qb")
    assert result.exit_code == 2 and "fused.tif is a folder" in result.stderr
