"""``bench list``: everything registered, what failed to import, and the whole card of one thing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import json_option, plugin_option

if TYPE_CHECKING:
    from pansharp_bench.registry import Card, Entry, Registry
    from pansharp_bench.scene import Sensor

KINDS = ("methods", "metrics", "datasets", "sensors", "tracks")
_COLUMNS = {
    "methods": ("kind", "sees", "training", "tracks"),
    "metrics": ("protocol", "unit"),
    "datasets": ("sensor", "stand_in", "tracks"),
    "sensors": (),
    "tracks": ("protocols",),
}


@click.command("list", short_help="What is registered, and what failed to import; the card of one.")
@click.argument("what", default="all", metavar=f"[{'|'.join(KINDS)}|all|NAME]")
@json_option
@plugin_option
def list_command(what: str, as_json: bool) -> None:
    """Methods, metrics, datasets, sensors and tracks, and plug-ins that failed to import.

    With the NAME of any of them its whole card: paper and licence, options and presets, columns, MTF gains.

    \b
    bench list methods
    bench list sp-i2i
    """
    from pansharp_bench import registry

    tables = dict(zip(KINDS, registry.TABLES, strict=True))
    if as_json:
        _print_json(what, tables, registry.broken)
        return
    if what not in (*KINDS, "all"):
        _show_cards(what, tables)
        return
    for kind in KINDS if what == "all" else (what,):
        rows = [
            [e.name, e.card.label, *(_text(getattr(e.card, c) or ()) for c in _COLUMNS[kind]), e.card.summary]
            for e in tables[kind]
        ]
        click.echo(click.style(f"\n{kind}", bold=True))
        _print_table(["name", "title", *(c.replace("_", " ") for c in _COLUMNS[kind]), "summary"], rows)
    if registry.broken:
        click.echo(click.style("\nbroken plug-ins (not usable; the rest is unharmed)", fg="red", bold=True))
        for origin, error in sorted(registry.broken.items()):
            click.echo(f"{origin}\n    " + error.strip().replace("\n", "\n    "))


def _show_cards(name: str, tables: dict[str, Registry[Any]]) -> None:
    """The card of that name in every table that has one: a sensor and its dataset share theirs."""
    for i, (table, entry) in enumerate(_called(name, tables)):
        click.echo("\n" if i else "", nl=False)
        click.echo(f"{click.style(entry.name, bold=True)}  {table.kind} {entry.card.label}")
        click.echo(f"{_prose(entry)}\n")
        for label, value in _facts(entry.card):
            click.echo(f"{label:<12}{value}")
        click.echo(f"{'from':<12}{entry.origin}")
        for headers, rows in _details(entry):
            click.echo()
            _print_table(headers, rows)


def _called(name: str, tables: dict[str, Registry[Any]]) -> list[tuple[Registry[Any], Entry[Any]]]:
    """Everything of that name; raises UnknownName with the nearest names."""
    from difflib import get_close_matches

    from pansharp_bench.errors import UnknownName

    found = [(table, table.get(name)) for table in tables.values() if name in table]
    if not found:
        near = get_close_matches(name, [e.name for table in tables.values() for e in table])
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; lists are: {', '.join(KINDS)}"
        raise UnknownName(f"nothing is registered as {name!r}{hint}")
    return found


def _print_json(what: str, tables: dict[str, Registry[Any]], broken: dict[str, str]) -> None:
    """Cards by kind, with the module each is from; of all, with what failed to import."""
    import json

    found: dict[str, list[Entry[Any]]] = {}
    if what in (*KINDS, "all"):
        found = {kind: list(tables[kind]) for kind in (KINDS if what == "all" else (what,))}
    else:
        for table, entry in _called(what, tables):
            found.setdefault(f"{table.kind}s", []).append(entry)
    told: dict[str, Any] = {k: [_plain(e) for e in v] for k, v in found.items()}
    click.echo(json.dumps(told | ({"broken": broken} if what == "all" else {}), indent=1, ensure_ascii=False))


def _plain(entry: Entry[Any]) -> dict[str, Any]:
    """A card as JSON can hold it: of what is code it says that it is there."""
    values = {f.name: getattr(entry.card, f.name) for f in fields(entry.card)}
    told = {k: bool(v) if is_dataclass(v) else v for k, v in values.items()}
    return {**told, "from": entry.origin}


def _prose(entry: Entry[Any]) -> str:
    """Its documentation up to arguments and examples, where it has one of its own."""
    text = (inspect.getdoc(entry.obj) or "") if callable(entry.obj) else ""
    for end in ("\nArgs:", "\nReturns:", "\nRaises:", "\n>>>"):
        text = text.partition(end)[0]
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", text).strip() or entry.card.summary


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    """What a card says beyond name, title, summary and what :func:`_details` shows."""
    elsewhere = {"name", "title", "summary", "columns", "better", "order", "digits", "blockwise"}
    for field in fields(card):
        value = getattr(card, field.name)
        usual = isinstance(value, bool) and value == field.default
        if field.name not in elsewhere and not usual and value not in ("", None, ()):
            yield field.name.replace("_", " "), _text(value)


def _details(entry: Entry[Any]) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Tables for what is of no fixed length: options and presets, columns, bands, settings."""
    from pansharp_bench.method import is_trained
    from pansharp_bench.registry import DatasetCard, MethodCard, MetricCard
    from pansharp_bench.scene import Sensor, as_sensor

    card, obj = entry.card, entry.obj
    if isinstance(card, MetricCard):
        ways = {"high": "higher is better", "low": "lower is better"}
        yield ["column", "", "decimals"], [[c, ways[b], str(card.digits)] for c, b in card.directions.items()]
    if isinstance(card, MethodCard) and is_trained(entry):
        default = asdict(obj.Config())
        presets = {name: asdict(obj.configure(name)) for name in obj.presets}
        rows = [[k, *(_text(given[k]) for given in presets.values())] for k in default]
        yield ["option", *presets], rows
    elif inspect.isfunction(obj):
        given = inspect.signature(obj).parameters.values()
        settings = [[p.name, _text(p.default)] for p in given if p.default not in (p.empty, None)]
        if settings:
            yield ["setting", "default"], settings
    if isinstance(obj, Sensor):
        yield _bands(obj)
    elif isinstance(card, DatasetCard) and card.sensor:
        yield _bands(as_sensor(card.sensor))


def _bands(sensor: Sensor) -> tuple[list[str], list[list[str]]]:
    about = f"{sensor.title}: 0 to {sensor.peak:g}, ratio {sensor.ratio}"
    gains = [*zip(sensor.bands, sensor.mtf, strict=True), *((b, sensor.mtf_pan) for b in sensor.source)]
    return [about, "MTF gain"], [[band, f"{gain:g}"] for band, gain in gains]


def _print_table(headers: list[str], rows: list[list[str]]) -> None:
    from tabulate import tabulate

    click.echo(tabulate(rows, headers, tablefmt="simple", disable_numparse=True))


def _text(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return "–" if value in (None, "") else str(value)
