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
    check_settable,
    completes,
    names_of,
    read_seeds,
    run_options,
    running,
    say,
    set_option,
)
from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    from pansharp_bench.sweep import Ended, Job

_FORMS: dict[str, tuple[Any, type, str]] = {
    "methods": (list, str, "a list of names"),
    "datasets": (list, str, "a list of names"),
    "seeds": (list, int, "a list of whole numbers"),
    "preset": (str, str, "a name"),
    "options": (dict, object, "a table, {name = value}"),
    "resources": (dict, object, "a table, {name = amount}"),
}
"""What a key of a file holds: its kind, that of its elements, and both in words."""


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
@click.option("--seeds", callback=read_seeds, metavar="A,B", help="A run for each [default: 0].")
@set_option("Of every method; NAME=V1,V2 runs with each value.")
@click.option(
    "--resource",
    "resources",
    multiple=True,
    metavar="NAME=AMOUNT",
    help="What each run takes: GPU=1, memory=8GB; may be repeated.",
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
@run_options("nodes")
def sweep(
    file: Path | None,
    methods: list[str],
    datasets: list[str],
    seeds: list[int] | None,
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

    Flags or a TOML file say what to run; a flag replaces what the file says. The file's keys are methods, datasets,
    seeds, preset, options and resources; it may have several [[runs]] of them, with the values above as defaults.
    An option with a list of values makes one run for each.

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
        "resources": dict(map(_named, resources)),
        "preset": shared.preset,
    }
    given = {key: value for key, value in flags.items() if value}
    jobs = [job for block in _blocks(file, given) for job in _jobs(block, shared)]
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
    """What is to be crossed: the file's blocks, if there is one, over its defaults, and the flags over all."""
    told: dict[str, Any] = {}
    if file is not None:
        try:
            told = tomllib.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise BenchError(f"{file} is not TOML: {error}") from error
    own = told.pop("runs", [{}])
    if not (isinstance(own, list) and own and all(isinstance(block, dict) for block in own)):
        raise BenchError(f"{file}: runs is no list of tables: write [[runs]] above each")
    for block in (told, *own):
        _check(block, file)
    blocks = [_over(_over(_over({"seeds": [0]}, told), block), flags) for block in own]
    for block in blocks:
        if lacking := [key for key in ("methods", "datasets", "seeds") if not block.get(key)]:
            raise BenchError(f"no {' and no '.join(lacking)} to run: name them by flags or in the file")
    for block, whole in zip(own, blocks, strict=True):
        check_settable(whole["methods"], block.get("options", {}))
    everyone = [method for block in blocks for method in block["methods"]]
    check_settable(everyone, {**told.get("options", {}), **flags.get("options", {})})
    return blocks


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both, ``above`` where they differ; of tables each name."""
    tables = {k: {**below.get(k, {}), **v} for k, v in above.items() if isinstance(v, dict)}
    return {**below, **above, **tables}


def _check(block: dict[str, Any], file: Path | None) -> None:
    """Raises BenchError for what a file does not say in the form of :data:`_FORMS`."""
    for key, value in block.items():
        if key not in _FORMS:
            raise BenchError(f"{file}: unknown key {key!r}; known are: {', '.join(_FORMS)} and [[runs]]")
        kind, element, form = _FORMS[key]
        if not isinstance(value, kind) or not all(isinstance(x, element) for x in value):
            raise BenchError(f"{file}: {key} = {value!r} is not {form}")
    if empty := [name for name, value in block.get("options", {}).items() if value == []]:
        raise BenchError(f"{file}: option {empty[0]} has no value to run with")


def _jobs(block: dict[str, Any], shared: RunOptions) -> list[Job]:
    from pansharp_bench.sweep import Job, amount

    shared = replace(shared, preset=block.get("preset"))
    options = block.get("options", {})
    resources = {name: amount(value) for name, value in block.get("resources", {}).items()}
    values = [v if isinstance(v, list) else [v] for v in options.values()]
    return [
        Job(shared.row(method, dataset, {}, dict(zip(options, chosen, strict=True)), seed), resources)
        for method, dataset, *chosen, seed in product(
            block["methods"], block["datasets"], *values, block["seeds"]
        )
    ]


def _named(text: str) -> tuple[str, str]:
    name, _, amount = text.partition("=")
    if not (name and amount):
        raise BenchError(f"--resource {text!r} is not of the form NAME=AMOUNT, e.g. GPU=1")
    return name, amount


def _summarise(ended: list[Ended]) -> int:
    """Print what became of the runs; gives the number of failures."""
    counts = Counter(one.state for one in ended)
    if not ended:
        return 0
    click.echo(f"{len(ended)} runs: {', '.join(f'{n} {state}' for state, n in counts.most_common())}")
    for one in ended:
        where = f": {one.reason} (log: {one.log})" if one.state == "failed" else f"  {one.record}"
        click.echo(f"{one.state:8}  {one.name}{where}")
    return counts["failed"]
