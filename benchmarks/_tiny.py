"""A plug-in for rehearsals: every simulated set in its tiny size, as ``<name>-tiny``."""

from pathlib import Path

from pansharp_bench.registry import DATASETS, DatasetCard, Entry
from pansharp_bench.scene import Dataset


def _register(entry: Entry[DatasetCard]) -> None:
    def load(root: Path | None = None, label: str | None = None, seed: int = 0) -> Dataset:
        dataset = entry.obj(root=None, label=None, seed=seed, size="tiny")
        dataset.name = f"{entry.name}-tiny"
        return dataset

    card = entry.card
    DATASETS.add(load, name=f"{entry.name}-tiny", sensor=card.sensor, tracks=card.tracks, simulated=True)


for _entry in DATASETS.entries(simulated=True):
    _register(_entry)
