"""BDSD: band-dependent spatial detail."""

import torch
from einops import rearrange
from torch import Tensor

from pansharp_bench.errors import OptionError
from pansharp_bench.imaging import mtf_filter, mtf_reduce_pan, reduce_bicubic
from pansharp_bench.methods._classical import combine, fusion, regression
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "bdsd",
    title="BDSD",
    kind="classical",
    paper="Garzelli, Nencini, Capobianco: Optimal MMSE pan sharpening of very high resolution multispectral "
    "images. IEEE TGRS 46(1), 2008",
    year=2008,
    licence="MIT (our implementation)",
    halo=24,
)
@fusion
def bdsd(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b + γ_b P + Σ_k β_bk M_k, the coefficients from least squares at reduced resolution, of any sign.

    As in BDSD-PC but for the sign; one set for the whole image, as the toolbox's comparisons have it.
    """
    return bdsd_by_blocks(pan, lms, sensor, (pan.shape[-2], pan.shape[-1]))


def bdsd_by_blocks(pan: Tensor, lms: Tensor, sensor: Sensor, block: tuple[int, int]) -> Tensor:
    """BDSD with coefficients of its own for every block of (height, width) PAN pixels; the paper's local version.

    pan (N, 1, H, W) and lms (N, C, H, W) float64 DN; gives (N, C, H, W).

    Raises:
        OptionError: the blocks do not tile the image, or are no multiple of the ratio.
    """
    (h, w), (bh, bw), r = pan.shape[-2:], block, sensor.ratio
    if h % bh or w % bw or bh % r or bw % r:
        raise OptionError(f"blocks of {bh} x {bw} do not tile an image of {h} x {w} at ratio {r}")
    low_ms = reduce_bicubic(lms, sensor)
    blurred = mtf_filter(low_ms, sensor)
    low_pan = mtf_reduce_pan(pan, sensor)

    def blocks(x: Tensor, bh: int, bw: int) -> Tensor:
        return rearrange(x, "n c (y i) (x j) -> (n y x) c i j", i=bh, j=bw)

    regressors = blocks(torch.cat([blurred, low_pan], 1), bh // r, bw // r)
    weights = regression(regressors, blocks(low_ms - blurred, bh // r, bw // r))
    detail = combine(blocks(torch.cat([lms, pan], 1), bh, bw), weights)
    return lms + rearrange(detail, "(n y x) c i j -> n c (y i) (x j)", y=h // bh, x=w // bw)
