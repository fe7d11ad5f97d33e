"""One typed registry for everything that plugs in: methods, metrics, datasets, sensors, tracks.

Registering is one decorator; discovery imports the plug-in folders, installed entry points and ``--plugin``
files on first use. A plug-in that fails to import is kept in ``broken`` with its error and harms nothing else.

While no file has changed, what the project's own folders hold is told by the cards of the last time
(:mod:`~pansharp_bench.catalogue`), and a module is imported when its object is asked for.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Literal, TypeVar, get_args, get_type_hints

from pansharp_bench import catalogue
from pansharp_bench.errors import BenchError, UnknownName, blaming, interruption

Sees = Literal["pan", "pan+latitude", "pan+bag", "pan+ms", "reference"]
Training = Literal["none", "unpaired", "paired"]
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
C = TypeVar("C", bound="Card")
F = TypeVar("F", bound=Callable[..., Any])


def _about(default: Any, help: str) -> Any:
    """A field of a card, with what ``help(pb.register_method)`` and its like say of it."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Card:
    """What stands beside a registered thing: how it is called, where it comes from. Each field says its meaning."""

    name: str = field(metadata={"help": "how commands call it: lower-case letters, digits, - _ and ."})
    title: str = _about("", "what tables and pictures call it; the name, if it is not given")
    summary: str = _about("", "a line for listings; the first of the docstring, if it is not given")
    tracks: tuple[str, ...] = _about(("pansharpening",), "the tracks it is made for (`bench list tracks`)")

    def __post_init__(self) -> None:
        for f in fields(self):
            if isinstance(f.default, tuple):  # one word, or a list, is meant as one of these
                value = getattr(self, f.name)
                object.__setattr__(self, f.name, (value,) if isinstance(value, str) else tuple(value))
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r} is not made of lower-case letters, digits, - _ and .")

    @property
    def label(self) -> str:
        """What tables and pictures call it."""
        return self.title or self.name

    def has(self, **where: Any) -> bool:
        """Whether its fields have these values or, where a field has several, have them among these."""
        return all(_has(getattr(self, k), v) for k, v in where.items())


@dataclass(frozen=True)
class MethodCard(Card):
    """A method's card: what it is, what it sees and learns from, where it comes from."""

    kind: str = _about(
        "classical",
        "its family: classical, deep, unpaired, baseline, oracle; untouched is the source itself, which is shown, "
        "never ranked, as nothing resembles it more",
    )
    sees: Sees = _about(
        "pan+ms",
        "what it gets at inference: pan (PAN, or a calibration's source, only), pan+latitude (that, and the "
        "latitude of its centre), pan+bag (PAN and the scene's MS pixels without their positions), pan+ms (PAN and "
        "registered MS), reference (an oracle that looks at the answer; not ranked)",
    )
    training: Training = _about("none", "what it learns from: none, unpaired or paired samples")
    paper: str = _about("", "authors, title and where it appeared")
    doi: str = _about("", "of the paper, without https://doi.org/")
    year: int | None = _about(None, "of the paper")
    licence: str = _about("", "of the code")
    published: str = _about("", "its name in published.csv, where that differs from the title")
    smallest: int = _about(1, "the least side, in PAN pixels, of images that it can learn from and fuse")
    floor: bool = _about(
        False, "it takes nothing from PAN; trained rows that do no better against a reference are marked"
    )
    halo: int | None = _about(
        None,
        "how many MS pixels around a part of a scene, expanded, can change it by more than rounding at ratio 4 or "
        "above (twice as many at ratio 2), beside what is asked of imaging.statistics; None where every pixel can",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("sees", get_args(Sees)), ("training", get_args(Training))):
            if (value := getattr(self, name)) not in known:
                raise ValueError(
                    f"method {self.name!r}: {name}={value!r} is unknown; known are: {', '.join(known)}"
                )


@dataclass(frozen=True)
class Blockwise:
    """An index of non-overlapping blocks, so that a scene of any size can be gone through window by window.

    ``parts`` is given float64 images by name: ``fused`` (N, C, H, W), ``pan``, ``lms`` (MS expanded) and ``low``
    (PAN reduced and expanded), the ``sensor``, and ``core``: the rows and columns that count, once what needs their
    surroundings is filtered. It gives the quantities (N, h, w, K) of every block. ``combine`` makes the index's
    columns, (N,) each, and perhaps more after them, of their means (N, K) over all blocks.
    """

    parts: Callable[..., Any]
    combine: Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class MetricCard(Card):
    """A metric's card: where it is computed, and how tables show it."""

    protocol: str | tuple[str, ...] = _about(
        "reduced", "reduced (against a reference), full (without one), a track's own, or several of these"
    )
    columns: tuple[str, ...] = _about((), "the quantities it yields, in the order of the returned tuple")
    better: tuple[Literal["high", "low"], ...] = _about(
        ("high",), "whether high or low is good, for all columns or one for each"
    )
    unit: str = _about("", "of its values")
    order: int = _about(100, "its place in tables; ERGAS has 10")
    default: bool = _about(True, "whether it is part of the protocol's table")
    scope: Literal["image", "set"] = _about(
        "image",
        "image: a function that scores each image. set: a class, made with the sensor, that takes "
        "add(role, images), role one of output, source, truth where there is a reference, and target where the "
        "protocol has a set to compare with, or add(role, images, groups, blocks), "
        "(N,) each, the samples' groups and blocks (what is not independent), if it has these arguments, and gives "
        "scores(), a tuple in the order of the columns, and curves(), a JSON-able dict; also, where it has these "
        "methods, floors(), column -> the score that the target itself would have if its groups were mixed as the "
        "source's are, and resampled(curves, blocks, weights), column -> the scores (R,) had each of the blocks "
        "been there as often as weights (R, blocks) tell, from what curves() gave",
    )
    digits: int = _about(4, "decimals in tables")
    smallest: int = _about(1, "the least side, in pixels, of images that it is defined for")
    blockwise: Blockwise | None = _about(None, "how it is computed window by window")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.protocol, str):
            object.__setattr__(self, "protocol", tuple(self.protocol))
        if self.scope == "image" and not self.columns:  # one of a set may give curves alone
            raise ValueError(
                f"metric {self.name!r} names no columns: columns=(...), what tables call its values"
            )
        if len(self.better) not in (1, len(self.columns)):
            raise ValueError(
                f"metric {self.name!r}: better has {len(self.better)} entries for {len(self.columns)} columns: "
                "one, or one for each"
            )
        for name, known in (("better", ("high", "low")), ("scope", ("image", "set"))):
            values = getattr(self, name)
            for value in values if isinstance(values, tuple) else (values,):
                if value not in known:
                    raise ValueError(
                        f"metric {self.name!r}: {name}={value!r} is unknown; known are: {', '.join(known)}"
                    )

    @property
    def protocols(self) -> tuple[str, ...]:
        """``protocol``, of which there may be several."""
        return (self.protocol,) if isinstance(self.protocol, str) else self.protocol

    @property
    def directions(self) -> dict[str, str]:
        """Column -> whether high or low is good."""
        return {c: self.better[min(i, len(self.better) - 1)] for i, c in enumerate(self.columns)}


@dataclass(frozen=True)
class DatasetCard(Card):
    """A dataset's card: its sensor, and whose place a simulated one may take."""

    sensor: str = _about("", "registered name (`bench list sensors`)")
    stand_in: str = _about("", "the simulated dataset that is used where no data root is configured")
    published: str = _about("", "its name in published.csv")
    simulated: bool = _about(False, "whether its scenes were never on Earth")
    where: str = _about("", "where it is to be had")


@dataclass(frozen=True)
class SensorCard(Card):
    """A sensor's card. ``source``: where its figures come from, and which of them are defaults."""

    source: str = ""


@dataclass(frozen=True)
class TrackCard(Card):
    """A track's card: its protocols, in the order its tables show them."""

    protocols: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry(Generic[C]):
    """A registered thing beside its card. ``obj`` may come later: asking for it imports the module it is from.
    Raises BenchError where that fails."""

    card: C
    obj: Any
    origin: str  # module that registered it

    @classmethod
    def later(cls, card: C, origin: str, facts: Mapping[str, Any]) -> Entry[C]:
        """The entry of a module that is not imported yet, which said this of it."""
        entry = object.__new__(cls)
        vars(entry).update(card=card, origin=origin, _kept=facts)
        return entry

    @property
    def late(self) -> bool:
        """Whether its object is still to come."""
        return "obj" not in vars(self)

    def __getattr__(self, name: str) -> Any:
        if name != "obj":
            raise AttributeError(name)
        with blaming(f"{self.origin}, which {self.card.name!r} is from, failed", (Exception, SystemExit)):
            try:
                importlib.import_module(self.origin)  # registers it, which fills this entry: Registry.add
            except BaseException:
                catalogue.forget(_package_of(self.origin))
                raise
        if self.late:
            catalogue.forget(_package_of(self.origin))
            raise BenchError(f"{self.origin} does not register {self.card.name!r} any more; try again")
        return vars(self)["obj"]

    @property
    def facts(self) -> Mapping[str, Any]:
        """What can be told of the object without it, as JSON has it: ``module`` and ``doc``; of a function its
        ``settings``; of a dataset its ``commands``, and what is ``timed``; and what its own ``told()`` gives."""
        return vars(self)["_kept"] if self.late else _facts(self.obj)

    @property
    def name(self) -> str:
        """As on its card."""
        return self.card.name


@dataclass
class Registry(Generic[C]):
    """Named entries of one kind. ``packages`` are imported on first use; ``entry_points`` is a group name."""

    kind: str
    card_type: type[C]
    packages: tuple[str, ...] = ()
    entry_points: str = ""
    _entries: dict[str, Entry[C]] = field(default_factory=dict)
    _discovered: bool = False

    def register(self, name: str, **card: Any) -> Callable[[F], F]:
        """Decorator. Refuses a name that is taken, naming who took it. A missing summary is the docstring's
        first line. Raises TypeError where it is used without a name, as ``@register_method`` alone."""
        if not isinstance(name, str):
            raise TypeError(
                f'a {self.kind} is registered under a name: @register_{self.kind}("my-{self.kind}")'
            )

        def decorate(obj: F) -> F:
            self.add(obj, name=name, **card)
            return obj

        return decorate

    def add(self, obj: Any, **card: Any) -> None:
        """Register a thing without a decorator; refuses as :meth:`register` does."""
        origin = _caller()
        if strange := self._strange_field(card):
            raise TypeError(strange)
        made = self.card_type(**card)
        taken = self._entries.get(made.name)
        if taken and not (taken.late and taken.origin == origin):
            raise ValueError(
                f"{self.kind} {made.name!r} from {known_as(origin)} is already registered by "
                f"{known_as(taken.origin)}; give one of them another name"
            )
        if not made.summary and (doc := getattr(obj, "__doc__", None)):
            made = self.card_type(**{**card, "summary": doc.strip().splitlines()[0]})
        if taken:  # whoever holds the entry now has its object
            vars(taken).update(card=made, obj=obj)
        else:
            self._entries[made.name] = Entry(made, obj, origin)

    def get(self, name: str) -> Entry[C]:
        """The entry of that name; raises UnknownName with the nearest names."""
        self.discover()
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(self._unknown(name)) from None

    def entries(self, pattern: str = "*", **where: Any) -> list[Entry[C]]:
        """Entries whose name matches the pattern and whose card has these values (or, where it has several,
        has them among these), sorted by name. Raises UnknownName for a field that no card has."""
        if strange := self._strange_field(where):
            raise UnknownName(strange)
        self.discover()
        found = (e for n, e in sorted(self._entries.items()) if fnmatch.fnmatch(n, pattern))
        return [e for e in found if e.card.has(**where)]

    def names(self, pattern: str = "*", **where: Any) -> list[str]:
        """Names of :meth:`entries`."""
        return [e.name for e in self.entries(pattern, **where)]

    def __iter__(self) -> Iterator[Entry[C]]:
        return iter(self.entries())

    def __contains__(self, name: str) -> bool:
        self.discover()
        return name in self._entries

    def discover(self) -> None:
        """Find every plug-in of this kind, once; those that fail to import go to ``broken``."""
        if self._discovered:
            return
        self._discovered = True
        for package in self.packages:
            _discover(package)
        if self.entry_points:
            for point in importlib.metadata.entry_points(group=self.entry_points):
                _guarded(f"{point.name} = {point.value}", point.load)

    def _strange_field(self, given: Iterable[str]) -> str:
        """Says so where one of these is no field of the cards of this kind; else empty."""
        known = [f.name for f in fields(self.card_type)]
        strange = next((name for name in given if name not in known), None)
        return _unknown(f"field of a {self.kind}'s card", strange, known) if strange else ""

    def _unknown(self, name: Any) -> str:
        text = _unknown(self.kind, name, sorted(self._entries))
        if self.entry_points:
            text += f"; --plugin FILE adds {self.kind}s of your own"
        if broken:
            text += f" (plug-ins that failed to import: {', '.join(sorted(broken))}; see `bench list`)"
        return text


def _unknown(what: str, name: Any, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name).lower(), known, n=3, cutoff=0.5)
    told = f"did you mean {' or '.join(near)}?" if near else f"known are: {', '.join(known) or 'none'}"
    return f"unknown {what} {name!r}; {told}"


def _caller() -> str:
    """The module outside this one whose code is at work."""
    frame: FrameType | None = sys._getframe()
    while frame and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return frame.f_globals.get("__name__", "") if frame else ""


def _has(value: Any, wanted: Any) -> bool:
    return value == wanted or (isinstance(value, tuple) and wanted in value)


broken: dict[str, str] = {}
"""Plug-ins that failed to import: where from -> its traceback."""


def _guarded(origin: str, load: Callable[[], Any]) -> None:
    try:
        with redirect_stdout(sys.stderr):  # what a command prints may be JSON for a program
            load()
    except BaseException as error:  # a plug-in may even call sys.exit; nothing it does may stop the others
        if stop := interruption(error):
            raise stop from None
        broken[origin] = traceback.format_exc(limit=-4)


def _facts(obj: Any) -> dict[str, Any]:
    found = {
        "module": getattr(obj, "__module__", None) or type(obj).__module__,
        "doc": (inspect.getdoc(obj) or "") if callable(obj) else "",
    }
    if inspect.isfunction(obj):
        given = [p for p in inspect.signature(obj).parameters.values() if p.default not in (p.empty, None)]
        found["settings"] = {p.name: _plain(p.default) for p in given}
    found |= {what: dict(getattr(obj, what)) for what in ("commands", "timed") if getattr(obj, what, None)}
    return found | (obj.told() if hasattr(obj, "told") else {})


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, tuple)) else str(value)


def _discover(package: str) -> None:
    """The plug-ins of one of the project's folders: by what is kept of them, else by importing them."""
    spec = importlib.util.find_spec(package)
    try:
        key = catalogue.fingerprint((spec and spec.submodule_search_locations) or ())
    except OSError:  # a file vanished meanwhile
        key = ""
    kept = _revived(catalogue.read(package, key)) if key else None
    for table, entry in kept or ():
        known = table._entries.get(entry.name)
        if known is None and entry.origin not in sys.modules:
            table._entries[entry.name] = entry
        elif known is not None and known.origin != entry.origin:  # says who took the name
            _guarded(entry.origin, partial(importlib.import_module, entry.origin))
    if kept is not None:
        return
    _import_tree(package)
    found = [(t, e) for t in TABLES for e in t._entries.values() if _package_of(e.origin) == package]
    # what a helper registers for others does not come with the helper alone
    private = any("._" in e.origin for _, e in found)
    if key and not private and not any(_package_of(origin) == package for origin in broken):
        catalogue.keep(package, key, [_kept(table, entry) for table, entry in found])


def _kept(table: Registry[Any], entry: Entry[Any]) -> dict[str, Any]:
    """An entry as JSON has it; of a card's code it says that it is there."""
    card = {f.name: getattr(entry.card, f.name) for f in fields(entry.card)}
    told = {k: bool(v) if isinstance(v, Blockwise) else v for k, v in card.items()}
    return {"kind": table.kind, "card": told, "origin": entry.origin, "facts": entry.facts}


def _revived(kept: Any) -> list[tuple[Registry[Any], Entry[Any]]] | None:
    """The entries of what was kept; None where there is nothing, or nothing that makes cards."""
    tables = {table.kind: table for table in TABLES}
    found = []
    try:
        for it in kept:
            table = tables[it["kind"]]
            entry = Entry.later(table.card_type(**it["card"]), it["origin"], it["facts"])
            if it["card"].get("blockwise"):
                vars(entry)["card"] = replace(entry.card, blockwise=_blockwise_later(entry))
            found.append((table, entry))
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    return found


def _blockwise_later(entry: Entry[Any]) -> Blockwise:
    def part(name: str) -> Callable[..., Any]:
        def called(*args: Any, **given: Any) -> Any:
            _ = entry.obj  # its module brings the card with the code
            return getattr(entry.card.blockwise, name)(*args, **given)

        return called

    return Blockwise(*(part(f.name) for f in fields(Blockwise)))


def _package_of(module: str) -> str:
    """The folder of plug-ins that a module of the project lies in."""
    return ".".join(module.split(".")[:2])


def _import_tree(package: str) -> None:
    """Import every module of a package and of its subpackages; a name starting with _ is a private helper."""
    root = importlib.import_module(package)
    for info in pkgutil.iter_modules(root.__path__, package + "."):
        if not info.name.rpartition(".")[2].startswith("_"):
            _guarded(info.name, partial(importlib.import_module, info.name))


_PLUGIN = "pansharp_bench_plugin_"
_loaded: dict[str, str] = {}  # SHA-256 of plug-in files, by module


def known_as(module: str) -> str:
    """A module as a user knows it: a plug-in by its file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file if file and module.startswith(_PLUGIN) else module


def _module_of(path: Path) -> str:
    whole = str(path.resolve())
    own = hashlib.sha256(whole.encode()).hexdigest()[:8]  # my-net.py is another plug-in than my_net.py
    return f"{_PLUGIN}{own}_" + "".join(c if c.isalnum() else "_" for c in whole)


def registered_by(path: str | Path) -> list[tuple[str, Entry[Any]]]:
    """What a plug-in file that was loaded has registered: kind (``method``, ``metric``, ...) and entry."""
    module = _module_of(Path(path))
    return [(table.kind, entry) for table in TABLES for entry in table if entry.origin == module]


def loaded_plugins() -> list[Path]:
    """The plug-in files that were loaded, in order: for another process to load them too."""
    return [
        Path(module.__file__)
        for name, module in sys.modules.items()
        if name.startswith(_PLUGIN) and module.__file__
    ]


def is_stale(path: str | Path) -> bool:
    """Whether this process has loaded another version of a plug-in file than lies there now."""
    path = Path(path)
    return _loaded.get(_module_of(path), digest := _digest(path)) != digest


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_plugin(path: str | Path) -> None:
    """Import a plug-in file given by the user; what it registers becomes available. It comes after everything
    shipped, so that it cannot take a name. Raises BenchError when the file does not exist or fails: it was asked
    for by name, so nothing goes on without it, and nothing that it registered before it failed stays. Likewise
    where it has changed since it was loaded: a record would tell of code that did not run."""
    path = Path(path)
    if not path.is_file():
        raise BenchError(f"plug-in file {path} does not exist")
    for table in TABLES:
        table.discover()
    name = _module_of(path)
    if name in sys.modules:
        if is_stale(path):
            raise BenchError(f"plug-in file {path} has changed since this process loaded it: start it anew")
        return

    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BenchError(f"plug-in file {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    before = [dict(table._entries) for table in TABLES]
    sys.modules[name] = module
    try:
        with blaming(f"plug-in {path} failed", (Exception, SystemExit)), redirect_stdout(sys.stderr):
            _loaded[name] = _digest(path)
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        _loaded.pop(name, None)
        for table, entries in zip(TABLES, before, strict=True):
            table._entries = entries
        if isinstance(error, BenchError) and str(path) not in str(error):
            raise BenchError(f"plug-in {path} failed: {error}") from error
        raise
    if [table._entries.keys() for table in TABLES] == [entries.keys() for entries in before]:
        warnings.warn(
            f"plug-in {path} registers nothing: is its decorator there, @pb.register_method(...) or the like?",
            stacklevel=2,
        )
    for entry in METRICS:
        if entry.origin == name and (strange := strange_protocol(entry.card)):
            warnings.warn(f"plug-in {path}: no run computes metric {entry.name!r}: {strange}", stacklevel=2)


def strange_protocol(card: MetricCard) -> str:
    """Says so where a metric is of a protocol that no track has; else empty."""
    known = sorted({p.metrics for track in TRACKS for p in track.obj.protocols})
    strange = next((p for p in card.protocols if p not in known), None)
    return "" if strange is None else _unknown("protocol", strange, known)


_PACKAGE = "pansharp_bench"
METHODS = Registry("method", MethodCard, (f"{_PACKAGE}.methods",), f"{_PACKAGE}.methods")
METRICS = Registry("metric", MetricCard, (f"{_PACKAGE}.metrics",), f"{_PACKAGE}.metrics")
DATASETS = Registry("dataset", DatasetCard, (f"{_PACKAGE}.datasets",), f"{_PACKAGE}.datasets")
SENSORS = Registry("sensor", SensorCard, (f"{_PACKAGE}.datasets",), f"{_PACKAGE}.sensors")
TRACKS = Registry("track", TrackCard, (f"{_PACKAGE}.protocols",), "")

TABLES: tuple[Registry[Any], ...] = (METHODS, METRICS, DATASETS, SENSORS, TRACKS)


def _decorator(table: Registry[Any], what: str) -> Callable[..., Callable[[F], F]]:
    """:meth:`Registry.register` of a table, with the fields of its card as arguments, types and meaning, for
    ``help()`` and for editors that ask a running Python."""

    def register(name: str, **card: Any) -> Callable[[F], F]:
        return table.register(name, **card)

    head, card_type = inspect.Parameter("name", inspect.Parameter.POSITIONAL_OR_KEYWORD), table.card_type
    hints = get_type_hints(card_type)
    rest = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(card_type)
        if f.name != "name"
    ]
    meanings = {f.name: f.metadata.get("help", "") for f in fields(card_type)}
    register.__signature__ = inspect.Signature([head.replace(annotation=str), *rest])  # type: ignore[attr-defined]
    register.__name__ = register.__qualname__ = f"register_{table.kind}"
    arguments = "\n".join(f"    {name}: {meaning}" for name, meaning in meanings.items())
    register.__doc__ = f"""Register a {table.kind}: a decorator for {what}.

Refuses a name that is taken, naming who took it. docs/extending.md has whole examples, and `bench new
{table.kind} FILE` writes one.

Args:
{arguments}
"""
    return register


register_method = _decorator(METHODS, "a function (pan, ms, *, sensor) -> fused, or a TrainedMethod class")
register_metric = _decorator(METRICS, "a function that scores images, or a class that scores sets")
register_dataset = _decorator(DATASETS, "a Dataset class")


def register_sensor(sensor: Any, source: str = "") -> None:
    """Register a :class:`~pansharp_bench.scene.Sensor`, so that its name stands for it; ``source`` tells where its
    figures come from.

    Raises ValueError for a name that is taken.
    """
    bands = f"{sensor.channels} bands"
    SENSORS.add(sensor, name=sensor.name, title=sensor.title, summary=bands, source=source)
