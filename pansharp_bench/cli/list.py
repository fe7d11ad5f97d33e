"""``bench list``: everything registered, what failed to import, and the whole card of one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import plugin_option

if TYPE_CHECKING:
    from pansharp_bench.registry import Registry

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
@plugin_option
def list_command(what: str) -> None:
    """Methods, metrics, datasets, sensors and tracks, and plug-ins that failed to import.

    With the NAME of any of them its whole card: paper and licence, options and presets, columns, MTF gains.

    \b
    bench list methods
    bench list sp-i2i
    """
    from pansharp_bench import cards, registry

    tables = dict(zip(KINDS, registry.TABLES, strict=True))
    if what not in (*KINDS, "all"):
        _show_cards(what, tables)
        return
    for kind in KINDS if what == "all" else (what,):
        rows = [
            [e.name, e.card.label, *(cards.text(getattr(e.card, c) or ()) for c in _COLUMNS[kind]), e.card.summary]
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
    from difflib import get_close_matches

    from pansharp_bench import cards
    from pansharp_bench.errors import UnknownName

    found = [(table, table.get(name)) for table in tables.values() if name in table]
    if not found:
        near = get_close_matches(name, [e.name for table in tables.values() for e in table])
        hint = f"; did you mean {' or '.join(near)}?" if near else f"; lists are: {', '.join(KINDS)}"
        raise UnknownName(f"nothing is registered as {name!r}{hint}")
    for i, (table, entry) in enumerate(found):
        click.echo("\n" if i else "", nl=False)
        click.echo(f"{click.style(entry.name, bold=True)}  {table.kind} {entry.card.label}")
        click.echo(f"{cards.prose(entry)}\n")
        for label, value in cards.facts(entry.card):
            click.echo(f"{label:<12}{value}")
        click.echo(f"{'from':<12}{entry.origin}")
        for headers, rows in cards.details(entry):
            click.echo()
            _print_table(headers, rows)


def _print_table(headers: list[str], rows: list[list[str]]) -> None:
    from tabulate import tabulate

    click.echo(tabulate(rows, headers, tablefmt="simple", disable_numparse=True))
