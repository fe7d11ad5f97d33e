"""FusionNet: detail injection-based deep convolutional neural networks for pansharpening (TGRS 2021)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from pansharp_bench.methods._paired import LIGHT, PairedMethod, SkipBlock
from pansharp_bench.registry import register_method


class FusionNet(nn.Module):
    """A residual network on what PAN has and each expanded band lacks."""

    def __init__(self, bands: int, width: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(bands, width, 3, padding=1),
            nn.ReLU(),
            *(SkipBlock(width) for _ in range(4)),
            nn.Conv2d(width, bands, 3, padding=1),
        )

    def forward(self, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        return lms + self.body(pan - lms)


@register_method(
    "fusionnet",
    title="FusionNet",
    kind="deep",
    sees="pan+ms",
    training="paired",
    paper="L.-J. Deng, G. Vivone, C. Jin, J. Chanussot: Detail Injection-Based Deep Convolutional Neural "
    "Networks for Pansharpening",
    doi="10.1109/TGRS.2020.3031366",
    year=2021,
    licence="MIT (our implementation)",
    published="FusionNet",
    halo=8,
)
class FusionNetMethod(PairedMethod):
    """A residual network on the difference of PAN and expanded MS."""

    presets: ClassVar[dict[str, dict[str, Any]]] = LIGHT | {
        "paper": {"steps": 0, "epochs": 400, "batch": 32, "lr": 3e-4, "loss": "mse"}
    }

    def network(self) -> FusionNet:
        return FusionNet(self.sensor.channels)
