"""Full resolution: no reference exists, so indices compare the fused image with PAN and MS. No border is cut.

A simulated sensor knows the true MS at the PAN grid. There the reference indices are computed at full
resolution too (protocol ``truth``), so that the no-reference indices can be judged against them.
"""

from __future__ import annotations

from torch import Tensor

from pansharp_bench.protocols.evaluate import Protocol
from pansharp_bench.protocols.reduced import against_reference
from pansharp_bench.scene import Scene


def without_reference(fused: Tensor, scene: Scene) -> dict[str, Tensor]:
    """Fused image beside the images it was made from."""
    assert scene.ms is not None and scene.lms is not None
    return {"fused": fused, "ms": scene.ms, "pan": scene.pan, "lms": scene.lms}


FULL = Protocol("full", "Full resolution", "full", "full", without_reference)
TRUTH = Protocol(
    "truth", "Full resolution against the truth", "full", "reduced", against_reference, needs_gt=True
)
