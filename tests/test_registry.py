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


def test_a_plugin_that_fails_is_listed_and_harms_nothing(broken):
    registry.load_plugin(PLUGINS / "broken.py")
    (origin,) = broken
    assert origin.endswith("broken.py")
    assert "broken on purpose" in broken[origin]
    assert "exp" in registry.METHODS


def test_a_plugin_that_exits_is_only_broken(broken, tmp_path):
    path = tmp_path / "exits.py"
    path.write_text("import sys\nsys.exit(3)\n")
    registry.load_plugin(path)
    assert "SystemExit: 3" in broken[str(path)]


def test_a_plugin_cannot_take_a_shipped_name(broken, tmp_path):
    path = tmp_path / "hijack.py"
    path.write_text(
        "import pansharp_bench as pb\n@pb.register_method('exp')\ndef exp(lms, *, sensor): return lms * 0\n"
    )
    before = registry.METHODS.get("exp").obj
    registry.load_plugin(path)
    assert "already registered" in broken[str(path)]
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


def test_unknown_name_points_at_broken_plugins(broken, fresh):
    registry.load_plugin(PLUGINS / "broken.py")
    with pytest.raises(UnknownName, match=r"failed to import: .*broken\.py"):
        fresh.get("mine")


def test_entry_points_are_loaded_and_isolated(broken, monkeypatch, tmp_path):
    (tmp_path / "third_party_good.py").write_text("loaded = True\n")
    (tmp_path / "third_party_bad.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        importlib.metadata.EntryPoint(name, f"third_party_{name}", "pansharp_bench.methods")
        for name in ("bad", "good")
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    found = Registry("method", MethodCard, (), "pansharp_bench.methods")
    found.discover()
    import sys

    assert sys.modules["third_party_good"].loaded
    assert list(broken) == ["bad = third_party_bad"]


def test_everything_shipped_imports():
    for table in (registry.METHODS, registry.METRICS, registry.DATASETS, registry.SENSORS, registry.TRACKS):
        table.discover()
    shipped = {k: v for k, v in registry.broken.items() if k.startswith("pansharp_bench.")}
    assert not shipped
