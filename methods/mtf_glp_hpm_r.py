"""MTF-GLP-HPM-R: regression-based high-pass modulation."""

from torch import Tensor

from pansharp_bench.methods._classical import EPS, blurred_pan, fusion, gain, mean
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "mtf-glp-hpm-r",
    title="MTF-GLP-HPM-R",
    kind="classical",
    paper="Vivone, Restaino, Chanussot: A regression-based high-pass modulation pansharpening approach. "
    "IEEE TGRS 56(2), 2018",
    year=2018,
    halo=12,
)
@fusion
def mtf_glp_hpm_r(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b P_b / P_b^L, both PAN images regressed onto the band.

    The regression is x -> g_b (x - μ(P)) + μ(M_b) with g_b = cov(M_b, P_b^L) / var(P_b^L). P_b^L is divided by as
    it is, near 0 too, as in the toolbox.
    """
    low = blurred_pan(pan, sensor)
    gains = gain(lms, low)
    high, low = (gains * (x - mean(pan)) + mean(lms) for x in (pan, low))
    return lms * high / (low + EPS)
