"""SCC: spatial correlation coefficient, as DLPan-Toolbox computes it."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.metrics._common import check_shapes, in_pieces, planes
from pansharp_bench.registry import register_metric


@register_metric("scc", title="SCC", protocol="reduced", columns=("SCC",), order=20, smallest=4)
def scc(fused: Tensor, reference: Tensor) -> Tensor:
    """Spatial correlation coefficient: how well the edges of both images agree.

    The cosine between their Sobel gradient magnitudes, taken over all pixels and bands at once and without
    removing means: ``Σ S_F S_G / (‖S_F‖ ‖S_G‖)``; 1 is perfect. The images lose their outer ring, and the
    filter sees zeros beyond the border.

    Args:
        fused, reference: (N, C, H, W) DN, H and W at least 4.

    Returns:
        (N,) float64; NaN for an image of zeros.

    Raises:
        ImageError: the shapes differ, or the images are too small.

    >>> import torch
    >>> reference = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)) * 2047
    >>> scc(2 * reference, reference).round(decimals=9)
    tensor([1.], dtype=torch.float64)
    """
    check_shapes(fused, reference, smallest=4)
    sums = in_pieces(_edge_sums, planes(fused), planes(reference))
    products, power_f, power_g = sums.view(*fused.shape[:2], 3).sum(1).unbind(1)
    return products / (power_f * power_g).sqrt()


def _edge_sums(fused: Tensor, reference: Tensor) -> Tensor:
    """Sums of S_F S_G, S_F² and S_G² of every image: (N, 3)."""
    f, g = _squared_gradient(fused), _squared_gradient(reference)
    sums = [x.sum((1, 2, 3)) for x in (f, g)]
    return torch.stack([f.mul_(g).sqrt_().sum((1, 2, 3)), *sums], 1)


def _squared_gradient(x: Tensor) -> Tensor:
    x = F.pad(x[..., 1:-1, 1:-1], (1, 1, 1, 1))
    smooth = (x[..., :-2, :] + x[..., 2:, :]).add_(x[..., 1:-1, :], alpha=2)
    down = x[..., 2:, :] - x[..., :-2, :]
    horizontal = smooth[..., 2:] - smooth[..., :-2]
    vertical = (down[..., :-2] + down[..., 2:]).add_(down[..., 1:-1], alpha=2)
    return horizontal.square_().addcmul_(vertical, vertical)
