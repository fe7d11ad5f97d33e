"""DiCNN: pansharpening by detail injection with a convolutional network (JSTARS 2019)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pansharp_bench.methods._paired import LIGHT, PairedMethod
from pansharp_bench.registry import register_method


class DiCNN(nn.Module):
    """Three convolutions of PAN and expanded MS give the details added to the latter."""

    def __init__(self, bands: int, width: int = 64) -> None:
        super().__init__()
        self.details = nn.Sequential(
            nn.Conv2d(bands + 1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, bands, 3, padding=1),
        )

    def forward(self, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        return lms + self.details(torch.cat([lms, pan], 1))


@register_method(
    "dicnn",
    title="DiCNN",
    kind="deep",
    sees="pan+ms",
    training="paired",
    paper="L. He, Y. Rao, J. Li, J. Chanussot, A. Plaza, J. Zhu, B. Li: Pansharpening via Detail Injection "
    "Based Convolutional Neural Networks",
    doi="10.1109/JSTARS.2019.2898574",
    year=2019,
    licence="MIT (our implementation)",
    published="DiCNN",
    halo=8,
)
class DiCNNMethod(PairedMethod):
    """Three convolutions whose output is added to the expanded MS."""

    presets: ClassVar[dict[str, dict[str, Any]]] = LIGHT | {
        "paper": {"steps": 0, "epochs": 5000, "batch": 64, "lr": 2e-4, "loss": "mse"}
    }

    def network(self) -> DiCNN:
        return DiCNN(self.sensor.channels)
