"""ERGAS: relative dimensionless global error in synthesis (Wald 2000)."""

import math

from torch import Tensor

from pansharp_bench.errors import ImageError
from pansharp_bench.metrics._common import check_shapes, in_pieces
from pansharp_bench.registry import register_metric


@register_metric(
    "ergas",
    title="ERGAS",
    protocol=("reduced", "truth"),
    columns=("ERGAS",),
    better=("low",),
    order=10,
    digits=3,
)
def ergas(fused: Tensor, reference: Tensor, ratio: float = 4) -> Tensor:
    """Relative dimensionless global error in synthesis.

    ``100 / ratio · sqrt(mean_b(MSE_b / mean(reference_b)²))`` over the bands b; 0 is perfect.

    Args:
        fused, reference: (N, C, H, W) DN.
        ratio: PAN to MS resolution, 4 for all sensors here.

    Returns:
        (N,) float64.

    Raises:
        ImageError: the shapes differ, or ``ratio`` is below 1 (some codes take 1/4 for 4).

    >>> import torch
    >>> reference = torch.full((1, 4, 64, 64), 500.0)
    >>> ergas(reference + 20, reference)  # 25 · 20 / 500
    tensor([1.], dtype=torch.float64)
    """
    check_shapes(fused, reference)
    if not 1 <= ratio < math.inf:
        raise ImageError(f"ratio={ratio:g}: PAN pixels on the side of an MS pixel are expected, 4, not 1/4")
    return 100 / ratio * in_pieces(_relative_error, fused, reference)


def _relative_error(fused: Tensor, reference: Tensor) -> Tensor:
    mse = (fused - reference).square_().mean((2, 3))
    return (mse / reference.mean((2, 3)).square()).mean(1).sqrt()
