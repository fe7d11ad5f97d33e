"""Golden cases are found and told apart by what they hold: a case that nobody knows must not be passed over."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from goldens import GOLDEN, UNKNOWN, array_names, by_kind

MARKS = {"plain": {"x", "y"}, "with features": {"x", "y", "feat#"}, "described": {"bands", "in#/pan"}}


def test_the_folder_of_goldens_holds_cases():
    found = [GOLDEN / "metrics" / "golden.json", *GOLDEN.glob("unpaired/*.npz"), *GOLDEN.glob("paired/*.npz")]
    assert any(path.exists() for path in found), f"no case below {GOLDEN}"


def test_a_case_is_what_most_of_its_arrays_say():
    held = {
        "a": {"x", "y", "w:model.1.weight"},
        "b": {"x", "y", "feat0", "feat1"},
        "c": {"bands", "what", "in32/pan", "in64/pan"},
        "d": {"x"},
        "e": (),
    }
    assert by_kind(MARKS, held) == {
        "plain": ["a"], "with features": ["b"], "described": ["c"], UNKNOWN: ["d", "e"],
    }  # fmt: skip


def test_names_of_arrays(tmp_path):
    np.savez(tmp_path / "any name.npz", x=np.zeros(2), **{"in/y": np.zeros(3)})
    assert array_names(tmp_path) == {"any name": {"x", "in/y"}}


@pytest.fixture
def odd_folder(tmp_path: Path) -> Path:
    """One case under another name and one of no kind, for each of the three comparisons."""
    for part in ("unpaired", "paired", "metrics"):
        (tmp_path / part).mkdir()
    np.savez(tmp_path / "unpaired" / "grid of times.npz", times=np.float32([0, 0.5, 1]))
    np.savez(tmp_path / "unpaired" / "new.npz", nobody_knows=np.zeros(1))
    np.savez(tmp_path / "paired" / "new.npz", **{"in/x": np.zeros(1)})
    (tmp_path / "paired" / "new.json").write_text('{"what": "a network"}')
    (tmp_path / "metrics" / "golden.json").write_text('{"cases": {"new": {"kind": "XX", "file": "new.npz"}}}')
    return tmp_path


def test_a_case_of_another_name_is_run_and_one_of_no_kind_fails(odd_folder):
    files = [Path(__file__).with_name(f"test_{part}_golden.py") for part in ("metrics", "unpaired", "paired")]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-k",
            "known_kind or time_grid",
            "-rA",
            *files,
        ],
        env={**os.environ, "PANSHARP_GOLDEN": str(odd_folder)},
        capture_output=True,
        text=True,
    )
    for part in ("metrics", "unpaired", "paired"):
        assert f"FAILED tests/test_{part}_golden.py::test_every_case_is_of_a_known_kind" in done.stdout, (
            done.stdout
        )
    assert "PASSED tests/test_unpaired_golden.py::test_time_grid[grid of times]" in done.stdout, done.stdout
