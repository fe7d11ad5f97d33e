"""MTF-GLP-HPM: the generalised Laplacian pyramid with high-pass modulation."""

from torch import Tensor

from pansharp_bench.imaging import lowpass
from pansharp_bench.methods._classical import EPS, blurred_pan, fusion, matched
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "mtf-glp-hpm",
    title="MTF-GLP-HPM",
    kind="classical",
    paper="Aiazzi, Alparone, Baronti, Garzelli, Selva: An MTF-based spectral distortion minimizing model for "
    "pan-sharpening of very high resolution multispectral images of urban areas. URBAN, 2003",
    year=2003,
    halo=12,
)
@fusion
def mtf_glp_hpm(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b P_b / P_b^L, with P_b and P_b^L as in MTF-GLP (high-pass modulation).

    P_b^L passes through 0 where the band's deviation is a large share of its mean; the toolbox divides by it as it
    is, and so do we: DN of any size come out.
    """
    pan = matched(pan, lms, lowpass(pan, sensor.ratio))
    return lms * pan / (blurred_pan(pan, sensor) + EPS)
