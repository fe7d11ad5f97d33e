"""Segments as a build cuts them, of a map that is no planet's: what the speed of cutting is measured on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from pansharp_bench.datasets.jupiter.ellipsoid import Centres, centres
from pansharp_bench.datasets.jupiter.maps import GlobalMap
from pansharp_bench.datasets.jupiter.segments import Cutter

PIECE = 64  # segments, as a build writes them
FINENESS = 9000 / 256  # pixels of the paper's mosaics round the planet, to those of its segments


def pieces(pixels: int, width: int | None = None) -> Callable[[int], tuple[Tensor, Centres]]:
    """What cuts the n-th piece: (64, 3, ``pixels``, ``pixels``), and where its segments lie. Pieces go through all
    zones at nside 32, all latitudes mixed. ``width``: of the map; by default as fine as the paper's."""
    width = width or 2 * round(pixels * FINENESS / 2)
    values = torch.rand(3, width // 2, width, generator=torch.Generator().manual_seed(0))
    cutter, where = Cutter(GlobalMap(values), pixels), centres(32)

    def piece(number: int) -> tuple[Tensor, Centres]:
        start = number * 37 * PIECE % (len(where) - PIECE)
        part = slice(start, start + PIECE)
        images, kept = cutter(where.latitude[part], where.longitude[part])
        rows = kept.numpy()
        return images, Centres(*(v[part][rows] for v in (where.zone, where.latitude, where.longitude)))

    return piece


def cutting(pixels: int) -> Callable[[], Tensor]:
    """What cuts one piece after another."""
    piece, numbers = pieces(pixels), count()
    return lambda: piece(next(numbers))[0]
