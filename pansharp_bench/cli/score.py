"""``bench score``: fused test images made elsewhere become a record."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click

from pansharp_bench.cli.options import completes, metric_option, plugin_option, results_option, running
from pansharp_bench.errors import BenchError


@click.command(short_help="Score fused test images made elsewhere, write a record.")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--dataset",
    required=True,
    shell_complete=completes("DATASETS"),
    help="Registered name, e.g. qb: whose test scenes they are.",
)
@click.option("--name", required=True, help="What tables call the method.")
@click.option("--about", default="", help="Who made the images, with what: kept in the record.")
@click.option(
    "--sees", type=click.Choice(["pan", "pan+bag", "pan+ms", "reference"]), default="pan+ms", show_default=True,
    help="What the method was given of a scene.",
)  # fmt: skip
@click.option(
    "--training", type=click.Choice(["none", "unpaired", "paired"]), default="none", show_default=True,
    help="What it learnt from.",
)  # fmt: skip
@click.option(
    "--data", envvar="PANSHARP_DATA", type=click.Path(path_type=Path), help="Folder of the data files."
)
@click.option("--label", help="Name for files that are not the known originals.")
@metric_option
@click.option("--accept-faults", is_flag=True, help="Score on files in which errors are found.")
@click.option("--force", is_flag=True, help="Replace the record of the same images.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@results_option
@plugin_option
def score(
    folder: Path,
    dataset: str,
    name: str,
    about: str,
    sees: str,
    training: str,
    data: Path | None,
    label: str | None,
    metrics: tuple[str, ...],
    accept_faults: bool,
    force: bool,
    quiet: bool,
    results: Path,
) -> None:
    """Score the fused images in DIR, made by any software for the test scenes of a dataset, as `bench run` scores
    its own, and write a record, so that they stand in the same tables.

    DIR holds folders reduced and full (or one of them), with an image a scene, by its number: .npy, .mat or .tif,
    in DN. `bench run --save-fused DIR` writes such a folder.

    \b
    bench score their-images --dataset qb --name "Their method" --about "Laboratory X, MATLAB"
    """
    from pansharp_bench import experiment
    from pansharp_bench.external import find_images
    from pansharp_bench.plan import RunSpec, plan_external
    from pansharp_bench.registry import MethodCard
    from pansharp_bench.scene import load_dataset
    from pansharp_bench.tables import run_table

    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug:
        raise BenchError(f"--name {name!r} holds no letter or digit")
    card = MethodCard(
        slug, name, about or "images made elsewhere", kind="external", sees=sees, training=training  # type: ignore[arg-type]
    )  # fmt: skip
    with running():
        images = find_images(folder, load_dataset(dataset, data, label))
        spec = RunSpec(
            slug, dataset, label=label, data=data, device="cpu", accept_faults=accept_faults, metrics=metrics
        )
        record, path = experiment.score(
            plan_external(spec, card, images),
            images,
            results,
            force=force,
            progress=not quiet and sys.stderr.isatty(),
        )
    click.echo(f"\n{name} on {record.dataset['name']}")
    click.echo(run_table(record, []))
    click.echo(f"\nrecord      {path}")
