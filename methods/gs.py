"""GS: Gram-Schmidt component substitution."""

from torch import Tensor

from pansharp_bench.methods._classical import fusion, gain, injected, matched
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "gs",
    title="GS",
    kind="classical",
    paper="Laben, Brower: Process for enhancing the spatial resolution of multispectral imagery using "
    "pan-sharpening. US patent 6,011,875, 2000",
    year=2000,
    halo=0,
)
@fusion
def gs(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b + g_b (P' - I), the intensity I being the mean of the bands.

    P': PAN with I's mean and standard deviation; g_b = cov(M_b, I) / var(I).
    """
    intensity = lms.mean(1, keepdim=True)
    return injected(lms, gain(lms, intensity), matched(pan, intensity, pan) - intensity)
