"""Makes its share of the scenes of a plan: ``python -m pansharp_bench.datasets.simulated.worker FOLDER PART``.

Takes the plan from FOLDER/plan.json and leaves one npz file per scene there. Needs no torch, so that it
starts at once.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import numpy as np

from pansharp_bench.datasets.simulated.acquire import Optics, acquire
from pansharp_bench.files import atomically

SPLITS = ("train", "valid", "reduced", "full")


def rng_of(sensor: str, seed: int, split: str, *more: int) -> np.random.Generator:
    """Every scene has its own stream, so scenes do not depend on which worker makes them, or on each other."""
    return np.random.default_rng([seed, zlib.crc32(sensor.encode()), SPLITS.index(split), *more])


def scene(optics: Optics, seed: int, split: str, index: int, kind: str) -> dict[str, np.ndarray]:
    """pan (1,H,W) and ms (C,H/4,W/4), uint16; at full resolution also the true MS, gt (C,H,W)."""
    rng = rng_of(optics.sensor, seed, split, index)
    if split == "full":
        got = acquire(optics, rng, 512, kind, centre=2.0, truth=True)
        assert got.truth is not None
        return {"pan": got.pan, "ms": got.ms, "gt": got.truth}
    got = acquire(optics, rng, 1024, kind, centre=1.5, truth=False)
    return {"pan": got.pan, "ms": got.ms}


def main(folder: Path, part: int) -> None:
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    optics = Optics(**plan["optics"])
    for split, index, kind in plan["scenes"][part :: plan["parts"]]:
        path = folder / f"{split}-{index}.npz"
        with atomically(path) as partial:
            np.savez(partial, **scene(optics, plan["seed"], split, index, kind))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
