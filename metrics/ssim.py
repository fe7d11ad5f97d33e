"""SSIM: structural similarity (Wang et al. 2004), with the Gaussian window and with a uniform one."""

import math
from collections.abc import Callable

from torch import Tensor

from pansharp_bench.metrics._common import (
    box_sum,
    check_peak,
    check_shapes,
    in_pieces,
    planes,
    warn_of_normalised,
    weighted_sum,
)
from pansharp_bench.registry import register_metric

_BELL = [math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-5, 6)]
_GAUSSIAN = [v / sum(_BELL) for v in _BELL]
_SIDE = 7


@register_metric(
    "ssim",
    title="SSIM",
    protocol=("reduced", "calibration", "truth"),
    columns=("SSIM",),
    order=60,
    smallest=len(_GAUSSIAN),
)
def ssim(fused: Tensor, reference: Tensor, peak: float = 2047) -> Tensor:
    """Structural similarity, mean over valid windows and bands.

    Gaussian window of 11 x 11 pixels with σ = 1.5, population moments, constants (0.01·peak)² and
    (0.03·peak)²: Wang's original, applied to each band. 1 is perfect. ``peak`` must be the images' own: all values
    in [0, 1] and a peak beyond 1 are warned of.

    Args:
        fused, reference: (N, C, H, W) DN, H and W at least 11.
        peak: the sensor's largest DN, 2047 for 11 bits.

    Returns:
        (N,) float64.

    Raises:
        ImageError: the shapes differ, the images are smaller than a window, or ``peak`` is no positive number.

    >>> import torch
    >>> reference = torch.full((1, 4, 64, 64), 100.0)
    >>> ssim(2 * reference, reference, peak=1e-6)  # means alone: 2 · 2 · 1 / (2² + 1²)
    tensor([0.8000], dtype=torch.float64)
    """
    check_shapes(fused, reference, smallest=len(_GAUSSIAN))
    warn_of_normalised("SSIM", fused, reference, peak=peak)
    return _mean_similarity(fused, reference, peak, lambda x: weighted_sum(x, _GAUSSIAN), 1)


@register_metric(
    "ssim_uniform", title="SSIM (7 x 7)", protocol="reduced", columns=("SSIM_uniform",), order=61, default=False,
    smallest=_SIDE,
)  # fmt: skip
def ssim_uniform(fused: Tensor, reference: Tensor, peak: float = 2047) -> Tensor:
    """Structural similarity with a uniform 7 x 7 window and sample moments, scikit-image's default.

    Arguments, result and errors as for :func:`ssim`; H and W at least 7.

    >>> import torch
    >>> reference = torch.rand(1, 4, 64, 64) * 2047
    >>> ssim_uniform(reference, reference).round(decimals=9)
    tensor([1.], dtype=torch.float64)
    """
    n = _SIDE**2
    check_shapes(fused, reference, smallest=_SIDE)
    warn_of_normalised("SSIM", fused, reference, peak=peak)
    return _mean_similarity(fused, reference, peak, lambda x: box_sum(x, _SIDE).div_(n), n / (n - 1))


def _mean_similarity(
    fused: Tensor, reference: Tensor, peak: float, local_mean: Callable[[Tensor], Tensor], unbiased: float
) -> Tensor:  # fmt: skip
    check_peak(peak)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2

    def of_planes(f: Tensor, g: Tensor) -> Tensor:
        squares, products = local_mean((f * f).addcmul_(g, g)), local_mean(f * g)
        f, g = local_mean(f), local_mean(g)
        mean_products, mean_squares = f * g, f.square_().addcmul_(g, g)
        covariances = products.sub_(mean_products).mul_(unbiased)
        variances = squares.sub_(mean_squares).mul_(unbiased)
        luminance = mean_products.mul_(2).add_(c1).div_(mean_squares.add_(c1))
        structure = covariances.mul_(2).add_(c2).div_(variances.add_(c2))
        return luminance.mul_(structure).mean((1, 2, 3))

    return in_pieces(of_planes, planes(fused), planes(reference)).view(fused.shape[:2]).mean(1)
