"""``bench compare``: two methods, image by image."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pansharp_bench.cli.options import json_option, plugin_option, results_option
from pansharp_bench.cli.records import read_records
from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    from pansharp_bench.tables import Row, Table


@click.command(short_help="Two methods, image by image: which is better, and is it chance?")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--dataset", required=True, help="By the name shown, e.g. qb-mini.")
@click.option("--protocol", help="reduced, full, truth, ... [default: the first that has the metric].")
@click.option("--metric", default="", help="By the name of its column, e.g. ERGAS [default: all].")
@json_option
@results_option
@plugin_option
def compare(
    first: str,
    second: str,
    dataset: str,
    protocol: str | None,
    metric: str,
    as_json: bool,
    results: Path,
) -> None:
    """Compare two methods by their scores on the same images: paired differences with a 95 % bootstrap interval,
    wins and ties, Wilcoxon's signed-rank test, an effect size, and what they say in a sentence.

    A and B are methods, METHOD:PRESET, or hashes of records as leaderboards show them. Several seeds of a run are
    averaged image by image, their spread is shown beside. Fewer than 6 images are not compared.

    \b
    bench compare gsa exp --dataset qb-sim
    bench compare pannet:quick pannet:paper --dataset qb --metric ERGAS
    """
    from tabulate import tabulate

    from pansharp_bench import tables
    from pansharp_bench.tables import formatting

    records, asked = read_records(results, [dataset]), [protocol] if protocol else None
    boards = tables.tables(records, datasets=[dataset], protocols=asked, columns=[metric]) if metric else []
    boards = boards or tables.tables(records, datasets=[dataset], protocols=asked)
    if not boards:
        raise BenchError(f"no records of dataset {dataset!r} under protocol {protocol or 'any'} in {results}")
    table, rows = _both(boards, first, second)
    found = tables.compare(table, *rows, metric)
    if as_json:
        click.echo(json.dumps([tables.comparison_facts(c) for c in found], indent=1, ensure_ascii=False))
        return
    a, b = found[0].names
    headers = ["", a, b, "A - B", "95 % interval", f"{a} better / equal / worse", "p", "effect"]
    lines = []
    for it in found:

        def shown(value: float, digits: int = it.column.digits) -> str:
            return formatting.format_value(value, digits)

        sides = [
            shown(mean) + ("" if math.isnan(spread) else f" ± {shown(spread)}")
            for mean, spread in zip(it.means, it.between_seeds, strict=True)
        ]
        interval = f"{shown(it.interval[0])} to {shown(it.interval[1])}"
        counts = f"{it.wins} / {it.ties} / {it.losses}"
        label = formatting.heading(it.column)
        lines.append([label, *sides, shown(it.difference), interval, counts, it.p_text, f"{it.effect:+.2f}"])
    click.echo(f"{table.title}\n")
    click.echo(tabulate(lines, headers, tablefmt="simple", disable_numparse=True))
    lead = found[0]
    click.echo(f"\n{lead.sentence}")
    for name, seeds in zip(lead.names, lead.seeds, strict=True):
        if seeds > 1:
            click.echo(
                f"{name}: means over {seeds} seeds, image by image; ± is their deviation between seeds."
            )
    if missing := max(it.missing for it in found):
        click.echo(f"Up to {missing} image(s) were left out: one of the two has no score there.")
    if len(found) > 1:
        click.echo(f"Each p is of a question asked alone; {len(found)} were asked.")


def _both(boards: list[Table], first: str, second: str) -> tuple[Table, tuple[Row, Row]]:
    """The first table that has both rows. Raises BenchError, with the reason of the first that has not."""
    from pansharp_bench.tables import find_row

    reason: BenchError | None = None
    for table in boards:
        try:
            return table, (find_row(table, first), find_row(table, second))
        except BenchError as error:
            reason = reason or error
    assert reason is not None
    raise reason
