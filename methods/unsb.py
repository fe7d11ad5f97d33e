"""UNSB: unpaired translation by a neural Schrödinger bridge (Kim et al., ICLR 2024)."""

from __future__ import annotations

from typing import Any, ClassVar

from pansharp_bench.methods._unpaired.bridge import BridgeMethod
from pansharp_bench.methods._unpaired.learner import BridgeLearner
from pansharp_bench.methods._unpaired.presets import BRIDGE_PRESETS
from pansharp_bench.registry import register_method
from pansharp_bench.training import Learner, Trainer, UnpairedData


@register_method(
    "unsb",
    title="UNSB",
    kind="unpaired",
    sees="pan",
    training="unpaired",
    tracks=("pansharpening", "calibration"),
    paper="Unpaired Image-to-Image Translation via Neural Schrödinger Bridge",
    year=2024,
    smallest=24,
)
class UNSB(BridgeMethod):
    """Schrödinger bridge trained adversarially, with a contrastive loss that ties content to the source."""

    presets: ClassVar[dict[str, dict[str, Any]]] = BRIDGE_PRESETS

    def learner(self, data: UnpairedData, trainer: Trainer) -> Learner:
        return BridgeLearner(self, data, trainer)
