"""AWLP: additive wavelet luminance proportional."""

from torch import Tensor

from pansharp_bench.imaging import atrous, resize_bicubic
from pansharp_bench.methods._classical import EPS, fusion, matched
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "awlp",
    title="AWLP",
    kind="classical",
    paper="Otazu, González-Audícana, Fors, Núñez: Introduction of sensor spectral response into image fusion "
    "methods. Application to wavelet-based methods. IEEE TGRS 43(10), 2005",
    doi="10.1109/TGRS.2005.856106",
    year=2005,
    halo=4,
)
@fusion
def awlp(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b (1 + (P_b - atrous(P_b)) / I), I the mean of the bands.

    P_b is PAN with the band's mean and standard deviation, measured on PAN resized down and up by bicubic. I is
    divided by as it is, near 0 too, as in the toolbox.
    """
    low = resize_bicubic(resize_bicubic(pan, 1 / sensor.ratio), size=pan.shape[-2:])
    pan = matched(pan, lms, low)
    detail = pan - atrous(pan, levels=(sensor.ratio - 1).bit_length())
    return lms * (1 + detail / (lms.mean(1, keepdim=True) + EPS))
