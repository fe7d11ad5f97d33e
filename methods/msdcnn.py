"""MSDCNN: a multiscale and multidepth convolutional network for pansharpening (JSTARS 2018)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pansharp_bench.methods._paired import LIGHT, PairedMethod
from pansharp_bench.registry import register_method


def conv(cin: int, cout: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, size, padding=size // 2)


class MultiScale(nn.Module):
    """Kernels of 3, 5 and 7 taps side by side, with a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(width, width // 3, size) for size in (3, 5, 7))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + torch.cat([f(x) for f in self.convs], 1))


class MSDCNN(nn.Module):
    """A deep multiscale branch and a shallow one, summed."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        relu = nn.ReLU()
        self.deep = nn.Sequential(
            conv(bands + 1, 60, 7), relu, MultiScale(60), conv(60, 30, 3), relu, MultiScale(30),
            conv(30, bands, 5),
        )  # fmt: skip
        self.shallow = nn.Sequential(conv(bands + 1, 64, 9), relu, conv(64, 32, 1), relu, conv(32, bands, 5))

    def forward(self, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        x = torch.cat([lms, pan], 1)
        return torch.relu(self.deep(x) + self.shallow(x))


@register_method(
    "msdcnn",
    title="MSDCNN",
    kind="deep",
    sees="pan+ms",
    training="paired",
    paper="Q. Yuan, Y. Wei, X. Meng, H. Shen, L. Zhang: A Multiscale and Multidepth Convolutional Neural "
    "Network for Remote Sensing Imagery Pan-Sharpening",
    doi="10.1109/JSTARS.2018.2794888",
    year=2018,
    licence="MIT (our implementation)",
    published="MSDCNN",
    halo=8,
)
class MSDCNNMethod(PairedMethod):
    """A deep branch with kernels of three sizes beside a shallow one."""

    presets: ClassVar[dict[str, dict[str, Any]]] = LIGHT | {
        "quick": LIGHT["quick"] | {"steps": 300, "batch": 8},
        "paper": {"steps": 0, "epochs": 500, "batch": 64, "lr": 1e-4, "schedule": "cosine", "loss": "mse"},
    }

    def network(self) -> MSDCNN:
        return MSDCNN(self.sensor.channels)
