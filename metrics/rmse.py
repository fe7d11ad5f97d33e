"""RMSE: root mean square error, in the unit of the images."""

from torch import Tensor

from pansharp_bench.metrics._common import check_shapes, in_pieces
from pansharp_bench.registry import register_metric


@register_metric(
    "rmse",
    title="RMSE",
    protocol="truth",
    tracks=("calibration",),
    columns=("RMSE",),
    better=("low",),
    order=70,
)
def rmse(fused: Tensor, reference: Tensor) -> Tensor:
    """Root mean square error over all pixels and bands, in the unit of the images (I/F for a calibration).

    ``sqrt(Σ (f - g)² / CHW)``; 0 is perfect.

    Args:
        fused, reference: (N, C, H, W).

    Returns:
        (N,) float64.

    Raises:
        ImageError: the shapes differ.

    >>> import torch
    >>> reference = torch.rand(2, 3, 16, 16)
    >>> rmse(reference + 0.25, reference).round(decimals=6)
    tensor([0.2500, 0.2500], dtype=torch.float64)
    """
    check_shapes(fused, reference)
    return in_pieces(lambda f, g: (f - g).square_().mean((1, 2, 3)), fused, reference).sqrt_()
