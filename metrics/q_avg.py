"""Q: universal image quality index (Wang and Bovik 2002), averaged over bands."""

from functools import partial

import torch
from torch import Tensor

from pansharp_bench.metrics._common import BLOCK, box_sum, check_block, check_shapes, in_pieces, planes
from pansharp_bench.registry import register_metric


@register_metric("q_avg", title="Q", protocol="reduced", columns=("Q",), order=70, smallest=BLOCK)
def q_avg(fused: Tensor, reference: Tensor, block: int = BLOCK) -> Tensor:
    """Universal image quality index over sliding 32 x 32 windows, mean over windows and bands.

    ``4 cov m_F m_G / ((var_F + var_G)(m_F² + m_G²))`` with biased moments; 1 is perfect. In a window where
    both images are flat it is ``2 m_F m_G / (m_F² + m_G²)``, and 1 where both are zero.

    Args:
        fused, reference: (N, C, H, W) DN, H and W at least ``block``.
        block: side of a window; papers use 32.

    Returns:
        (N,) float64.

    Raises:
        ImageError: the shapes differ, the images are smaller than a window, or that is of less than 2 x 2 pixels.

    >>> import torch
    >>> zeros = torch.zeros(1, 4, 64, 64)
    >>> q_avg(zeros, zeros)
    tensor([1.], dtype=torch.float64)
    >>> q_avg(zeros + 50, zeros + 100)  # 2 · 50 · 100 / (50² + 100²)
    tensor([0.8000], dtype=torch.float64)
    """
    check_block(block)
    check_shapes(fused, reference, smallest=block)
    return (
        in_pieces(partial(_quality, block=block), planes(fused), planes(reference))
        .view(fused.shape[:2])
        .mean(1)
    )


def _quality(f: Tensor, g: Tensor, block: int) -> Tensor:
    n = block * block
    sum_f, sum_g = box_sum(f, block), box_sum(g, block)
    product = sum_f * sum_g
    means = sum_f.square_().addcmul_(sum_g, sum_g)
    covariance = box_sum(f * g, block).mul_(n).sub_(product)
    variances = box_sum((f * f).addcmul_(g, g), block).mul_(n).sub_(means)
    denominator = variances.mul_(means)
    quality = covariance.mul_(4).mul_(product).div_(denominator)
    flat = torch.where(means == 0, 1, product.mul_(2).div_(means))
    return torch.where(denominator == 0, flat, quality).mean((1, 2, 3))
