"""BT-H: Brovey transform with regression weights and haze correction."""

import math

import torch
from torch import Tensor

from pansharp_bench.imaging import lowpass
from pansharp_bench.methods._components import EPS, combine, fusion, matched, regression
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor

_HAZE = (0.95, 0.45, 0.40, 0.05)  # of the first percentile of blue, green, red, NIR


@register_method(
    "bt-h",
    title="BT-H",
    kind="classical",
    paper="Lolli, Alparone, Garzelli, Vivone: Haze correction for contrast-based multispectral pansharpening. "
    "IEEE GRSL 14(12), 2017",
    doi="10.1109/LGRS.2017.2761021",
    year=2017,
    published="BT-H",
)
@fusion
def bt_h(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """max(M_b - L_b, 0) P' / I + L_b, with haze L_b and I = Σ w_b (M_b - L_b).

    w: least squares of the low-passed PAN on the bands (no constant). P': PAN with I's mean and standard
    deviation, measured on the low-passed PAN. L_b: fixed fractions of the first percentile for four bands
    (blue, green, red, NIR), the band's minimum otherwise.
    """
    haze = _haze(lms)
    low = lowpass(pan, sensor.ratio)
    intensity = combine(lms - haze, regression(lms, low))
    return (lms - haze).clamp(min=0) * matched(pan, intensity, low, low) / (intensity + EPS) + haze


def _haze(lms: Tensor) -> Tensor:
    if lms.shape[1] != len(_HAZE):
        return lms.amin((-2, -1), keepdim=True)
    return lms.new_tensor(_HAZE)[:, None, None] * _percentile(lms, 1)


def _percentile(x: Tensor, percent: float) -> Tensor:
    """MATLAB's ``prctile``: sorted sample i of n is the percentile 100 (i - 0.5) / n, linear in between."""
    values = x.flatten(2)
    n = values.shape[-1]
    position = min(max(percent / 100 * n + 0.5, 1), n)
    lower, upper = (values.kthvalue(k, -1).values for k in (math.floor(position), math.ceil(position)))
    return torch.lerp(lower, upper, position - math.floor(position))[..., None, None]
