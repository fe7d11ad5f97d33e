"""SSIM: structural similarity (Wang et al. 2004), with the Gaussian window and with a uniform one."""

import math

from torch import Tensor

from pansharp_bench.metrics._common import box_sum, in_pieces, same_shape, weighted_sum
from pansharp_bench.registry import register_metric

_BELL = [math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-5, 6)]
_GAUSSIAN = [v / sum(_BELL) for v in _BELL]
_SIDE = 7


@register_metric("ssim", title="SSIM", protocol="reduced", columns=("SSIM",), order=60)
@in_pieces
def ssim(fused: Tensor, reference: Tensor, peak: float = 2047) -> Tensor:
    """Structural similarity, mean over valid windows and bands (1 is perfect).

    Gaussian window of 11 x 11 pixels with σ = 1.5, population moments, constants (0.01·peak)² and
    (0.03·peak)²: Wang's original, applied to each band.

    Args:
        fused, reference: (N, C, H, W) DN, H and W at least 11.
        peak: the sensor's largest DN, 2047 for 11 bits.

    Returns:
        (N,) float64.

    Raises:
        ValueError: the shapes differ, or the images are smaller than a window.

    >>> import torch
    >>> reference = torch.full((1, 4, 64, 64), 2047.0)
    >>> ssim(0 * reference, reference).round(decimals=7)  # 0.01² / (1 + 0.01²)
    tensor([1.0000e-04], dtype=torch.float64)
    """
    f, g = same_shape(fused, reference, smallest=len(_GAUSSIAN))
    squares = (f * f).addcmul_(g, g)
    return _similarity(*(weighted_sum(x, _GAUSSIAN) for x in (f, g, squares, f * g)), peak)


@register_metric(
    "ssim-uniform", title="SSIM (7 x 7)", protocol="reduced", columns=("SSIM_uniform",), order=61, default=False
)  # fmt: skip
@in_pieces
def ssim_uniform(fused: Tensor, reference: Tensor, peak: float = 2047) -> Tensor:
    """SSIM with a uniform 7 x 7 window and sample moments, as scikit-image computes it by default.

    Arguments and result as for :func:`ssim`, H and W at least 7.

    >>> import torch
    >>> reference = torch.rand(1, 4, 64, 64) * 2047
    >>> ssim_uniform(reference, reference).round(decimals=9)
    tensor([1.], dtype=torch.float64)
    """
    f, g = same_shape(fused, reference, smallest=_SIDE)
    n = _SIDE**2
    squares = (f * f).addcmul_(g, g)
    moments = (box_sum(x, _SIDE).div_(n) for x in (f, g, squares, f * g))
    return _similarity(*moments, peak, unbiased=n / (n - 1))


def _similarity(
    f: Tensor, g: Tensor, squares: Tensor, products: Tensor, peak: float, unbiased: float = 1
) -> Tensor:
    """From the windows' means of F, G, F² + G² and F·G."""
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_product = f * g
    mean_squares = f.square_().add_(g.square_())
    covariance = products.sub_(mean_product).mul_(unbiased)
    variances = squares.sub_(mean_squares).mul_(unbiased)
    luminance = mean_product.mul_(2).add_(c1).div_(mean_squares.add_(c1))
    structure = covariance.mul_(2).add_(c2).div_(variances.add_(c2))
    return luminance.mul_(structure).mean((1, 2, 3))
