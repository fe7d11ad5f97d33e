"""Calibration: images of one camera, carried to the photometry of another, of which only other scenes are known.

Each output is compared with its own source (has its structure survived?), and all outputs together with all
images of the target camera (have its colours been reached?). Neither alone says anything: the source itself is
perfect in the first, a shuffled target image in the second. A simulated pair of cameras knows the calibrated
truth: there indices against it are computed too (protocol ``truth``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pansharp_bench.protocol import Protocol, Track
from pansharp_bench.registry import TRACKS, Sees
from pansharp_bench.scene import Scene

if TYPE_CHECKING:
    from torch import Tensor


def against_source(fused: Tensor, scene: Scene) -> dict[str, Tensor]:
    """Output beside the image it was made from."""
    return {"fused": fused, "reference": scene.pan}


def against_truth(fused: Tensor, scene: Scene) -> dict[str, Tensor]:
    """Output beside the calibrated truth, whole."""
    assert scene.gt is not None
    return {"fused": fused, "reference": scene.gt}


CALIBRATION = Protocol(
    "calibration", "Calibration", "test", "calibration", against_source, target="target", published="CAL"
)
TRUTH = Protocol(
    "truth", "Against the calibrated truth", "test", "truth", against_truth, needs_gt=True, short="truth"
)
_GROUPS: dict[Sees, str] = {
    "pan": "Calibrated without a registered pair",
    "pan+latitude": "Calibrated without a registered pair",
    "reference": "Bounds that look at the truth (not ranked)",
}

TRACKS.add(
    Track((CALIBRATION, TRUTH), "source", _GROUPS, "JunoCam2HST"),
    name="calibration",
    title="Calibration",
    summary="carry one camera's images to another's photometry, unpaired",
    protocols=("calibration", "truth"),
)
