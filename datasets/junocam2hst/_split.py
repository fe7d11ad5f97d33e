"""What a split of segments has beside their pixels."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from torch import Tensor

from pansharp_bench.errors import DataError
from pansharp_bench.scene import Split, SplitName


class SegmentSplit(Split):
    """Segments of Jupiter: ``zones`` names what the column ``zone`` counts, ``stored_as`` is the type on the disk,
    ``extra_bands`` names what :meth:`extra` gives, where it gives anything."""

    name: SplitName
    zones: tuple[str, ...]
    stored_as: str
    extra_bands: tuple[str, ...] = ()

    @abstractmethod
    def column(self, name: str) -> np.ndarray | None:
        """(N,) one number a segment (zone, perijove, cycle, rotation, latitude, longitude); None where the data
        set has none."""

    def extra(self, index: int | slice) -> Tensor:
        """(n, E, H, W) I/F of the further bands; raises DataError where there are none."""
        raise DataError(f"split {self.name!r} has no further bands")
