"""``bench run``: one method on one dataset, from data to record."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from pansharp_bench.cli.options import plugin_option, results_option
from pansharp_bench.errors import BenchError


def _options(ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    parsed = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not of the form name=value")
        parsed[name.strip().replace("-", "_")] = value.strip()
    return parsed


@click.command()
@click.option("--method", required=True, help="Registered name, e.g. sp-i2i (see `bench list`).")
@click.option("--dataset", required=True, help="Registered name, e.g. qb, gf2, qb-sim.")
@click.option(
    "--data",
    envvar="PANSHARP_DATA",
    type=click.Path(path_type=Path),
    help="Folder of the data files (or PANSHARP_DATA). Without it the simulated sensor stands in.",
)
@click.option("--label", help="Name for files that are not the known originals: shown as <dataset>-<label>.")
@click.option("--preset", help="quick (default on CPU), standard (default on CUDA) or paper.")
@click.option(
    "--set",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_options,
    help="Change one option of the method's preset; may be repeated.",
)
@click.option("--seed", default=0, show_default=True, help="Of initial weights and every draw.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@click.option(
    "--precision", default="auto", show_default=True, help="auto: bf16-mixed on CUDA, 32-true on CPU."
)
@click.option("--weights", type=click.Path(path_type=Path), help="Weights file to use instead of training.")
@click.option("--resume", is_flag=True, help="Continue an interrupted training exactly where it stopped.")
@click.option("--force", is_flag=True, help="Replace the record of an earlier identical run.")
@click.option("--pictures", default=2, show_default=True, help="Scenes of each split to draw.")
@results_option
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder for checkpoints, logs and pictures.",
)
@click.option("--quiet", is_flag=True, help="No progress bars.")
@plugin_option
def run(
    method: str,
    dataset: str,
    data: Path | None,
    label: str | None,
    preset: str | None,
    options: dict[str, str],
    seed: int,
    device: str,
    precision: str,
    weights: Path | None,
    resume: bool,
    force: bool,
    pictures: int,
    results: Path,
    runs: Path,
    quiet: bool,
) -> None:
    """Train (where the method learns) and evaluate a method, and write its record.

    \b
    bench run --method sp-i2i --dataset qb
    bench run --method gsa --dataset gf2 --data ~/PanCollection
    bench run --method sp-i2i --dataset qb --preset quick --set levels=4 --seed 1
    """
    import warnings

    from pansharp_bench import experiment
    from pansharp_bench.training import Interrupted

    spec = experiment.RunSpec(method, dataset, preset, options, seed, label, data, weights, device, precision)

    def loud(message, category, filename, lineno, file=None, line=None) -> None:
        click.secho(f"! {message}", fg="yellow", bold=True, err=True)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = loud
            outcome = experiment.run(
                spec,
                results,
                runs,
                force=force,
                resume=resume,
                pictures=pictures,
                progress=not quiet and sys.stderr.isatty(),
                say=lambda text: click.echo(text, err=True),
            )
    except Interrupted as stop:
        click.echo(f"\n{stop}; the state is saved: run the same command with --resume", err=True)
        raise SystemExit(130) from None
    except OSError as error:
        raise BenchError(f"{error.strerror}: {error.filename}") from error
    _report(outcome)


def _report(outcome) -> None:
    from pansharp_bench.leaderboard import run_table

    record = outcome.record
    click.echo(f"\n{record.method['title'] or record.method['name']} on {record.dataset['name']}")
    click.echo(run_table(record))
    click.echo(f"\nrecord      {outcome.path}")
    if outcome.pictures:
        click.echo(f"pictures    {outcome.pictures[0].parent}{'/'} ({len(outcome.pictures)})")
    if outcome.checkpoint:
        click.echo(f"weights     {outcome.checkpoint}")
