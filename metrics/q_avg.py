"""Q: universal image quality index (Wang and Bovik 2002), averaged over bands."""

import torch
from torch import Tensor

from pansharp_bench.metrics._common import BLOCK, box_sum, check_shapes, in_pieces, planes
from pansharp_bench.registry import register_metric


@register_metric("q_avg", title="Q", protocol="reduced", columns=("Q",), order=70, smallest=BLOCK)
def q_avg(fused: Tensor, reference: Tensor) -> Tensor:
    """Universal image quality index over sliding 32 x 32 windows, mean over windows and bands.

    ``4 cov m_F m_G / ((var_F + var_G)(m_F² + m_G²))`` with biased moments; 1 is perfect. In a window where
    both images are flat it is ``2 m_F m_G / (m_F² + m_G²)``, and 1 where both are zero.

    Args:
        fused, reference: (N, C, H, W) DN, H and W at least 32.

    Returns:
        (N,) float64.

    Raises:
        ImageError: the shapes differ, or the images are smaller than a window.

    >>> import torch
    >>> zeros = torch.zeros(1, 4, 64, 64)
    >>> q_avg(zeros, zeros)
    tensor([1.], dtype=torch.float64)
    >>> q_avg(zeros + 50, zeros + 100)  # 2 · 50 · 100 / (50² + 100²)
    tensor([0.8000], dtype=torch.float64)
    """
    check_shapes(fused, reference, smallest=BLOCK)
    return in_pieces(_quality, planes(fused), planes(reference)).view(fused.shape[:2]).mean(1)


def _quality(f: Tensor, g: Tensor) -> Tensor:
    n = BLOCK * BLOCK
    sum_f, sum_g = box_sum(f, BLOCK), box_sum(g, BLOCK)
    product = sum_f * sum_g
    means = sum_f.square_().addcmul_(sum_g, sum_g)
    covariance = box_sum(f * g, BLOCK).mul_(n).sub_(product)
    variances = box_sum((f * f).addcmul_(g, g), BLOCK).mul_(n).sub_(means)
    denominator = variances.mul_(means)
    quality = covariance.mul_(4).mul_(product).div_(denominator)
    flat = torch.where(means == 0, 1, product.mul_(2).div_(means))
    return torch.where(denominator == 0, flat, quality).mean((1, 2, 3))
