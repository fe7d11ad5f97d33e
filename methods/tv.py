"""TV: total variation, by majorisation-minimisation."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pansharp_bench.methods._classical import fusion
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


class _Setting(NamedTuple):
    weights: tuple[float, ...]  # of the bands in PAN
    smoothness: float  # λ
    step: float = 0.75  # α
    iterations: int = 50


_IKONOS = _Setting((0.1091, 0.2127, 0.2928, 0.3854), 0.47106, 1.064, 10)
_GEOEYE = _Setting((0.1552, 0.3959, 0.2902, 0.1587), 157.8954)
_WORLDVIEW = _Setting((0.0657, 0.1012, 0.1537, 0.1473, 0.1245, 0.1545, 0.1338, 0.1192), 1e-3)
_DAMPING = 8.0  # c


@register_method(
    "tv",
    title="TV",
    kind="classical",
    paper="Palsson, Sveinsson, Ulfarsson: A new pansharpening algorithm based on total variation. "
    "IEEE GRSL 11(1), 2014",
    year=2014,
    licence="MIT (our implementation)",
    halo=24,
)
@fusion
@torch.no_grad()
def tv(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """The x of least |ms - ↓x|² + |P - Σ w_b x_b|² + λ TV(x), after a fixed number of iterations from 0.

    ↓ is MATLAB's antialiased bilinear resize (and ↑ stands for its adjoint). With D = (∂_x, ∂_y) per band, each
    iteration is b = α x + ↑(ms - ↓x) + w (P - Σ w x), z = (D b + D D'z) / (c + 2 α / λ |D x|), x = (b - D'z) / α.
    The toolbox is followed where it departs from the paper: its update of z has + D D'z for c z - D D'z, and its D'
    of eight bands takes for the vertical part of band b the plane 4 + b of z, right for four bands only. Parameters
    are the toolbox's: IKONOS's own, GeoEye-1's for other sensors of four bands, WorldView-3's for eight bands, and
    GeoEye-1's with equal weights for the rest.
    """
    channels = ms.shape[1]
    setting = _IKONOS if sensor.name == "ikonos" else {4: _GEOEYE, 8: _WORLDVIEW}.get(channels)
    setting = setting or _GEOEYE._replace(weights=(1 / channels,) * channels)
    w = ms.new_tensor(setting.weights)[:, None, None]
    phase = sensor.placed((sensor.ratio - 1) / 2)
    x = ms.new_zeros(*ms.shape[:2], *pan.shape[-2:])
    inner = torch.zeros_like(x)  # D'z
    for _ in range(setting.iterations):
        b = _expanded(ms - _shrunk(x, sensor.ratio, phase), sensor.ratio, phase)
        b.add_(x, alpha=setting.step).addcmul_(w, pan - (w * x).sum(1, keepdim=True))
        dx, dy = _gradient(x)
        slope = dx.square_().add_(dy.square_()).sqrt_()
        majoriser = slope.mul_(2 * setting.step / setting.smoothness).add_(_DAMPING)
        dx, dy = (d.div_(majoriser) for d in _gradient(inner.add_(b)))
        if channels == 8:
            dy = torch.cat([dx[:, 4:], dy[:, :4]], 1)
        inner = _adjoint(dx, dy)
        x = b.sub_(inner).div_(setting.step)
    return x


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and lower neighbour, 0 at the last column and row."""
    dx, dy = torch.empty_like(x), torch.empty_like(x)
    dx[..., -1:], dy[..., -1:, :] = 0, 0
    torch.sub(x[..., 1:], x[..., :-1], out=dx[..., :-1])
    torch.sub(x[..., 1:, :], x[..., :-1, :], out=dy[..., :-1, :])
    return dx, dy


def _adjoint(dx: Tensor, dy: Tensor) -> Tensor:
    """D' of dx, whose last column is 0, and of dy, whose last row is not seen."""
    x = -dx
    x[..., 1:] += dx[..., :-1]
    x[..., :-1, :] -= dy[..., :-1, :]
    x[..., 1:, :] += dy[..., :-1, :]
    return x


def _shrunk(x: Tensor, ratio: int, phase: tuple[float, float]) -> Tensor:
    """MATLAB's ``imresize(x, 1 / ratio, "bilinear")``, sample i at ratio i + phase: a triangle of 2 ratio samples,
    mirrored borders (edge sample repeated)."""
    for at in phase:
        first = math.floor(at) + 1 - ratio
        taps = [(1 - abs(first + k - at) / ratio) / ratio for k in range(2 * ratio)]
        before, after = x[..., :-first, :].flip(-2), x[..., x.shape[-2] - first - ratio :, :].flip(-2)
        x = torch.cat([before, x, after], -2)
        last = x.shape[-2] - 2 * ratio + 1
        x = sum((tap * x[..., k : k + last : ratio, :] for k, tap in enumerate(taps)), x.new_zeros(())).mT
    return x


def _expanded(x: Tensor, ratio: int, phase: tuple[float, float]) -> Tensor:
    """Bilinear, sample i at ratio i + phase; beyond the first and the last their values."""
    for at in phase:
        place = torch.arange(ratio * x.shape[-2], device=x.device, dtype=x.dtype).sub_(at).div_(ratio)
        place.clamp_(0, x.shape[-2] - 1)
        lower = place.long().clamp(max=max(x.shape[-2] - 2, 0))
        upper = (lower + 1).clamp(max=x.shape[-2] - 1)
        x = torch.lerp(x[..., lower, :], x[..., upper, :], (place - lower)[:, None]).mT
    return x
