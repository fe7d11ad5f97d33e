"""Tiny sets, in memory, in the place of the sets that pages name, so that what pages show can be run in seconds."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, interpolate

from pansharp_bench.imaging import interp23
from pansharp_bench.registry import DATASETS, DatasetCard, Entry
from pansharp_bench.scene import Dataset, FileIdentity, Scene, Sensor, Split, SplitName, as_sensor

PAIRS = {"train": (8, 64), "valid": (2, 64), "reduced": (6, 128), "full": (6, 64)}
CAMERAS = {"train": (6, 64), "target": (6, 64), "test": (4, 64)}


class _Images(Split):
    """Smooth random images with some noise: PAN and MS, or of one camera alone."""

    def __init__(self, name: SplitName, sensor: Sensor) -> None:
        paired = sensor.source == ("pan",)
        self.name, self.sensor = name, sensor
        self.keys = ("pan",) if not paired else ("pan", "ms", "lms") + (("gt",) if name != "full" else ())
        count, side = (PAIRS if paired else CAMERAS)[name]
        draws = torch.Generator().manual_seed(sum(map(ord, name)))
        coarse = torch.rand(count, sensor.channels, side // 8, side // 8, generator=draws)
        noise = 0.02 * torch.randn(count, sensor.channels, side, side, generator=draws)
        self.images = (interpolate(coarse, scale_factor=8, mode="bilinear") + noise).clamp(
            0.001, 1
        ) * sensor.peak
        self.groups = None if paired else torch.arange(count) % 2
        self.latitude = None if paired else torch.linspace(-40, 40, count)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice) -> Scene:
        part = slice(index, index + 1) if isinstance(index, int) else index
        images = self.images[part]
        if self.keys == ("pan",):
            assert self.latitude is not None
            return Scene(self.sensor, pan=images, latitude=self.latitude[part])
        ms = avg_pool2d(images, 4)
        gt = images if "gt" in self.keys else None
        return Scene(self.sensor, images.mean(1, keepdim=True), ms, interp23(ms, self.sensor), gt)


class _StandIn(Dataset):
    def __init__(self, card: DatasetCard, label: str | None) -> None:
        self.sensor, self.card = as_sensor(card.sensor), card
        self.name = card.name + (f"-{label}" if label else "")

    def available(self) -> tuple[SplitName, ...]:
        return tuple(PAIRS if self.sensor.source == ("pan",) else CAMERAS)  # type: ignore[arg-type]

    def split(self, name: SplitName) -> Split:
        return _Images(name, self.sensor)

    def files(self, *splits: SplitName) -> tuple[FileIdentity, ...]:
        names = splits or self.available()
        return tuple(
            FileIdentity(s, Path(f"{s}.h5"), 0, hashlib.sha256(f"{self.name} {s}".encode()).hexdigest(), None)
            for s in names
        )

    def provenance(self) -> dict[str, Any]:
        return {"simulator": "stand-in"} if self.card.simulated else {}


class _Opener:
    """In the place of a dataset's class: opens the stand-in, and has the class's own commands."""

    def __init__(self, entry: Entry[DatasetCard]) -> None:
        self.card, self.commands = entry.card, getattr(entry.obj, "commands", {})

    def __call__(self, root: Any = None, label: str | None = None, seed: int = 0) -> Dataset:
        return _StandIn(self.card, label)


def stand_ins() -> dict[str, Entry[DatasetCard]]:
    """An entry of a tiny set for every dataset that is shipped, the second stages' excepted."""
    shipped = [e for e in DATASETS if e.origin.startswith("pansharp_bench.") and "uvm" not in e.name]
    return {e.name: Entry(e.card, _Opener(e), e.origin) for e in shipped}
