"""A plug-in: simulated sets in their tiny size too, as ``<name>-tiny``, and Jupiter in its full, of 256 pixels."""

from pathlib import Path

from pansharp_bench.registry import DATASETS, DatasetCard, Entry
from pansharp_bench.scene import Dataset


def _register(entry: Entry[DatasetCard], size: str) -> None:
    def load(root: Path | None = None, label: str | None = None, seed: int = 0) -> Dataset:
        dataset = entry.obj(root=None, label=None, seed=seed, size=size)
        dataset.name = f"{entry.name}-{size}"
        return dataset

    card = entry.card
    DATASETS.add(load, name=f"{entry.name}-{size}", sensor=card.sensor, tracks=card.tracks, simulated=True)


_register(DATASETS.get("junocam2hst-sim"), "full")
for _entry in DATASETS.entries(simulated=True):
    if _entry.name.endswith("-sim"):
        _register(_entry, "tiny")
