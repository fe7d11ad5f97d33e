"""MTF-GLP-HPM-H: high-pass modulation with haze correction."""

import torch
from torch import Tensor

from pansharp_bench.imaging import lowpass
from pansharp_bench.methods._classical import (
    EPS,
    blurred_pan,
    combine,
    fusion,
    haze,
    regression,
    var,
    with_ones,
)
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "mtf-glp-hpm-h",
    title="MTF-GLP-HPM-H",
    kind="classical",
    paper="Lolli, Alparone, Garzelli, Vivone: Haze correction for contrast-based multispectral pansharpening. "
    "IEEE GRSL 14(12), 2017",
    year=2017,
    licence="MIT (our implementation)",
    halo=12,
)
@fusion
def mtf_glp_hpm_h(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """(M_b - L_b) (P - L_P) / (P_b^L - L_P) + L_b, with the haze L_b of BT-H.

    PAN's haze L_P = w_0 + Σ w_b L_b, w from least squares of the low-passed PAN on the bands and a constant. Where
    PAN is as dark as that, the toolbox divides by nearly nothing, and so do we: DN of any size come out. A flat PAN
    is all haze, and has no detail to inject.
    """
    veil = haze(lms)
    pan_veil = combine(with_ones(veil), regression(with_ones(lms), lowpass(pan, sensor.ratio)))
    fused = (lms - veil) * (pan - pan_veil) / (blurred_pan(pan, sensor) - pan_veil + EPS) + veil
    return torch.where(var(pan) == 0, lms, fused)
