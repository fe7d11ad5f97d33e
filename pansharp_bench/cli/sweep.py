"""``bench sweep``: many runs, on the processes of this machine or on a Dask cluster."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import (
    RunOptions,
    completes,
    names_of,
    run_options,
    running,
    say,
    seeds_option,
    set_option,
)
from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    from pansharp_bench.sweep import Ended, Job

_KINDS: dict[str, type] = {
    "methods": list, "datasets": list, "seeds": list, "preset": str, "options": dict, "resources": dict
}  # fmt: skip


@click.command(short_help="Carry out many runs side by side, on Dask.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option(
    "--method",
    "methods",
    shell_complete=completes("METHODS"),
    multiple=True,
    callback=names_of,
    help="Comma-separated; may be repeated.",
)
@click.option(
    "--dataset",
    "datasets",
    shell_complete=completes("DATASETS"),
    multiple=True,
    callback=names_of,
    help="Comma-separated; may be repeated.",
)
@seeds_option
@set_option("Of every method; NAME=V1,V2 runs with each value.")
@click.option(
    "--resource", "resources", multiple=True, metavar="NAME=AMOUNT", help="What each run takes: GPU=1."
)
@click.option(
    "--scheduler", default="", metavar="ADDRESS", help="Of a running Dask scheduler: tcp://host:8786."
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes on this machine [default: one for every GPU, or processor].",
)
@click.option(
    "--memory",
    default="",
    metavar="SIZE",
    help="Of each process on this machine, e.g. 8GB [default: its share].",
)
@click.option(
    "--retries",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="How often a run is tried again that lost its worker.",
)
@click.option(
    "--dry-run", is_flag=True, help="Only say which runs are missing, and about how long they take."
)
@run_options
def sweep(
    file: Path | None,
    methods: list[str],
    datasets: list[str],
    seeds: list[int],
    options: dict[str, str],
    resources: tuple[str, ...],
    scheduler: str,
    workers: int | None,
    memory: str,
    retries: int,
    dry_run: bool,
    shared: RunOptions,
) -> None:
    """Run methods × datasets × seeds × options, those without a record; what was begun is resumed.

    Flags or a TOML file say what to run. The file's keys are methods, datasets, seeds, preset, options and
    resources; it may have several [[runs]] of them, with the values above as defaults. An option with a list of
    values makes one run for each.

    \b
    bench sweep --method sp-i2i,cut --dataset qb-sim,gf2-sim --seeds 0,1,2
    bench sweep sweep.toml --workers 4 --memory 8GB
    bench sweep sweep.toml --scheduler tcp://login1:8786
    """
    from pansharp_bench.cli.records import tell
    from pansharp_bench.sweep import SweepStopped
    from pansharp_bench.sweep import sweep as carry_out

    flags = {
        "methods": methods,
        "datasets": datasets,
        "seeds": seeds,
        "options": {name: value.split(",") for name, value in options.items()},
        "resources": dict(map(_amount, resources)),
    }
    if shared.preset:
        flags["preset"] = shared.preset
    jobs = [job for block in _blocks(file, flags) for job in _jobs(block, shared)]
    if dry_run:
        tell([job.spec for job in jobs], shared.results)
        return
    try:
        with running():
            ended = carry_out(
                jobs,
                shared.results,
                shared.runs,
                scheduler=scheduler,
                workers=workers or 0,
                memory=memory,
                retries=retries,
                pictures=shared.pictures,
                plugins=shared.plugins,
                progress=shared.progress,
                say=say,
            )
    except SweepStopped as stop:
        _summarise(stop.ended)
        click.echo(f"{stop}; the same command goes on", err=True)
        raise SystemExit(130) from None
    if _summarise(ended):
        raise SystemExit(1)


def _blocks(file: Path | None, flags: dict[str, Any]) -> list[dict[str, Any]]:
    """What is to be crossed: the flags or, with what they leave open taken from the flags, the file's blocks."""
    if file is None:
        blocks = [flags]
    else:
        try:
            told = tomllib.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BenchError(f"{file} is not TOML: {error}") from error
        own = told.pop("runs", [{}])
        blocks = [flags | told | block for block in own]
    for block in blocks:
        for key, value in block.items():
            if key not in _KINDS:
                raise BenchError(f"{file}: unknown key {key!r}; known are: {', '.join(_KINDS)} and [[runs]]")
            if not isinstance(value, _KINDS[key]):
                raise BenchError(f"{file}: {key} = {value!r} is not a {_KINDS[key].__name__}")
        if lacking := [key for key in ("methods", "datasets", "seeds") if not block[key]]:
            raise BenchError(f"no {' and no '.join(lacking)} to run: name them by flags or in the file")
    return blocks


def _jobs(block: dict[str, Any], shared: RunOptions) -> list[Job]:
    from pansharp_bench.sweep import Job

    shared = replace(shared, preset=block.get("preset"))
    values = [v if isinstance(v, list) else [v] for v in block["options"].values()]
    return [
        Job(
            shared.row(method, dataset, {}, dict(zip(block["options"], chosen, strict=True)), seed),
            block["resources"],
        )
        for method, dataset, *chosen, seed in product(
            block["methods"], block["datasets"], *values, block["seeds"]
        )
    ]


def _amount(text: str) -> tuple[str, float]:
    name, _, amount = text.partition("=")
    try:
        return name, float(amount)
    except ValueError:
        raise BenchError(f"--resource {text!r} is not of the form NAME=AMOUNT, e.g. GPU=1") from None


def _summarise(ended: list[Ended]) -> int:
    """Print what became of the runs; gives the number of failures."""
    counts = Counter(one.state for one in ended)
    click.echo(f"{len(ended)} runs: {', '.join(f'{n} {state}' for state, n in counts.most_common())}")
    for one in ended:
        where = f": {one.reason} (log: {one.log})" if one.state == "failed" else f"  {one.record}"
        click.echo(f"{one.state:8}  {one.name}{where}")
    return counts["failed"]
