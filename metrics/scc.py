"""SCC: spatial correlation coefficient, as DLPan-Toolbox computes it."""

import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.metrics._common import in_pieces, same_shape
from pansharp_bench.registry import register_metric


@register_metric("scc", title="SCC", protocol="reduced", columns=("SCC",), order=20)
@in_pieces
def scc(fused: Tensor, reference: Tensor) -> Tensor:
    """Spatial correlation coefficient of edges (1 is perfect).

    The cosine between the Sobel gradient magnitudes of both images, taken over all pixels and bands at once
    and without removing means: ``Σ S_F S_G / (‖S_F‖ ‖S_G‖)``. The images lose their outer ring, and the
    filter sees zeros beyond the border.

    Args:
        fused, reference: (N, C, H, W) DN, H and W at least 3.

    Returns:
        (N,) float64; NaN for an image of zeros.

    Raises:
        ValueError: the shapes differ, or the images are too small.

    >>> import torch
    >>> reference = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)) * 2047
    >>> scc(2 * reference, reference).round(decimals=9)
    tensor([1.], dtype=torch.float64)
    """
    fused, reference = (_squared_gradient(x) for x in same_shape(fused, reference, smallest=3))
    power = fused.sum((1, 2, 3)) * reference.sum((1, 2, 3))
    return fused.mul_(reference).sqrt_().sum((1, 2, 3)) / power.sqrt()


def _squared_gradient(x: Tensor) -> Tensor:
    x = F.pad(x[..., 1:-1, 1:-1], (1, 1, 1, 1))
    smooth = (x[..., :-2, :] + x[..., 2:, :]).add_(x[..., 1:-1, :], alpha=2)
    down = x[..., 2:, :] - x[..., :-2, :]
    horizontal = smooth[..., 2:] - smooth[..., :-2]
    vertical = (down[..., :-2] + down[..., 2:]).add_(down[..., 1:-1], alpha=2)
    return horizontal.square_().add_(vertical.square_())
