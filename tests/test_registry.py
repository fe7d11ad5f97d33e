"""Registering, finding, refusing, and surviving plug-ins that fail."""

import importlib.metadata
import sys
from pathlib import Path

import pytest
from apart import apart

from pansharp_bench import registry
from pansharp_bench.errors import BenchError, UnknownName
from pansharp_bench.registry import MethodCard, MetricCard, Registry

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
    with pytest.raises(UnknownName, match="unknown field of a method's card 'knid'; did you mean kind"):
        fresh.names(knid="deep")


def test_an_unknown_card_field_is_refused(fresh):
    with pytest.raises(TypeError, match="field of a method's card 'kinds'; did you mean kind"):
        fresh.register("a", kinds="deep")(lambda: None)


def test_a_decorator_without_its_name_is_refused(fresh):
    with pytest.raises(TypeError, match="registered under a name"):
        fresh.register(lambda: None)


def test_what_is_no_name_is_an_unknown_one(fresh):
    with pytest.raises(UnknownName, match="unknown method 5"):
        fresh.get(5)


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
    with pytest.raises(BenchError, match=r"from /.*hijack\.py is already .*exp; .*\(hijack\.py, line 2\)"):
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


def test_a_summary_out_of_a_docstring_is_a_whole_sentence():
    every = [e for kind in (registry.METHODS, registry.METRICS) for e in kind.entries()]
    taken = [e for e in every if e.origin.startswith("pansharp_bench.")]
    cut = [
        e.name for e in taken if e.card.summary in (e.obj.__doc__ or "") and not e.card.summary.endswith(".")
    ]
    assert len(taken) > 40 and not cut


@pytest.fixture
def shop(monkeypatch, tmp_path, broken):
    """A folder of plug-ins of its own: a function that finds what is in it, as a new process would."""
    for folder in ("shop", "shop/methods"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))

    def shop(**modules: str) -> Registry:
        for name, text in modules.items():
            (tmp_path / "shop" / "methods" / f"{name}.py").write_text(text)
        for name in [n for n in sys.modules if n.partition(".")[0] == "shop"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        registry.broken.clear()
        table = Registry("shop method", MethodCard, ("shop.methods",))
        monkeypatch.setattr(registry, "TABLES", (table,))
        monkeypatch.setattr(registry, "SHOP", table, raising=False)
        table.discover()
        return table

    return shop


MADE = """
from pansharp_bench import registry
@registry.SHOP.register("{name}", title="{title}")
def made(lms, gain=(1, 2)):
    'Made so.'
"""


def imported() -> list[str]:
    return sorted(n for n in sys.modules if n.startswith("shop.methods."))


def test_what_is_kept_imports_nothing_until_it_is_asked_for(shop):
    text = MADE.format(name="a", title="A")
    shop(one=text, two=MADE.format(name="b", title="B"))
    assert imported() == ["shop.methods.one", "shop.methods.two"]
    table = shop()
    entry = table.get("a")
    assert entry.late and not imported()
    assert (entry.card.label, entry.card.summary, entry.origin) == ("A", "Made so.", "shop.methods.one")
    assert entry.facts == {"module": "shop.methods.one", "doc": "Made so.", "settings": {"gain": (1, 2)}}
    kept = entry.facts
    assert entry.obj.__name__ == "made" and imported() == ["shop.methods.one"]
    assert not entry.late and entry.facts == kept and table.get("a") is entry


def test_a_module_that_is_edited_is_seen_at_once(shop):
    shop(one=MADE.format(name="a", title="A"))
    assert shop(one=MADE.format(name="a", title="Z")).get("a").card.title == "Z"
    assert shop().get("a").late
    assert shop(two=MADE.format(name="b", title="B")).names() == ["a", "b"]


def test_names_of_what_is_kept_are_taken(shop):
    shop(one=MADE.format(name="a", title="A"))
    with pytest.raises(ValueError, match=r"already registered by shop\.methods\.one"):
        shop().register("a")(lambda lms: lms)


def test_what_is_broken_is_told_of_every_time(shop):
    for _ in range(2):
        table = shop(one=MADE.format(name="a", title="A"), bad="import a_module_that_is_not_there\n")
        assert table.names() == ["a"] and list(registry.broken) == ["shop.methods.bad"]


def test_a_kept_card_whose_module_fails_is_one_error_and_kept_no_longer(shop, tmp_path):
    import tempfile  # any module that can be told to fail

    shop(one="from tempfile import gettempdir\n" + MADE.format(name="a", title="A"))
    table, whole = shop(), tempfile.gettempdir
    del tempfile.gettempdir
    try:
        with pytest.raises(BenchError, match=r"shop\.methods\.one, which 'a' is from, failed: ImportError"):
            _ = table.get("a").obj
        assert list(shop()) == [] and list(registry.broken) == ["shop.methods.one"]
    finally:
        tempfile.gettempdir = whole


def test_the_line_of_an_error_is_never_one_of_the_libraries(tmp_path):
    cases = {
        "mutable": (
            "import dataclasses\n@dataclasses.dataclass\nclass A:\n    b: list = []\n",
            r"\(mutable\.py, line 2\)",
        ),
        "syntax": ("class A\n", r"expected ':' \(syntax\.py, line 1\)$"),
    }
    for name, (text, said) in cases.items():
        (tmp_path / f"{name}.py").write_text(text)
        with pytest.raises(BenchError, match=said):
            registry.load_plugin(tmp_path / f"{name}.py")


def test_one_word_stands_for_several_on_a_card():
    card = MetricCard("m", protocol=["reduced", "truth"], columns="Sharp", better="low", tracks="bands")
    assert (card.protocols, card.columns, card.tracks) == (("reduced", "truth"), ("Sharp",), ("bands",))
    assert card.directions == {"Sharp": "low"} and card.has(protocol="truth") and not card.has(tracks="band")
    with pytest.raises(ValueError, match="better has 3 entries for 2 columns"):
        MetricCard("m", columns=("A", "B"), better=("low", "high", "low"))


def test_files_of_like_names_are_two_plugins(tmp_path):
    with apart():
        for stem in ("my-net", "my_net"):
            path = tmp_path / f"{stem}.py"
            path.write_text(
                f"import pansharp_bench as pb\npb.register_method('{stem.replace('_', '.')}')(lambda lms: lms)\n"
            )
            registry.load_plugin(path)
            assert [entry.name for _, entry in registry.registered_by(path)] == [stem.replace("_", ".")]


def test_a_metric_of_no_protocol_is_warned_of(tmp_path):
    path = tmp_path / "homeless.py"
    path.write_text(
        "import pansharp_bench as pb\n"
        "@pb.register_metric('homeless', columns=('H',), protocol='reducd')\n"
        "def homeless(fused): return fused.mean((1, 2, 3))\n"
    )
    said = (
        r"homeless\.py: no run computes metric 'homeless': unknown protocol 'reducd'; did you mean reduced\?"
    )
    with apart(), pytest.warns(UserWarning, match=said):
        registry.load_plugin(path)


def test_a_plugin_whose_own_call_fails_is_named(tmp_path):
    path = tmp_path / "careless.py"
    path.write_text("import pansharp_bench as pb\npb.load('no-such-method')\n")
    with (
        apart(),
        pytest.raises(BenchError, match=r"plug-in .*careless\.py failed: unknown method 'no-such-method'"),
    ):
        registry.load_plugin(path)


def test_a_plugin_that_registers_nothing_is_warned_of(tmp_path):
    path = tmp_path / "undecorated.py"
    path.write_text("def mine(lms): return lms\n")
    with (
        apart(),
        pytest.warns(UserWarning, match=r"undecorated\.py registers nothing: is its decorator there"),
    ):
        registry.load_plugin(path)


def test_a_plugin_that_was_changed_since_is_not_taken_for_what_was_loaded(tmp_path):
    """A record would tell the hash of code that did not run."""
    path = tmp_path / "changing.py"
    path.write_text("import pansharp_bench as pb\n")
    with pytest.warns(UserWarning, match="registers nothing"):
        registry.load_plugin(path)
    registry.load_plugin(path)
    path.write_text("import pansharp_bench\n")
    with pytest.raises(BenchError, match=r"changing\.py has changed since this process loaded it"):
        registry.load_plugin(path)
