"""What trainings cost in arithmetic, whatever the machine: for docs/scale.md.

    python benchmarks/cost.py [--preset paper] [--methods sp-i2i,pnn] [--rate 1e14]

A multiplication and an addition count as two operations, those of convolutions and matrix products that ran
(``FlopCounterMode``). Of a training: the difference between four steps and two of two 64 x 64 samples, so that
what is done once does not count, times the samples that the preset sees. Of inference: one 256 x 256 image. Hours
are those at a rate that a device keeps up, for the reader to say: a tenth to a third of what its maker prints.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import click
import torch
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

from pansharp_bench.contract import InMemory
from pansharp_bench.method import TrainedMethod, build, resolve_config
from pansharp_bench.presets import takes_steps
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import as_sensor
from pansharp_bench.training import PairedData, Trainer, UnpairedData


def spent(name: str, preset: str, steps: int) -> tuple[float, TrainedMethod]:
    """Operations of so many steps, and the method that took them."""
    entry = METHODS.get(name)
    few = {
        "steps": steps,
        "epochs": 0,
        "batch": 2,
        "validations": 1,
        "validate_on": 2,
        "augment": "none",
        "compile": False,
    }
    usual = asdict(resolve_config(entry, preset))
    config = resolve_config(entry, preset, {k: v for k, v in few.items() if k in usual})
    torch.manual_seed(0)
    train, valid = InMemory(as_sensor("qb"), 8, 64), InMemory(as_sensor("qb"), 4, 64)
    method = build(entry, train.sensor, config)
    trainer = Trainer(None, "cpu", "32-true", progress=False)
    of = PairedData if entry.card.training == "paired" else UnpairedData.halves
    with FlopCounterMode(display=False) as flops:
        method.fit(of(train.sensor, train, valid, trainer.device), trainer)
    return flops.get_total_flops(), method


def cost(name: str, preset: str, samples: int) -> dict[str, Any]:
    """``samples``: of a training set, for presets that count epochs."""
    first, _ = spent(name, preset, 2)
    second, method = spent(name, preset, 4)
    usual = asdict(resolve_config(METHODS.get(name), preset))
    scene = InMemory(as_sensor("qb"), 1, 256)[0]
    with FlopCounterMode(display=False) as flops, torch.inference_mode():
        method.eval().fuse(scene)
    seen = usual["steps"] * usual["batch"] or usual["epochs"] * samples
    return {
        "seen": seen,
        "sample": (second - first) / 4,
        "training": (second - first) / 4 * seen,
        "megapixel": flops.get_total_flops() * 1e6 / 256**2,
    }


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
        found = cost(name, preset, samples)
        rows.append(
            [
                name, f"{found['seen'] / 1e6:.3g}", f"{found['sample'] / 1e9:.3g}",
                f"{found['training'] / 1e15:.3g}", f"{found['training'] / rate / 3600:.3g}",
                f"{found['megapixel'] / 1e12:.3g}",
            ]
        )  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    head = ["method", "million samples", "Gop a sample", "Pop a training", "hours", "Top a megapixel fused"]
    print(tabulate(rows, head, "github"))


if __name__ == "__main__":
    main()
