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
    from pansharp_bench.tables import Column, Row, Table
    from pansharp_bench.uncertainty import Interval


@click.command(short_help="Compare two methods image by image: which is better, or is it chance?")
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
    averaged image by image, and their spread is shown. Fewer than 6 images are not compared. Images that overlap
    are drawn and tested in whole blocks; scores of the whole set (chi2) are compared on the same drawn blocks.

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
    sets = _of_sets(table, rows, metric)
    try:
        found = tables.compare(table, *rows, metric)
    except BenchError:
        if not sets:
            raise
        found = []
    if as_json:
        facts = [*(tables.comparison_facts(c) for c in found), *(_facts(*s) for s in sets)]
        click.echo(json.dumps(facts, indent=1, ensure_ascii=False))
        return
    a, b = found[0].names if found else (row.label for row in rows)
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
    for column, means, apart in sets:
        told = [
            formatting.format_value(x, column.digits) for x in (*means, apart.value, apart.low, apart.high)
        ]
        lines.append([formatting.heading(column), *told[:3], f"{told[3]} to {told[4]}", *[""] * 3])
    click.echo(f"{table.title}\n")
    click.echo(tabulate(lines, headers, tablefmt="simple", disable_numparse=True))
    if sets:
        names = ", ".join(column.label for column, _, _ in sets)
        click.echo(f"\n{names}: of all images together, both rows on the same drawn blocks.")
    if not found:
        return
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


def _of_sets(
    table: Table, rows: tuple[Row, Row], metric: str
) -> list[tuple[Column, tuple[float, float], Interval]]:
    """Of every column that scores the whole set, where records tell its blocks: both means and the difference."""
    from pansharp_bench import uncertainty

    found = []
    for protocol in dict.fromkeys(c.protocol for c in table.columns):
        try:
            told = uncertainty.differences(rows[0].records, rows[1].records, protocol)
        except BenchError:
            continue  # nothing is known between blocks
        for column in table.columns:
            single = all(len(r.scores(protocol, column.name)) == 1 for row in rows for r in row.records)
            asked = metric in ("", column.name, column.label)
            if column.protocol == protocol and asked and single and column.name in told:
                means = (rows[0].cells[column].mean, rows[1].cells[column].mean)
                found.append((column, means, told[column.name]))
    return found


def _facts(column: Column, means: tuple[float, float], it: Interval) -> dict[str, object]:
    return {
        "protocol": column.protocol,
        "metric": column.name,
        "better": column.better,
        "means": means,
        "difference": it.value,
        "ci95": (it.low, it.high),
        "unit": "blocks",
    }


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
