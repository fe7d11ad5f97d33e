"""Make a simulated sensor's files once, in the cache, and find them again.

Scenes are independent: each has its own random stream, so files do not depend on how many processes made
them. Workers are plain processes of ``python -m pansharp_bench.datasets.simulated.generate``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pansharp_bench.datasets._files import cache_dir
from pansharp_bench.errors import BenchError
from pansharp_bench.scene import SplitName, as_sensor

VERSION = 1  # counts every change that alters pixels
PATCH = 64


@dataclass(frozen=True)
class Size:
    """How much to make: scenes of training patches, patches cut from each, and test scenes."""

    train: int
    valid: int
    patches: int
    reduced: int
    full: int


SIZES = {"default": Size(24, 3, 36, 20, 20), "small": Size(4, 1, 32, 4, 4), "tiny": Size(1, 1, 16, 1, 1)}


def file_name(sensor: str, split: SplitName) -> str:
    """PanCollection's name of a split's file."""
    if split in ("train", "valid"):
        return f"{split}_{sensor}.h5"
    return f"test_{sensor}_{'OrigScale_' if split == 'full' else ''}multiExm1.h5"


def place(sensor: str, seed: int, size: str) -> Path:
    """Where a simulated sensor's files are kept."""
    return cache_dir() / "sim" / f"{sensor}-v{VERSION}-s{seed}-{size}"


def ready(sensor: str, seed: int, size: str) -> Path:
    """The folder of a simulated sensor's files; makes them if they are not in the cache."""
    folder = place(sensor, seed, size)
    base = folder.parent
    if folder.is_dir():
        return folder
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _locked(base / f"{folder.name}.lock"):
            if not folder.is_dir():  # another process may have made it while we waited
                for left in base.glob(f"{folder.name}.part-*"):
                    shutil.rmtree(left, ignore_errors=True)
                part = base / f"{folder.name}.part-{os.getpid()}"
                try:
                    _make(sensor, seed, size, part)
                    os.replace(part, folder)
                    _sync(base)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise BenchError(
            f"simulated scenes cannot be written to {base} ({error.strerror or error}); "
            "name another folder with PANSHARP_CACHE"
        ) from error
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One maker at a time; where the platform has no file locks, makers race and the first one wins."""
    with open(path, "w") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Job:
    split: SplitName
    index: int
    kind: str

    @property
    def file(self) -> str:
        return f"{self.split}-{self.index}.npz"


def jobs(sensor: str, seed: int, size: Size) -> list[Job]:
    """All scenes to make. Each split holds the kinds of landscape in the camera's proportions."""
    from pansharp_bench.datasets.simulated.spectra import CAMERAS

    mix = CAMERAS[sensor].mix
    weights = np.array(list(mix.values()), float)
    out = []
    for code, split in enumerate(("train", "valid", "reduced", "full")):
        n = getattr(size, split)
        at = (np.arange(n) + 0.5) / n * weights.sum()
        kinds = np.array(list(mix))[np.searchsorted(weights.cumsum(), at)]
        kinds = np.random.default_rng([seed, zlib.crc32(sensor.encode()), code]).permutation(kinds)
        out += [Job(split, i, str(kind)) for i, kind in enumerate(kinds)]
    return out


def scene(sensor: str, seed: int, size: Size, job: Job) -> dict[str, np.ndarray]:
    """Arrays (N, C, H, W) of one job: one test scene, or the patches of one training scene."""
    from pansharp_bench.datasets.simulated.acquire import full, reduced

    code = ("train", "valid", "reduced", "full").index(job.split)
    rng = np.random.default_rng([seed, zlib.crc32(sensor.encode()), code, job.index])
    camera = as_sensor(sensor)
    if job.split == "full":
        return {k: v[None] for k, v in full(camera, rng, 512, job.kind).items()}
    arrays = reduced(camera, rng, 256, job.kind)
    if job.split == "reduced":
        return {k: v[None] for k, v in arrays.items()}
    side = int(np.ceil(np.sqrt(size.patches)))
    start = np.round(np.linspace(0, (256 - PATCH) / 4, side)).astype(int) * 4
    corners = [(y, x) for y in start for x in start]
    keep = sorted(rng.permutation(len(corners))[: size.patches])
    cut = {k: [] for k in arrays}
    for y, x in (corners[i] for i in keep):
        for key, a in arrays.items():
            r = 4 if key == "ms" else 1
            cut[key].append(a[:, y // r : (y + PATCH) // r, x // r : (x + PATCH) // r])
    return {k: np.stack(v) for k, v in cut.items()}


def _make(sensor: str, seed: int, size: str, folder: Path) -> None:
    import h5py

    todo = jobs(sensor, seed, SIZES[size])
    scenes = folder / "scenes"
    scenes.mkdir(parents=True)
    _run_workers(sensor, seed, size, scenes, len(todo))
    for split in ("train", "valid", "reduced", "full"):
        parts = [scenes / job.file for job in todo if job.split == split]
        path = folder / file_name(sensor, split)
        with h5py.File(path, "w") as file:
            for number, part in enumerate(parts):
                with np.load(part) as arrays:
                    for key in sorted(arrays):
                        a = arrays[key]
                        if number == 0:
                            shape = (len(parts) * a.shape[0], *a.shape[1:])
                            file.create_dataset(key, shape, a.dtype)
                        file[key][number * a.shape[0] : (number + 1) * a.shape[0]] = a
        with open(path, "rb+") as raw:
            os.fsync(raw.fileno())
    shutil.rmtree(scenes)
    (folder / "about.json").write_text(json.dumps(about(sensor, seed, size), indent=1))
    _sync(folder)


def about(sensor: str, seed: int, size: str) -> dict:
    return {"simulator_version": VERSION, "seed": seed, "size": size, **asdict(SIZES[size]), "sensor": sensor}


def _run_workers(sensor: str, seed: int, size: str, folder: Path, total: int) -> None:
    from tqdm import tqdm

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = max(1, min(cores, total, 16))
    single = {f"{k}_NUM_THREADS": "1" for k in ("OMP", "OPENBLAS", "MKL")}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", __name__, sensor, str(seed), size, str(folder), str(i), str(count)],
            env={**os.environ, **single}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(folder / f"worker-{i}.log", "w"),  # noqa: SIM115
        )
        for i in range(count)
    ]  # fmt: skip
    shown = sys.stderr.isatty()
    if not shown:
        print(
            f"simulating {total} scenes of {sensor}-sim (once; kept in {folder.parents[1]})", file=sys.stderr
        )
    try:
        with tqdm(total=total, unit="scene", desc=f"simulating {sensor}-sim (once)", leave=False,
                  disable=not shown) as bar:  # fmt: skip
            while any(w.poll() is None for w in workers):
                time.sleep(0.2)
                bar.update(len(list(folder.glob("*.npz"))) - bar.n)
                if any(w.returncode for w in workers):
                    break
        for i, w in enumerate(workers):
            if w.returncode:
                log = (folder / f"worker-{i}.log").read_text().strip().splitlines()
                raise BenchError(
                    f"simulating {sensor}-sim failed: {log[-1] if log else f'exit code {w.returncode}'}"
                )
    finally:
        for w in workers:
            if w.poll() is None:
                w.terminate()
            w.wait()


def _work(sensor: str, seed: int, size: str, folder: Path, part: int, parts: int) -> None:
    import torch

    torch.set_num_threads(1)
    for job in jobs(sensor, seed, SIZES[size])[part::parts]:
        arrays = {k: v.astype(np.float32) for k, v in scene(sensor, seed, SIZES[size], job).items()}
        kept = folder / f"{job.file}.{part}"
        with open(kept, "wb") as file:
            np.savez(file, **arrays)
        os.replace(kept, folder / job.file)


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]))
