"""Full resolution: no reference exists, so indices compare the fused image with PAN and MS. No border is cut,
save what is over a multiple of 32 pixels at the right and bottom: the indices are defined on whole blocks.

A simulated sensor knows the true MS at the PAN grid. There the reference indices are computed at full
resolution too (protocol ``truth``), so that the no-reference indices can be judged against them.
"""

from __future__ import annotations

from torch import Tensor

from pansharp_bench.protocols.evaluate import Protocol
from pansharp_bench.protocols.reduced import against_reference
from pansharp_bench.scene import Scene

BLOCK = 32


def without_reference(fused: Tensor, scene: Scene) -> dict[str, Tensor]:
    """Fused image beside the images it was made from, cut to whole blocks."""
    assert scene.ms is not None and scene.lms is not None
    height, width = (side // BLOCK * BLOCK for side in fused.shape[-2:])
    ratio = scene.sensor.ratio
    cut = {k: x[..., :height, :width] for k, x in (("fused", fused), ("pan", scene.pan), ("lms", scene.lms))}
    return {**cut, "ms": scene.ms[..., : height // ratio, : width // ratio]}


FULL = Protocol("full", "Full resolution", "full", "full", without_reference, short="FR", published="FR")
TRUTH = Protocol(
    "truth", "Full resolution against the truth", "full", "reduced", against_reference, needs_gt=True,
    short="truth",
)  # fmt: skip
