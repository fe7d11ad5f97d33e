"""PNN: pansharpening by convolutional neural networks (Remote Sensing 2016)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.methods._paired import LIGHT, Batch, PairedMethod
from pansharp_bench.registry import register_method

MARGIN = 8  # what three unpadded convolutions of 9, 5 and 5 taps take off each side


class PNN(nn.Sequential):
    """(B, bands + 1, H, W) to (B, bands, H - 16, W - 16)."""

    def __init__(self, bands: int) -> None:
        super().__init__(
            nn.Conv2d(bands + 1, 64, 9), nn.ReLU(), nn.Conv2d(64, 32, 5), nn.ReLU(), nn.Conv2d(32, bands, 5)
        )


@register_method(
    "pnn",
    title="PNN",
    kind="deep",
    sees="pan+ms",
    training="paired",
    paper="G. Masi, D. Cozzolino, L. Verdoliva, G. Scarpa: Pansharpening by Convolutional Neural Networks",
    doi="10.3390/rs8070594",
    year=2016,
    licence="MIT (our implementation)",
    smallest=20,
    published="PNN",
    halo=8,
)
class PNNMethod(PairedMethod):
    """Three convolutions; trained on the part of a patch that needs no padding."""

    presets: ClassVar[dict[str, dict[str, Any]]] = LIGHT | {
        "paper": {"steps": 0, "epochs": 12_000, "batch": 64, "lr": 1e-3, "loss": "mse"}
    }

    def network(self) -> PNN:
        return PNN(self.sensor.channels)

    def predict(self, net: nn.Module, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        return net(F.pad(torch.cat([lms, pan], 1), (MARGIN,) * 4, mode="replicate"))

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        inner = batch.gt[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
        return {"loss": self.distance(net(torch.cat([batch.lms, batch.pan], 1)), inner)}
