"""JunoCam2HST: segments of Jupiter seen by JunoCam and by Hubble's WFC3, for calibrating one by the other."""

from pansharp_bench.datasets.junocam2hst.dataset import JunoCam2HST

__all__ = ["JunoCam2HST"]
