"""What a simulated sensor's files are and where: all that can be said of them without making or opening one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pansharp_bench.datasets.simulated import VERSION
from pansharp_bench.files import cache_dir
from pansharp_bench.scene import Sensor, SplitName


@dataclass(frozen=True)
class Size:
    """How much to make: scenes of training and validation patches, patches cut from each, test scenes."""

    train: int
    valid: int
    patches: int
    reduced: int
    full: int

    def samples(self) -> dict[SplitName, int]:
        return {"train": self.train * self.patches, "valid": self.valid * self.patches,
                "reduced": self.reduced, "full": self.full}  # fmt: skip


SIZES = {"default": Size(24, 3, 36, 20, 20), "small": Size(4, 1, 36, 4, 4), "tiny": Size(1, 1, 16, 1, 1)}


def file_name(sensor: Sensor, split: SplitName) -> str:
    """PanCollection's name of a split's file."""
    if split in ("train", "valid"):
        return f"{split}_{sensor.name}.h5"
    return f"test_{sensor.name}_{'OrigScale_' if split == 'full' else ''}multiExm1.h5"


def place(sensor: Sensor, seed: int, size: str) -> Path:
    """Where a simulated sensor's files are kept."""
    return cache_dir() / "sim" / f"{sensor.name}-v{VERSION}-s{seed}-{size}"


def about(sensor: Sensor, seed: int, size: str) -> dict:
    """The identity of a simulation: files of equal identity hold the same scenes."""
    return {"simulator_version": VERSION, "sensor": sensor.name, "seed": seed, "size": size,
            "samples": SIZES[size].samples()}  # fmt: skip
