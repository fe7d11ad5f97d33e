"""Reduced resolution (Wald's protocol): the original MS is the reference.

As in the field's toolbox the border is cut before every index, one pixel less at the top and left than at the
bottom and right: ``x[20:-21, 20:-21]``. Values are neither clipped nor rounded.
"""

from __future__ import annotations

from torch import Tensor

from pansharp_bench.protocols.evaluate import Protocol
from pansharp_bench.scene import Scene

BORDER = 21


def crop_border(x: Tensor, border: int = BORDER) -> Tensor:
    """(…, H, W) without its border, the toolbox's way: 256 → 215 pixels a side."""
    return x[..., border - 1 : -border, border - 1 : -border]


def against_reference(fused: Tensor, scene: Scene) -> dict[str, Tensor]:
    """Fused image and reference without their border."""
    assert scene.gt is not None
    return {"fused": crop_border(fused), "reference": crop_border(scene.gt)}


REDUCED = Protocol(
    "reduced", "Reduced resolution", "reduced", "reduced", against_reference, needs_gt=True, short="RR",
    published="RR",
)  # fmt: skip
