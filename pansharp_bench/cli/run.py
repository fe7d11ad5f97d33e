"""``bench run``: a method on a dataset, or several on several, from data to record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import (
    RunOptions,
    check_settable,
    completes,
    json_option,
    metric_option,
    names_of,
    read_seeds,
    run_options,
    running,
    say,
    set_option,
)
from pansharp_bench.cli.records import ensure, in_brief, print_json
from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    from pansharp_bench.experiment import Outcome
    from pansharp_bench.record import Record


def _names(ctx: click.Context, param: click.Parameter, text: str | None) -> list[str]:
    if text is None:
        return []
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise BenchError(f"--{param.name} names none")
    return list(dict.fromkeys(names))


@click.command(short_help="Train and evaluate a method, write its record.")
@click.option(
    "--method",
    shell_complete=completes("METHODS"),
    callback=_names,
    metavar="A[,B]",
    help="Registered names (see `bench list`) [default: whose --weights they are].",
)
@click.option(
    "--dataset",
    required=True,
    shell_complete=completes("DATASETS"),
    callback=_names,
    metavar="A[,B]",
    help="Registered names, e.g. qb,gf2.",
)
@set_option("Change one option of the method's preset; may be repeated.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="Of initial weights and all random draws.",
)
@click.option("--seeds", callback=read_seeds, metavar="A,B", help="One run for each, if the method learns.")
@click.option(
    "--samples",
    type=click.IntRange(1),
    help="Stochastic methods: average so many outputs per image (short for --set samples=K).",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights file to use instead of training; FILE:NAME where it holds several state dicts.",
)
@metric_option
@click.option(
    "--beside",
    multiple=True,
    metavar="METHOD",
    callback=names_of,
    help="Show these methods, untrained or in closed form, beside it in the table; may be repeated.",
)
@click.option(
    "--each-fold",
    is_flag=True,
    help="Also with every other part of the data held out in turn (perijoves), a run and record each.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted training exactly where it stopped.")
@click.option("--force", is_flag=True, help="Repeat an identical run, replacing its record and training.")
@click.option(
    "--save-fused",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the fused test images, one .npy per scene, as `bench score` reads them.",
)
@json_option
@run_options()
def run(
    method: list[str],
    dataset: list[str],
    options: dict[str, Any],
    seed: int,
    seeds: list[int] | None,
    samples: int | None,
    weights: Path | None,
    metrics: tuple[str, ...],
    beside: list[str],
    each_fold: bool,
    resume: bool,
    force: bool,
    save_fused: Path | None,
    as_json: bool,
    shared: RunOptions,
) -> None:
    """Train (where the method learns) and evaluate a method, and write its record.

    With several methods, datasets, seeds or folds, every run that has no record yet is carried out, in order; with
    several methods --set applies to those that are trained step by step.

    \b
    bench run --method sp-i2i --dataset qb
    bench run --method gsa --dataset gf2 --data ~/PanCollection
    bench run --method sp-i2i --dataset qb --preset quick --set levels=4 --seed 1
    bench run --method sp-i2i --dataset qb --beside pan-ot,mtf-glp-fs
    bench run --method gsa --dataset qb --metric q2n:block=64 --metric ssim_uniform
    bench run --method cut,unsb,sp-i2i --dataset qb,gf2 --seeds 0,1,2
    bench run --weights weights.safetensors --dataset gf2
    bench run --method cut,sp-i2i --dataset junocam2hst --data data/ --each-fold
    """
    from pansharp_bench import experiment
    from pansharp_bench.method import named_method, told_run
    from pansharp_bench.presets import takes_steps
    from pansharp_bench.registry import METHODS

    if not method:
        method, (preset, own) = [named_method("", weights)], told_run(weights)
        shared, options = replace(shared, preset=shared.preset or preset), {**own, **options}
    shared = replace(shared, metrics=metrics)
    if samples is not None:
        if "samples" in options:
            raise BenchError(f"--samples {samples} and --set samples={options['samples']}: give one of them")
        options = {**options, "samples": str(samples)}
    if len(method) > 1 or len(dataset) > 1 or seeds or each_fold:
        single: dict[str, object] = {"--weights": weights, "--beside": beside, "--force": force}
        single |= {"--save-fused": save_fused, "--seed": seeds and seed}
        if given := [flag for flag, value in single.items() if value]:
            raise BenchError(
                f"{', '.join(given)}: of one run; these are several methods, datasets, seeds or folds"
            )
        _run_all(method, dataset, seeds or [seed], each_fold, options, shared, resume, as_json)
        return
    for name in beside:
        if takes_steps(METHODS.get(name)):
            raise BenchError(
                f"--beside {name}: it has to be trained, so it needs a run of its own: `bench run --method {name}`"
            )
    with running():
        outcome = experiment.run(
            shared.spec(method[0], dataset[0], options, seed, weights),
            shared.results,
            shared.runs,
            force=force,
            resume=resume,
            pictures=shared.pictures,
            progress=shared.progress,
            save_fused=save_fused,
            say=say,
        )
    _show(outcome, dataset[0], beside, shared, as_json)


def _show(outcome: Outcome, dataset: str, beside: list[str], shared: RunOptions, as_json: bool) -> None:
    from pansharp_bench.tables import run_table

    others = ensure([shared.row(name, dataset, {}, {}) for name in beside], replace(shared, pictures=0))
    record = outcome.record
    if as_json:
        _print_json([record, *others], shared.results)
        return
    click.echo(f"\n{record.method['title'] or record.method['name']} on {record.dataset['name']}")
    click.echo(run_table(record, others))
    click.echo(f"\nrecord      {outcome.path}")
    if outcome.pictures:
        click.echo(f"pictures    {outcome.pictures[0].parent}/ ({len(outcome.pictures)})")
    if outcome.folder.log.exists():
        click.echo(f"log         {outcome.folder.log}")
    if outcome.checkpoint:
        click.echo(f"weights     {outcome.checkpoint}")


def _run_all(
    methods: Sequence[str],
    datasets: Sequence[str],
    seeds: Sequence[int],
    each_fold: bool,
    options: Mapping[str, Any],
    shared: RunOptions,
    resume: bool,
    as_json: bool,
) -> None:
    """The runs of every dataset, fold, method and seed that have no record, one after another."""
    from pansharp_bench.presets import is_trained
    from pansharp_bench.registry import METHODS
    from pansharp_bench.tables import run_table

    entries = {name: METHODS.get(name) for name in methods}
    own, common = (options, {}) if len(methods) == 1 else ({}, options)
    check_settable(methods, common)
    specs = [
        replace(shared, label=label).row(name, dataset, own, common, seed)
        for dataset in datasets
        for label, name in product((shared.label, *(_folds(dataset, shared) if each_fold else ())), methods)
        for seed in (seeds if is_trained(entries[name]) else [0])
    ]
    records = ensure(specs, shared, resume)
    if as_json:
        _print_json(records, shared.results)
        return
    for record in records:
        seed = f", seed {record.spec['seed']}" if len(seeds) > 1 and record.spec["options"] else ""
        click.echo(f"\n{record.method['title'] or record.method['name']} on {record.dataset['name']}{seed}")
        click.echo(run_table(record))
        click.echo(f"record      {record.path(shared.results)}")


def _folds(dataset: str, shared: RunOptions) -> tuple[str, ...]:
    """Labels under which other parts of a dataset are held out."""
    from pansharp_bench.scene import load_dataset

    folds = load_dataset(dataset, shared.data, shared.label).folds()
    if not folds:
        raise BenchError(
            f"--each-fold: dataset {dataset!r} has no part that could be held out in its test's place"
        )
    return folds


def _print_json(records: Sequence[Record], results: Path) -> None:
    kept = ("images", "mean", "std", "missing")
    print_json(
        {
            "record": str(r.path(results)),
            **in_brief(r.spec),
            "protocols": {name: {k: scored[k] for k in kept} for name, scored in r.protocols.items()},
        }
        for r in records
    )
