"""MTF-GLP: the generalised Laplacian pyramid with MTF-matched filters."""

from torch import Tensor

from pansharp_bench.imaging import lowpass
from pansharp_bench.methods._classical import blurred_pan, fusion, matched
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "mtf-glp",
    title="MTF-GLP",
    kind="classical",
    paper="Aiazzi, Alparone, Baronti, Garzelli, Selva: MTF-tailored multiscale fusion of high-resolution MS and "
    "Pan imagery. PE&RS 72(5), 2006",
    doi="10.14358/PERS.72.5.591",
    year=2006,
    halo=12,
)
@fusion
def mtf_glp(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b + P_b - P_b^L, the detail that the band's MTF removes from PAN.

    P_b: PAN with the band's mean and standard deviation, measured on the low-passed PAN. P_b^L: P_b
    MTF-filtered, decimated and expanded.
    """
    pan = matched(pan, lms, lowpass(pan, sensor.ratio))
    return lms + pan - blurred_pan(pan, sensor)
