"""Images made elsewhere are scored as ours are, and ours can be given away."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scenes as hostile
import scipy.io
import torch
from click.testing import CliRunner

from pansharp_bench import record
from pansharp_bench.cli import main

TINY = str(Path(__file__).parent / "plugins" / "tiny.py")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PANSHARP_DATA", raising=False)
    return lambda *words: CliRunner().invoke(main, [str(w) for w in words])


def the_record(folder="results", method="*"):
    (path,) = Path(folder).glob(f"*/*/{method}/*.json")
    return record.read(path)


@pytest.fixture
def ours(bench, tmp_path):
    words = ("--plugin", TINY, "--method", "exp", "--dataset", "tiny", "--quiet", "--pictures", "0")
    result = bench("run", *words, "--save-fused", "images", "--results", "ours")
    assert result.exit_code == 0, result.output
    return tmp_path / "images"


def score(bench, *words):
    return bench("score", "images", "--plugin", TINY, "--dataset", "tiny", "--quiet", *words)


def npy(folder, index, image):
    np.save(folder / f"{index}.npy", image)


def last_axis(folder, index, image):
    np.save(folder / f"fused_{index + 1:02d}.npy", np.moveaxis(image, 0, -1))


def mat(folder, index, image):
    scipy.io.savemat(folder / f"output_mulExm_{index}.mat", {"sr": np.moveaxis(image, 0, -1)})


def tif(folder, index, image, names=(), nodata=None):
    count, height, width = image.shape
    with rasterio.open(
        folder / f"{index}.tif",
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=image.dtype,
        nodata=nodata,
    ) as out:
        out.write(image)
        if names:
            out.descriptions = names


def tif_of_other_order(folder, index, image):
    tif(folder, index, image[[2, 1, 0, 3]], ("red", "green", "blue", "nir"))


@pytest.mark.parametrize("write", [npy, last_axis, mat, tif, tif_of_other_order])
def test_saved_images_scored_give_the_numbers_of_the_run(bench, ours, write):
    for path in list(ours.rglob("*.npy")):
        image, index = np.load(path), int(path.stem)
        path.unlink()
        write(path.parent, index, image)
    result = score(bench, "--name", "Their EXP", "--about", "Laboratory X, MATLAB", "--training", "paired")
    assert result.exit_code == 0, result.output
    here, there = the_record("ours"), the_record()
    assert there.protocols == here.protocols
    card = {"name": "their-exp", "title": "Their EXP", "kind": "external", "summary": "Laboratory X, MATLAB"}
    assert card.items() <= there.method.items() and there.method["training"] == "paired"
    assert there.dataset == here.dataset and there.spec["preset"] == "external"
    again = score(bench, "--name", "Their EXP")
    assert again.exit_code == 2 and "--force" in again.stderr


def test_they_stand_in_the_same_table(bench, ours):
    assert score(bench, "--name", "Their EXP", "--results", "ours").exit_code == 0
    told = bench("leaderboard", "--plugin", TINY, "--results", "ours").stdout
    rows = [x for x in told.splitlines() if "EXP" in x]
    theirs, here = (
        [re.findall(r"\d\.\d+", x.split("×")[0]) for x in rows if ("Their" in x) is own]
        for own in (True, False)
    )
    assert len(theirs) == 2 and "external" in told
    assert all(scores and set(scores) <= set(others) for scores, others in zip(theirs, here, strict=True))


def test_other_images_are_another_record(bench, ours):
    assert score(bench, "--name", "A").exit_code == 0
    path = ours / "reduced" / "1.npy"
    np.save(path, np.load(path) + 1)
    assert score(bench, "--name", "A").exit_code == 0
    assert len(list(Path("results").rglob("*.json"))) == 2


def test_one_protocol_alone(bench, ours):
    for path in (ours / "full").iterdir():
        path.unlink()
    (ours / "full").rmdir()
    assert score(bench, "--name", "A").exit_code == 0
    assert list(the_record().protocols) == ["reduced"]


def spoiled(what, folder):
    first = folder / "reduced" / "0.npy"
    image = np.load(first)
    if what == "missing":
        first.unlink()
    elif what == "nameless":
        first.rename(first.with_name("first.npy"))
    elif what == "twice":
        np.save(folder / "reduced" / "00.npy", image)
    elif what == "shape":
        np.save(first, image[:, :-4])
    elif what == "no image":
        np.save(first, image[0])
    elif what == "damaged":
        first.write_bytes(first.read_bytes()[:50])
    elif what == "several":
        first.unlink()
        scipy.io.savemat(folder / "reduced" / "0.mat", {"a": image, "b": image})
    elif what == "empty":
        first.write_bytes(b"")
    elif what == "archive":
        with open(first, "wb") as file:
            np.savez(file, image)
    elif what == "text":
        first.unlink()
        first.with_suffix(".mat").write_text("no matrix")
    elif what == "normalised":
        np.save(first, image / 2047)
    elif what == "pickle":
        np.save(first, np.array([print], dtype=object), allow_pickle=True)
    elif what in ("nodata", "other bands"):
        first.unlink()
        names = ("red", "green", "swir", "nir") if what == "other bands" else ()
        tif(folder / "reduced", 0, image, names, nodata=image.flat[0] if what == "nodata" else None)
    elif what in ("cut", "huge", "one pixel"):
        first.unlink()
        path = folder / "reduced" / "0.tif"
        if what == "huge":
            hostile.huge(path)
        else:
            tif(path.parent, 0, image if what == "cut" else image[:, :1, :1])
        if what == "cut":
            hostile.cut(path)
    elif what == "declared":  # terabytes
        with open(first, "wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f8", "fortran_order": False, "shape": (4, 800_000, 800_000)}
            )
    else:
        for path in folder.iterdir():
            path.rename(folder / f"{path.name}-images")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", r"images/reduced holds 2 images for 3 scenes; number 3 is missing"),
        ("nodata", r"0\.tif has pixels without a value"),
        (
            "other bands",
            r"are red, green, swir, nir; the sensor's are .*: write a file that holds these alone",
        ),
        ("nameless", r"first\.npy has no number"),
        ("twice", r"have the same number"),
        ("shape", r"0\.npy holds an array of shape \(4, 124, 128\); expected \(4, 128, 128\)"),
        ("no image", r"0\.npy holds 0 arrays that may be an image"),
        ("damaged", r"0\.npy cannot be read"),
        ("several", r"0\.mat holds 2 arrays"),
        ("pickle", r"0\.npy cannot be read"),
        ("empty", r"0\.npy cannot be read"),
        ("archive", r"0\.npy cannot be read"),
        ("text", r"0\.mat cannot be read"),
        ("normalised", r"0\.npy holds values up to .*: it looks normalised; .* up to 2047"),
        ("cut", r"0\.tif"),
        ("huge", r"0\.tif holds an array of shape \(4, 200000, 200000\); expected \(4, 128, 128\)"),
        ("one pixel", r"0\.tif holds an array of shape \(4, 1, 1\); expected"),
        ("declared", r"0\.npy cannot be read"),
        ("layout", r"holds no folder reduced or full"),
    ],
)
def test_what_is_wrong_with_images_is_said(bench, ours, what, message):
    spoiled(what, ours)
    result = score(bench, "--name", "A")
    assert result.exit_code == 2 and re.search(message, result.stderr), result.output
    assert not list(Path("results").rglob("*.json")) and "Traceback" not in result.output


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a process there")
def test_a_full_disk_leaves_no_record(bench, ours):
    with hostile.full_disk(1000):
        result = score(bench, "--name", "A")
    assert result.exit_code == 2 and "cannot write to" in result.stderr and "Traceback" not in result.output
    assert not [p for p in Path("results").rglob("*") if p.is_file() and p.stat().st_size]


def test_names_of_our_methods_are_ours(bench, ours):
    result = score(bench, "--name", "GSA")
    assert result.exit_code == 2 and "'gsa' is a method of this package" in result.stderr
    assert "holds no letter or digit" in score(bench, "--name", "–").stderr


def test_an_image_with_nan_has_no_score(bench, ours):
    path = ours / "reduced" / "2.npy"
    image = np.load(path)
    image[0, 0, 0] = np.nan
    np.save(path, image)
    assert score(bench, "--name", "A").exit_code == 0
    assert the_record().protocols["reduced"]["missing"]["ERGAS"] == [2]
    assert torch.tensor(the_record().scores("reduced", "ERGAS")[:2]).isfinite().all()
