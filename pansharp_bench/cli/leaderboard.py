"""``bench leaderboard``: tables from the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from pansharp_bench.cli.options import (
    comma_separated,
    into_option,
    json_option,
    plugin_option,
    read_page,
    results_option,
)
from pansharp_bench.cli.records import read_records
from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    from pansharp_bench.record import Record
    from pansharp_bench.tables import Table

_FORMATS = ("md", "csv", "tex")


@click.command(short_help="Make tables from the records.")
@results_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the tables [default: <results>/leaderboards, for boards that are whole].",
)
@comma_separated("--dataset", "datasets", "Only these, by the names shown, e.g. qb-mini,gf2-mini.")
@comma_separated("--protocol", "protocols", "Only these: reduced, full, truth, calibration, ...")
@comma_separated("--methods", "methods", "Only these, in this order (or that of --sort).")
@comma_separated("--columns", "columns", "Only these, in this order, e.g. SAM,ERGAS,Q4.")
@click.option("--sort", metavar="COLUMN", default="", help="Sort by it [default: the first column].")
@comma_separated("--kind", "kinds", "Only methods of these: classical, deep, unpaired, baseline, oracle.")
@comma_separated("--preset", "presets", "Of methods that learn, only rows of these presets.")
@click.option("--max-params", type=click.IntRange(0), help="Only methods of so many parameters at most.")
@click.option("--all-runs", is_flag=True, help="Ablations, earlier presets and given weights as well.")
@click.option("--all-published", is_flag=True, help="Every published method, not only those registered here.")
@click.option("--no-published", is_flag=True, help="Measured rows alone.")
@click.option(
    "--spread",
    type=click.Choice(["std", "seeds", "ci"]),
    help="Behind every mean: deviation over images, over seeds, or the 95 % bootstrap interval over images.",
)
@click.option("--ci", "spread", flag_value="ci", help="Short for --spread ci.")
@click.option(
    "--combine", is_flag=True, help="Full and reduced resolution in one table, as papers print them."
)
@click.option("--rank", is_flag=True, help="Mean ranks over the datasets, with their critical difference.")
@click.option("--caption", help="Of the one table that is chosen.")
@click.option("--label", help="Of the one table that is chosen, for LaTeX [default: tab:<name>].")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice([*_FORMATS, "json", "html"]),
    default=_FORMATS,
    show_default=True,
    help="May be repeated; the first is printed.",
)
@json_option
@into_option("leaderboard")
@plugin_option
def leaderboard(
    results: Path,
    out: Path | None,
    datasets: list[str] | None,
    protocols: list[str] | None,
    methods: list[str] | None,
    columns: list[str] | None,
    sort: str,
    kinds: list[str] | None,
    presets: list[str] | None,
    max_params: int | None,
    all_runs: bool,
    all_published: bool,
    no_published: bool,
    spread: Literal["std", "seeds", "ci"] | None,
    combine: bool,
    rank: bool,
    caption: str | None,
    label: str | None,
    formats: tuple[str, ...],
    as_json: bool,
    pages: tuple[Path, ...],
) -> None:
    """Derive one table per dataset and protocol from the records, and print them.

    A table has the rows of every method's presets as they are today; --all-runs adds trials, ablations and earlier
    presets. Tables of everything are also written below the records, selected ones only where --out says.

    \b
    bench leaderboard
    bench leaderboard --dataset qb-mini --protocol reduced --columns ERGAS,SAM --sort SAM --spread std
    bench leaderboard --dataset qb-mini --combine --no-published --format tex --caption "QuickBird" --out paper
    bench leaderboard --rank --columns ERGAS --protocol reduced
    """
    from pansharp_bench import tables
    from pansharp_bench.files import write_text
    from pansharp_bench.timings import read_speeds

    records = read_records(results, datasets)
    choice = tables.Choice(
        all_runs=all_runs,
        presets=presets or (),
        kinds=kinds or (),
        max_parameters=max_params,
        published=not no_published,
        sort=sort,
    )
    _check_methods(records, results, methods)
    boards = tables.tables(
        records,
        combine=combine,
        spread=spread or "",
        choice=choice,
        all_published=all_published,
        datasets=datasets,
        protocols=protocols,
        methods=methods,
        columns=columns,
        remarks=tables.read_remarks(results),
        speeds=read_speeds(results),
    )
    _check_columns(boards, [*(columns or ()), *([sort] if sort else ())], protocols)
    if rank:
        boards = tables.rank_tables(boards, sort)
    boards = _titled(boards, caption, label)
    renewed = {page: tables.refreshed(read_page(page), boards, str(page)) for page in pages}
    shaped = [kinds, presets, protocols, methods, columns, sort, spread, caption, label, rank]
    shaped += [max_params is not None, all_runs, all_published, no_published]
    if out or not (any(shaped) or as_json):
        whole = datasets is None and not combine and not any(shaped)
        paths = tables.write_tables(boards, out or results / "leaderboards", formats, whole, results)
        click.echo(f"wrote {len(paths)} files to {paths[0].parent}/", err=True)
    for page, text in renewed.items():
        write_text(page, text)
    if as_json or formats[0] == "json":
        click.echo(tables.to_json_list(boards), nl=False)
        return
    for table in boards:
        click.echo(tables.RENDERERS[formats[0]](table))


def _check_methods(records: Sequence[Record], results: Path, methods: list[str] | None) -> None:
    """Raises BenchError for a method that no record is of."""
    known = {r.method["name"] for r in records}
    if unknown := [name for name in methods or () if name not in known]:
        raise BenchError(
            f"no records of method {', '.join(map(repr, unknown))} under {results}; there are: "
            f"{', '.join(sorted(known))}"
        )


def _check_columns(boards: Sequence[Table], asked: Sequence[str], protocols: list[str] | None) -> None:
    """Raises BenchError where nothing is left of the boards, or a column is in none of them."""
    if not boards:
        raise BenchError(
            f"no table is left: none has {', '.join([*(protocols or ()), *asked]) or 'what is asked for'}; "
            "`bench leaderboard` without options shows which there are"
        )
    known = {name: c for t in boards for c in t.columns for name in (c.name, c.label)}
    if unknown := [name for name in asked if name not in known]:
        raise BenchError(
            f"no table has a column {', '.join(map(repr, unknown))}; there are: {', '.join(sorted(known))}"
        )


def _titled(boards: list[Table], caption: str | None, label: str | None) -> list[Table]:
    if not (caption or label):
        return boards
    if len(boards) > 1:
        raise BenchError(
            f"--caption and --label are of one table, and these are {', '.join(t.name for t in boards)}: "
            "choose by --dataset and --protocol, or join protocols by --combine"
        )
    return [replace(boards[0], caption=caption or "", label=label or "")]
