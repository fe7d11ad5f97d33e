"""ERGAS: relative dimensionless global error in synthesis (Wald 2000)."""

from torch import Tensor

from pansharp_bench.metrics._common import in_pieces, same_shape
from pansharp_bench.registry import register_metric


@register_metric(
    "ergas", title="ERGAS", protocol="reduced", columns=("ERGAS",), better=("low",), order=10
)  # fmt: skip
@in_pieces
def ergas(fused: Tensor, reference: Tensor, ratio: float = 4) -> Tensor:
    """Relative dimensionless global error in synthesis, ERGAS (0 is perfect).

    ``100 / ratio · sqrt(mean_b(MSE_b / mean(reference_b)²))`` over the bands b.

    Args:
        fused, reference: (N, C, H, W) DN.
        ratio: MS pixel size over PAN pixel size.

    Returns:
        (N,) float64.

    Raises:
        ValueError: the shapes differ.

    >>> import torch
    >>> reference = torch.full((1, 4, 64, 64), 500.0)
    >>> ergas(reference + 20, reference)  # 25 · 20 / 500
    tensor([1.], dtype=torch.float64)
    """
    fused, reference = same_shape(fused, reference)
    mse = (fused - reference).square_().mean((2, 3))
    return 100 / ratio * (mse / reference.mean((2, 3)).square()).mean(1).sqrt()
