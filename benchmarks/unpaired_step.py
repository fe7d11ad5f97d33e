"""Time one training step of UNSB, CUT and SP-I2I against the plain formulation (``_plain_unpaired.py``).

    python benchmarks/unpaired_step.py --out unpaired_step.json

Plain and fast steps alternate on the same draws, for every time index of the bridge equally often, so that the
machine's other load meets both alike. A variant's time is the mean over time indices of its median; its speed-up
the ratio to the plain step's. On CUDA the fast step is also timed under bf16 autocast, channels-last, as CUDA
graphs (one per time index) and, with ``--compile``, compiled, which first takes each case minutes: up to fourteen
graphs. Tests hold both formulations to equal losses and gradients.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import _plain_unpaired as plain

from pansharp_bench import speed
from pansharp_bench.methods.cut import CUTLearner
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import as_sensor
from pansharp_bench.training import Trainer

CASES = ((64, 8), (64, 16), (256, 1))
CPU_VARIANTS = ("fast",)
CUDA_VARIANTS = (
    "fast",
    "bf16",
    "bf16+channels-last",
    "bf16+graph",
    "bf16+channels-last+graph",
)


def make_learner(name: str, side: int, batch: int, variant: str, device: str, options: dict[str, Any]) -> Any:
    """A learner ready to step, of the published size."""
    entry, sensor = METHODS.get(name), as_sensor("qb")
    config = entry.obj.configure("paper", options | {"batch": batch, "nce_patches": 256})
    method = entry.obj(sensor, config).to(device)
    precision = "bf16-mixed" if "bf16" in variant else "32-true"
    trainer = Trainer(None, device, precision, seed=0, progress=False)
    data = SimpleNamespace(sensor=sensor, patch_size=(side, side))
    learner = method.learner(data, trainer)
    if "graph" in variant:  # a graph's learning rate lives on the device
        for key, network in learner.networks.items():
            rate = torch.tensor(config.lr, device=device)
            betas = (config.beta1, config.beta2)
            learner.optimizers[key] = torch.optim.Adam(
                network.parameters(), rate, betas, fused=True, capturable=True
            )
    for network in learner.networks.values():
        if "channels-last" in variant:
            network.to(memory_format=torch.channels_last)
        if "compile" in variant:
            network.compile()
    learner.networks = {k: trainer.fabric.setup_module(n) for k, n in learner.networks.items()}
    return learner


def make_draws(learner: Any, side: int, batch: int) -> list[Any]:
    """One draw for each time index; CUT has none, so there several draws."""
    channels, device = learner.data.sensor.channels, learner.device
    count = learner.config.timesteps if hasattr(learner.config, "timesteps") else 3
    draws = []
    for index in range(count):
        pan = torch.rand(2 * batch, 1, side, side, device=device).expand(-1, channels, -1, -1) * 2 - 1
        ms = torch.rand(batch, channels, side, side, device=device) * 2 - 1
        if isinstance(learner, CUTLearner):
            learner.images = lambda sources, targets, a=pan, b=ms: (a[:sources], b)
            draws.append(learner.draw())
        else:
            start = torch.cat((pan[:batch], ms, pan[batch:])) if learner.contrasted == 2 else pan.contiguous()
            draws.append(learner.noise(index, start, ms))
    return draws


def captured(learner: Any, draws: list[Any]) -> list[Callable[[], None]]:
    """The step on each draw as a CUDA graph: replaying one runs the step on the tensors of its draw."""

    def learn(draw: Any) -> None:
        learner.learn(draw, learner.trainer.fabric.backward)

    side_stream = torch.cuda.Stream()
    side_stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side_stream):
        for _ in range(3):
            for draw in draws:
                learn(draw)
    torch.cuda.current_stream().wait_stream(side_stream)
    graphs, pool = [], None
    for draw in draws:
        for network in learner.networks.values():
            network.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            learn(draw)
        pool = graph.pool()
        graphs.append(graph.replay)
    return graphs


def channels_last(draw: Any) -> Any:
    """The same draw with its images stored channels-last."""
    images = {
        f.name: getattr(draw, f.name).contiguous(memory_format=torch.channels_last)
        for f in fields(draw)
        if isinstance(getattr(draw, f.name), Tensor) and getattr(draw, f.name).ndim == 4
    }
    return replace(draw, **images)


def timed(run: Callable[[], Any], device: str) -> tuple[float, float]:
    """Seconds on the wall, and of processor time (which other load on the machine disturbs less)."""
    seconds, processor = speed.timed(run, torch.device(device), repeats=1)
    return seconds, processor or 0.0


def per_step(samples: list[list[float]]) -> float:
    """Mean over draws of the median over repeats."""
    return statistics.mean(map(statistics.median, samples))


def measure(
    name: str, side: int, batch: int, device: str, repeats: int, options: dict[str, Any],
    variants: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Seconds per step of the plain formulation and of each variant."""
    first = make_learner(name, side, batch, "fast", device, options)
    draws = make_draws(first, side, batch)
    c = first.config
    networks = plain.plain_networks({k: n.module for k, n in first.networks.items()}, c, 4)
    optimizers = plain.plain_optimizers(networks, c)

    def plain_step(draw: Any) -> None:
        if isinstance(first, CUTLearner):
            plain.cut_step(networks, optimizers, c, draw)
        else:
            plain.bridge_step(networks, optimizers, c, draw, first.bridge.times)

    runs: dict[str, list[Callable[[], Any]]] = {"plain": [lambda d=d: plain_step(d) for d in draws]}
    failed: dict[str, str] = {}
    for variant in variants:
        try:
            learner = (
                first if variant == "fast" else make_learner(name, side, batch, variant, device, options)
            )
            own = [channels_last(d) for d in draws] if "channels-last" in variant else draws
            if "graph" in variant:
                runs[variant] = captured(learner, own)
            else:
                backward = learner.trainer.fabric.backward
                runs[variant] = [lambda d=d, le=learner, bw=backward: le.learn(d, bw) for d in own]
            for run in runs[variant]:  # warm up: algorithms chosen, code compiled
                timed(run, device)
        except Exception as error:  # one variant that does not run must not cost the others
            runs.pop(variant, None)
            failed[variant] = f"{type(error).__name__}: {error}"[:300]
    for run in runs["plain"]:
        timed(run, device)
    wall: dict[str, list[list[float]]] = {k: [[] for _ in draws] for k in runs}
    used: dict[str, list[list[float]]] = {k: [[] for _ in draws] for k in runs}
    for _ in range(repeats):
        for k in range(len(draws)):
            for variant, steps in runs.items():
                seconds, processor = timed(steps[k], device)
                wall[variant][k].append(seconds)
                used[variant][k].append(processor)
    step = {k: per_step(v) for k, v in wall.items()}
    processor_step = {k: per_step(v) for k, v in used.items()}
    result = {
        "method": name, "side": side, "batch": batch, "repeats": repeats, "draws": len(draws),
        "seconds_per_step": step,
        "speed_up": {k: step["plain"] / v for k, v in step.items() if k != "plain"},
        "not_run": failed,
    }  # fmt: skip
    if device == "cpu":
        result["processor_seconds_per_step"] = processor_step
        result["processor_speed_up"] = processor_step["plain"] / processor_step["fast"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="on the CPU")
    parser.add_argument("--repeats", type=int, help="of every time index (default 3, on CUDA 20)")
    parser.add_argument("--methods", default="sp-i2i,unsb,cut,fastcut")
    parser.add_argument("--cases", default=",".join(f"{s}x{b}" for s, b in CASES), help="side x batch")
    parser.add_argument("--ngf", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--compile", action="store_true", help="time the compiled step too, on CUDA")
    args = parser.parse_args()
    if args.device == "cpu":
        torch.set_num_threads(args.threads)
    repeats = args.repeats or (20 if args.device == "cuda" else 3)
    variants = (*CUDA_VARIANTS, *["bf16+compile"] * args.compile) if args.device == "cuda" else CPU_VARIANTS
    options = {"ngf": args.ngf, "ndf": args.ngf, "blocks": args.blocks}
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or "CPU",
        "threads": torch.get_num_threads(), "cores": os.cpu_count(), "torch": torch.__version__,
        "ngf": args.ngf, "blocks": args.blocks, "load_before": os.getloadavg(), "cases": [],
    }  # fmt: skip
    for case in args.cases.split(","):
        side, batch = map(int, case.split("x"))
        for name in args.methods.split(","):
            result = measure(name, side, batch, args.device, repeats, options, variants)
            report["cases"].append(result)
            times = "  ".join(f"{k} {v * 1e3:.0f} ms" for k, v in result["seconds_per_step"].items())
            ratios = "  ".join(f"{k} {v:.2f}x" for k, v in result["speed_up"].items())
            if args.device == "cpu":
                ratios += f"  (processor time {result['processor_speed_up']:.2f}x)"
            print(f"{name:8} {side} px, batch {batch}: {times}  |  {ratios}", flush=True)
            for variant, why in result["not_run"].items():
                print(f"  {variant} did not run: {why}", flush=True)
            report["load_after"] = os.getloadavg()
            if args.out:
                args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
