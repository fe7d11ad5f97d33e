"""PRACS: partial replacement adaptive component substitution."""

from torch import Tensor

from pansharp_bench.imaging import resize_bicubic
from pansharp_bench.methods._classical import (
    combine,
    corr,
    divide,
    fusion,
    matched,
    mean,
    regression,
    std,
    with_ones,
)
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor

_STRENGTH = 0.95  # the paper's β for 11-bit images


@register_method(
    "pracs",
    title="PRACS",
    kind="classical",
    paper="Choi, Yu, Kim: A new adaptive component-substitution-based satellite image fusion by using partial "
    "replacement. IEEE TGRS 49(1), 2011",
    year=2011,
    licence="MIT (our implementation)",
    halo=4,
)
@fusion
def pracs(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b + w_b a_b (H_b - I_b), free of its mean; H_b is PAN and the band, mixed by how well they correlate.

    With M'_b the band matched to PAN and kept >= 0, and L(x) the regression on all M' and a constant of x resized
    down and up by bicubic: H_b = ρ P + (1 - ρ) M'_b, ρ = corr(L(P), M'_b); I_b = L(H_b). The weight is
    w_b = β corr(I_b, M_b) σ(M_b) / mean σ(M), the adjustment a_b = 1 - |1 - corr(L(P), M_b) M_b / I_b|; I_b is
    divided by as it is, near 0 too, as in the toolbox.
    """
    bands = with_ones(matched(lms, pan, lms).clamp(min=0))

    def regressed(x: Tensor) -> Tensor:
        low = resize_bicubic(resize_bicubic(x, 1 / sensor.ratio), size=x.shape[-2:])
        return combine(bands, regression(bands, low))

    intensity = regressed(pan)
    share = corr(intensity, bands[:, :-1])
    high = share * pan + (1 - share) * bands[:, :-1]
    low = regressed(high)
    weight = _STRENGTH * divide(corr(low, lms) * std(lms), std(lms).mean(1, keepdim=True))
    adjustment = 1 - (1 - divide(corr(intensity, lms) * lms, low)).abs()
    detail = high - low
    return lms + weight * adjustment * (detail - mean(detail))
