"""Datasets of pairs of PAN and MS: layouts, the place of MS, cutting, Wald's protocol, and one clear error."""

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from goldens import real_data
from h5files import noise
from h5files import write as write_h5
from scenes import simulated, write
from scipy.io import savemat

import pansharp_bench as pb
from pansharp_bench import metrics
from pansharp_bench.cli import main
from pansharp_bench.datasets._real import walk
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.imaging import interp23, wald_degrade
from pansharp_bench.scene import as_sensor


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PANSHARP_DATA", raising=False)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def pair(bands: int = 4, size: int = 64, seed: int = 0, ratio: int = 4) -> dict[str, np.ndarray]:
    """pan, ms, lms and gt, (C, H, W) integers of which only the shapes matter."""
    g = np.random.default_rng(seed)
    low = size // ratio
    shapes = {
        "pan": (1, size, size),
        "ms": (bands, low, low),
        "lms": (bands, size, size),
        "gt": (bands, size, size),
    }
    return {k: g.integers(1, 2000, s).astype(np.uint16) for k, s in shapes.items()}


def bare(path: Path, values: np.ndarray, **more) -> Path:
    """A TIFF without georeference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, values, 1.0, crs=None, transform=None, **{"dtype": str(values.dtype), **more})


def mat(path: Path, **arrays: np.ndarray) -> Path:
    """MATLAB's file of (C, H, W) arrays, whose axes are rows, columns, bands there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(
        path,
        {k: v[0] if len(v) == 1 else v.transpose(1, 2, 0) for k, v in arrays.items()},
        do_compression=True,
    )
    return path


def mat73(path: Path, **arrays: np.ndarray) -> None:
    """Version 7.3: HDF5, the axes the other way round."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in arrays.items():
            file[name] = values[0].T if len(values) == 1 else values.transpose(0, 2, 1)


def placed(
    folder: Path, centre: float = 1.5, size: int = 256, seed: int = 0, pixel: float = 0.5, **more
) -> None:
    """pan.tif and ms.tif of a simulated scene whose georeference tells the truth."""
    pan, ms, _ = simulated(centre, seed, size)
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "pan.tif", pan, pixel, **more)
    write(folder / "ms.tif", ms, 4 * pixel, (pixel * (centre - 1.5),) * 2, **more)


# Layouts: each writer puts one scene under a root, and names the splits and arrays that are to be found


def folders(root, a):
    for key, name in (("pan", "pan"), ("ms", "ms"), ("gt", "gt")):
        bare(root / f"reduced/town/{name}.tif", a[key])
    return "reduced", {"gt"}


def suffixes(root, a):
    bare(root / "town_PAN.TIF", a["pan"]), bare(root / "town_MS.TIF", a["ms"])
    bare(root / "town_fused.tif", a["gt"])  # nobody's
    (root / "town_MS.txt").write_text("nor is this an image")
    return "full", set()


def by_number(root, a):
    bare(root / "test/pan/0001.tif", a["pan"]), bare(root / "test/ms/0001.tif", a["ms"])
    return "full", set()


def pairmax(root, a):
    for key, name in (("pan", "PAN"), ("ms", "MS_LR"), ("lms", "MS"), ("gt", "GT")):
        bare(root / f"PAirMax/GE_Lond_Urb/RR/{name}.tif", a[key])
    return "reduced", {"lms", "gt"}


def panbench(root, a):
    blue, green, red, nir = a["ms"][:, None]
    bare(root / "PanBench/IN/PAN_1024/1_urban.tif", a["pan"])
    bare(root / "PanBench/IN/RGB_256/1_urban.tif", np.concatenate([red, green, blue]))
    bare(root / "PanBench/IN/NIR_256/1_urban.tif", nir)
    return "full", set()


def panbench_mat(root, a):
    blue, green, red, nir = a["ms"][:, None]
    mat(root / "IN/PAN_1024/1.mat", imgPAN=a["pan"]), mat(root / "IN/NIR_256/1.mat", imgNIR=nir)
    mat(root / "IN/RGB_256/1.mat", imgRGB=np.concatenate([red, green, blue]))
    return "full", set()


def nbu(root, a):
    mat(root / "1 IKONOS/MS_256/1.mat", imgMS=a["ms"]), mat(root / "1 IKONOS/PAN_1024/1.mat", imgPAN=a["pan"])
    return "full", set()


def toolbox(root, a):
    mat(
        root / "scene.mat",
        I_MS_LR=a["ms"],
        I_PAN=a["pan"],
        I_MS=a["lms"],
        I_GT=a["gt"],
        ratio=np.full((1, 1, 1), 4),
    )
    return "reduced", {"lms", "gt"}


def pancollection_mat(root, a):
    mat(root / "Test(HxWxC)_qb_data_fr1.mat", ms=a["ms"], pan=a["pan"], lms=a["lms"])
    return "full", {"lms"}


def new_mat(root, a):
    mat73(root / "scene.mat", ms=a["ms"], pan=a["pan"])
    return "full", set()


LAYOUTS = {
    "qb": (folders, suffixes, by_number, toolbox, pancollection_mat, new_mat), "ge1": (pairmax,),
    "ikonos": (panbench, panbench_mat, nbu),
}  # fmt: skip


@pytest.mark.parametrize(
    ("sensor", "layout"),
    [(s, found) for s, many in LAYOUTS.items() for found in many],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_layouts(root, sensor, layout):
    arrays = pair()
    split, stored = layout(root, arrays)
    dataset = pb.load_dataset(sensor, root, "mine")
    assert dataset.available() == (("reduced", "full") if split == "full" else ("reduced",))
    scene = dataset.split(split)[0]
    assert dataset.sensor == as_sensor(sensor)  # nothing tells another place than the toolbox's
    for key in {"pan", "ms"} | stored:
        assert torch.equal(getattr(scene, key)[0], torch.from_numpy(arrays[key].astype(np.float32))), key
    if "lms" not in stored:
        assert torch.equal(scene.lms, interp23(scene.ms))
    assert scene.gt is None or "gt" in stored


@pytest.mark.parametrize("size", [16, 64])  # 16: MS of 4 pixels is the least that can be degraded
def test_the_truth_at_full_resolution_is_no_reference_of_a_lower_one(root, size):
    arrays = pair(size=size)
    for key in ("pan", "ms", "gt"):
        bare(root / f"full/a/{key}.tif", arrays[key])
    dataset = pb.load_dataset("ge1", root)
    full, reduced = (dataset.split(name) for name in ("full", "reduced"))
    for gt, key in ((full[0].gt, "gt"), (reduced[0].gt, "ms")):
        assert torch.equal(gt[0], torch.from_numpy(arrays[key].astype(np.float32)))
    assert [full.arrays[k].dtype for k in ("pan", "ms", "gt", "lms")] == ["uint16"] * 3 + ["float32"]
    assert [reduced.arrays[k].dtype for k in ("pan", "ms", "gt")] == ["float32", "float32", "uint16"]
    assert reduced.recipe == (
        f"1 image of {size // 4} x {size // 4} PAN pixels of 1 scene at the toolbox's phase, degraded from full "
        "resolution by Wald's protocol"
    )


def test_folders_are_looked_into_six_deep_and_no_folder_twice(root):
    (root / "1/2/3/4/5/6/7").mkdir(parents=True)
    (root / "1/again").symlink_to(root)
    found = [folder.relative_to(root).as_posix() for folder, *_ in walk(root)]
    assert found == [".", "1", "1/2", "1/2/3", "1/2/3/4", "1/2/3/4/5", "1/2/3/4/5/6"]


def test_satellites_are_told_by_names(root):
    for i, place in enumerate(("GE_Lond_Urb", "GE_Tren_Urb", "W4_Mexi_Nat"), 1):
        (
            bare(root / place / "FR/PAN.tif", pair(seed=i)["pan"]),
            bare(root / place / "FR/MS_LR.tif", pair(seed=i)["ms"]),
        )
    assert (
        len(pb.load_dataset("ge1", root).split("full")) == 2
        and len(pb.load_dataset("wv4", root).split("full")) == 1
    )
    with pytest.raises(DataError, match=r"no Pléiades-1 files under .*there are files of ge1, wv4"):
        pb.load_dataset("pleiades", root)


def test_scenes_stand_in_natural_order_and_pickle(root):
    for n in (10, 2, 1):
        bare(root / f"pan/{n}.tif", pair(seed=n)["pan"]), bare(root / f"ms/{n}.tif", pair(seed=n)["ms"])
    split = pickle.loads(pickle.dumps(pb.load_dataset("wv4", root).split("full")))
    assert [s.name for s in split.scenes] == ["1", "2", "10"]
    assert torch.equal(split[1:].pan[1, 0], torch.from_numpy(pair(seed=10)["pan"][0].astype(np.float32)))
    assert split.read("gt" if "gt" in split.keys else "ms", slice(0, 0)).shape == (0, 4, 16, 16)
    with pytest.raises(IndexError):
        split[3]


def test_files_of_pancollection_come_first(root):
    write_h5(root / "test_ge1_multiExm1.h5", noise("ge1"))
    bare(root / "pan/1.tif", pair()["pan"]), bare(root / "ms/1.tif", pair()["ms"])
    assert pb.load_dataset("ge1", root).available() == ("reduced",)
    assert pb.load_dataset("wv4", root).available() == ("reduced", "full")


# The place of MS


@pytest.mark.parametrize("centre", [1.5, 2.0, 1.25, -5.25])
def test_ms_lies_where_the_georeference_says(root, centre):
    placed(root / "a", centre)
    split = pb.load_dataset("pleiades", root).split("full")
    pan, ms, _ = simulated(centre)
    start = 0 if centre > 0 else 2  # MS pixels that lie off PAN
    assert split.sensor == replace(
        as_sensor("pleiades"), phase=(centre + (8 if start else 0) - (1 if start else 0),) * 2
    )
    assert torch.equal(split[0].ms[0, :, 0, 0], ms[:, start, start].round().float())
    assert torch.equal(split[0].pan[0, 0, 0, 0], pan[0, 1 if start else 0, 1 if start else 0].round().float())


def test_reduced_resolution_is_made_by_walds_protocol_at_that_place(root):
    placed(root / "a", 1.25)
    dataset = pb.load_dataset("spot6", root)
    full, reduced = dataset.split("full")[0], dataset.split("reduced")[0]
    low = wald_degrade(full.ms, full.pan, replace(as_sensor("spot6"), phase=(1.25, 1.25)))
    assert (
        torch.equal(reduced.gt, full.ms)
        and torch.equal(reduced.ms, low.ms)
        and torch.equal(reduced.pan, low.pan)
    )
    assert torch.equal(reduced.lms, interp23(low.ms, dataset.sensor)) and dataset.sensor.phase == (1.25, 1.25)
    assert {f.sha256 for f in dataset.files("full")} != {f.sha256 for f in dataset.files("reduced")}


def test_landsat_has_ratio_two_and_common_centres(root):
    a = pair(ratio=2)
    write(root / "b_pan.tif", a["pan"], 15.0), write(root / "b_ms.tif", a["ms"], 30.0, (-7.5, -7.5))
    split = pb.load_dataset("l8", root).split("full")
    assert split.sensor == as_sensor("l8") and split[0].ms.shape == (1, 4, 32, 32)


def test_bands_are_found_by_their_names(root):
    a = pair()
    bare(root / "pan/1.tif", a["pan"])
    bare(root / "ms/1.tif", a["ms"][::-1], names=("nir", "red", "green", "blue"))
    ms = pb.load_dataset("ge1", root).split("full")[0].ms
    assert torch.equal(ms[0], torch.from_numpy(a["ms"].astype(np.float32)))


# Images of one size


def test_scenes_of_different_sizes_are_cut_alike(root):
    for name, size in (("a", 128), ("b", 288)):
        (
            bare(root / name / "pan.tif", pair(size=size)["pan"]),
            bare(root / name / "ms.tif", pair(size=size)["ms"]),
        )
    dataset = pb.load_dataset("ge1", root)
    full = dataset.split("full")
    assert full.shapes["pan"] == (1, 128, 128) and len(full) == len(dataset.split("reduced")) == 5
    whole = torch.from_numpy(pair(size=288)["ms"].astype(np.float32))
    assert torch.equal(full[1].ms[0], whole[:, 4:36, 4:36])  # what is over is left out around


def test_pixels_without_a_value_are_in_no_image(root):
    a = pair(size=256)
    a["pan"][0, 5, 5] = a["ms"][:, 60, 3] = 0
    write(root / "pan.tif", a["pan"], 1.0, nodata=0), write(root / "ms.tif", a["ms"], 4.0, nodata=0)
    split = pb.load_dataset("ge1", root).split("full")
    assert split.shapes["pan"] == (1, 128, 128) and len(split) == 2 and split.left_out == 2
    assert split[:].pan.min() > 0 and split[:].ms.min() > 0
    said = [text for _, text in pb.load_dataset("ge1", root).check()]
    assert "full: 2 images with pixels without a value left out" in said


def test_fill_that_is_not_declared_is_warned_of(root):
    a = pair(size=256)
    a["pan"][:, :, :32] = a["ms"][:, :, :8] = 0
    bare(root / "pan.tif", a["pan"]), bare(root / "ms.tif", a["ms"])
    said = [text for level, text in pb.load_dataset("ge1", root).check() if level == "warning"]
    assert any(
        "full: 1 of 1 samples are 0 in PAN and MS over up to 12% of their ground" in text for text in said
    )
    a["pan"][:, :, :32] = 1
    bare(root / "pan.tif", a["pan"])
    assert "0 in PAN and MS" not in "".join(text for _, text in pb.load_dataset("ge1", root).check())


def test_training_samples_are_patches(root):
    for folder in ("train", "valid"):
        (
            bare(root / folder / "pan.tif", pair(size=512)["pan"]),
            bare(root / folder / "ms.tif", pair(size=512)["ms"]),
        )
    bare(root / "full/pan.tif", pair()["pan"]), bare(root / "full/ms.tif", pair()["ms"])
    dataset = pb.load_dataset("ge1", root)
    assert dataset.available() == ("train", "valid", "reduced", "full")
    assert len(dataset.split("train")) == 4 and dataset.split("train")[:].gt.shape == (4, 4, 64, 64)


# Runs and commands


def bench(*words):
    return CliRunner().invoke(main, [str(w) for w in words])


def run(root, tmp_path, *more, method="gsa", dataset="pleiades"):
    where = ("--data", root, "--results", tmp_path / "results", "--runs", tmp_path / "runs")
    return bench("run", "--method", method, "--dataset", dataset, *where, "--pictures", "0", *more)


def test_a_run_is_as_any_other_and_its_record_holds_the_phase(root, tmp_path):
    placed(root / "a", 1.25, size=320)
    done = run(root, tmp_path, "--label", "mine")
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "results").rglob("*.json")
    record = json.loads(path.read_text())
    assert record["dataset"]["name"] == "pleiades-mine"
    assert record["dataset"]["sensor_facts"]["phase"] == record["spec"]["sensor"]["phase"] == [1.25, 1.25]
    assert "degraded" in record["dataset"]["provenance"]["pairs"]["reduced"]
    assert {"reduced", "full"} == record["protocols"].keys()
    assert "GSA on pleiades-mine" in done.output
    missing = run(root, tmp_path, "--label", "mine", "--preset", "quick", method="fusionnet")
    assert missing.exit_code == 2 and re.search(r"no split 'train'.*folders called train/", missing.output)


def test_check_lists_scenes_and_judges_the_place(root):
    placed(root / "a", size=256)
    done = bench("data", "check", "pleiades", "--data", root)
    assert done.exit_code == 0, done.output
    assert "full: 1 image of 256 x 256 PAN pixels of 1 scene at phase 1.5, 1.5; no checksum" in done.output
    assert (
        "full: a: pan 256 x 256 uint16, ms 64 x 64 uint16; MS pixel 0 on PAN row 1.5, column 1.5"
        in done.output
    )
    assert "full: PAN and MS are registered: 0.0" in done.output
    off, _, _ = simulated(1.5)
    write(root / "a/pan.tif", off.roll((2, 2), (1, 2)), 0.5)
    assert "full: PAN and MS seem misregistered" in bench("data", "check", "pleiades", "--data", root).output


def test_pictures_of_eight_bits_are_no_digital_numbers(root):
    a = {k: (v // 8).astype(np.uint8) for k, v in pair().items()}
    bare(root / "pan/1.tif", a["pan"]), bare(root / "ms/1.tif", a["ms"], photometric="minisblack", alpha="no")
    done = bench("data", "check", "wv4", "--data", root)
    assert done.exit_code == 1 and "pan, ms stored in 8 bits, and the sensor's DN reach 2047" in done.output


def test_values_far_below_the_peak_are_warned_of(root):
    a = pair()
    bare(root / "pan/1.tif", a["pan"] // 20), bare(root / "ms/1.tif", a["ms"] // 20)
    said = bench("data", "check", "wv4", "--data", root).output
    assert "no value is beyond 99, 0.048 of the sensor's peak 2047" in said


# Mistakes: what lies there, the sensor, and what is said


def no_ms(root):
    bare(root / "a/pan.tif", pair()["pan"])


def no_gt(root):
    no_split(root / "reduced")


def no_split(root):
    bare(root / "a/pan.tif", pair()["pan"]), bare(root / "a/ms.tif", pair()["ms"])


def swapped(root):
    bare(root / "a/ms.tif", pair()["pan"]), bare(root / "a/pan.tif", pair()["ms"])


def twice(root):
    no_split(root)
    bare(root / "a/PAN.tiff", pair()["pan"])


def too_coarse(root):
    bare(root / "a/pan.tif", pair()["pan"]), bare(root / "a/ms.tif", pair(ratio=2)["ms"])


def not_a_multiple(root):
    bare(root / "a/pan.tif", pair()["pan"][:, :-1]), bare(root / "a/ms.tif", pair()["ms"])


def half_placed(root):
    no_split(root)
    write(root / "a/pan.tif", pair()["pan"], 0.5)


def two_phases(root):
    placed(root / "a"), placed(root / "b", 1.8)


def drifting(root):
    placed(root / "a")
    write(root / "a/ms.tif", simulated(1.5)[1], 2.03)


def rubbish(root):
    no_split(root)
    (root / "a/ms.tif").write_text("<!DOCTYPE html>")


def rubbish_mat(root):
    (root / "a.mat").write_text("<!DOCTYPE html>")


def cut_short(root):
    mat73(root / "a.mat", pan=pair()["pan"], ms=pair()["ms"])
    (root / "a.mat").write_bytes((root / "a.mat").read_bytes()[:9000])


def bands_first(root):
    root.mkdir(exist_ok=True)
    savemat(root / "a.mat", {"pan": pair()["pan"][0], "ms": pair()["ms"]})


def nameless(root):
    no_split(root)
    (root / "a/ms.tif").unlink()
    mat(root / "a/ms.mat", x=pair()["ms"], y=pair()["ms"])


def no_roles(root):
    bare(root / "a/B1.tif", pair()["pan"])


def all_nodata(root):
    write(root / "pan.tif", 0 * pair()["pan"], 1.0, nodata=0), write(root / "ms.tif", pair()["ms"], 4.0)


def coloured(root):
    a = pair()
    (
        bare(root / "PAN/1.tif", a["pan"]),
        bare(root / "RGB/1.tif", a["ms"][:3]),
        bare(root / "NIR/1.tif", a["ms"][3:]),
    )


def coloured_twice(root):
    coloured(root)
    bare(root / "RGB/1.tif", pair()["ms"])


def coloured_in_two_formats(root):
    coloured(root)
    (root / "NIR/1.tif").unlink()
    mat(root / "NIR/1.mat", nir=pair()["ms"][3:])


def coloured_in_two_sizes(root):
    a = pair()
    mat(root / "PAN/1.mat", pan=a["pan"]), mat(root / "RGB/1.mat", rgb=a["ms"][:3])
    mat(root / "NIR/1.mat", nir=a["ms"][3:, 1:])


def gt_elsewhere(root):
    no_split(root)
    bare(root / "a/gt.tif", pair()["ms"])


def some_gt(root):
    folders(root, pair())
    bare(root / "reduced/b/pan.tif", pair()["pan"]), bare(root / "reduced/b/ms.tif", pair()["ms"])


def not_finite(root):
    no_split(root)
    ms = pair()["ms"].astype(float)
    ms[0, 0, 0] = np.nan
    (root / "a/ms.tif").unlink()
    mat(root / "a/ms.mat", ms=ms)


MISTAKES = [
    (no_ms, "ge1", r"scene a .*has no MS: found a/pan\.tif; looked for ms\.tif"),
    (no_gt, "ge1", r"scene reduced/a .*has no GT"),
    (swapped, "ge1", r"are PAN and MS swapped\?"),
    (twice, "ge1", r"scene a .*has 2 files for one image"),
    (too_coarse, "ge1", r"an MS pixel is 2 PAN pixels wide, and GeoEye-1 has ratio 4"),
    (no_split, "l8", r"an MS pixel is 4 PAN pixels wide, and Landsat"),
    (no_split, "wv2", r"has 4 bands, and WorldView-2 8"),
    (not_a_multiple, "ge1", r"no whole multiple of the 16 x 16"),
    (half_placed, "ge1", r"ms\.tif has no georeference and .*pan\.tif has one"),
    (two_phases, "ge1", r"does not lie alike on PAN in the scenes a \(1\.5, 1\.5\) and b \(1\.8, 1\.8\)"),
    (drifting, "ge1", r"no whole number to 0\.001.*gdal_edit\.py -unsetgt"),
    (rubbish, "ge1", r"ms\.tif is no readable raster"),
    (rubbish_mat, "ge1", r"no readable \.mat file: found a web page"),
    (cut_short, "ge1", r"a\.mat is no readable \.mat file: found .*truncated"),
    (bands_first, "ge1", r"has 16 bands where the sensor has 4 .* with axes rows, columns, bands"),
    (nameless, "ge1", r"which of its arrays is MS is not told"),
    (no_roles, "ge1", r"no GeoEye-1 files under .*train_ge1\.h5.*NAME_pan\.tif"),
    (all_nodata, "ge1", r"no image of .* has a value in every pixel"),
    (coloured, "wv2", r"RGB and NIR are four bands, and WorldView-2 has 8"),
    (coloured_twice, "ge1", r"RGB and NIR have 5 bands where three and one"),
    (coloured_in_two_formats, "ge1", r"\.mat and \.tif are not mixed"),
    (coloured_in_two_sizes, "ge1", r"bands of one image, but differ in size"),
    (gt_elsewhere, "ge1", r"must lie on PAN's grid"),
    (some_gt, "qb", r"scene reduced/b .*has no GT"),
    (not_finite, "ge1", r"ms has NaN or infinite values"),
]


@pytest.mark.parametrize(("plant", "sensor", "said"), MISTAKES, ids=lambda x: getattr(x, "__name__", ""))
def test_a_mistake_gets_one_clear_error(root, tmp_path, plant, sensor, said):
    plant(root)
    done = run(root, tmp_path, dataset=sensor)
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.output
    assert re.search(said, done.output, re.DOTALL) and done.output.count("Error:") == 1
    assert not (tmp_path / "results").exists()
    if not said.startswith("ms has"):
        with pytest.raises(BenchError, match=re.compile(said, re.DOTALL)):
            list(pb.load_dataset(sensor, root).split("full" if plant is not no_gt else "reduced"))


# Real scenes, where they are at hand


def test_a_published_value_of_pairmax_in_its_own_layout(root):
    path = real_data().parent / "pairmax/ge1_london_rr.h5" if real_data() else None
    if path is None or not path.is_file():
        pytest.skip("the GeoEye-1 scene is not at hand")
    with h5py.File(path) as file:
        for key, name in (("pan", "PAN"), ("ms", "MS_LR"), ("lms", "MS"), ("gt", "GT")):
            bare(root / f"GE_Lond_Urb/RR/{name}.tif", file[key][0].astype(np.uint16))
    scene = pb.load_dataset("ge1", root).split("reduced")[0]
    fused = pb.get_method("gs")(scene.pan, scene.ms, lms=scene.lms, sensor=scene.sensor)
    assert round(metrics.sam(fused[..., 10:-11, 10:-11], scene.gt[..., 10:-11, 10:-11]).item(), 4) == 3.9599
