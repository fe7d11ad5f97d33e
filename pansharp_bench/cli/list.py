"""``bench list``: everything registered, and what failed to import."""

from __future__ import annotations

from typing import Any

import click

from pansharp_bench.cli.options import plugin_option

KINDS = ("methods", "metrics", "datasets", "sensors", "tracks")


@click.command("list", short_help="What is registered, and what failed to import.")
@click.argument("what", type=click.Choice([*KINDS, "all"]), default="all")
@plugin_option
def list_command(what: str) -> None:
    """Methods, metrics, datasets, sensors and tracks, and plug-ins that failed to import."""
    from tabulate import tabulate

    from pansharp_bench import registry

    tables: dict[str, tuple[registry.Registry[Any], tuple[str, ...]]] = {
        "methods": (registry.METHODS, ("kind", "sees", "training", "tracks")),
        "metrics": (registry.METRICS, ("protocol", "unit")),
        "datasets": (registry.DATASETS, ("sensor", "stand_in", "tracks")),
        "sensors": (registry.SENSORS, ()),
        "tracks": (registry.TRACKS, ("protocols",)),
    }
    for kind in KINDS if what == "all" else (what,):
        table, columns = tables[kind]
        rows = [
            [
                entry.name,
                entry.card.label,
                *(_show(getattr(entry.card, c)) for c in columns),
                entry.card.summary,
            ]
            for entry in table
        ]
        click.echo(click.style(f"\n{kind}", bold=True))
        headers = ["name", "title", *(c.replace("_", " ") for c in columns), "summary"]
        click.echo(tabulate(rows, headers, tablefmt="simple"))
    if registry.broken:
        click.echo(click.style("\nbroken plug-ins (not usable; the rest is unharmed)", fg="red", bold=True))
        for origin, error in sorted(registry.broken.items()):
            click.echo(f"{origin}\n    " + error.strip().replace("\n", "\n    "))


def _show(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
