"""``bench leaderboard``: tables from the records."""

from __future__ import annotations

from pathlib import Path

import click

from pansharp_bench.cli.options import plugin_option, results_option


@click.command(short_help="Tables from the records.")
@results_option
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the tables [default: <results>/leaderboards].",
)
@click.option("--dataset", help="Only this dataset, by the name shown, e.g. qb-mini.")
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(["md", "csv", "tex"]),
    default=("md", "csv", "tex"),
    show_default=True,
    help="May be repeated.",
)
@click.option("--ci", is_flag=True, help="Add 95 % bootstrap intervals of the mean over images.")
@click.option(
    "--combine", is_flag=True, help="Full and reduced resolution in one table, as papers print them."
)
@click.option("--all-published", is_flag=True, help="Every published method, not only those registered here.")
@click.option(
    "--into",
    "pages",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Also renew the tables that this page shows between <!-- leaderboard: NAME --> marks; may be repeated.",
)
@plugin_option
def leaderboard(
    results: Path,
    out: Path | None,
    dataset: str | None,
    formats: tuple[str, ...],
    ci: bool,
    combine: bool,
    all_published: bool,
    pages: tuple[Path, ...],
) -> None:
    """Derive one table per dataset and protocol from the records, and print them."""
    from pansharp_bench import record, tables
    from pansharp_bench.errors import BenchError
    from pansharp_bench.files import write_text

    records = []
    for _, item in record.read_all(results):
        if isinstance(item, BenchError):
            click.secho(f"! left out: {item}", fg="yellow", err=True)
        else:
            records.append(item)
    boards = tables.tables(
        records,
        combine=combine,
        intervals=ci,
        all_published=all_published,
        dataset=dataset,
        remarks=tables.read_remarks(results),
    )
    if not boards:
        known = sorted({r.dataset["name"] for r in records})
        raise BenchError(
            f"no records of dataset {dataset!r} under {results}; there are: {', '.join(known)}"
            if known
            else f"no records under {results}: `bench run` writes one"
        )
    renewed = {}
    for page in pages:
        try:
            text = page.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise BenchError(f"{page} cannot be read: {error}") from error
        renewed[page] = tables.refreshed(text, boards, str(page))
    whole = dataset is None and not combine
    paths = tables.write_tables(boards, out or results / "leaderboards", formats, index=whole)
    for page, text in renewed.items():
        write_text(page, text)
    for table in boards:
        click.echo(tables.to_markdown(table))
    click.echo(f"wrote {len(paths)} files to {paths[0].parent}/", err=True)
