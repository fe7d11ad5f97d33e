"""SFIM: smoothing filter-based intensity modulation."""

import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.methods._classical import EPS, fusion
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "sfim",
    title="SFIM",
    kind="classical",
    paper="Liu: Smoothing filter-based intensity modulation: a spectral preserve image fusion technique for "
    "improving spatial details. Int. J. Remote Sensing 21(18), 2000",
    doi="10.1080/014311600750037499",
    year=2000,
    halo=1,
)
@fusion
def sfim(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b P / box(P), the box as wide as one MS pixel and its rim: ratio + 1 (edge-repeating borders).

    box(P) is divided by as it is, near 0 too.
    """
    reach = sensor.ratio // 2
    smooth = F.avg_pool2d(F.pad(pan, (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1)
    return lms * pan / (smooth + EPS)
