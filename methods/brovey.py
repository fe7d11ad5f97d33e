"""Brovey transform: component substitution by ratio."""

from torch import Tensor

from pansharp_bench.methods._classical import EPS, fusion, matched
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "brovey",
    title="Brovey",
    kind="classical",
    paper="Gillespie, Kahle, Walker: Color enhancement of highly correlated images. II. Channel ratio and "
    '"chromaticity" transformation techniques. Remote Sensing of Environment 22(3), 1987',
    doi="10.1016/0034-4257(87)90088-5",
    year=1987,
    halo=0,
)
@fusion
def brovey(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b P' / I: I the mean of the bands, P' PAN with I's mean and standard deviation.

    I is divided by as it is, near 0 too (dark images, offsets below 0).
    """
    intensity = lms.mean(1, keepdim=True)
    return lms * matched(pan, intensity, pan) / (intensity + EPS)
