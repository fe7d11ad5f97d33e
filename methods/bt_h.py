"""BT-H: Brovey transform with regression weights and haze correction."""

from torch import Tensor

from pansharp_bench.imaging import lowpass
from pansharp_bench.methods._classical import EPS, combine, fusion, haze, matched, regression
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "bt-h",
    title="BT-H",
    kind="classical",
    paper="Lolli, Alparone, Garzelli, Vivone: Haze correction for contrast-based multispectral pansharpening. "
    "IEEE GRSL 14(12), 2017",
    year=2017,
    published="BT-H",
    halo=5,
)
@fusion
def bt_h(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """max(M_b - L_b, 0) P' / I + L_b, with haze L_b and I = Σ w_b (M_b - L_b).

    w: least squares of the low-passed PAN on the bands (no constant). P': PAN with I's mean and standard
    deviation, measured on the low-passed PAN. I passes through 0 where weights of both signs cancel or a pixel is
    as dark as the haze; the toolbox divides by it as it is, and so do we: DN of any size come out.
    """
    veil = haze(lms)
    low = lowpass(pan, sensor.ratio)
    intensity = combine(lms - veil, regression(lms, low))
    return (lms - veil).clamp(min=0) * matched(pan, intensity, low, low) / (intensity + EPS) + veil
