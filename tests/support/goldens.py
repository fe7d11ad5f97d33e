"""Where the reference implementations' outputs lie, what kind of case each is, and how to read them.

``PANSHARP_GOLDEN`` names a folder with subfolders ``metrics``, ``unpaired``, ``paired``; the default is the
committed copies beside the tests. Every case found there is run, whatever its name: what a case is, and every
number in it, it says itself. Real imagery for local tests is looked up in ``PANSHARP_DATA``, or in
``shared/data`` beside the checkout; tests that need it skip, saying so, where it is absent.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pansharp_bench.registry import SENSORS
from pansharp_bench.scene import Sensor

TESTS = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("PANSHARP_GOLDEN") or TESTS / "golden")
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
UNKNOWN = "unknown"


def nchw(array: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """An H,W[,C] array as a (1, C, H, W) tensor."""
    return torch.as_tensor(array).to(dtype).reshape(*array.shape[:2], -1).permute(2, 0, 1)[None].contiguous()


def by_kind(marks: Mapping[str, set[str]], held: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Cases sorted by what they are.

    A case is of the kind all of whose marks are among the names that it holds, numbers in a name aside; of
    several such kinds, of the one with most marks. Cases of no kind are ``UNKNOWN``.
    """
    sorted_: dict[str, list[str]] = defaultdict(list)
    for case in sorted(held):
        names = {re.sub(r"\d+", "#", name) for name in held[case]}
        fitting = [kind for kind in marks if marks[kind] <= names]
        sorted_[max(fitting, key=lambda kind: len(marks[kind]), default=UNKNOWN)].append(case)
    return sorted_


def array_names(folder: Path) -> dict[str, set[str]]:
    """The names of the arrays in each .npz file of a folder, by the file's stem."""
    found = {}
    for path in folder.glob("*.npz"):
        with np.load(path) as file:
            found[path.stem] = set(file.files)
    return found


# -- cases of the toolbox --

TOOLBOX = GOLDEN / "metrics"
TOOLBOX_KINDS = {
    "RR": "indices with a reference", "FR": "indices without", "FUS": "fused images", "BLK": "building blocks",
}  # fmt: skip
SENSOR_NAMES = {
    "QB": "qb", "IKONOS": "ikonos", "GEOEYE1": "ge1", "GE1": "ge1", "WV4": "wv4", "WORLDVIEW4": "wv4",
    "WV2": "wv2", "WORLDVIEW2": "wv2", "WV3": "wv3", "WORLDVIEW3": "wv3",
}  # fmt: skip


@cache
def toolbox_cases() -> dict[str, dict[str, Any]]:
    index = TOOLBOX / "golden.json"
    return json.loads(index.read_text())["cases"] if index.exists() else {}


def toolbox_kind(kind: str) -> list[str]:
    return [name for name, case in toolbox_cases().items() if case["kind"] == kind]


@cache
def toolbox_arrays(case: str) -> dict[str, np.ndarray]:
    with np.load(TOOLBOX / toolbox_cases()[case]["file"]) as file:
        return dict(file)


def toolbox_sensor(case: str, tag: str | None = None) -> Sensor:
    """The case's sensor, or that of another tag; one the toolbox does not know has gains of 0.3 and 0.15."""
    about = toolbox_cases()[case]
    bands, ratio = about["shape"][-1], about["ratio"]
    name = SENSOR_NAMES.get(re.sub(r"[^A-Z0-9]", "", (tag or about["sensor"]).upper()))
    if name is None:
        return Sensor("none", "none", ("?",) * bands, 2047, (0.3,) * bands, 0.15, (0, 0, 0), ratio)
    return replace(SENSORS.get(name).obj, ratio=ratio)


# -- what may be absent --


def real_data(*parts: str) -> Path:
    """A path below the folder of real PanCollection-format imagery; skips the test where it is absent."""
    beside = TESTS.parents[1] / "shared" / "data" / "pancollection-mini"
    path = Path(os.environ.get("PANSHARP_DATA") or beside).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real imagery is not here ({path}); set PANSHARP_DATA to test with it")
    return path


def real_weights(*parts: str) -> Path:
    """A path below the folder of authors' released weights; skips the test where it is absent."""
    beside = TESTS.parents[1] / "shared" / "data" / "weights"
    path = Path(os.environ.get("PANSHARP_WEIGHTS") or beside).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"released weights are not here ({path}); set PANSHARP_WEIGHTS to test with them")
    return path
