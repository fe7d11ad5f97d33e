"""Fused rasters are scored where MS truly lies, window by window; blocks without values are left out."""

import json
import math
import re
import shutil
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from rasterio.transform import from_origin
from scenes import (
    CORNER,
    cut,
    full_disk,
    huge,
    no_value,
    nothing,
    one_pixel,
    other_system,
    simulated,
    write,
    write_pair,
)

import pansharp_bench as pb
from pansharp_bench import assess, metrics
from pansharp_bench.assess import assess_files
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.imaging import wald_degrade
from pansharp_bench.scene import Sensor, as_sensor
from pansharp_bench.scenes import fuse_files

SIZE = 320


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    fuse_files(*write_pair(folder, size=SIZE), folder / "fused.tif", "mtf-glp-fs", sensor="qb")
    return folder


@pytest.fixture
def scene(made, tmp_path):
    """A folder with pan.tif, ms.tif and fused.tif."""
    for path in made.iterdir():
        shutil.copy(path, tmp_path)
    return tmp_path


def scored(folder, fused="fused.tif", **more):
    return assess_files(folder / fused, folder / "pan.tif", folder / "ms.tif", **{"sensor": "qb", **more})


def close(found, expected, tolerance=1e-12):
    assert found.keys() == expected.keys()
    assert max(abs(found[k] - expected[k]) for k in expected) <= tolerance


def test_images_scaled_to_1_are_warned_of_once(scene):
    for name, step in (("pan", 0.6), ("ms", 2.4), ("fused", 0.6)):
        with rasterio.open(scene / f"{name}.tif") as file:
            values = file.read().astype("float32")
        write(scene / f"{name}.tif", np.clip(values / 2047, 0, 1), step, dtype="float32")
    words = ["--sensor", "qb", "--pan", scene / "pan.tif", "--ms", scene / "ms.tif", "--quiet"]
    done = CliRunner().invoke(main, ["assess", str(scene / "fused.tif"), *map(str, words)])
    assert done.exit_code == 0, done.output
    told = done.stderr.replace("\n", " ")
    assert told.count("MS: all values lie in [0, 1] where the sensor's peak is 2047") == 1


@pytest.mark.parametrize("centre", [1.5, 1.2])
def test_windows_are_the_whole(tmp_path, monkeypatch, centre):
    pair = write_pair(tmp_path, centre)
    fuse_files(*pair, tmp_path / "fused.tif", "gsa", sensor="qb", dtype="float64")
    monkeypatch.setattr(assess, "_WINDOW", 1024)
    whole = scored(tmp_path)
    monkeypatch.setattr(assess, "_WINDOW", 96)
    windows = scored(tmp_path)
    close(windows.full, whole.full)
    assert windows.blocks == whole.blocks == (windows.size[0] // 32) * (windows.size[1] // 32)


def test_borders_aside_it_is_the_index_at_the_true_phase(scene):
    """metrics.hqnr wraps at the edges; a scene whose outer blocks are alike on all sides tells no difference."""
    tiled = {}
    for name, step in (("pan", SIZE), ("ms", SIZE // 4), ("fused", SIZE)):
        with rasterio.open(scene / f"{name}.tif") as file:
            values = file.read().astype(float)
        both = np.concatenate([values, values[:, ::-1]], 1)  # mirrored: what wraps is what is mirrored
        tiled[name] = np.concatenate([both, both[:, :, ::-1]], 2)
        assert tiled[name].shape[1] == 2 * step
        write(scene / f"{name}.tif", tiled[name], 2.4 if name == "ms" else 0.6)
    found = scored(scene).full
    images = [torch.from_numpy(tiled[name])[None] for name in ("fused", "ms", "pan")]
    sensor = as_sensor("qb")
    expected = metrics.hqnr(*images, Sensor(**{**vars(sensor), "phase": 1.5}))
    # the MTF filter repeats the edge pixel instead, up to 20 pixels inwards
    assert found["D_s"] == pytest.approx(expected.d_s.item(), abs=1e-9)
    assert found["D_lambda"] == pytest.approx(expected.d_lambda.item(), abs=2e-3)


def test_the_toolbox_is_the_toolbox(scene):
    with rasterio.open(scene / "fused.tif") as file:
        fused = torch.from_numpy(file.read().astype(float))[None]
    pan, ms, _ = simulated(size=SIZE)
    found = scored(scene, toolbox=True)
    hqnr, qnr = metrics.hqnr(fused, ms[None], pan[None], "qb"), metrics.qnr(fused, ms[None], pan[None])
    expected = {
        "HQNR": hqnr.hqnr,
        "D_s": hqnr.d_s,
        "D_lambda": hqnr.d_lambda,
        "QNR": qnr.qnr,
        "D_lambda_QNR": qnr.d_lambda,
    }
    close(found.full, {k: v.item() for k, v in expected.items()})
    assert found.phase == "toolbox" != scored(scene).phase


def products(folder, kind, method):
    """The assessments of a product fused where MS lies, and of one fused where the toolbox assumes it, half a pixel
    off both ways."""
    pan, ms, truth = simulated(kind=kind, seed=5)
    write(folder / "pan.tif", pan, 0.6)
    write(folder / "ms.tif", ms, 2.4)
    write(folder / "truth.tif", truth, 0.6, dtype="float64")
    pair = folder / "pan.tif", folder / "ms.tif"
    for name, align in (("aligned", "geo"), ("shifted", "toolbox")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that they lie half a pixel off
            fuse_files(*pair, folder / f"{name}.tif", method, sensor="qb", align=align, dtype="float64")
        for how in (False, True):
            yield scored(folder, f"{name}.tif", toolbox=how, reference=folder / "truth.tif")


@pytest.mark.parametrize("kind", ["suburb", "farmland"])
@pytest.mark.parametrize("method", ["gsa", "mtf-glp-fs"])
def test_at_the_true_phase_the_aligned_product_is_the_better(tmp_path, kind, method):
    aligned, aligned_toolbox, shifted, shifted_toolbox = products(tmp_path, kind, method)
    assert aligned.truth["ERGAS"] < shifted.truth["ERGAS"]
    assert aligned.full["D_lambda"] < shifted.full["D_lambda"]
    lead = aligned.full["HQNR"] - shifted.full["HQNR"]
    usual = aligned_toolbox.full["HQNR"] - shifted_toolbox.full["HQNR"]
    if method == "gsa":
        assert lead > 0
    else:  # D_s likes what agrees less with PAN; at the true phase this is most of what is left
        assert (
            usual < -0.015
            and lead > usual + 0.01
            and aligned_toolbox.full["D_lambda"] > aligned.full["D_lambda"]
        )


def test_a_registered_product_is_scored_where_ms_was_found(tmp_path):
    pan, ms, _ = simulated(centre=3.0)
    pair = write(tmp_path / "pan.tif", pan, 0.6), write(tmp_path / "ms.tif", ms, 2.4)
    fuse_files(*pair, tmp_path / "fused.tif", "gsa", sensor="qb", register=True)
    found, elsewhere = scored(tmp_path, register=True), scored(tmp_path)
    assert found.registered and not found.remarks and "--register" in elsewhere.remarks[0]
    assert found.full["HQNR"] > elsewhere.full["HQNR"] + 0.02


def test_blocks_near_pixels_without_a_value_are_left_out(tmp_path):
    pan, ms, _ = simulated(size=512)
    results = []
    for filler in (0, 65535):
        changed = pan.clone()
        changed[:, :128, :128] = filler
        pair = write(tmp_path / "pan.tif", changed, 0.6, nodata=filler), write(tmp_path / "ms.tif", ms, 2.4)
        fuse_files(*pair, tmp_path / "fused.tif", "exp", sensor="qb")
        results.append(scored(tmp_path))
    first, second = results
    close(second.full, first.full, 1e-9)
    assert first.blocks + first.skipped == 256 and first.skipped == second.skipped
    # 4 x 4 blocks hold such pixels, and the filters reach two blocks further
    assert first.skipped == 36
    # a fused image of other software, which filled the collar
    with rasterio.open(tmp_path / "fused.tif") as file:
        values = file.read()
    values[:, :128, :128] = 7
    write(tmp_path / "other.tif", values, 0.6)
    assert scored(tmp_path, "other.tif").skipped == 36


def test_a_part_of_the_scene_by_other_software(scene):
    with rasterio.open(scene / "fused.tif") as file:
        values = file.read()
    whole = scored(scene)
    part = values[[2, 1, 0, 3], 61:, 30:]
    write(scene / "part.tif", part, 0.6, (30 * 0.6, 61 * 0.6), names=("red", "green", "blue", "nir"))
    found = scored(scene, "part.tif")
    assert found.size == (256, 288) and found.phase == whole.phase
    assert found.full["HQNR"] == pytest.approx(whole.full["HQNR"], abs=0.03)
    # where it says MS lies, not where it begins: a row off is worse
    write(scene / "off.tif", part, 0.6, (30 * 0.6, 62 * 0.6), names=("red", "green", "blue", "nir"))
    assert scored(scene, "off.tif").full["D_lambda"] > found.full["D_lambda"] + 0.005


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ({"shift": (0.2, 0.0)}, "is not on PAN's grid: it begins at row 0, column 0.333"),
        ({"pixel": 0.61}, "is not on PAN's grid"),
        ({"crs": "EPSG:32634"}, "another coordinate system"),
        ({"shift": (900.0, 0.0)}, "no ground in common"),
        ({"transform": None, "crs": None, "size": 250}, "without a georeference its place is not known"),
        ({"size": 20}, "pixels in common; 32 are needed"),
        ({"bands": 3}, "has 3 bands where the sensor has 4"),
    ],
)
def test_what_does_not_lie_on_pan_is_refused(scene, profile, message):
    size = profile.pop("size", 256)
    values = torch.full((profile.pop("bands", 4), size, size), 300)
    write(scene / "other.tif", values, profile.pop("pixel", 0.6), **profile)
    with pytest.raises(DataError, match=message):
        scored(scene, "other.tif")


def test_wald_is_a_method_on_the_degraded_pair(scene):
    pan, ms, _ = simulated(size=SIZE)
    found = scored(scene, wald="exp").wald
    sensor = Sensor(**{**vars(as_sensor("qb")), "phase": 1.5})
    low = wald_degrade(ms[None], pan[None], sensor)
    from pansharp_bench.tiles import TensorPair, fuse_pair

    (tile,) = fuse_pair("exp", TensorPair(low.pan[0], low.ms[0], sensor))
    cut = (slice(None), slice(None), slice(20, -21), slice(20, -21))
    assert found["ERGAS"] == pytest.approx(
        metrics.ergas(tile.fused[None][cut], ms[None][cut]).item(), abs=1e-9
    )
    assert scored(scene, wald="gsa").wald["ERGAS"] < found["ERGAS"]
    with pytest.raises(BenchError, match="unknown method"):
        scored(scene, wald="gas")


def test_a_reference_has_to_cover_the_whole(scene):
    write(scene / "truth.tif", simulated()[2][:, :128], 0.6)
    with pytest.raises(DataError, match="does not cover"):
        scored(scene, reference=scene / "truth.tif")


# -- the command --


@pytest.fixture
def bench(scene, monkeypatch):
    monkeypatch.chdir(scene)
    return lambda *words: CliRunner().invoke(main, [str(w) for w in words])


WORDS = ("--sensor", "qb", "--pan", "pan.tif", "--ms", "ms.tif")


def test_assess(bench, scene):
    result = bench("assess", "fused.tif", *WORDS, "--maps", "maps", "--wald", "gsa")
    assert result.exit_code == 0, result.output
    for text in (
        "fused.tif: 320 x 320 pixels, 100 blocks", "without reference (MS pixel 0 on PAN row 1.5, column 1.5)",
        "HQNR ↑", "QNR ↑", "D_lambda ↓", "gsa, one ratio coarser, against MS", "ERGAS ↓", "MS lies",
    ):  # fmt: skip
        assert text in result.stdout
    with rasterio.open(scene / "maps" / "hqnr.tif") as file:
        assert file.descriptions == ("HQNR", "D_s", "D_lambda") and file.shape == (10, 10)
        assert file.transform == from_origin(*CORNER, 19.2, 19.2)
        blocks = torch.from_numpy(file.read().astype(float))
    assert blocks[2].mean() == pytest.approx(scored(scene).full["D_lambda"], abs=1e-6)
    usual = bench("assess", "fused.tif", *WORDS, "--toolbox")
    assert "without reference (the toolbox's phase and borders)" in usual.stdout


def test_assess_in_json(bench, scene):
    told, found = json.loads(bench("assess", "fused.tif", *WORDS, "--json").stdout), scored(scene)
    assert told["full"] == found.full and told["blocks"] == 100 and told["skipped"] == 0
    assert told["remarks"] == []
    (remark,) = replace(found, full={**found.full, "QNR": math.nan}).facts()["remarks"]
    assert re.match("QNR: no number, as an image is constant over whole blocks.*--nodata", remark)
    assert told["registration"]["judged"] and told["sensor"]["phase"] == [1.5, 1.5]


def test_fuse_and_score_at_once(bench):
    result = bench("fuse", "--method", "mtf-glp-fs", *WORDS, "-o", "again.tif", "--score")
    assert result.exit_code == 0, result.output
    alone = bench("assess", "again.tif", *WORDS)
    assert result.stdout == alone.stdout and "HQNR" in alone.stdout


@pytest.mark.parametrize(
    ("spoil", "files", "message"),
    [
        (cut, ["fused.tif"], r"fused image fused\.tif"),
        (cut, ["pan.tif"], r"PAN pan\.tif"),
        (cut, ["ms.tif"], r"MS ms\.tif"),
        (nothing, ["fused.tif"], r"fused image fused\.tif is no readable raster"),
        (other_system, ["fused.tif"], "another coordinate system than PAN"),
        (other_system, ["ms.tif"], "--warp"),
        (no_value, ["fused.tif"], "no block of 32 x 32 pixels has values everywhere"),
        (one_pixel, ["fused.tif"], "is not on PAN's grid"),
        (one_pixel, ["pan.tif", "ms.tif"], "no ground in common"),
        (huge, ["fused.tif"], "is not on PAN's grid"),
    ],
)
def test_hostile_files(bench, scene, spoil, files, message):
    for name in files:
        spoil(scene / name)
    before = sorted(scene.iterdir())
    result = bench("assess", "fused.tif", *WORDS, "--maps", "maps")
    assert result.exit_code == 2, result.output
    (line,) = [x for x in result.stderr.splitlines() if x.startswith("Error")]
    assert re.search(message, line) and "Traceback" not in result.output
    assert [p for p in sorted(scene.iterdir()) if p.name != "maps"] == before
    assert not list((scene / "maps").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a process there")
def test_a_full_disk_leaves_no_half_of_a_map(bench, scene):
    write(scene / "part.tif", np.full((4, 64, 64), 300), 0.6)
    with full_disk(100):
        result = bench("assess", "part.tif", *WORDS, "--maps", "maps")
    assert result.exit_code == 2 and "maps/" in result.stderr and "Traceback" not in result.output
    assert not list((scene / "maps").iterdir())


def test_mistakes_are_one_message_before_any_block_is_scored(bench, scene, monkeypatch):
    monkeypatch.setattr(assess, "_windowed", None)
    (scene / "file").touch()
    for words, message in (
        (("fused.tif", *WORDS, "--toolbox", "--register"), "leave one of them out"),
        (("fused.tif", *WORDS, "--reference", "none.tif"), "reference none.tif does not exist"),
        (("fused.tif", *WORDS, "--wald", "gas"), "unknown method 'gas'"),
        (("fused.tif", *WORDS, "--wald", "fusionnet"), "must be trained first"),
        (("fused.tif", *WORDS, "--maps", "file/maps"), "cannot write to file/maps"),
        (("none.tif", *WORDS), "none.tif does not exist"),
        (("fused.tif", *WORDS[2:]), "name the sensor by --sensor"),
        (("pan.tif", *WORDS), "has 1 bands where the sensor has 4"),
        (("fused.tif", *WORDS, "--toolbox", "--register"), "leave one of them out"),
    ):
        result = bench("assess", *words)
        assert result.exit_code == 2 and message in result.stderr
    assert pb.assess_files is assess_files
