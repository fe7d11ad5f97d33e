"""``bench list``: everything registered, what failed to import, and the whole card of one thing."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import json_option, plugin_option

if TYPE_CHECKING:
    from pansharp_bench.registry import Entry, Registry

KINDS = ("methods", "metrics", "datasets", "sensors", "tracks")
_COLUMNS = {
    "methods": ("kind", "sees", "training", "tracks"),
    "metrics": ("protocol", "unit"),
    "datasets": ("sensor", "stand_in", "tracks"),
    "sensors": (),
    "tracks": ("protocols",),
}


@click.command("list", short_help="List what is registered and what failed to import, or show one card.")
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
    from pansharp_bench import cards, registry

    tables = dict(zip(KINDS, registry.TABLES, strict=True))
    if as_json:
        _print_json(what, tables, registry.broken)
        return
    if what not in (*KINDS, "all"):
        _show_cards(what, tables)
        return
    for kind in KINDS if what == "all" else (what,):
        rows = [
            [
                e.name,
                e.card.label,
                *(cards.text(getattr(e.card, c) or ()) for c in _COLUMNS[kind]),
                e.card.summary,
            ]
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
    from pansharp_bench import cards

    for i, (table, entry) in enumerate(_called(name, tables)):
        click.echo("\n" if i else "", nl=False)
        click.echo(f"{click.style(entry.name, bold=True)}  {table.kind} {entry.card.label}")
        click.echo(f"{cards.prose(entry)}\n")
        for label, value in cards.facts(entry.card):
            click.echo(f"{label:<12}{value}")
        click.echo(f"{'from':<12}{entry.origin}")
        for headers, rows in cards.details(entry):
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


def _print_table(headers: list[str], rows: list[list[str]]) -> None:
    from tabulate import tabulate

    click.echo(tabulate(rows, headers, tablefmt="simple", disable_numparse=True))
