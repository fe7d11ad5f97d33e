"""GS2-GLP: Gram-Schmidt injection (mode 2) on the generalised Laplacian pyramid."""

from torch import Tensor

from pansharp_bench.methods._classical import blurred_pan, fusion, gain, injected
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "gs2-glp",
    title="GS2-GLP",
    kind="classical",
    paper="Alparone, Wald, Chanussot, Thomas, Gamba, Bruce: Comparison of pansharpening algorithms: outcome of the "
    "2006 GRS-S data-fusion contest. IEEE TGRS 45(10), 2007",
    year=2007,
    licence="MIT (our implementation)",
    halo=12,
)
@fusion
def gs2_glp(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b + g_b (P - P_b^L), g_b = cov(M_b, P_b^L) / var(P_b^L); MTF-GLP-CBD with one context, the whole image."""
    low = blurred_pan(pan, sensor)
    return injected(lms, gain(lms, low), pan - low)
