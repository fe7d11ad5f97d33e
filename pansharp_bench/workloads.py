"""What commands are timed on: scenes in files, folders of many records; and what a command spends on them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pansharp_bench.contract import scenes
from pansharp_bench.errors import BenchError
from pansharp_bench.files import whole
from pansharp_bench.raster import geotiff
from pansharp_bench.record import SCHEMA, canonical, jsonable, record_path, spec_hash, summarise
from pansharp_bench.scene import Sensor

_SEEDS = 5
_BETWEEN = """
import json, os, subprocess, sys, time
began = time.perf_counter()
running = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(running.pid, 0)
taken = time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss
running.returncode = os.waitstatus_to_exitcode(status)
print(json.dumps(taken))
sys.exit(running.returncode != 0)
"""


@dataclass(frozen=True)
class Spent:
    """What a command and what it started took: seconds, those of the processor, and MiB at the most."""

    seconds: float
    processor_seconds: float
    mib: float


def spent(command: Sequence[str], **variables: str) -> Spent:
    """Runs a command, its output unseen, with these variables of the environment besides; not on Windows.

    A small process stands between: a system counts the memory of who starts a command as the command's own peak.
    Raises BenchError with its last words where it fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", _BETWEEN, *command], env=os.environ | variables, capture_output=True, text=True
    )
    if done.returncode:
        raise BenchError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
    seconds, processor, most = json.loads(done.stdout)
    return Spent(seconds, processor, most / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def write_pair(folder: Path, sensor: Sensor, side: int) -> None:
    """pan.tif (``side`` x ``side``) and ms.tif, uint16, of smooth random scenes at an invented place."""
    from rasterio import Affine

    scene = scenes(sensor, 1, side, side)
    assert scene.ms is not None
    for name, image, step in (("pan", scene.pan, 1), ("ms", scene.ms, sensor.ratio)):
        values = image[0].round().numpy().astype("uint16")
        bands = sensor.bands if name == "ms" else ("pan",)
        place = Affine(step, 0, 500_000, 0, -step, 5_000_000)
        size = (values.shape[1], values.shape[2])
        with geotiff(
            folder / f"{name}.tif", size, bands, crs="EPSG:32633", transform=place, dtype="uint16"
        ) as file:
            file.write(values)


def mirrored(source: Path, folder: Path, times: int) -> None:
    """pan.tif and ms.tif of a folder, ``times`` as high and as wide: the images beside their mirror images."""
    import rasterio

    folder.mkdir(exist_ok=True)
    for name in ("pan", "ms"):
        with rasterio.open(source / f"{name}.tif") as file:
            image, profile, names = file.read(), file.profile, file.descriptions
        side = image.shape[1]
        profile.update(height=times * side, width=times * side, bigtiff="if_safer")
        with rasterio.open(folder / f"{name}.tif", "w", **profile) as file:
            file.descriptions = names
            for row in range(times):
                strip = image[:, :: -1 if row % 2 else 1]
                strip = np.concatenate([strip[..., :: -1 if k % 2 else 1] for k in range(times)], 2)
                file.write(strip, window=((row * side, (row + 1) * side), (0, times * side)))


def templates(results: Path) -> list[Path]:
    """The records below a folder that others can be made from."""
    return whole(Path(results).glob("*/*/*/*.json"))


def synthesise(results: Path, root: Path, count: int) -> None:
    """So many records under ``root``, made from those of ``results``: five seeds of each, then of further methods
    on the same datasets; scores differ a little. Raises BenchError where there are none of this version."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in templates(results))
    unlike = {canonical(t["spec"] | {"seed": 0}): t for t in found if t["schema"] == SCHEMA}
    known = [json.dumps(t) for t in unlike.values()]
    if not known:
        raise BenchError(
            f"{results} holds no records of this version to make others from; name a folder of some"
        )
    draw = random.Random(0)
    for i in range(count):
        made = json.loads(known[i % len(known)])
        made.pop("sha256", None)  # of what it says no longer
        turn, seed = divmod(i // len(known), _SEEDS)
        spec = made["spec"]
        spec["seed"] = seed
        if turn:
            spec["method"] = made["method"]["name"] = f"{spec['method']}-{turn}"
            made["method"]["title"] = f"{made['method']['title']} {turn}"
        for scored in made["protocols"].values():
            for column, values in scored["scores"].items():
                scored["scores"][column] = [float(v) * draw.uniform(0.99, 1.01) for v in values]
            scored |= summarise(scored["scores"])
        made["spec_sha256"] = spec_hash(spec)
        path = record_path(root, spec, made["spec_sha256"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(jsonable(made)), encoding="utf-8")


def on_records(root: Path, out: Path) -> dict[str, list[str]]:
    """By name, commands that read every record under ``root``; ``out``: where tables and pages go."""
    load = f"import pansharp_bench as pb; pb.load_results({str(root)!r}, categories=%s)"
    bench, read = [sys.executable, "-m", "pansharp_bench"], ["--results", str(root)]
    return {
        "load_results": [sys.executable, "-c", load % False],
        "load_results, categories": [sys.executable, "-c", load % True],
        "leaderboard": [*bench, "leaderboard", *read, "--out", str(out / "boards")],
        "report": [*bench, "report", *read, "--out", str(out / "site")],
    }


def fusing(method: str, sensor: str, folder: Path, out: Path) -> list[str]:
    """The command that fuses pan.tif and ms.tif of a folder, without compression."""
    files = ["--pan", str(folder / "pan.tif"), "--ms", str(folder / "ms.tif"), "-o", str(out)]
    how = ["--method", method, "--sensor", sensor, "--co", "COMPRESS=NONE", "--quiet"]
    return [sys.executable, "-m", "pansharp_bench", "fuse", *how, *files]
