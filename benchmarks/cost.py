"""What trainings cost in arithmetic, whatever the machine: for docs/scale.md.

    python benchmarks/cost.py [--preset paper] [--methods sp-i2i,pnn] [--rate 1e14]

The operations that ``bench speed`` counts, of a training step of two 64 x 64 samples and of one 256 x 256 image,
times the samples that a preset sees. A multiplication and an addition are two operations. A step of a bridge calls
its generator as often as the time that it draws asks for: theirs is of the first draw. Hours are those at a rate
that a device keeps up, for the reader to say: a tenth to a third of what its maker prints.
"""

from __future__ import annotations

import sys

import click
import torch
from tabulate import tabulate

from pansharp_bench.presets import options_of, takes_steps
from pansharp_bench.registry import METHODS
from pansharp_bench.speed import Extent, measure


def operations(name: str, preset: str) -> tuple[float, float]:
    """Of a sample learnt from, and of a pixel fused."""
    extent = Extent(256, 64, 2, 1, ("qb",), (preset,))
    figures = measure(torch.device("cpu"), ["inference", "step"], extent, [name]).figures
    if failed := [f.failed for f in figures if f.failed]:
        raise click.ClickException(f"{name}: {failed[0]}")
    fused, step = figures
    return step.operations / step.batch, fused.operations / fused.pixels


@click.command()
@click.option("--methods", help="Comma-separated; all that are trained step by step.")
@click.option("--preset", default="paper", show_default=True)
@click.option("--rate", default=1e14, show_default=True, help="Operations a second.")
@click.option(
    "--samples", default=17139, show_default=True, help="Of a training set; PanCollection's QuickBird."
)
def main(methods: str | None, preset: str, rate: float, samples: int) -> None:
    known = [e.name for e in METHODS.entries(tracks="pansharpening") if takes_steps(e)]
    rows = []
    for name in methods.split(",") if methods else known:
        options = options_of(METHODS.get(name)).settle(preset)
        seen = options["steps"] * options["batch"] or options["epochs"] * samples
        sample, pixel = operations(name, preset)
        numbers = (seen / 1e6, sample / 1e9, sample * seen / 1e15, sample * seen / rate / 3600, pixel / 1e6)
        rows.append([name, *(f"{n:.3g}" for n in numbers)])
        print(rows[-1], file=sys.stderr, flush=True)
    head = ["method", "million samples", "Gop a sample", "Pop a training", "hours", "Top a megapixel fused"]
    print(tabulate(rows, head, "github", disable_numparse=True))


if __name__ == "__main__":
    main()
