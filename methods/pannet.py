"""PanNet: a deep network architecture for pan-sharpening (ICCV 2017)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.methods._paired import LIGHT, PairedMethod, SkipBlock
from pansharp_bench.registry import register_method


class PanNet(nn.Module):
    """Learns what to add to the expanded MS from the high frequencies of PAN and MS alone."""

    def __init__(self, bands: int, width: int = 32) -> None:
        super().__init__()
        self.expand = nn.ConvTranspose2d(bands, bands, 8, 4, 2)
        self.body = nn.Sequential(
            nn.Conv2d(bands + 1, width, 3, padding=1),
            nn.ReLU(),
            *(SkipBlock(width) for _ in range(4)),
            nn.Conv2d(width, bands, 3, padding=1),
        )

    def forward(self, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        details = torch.cat([self.expand(high_pass(ms)), high_pass(pan)], 1)
        return lms + self.body(details)


def high_pass(x: Tensor) -> Tensor:
    """x minus its 5x5 mean, the border mirrored without repeating the edge; images from 3 pixels."""
    return x - F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, 1)


@register_method(
    "pannet",
    title="PanNet",
    kind="deep",
    sees="pan+ms",
    training="paired",
    paper="J. Yang, X. Fu, Y. Hu, Y. Huang, X. Ding, J. Paisley: PanNet: A Deep Network Architecture for "
    "Pan-Sharpening",
    doi="10.1109/ICCV.2017.193",
    year=2017,
    licence="MIT (our implementation)",
    smallest=12,
    published="PanNet",
    halo=8,
)
class PanNetMethod(PairedMethod):
    """A residual network on high-pass images, added to the expanded MS."""

    presets: ClassVar[dict[str, dict[str, Any]]] = LIGHT | {
        "paper": {"steps": 0, "epochs": 450, "batch": 32, "lr": 1e-3, "loss": "mse"}
    }

    def network(self) -> PanNet:
        return PanNet(self.sensor.channels)
