"""What variants of a paired network's training step gain: `bench speed` times the usual one, and inference.

    python benchmarks/paired.py [--methods canconv,pnn] [--device cpu] [--threads 2] [--out paired.json]

The learner's own step on 64 x 64 patches, batch 32. Every case runs in a process of its own, so that its peak
memory is its own: on CUDA what was allocated, on the CPU how much the process grew. CANConv's step is timed with
kept partitions (most epochs) and with k-means from scratch, each beside the straightforward formulation
(``_plain_canconv.py``), which gives the same outputs. On CUDA bf16 autocast, channels-last and compiled steps are
timed too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import sys
from pathlib import Path
from typing import Any

import click
import torch
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).parent))
from _plain_canconv import plain

from pansharp_bench.contract import InMemory
from pansharp_bench.method import build, resolve_config
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import as_sensor
from pansharp_bench.speed import timed
from pansharp_bench.training import PairedData, Trainer

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "fp32": ("32-true", {}),
    "bf16": ("bf16-mixed", {}),
    "bf16, channels-last": ("bf16-mixed", {"channels_last": True}),
    "bf16, compiled": ("bf16-mixed", {"compile": True}),
}


def memory(cuda: bool) -> float:
    """Peak MiB so far."""
    if cuda:
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(case: dict[str, Any]) -> dict[str, Any]:
    """One case, in a fresh process."""
    cuda = case["device"] == "cuda"
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    entry, data = METHODS.get(case["method"]), InMemory(as_sensor(case["sensor"]), case["batch"], 64)
    precision, options = VARIANTS[case["variant"]]
    config = resolve_config(entry, "paper", {"augment": "none", "batch": case["batch"], **options})
    method = build(entry, data.sensor, config).to(case["device"])
    if case["formulation"] == "plain":
        plain(method.net)
    before = memory(cuda)
    trainer = Trainer(None, case["device"], precision, progress=False)
    paired = PairedData(data.sensor, data, data, trainer.device)
    learner = method.learner(paired, trainer, 1000)
    if config.channels_last:
        method.net.to(memory_format=torch.channels_last)
    if config.compile:
        method.net.compile()
    learner.networks = {k: trainer.fabric.setup_module(n) for k, n in learner.networks.items()}
    learner.optimizers = {k: trainer.fabric.setup_optimizers(o) for k, o in learner.optimizers.items()}

    def step() -> None:
        learner.at = 10 if case["partitions"] == "kept" else 0  # the 11th epoch, and the first
        learner.step(trainer.fabric.backward)

    if case["partitions"] == "kept":
        learner.step(trainer.fabric.backward)
    for _ in range(2):  # which do not count
        step()
    seconds, processor = timed(step, trainer.device, case["repeat"])
    taken = {"ms": 1e3 * seconds} | ({} if processor is None else {"cpu_ms": 1e3 * processor})
    taken["images_per_second"] = 1e3 * case["batch"] / taken["ms"]
    taken["peak_mib"] = memory(cuda) - (0 if cuda else before)
    return case | taken


def cases(methods: list[str], shared: dict[str, Any]) -> list[dict[str, Any]]:
    made = []
    cuda = shared["device"] == "cuda"
    for name in methods:
        common = shared | {"method": name, "variant": "fp32", "formulation": "fast", "partitions": ""}
        for variant in VARIANTS if cuda else ("fp32",):
            train = common | {"variant": variant}
            if name != "canconv":
                made.append(train)
                continue
            for formulation in ("fast", "plain") if variant == "fp32" else ("fast",):
                made += [
                    train | {"formulation": formulation, "partitions": p} for p in ("kept", "from scratch")
                ]
    return made


@click.command(help=__doc__.partition("\n")[0])
@click.option("--methods", default="", help="Comma-separated; default all paired ones.")
@click.option("--sensor", default="qb", show_default=True)
@click.option("--device", default="cuda" if torch.cuda.is_available() else "cpu", show_default=True)
@click.option("--threads", default=os.cpu_count(), show_default=True)
@click.option("--batch", default=32, show_default=True)
@click.option(
    "--repeat", default=0, help="Runs that the median is taken of; default 20 on CUDA, 3 on the CPU."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write figures as JSON.")
def main(
    methods: str, sensor: str, device: str, threads: int, batch: int, repeat: int, out: Path | None
) -> None:
    names = methods.split(",") if methods else METHODS.names(training="paired")
    shared = {
        "sensor": sensor, "device": device, "threads": threads, "batch": batch,
        "repeat": repeat or (20 if device == "cuda" else 3),
    }  # fmt: skip
    stated = {
        "machine": torch.cuda.get_device_name() if device == "cuda" else f"CPU, {platform.machine()}",
        "threads": threads, "load": round(os.getloadavg()[0], 1), "torch": torch.__version__,
    }  # fmt: skip
    figures: list[dict[str, Any]] = []
    spawn = multiprocessing.get_context("spawn")
    for case in cases(names, shared):
        with spawn.Pool(1) as pool:
            try:
                figures.append(pool.apply(measure, (case,)))
            except (
                Exception
            ) as error:  # one case that fails (no compiler, no memory) must not cost the others
                figures.append(case | {"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        show(figures[-1])
        if out:
            out.write_text(json.dumps({"conditions": stated, "figures": figures}, indent=1) + "\n")
    print(", ".join(f"{k}: {v}" for k, v in stated.items()), end="\n\n")
    print(table(figures))
    print(speedups(figures))


def label(f: dict[str, Any]) -> str:
    return ", ".join(x for x in (f["variant"], f["formulation"], f["partitions"]) if x)


def show(f: dict[str, Any]) -> None:
    taken = f["error"] if "error" in f else f"{f['ms']:.1f} ms"
    print(f"{f['method']}: {label(f)}: {taken}", file=sys.stderr, flush=True)


def table(figures: list[dict[str, Any]]) -> str:
    def cell(f: dict[str, Any], key: str, digits: int) -> str:
        return f"{f[key]:.{digits}f}" if key in f else ""

    rows = [
        [f["method"], f.get("error") or label(f), cell(f, "ms", 1), cell(f, "cpu_ms", 1),
         cell(f, "images_per_second", 1), cell(f, "peak_mib", 0)]
        for f in figures
    ]  # fmt: skip
    heads = ["method", "case", "ms", "CPU ms", "images/s", "peak MiB"]
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True)


def speedups(figures: list[dict[str, Any]]) -> str:
    clock = "cpu_ms" if any("cpu_ms" in f for f in figures) else "ms"
    found = {
        (f["partitions"], f["formulation"]): f[clock]
        for f in figures
        if (f["method"], f["variant"]) == ("canconv", "fp32") and clock in f
    }
    lines = [
        f"CANConv, partitions {p}: {found[p, 'plain'] / found[p, 'fast']:.2f} times as fast as the plain step"
        for p in ("kept", "from scratch")
        if (p, "plain") in found and (p, "fast") in found
    ]
    return "\n".join(["", *lines])


if __name__ == "__main__":
    main()
