"""Every example in a docstring runs, of all modules: what the documentation shows is so."""

import doctest
import importlib
import pkgutil
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("pansharp_bench", *(f"pansharp_bench.{room}" for room in ("methods", "metrics", "datasets")))
LACKING = set() if find_spec("distributed") else {"pansharp_bench.cluster", "pansharp_bench.sweep"}


def modules() -> list[str]:
    found = set(ROOMS)
    for room in ROOMS:
        found |= {m.name for m in pkgutil.walk_packages(importlib.import_module(room).__path__, f"{room}.")}
    return sorted(name for name in found - LACKING if not name.endswith("__main__"))


def examples(name: str) -> list[doctest.DocTest]:
    return [t for t in doctest.DocTestFinder().find(importlib.import_module(name)) if t.examples]


WITH_EXAMPLES = [name for name in modules() if examples(name)]


@pytest.mark.skipif(bool(LACKING), reason="Dask is not installed")
def test_no_module_is_passed_over():
    files = {p.resolve() for room in ROOMS for p in (ROOT / room.rpartition(".")[2]).rglob("*.py")}
    assert {Path(importlib.import_module(name).__file__).resolve() for name in modules()} == {
        p for p in files if p.name != "__main__.py"
    }


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_are_true(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # an example may write
    runner = doctest.DocTestRunner()
    for example in examples(name):
        runner.run(example)
    assert not runner.failures
