"""The doctor finds what is broken, says what to do about it, and leaves nothing behind."""

import contextlib
import json
import tomllib
from importlib import import_module, metadata
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from pansharp_bench import files, registry
from pansharp_bench.cli import main

room = import_module("pansharp_bench.cli.doctor")  # the package has the command under this name
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Findings as (level, about, text, mend), and the exit code, in an empty folder with an empty cache."""
    for table in registry.TABLES:
        table.discover()  # what is found first is kept in the cache
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PANSHARP_DATA", raising=False)
    shipped = {k: e for k, e in registry.DATASETS._entries.items() if e.origin.startswith("pansharp_bench.")}
    monkeypatch.setattr(registry.DATASETS, "_entries", shipped)  # not what other tests have plugged in

    def run(*words):
        done = CliRunner().invoke(main, ["doctor", "--json", *words])
        found = [(f["level"], f["about"], f["text"], f["mend"]) for f in json.loads(done.stdout)]
        return found, done.exit_code

    return run


def troubles(found):
    return {f[1]: f for f in found if f[0] in ("warning", "error")}


def test_a_sound_machine(look, tmp_path):
    found, code = look()
    assert code == 0 and not [f for f in found if f[0] == "error"]
    assert {f[1] for f in found} == {
        "python", "torch", "memory", "packages", "plug-ins", "data", "results", "runs", "cache",
    }  # fmt: skip
    assert any(torch.__version__ in f[2] for f in found)
    assert all(f[3] for f in found if f[0] in ("warning", "error"))
    assert not any((tmp_path / "here").iterdir()) and not (tmp_path / "cache").exists()


def test_people_read_lines(look):
    shown = CliRunner().invoke(main, ["doctor", "--data", "nowhere"])
    assert shown.exit_code == 1
    assert "error    data      nowhere is no folder\n                   -> correct --data" in shown.output


def test_a_file_where_a_folder_should_be(look):
    Path("results").write_text("")
    found, code = look("--results", "results/mine")
    assert code == 1
    assert troubles(found)["results"][0] == "error" and "--results" in troubles(found)["results"][3]


def test_files_that_cannot_be_read(look, tmp_path):
    (tmp_path / "test_qb_multiExm1.h5").write_bytes(b"<html>")
    found, code = look("--data", str(tmp_path))
    assert code == 1 and "qb: reduced cannot be read" in troubles(found)["data"][2]


def test_plugins_that_fail(look, monkeypatch):
    monkeypatch.setitem(registry.broken, "mine = my.package", "Traceback …\nImportError: no net")
    found, code = look()
    level, _, text, mend = troubles(found)["plug-ins"]
    assert (
        (code, level) == (1, "error") and "mine = my.package" in text and text.endswith("ImportError: no net")
    )
    assert "uninstall" in mend and "`bench list`" in mend


def test_packages_that_are_missing(look, monkeypatch):
    wanted = ["torch>=2", "absent-one", 'absent-two>=1 ; extra == "juno"', "numpy; extra == 'sweep'"]
    monkeypatch.setattr(metadata, "requires", lambda name: wanted)
    found, code = look()
    packages = [f for f in found if f[1] == "packages"]
    assert code == 1
    assert [f[0] for f in packages] == ["error", "note", "ok"]
    assert packages[0][2:] == ("missing: absent-one", "pip install absent-one")
    assert "absent-two" in packages[1][2] and "pansharp-bench[juno]" in packages[1][3]


def test_every_extra_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert room.EXTRAS.keys() == project["optional-dependencies"].keys()


def test_locks_that_keep_nobody_out(look, monkeypatch, tmp_path):
    assert room._locks(tmp_path / "lock")

    @contextlib.contextmanager
    def pretended(path, refusal=""):
        yield True

    monkeypatch.setattr(files, "locked", pretended)
    found, code = look()
    assert code == 0
    assert {a for a, f in troubles(found).items() if "locks" in f[2]} == {"results", "runs", "cache"}


def test_a_gpu_that_torch_does_not_see(look, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(room.shutil, "which", lambda name: f"/usr/bin/{name}")
    for built, mend in ((None, "CUDA build"), ("12.8", "CUDA_VISIBLE_DEVICES")):
        monkeypatch.setattr(torch.version, "cuda", built)
        found, code = look()
        assert code == 0 and any(f[:2] == ("warning", "torch") and mend in f[3] for f in found)


def test_a_check_that_fails_is_found_too(look, monkeypatch):
    monkeypatch.setattr(room, "_total_memory", lambda: 1 / 0)
    found, code = look()
    assert code == 1 and "ZeroDivisionError" in troubles(found)["memory"][2]
    assert {"results", "plug-ins"} <= {f[1] for f in found}
