"""``bench speed``: how fast methods, metrics and commands are on this machine, and how fast they could be."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pansharp_bench.cli.options import comma_separated, plugin_option, results_option, say, set_option
from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    from pansharp_bench.timings import Figure, Kind, Speeds

KINDS: tuple[Kind, ...] = ("inference", "step", "metric", "segments", "scenes", "records")
OF_METHODS: tuple[Kind, ...] = ("inference", "step", "scenes")


@click.command(short_help="Time methods, metrics and commands on this machine; tables show these speeds.")
@comma_separated("--only", "only", f"Some of {', '.join(KINDS)}.")
@comma_separated("--method", "methods", "These methods, and nothing else.")
@set_option("Fuse with this option in each preset of --method, e.g. levels=6; may be repeated.")
@click.option("--quick", is_flag=True, help="Small images, one repeat: whether all runs, in a minute or two.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N.")
@click.option("--threads", type=click.IntRange(1), help="On the CPU; as many as usual by default.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
@results_option
@plugin_option
def speed(
    only: list[str] | None,
    methods: list[str] | None,
    options: dict[str, str],
    quick: bool,
    device: str,
    threads: int | None,
    quiet: bool,
    results: Path,
) -> None:
    """Time one image fused by every method, a training step of those that take steps, every metric, segments cut
    from a map, a scene fused from files, and tables of a thousand records, beside the least that this machine could
    take.

    The result is written below the records, as results/speed/MACHINE.json; leaderboards show these milliseconds
    instead of those of runs, beside which other processes may have been busy.

    \b
    bench speed
    bench speed --quick --results /tmp/speeds
    bench speed --only inference --method gsa,pannet --threads 1
    bench speed --method sp-i2i --set levels=6
    """
    import torch

    from pansharp_bench import speed as speeds
    from pansharp_bench import timings
    from pansharp_bench.cli.records import lasting
    from pansharp_bench.training.loop import choose_device

    if unknown := [k for k in only or () if k not in KINDS]:
        raise BenchError(f"--only {unknown[0]} is unknown; known are: {', '.join(KINDS)}")
    if options and not methods:
        raise BenchError("--set changes options of methods: name them with --method")
    flag, timed = ("--set", OF_METHODS[:1]) if options else ("--method", OF_METHODS if methods else KINDS)
    kinds = [k for k in timed if not only or k in only]
    if not kinds:
        raise BenchError(f"{flag} goes with {', '.join(timed)}, of which --only leaves none")
    if threads:
        torch.set_num_threads(threads)
    chosen = choose_device(device)
    known = speeds.expected_seconds(results, chosen, kinds)
    took = (
        f"took {lasting(known)} last time"
        if known
        else "was not measured here before: some minutes, or --quick"
    )
    say(f"{', '.join(kinds)}: {took}")
    extent = speeds.QUICK if quick else speeds.Extent()
    for kind in kinds:  # what was measured is kept where the rest is cut off
        if why := speeds.why_not(kind, chosen, results):
            say(f"{kind}: not timed, {why}")
            continue
        bar = not quiet and sys.stderr.isatty()
        found = speeds.measure(chosen, [kind], extent, methods or (), bar, results, options)
        _show(found)
        if not quick:
            say(f"wrote {timings.write(found, results)}")
    if quick:
        say("--quick: too little to be kept, so nothing is written")


def _rates(figure: Figure) -> list[str]:
    """Megapixels a second, and a processor second."""
    megapixels = figure.batch * figure.pixels / 1e6
    return [
        f"{megapixels / s:.2f}" if s and megapixels else ""
        for s in (figure.seconds, figure.processor_seconds)
    ]


def merged(figures: Sequence[Figure]) -> Iterator[Figure]:
    """Presets that were timed as one are one line."""
    for line, alike in groupby(figures, lambda f: replace(f, preset="", options={}, apart=())):
        yield replace(line, preset=", ".join(f.preset for f in alike))


def _show(found: Speeds) -> None:
    from tabulate import tabulate

    rows = [
        [
            f.kind,
            f.name,
            ", ".join([f.preset, *f.changed]),
            f"{f.batch} x {f.channels} x {round(f.pixels**0.5)}²" if f.pixels else f"{f.batch} records",
            f.failed or f"{1e3 * f.seconds:.2f}",
            f"{1e3 * f.floor:.3f}" if f.floor else "",
            f"{f.floor / f.seconds:.1%}" if f.floor and f.seconds else "",
            *_rates(f),
            f"{f.mib:.0f}" if f.mib else "",
        ]
        for f in merged(found.figures)
    ]
    headers = ["", "name", "preset", "of", "ms", "floor", "of it", "MP/s", "MP/processor s", "MiB"]
    filled = [k for k in range(len(headers)) if any(row[k] for row in rows)]
    rows = [[row[k] for k in filled] for row in rows]
    click.echo(tabulate(rows, [headers[k] for k in filled], disable_numparse=True))
    rates = f"{found.rates.operations / 1e9:,.0f} GFLOP/s, {found.rates.bytes / 1e9:,.1f} GB/s"
    say(f"{found.machine}: {rates}")
    if company := max((f.others for f in found.figures if not f.alone and f.others), default=0.0):
        of = f"{company:.1f} of {found.conditions['cores']} cores"
        click.secho(
            f"! other processes kept {of} busy: tables will not take these times, but earlier ones that were "
            "measured alone, if any",
            fg="yellow",
            err=True,
        )
