"""Simulated sensors: procedural landscapes seen through a real sensor's bands, blur and noise.

``qb-sim``, ``gf2-sim`` and ``wv3-sim`` come as PanCollection files, made once in the cache. At full resolution
the true multispectral image is known and kept as ``gt``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pansharp_bench.registry import register_dataset

if TYPE_CHECKING:
    from pansharp_bench.datasets.simulated.dataset import Simulated

VERSION = 4  # counts every change that alters pixels


def _register(sensor: str, title: str, published: str) -> None:
    @register_dataset(f"{sensor}-sim", title=f"{title}, simulated", sensor=sensor, published=published,
                      summary=f"simulated {title} scenes, made in the cache", simulated=True)  # fmt: skip
    def load(
        root: Path | None = None, label: str | None = None, seed: int = 0, size: str = "default"
    ) -> Simulated:
        from pansharp_bench.datasets.simulated.dataset import Simulated

        return Simulated(sensor, seed, size)

    load.commands = {"simulate-scene": f"{__name__}.command:{sensor}"}  # type: ignore[attr-defined]


_register("qb", "QuickBird", "QB")
_register("gf2", "GaoFen-2", "GF2")
_register("wv3", "WorldView-3", "WV3")
