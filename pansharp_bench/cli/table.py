"""``bench table`` and ``bench ablate``: the tables of papers, from records that are reused or made."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import (
    RunOptions,
    completes,
    into_option,
    json_option,
    read_page,
    run_options,
    say,
    seeds_option,
    set_option,
)
from pansharp_bench.cli.records import ensure, tell, there
from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    from pansharp_bench.record import Record

PAPERS = resources.files("pansharp_bench").joinpath("papers.toml")


_resume = click.option("--resume", is_flag=True, help="Continue interrupted trainings.")
_out = click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Also write the table here."
)


def _print(
    records: list[Record],
    title: str,
    out: Path | None,
    name: str,
    results: Path,
    as_json: bool = False,
    pages: Sequence[Path] = (),
    **choice: Any,
) -> None:
    from pansharp_bench import tables
    from pansharp_bench.files import write_text

    remarks = tables.read_remarks(results)

    titled = [
        replace(t, name=f"{name}-{t.name}", title=f"{title} · {t.title}")
        for t in tables.tables(records, combine=True, remarks=remarks, **choice)
    ]
    renewed = {page: tables.reprinted(read_page(page), titled, str(page)) for page in pages}
    for page, text in renewed.items():
        write_text(page, text)
    if as_json:
        click.echo(tables.to_json_list(titled), nl=False)
    for table in titled if not as_json else ():
        click.echo(tables.to_markdown(table))
    if out:
        paths = tables.write_tables(titled, out, index=False)
        say(f"wrote {', '.join(map(str, paths))}")


@click.command(short_help="Print a paper's table with measured numbers beside the published.")
@click.argument("number")
@seeds_option
@set_option("For all rows that are trained step by step.")
@_resume
@click.option(
    "--dry-run", is_flag=True, help="Only say which runs are missing, and about how long they take."
)
@click.option("--recorded", is_flag=True, help="Only rows that have a record; nothing is run.")
@_out
@into_option("table")
@json_option
@run_options()
def table(
    number: str,
    seeds: list[int],
    options: dict[str, str],
    resume: bool,
    dry_run: bool,
    recorded: bool,
    out: Path | None,
    pages: tuple[Path, ...],
    as_json: bool,
    shared: RunOptions,
) -> None:
    """Print a table of the SP-I2I paper, measured and published rows side by side.

    Runs that have a record are reused, which needs no data files. The others are named, with about how long they
    take, and carried out first; --dry-run only names them.

    \b
    bench table 1                    JunoCam2HST: UNSB, CUT, and SP-I2I with 1 to 8 levels
    bench table 2                    QuickBird: all six methods, full and reduced resolution
    bench table 3                    JunoCam2HST: SP-I2I with and without its gate
    bench table 4 --seeds 0,1        GaoFen-2, means over two seeds
    bench table 1 --set steps=2400   every network trained for 2,400 steps
    bench table 2 --label mini --recorded --into page.md
    """
    from pansharp_bench.files import check_writable

    known = tomllib.loads(PAPERS.read_text(encoding="utf-8"))
    if number not in known:
        raise BenchError(f"unknown table {number!r}; known are: {', '.join(known)}")
    wanted = known[number]
    rows = [_row(r) for r in wanted["methods"]]
    specs = [
        shared.row(method, wanted["dataset"], own, options, seed)
        for (method, own), seed in product(rows, seeds)
    ]
    if dry_run:
        tell(specs, shared.results, as_json)
        return
    if out:
        check_writable(out)
    found = there(specs, shared.results) if recorded else ensure(specs, shared, resume, skip=True)
    _print(
        found,
        wanted["title"],
        out,
        f"table-{number}",
        shared.results,
        as_json,
        pages,
        protocols=wanted["protocols"],
        methods=list(dict.fromkeys(method for method, _ in rows)),
        columns=wanted.get("columns"),
        source=wanted["source"],
        varied=list(dict.fromkeys(name for _, own in rows for name in own)),
    )


def _row(row: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A row of a paper's table: its method, and the options that make it."""
    if isinstance(row, str):
        return row, {}
    return row["method"], {k: v for k, v in row.items() if k != "method"}


@click.command(
    short_help="Vary a method's options and tabulate the results.",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
@click.argument("method")
@click.option(
    "--dataset",
    required=True,
    shell_complete=completes("DATASETS"),
    help="Registered name, e.g. qb, junocam2hst.",
)
@seeds_option
@set_option("For all runs.")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Vary inference alone: use these, train nothing."
)
@_resume
@_out
@run_options()
@click.pass_context
def ablate(
    ctx: click.Context,
    method: str,
    dataset: str,
    seeds: list[int],
    options: dict[str, str],
    weights: Path | None,
    resume: bool,
    out: Path | None,
    shared: RunOptions,
) -> None:
    """Run a method once for every value of an option, and for every option switched off.

    Any option of the method may be given: ``--NAME v1,v2`` runs it with each value, ``--no-NAME`` once more
    with that option false.

    \b
    bench ablate sp-i2i --dataset qb --levels 1,2,4,6 --no-gating    as in the paper's Tables 1 and 3
    bench ablate sp-i2i --dataset qb --nfe 1,2,3,4,5 --weights FILE    one training, five ways to use it
    """
    from pansharp_bench.files import check_writable

    variants = variants_of(ctx.args)
    if twice := sorted(options.keys() & {name for variant in variants for name in variant}):
        raise BenchError(f"{', '.join(twice)}: both set for all runs and varied; give one of them")
    specs = [
        shared.spec(method, dataset, {**options, **variant}, seed, weights)
        for variant, seed in product(variants, seeds)
    ]
    if out:
        check_writable(out)
    found = ensure(specs, shared, resume)
    varied = list(dict.fromkeys(name for variant in variants for name in variant))
    name = f"ablation-{method}"
    _print(found, f"Ablation of {method}", out, name, shared.results, methods=[method], varied=varied)


def variants_of(words: list[str]) -> list[dict[str, str]]:
    """``--levels 1,2 --no-gating`` → [{levels: 1}, {levels: 2}, {gating: false}]; nothing → the preset alone."""
    variants: list[dict[str, str]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise BenchError(f"{word!r} is not an option; give --NAME v1,v2 or --no-NAME")
        name, equals, values = word[2:].partition("=")
        if name.startswith("no-"):
            variants.append({name[3:].replace("-", "_"): "false"})
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise BenchError(f"--{name} needs values: --{name} v1,v2")
            values = rest.pop(0)
        variants += [{name.replace("-", "_"): v} for v in values.split(",")]
    return variants or [{}]
