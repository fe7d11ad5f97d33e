"""LAGNet: local-context adaptive convolution kernels with a global harmonic bias (AAAI 2022)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from pansharp_bench.methods._paired import LIGHT, PairedMethod
from pansharp_bench.methods._patches import TAPS, add_patches, patches_of, pieces, sum_type
from pansharp_bench.registry import register_method


class LAGConv(nn.Module):
    """A 3x3 convolution whose nine taps each pixel weighs anew, alike for all channels, and whose bias comes
    from the image's mean."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.weight = nn.Conv2d(cin, cout, 3, bias=False).weight
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
        taps, bias = self.taps(x), self.bias(x.mean((2, 3), keepdim=True))
        x, taps = (rearrange(t.to(taps.dtype), "b c h w -> b h w c") for t in (x, taps))
        theta = rearrange(self.weight, "o c y x -> (y x c) o").to(taps.dtype)
        y = _TapConv.apply(F.pad(x, (0, 0, 1, 1, 1, 1)), taps, theta)
        return rearrange(y, "b h w o -> b o h w") + bias


class _TapConv(torch.autograd.Function):
    """y = (patches ⊙ taps) Θ: padded (B, H + 2, W + 2, cin), taps (B, H, W, 9), Θ (9·cin, cout), tap first."""

    @staticmethod
    def forward(ctx, padded, taps, theta):
        padded, taps = padded.contiguous(), taps.contiguous()
        y = taps.new_empty(*taps.shape[:3], theta.shape[1])
        for images, rows in pieces(padded):
            weights = taps[images, rows].flatten(1, 2)[..., None]
            weighed = patches_of(padded, images, rows).unflatten(2, (TAPS, -1)) * weights
            y[images, rows] = (weighed.flatten(2) @ theta).view_as(y[images, rows])
        ctx.save_for_backward(padded, taps, theta)
        return y

    @staticmethod
    def backward(ctx, grad):
        padded, taps, theta = ctx.saved_tensors
        exact = sum_type(padded.dtype)
        grad_padded, grad_theta = (torch.zeros_like(t, dtype=exact) for t in (padded, theta))
        grad_taps = torch.empty_like(taps)
        for images, rows in pieces(padded):
            weights = taps[images, rows].flatten(1, 2)[..., None]
            patches = patches_of(padded, images, rows).unflatten(2, (TAPS, -1))
            part = grad[images, rows].flatten(1, 2)
            grad_theta += (patches * weights).flatten(2).flatten(0, 1).T @ part.flatten(0, 1)
            weighed = (part @ theta.T).unflatten(2, (TAPS, -1))
            grad_taps[images, rows] = (patches * weighed).sum(3).view_as(grad_taps[images, rows])
            add_patches(grad_padded, (weighed * weights).flatten(2), images, rows)
        return grad_padded.to(padded.dtype), grad_taps, grad_theta.to(theta.dtype)


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
    year=2022,
    licence="MIT (our implementation)",
    published="LAGNet",
)
class LAGNetMethod(PairedMethod):
    """Convolutions that each pixel adapts, and a bias that the whole image adapts."""

    presets: ClassVar[dict[str, dict[str, Any]]] = LIGHT | {
        "quick": LIGHT["quick"] | {"steps": 200, "batch": 8},
        "paper": {"steps": 0, "epochs": 1000, "batch": 32, "lr": 1e-3, "loss": "mse"},
    }

    def network(self) -> LAGNet:
        return LAGNet(self.sensor.channels)
