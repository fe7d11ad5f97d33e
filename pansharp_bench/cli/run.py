"""``bench run``: one method on one dataset, from data to record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pansharp_bench.cli.options import RunOptions, run_options, running, say, set_option
from pansharp_bench.cli.records import ensure
from pansharp_bench.errors import BenchError, RecordExists

if TYPE_CHECKING:
    from pansharp_bench.experiment import Outcome


@click.command(short_help="Train and evaluate a method, write its record.")
@click.option("--method", required=True, help="Registered name, e.g. sp-i2i (see `bench list`).")
@click.option("--dataset", required=True, help="Registered name, e.g. qb, gf2, qb-sim.")
@set_option("Change one option of the method's preset; may be repeated.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of initial weights and every draw.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    help="Stochastic methods: the mean of so many runs per image (short for --set samples=K).",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights file to use instead of training; FILE:NAME where it holds several state dicts.",
)
@click.option(
    "--beside",
    multiple=True,
    metavar="METHOD",
    callback=lambda ctx, param, given: [name for text in given for name in text.split(",")],
    help="Show these methods, untrained or in closed form, beside it in the table; may be repeated.",
)
@click.option(
    "--each-fold",
    is_flag=True,
    help="Also with every other part of the data held out in turn (perijoves), a run and record each.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted training exactly where it stopped.")
@click.option(
    "--force", is_flag=True, help="Replace the record, and the training, of an earlier identical run."
)
@click.option(
    "--save-fused",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the fused test images, one .npy a scene, as `bench score` reads them.",
)
@run_options
def run(
    method: str,
    dataset: str,
    options: dict[str, str],
    seed: int,
    samples: int | None,
    weights: Path | None,
    beside: list[str],
    each_fold: bool,
    resume: bool,
    force: bool,
    save_fused: Path | None,
    shared: RunOptions,
) -> None:
    """Train (where the method learns) and evaluate a method, and write its record.

    \b
    bench run --method sp-i2i --dataset qb
    bench run --method gsa --dataset gf2 --data ~/PanCollection
    bench run --method sp-i2i --dataset qb --preset quick --set levels=4 --seed 1
    bench run --method sp-i2i --dataset qb --beside pan-ot,mtf-glp-fs
    bench run --method cut --dataset junocam2hst --data data/ --each-fold
    """
    from pansharp_bench import experiment
    from pansharp_bench.method import takes_steps
    from pansharp_bench.registry import METHODS
    from pansharp_bench.scene import load_dataset

    if samples is not None:
        if "samples" in options:
            raise BenchError(f"--samples {samples} and --set samples={options['samples']}: give one of them")
        options = {**options, "samples": str(samples)}
    for name in beside:
        if takes_steps(METHODS.get(name)):
            raise BenchError(
                f"--beside {name}: it has to be trained, so it needs a run of its own: `bench run --method {name}`"
            )
    folds: tuple[str, ...] = ()
    if each_fold and not (folds := load_dataset(dataset, shared.data, shared.label).folds()):
        raise BenchError(
            f"--each-fold: dataset {dataset!r} has no part that could be held out in its test's place"
        )
    if each_fold and (weights or resume or save_fused):
        raise BenchError(
            "--each-fold trains anew for every fold; leave out --weights, --resume and --save-fused"
        )
    for label in (shared.label, *folds):
        settled = replace(shared, label=label)
        try:
            with running():
                outcome = experiment.run(
                    settled.spec(method, dataset, options, seed, weights),
                    settled.results,
                    settled.runs,
                    force=force,
                    resume=resume,
                    pictures=settled.pictures,
                    progress=settled.progress,
                    save_fused=save_fused,
                    say=say,
                )
        except RecordExists as error:
            if not folds:
                raise
            say(str(error))
            continue
        _show(outcome, dataset, beside, settled)


def _show(outcome: Outcome, dataset: str, beside: list[str], shared: RunOptions) -> None:
    from pansharp_bench.tables import run_table

    others = ensure([shared.row(name, dataset, {}, {}) for name in beside], replace(shared, pictures=0))
    record = outcome.record
    click.echo(f"\n{record.method['title'] or record.method['name']} on {record.dataset['name']}")
    click.echo(run_table(record, others))
    click.echo(f"\nrecord      {outcome.path}")
    if outcome.pictures:
        click.echo(f"pictures    {outcome.pictures[0].parent}/ ({len(outcome.pictures)})")
    if outcome.folder.log.exists():
        click.echo(f"log         {outcome.folder.log}")
    if outcome.checkpoint:
        click.echo(f"weights     {outcome.checkpoint}")
