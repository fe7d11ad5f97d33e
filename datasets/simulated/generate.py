"""Make a simulated sensor's files once, in the cache, and find them again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pansharp_bench.datasets.simulated import worker
from pansharp_bench.datasets.simulated.acquire import Optics
from pansharp_bench.datasets.simulated.sizes import SIZES, Size, file_name, place
from pansharp_bench.datasets.simulated.spectra import CAMERAS
from pansharp_bench.errors import BenchError
from pansharp_bench.files import made_once
from pansharp_bench.imaging import interp23, wald_degrade
from pansharp_bench.scene import SPLITS, Sensor, SplitName

PATCH = 64


def ready(sensor: Sensor, seed: int, size: str) -> Path:
    """The folder of a simulated sensor's files; makes them if they are not in the cache. Raises BenchError when
    the cache cannot be written."""
    return made_once(
        place(sensor, seed, size), lambda folder: make(sensor, seed, SIZES[size], folder), "simulated scenes"
    )


def scenes(sensor: str, seed: int, size: Size) -> list[tuple[SplitName, int, str]]:
    """All scenes to make: split, index, kind of landscape. Each split holds the camera's mix of kinds."""
    mix = CAMERAS[sensor].mix
    weights = np.array(list(mix.values()), float)
    out = []
    for split in SPLITS:
        n = getattr(size, split)
        kinds = np.array(list(mix))[
            np.searchsorted(weights.cumsum(), (np.arange(n) + 0.5) / n * weights.sum())
        ]
        order = worker.rng_of(sensor, seed, split).permutation(n)
        out += [(split, i, str(kinds[k])) for i, k in enumerate(order)]
    return out


def make(sensor: Sensor, seed: int, size: Size, folder: Path, splits: tuple[SplitName, ...] = SPLITS) -> None:
    """Make the files of these splits in a folder."""
    work = folder / "work"
    work.mkdir(parents=True)
    todo = [s for s in scenes(sensor.name, seed, size) if s[0] in splits]
    optics = Optics(sensor.name, sensor.peak, sensor.mtf, sensor.mtf_pan)
    _run_workers(work, {"optics": optics._asdict(), "seed": seed, "scenes": todo})
    for split in splits:
        found = (np.load(work / f"{s}-{i}.npz") for s, i, _ in todo if s == split)
        path = folder / file_name(sensor, split)
        with h5py.File(path, "w", libver="earliest") as file:
            at = 0
            for index, arrays in enumerate(found):
                rng = worker.rng_of(sensor.name, seed, split, index, 1)
                samples = _samples(sensor, split, size, arrays, rng)
                for key, x in samples.items():
                    if not index:
                        shape = (size.samples()[split], *x.shape[1:])
                        file.create_dataset(key, shape, "f4", track_times=False)
                    file[key][at : at + len(x)] = quantised(x).numpy()
                at += len(samples["pan"])
        with open(path, "rb+") as raw:
            os.fsync(raw.fileno())
    shutil.rmtree(work)


def _samples(
    sensor: Sensor, split: SplitName, size: Size, arrays: dict[str, np.ndarray], rng: np.random.Generator
) -> dict[str, Tensor]:
    """The samples (N, C, H, W) of one acquisition, in the order and form the protocol of the split asks for."""
    full = {k: torch.from_numpy(arrays[k].astype(np.float64))[None] for k in arrays}
    if split == "full":
        return {"gt": full["gt"], "lms": interp23(full["ms"], sensor), "ms": full["ms"], "pan": full["pan"]}
    low = wald_degrade(full["ms"], full["pan"], sensor)
    ms = quantised(low.ms)
    whole = {"gt": full["ms"], "lms": interp23(ms, sensor), "ms": ms, "pan": low.pan}
    if split == "reduced":
        return whole
    ratio, height = sensor.ratio, full["ms"].shape[-1]
    across = int(np.ceil(np.sqrt(size.patches)))
    start = np.round(np.linspace(0, (height - PATCH) / ratio, across)).astype(int) * ratio
    chosen = sorted(rng.permutation(across**2)[: size.patches])

    def cut(x: Tensor, r: int) -> Tensor:
        corners = [(start[k // across] // r, start[k % across] // r) for k in chosen]
        return torch.cat([x[..., v : v + PATCH // r, u : u + PATCH // r] for v, u in corners])

    return {k: cut(x, ratio if k == "ms" else 1) for k, x in whole.items()}


def quantised(x: Tensor) -> Tensor:
    """The nearest multiples of 1/64 DN, which float32 holds exactly.

    Up to here processors differ by 3e-14 to 1e-13 DN on average (4e-12 at most), so an edge of this rounding lies
    between for some 10^-12 of the values, of which a set has 10^8. Float32's own edges are hundreds of times as
    dense. Means of whole numbers (PAN's bicubic weights are multiples of 2^-24) lie on edges by construction, so
    values are first brought to a step finer than those multiples and coarser than what processors differ by.
    """
    return ((x * 2**30).round() / 2**24).round() / 2**6


def _run_workers(folder: Path, plan: dict) -> None:
    total, name = len(plan["scenes"]), f"{plan['optics']['sensor']}-sim"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = max(1, min(cores, total, 32))
    (folder / "plan.json").write_text(json.dumps({**plan, "parts": parts}), encoding="utf-8")
    # one thread each: the work is split by scenes, and sums must not depend on the number of cores
    single = {f"{k}_NUM_THREADS": "1" for k in ("OMP", "OPENBLAS", "MKL")}
    logs = [folder / f"worker-{i}.log" for i in range(parts)]
    workers = []
    shown = sys.stderr.isatty()
    if not shown:
        print(f"simulating {total} scenes of {name} (once; kept in {folder.parents[1]})", file=sys.stderr)
    try:
        for i, log in enumerate(logs):
            with open(log, "w", encoding="utf-8") as errors:
                command = [sys.executable, "-m", worker.__name__, str(folder), str(i)]
                workers.append(subprocess.Popen(command, env={**os.environ, **single}, stdin=subprocess.DEVNULL,
                                                stdout=subprocess.DEVNULL, stderr=errors))  # fmt: skip
        with tqdm(
            total=total, unit="scene", desc=f"simulating {name} (once)", leave=False, disable=not shown
        ) as bar:
            while any(w.poll() is None for w in workers) and not any(w.returncode for w in workers):
                time.sleep(0.1)
                bar.update(len(list(folder.glob("*.npz"))) - bar.n)
        for w, log in zip(workers, logs, strict=True):
            if w.returncode:
                why = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [
                    f"exit code {w.returncode}"
                ]
                raise BenchError(f"simulating {name} failed: {why[-1]}")
    finally:
        for w in workers:
            if w.poll() is None:
                w.terminate()
            w.wait()
