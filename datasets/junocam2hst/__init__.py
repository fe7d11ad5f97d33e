"""JunoCam2HST: segments of Jupiter seen by JunoCam and by Hubble's WFC3, for calibrating one by the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pansharp_bench.datasets.junocam2hst.dataset import JunoCam2HST
from pansharp_bench.registry import register_dataset

if TYPE_CHECKING:
    from pansharp_bench.datasets.junocam2hst.second_stage import BandPairs
    from pansharp_bench.datasets.junocam2hst.simulated import SimulatedJunoCam2HST

__all__ = ["JunoCam2HST"]


@register_dataset(
    "junocam2hst-sim",
    title="JunoCam2HST, simulated",
    summary="a simulated Jupiter by JunoCam and by Hubble, made in the cache",
    tracks=("calibration",),
    sensor="junocam2hst",
    published="JunoCam2HST",
    simulated=True,
)
def _simulated(
    root: Path | None = None, label: str | None = None, seed: int = 0, size: str = "default"
) -> SimulatedJunoCam2HST:
    from pansharp_bench.datasets.junocam2hst.simulated import SimulatedJunoCam2HST

    return SimulatedJunoCam2HST(seed, size)


@register_dataset(
    "junocam2hst-uvm",
    title="JunoCam2HST, ultraviolet and methane",
    summary="Hubble's F275W and FQ889N beside its red and blue: the second stage",
    tracks=("bands",),
    sensor="junocam2hst-uvm",
    stand_in="junocam2hst-uvm-sim",
)
def _second_stage(root: Path | None = None, label: str | None = None) -> BandPairs:
    from pansharp_bench.datasets.junocam2hst.second_stage import BandPairs

    made = BandPairs(JunoCam2HST(root, label))
    made.split("train")  # says so where the files have no such bands
    return made


@register_dataset(
    "junocam2hst-uvm-sim",
    title="JunoCam2HST, ultraviolet and methane, simulated",
    summary="the simulated Hubble's further bands, tested on the calibrated truth",
    tracks=("bands",),
    sensor="junocam2hst-uvm",
    simulated=True,
)
def _simulated_second_stage(
    root: Path | None = None, label: str | None = None, seed: int = 0, size: str = "default"
) -> BandPairs:
    from pansharp_bench.datasets.junocam2hst.second_stage import BandPairs
    from pansharp_bench.datasets.junocam2hst.simulated import SimulatedJunoCam2HST

    return BandPairs(SimulatedJunoCam2HST(seed, size, extra=True))
