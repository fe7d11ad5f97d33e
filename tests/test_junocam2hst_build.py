"""From maps to a file of segments and from files to a data set: counts, resuming, holding out, and mistakes."""

import csv
import hashlib
import json
import pickle
import shutil

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from jupiter import planet, save_png
from PIL import Image

from pansharp_bench.cli import main
from pansharp_bench.datasets.junocam2hst.build import build, command
from pansharp_bench.datasets.junocam2hst.dataset import JunoCam2HST
from pansharp_bench.datasets.junocam2hst.store import Store, StoreSplit, Writer
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.registry import DATASETS
from pansharp_bench.scene import as_sensor

ZONES = ("EZ", "GRS")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Two mosaics that see half of the planet, two OPAL pictures that see all of it."""
    folder = tmp_path_factory.mktemp("maps")
    half = planet(90).values.clone()
    half[:, :, 100:] = torch.nan
    save_png(folder / "juno" / "PJ16.png", half)
    save_png(folder / "juno" / "PJ18.png", half.flip(2))
    for name in ("2019a", "2019b"):
        save_png(folder / "opal" / f"opal_{name}.png", planet(90, "planetographic", 360.0).values)
    return folder


def make(maps, out, **changes):
    options = {"train": (16,), "test": (18,), "zones": ZONES, "segment_pixels": 16, "nside_junocam": 16}
    options |= {"progress": False, "workers": 2} | changes
    return build(out, [maps / "juno"], [maps / "opal"], **options)


@pytest.fixture(scope="module")
def built(maps, tmp_path_factory):
    return make(maps, tmp_path_factory.mktemp("built") / "junocam2hst.h5", label="tiny")


def sha(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_counts_are_those_of_the_geometry(built):
    store = Store(built)
    assert store.count("target") == 2 * (320 + 64)
    assert np.bincount(store.column("target", "rotation")).tolist() == [384, 384]
    assert np.bincount(store.column("target", "zone")).tolist() == [640, 128]
    assert set(store.column("target", "cycle").tolist()) == {26}
    assert (store.km_per_pixel, store.segment_km, store.label) == (1000, 16000, "tiny")
    # PJ16 sees columns 0 to 100 of 180, from 180 W to 20 E; a segment needs some 7 degrees about it
    west = (store.column("train", "longitude") + 90) % 360 - 90
    assert -20 + 5 < west.min() < -20 + 13 and 180 - 13 < west.max() < 180 - 5
    assert 0.45 < store.count("train") / 384 < 0.53
    assert set(store.column("train", "perijove").tolist()) == {16}
    assert store.provenance["recipe"]["segment_pixels"] == 16
    assert [s["name"] for s in store.provenance["sources"]] == ["PJ16", "PJ18", "cycle 26 A", "cycle 26 B"]


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_killed_run_continues_to_the_same_file(maps, built, tmp_path, monkeypatch, pieces):
    out = tmp_path / "junocam2hst.h5"
    stored, append = [], Writer.append

    def killed(self, *arguments, **named):
        if len(stored) >= pieces:
            raise KeyboardInterrupt
        stored.append(named["piece"])
        append(self, *arguments, **named)

    monkeypatch.setattr(Writer, "append", killed)
    with pytest.raises(KeyboardInterrupt):
        make(maps, out, label="tiny", workers=1)
    assert not out.exists() and len(stored) == pieces
    (parts,) = tmp_path.glob("*.part")
    (parts / "train-half-written.tmp").write_bytes(b"killed in the middle")
    cut = next(parts.glob("train-*.npz"))
    cut.write_bytes(cut.read_bytes()[:-100])  # as the machine's own end may leave it
    stored.remove(cut.stem.removeprefix("train-"))
    again = []

    def counted(self, *arguments, **named):
        again.append(named["piece"])
        append(self, *arguments, **named)

    monkeypatch.setattr(Writer, "append", counted)
    make(maps, out, label="tiny")
    assert again and not set(again) & set(stored)
    assert sha(out) == sha(built)
    assert [p.name for p in tmp_path.iterdir()] == ["junocam2hst.h5"]


def test_built_twice_is_left_alone_and_another_is_not_overwritten(maps, tmp_path):
    out, said = tmp_path / "a.h5", []
    make(maps, out, zones=("GRS",))
    before = out.stat().st_mtime_ns
    make(maps, out, zones=("GRS",), say=said.append)
    assert said == [f"{out} is already built"] and out.stat().st_mtime_ns == before
    with pytest.raises(BenchError, match="--force"):
        make(maps, out, zones=("EZ",))
    make(maps, out, zones=("EZ",), force=True)
    assert Store(out).zones == ("EZ",) and Store(out).label == "custom"


@pytest.mark.parametrize(
    ("pixels", "said"), [(12, []), (16, ["1000 km a pixel", "PJ16", "--segment-pixels 6 "])]
)
def test_segments_much_finer_than_a_map_are_told_once(maps, tmp_path, pixels, said):
    """Those of 2 degrees a pixel, 2495 km."""
    told = []
    make(maps, tmp_path / "junocam2hst.h5", zones=("GRS",), segment_pixels=pixels, say=told.append)
    warned = [line for line in told if line.startswith("warning")]
    assert len(warned) == bool(said) and all(word in warned[0] for word in said)


def test_fill_of_hubbles_maps_is_in_no_segment_and_reported(maps, tmp_path):
    """Grey-green beyond 60 degrees north, as OPAL's: it was cut, and taken for cloud."""
    colour = torch.tensor([126, 120, 101])[:, None, None] / 255
    values = planet(180, "planetographic", 360.0).values.clone()
    values[:, :30] = colour
    save_png(tmp_path / "opal" / "opal_2019a.png", values)
    save_png(tmp_path / "opal" / "opal_2019b.png", planet(180, "planetographic", 360.0).values)
    said = []
    out = build(
        tmp_path / "a.h5", [maps / "juno"], [tmp_path / "opal"], train=(16,), test=(18,), zones=("EZ", "NPR"),
        segment_pixels=16, nside_junocam=16, progress=False, workers=2, say=said.append,
    )  # fmt: skip
    store = Store(out)
    near = (store.images("target") - colour).abs().amax(1) < 1.5 / 255
    assert near.flatten(1).sum(1).max() <= 1
    rotation, zone = (store.column("target", n) for n in ("rotation", "zone"))
    assert store.column("target", "latitude")[rotation == 0].max() < 56
    assert store.blank == {"cycle 26 A": {"EZ": 0, "NPR": 0.25}, "cycle 26 B": {"EZ": 0, "NPR": 0}}
    lost = 652 - ((rotation == 0) & (zone == 1)).sum()
    text = f"cycle 26 A: NPR 25.00% blank, {lost} of 652 segments lost"
    assert f"note: {text}" in said and sum("cycle 26" in s for s in said) == 1
    findings = list(JunoCam2HST(out).check())
    assert ("note", text) in findings and not any("fill" in t for _, t in findings)

    old = shutil.copy(out, tmp_path / "old.h5")
    with h5py.File(old, "r+") as file:  # as one that was built before
        told = json.loads(file.attrs["provenance"])
        assert told.pop("builder_version") == 2
        file.attrs["provenance"] = json.dumps(told)
        del file.attrs["blank"]
    assert ("warning", "built before fill was told from cloud on Hubble's maps; build it again") in list(
        JunoCam2HST(old).check()
    )


def test_mistakes_of_a_build(maps, tmp_path):
    out = tmp_path / "a.h5"
    with pytest.raises(BenchError, match="PJ18 is in --train and in --test"):
        make(maps, out, train=(16, 18))
    with pytest.raises(DataError, match="no mosaic of PJ17"):
        make(maps, out, train=(17,))
    for label in ("", "a b", "sim", "x-pj17"):  # none is the paper's set, a simulation's or a fold's name
        with pytest.raises(BenchError, match=f"label '{label}' "):
            make(maps, tmp_path / "x.h5", label=label)
    with pytest.raises(BenchError, match="EZ,EZ names a zone twice"):
        make(maps, tmp_path / "x.h5", zones=("EZ", "EZ"))
    with pytest.raises(BenchError, match=r"let it end in \.h5"):
        make(maps, tmp_path / "x.txt")
    for pair in ("F631N", "F631N=0", "F631N=-1", "F631N=nan"):
        words = [
            "--junocam",
            str(maps / "juno"),
            "--hst",
            str(maps / "opal"),
            "--out",
            "x.h5",
            "--hst-scale",
            pair,
        ]
        told = CliRunner().invoke(command, words)
        assert told.exit_code == 2 and "give FILTER=SCALE, above 0" in told.output
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        with pytest.raises(DataError, match=r"PJ16\.png: found a picture too large"):
            make(maps, tmp_path / "other" / "x.h5")
    with pytest.raises(BenchError, match="unknown zone ABC"):
        make(maps, out, zones=("ABC",))
    save_png(tmp_path / "juno" / "PJ16.png", planet(90).values)
    save_png(tmp_path / "juno" / "PJ18.png", torch.full((3, 90, 180), torch.nan))
    with pytest.raises(DataError, match=r"PJ18\.png: found no image"):
        build(out, [tmp_path / "juno"], [maps / "opal"], train=(16,), zones=("GRS",), progress=False)
    (parts,) = tmp_path.glob("*.part")
    assert list(parts.glob("train-PJ16-*.npz"))  # what was built is not lost
    assert not out.exists()


def test_a_zone_without_hubble_is_refused_and_a_blank_test_too(maps, tmp_path):
    north = planet(90, "planetographic", 360.0).values.clone()
    north[:, 45:] = torch.nan
    save_png(tmp_path / "opal" / "opal_2019a.png", north)
    with pytest.raises(DataError, match="zone GRS has JunoCam segments but none of Hubble"):
        build(
            tmp_path / "a.h5", [maps / "juno"], [tmp_path / "opal"], train=(16,), zones=("NEB", "GRS"),
            segment_pixels=16, nside_junocam=16, progress=False,
        )  # fmt: skip
    sliver = planet(90).values.clone()
    sliver[:, :, 3:] = torch.nan
    save_png(tmp_path / "juno" / "PJ16.png", planet(90).values)
    save_png(tmp_path / "juno" / "PJ18.png", sliver)
    with pytest.raises(DataError, match="the test mosaics gave no segment"):
        build(
            tmp_path / "b.h5", [tmp_path / "juno"], [maps / "opal"], train=(16,), zones=("GRS",),
            segment_pixels=16, nside_junocam=16, progress=False,
        )  # fmt: skip


def test_the_command_builds_a_replica(maps, tmp_path):
    words = ["--junocam", maps / "juno", "--hst", maps / "opal", "--out", tmp_path / "mini.h5", "--replica"]
    words += ["--train", "PJ16", "--zones", "GRS", "--nside-junocam", 16, "--hst-resolution", 2.5]
    result = CliRunner().invoke(command, list(map(str, words)))
    assert result.exit_code == 0, result.output
    store = Store(tmp_path / "mini.h5")
    assert store.label == "mini" and store.shape("target") == (128, 3, 64, 64)
    assert store.provenance["recipe"]["hst_resolution"] == 2.5
    wrong = CliRunner().invoke(command, [*map(str, words), "--train", "sixteen"])
    assert wrong.exit_code == 2 and "not a list such as" in wrong.output


def test_splits_hold_source_images_zones_and_nothing_else(built):
    dataset = JunoCam2HST(built.parent)
    assert dataset.name == "junocam2hst-tiny" and dataset.available() == ("train", "target", "test")
    split = dataset.split("target")
    assert split.keys == ("pan",) and split.groups.dtype == torch.int64
    assert split.groups.tolist() == Store(built).column("target", "zone").tolist()
    scene = split[3:5]
    assert scene.pan.shape == (2, 3, 16, 16) and scene.ms is None and scene.gt is None
    torch.testing.assert_close(split[-1].pan, split.read("pan", slice(767, 768)))
    torch.testing.assert_close(split[5:2:-1].pan, split[3:6].pan.flip(0))
    assert pickle.loads(pickle.dumps(split)).read("pan", 0).shape == (1, 3, 16, 16)
    with pytest.raises(IndexError):
        split[768]
    with pytest.raises(DataError, match="unknown split 'valid'"):
        dataset.split("valid")
    assert len({f.sha256 for f in dataset.files()}) == 1 and dataset.files("test")[0].split == "test"


def test_info_and_check_of_the_command_line(built, monkeypatch):
    def bench(*words):
        return CliRunner().invoke(main, ["data", *words, "--data", str(built.parent)])

    shown = bench("info", "junocam2hst")
    assert shown.exit_code == 0, shown.output
    for word in ("junocam2hst-tiny", "segments by zone and cycle", "26 A", "PJ16", "GRS", "768"):
        assert word in shown.output
    told = json.loads(bench("info", "junocam2hst", "--json").stdout)
    table = told["files"][1]["tables"][0]
    assert table["rows"] == [["EZ", 320, 320, 640], ["GRS", 64, 64, 128], ["all", 384, 384, 768]]
    found = bench("check", "junocam2hst")
    assert found.exit_code == 0 and "no perijove is in train and in test" in found.output
    assert "error" not in found.output and "warning" not in found.output


def written(path, bands=("red", "green", "blue"), perijoves=(16, 18), label="", **train):
    images = torch.rand(2, len(bands), 8, 8, generator=torch.Generator().manual_seed(0))
    train = {"zone": [0, 1], "latitude": [3, -22], "longitude": [0, 90]} | train
    with Writer(path, bands, ZONES, 2000.0, 16000.0, {"seed": 0}, label) as writer:
        writer.append("train", images, **train, perijove=perijoves[0])
        writer.append("test", images, [0, 1], [3, -22], [0, 90], perijove=perijoves[1], truth=images / 2)
        writer.append("target", images, [0, 0], [3, 4], [0, -90], cycle=26, rotation=[0, 1])
    return path, images


def test_a_file_gives_back_what_was_written(tmp_path):
    path, images = written(tmp_path / "junocam2hst.h5")
    store = Store(path)
    torch.testing.assert_close(store.images("train"), images, atol=0.51 / 65535, rtol=0)
    torch.testing.assert_close(store.images("test", 1, "truth"), images[1:] / 2, atol=0.51 / 65535, rtol=0)
    assert store.column("target", "longitude").tolist() == [0, 270]
    assert store.keys("test") == ("images", "truth")
    split = StoreSplit(store, "test", as_sensor("junocam2hst"))
    assert split.keys == ("pan", "gt") and split[0].gt.shape == (1, 3, 8, 8)
    assert split[1].latitude.tolist() == split.latitude[1:].tolist() == [-22]
    with h5py.File(path) as file:
        assert file["train/images"].dtype == np.uint16 and file["train/images"].chunks == (1, 3, 8, 8)
        assert file.attrs["format"] == "junocam2hst" and file["test/perijove"][:].tolist() == [18, 18]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": torch.rand(2, 4, 8, 8)}, "N,C,H,W with 3 bands"),
        ({"images": torch.full((2, 3, 8, 8), torch.nan)}, "not finite"),
        ({"zone": 2}, "zone 2 of 2 zones"),
        ({"latitude": [1, 2, 3]}, r"expected \(2,\)"),
        ({"perijove": None}, "need a perijove"),
        ({"cycle": 26}, "have no cycle"),
        ({"truth": torch.rand(2, 3, 4, 4)}, "as images"),
    ],
)
def test_what_a_writer_refuses(tmp_path, changes, said):
    writer = Writer(tmp_path / "a.h5", ("red", "green", "blue"), ZONES, 1.0, 1.0, {})
    given = {
        "images": torch.rand(2, 3, 8, 8),
        "zone": 0,
        "latitude": 0,
        "longitude": 0,
        "perijove": 16,
    } | changes
    with pytest.raises(DataError, match=said):
        writer.append("train", given.pop("images"), **given)


def test_band_order_is_checked(tmp_path):
    written(tmp_path / "junocam2hst.h5", bands=("blue", "green", "red"))
    with pytest.raises(DataError, match="found bands blue, green, red; expected red, green, blue"):
        JunoCam2HST(tmp_path).split("train")


def test_labels(tmp_path):
    written(tmp_path / "a" / "junocam2hst.h5")
    written(tmp_path / "b" / "junocam2hst-mini.h5", label="mini")
    assert JunoCam2HST(tmp_path / "a").name == "junocam2hst"
    assert JunoCam2HST(tmp_path / "a", "mine").name == "junocam2hst-mine"
    assert JunoCam2HST(tmp_path, "mini").name == "junocam2hst-mini"
    with pytest.raises(
        DataError, match="was built as junocam2hst-mini; it cannot be shown as junocam2hst-paper"
    ):
        JunoCam2HST(tmp_path / "b", "paper")
    with pytest.raises(DataError, match="several sets of junocam2hst"):
        JunoCam2HST(tmp_path)
    for label in ("sim", "sim-2", "a b"):
        with pytest.raises(BenchError, match="cannot be used"):
            JunoCam2HST(tmp_path / "a", label)
    with pytest.raises(DataError, match="Zenodo record 16429481"):
        JunoCam2HST(tmp_path / "c" if (tmp_path / "c").mkdir() is None else None)
    with pytest.raises(DataError, match="--data DIR"):
        JunoCam2HST(None)
    assert DATASETS.get("junocam2hst").card.stand_in == "junocam2hst-sim"


def test_check_finds_segments_outside_their_zone_and_shared_perijoves(tmp_path):
    written(tmp_path / "junocam2hst.h5", perijoves=(16, 16), latitude=[3, 22])
    findings = list(JunoCam2HST(tmp_path, "mine").check())
    errors = " ".join(text for level, text in findings if level == "error")
    assert "perijove 16 is in train and in test" in errors
    assert "1 segments lie outside the zone" in errors and "GRS at latitude 22.00" in errors
    assert "zone GRS has JunoCam segments but none of Hubble" in errors


def replaced(name, values, **attributes):
    def damage(file):
        del file[name]
        file[name] = values
        file[name].attrs.update(attributes)

    return damage


def emptied(file):
    for split in ("train", "target", "test"):
        del file[split]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: f.attrs.update(format_version=2), "found format_version 2; this program reads 1"),
        (lambda f: f.attrs.pop("zones"), "attributes are missing or damaged .KeyError"),
        (lambda f: f.attrs.update(bands=["red", "green"]), "'train/images'.* with 2 bands"),
        (lambda f: f["train/images"].attrs.update(scale=1 / 255), "scale 0.0039.*; expected 1/65535"),
        (
            lambda f: f["train/zone"].write_direct(np.array([2, 0], "u1")),
            "'train/zone': found zone 2; expected 2 zones",
        ),
        (replaced("train/zone", np.array([0, -1])), "'train/zone': found zone -1"),
        (replaced("train/zone", np.array([0, np.nan])), "'train/zone': found zone nan"),
        (
            replaced("train/latitude", np.array([0, np.nan])),
            "'train/latitude': found values that are not finite",
        ),
        (replaced("test/truth", np.ones((2, 3, 4, 4), "u2"), scale=1 / 65535), "'test/truth': .* as images"),
        (emptied, "found none of the groups"),
    ],
)
def test_what_no_writer_writes_is_not_read(tmp_path, damage, said):
    path, _ = written(tmp_path / "junocam2hst.h5")
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(DataError, match=said):
        Store(path)


def test_what_a_store_lacks_is_named(tmp_path):
    store = Store(written(tmp_path / "junocam2hst.h5")[0])
    for lacking, said in (
        (lambda: store.count("valid"), "has no split 'valid'; it has train"),
        (
            lambda: store.column("train", "cycle"),
            "no column 'cycle'; it has zone, latitude, longitude, perijove",
        ),
        (lambda: store.images("train", key="truth"), "'train' has no 'truth'"),
    ):
        with pytest.raises(DataError, match=said):
            lacking()
    assert store.images("train", slice(0, 0)).shape == (0, 3, 8, 8)


def test_damaged_files_are_named(tmp_path):
    path, _ = written(tmp_path / "junocam2hst.h5")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        Store(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["train/zone"]
    with pytest.raises(DataError, match="'train/zone'"):
        Store(path)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["train"]
        file["train"] = h5py.ExternalLink("other.h5", "/")
    with pytest.raises(DataError, match="key 'train'"):
        Store(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(DataError, match="bench data build"):
        Store(path)


@pytest.fixture
def released(tmp_path):
    """The authors' layout: three perijoves, one of them neither trained on nor held out, two cycles."""
    rng = np.random.default_rng(0)
    rows = {"A": [], "B": []}
    for folder, stem in (
        ("trainA", "EZ_PJ_16_jc_000001"), ("trainA", "GRS_PJ_18_jc_000002"), ("trainA", "EZ_PJ_27_jc_000003"),
        ("testA", "GRS_PJ_18_jc_000002"), ("testA", "EZ_PJ_22_jc_000004"),
    ):  # fmt: skip
        (tmp_path / folder).mkdir(exist_ok=True)
        image = np.random.default_rng(len(stem) + int(stem[-1])).random((8, 8, 3), np.float32)
        np.save(tmp_path / folder / f"{stem}.npy", image)
        rows["A"].append((stem, -18.0 if "GRS" in stem else 3.0, 10.0))
    for stem in (
        "EZ_cycle_26_rot_A_hst_000001",
        "EZ_cycle_26_rot_B_hst_000001",
        "EZ_cycle_22_rot_A_hst_000009",
    ):
        (tmp_path / "trainB").mkdir(exist_ok=True)
        np.save(tmp_path / "trainB" / f"{stem}.npy", rng.random((5, 8, 8), np.float32))
        rows["B"].append((stem, 3.0, -170.0))
    for domain, lines in rows.items():
        with open(tmp_path / f"{domain}_metadata.csv", "w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["index", "latitude", "longitude", "filepath_npy"])
            out.writerows([i, lat, lon, f"/somewhere/npy/{stem}"] for i, (stem, lat, lon) in enumerate(lines))
    return tmp_path


def test_the_released_layout_is_read_as_it_is(released):
    dataset = JunoCam2HST(released)
    assert dataset.name == "junocam2hst"
    assert dataset.summary()["splits"] == {"train": 2, "target": 2, "test": 1}
    train, target, test = (dataset.split(s) for s in ("train", "target", "test"))
    assert train.column("perijove").tolist() == [16, 22] and test.column("perijove").tolist() == [18]
    assert target.column("rotation").tolist() == [0, 1] and test.groups.tolist() == [train.zones.index("GRS")]
    stored = np.load(released / "trainA" / "EZ_PJ_16_jc_000001.npy")
    np.testing.assert_array_equal(train[0].pan[0, 0], stored[..., 2])  # red is last in the file
    np.testing.assert_array_equal(train[0].pan[0, 2], stored[..., 0])
    hst = np.load(released / "trainB" / "EZ_cycle_26_rot_A_hst_000001.npy")
    np.testing.assert_array_equal(target[0].pan[0], hst[[3, 2, 1]])
    np.testing.assert_array_equal(target.extra(0)[0], hst[[0, 4]])
    with pytest.raises(DataError, match="'train' has no further bands"):
        train.extra(0)
    with pytest.raises(DataError, match="'train' has no 'gt'"):
        train.read("gt", 0)
    with pytest.raises(IndexError, match="sample 2 of 2"):
        train[2]
    assert torch.equal(train[-1:].pan, train[1].pan) and train[:].pan.shape == (2, 3, 8, 8)
    assert train.paths == sorted(train.paths, key=lambda path: path.name)  # whatever order a folder lists
    assert test.column("latitude")[0] == pytest.approx(-20.39, abs=0.01)  # planetographic
    assert train.column("longitude")[0] == 350 and target.column("longitude")[0] == 350
    sizes = {f.split: (f.size, f.sha256) for f in dataset.files()}
    assert sizes == {f.split: (f.size, f.sha256) for f in JunoCam2HST(released).files()}
    np.save(released / "trainA" / "EZ_PJ_16_jc_000001.npy", stored * 0.5)
    changed = {f.split: (f.size, f.sha256) for f in JunoCam2HST(released).files()}
    assert changed["train"] != sizes["train"] and changed["test"] == sizes["test"]


def test_segments_that_the_metadata_do_not_know_are_not_found_in_their_zone(released):
    table = released / "A_metadata.csv"
    table.write_text(table.read_text().replace("EZ_PJ_22", "EZ_PJ_23"))
    findings = list(JunoCam2HST(released).check())
    assert [text for level, text in findings if level == "warning"] == [
        "train: the metadata tell no centre of 1 of 2 segments, so no mosaic can be made"
    ]
    assert ("ok", "train: every segment lies in its zone") not in findings


def test_the_released_layout_when_it_is_not_as_it_should_be(released):
    first = released / "trainA" / "EZ_PJ_16_jc_000001.npy"
    whole = first.read_bytes()
    for array, said in (
        (np.zeros((3, 8, 8), np.float32), "expected floats, H,W,3"),
        (np.full((8, 8, 3), 200.0), "values from 200 to 200"),
        (np.full((8, 8, 3), -200.0), "values from -200 to -200"),
        (np.full((8, 8, 3), np.nan), "NaN"),
        (np.zeros((8, 8, 3), np.uint8), "found uint8"),
    ):
        np.save(first, array)
        with pytest.raises(DataError, match=said):
            JunoCam2HST(released).split("train")[0]
    np.save(first, np.zeros((4, 8, 3), np.float32))
    with pytest.raises(DataError, match=r"found size \(8, 8\); expected \(4, 8\), as the others"):
        JunoCam2HST(released).split("train")[:]
    first.write_bytes(whole[:150])
    with pytest.raises(DataError, match=r"no readable \.npy"):
        JunoCam2HST(released).split("train")
    first.write_bytes(whole)
    other = first.rename(first.with_name("XY_PJ_16_jc_000001.npy"))
    with pytest.raises(DataError, match="found segments of zone XY, which is unknown"):
        JunoCam2HST(released).split("train")
    other.rename(first)
    (released / "A2_metadata.csv").write_text("latitude,longitude\n1,2\n")
    with pytest.raises(
        DataError, match=r"metadata that cannot be read .KeyError 'filepath_npy'.; expected the columns"
    ):
        JunoCam2HST(released).split("train")
    for path in released.glob("*/*_PJ_18_*"):
        path.unlink()
    with pytest.raises(DataError, match="perijove 18 in trainA or testA; found perijoves: 16, 22, 27"):
        JunoCam2HST(released).split("test")
    for path in released.glob("*.csv"):
        path.unlink()
    assert JunoCam2HST(released).split("train").column("latitude") is None
