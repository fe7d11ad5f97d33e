"""MF-HG: morphological pyramid with half gradients."""

import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.methods._classical import EPS, fusion, matched
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "mf-hg",
    title="MF-HG",
    kind="classical",
    paper="Restaino, Vivone, Dalla Mura, Chanussot: Fusion of multispectral and panchromatic images based on "
    "morphological operators. IEEE TIP 25(6), 2016",
    year=2016,
    licence="MIT (our implementation)",
    halo=2,
)
@fusion
def mf_hg(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b P_b / P_b^L: PAN and its morphological low pass, both with the band's mean and standard deviation.

    Each factor of two takes the mean of dilation and erosion by a cross of five pixels (what half the difference of
    the two gradients leaves of the image) at every second pixel; the samples are expanded again bilinearly. That
    commutes with matching PAN to a band, so it is done once. P_b^L is divided by as it is, near 0 too, as in the
    toolbox. Of an image that is not square the toolbox expands by way of a square one; that is not followed.
    """
    low, steps = pan, sensor.ratio.bit_length() - 1
    for step in range(steps):
        start = int(step == 0)
        low = ((_dilated(low) - _dilated(-low)) / 2)[..., start::2, start::2]
    for _ in range(steps):
        low = F.interpolate(low, scale_factor=2, mode="bilinear")
    high, low = (matched(x, lms, pan, pan) for x in (pan, low))
    return lms * high / (low + EPS)


def _dilated(x: Tensor) -> Tensor:
    """The largest value of each pixel and its four neighbours within the image."""
    rows, columns = F.max_pool2d(x, (3, 1), 1, (1, 0)), F.max_pool2d(x, (1, 3), 1, (0, 1))
    return rows.maximum(columns)
