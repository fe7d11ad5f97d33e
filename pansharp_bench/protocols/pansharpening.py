"""The pansharpening track: full and reduced resolution, as papers print them.

Reduced resolution (Wald's protocol): the original MS is the reference. As in the field's toolbox the border is cut
before every index, one pixel less at the top and left than at the bottom and right: ``x[20:-21, 20:-21]``. Values
are neither clipped nor rounded.

Full resolution: no reference exists, so indices compare the fused image with PAN and MS, which is expanded anew, as
the toolbox does it: what a file stores as ``lms`` may be rounded or of another kernel, and is what methods see. No
border is cut, save what is over a multiple of 32 pixels at the right and bottom: the indices are defined on whole
blocks. A simulated sensor knows the true MS at the PAN grid. There the reference indices are computed at full
resolution too (protocol ``truth``), so that the no-reference indices can be judged against them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pansharp_bench.protocol import Protocol, Track
from pansharp_bench.registry import TRACKS, Sees
from pansharp_bench.scene import Scene

if TYPE_CHECKING:
    from torch import Tensor

BORDER = 21
BLOCK = 32


def crop_border(x: Tensor, border: int = BORDER) -> Tensor:
    """(…, H, W) without its border, the toolbox's way: 256 → 215 pixels a side."""
    return x[..., border - 1 : -border, border - 1 : -border]


def against_reference(fused: Tensor, scene: Scene) -> dict[str, Tensor]:
    """Fused image and reference without their border."""
    assert scene.gt is not None
    return {"fused": crop_border(fused), "reference": crop_border(scene.gt)}


REDUCED = Protocol(
    "reduced", "Reduced resolution", "reduced", "reduced", against_reference, needs_gt=True, short="RR",
    published="RR", cut=2 * BORDER - 1,
)  # fmt: skip


def without_reference(fused: Tensor, scene: Scene) -> dict[str, Tensor]:
    """Fused image beside the images it was made from, cut to whole blocks."""
    from pansharp_bench.imaging import interp23

    assert scene.ms is not None
    height, width = (side // BLOCK * BLOCK for side in fused.shape[-2:])
    ratio = scene.sensor.ratio
    whole = {"fused": fused, "pan": scene.pan, "lms": interp23(scene.ms.double(), scene.sensor)}
    cut = {k: x[..., :height, :width] for k, x in whole.items()}
    return {**cut, "ms": scene.ms[..., : height // ratio, : width // ratio]}


FULL = Protocol("full", "Full resolution", "full", "full", without_reference, short="FR", published="FR")
TRUTH = Protocol(
    "truth", "Full resolution against the truth", "full", "reduced", against_reference, needs_gt=True,
    short="truth", cut=2 * BORDER - 1,
)  # fmt: skip

_GROUPS: dict[Sees, str] = {
    "pan+ms": "With co-registration",
    "pan": "Without co-registration",
    "pan+bag": "Without co-registration, but with the scene's own MS pixels",
    "reference": "Bounds that look at the reference (not ranked)",
}

TRACKS.add(
    Track((FULL, REDUCED, TRUTH), "PAN", _GROUPS, "PanCollection"),
    name="pansharpening",
    title="Pansharpening",
    summary="fuse PAN with MS, or translate PAN into MS bands",
    protocols=("full", "reduced", "truth"),
)
