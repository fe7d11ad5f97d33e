"""PAN in the mean colour of the training images."""

from typing import Any

from pansharp_bench.methods._classical import divide
from pansharp_bench.methods._closed_form import AffineRow
from pansharp_bench.registry import register_method
from pansharp_bench.training import Trainer, UnpairedData


@register_method(
    "pan-mean-spectrum", title="PAN × mean spectrum", kind="baseline", sees="pan", training="unpaired", halo=0
)
class PanMeanSpectrum(AffineRow):
    """PAN · mean(MS_b) / mean(PAN), the means those of unpaired training images."""

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        spectrum = divide(data.all_target().double().mean((0, 2, 3)), data.all_source().double().mean())
        self.gain.copy_(spectrum[:, None, None])
        return {"spectrum": spectrum.tolist()}
