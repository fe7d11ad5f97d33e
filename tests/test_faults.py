"""What `bench data check` knows to be an error a run refuses before it trains; its warnings a run passes on."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from h5files import samples, write, write_set

from pansharp_bench import experiment, record
from pansharp_bench.cli import main
from pansharp_bench.datasets import _real
from pansharp_bench.datasets.pancollection import PanCollection
from pansharp_bench.errors import DataError
from pansharp_bench.experiment import run
from pansharp_bench.plan import RunSpec
from pansharp_bench.registry import DATASETS, load_plugin
from pansharp_bench.scene import as_sensor
from pansharp_bench.tables import tables

TINY = Path(__file__).parent / "plugins" / "tiny.py"
load_plugin(TINY)
REDUCED, TRAIN = "test_qb_multiExm1.h5", "train_qb.h5"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))
    return write_set(tmp_path / "data", test_size=128)


@pytest.fixture
def go(tmp_path, root):
    def go(method="exp", label="mini", **spec):
        asked = RunSpec(method, "qb", data=root, label=label, **spec)
        return run(asked, tmp_path / "results", tmp_path / "runs", pictures=0, progress=False)

    return go


def normalised(root):
    write(root / REDUCED, {k: v / 2047 for k, v in samples(n=1, size=128, seed=3).items()})


def another_phase(root):
    write(root / TRAIN, samples(n=4, seed=1, phase=(1, 2)))


def not_a_number(root):
    scene = samples(n=2, size=128, seed=3)
    scene["gt"][1, 0, 5, 5] = torch.nan
    write(root / REDUCED, scene)


def tested_on_what_it_learns_from(root):
    train, test = samples(n=4, seed=1), samples(n=1, size=128, seed=3)
    train["gt"][2] = test["gt"][0, :, 37:101, 5:69]
    write(root / TRAIN, train)


@pytest.mark.parametrize(
    ("plant", "method", "label", "said"),
    [
        (normalised, "exp", "mini", "reduced: pan spans .* normalised"),
        (not_a_number, "exp", "mini", "'gt': found nan in sample 1"),
        (another_phase, "gain", "mini", r"train: decimation phase: 4 of 4"),
        (tested_on_what_it_learns_from, "gain", "mini", "1 of 4 train samples show ground of 1"),
        (lambda root: None, "exp", None, "reduced: .*is not the original's .*--label NAME"),
    ],
)
def test_what_check_calls_an_error_is_refused_before_any_work(
    plant, method, label, said, root, go, tmp_path, monkeypatch
):
    plant(root)
    assert "error" in {level for level, _ in PanCollection("qb", root, label).check()}
    monkeypatch.setattr(experiment, "_run", lambda *a: pytest.fail("began to work"))
    with pytest.raises(DataError, match=rf"{said}.*--accept-faults"):
        go(method, label)
    assert not list(tmp_path.rglob("*.json"))


def test_what_does_not_take_part_is_not_asked_about(root, go):
    another_phase(root)
    go("exp")


def test_consent_is_recorded_and_stands_below_the_table(root, go, tmp_path):
    normalised(root)
    made = record.read(go("exp", accept_faults=True).path)
    faults = made.dataset["accepted_faults"]
    assert len(faults) == 4 and all("normalised" in f for f in faults)
    (table, *_) = tables([made], protocols=["reduced"])
    assert sum("accepted" in note and "normalised" in note for note in table.notes) == 4
    unlabelled = go("exp", None, accept_faults=True).record.dataset["accepted_faults"]
    assert any(REDUCED in f for f in unlabelled) and not any(str(tmp_path) in f for f in unlabelled)


def test_sound_files_are_passed_without_a_word(go):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "accepted_faults" not in go("gain").record.dataset


def test_warnings_of_the_check_are_printed_by_a_run(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = samples(n=1, size=128, seed=3)
    test["lms"] = torch.nn.functional.interpolate(test["ms"], scale_factor=4)
    write(root / REDUCED, test)
    words = [
        "run",
        "--method",
        "exp",
        "--dataset",
        "qb",
        "--data",
        root,
        "--label",
        "mini",
        "--pictures",
        "0",
    ]
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    assert "! qb-mini: reduced: lms differs from the 23-tap expansion" in done.stderr


def test_a_large_split_is_looked_at_in_part_and_this_is_said(root, monkeypatch):
    write(root / TRAIN, samples(n=9, seed=1, phase=(1, 2)))
    monkeypatch.setattr(_real, "_GLANCE", 3 * 64 * 64 * 9 * 4)
    dataset = PanCollection("qb", root, "mini")
    found = list(dataset.glance("train"))
    (said,) = (text for level, text in found if level == "error")
    assert said.startswith("train (3 of 9 samples looked at): decimation phase: 3 of 3")
    assert any("train: decimation phase: 9 of 9" in text for _, text in dataset.check())


def test_a_dataset_without_a_look_of_its_own_is_still_asked_for_digital_numbers(monkeypatch, tmp_path):
    class Normalised(DATASETS.get("tiny").obj):
        def split(self, name):
            split = super().split(name)
            split.gt = split.gt / 2047
            return split

    monkeypatch.setitem(DATASETS._entries, "tiny", replace(DATASETS.get("tiny"), obj=Normalised))
    with pytest.raises(DataError, match="full: pan looks normalised"):
        run(RunSpec("exp", "tiny"), tmp_path / "results", tmp_path / "runs", progress=False)


def test_a_camera_whose_unit_ends_at_one_is_not_called_normalised():
    qb = as_sensor("qb")
    assert qb.looks_normalised(0.0, 1.0) and not qb.looks_normalised(0.0, 1.5)
    assert not qb.looks_normalised(-0.2, 1.0) and not qb.looks_normalised(0.0, 0.0)
    assert not replace(qb, peak=1.0).looks_normalised(0.0, 1.0)
