"""Code and sensors from outside: a run whose plug-in changed is another run, and says so."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from h5files import write_set
from records import make

from pansharp_bench import record as records
from pansharp_bench.experiment import run
from pansharp_bench.plan import RunSpec, essential, plan
from pansharp_bench.registry import DATASETS, METHODS, METRICS, SENSORS, TRACKS, load_plugin
from pansharp_bench.scene import as_sensor
from pansharp_bench.source import source_of

load_plugin(Path(__file__).parent / "plugins" / "tiny.py")

METHOD = """
import pansharp_bench as pb
{imports}
@pb.register_method("mine")
def mine(lms, *, sensor):
    return lms * {gain}
"""


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """Registries that forget, and a folder on the path whose modules are forgotten too."""
    for table in (METHODS, METRICS, DATASETS, SENSORS, TRACKS):
        table.discover()
        monkeypatch.setattr(table, "_entries", dict(table._entries))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def plug_in(folder: Path, gain: float = 0.5, imports: str = "", name: str = "mine.py") -> Path:
    """The plug-in as a new process meets it."""
    path = folder / name
    path.write_text(METHOD.format(gain=gain, imports=imports))
    METHODS._entries.pop("mine", None)
    for module in [m for m in sys.modules if "plugin" in m and m.endswith("mine_py")]:
        del sys.modules[module]
    load_plugin(path)
    return path


def source(name: str = "mine") -> dict[str, str]:
    importlib.invalidate_caches()
    return source_of(METHODS.get(name))


def test_what_is_shipped_is_not_foreign():
    for table in (METHODS, METRICS, DATASETS, SENSORS, TRACKS):
        shipped = [e for e in table if e.origin.partition(".")[0] == "pansharp_bench"]
        assert shipped and [e.name for e in shipped if source_of(e)] == []


def test_a_file_is_known_by_what_it_says(registered, tmp_path):
    first = (plug_in(tmp_path), source())[1]
    assert list(first) == ["mine.py"] and len(first["mine.py"]) == 64
    assert (plug_in(tmp_path, 0.6), source())[1] != first
    (tmp_path / "elsewhere").mkdir()
    assert (plug_in(tmp_path / "elsewhere"), source())[1] == first  # not by where it lies


@pytest.mark.parametrize(
    "imports",
    ["import helper_of_mine", "from helper_of_mine import *", "def later():\n    import helper_of_mine"],
)
def test_what_it_imports_from_beside_it_belongs_to_it(registered, tmp_path, imports):
    helper = tmp_path / "helper_of_mine.py"
    helper.write_text("import helper_of_helper\nx = 1\n")
    (tmp_path / "helper_of_helper.py").write_text("y = 1\n")
    plug_in(tmp_path, imports=imports)
    first = source()
    assert set(first) == {"mine.py", "helper_of_mine", "helper_of_helper"}
    (tmp_path / "helper_of_helper.py").write_text("y = 2\n")
    changed = {k for k, v in source().items() if v != first[k]}
    assert changed == {"helper_of_helper"}


def package(folder: Path, name: str, version: str = "", text: str = "x = 1\n") -> None:
    for file in ("__init__.py", "core/deep.py"):
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if version:
        told = folder / f"{name}-{version}.dist-info" / "METADATA"
        told.parent.mkdir()
        told.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_a_package_is_known_by_its_files_and_an_installed_one_by_its_version_too(
    registered, tmp_path, monkeypatch
):
    installed = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(installed)
    package(tmp_path, "local_lab")
    package(installed, "bought_lab", "1.2")
    plug_in(tmp_path, imports="import local_lab, numpy, torch\nfrom bought_lab.core import deep")
    first = source()
    assert set(first) == {"mine.py", "local_lab", "bought_lab 1.2"}
    (tmp_path / "local_lab" / "core" / "deep.py").write_text("x = 2\n")
    assert {k for k, v in source().items() if v != first[k]} == {"local_lab"}


def test_an_installed_package_that_registers_is_known_by_its_files(registered, tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(installed)
    package(installed, "bought_lab", "1.2", METHOD.format(gain=0.5, imports=""))
    importlib.invalidate_caches()
    importlib.import_module("bought_lab")
    first = source()
    assert list(first) == ["bought_lab 1.2"]
    (installed / "bought_lab" / "core" / "deep.py").write_text("x = 2\n")  # a version that was tampered with
    assert source() != first


@pytest.mark.parametrize("name", ["a_lab", "z_lab"])  # met before the plug-in that imports it, and after
def test_a_packages_own_method_registered_by_a_file_is_known_by_both(registered, tmp_path, monkeypatch, name):
    installed = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(installed)
    package(installed, name, "1.2", "def method(lms, *, sensor):\n    return lms\n")
    path = tmp_path / "registers.py"
    path.write_text(f"import {name}, pansharp_bench as pb\npb.register_method('mine')({name}.method)\n")
    importlib.invalidate_caches()
    load_plugin(path)
    found = source()
    assert set(found) == {"registers.py", f"{name} 1.2"} and all(len(v) == 64 for v in found.values())


def test_what_registers_counts_even_where_it_made_nothing(registered, tmp_path):
    """A shipped function under another name and card is still the plug-in's doing."""
    path = tmp_path / "again.py"
    path.write_text(
        "import functools, pansharp_bench as pb\n"
        "pb.register_method('gsa-again')(functools.partial(pb.get_method('gsa')))\n"
    )
    load_plugin(path)
    assert list(source("gsa-again")) == ["again.py"]


def test_methods_metrics_datasets_and_sensors_enter_the_identity(registered, tmp_path):
    plain = plan(RunSpec("exp", "tiny")).identity
    assert list(plain["source"]) == ["dataset"] and "sensor" not in plain
    path = tmp_path / "metric.py"
    path.write_text(
        "import pansharp_bench as pb\n"
        "@pb.register_metric('mean-dn', protocol='reduced', columns=('MEAN',))\n"
        "def mean(fused): return fused.double().mean((1, 2, 3))\n"
    )
    load_plugin(path)
    scored = plan(RunSpec("exp", "tiny"))
    assert scored.identity["source"].keys() == {"dataset", "metric mean-dn"}
    plug_in(tmp_path)
    assert plan(RunSpec("mine", "tiny")).identity["source"].keys() == {"method", "dataset", "metric mean-dn"}


def test_everything_of_a_sensor_that_enters_a_score_enters_the_identity(registered, monkeypatch):
    qb = as_sensor("qb")
    tiny = DATASETS.get("tiny").obj

    def identity(sensor):
        def load(root=None, label=None):
            dataset = tiny(root, label)
            dataset.sensor = sensor
            return dataset

        DATASETS._entries["tiny"] = replace(DATASETS._entries["tiny"], obj=load)
        return plan(RunSpec("exp", "tiny"))

    own = identity(qb)
    assert "sensor" not in own.identity and own.described["sensor_facts"]["mtf"] == qb.mtf
    others = [
        replace(qb, mtf=(0.3, 0.3, 0.3, 0.3)),
        replace(qb, mtf_pan=0.2),
        replace(qb, peak=4095),
        replace(qb, name="qb-again"),
        replace(qb, bands=("a", "b", "c", "d")),
    ]
    hashes = {identity(s).sha256 for s in others}
    assert len({own.sha256, *hashes}) == 6
    renamed = replace(others[0], title="Another title", rgb=(0, 0, 0))
    assert identity(renamed).sha256 == identity(others[0]).sha256


def test_records_without_anything_foreign_keep_their_hash(tmp_path):
    """Those that are committed are still found by ``bench table``: nothing was added to what their hash is of."""
    root = Path(__file__).resolve().parents[1] / "results"
    write_set(tmp_path, test_size=128)
    known = {
        "track",
        "dataset",
        "method",
        "preset",
        "options",
        "changed",
        "seed",
        "data",
        "weights",
        "precision",
    }
    assert set(plan(RunSpec("gsa", "qb", data=tmp_path, label="mini")).identity) == known
    found = [(path, r) for path, r in records.read_all(root)]
    assert len(found) > 100
    for path, made in found:
        assert set(made.spec) == known and made.path(root) == path, path
        assert records.spec_hash(essential(json.loads(path.read_text())["spec"])) == made.spec_sha256, path


def test_changed_code_is_another_run_and_says_so(registered, tmp_path):
    def go():
        return run(
            RunSpec("mine", "tiny"), tmp_path / "results", tmp_path / "runs", pictures=0, progress=False
        )

    plug_in(tmp_path, 0.5)
    first = go()
    plug_in(tmp_path, 1.0)
    with pytest.warns(UserWarning, match=rf"not the run of {first.path}: other code of method"):
        second = go()
    assert second.path != first.path and first.path.exists()
    assert second.record.protocols["reduced"]["mean"] != first.record.protocols["reduced"]["mean"]
    assert second.record.spec["source"]["method"] != first.record.spec["source"]["method"]


def test_what_was_typed_into_a_notebook_is_known_by_its_text(registered):
    def typed(lms, *, sensor):
        return lms

    typed.__module__ = "a_notebook"
    METHODS.register("mine")(typed)
    assert len(source()["a_notebook"]) == 64


def test_a_plug_in_that_learnt_an_option_too_says_that_its_code_changed(tmp_path):
    """What tells runs apart is asked of the caller: here that an option at 0 says nothing."""
    before = {"method": "mine", "options": {"a": 1}, "source": {"method": "old"}}
    now = {"method": "mine", "options": {"a": 1, "b": 0}, "source": {"method": "new"}}

    def essential(spec):
        return {**spec, "options": {k: v for k, v in spec["options"].items() if v}}

    old = make()
    old = replace(old, spec=old.spec | before, spec_sha256=records.spec_hash(before))
    path = records.write(old, tmp_path)
    beside = path.with_name("another.json")
    found = records.foreign_changes(beside, old.spec | now, essential)
    assert found is not None and found[0] == path and found[1] == ["method"]
    assert records.foreign_changes(beside, old.spec | now, dict) is None
