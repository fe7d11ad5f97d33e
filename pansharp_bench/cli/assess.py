"""``bench assess``: how good a fused GeoTIFF is, whoever made it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import plugin_option, running
from pansharp_bench.cli.pair import pair_options, shown

if TYPE_CHECKING:
    from pansharp_bench.assess import Assessment


@click.command(short_help="Score a fused GeoTIFF with its PAN and MS.")
@click.argument("fused", type=click.Path(path_type=Path))
@pair_options
@click.option(
    "--toolbox", is_flag=True, help="At the phase and with the borders of the field's MATLAB toolbox."
)
@click.option("--register", is_flag=True, help="Take MS to lie where the measured offset puts it.")
@click.option(
    "--reference", type=click.Path(path_type=Path), metavar="FILE", help="The true image, where known."
)
@click.option("--wald", metavar="METHOD", help="Try a method one ratio coarser, where MS is the reference.")
@click.option(
    "--maps", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Indices by block."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@plugin_option
def assess(fused: Path, pair: dict[str, Any], as_json: bool, quiet: bool, **options: Any) -> None:
    """Score a fused GeoTIFF, made by any software, with the PAN and MS it was made of.

    Indices without reference are taken where MS truly lies on PAN. With --toolbox they are those of the field's
    toolbox, which assumes another place; the two are not comparable.

    \b
    bench assess fused.tif --sensor wv3 --pan pan.tif --ms ms.tif
    bench assess fused.tif --sensor qb --pan pan.tif --ms ms.tif --wald gsa --maps maps
    """
    from pansharp_bench.assess import assess_files

    with running(), shown("assessing", quiet) as progress:
        found = assess_files(fused, progress=progress, **pair, **options)
    if as_json:
        click.echo(json.dumps(found.facts(), indent=2))
    else:
        show(found)


def show(found: Assessment) -> None:
    """Print scores, a table a protocol."""
    place = "the toolbox's phase and borders" if found.phase == "toolbox" else found.phase
    skipped = f", {found.skipped} left out" if found.skipped else ""
    click.echo(f"{found.path}: {found.size[0]} x {found.size[1]} pixels, {found.blocks} blocks{skipped}")
    click.echo(f"\nwithout reference ({place})")
    _print(found.full)
    if found.truth:
        click.echo("\nagainst the reference")
        _print(found.truth)
    if found.wald:
        click.echo(f"\n{found.wald_method}, one ratio coarser, against MS")
        _print(found.wald)
    if found.resampled:
        click.echo(f"\nresampled     MS onto PAN's grid ({found.resampled})")
    corrected = ", corrected" if found.registered else ""
    click.echo(f"\nregistration  {found.registration}{corrected}")
    for text in found.remarks:
        click.secho(f"! {text}", fg="yellow", err=True)
    for path in found.maps:
        click.echo(f"map           {path}")


def _print(scores: Mapping[str, float]) -> None:
    from tabulate import tabulate

    from pansharp_bench.registry import METRICS

    cards = {column: entry.card for entry in METRICS for column in entry.card.columns}
    signs = {"high": "↑", "low": "↓"}
    rows = [
        [f"{name} {signs[cards[name].directions[name]]}", f"{value:.{cards[name].digits}f}"]
        for name, value in scores.items()
    ]
    click.echo(tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=("left", "right")))
