"""PAN with each band's mean and standard deviation."""

from typing import Any

from pansharp_bench.methods._rows import AffineRow
from pansharp_bench.registry import register_method
from pansharp_bench.training import Trainer, UnpairedData


@register_method("pan-affine", title="PAN affine", kind="baseline", sees="pan", training="unpaired")
class PanAffine(AffineRow):
    """(PAN - μ(PAN)) σ(MS_b) / σ(PAN) + μ(MS_b), the statistics those of unpaired training images."""

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        pan, ms = data.all_pan().double(), data.all_ms().double()
        gain = ms.std((0, 2, 3)) / pan.std()
        offset = ms.mean((0, 2, 3)) - gain * pan.mean()
        self.gain.copy_(gain[:, None, None])
        self.offset.copy_(offset[:, None, None])
        return {"gain": gain.tolist(), "offset": offset.tolist()}
