"""Further bands: what other filters of a camera would show, from bands that are at hand.

The second stage of a calibration: once an image is in the target camera's units, its other bands can be learnt from
that camera's own images, which are registered. The true bands are known, so outputs are compared with them.
"""

from __future__ import annotations

from pansharp_bench.protocol import Protocol, Track
from pansharp_bench.protocols.calibration import against_truth
from pansharp_bench.registry import TRACKS, Sees

BANDS = Protocol("truth", "Against the true bands", "test", "truth", against_truth, needs_gt=True)
_GROUPS: dict[Sees, str] = {
    "pan": "From the bands at hand",
    "reference": "Bounds that look at the truth (not ranked)",
}

TRACKS.add(
    Track((BANDS,), "source", _GROUPS, "JunoCam2HST"),
    name="bands",
    title="Further bands",
    summary="bands a camera lacks, from those it has; the second stage of a calibration",
    protocols=("truth",),
)
