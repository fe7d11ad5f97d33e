"""``bench report``: a static site from the records."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pansharp_bench.cli.options import comma_separated, plugin_option, results_option
from pansharp_bench.cli.records import read_records


@click.command(short_help="Make a site of the records, to be opened in a browser.")
@results_option
@comma_separated("--dataset", "datasets", "Only these, by the names shown, e.g. qb-sim,gf2-sim.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/site"),
    show_default=True,
    help="Folder of the site; an earlier report there is replaced.",
)
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder of pictures and logs; without them the pages go without.",
)
@click.option(
    "--pictures",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Scenes of each split to show, of simulated sets.",
)
@plugin_option
def report(results: Path, datasets: list[str] | None, out: Path, runs: Path, pictures: int) -> None:
    """Leaderboards that sort and filter, a page for every method, dataset and run, pictures to compare.

    The site is a folder of files that needs no server and no network.

    \b
    bench report
    bench report --dataset qb-sim,gf2-sim,wv3-sim --out site
    """
    from pansharp_bench.report import write_site

    records = read_records(results, datasets)
    first = write_site(records, out, results, runs, pictures, progress=sys.stderr.isatty())
    click.echo(f"report      {first.resolve().as_uri()}")
