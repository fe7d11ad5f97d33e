"""The same segments with another perijove held out."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.datasets.jupiter.segments import SegmentSplit
from pansharp_bench.errors import DataError
from pansharp_bench.scene import Scene, SplitName


class FoldSplit(SegmentSplit):
    """Segments of several splits: of one perijove (``test``), or of all others (``train``).

    Raises DataError where none is of the perijove, or all are.
    """

    def __init__(self, name: SplitName, parts: Sequence[SegmentSplit], perijove: int) -> None:
        first = parts[0]
        self.name, self.parts = name, tuple(parts)
        self.sensor, self.zones, self.stored_as = first.sensor, first.zones, first.stored_as
        self.keys = tuple(k for k in first.keys if all(k in p.keys for p in parts))
        columns = [part.column("perijove") for part in parts]
        kept = [np.nonzero((c == perijove) == (name == "test"))[0] for c in columns if c is not None]
        self._at = np.concatenate([[np.full(len(k), i), k] for i, k in enumerate(kept)], 1)  # part, row of it
        if not len(self):
            known = sorted({int(p) for c in columns if c is not None for p in c})
            raise DataError(
                f"perijove {perijove} cannot be held out: there are {', '.join(map(str, known))}, of which one is "
                "tested on and the others are trained on"
            )
        self.groups = self._taken([p.groups for p in parts])
        self.latitude = self._taken([p.latitude for p in parts])

    def _taken(self, columns: Sequence[Tensor | None]) -> Tensor | None:
        if any(c is None for c in columns):
            return None
        return torch.stack([columns[i][j] for i, j in self._at.T])  # type: ignore[index]

    def __len__(self) -> int:
        return self._at.shape[1]

    def column(self, name: str) -> np.ndarray | None:
        columns = [part.column(name) for part in self.parts]
        if any(c is None for c in columns):
            return None
        return np.concatenate(
            [c[self._at[1, self._at[0] == i]] for i, c in enumerate(columns) if c is not None]
        )

    def __getitem__(self, index: int | slice) -> Scene:
        images = {k: self.read(k, index) for k in self.keys}
        return Scene(self.sensor, **images, latitude=self.latitude_of(index))

    def read(self, key: str, index: int | slice) -> Tensor:
        if not isinstance(index, slice):
            at = operator.index(index)
            if not -len(self) <= at < len(self):
                raise IndexError(f"sample {at} of {len(self)}")
            index = slice(at % len(self), at % len(self) + 1)
        chosen = self._at[:, index]
        if not chosen.shape[1]:
            return self.parts[0].read(key, slice(0, 0))
        return torch.cat([self.parts[i].read(key, rows) for i, rows in _runs(chosen)])


def _runs(at: np.ndarray) -> Iterator[tuple[int, slice]]:
    """(2, n) parts and their rows, as slices of rows that follow each other."""
    breaks = np.nonzero((np.diff(at[0]) != 0) | (np.diff(at[1]) != 1))[0] + 1
    for run in np.split(at, breaks, 1):
        yield int(run[0, 0]), slice(int(run[1, 0]), int(run[1, -1]) + 1)
