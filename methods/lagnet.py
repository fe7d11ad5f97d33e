"""LAGNet: local-context adaptive convolution kernels with a global harmonic bias (AAAI 2022)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.methods._supervised import LIGHT, PairedMethod
from pansharp_bench.registry import register_method


class LAGConv(nn.Module):
    """A 3x3 convolution whose nine taps each pixel weighs anew, alike for all channels, and whose bias comes
    from the image's mean."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.kernel = nn.Conv2d(cin, cout, 3, bias=False).weight
        self.taps = nn.Sequential(
            nn.Conv2d(cin, 9, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(9, 9, 1),
            nn.ReLU(),
            nn.Conv2d(9, 9, 1),
            nn.Sigmoid(),
        )
        self.bias = nn.Sequential(nn.Conv2d(cin, cout, 1), nn.ReLU(), nn.Conv2d(cout, cout, 1))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        patches = F.unfold(x, 3, padding=1).unflatten(1, (-1, 9))
        weighed = patches * self.taps(x).flatten(2)[:, None]
        y = self.kernel.flatten(1) @ weighed.flatten(1, 2)
        return y.unflatten(2, (h, w)) + self.bias(x.mean((2, 3), keepdim=True))


class LAGBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = LAGConv(width, width), LAGConv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


class LAGNet(nn.Module):
    """A residual network of adaptive convolutions on PAN and expanded MS."""

    def __init__(self, bands: int, width: int = 32) -> None:
        super().__init__()
        blocks = (LAGBlock(width) for _ in range(5))
        self.body = nn.Sequential(LAGConv(bands + 1, width), nn.ReLU(), *blocks, LAGConv(width, bands))

    def forward(self, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        return lms + self.body(torch.cat([pan, lms], 1))


@register_method(
    "lagnet",
    title="LAGNet",
    kind="deep",
    sees="pan+ms",
    training="paired",
    paper="Z.-R. Jin, T.-J. Zhang, T.-X. Jiang, G. Vivone, L.-J. Deng: LAGConv: Local-Context Adaptive "
    "Convolution Kernels with Global Harmonic Bias for Pansharpening",
    doi="10.1609/aaai.v36i1.19996",
    year=2022,
    licence="MIT (our implementation)",
    published="LAGNet",
)
class LAGNetMethod(PairedMethod):
    """Convolutions that each pixel adapts, and a bias that the whole image adapts."""

    presets: ClassVar[dict[str, dict[str, Any]]] = LIGHT | {
        "quick": LIGHT["quick"] | {"steps": 200, "batch": 8},
        "paper": {"steps": 0, "epochs": 1000, "batch": 32, "lr": 1e-3},
    }

    def network(self) -> LAGNet:
        return LAGNet(self.sensor.channels)
