"""PanCollection: files found in any layout, named by their content, and checked for the known defects."""

import os
import re
import shutil

import h5py
import numpy as np
import pytest
import torch
from goldens import real_data
from h5files import noise, samples, write, write_set

from pansharp_bench import files
from pansharp_bench.datasets._inspect import describe
from pansharp_bench.datasets.pancollection import ORIGINALS, PanCollection
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import sha256_of
from pansharp_bench.imaging import mtf_filter
from pansharp_bench.registry import DATASETS
from pansharp_bench.scene import SPLITS

NAMES = {
    "train": "train_qb.h5",
    "valid": "valid_qb.h5",
    "reduced": "test_qb_multiExm1.h5",
    "full": "test_qb_OrigScale_multiExm1.h5",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def original(monkeypatch, dataset: str, split: str, path) -> None:
    """Make this file the known original."""
    monkeypatch.setitem(ORIGINALS, (dataset, split), sha256_of(path))


# Registration


@pytest.mark.parametrize(
    ("name", "stand_in", "bands"),
    [("qb", "qb-sim", 4), ("gf2", "gf2-sim", 4), ("wv3", "wv3-sim", 8), ("wv2", "", 8)],
)
def test_registered(name, stand_in, bands, root):
    entry = DATASETS.get(name)
    assert entry.card.stand_in == stand_in and entry.card.sensor == name
    write(root / f"test_{name}_multiExm1.h5", noise(name))
    dataset = entry.obj(root=root, label=None)
    assert dataset.sensor.channels == bands and dataset.available() == ("reduced",)
    assert dataset.split("reduced")[0].ms.shape == (1, bands, 4, 4)


def test_options_that_mean_nothing_are_refused(root):
    write_set_of_noise(root)
    with pytest.raises(BenchError, match="no option seed"):
        DATASETS.get("qb").obj(root=root, seed=1)


# Layouts


def write_set_of_noise(folder, names=NAMES, sensor="qb"):
    for seed, (split, name) in enumerate(names.items()):
        write(folder / name, noise(sensor, n=seed + 1, full=split == "full", seed=seed))


LAYOUTS = {
    "flat": NAMES,
    "by sensor": {k: f"qb/{v}" for k, v in NAMES.items()},
    "project's own": {
        "train": "QB/train_qb.h5",
        "valid": "QB/valid_qb.h5",
        "reduced": "QB/reduced_examples_h5/test_qb_multiExm1.h5",
        "full": "QB/full_examples_h5/test_qb_OrigScale_multiExm1.h5",
    },
    "mirror": {
        "train": "training_data/train_qb_17139.h5",
        "valid": "training_data/valid_qb_1905.h5",
        "reduced": "test_data/QB/test_qb_multiExm1.h5",
        "full": "test_data/QB/test_qb_OrigScale_multiExm1.h5",
    },
    "spelled out": {
        "train": "QuickBird/Training Dataset/train_qb.h5",
        "valid": "QuickBird/Training Dataset/valid_qb.h5",
        "reduced": "QuickBird/Testing Dataset/ReducedData (H5 Format)/test_qb_multiExm1.h5",
        "full": "QuickBird/Testing Dataset/FullData (H5 Format)/test_qb_OrigScale_multiExm1.h5",
    },
    "upper case": {k: f"Data/{v.upper()}" for k, v in NAMES.items()},
    "hub cache": {k: f"hub/datasets--x--y/snapshots/0123abcd/test_data/QB/{v}" for k, v in NAMES.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(root, layout):
    write_set_of_noise(root, LAYOUTS[layout])
    # others' files, and names that only resemble, are in the way
    write_set_of_noise(root / "other", {k: v.replace("qb", "gf2") for k, v in NAMES.items()}, "gf2")
    for name in (
        "train_qb_pan.h5",
        "._train_qb.h5",
        "test_qb_OrigScale_multiExm1_pan.h5",
        "train_qb.mat",
        "train_qb.txt",
    ):
        (root / name).write_text("not this one")
    dataset = PanCollection("qb", root)
    assert dataset.available() == SPLITS
    assert [len(dataset.split(s)) for s in SPLITS] == [1, 2, 3, 4]
    assert {s: p.relative_to(root).as_posix() for s, p in dataset.paths.items()} == LAYOUTS[layout]
    assert dataset.summary() == {"where": str(root), "splits": dict(zip(SPLITS, (1, 2, 3, 4), strict=True))}


def test_linked_folders_and_a_loop(root, tmp_path):
    write_set_of_noise(tmp_path / "disk")
    (root / "qb").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "again").symlink_to(root)
    assert PanCollection("qb", root).available() == SPLITS


def test_any_split_may_be_absent(root):
    write_set_of_noise(root, {"reduced": NAMES["reduced"]})
    dataset = PanCollection("qb", root)
    assert dataset.available() == ("reduced",)
    with pytest.raises(
        DataError, match=r"no split 'full' .*test_qb_OrigScale_multiExm1\.h5.* found only reduced"
    ):
        dataset.split("full")
    with pytest.raises(DataError, match=r"train_qb\.h5 or train_qb_<count>\.h5"):
        dataset.files("train")
    with pytest.raises(DataError, match="unknown split 'test'"):
        dataset.split("test")


def test_nothing_here(root):
    write_set_of_noise(root, {"train": "train_gf2.h5"}, "gf2")
    with pytest.raises(DataError) as caught:
        PanCollection("qb", root)
    for word in (
        str(root),
        "train_qb.h5",
        "test_qb_multiExm1.h5",
        "files of gf2",
        "elsting/PanCollection",
        "liangjiandeng/PanCollection",
    ):
        assert word in str(caught.value)


def test_no_root_a_wrong_root_and_a_file_for_a_root(root):
    with pytest.raises(DataError, match=r"--data DIR or PANSHARP_DATA.*elsting/PanCollection"):
        PanCollection("qb", None)
    with pytest.raises(DataError, match="does not exist"):
        PanCollection("qb", root / "nowhere")
    write_set_of_noise(root)
    with pytest.raises(DataError, match="is a file; give the folder"):
        PanCollection("qb", root / "train_qb.h5")


def test_two_different_candidates(root):
    write_set_of_noise(root, {"train": "a/train_qb.h5", "valid": "b/train_qb_17139.h5"})
    with pytest.raises(DataError) as caught:
        PanCollection("qb", root)
    assert "a/train_qb.h5" in str(caught.value) and "b/train_qb_17139.h5" in str(caught.value)
    assert "Point --data at" in str(caught.value)


@pytest.mark.parametrize("copy", [shutil.copy, os.link, os.symlink])
def test_the_same_content_twice_is_one_file(root, copy):
    write_set_of_noise(root, {"train": "a/train_qb.h5"})
    (root / "b").mkdir()
    copy(root / "a/train_qb.h5", root / "b/train_qb_17139.h5")
    assert PanCollection("qb", root).paths["train"] == root / "a/train_qb.h5"


def test_a_folder_named_like_the_file(root):
    (root / "train_qb.h5").mkdir()
    with pytest.raises(DataError, match="found a folder"):
        PanCollection("qb", root).split("train")
    write_set_of_noise(root / "train_qb.h5", {"train": "train_qb.h5"})  # as some archives unpack
    assert len(PanCollection("qb", root).split("train")) == 1


def test_a_dead_link(root):
    write_set_of_noise(root, {"valid": "valid_qb.h5"})
    (root / "train_qb.h5").symlink_to("gone")
    with pytest.raises(DataError, match="a link to nothing"):
        PanCollection("qb", root).split("train")
    with pytest.raises(DataError, match=r"train_qb\.h5 cannot be read"):
        PanCollection("qb", root).files()


# Identity


def test_known_originals_are_called_by_the_sensors_name(root, monkeypatch):
    write_set_of_noise(root)
    for split in ("train", "valid", "reduced"):
        original(monkeypatch, "qb", split, root / NAMES[split])
    dataset = PanCollection("qb", root)
    assert dataset.name == "qb"
    assert [f.verified for f in dataset.files()] == [True, True, True, None]
    assert [f.split for f in dataset.files("full", "train")] == ["full", "train"]
    assert dataset.files("train")[0].sha256 == sha256_of(root / "train_qb.h5")
    assert PanCollection("qb", root, "mine").name == "qb-mine"


def test_one_other_file_makes_it_unverified(root, monkeypatch):
    write_set_of_noise(root)
    for split in ("train", "valid"):
        original(monkeypatch, "qb", split, root / NAMES[split])
    dataset = PanCollection("qb", root)
    assert dataset.name == "qb-unverified" and dataset.files("reduced")[0].verified is False


def test_nothing_to_verify_is_unverified(root):
    write_set_of_noise(root, {"full": NAMES["full"]})
    assert PanCollection("qb", root).name == "qb-unverified"


def test_the_originals_list_is_whole():
    assert {s for s, _ in ORIGINALS} == {"qb", "gf2", "wv3"} and len(set(ORIGINALS.values())) == 9
    assert all(re.fullmatch("[0-9a-f]{64}", v) for v in ORIGINALS.values())


@pytest.mark.parametrize("label", ["mini", "2023-03-20", "A_b-1", "simple"])
def test_labels(root, label):
    write_set_of_noise(root)
    assert PanCollection("qb", root, label).name == f"qb-{label}"


@pytest.mark.parametrize(
    "label", ["sim", "SIM", "sim-2", "unverified", "Unverified_x", "", "a b", "a/b", "../x", "-x", "ä", "a\n"]
)
def test_labels_that_could_mislead_are_refused(root, label):
    write_set_of_noise(root)
    with pytest.raises(BenchError, match="label"):
        PanCollection("qb", root, label)


def test_checksums_are_kept_until_the_file_is_touched(root, monkeypatch, cache):
    path = write(root / "train_qb.h5", noise())
    hashed = []
    real = files._hash
    monkeypatch.setattr(files, "_hash", lambda p: hashed.append(p) or real(p))
    first = sha256_of(path)
    assert sha256_of(path) == first and len(hashed) == 1
    stamp = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # even with its old time and size
    assert sha256_of(path) != first and len(hashed) == 2
    files._hashed.clear()  # as another process would
    shutil.rmtree(cache)
    cache.write_text("in the way")  # a cache that cannot be written is done without
    assert sha256_of(path) != first and len(hashed) == 3


# The check


def findings(dataset, *levels):
    return [text for level, text in dataset.check() if level in levels]


def test_a_sound_set_has_no_findings(root):
    dataset = PanCollection("qb", write_set(root), "mine")
    assert findings(dataset, "error", "warning") == []
    said = findings(dataset, "ok")
    assert sum("decimation phase (2,2) in all" in t for t in said) == 3
    assert sum("are registered" in t for t in said) == 4
    assert any("no sample is shared" in t for t in said)


@pytest.mark.parametrize("phase", [(1, 2), (2, 1), (0, 0), (3, 3)])
def test_planted_phases_are_found(root, phase, monkeypatch):
    write_set(root)
    right, wrong = samples(n=3, seed=1), samples(n=5, seed=7, phase=phase)
    path = write(root / "train_qb.h5", {k: torch.cat([wrong[k][:2], right[k], wrong[k][2:]]) for k in right})
    dataset = PanCollection("qb", root, "mine")
    (found,) = findings(dataset, "error")
    assert found.startswith("train: decimation phase: 5 of 8 samples (62.5%)")
    assert f"({phase[0]},{phase[1]}) in 5" in found
    original(monkeypatch, "qb", "train", path)  # in the known original it is what everybody has
    assert findings(dataset, "error") == []
    assert any("5 of 8 samples" in t for t in findings(dataset, "warning"))


def test_wrong_checksum_is_an_error_unless_labelled(root):
    write_set(root)
    assert len(findings(PanCollection("qb", root), "error")) == 3
    assert findings(PanCollection("qb", root, "mine"), "error") == []


def test_repeated_samples(root):
    write_set(root)
    train, valid = samples(n=4, seed=1), samples(n=2, seed=2)
    write(root / "train_qb.h5", {k: torch.cat([x, x[1:2], valid[k][:1]]) for k, x in train.items()})
    said = findings(PanCollection("qb", root, "mine"), "warning")
    assert "train: 1 of 6 samples repeat an earlier one exactly" in said
    assert "train and valid: 1 samples are the same in both" in said


def test_test_ground_in_training(root):
    """A patch cut from a test image, at any offset, though neither its size nor its PAN agree."""
    write_set(root, test_size=128)
    with h5py.File(root / NAMES["reduced"]) as file:
        scene = torch.from_numpy(file["gt"][:]).float()
    train = samples(n=4, seed=1)
    train["gt"][2] = scene[0, :, 37:101, 5:69]
    write(root / "train_qb.h5", train)
    said = findings(PanCollection("qb", root, "mine"), "error")
    assert "train and reduced: 1 of 4 train samples show ground of 1 of the 1 test images" in said


def test_full_resolution_ground_in_training(root):
    write_set(root)
    raw = samples(n=1, size=256, seed=4)
    del raw["gt"]
    write(root / NAMES["full"], raw)
    valid = samples(n=2, seed=2)
    valid["gt"][1, :, :40, :40] = raw["ms"][0, :, 11:51, 23:63]
    write(root / "valid_qb.h5", valid)
    said = findings(PanCollection("qb", root, "mine"), "error")
    assert "valid and full: 1 of 2 valid samples show ground of 1 of the 1 test images" in said


@pytest.mark.parametrize(("rows", "columns"), [(2, 0), (0, -3), (-1, 2)])
def test_misregistration_is_found(root, rows, columns):
    write_set(root)
    train = samples(n=8, seed=1)
    for key in ("gt", "lms"):  # the MS of three samples is moved
        train[key][:3] = train[key][:3].roll((rows, columns), (2, 3))
    train["ms"][:3] = mtf_filter(train["gt"][:3], "qb")[..., 2::4, 2::4]
    write(root / "train_qb.h5", train)
    (found,) = [t for t in findings(PanCollection("qb", root, "mine"), "warning") if "misregistered" in t]
    assert "train: PAN and MS seem misregistered in 3 of the 8 samples" in found
    dy, dx = map(float, re.search(r"lies ([+-][\d.]+) rows and ([+-][\d.]+) columns", found).groups())
    assert abs(dy - rows) <= 0.3 and abs(dx - columns) <= 0.3


def test_registration_that_cannot_be_judged_is_said(root):
    write_set(root)
    train = samples(n=8, seed=1)
    train["ms"] = 300 + 50 * torch.rand(train["ms"].shape, generator=torch.Generator().manual_seed(0))
    write(root / "train_qb.h5", train)
    said = findings(PanCollection("qb", root, "mine"), "note")
    assert any(
        t.startswith("train: registration of PAN and MS cannot be judged: none of 8 samples") for t in said
    )


def test_values_are_judged_and_never_changed(root):
    write_set(root)
    write(root / "train_qb.h5", {k: v / 2047 for k, v in samples(n=4, seed=1).items()})
    bright = samples(n=2, seed=2)
    bright["gt"][0, 0, 0, 0] = 2100
    bright["pan"][0, 0, 0, 0] = 60000
    write(root / "valid_qb.h5", bright)
    dataset = PanCollection("qb", root, "mine")
    assert any("normalised" in t for t in findings(dataset, "error"))
    said = findings(dataset, "warning")
    assert any("gt spans" in t and "2100" in t for t in said)
    assert any("pan spans" in t and "60000" in t for t in said)
    assert dataset.split("valid")[0].pan.max() == 60000


def test_nan_and_flat_samples_and_another_expansion(root):
    write_set(root)
    train, valid = samples(n=4, seed=1), samples(n=2, seed=2)
    train["ms"][2, 0, 3, 3] = torch.nan
    valid["lms"] = torch.nn.functional.interpolate(valid["ms"], scale_factor=4)
    for key in valid:
        valid[key][1] = 300
    write(root / "train_qb.h5", train)
    write(root / "valid_qb.h5", valid)
    dataset = PanCollection("qb", root, "mine")
    (found,) = findings(dataset, "error")
    assert "'ms'" in found and "nan in sample 2" in found
    said = findings(dataset, "warning")
    assert any("PAN is constant in 1 of 2" in t for t in said)
    assert any("valid: lms differs from the 23-tap expansion" in t for t in said)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda x: x, None),
        (lambda x: x | {"lms": x["lms"].round()}, None),
        (
            lambda x: {k: v.round() for k, v in x.items()},
            None,
        ),  # as PAirMax: ms rounded after it was expanded
        (lambda x: x | {"lms": x["lms"] + 0.1}, 0.1),
        (lambda x: x | {"lms": x["lms"].round() + 1}, 1.5),
    ],
)
def test_an_expansion_is_told_from_a_rounded_one(root, change, found):
    write_set(root)
    write(root / "valid_qb.h5", change(samples(n=2, seed=2)))
    said = [t for t in findings(PanCollection("qb", root, "mine"), "warning") if "23-tap" in t]
    assert len(said) == (found is not None)
    if said:
        assert float(re.search(r"up to ([\d.]+) DN", said[0])[1]) == pytest.approx(found, abs=0.02)


def test_bad_samples_do_not_hide_the_rest(root, monkeypatch):
    from pansharp_bench.datasets import _inspect

    monkeypatch.setattr(_inspect, "_BATCH", 1)  # one sample at a time
    write_set(root)
    train = samples(n=4, seed=1, phase=(1, 2))
    train["pan"][0, 0, 0, 0] = torch.inf
    train["gt"][2, 0, 0, 0] = torch.nan
    write(root / "train_qb.h5", train)
    first, second, third = findings(PanCollection("qb", root, "mine"), "error")
    assert "'pan': found inf in sample 0" in first and "'gt': found nan in sample 2" in second
    assert "2 of 2 samples (100.0%)" in third


def test_a_file_that_cannot_be_opened_is_a_finding(root):
    write_set(root)
    (root / "train_qb.h5").write_text("<html>")
    dataset = PanCollection("qb", root, "mine")
    (found,) = findings(dataset, "error")
    assert "web page" in found
    assert dataset.summary()["splits"]["train"] is None


def test_known_remarks_are_made(root):
    write(root / "test_wv3_OrigScale_multiExm1.h5", noise("wv3", size=64, full=True))
    assert any("share 6 of 20 scenes" in t for t in findings(PanCollection("wv3", root), "note"))
    assert not any("share 6 of 20" in t for t in findings(PanCollection("wv3", root, "mine"), "note"))


def test_info_is_streamed(root, monkeypatch):
    """Statistics do not depend on how the samples are cut into batches; they are those of the whole."""
    from pansharp_bench.datasets import _inspect

    write_set(root, n=5)
    dataset = PanCollection("qb", root, "mine")
    whole = describe(dataset.split("train"))
    monkeypatch.setattr(_inspect, "_BATCH", 1)
    torch.testing.assert_close(
        torch.tensor(describe(dataset.split("train"))["band_std"]), torch.tensor(whole["band_std"])
    )
    scene = dataset.split("train")[:]
    assert whole["arrays"]["gt"] == {
        "shape": [5, 4, 64, 64], "dtype": "float64", "min": scene.gt.min().item(), "max": scene.gt.max().item(),
    }  # fmt: skip
    ms = scene.ms.double().transpose(0, 1).flatten(1).numpy()
    pan = scene.pan.double().reshape(5, 16, 4, 16, 4).mean((2, 4)).flatten().numpy()
    np.testing.assert_allclose(whole["band_mean"], ms.mean(1), rtol=1e-9)
    np.testing.assert_allclose(whole["band_std"], ms.std(1), rtol=1e-6)
    np.testing.assert_allclose(whole["pan_std"], scene.pan.double().numpy().std(), rtol=1e-6)
    np.testing.assert_allclose(
        whole["pan_band_correlation"], [np.corrcoef(pan, b)[0, 1] for b in ms], atol=1e-6
    )
    np.testing.assert_allclose(whole["band_correlation"], np.corrcoef(ms), atol=1e-6)


def test_every_file_is_described(root):
    dataset = PanCollection("qb", write_set(root), "mine")
    described = list(dataset.info())
    assert [d["split"] for d in described] == list(SPLITS) and "gt" not in described[3]["arrays"]
    assert all(d["verified"] is (None if d["split"] == "full" else False) for d in described)


# Real imagery

# band means, standard deviations, PAN-band correlation and blue-other correlation, as published for these files
REAL = {
    ("qb", "train"): ((320, 422, 331, 442), (104, 117, 92, 105), (0.72, 0.89, 0.72, 0.68), (0.92, 0.20, 0.32)),
    ("qb", "reduced"): ((235, 296, 284, 426), (9, 19, 35, 48), (0.85, 0.93, 0.95, 0.83), (0.97, 0.92, 0.55)),
    ("qb", "full"): ((441, 534, 287, 409), (106, 132, 89, 131), (0.75, 0.95, 0.96, 0.88), (0.88, 0.64, 0.68)),
    ("gf2", "train"): ((332, 252, 218, 151), (48, 51, 57, 47), (0.86, 0.92, 0.95, 0.94), (0.97, 0.91, 0.84)),
    ("gf2", "reduced"): ((303, 199, 168, 131), (35, 34, 47, 45), (0.87, 0.92, 0.95, 0.93), (0.97, 0.93, 0.78)),
    ("wv2", "reduced"): (
        (424, 286, 380, 448, 322, 453, 530, 439),
        (98, 101, 163, 222, 181, 174, 238, 192),
        (0.91, 0.92, 0.96, 0.95, 0.94, 0.88, 0.51, 0.48),
        (1.0, 0.98, 0.98, 0.97, 0.67, 0.20, 0.17),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sensor", "split"), REAL)
def test_real_statistics(sensor, split):
    mean, std, pan, blue = REAL[sensor, split]
    found = describe(PanCollection(sensor, real_data(sensor), "mini").split(split))
    np.testing.assert_allclose(found["band_mean"], mean, atol=1)
    np.testing.assert_allclose(found["band_std"], std, atol=1)
    np.testing.assert_allclose(found["pan_band_correlation"], pan, atol=0.006)
    # "blue" of the eight-band table is the first band, coastal
    np.testing.assert_allclose(found["band_correlation"][0][1:], blue, atol=0.006)


@pytest.mark.parametrize("sensor", ["qb", "gf2", "wv2"])
def test_real_files_pass_the_check(sensor):
    dataset = PanCollection(sensor, real_data(), "mini")
    assert (
        dataset.name == f"{sensor}-mini" and PanCollection(sensor, real_data()).name == f"{sensor}-unverified"
    )
    found = list(dataset.check())
    assert [t for level, t in found if level == "error"] == []
    right = [t for level, t in found if level == "ok" and "decimation phase (2,2) in all" in t]
    assert len(right) == len(set(dataset.available()) - {"full"})
    # one QuickBird training scene has its PAN and MS apart
    apart = [t for level, t in found if level == "warning" and t.startswith("train: PAN and MS seem")]
    assert len(apart) == (sensor == "qb")
