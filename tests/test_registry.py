"""Registering, finding, refusing, and surviving plug-ins that fail."""

import importlib.metadata
from pathlib import Path

import pytest

from pansharp_bench import registry
from pansharp_bench.errors import BenchError, UnknownName
from pansharp_bench.registry import MethodCard, Registry

PLUGINS = Path(__file__).parent / "plugins"


@pytest.fixture
def fresh() -> Registry:
    return Registry("method", MethodCard)


def test_decorator_keeps_the_object_and_takes_the_summary_from_the_docstring(fresh):
    @fresh.register("a", kind="classical")
    def method(pan, ms, *, sensor):
        """What it does

        and more."""

    entry = fresh.get("a")
    assert entry.obj is method
    assert entry.card.summary == "What it does"
    assert entry.card.kind == "classical"


def test_a_taken_name_is_refused_and_says_by_whom(fresh):
    fresh.register("a")(lambda: None)
    with pytest.raises(ValueError, match=r"'a' .* already registered by .*test_registry"):
        fresh.register("a")(lambda: None)


def test_unknown_name_lists_the_nearest(fresh):
    for name in ("mtf-glp", "mtf-glp-fs", "gsa"):
        fresh.register(name)(lambda: None)
    with pytest.raises(UnknownName, match="did you mean mtf-glp"):
        fresh.get("mtf-gpl")
    with pytest.raises(UnknownName, match="known are: gsa, mtf-glp, mtf-glp-fs"):
        fresh.get("zzzz")


def test_names_filter_by_pattern_and_card(fresh):
    fresh.register("mtf-glp", kind="classical")(lambda: None)
    fresh.register("mtf-net", kind="deep")(lambda: None)
    assert fresh.names("mtf-*") == ["mtf-glp", "mtf-net"]
    assert fresh.names("mtf-*", kind="deep") == ["mtf-net"]
    with pytest.raises(AttributeError):
        fresh.names(colour="red")


def test_an_unknown_card_field_is_refused(fresh):
    with pytest.raises(TypeError, match="colour"):
        fresh.register("a", colour="red")(lambda: None)


@pytest.fixture
def broken(monkeypatch) -> dict:
    monkeypatch.setattr(registry, "broken", {})
    return registry.broken


def test_a_plugin_file_that_fails_is_an_error_that_names_its_line(tmp_path):
    with pytest.raises(
        BenchError, match=r"broken\.py failed: RuntimeError: .*on purpose \(broken\.py, line 3\)"
    ):
        registry.load_plugin(PLUGINS / "broken.py")
    path = tmp_path / "exits.py"
    path.write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(BenchError, match=r"exits\.py failed: SystemExit: 3"):
        registry.load_plugin(path)


def test_a_plugin_file_that_fails_leaves_nothing_registered(tmp_path):
    path = tmp_path / "half.py"
    text = "import pansharp_bench as pb\n@pb.register_method('gone')\ndef gone(lms): return lms\n"
    path.write_text(text + "raise ValueError\n")
    for _ in range(2):  # the second time it fails for the same reason, not for the name
        with pytest.raises(BenchError, match="failed: ValueError"):
            registry.load_plugin(path)
    assert "gone" not in registry.METHODS


@pytest.fixture
def installed(broken, monkeypatch, tmp_path):
    """A registry that finds what these files register through entry points."""

    def installed(**files: str) -> Registry:
        monkeypatch.syspath_prepend(tmp_path)
        for name, text in files.items():
            (tmp_path / f"third_party_{name}.py").write_text(text)
        points = [
            importlib.metadata.EntryPoint(name, f"third_party_{name}", "pansharp_bench.methods")
            for name in files
        ]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
        return Registry("method", MethodCard, (), "pansharp_bench.methods")

    return installed


def test_an_installed_plugin_that_exits_is_only_broken(broken, installed):
    installed(exits="import sys\nsys.exit(3)\n").discover()
    assert "SystemExit: 3" in broken["exits = third_party_exits"]


def test_a_plugin_cannot_take_a_shipped_name(tmp_path):
    path = tmp_path / "hijack.py"
    path.write_text(
        "import pansharp_bench as pb\n@pb.register_method('exp')\ndef exp(lms, *, sensor): return lms * 0\n"
    )
    before = registry.METHODS.get("exp").obj
    with pytest.raises(BenchError, match=r"already registered by .*exp; .*\(hijack\.py, line 2\)"):
        registry.load_plugin(path)
    assert registry.METHODS.get("exp").obj is before


@pytest.mark.parametrize(
    ("card", "message"),
    [({"sees": "pan-only"}, "sees='pan-only'"), ({"training": "some"}, "training='some'")],
)
def test_a_card_that_says_nonsense_is_refused(fresh, card, message):
    with pytest.raises(ValueError, match=message):
        fresh.register("a", **card)(lambda: None)


@pytest.mark.parametrize("name", ["A", "a/b", "", "a b", "-a"])
def test_names_fit_into_paths(fresh, name):
    with pytest.raises(ValueError, match="not made of"):
        fresh.register(name)(lambda: None)


def test_a_missing_plugin_file_is_a_user_mistake():
    with pytest.raises(BenchError, match=r"nowhere\.py does not exist"):
        registry.load_plugin("nowhere.py")


def test_unknown_name_points_at_broken_plugins(installed):
    with pytest.raises(UnknownName, match=r"failed to import: bad = third_party_bad"):
        installed(bad="import a_module_that_is_not_there\n").get("mine")


def test_entry_points_are_loaded_and_isolated(broken, installed):
    installed(bad="import a_module_that_is_not_there\n", good="loaded = True\n").discover()
    import sys

    assert sys.modules["third_party_good"].loaded
    assert list(broken) == ["bad = third_party_bad"]


def test_everything_shipped_imports():
    for table in (registry.METHODS, registry.METRICS, registry.DATASETS, registry.SENSORS, registry.TRACKS):
        table.discover()
    shipped = {k: v for k, v in registry.broken.items() if k.startswith("pansharp_bench.")}
    assert not shipped
