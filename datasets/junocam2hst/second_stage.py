"""``junocam2hst-uvm``: Hubble's ultraviolet and methane bands beside its red and blue, for the second stage.

JunoCam has no such filters, so there is nothing to calibrate. But Hubble took all five bands of the same clouds,
which makes pairs: a method learns F275W and FQ889N from red and blue of Hubble's segments, and is then given red
and blue of calibrated JunoCam ones.

Real segments are divided by longitude, as they overlap: ``test`` has its centres between 0 and 72 degrees west, and
no cloud of these is in ``train`` or ``valid`` (every tenth of what is left). The simulation's test is harder and
nearer to the use: the calibrated truth of the test perijove, finer than Hubble and of another weather.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.datasets.junocam2hst.dataset import NAME as PARENT
from pansharp_bench.datasets.junocam2hst.dataset import JunoCam2HST
from pansharp_bench.datasets.jupiter.ellipsoid import SEGMENT_KM
from pansharp_bench.datasets.jupiter.maps import EXTRA_FILTERS
from pansharp_bench.datasets.jupiter.mosaic import extent
from pansharp_bench.datasets.jupiter.segments import SegmentSplit
from pansharp_bench.errors import DataError
from pansharp_bench.scene import Dataset, FileIdentity, Scene, SplitName, as_sensor

NAME = "junocam2hst-uvm"
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
HELD_OUT = 72.0  # degrees of west longitude, from 0
RED_BLUE = [0, 2]
_VALID = 10  # every so many of the segments left to train on


class BandSplit(SegmentSplit):
    """Some segments of a split with further bands: ``pan`` is red and blue of its ``key``, ``gt`` those bands."""

    keys = ("pan", "gt")

    def __init__(self, name: SplitName, parent: SegmentSplit, index: np.ndarray, key: str = "pan") -> None:
        self.name, self.sensor, self.stored_as = name, as_sensor(NAME), parent.stored_as
        self.parent, self.index, self._key, self.zones = parent, index, key, parent.zones

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, index: int | slice) -> Scene:
        return Scene(self.sensor, **{k: self.read(k, index) for k in self.keys})

    def read(self, key: str, index: int | slice) -> Tensor:
        rows = np.atleast_1d(self.index[index])
        if not len(rows):
            return torch.empty(0, 2, *self.read(key, 0).shape[2:])
        part = slice(int(rows.min()), int(rows.max()) + 1)
        if key == "pan":
            found = self.parent.read(self._key, part)[:, RED_BLUE]
        elif key == "gt":
            found = self.parent.extra(part)
        else:
            raise DataError(f"split {self.name!r} of {NAME} has no {key!r}")
        return found[torch.from_numpy(rows - part.start)]

    def column(self, name: str) -> np.ndarray | None:
        """(N,) one number a segment; None where the data set has none."""
        values = self.parent.column(name)
        return None if values is None else values[self.index]


def degrees_apart(latitudes: list[float], pixels: int) -> dict[float, float]:
    """Degrees of longitude that keep a segment at each latitude clear of those at all of them: the reach of its own
    edge, and the largest of any that has latitudes in common with it (nearer the pole it is larger)."""
    to_edges = SEGMENT_KM * pixels / (pixels - 1)  # its outermost pixel centres lie on the segment's edge
    reach = {v: extent(v, pixels, to_edges) for v in latitudes}
    return {
        v: east + max(e for s, n, e in reach.values() if s < north and n > south)
        for v, (south, north, east) in reach.items()
    }


class BandPairs(Dataset):
    """The second stage's pairs of a JunoCam2HST data set; ``name`` follows that one's (``junocam2hst-uvm-mini``).

    Raises DataError where Hubble's segments have no ultraviolet and methane, or their centres are not known.
    """

    def __init__(self, parent: JunoCam2HST) -> None:
        self.parent, self.sensor = parent, as_sensor(NAME)
        self.name = NAME + parent.name.removeprefix(PARENT)

    def available(self) -> tuple[SplitName, ...]:
        return SPLITS

    def split(self, name: SplitName) -> BandSplit:
        if name not in SPLITS:
            raise DataError(f"unknown split {name!r} of {self.name}; known are: {', '.join(SPLITS)}")
        if name == "test" and self._knows_truth:
            known = self.parent.split("test")
            return BandSplit(name, known, np.arange(len(known)), "gt")
        hubble = self.parent.split("target")
        if not hubble.extra_bands:
            raise DataError(
                f"{self.parent.path}: Hubble's segments have no {' and '.join(EXTRA_FILTERS)}; build them from "
                "OPAL maps of all five filters"
            )
        return BandSplit(name, hubble, self._divided(hubble)[name])

    @property
    def _knows_truth(self) -> bool:
        store = self.parent.store
        return store is not None and "test" in store.splits and {"truth", "extra"} <= set(store.keys("test"))

    def _divided(self, hubble: SegmentSplit) -> dict[SplitName, np.ndarray]:
        """Which segments are of which split."""
        if self._knows_truth:
            rest = np.arange(len(hubble))
            return {"train": rest[rest % _VALID > 0], "valid": rest[rest % _VALID == 0]}
        latitude, west = (hubble.column(k) for k in ("latitude", "longitude"))
        if latitude is None or west is None:
            raise DataError(
                f"{self.parent.path}: the centres of Hubble's segments are not known (B_metadata.csv), so no "
                "longitudes can be held out"
            )
        apart = degrees_apart(np.unique(latitude).tolist(), hubble[0].pan.shape[-1])
        needed = np.array([apart[v] for v in latitude.tolist()])
        (rest,) = np.nonzero((west > HELD_OUT + needed) & (west < 360 - needed))
        (test,) = np.nonzero(west < HELD_OUT)
        return {"train": rest[rest % _VALID > 0], "valid": rest[rest % _VALID == 0], "test": test}

    def files(self, *splits: SplitName) -> tuple[FileIdentity, ...]:
        (file,) = self.parent.files("target")
        return tuple(
            FileIdentity(s, file.path, file.size, file.sha256, file.verified) for s in splits or SPLITS
        )

    def provenance(self) -> dict:
        held_out = "the test perijove" if self._knows_truth else f"longitudes 0 to {HELD_OUT:g} W"
        return self.parent.provenance() | {"held_out": held_out}

    def summary(self) -> dict:
        of_parent = self.parent.summary()
        there = Path(of_parent["where"]).exists()  # a simulation is not made for this
        return {**of_parent, "splits": {s: len(self.split(s)) if there else None for s in SPLITS}}

    def info(self) -> Iterator[dict]:
        from pansharp_bench.datasets.junocam2hst._inspect import describe

        for file in self.files():
            yield {**asdict(file), "path": str(file.path), **describe(self.split(file.split))}

    def check(self) -> Iterator[tuple[str, str]]:
        yield from self.parent.check()
