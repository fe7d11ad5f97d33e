"""SAM: spectral angle mapper (Yuhas et al. 1992)."""

from torch import Tensor

from pansharp_bench.metrics._common import in_pieces, same_shape
from pansharp_bench.registry import register_metric


@register_metric(
    "sam", title="SAM", protocol="reduced", columns=("SAM",), better=("low",), unit="°", order=30
)  # fmt: skip
@in_pieces
def sam(fused: Tensor, reference: Tensor) -> Tensor:
    """Spectral angle mapper, in degrees (0 is perfect): mean angle between the pixels' spectra.

    ``acos(<F, G> / sqrt(<F, F> <G, G>))``; a pixel whose spectrum is zero in either image is left out.
    Identical directions whose cosine is rounded to above 1 count as 0.

    Args:
        fused, reference: (N, C, H, W) DN.

    Returns:
        (N,) float64; NaN where every pixel is left out.

    Raises:
        ValueError: the shapes differ.

    >>> import torch
    >>> reference = torch.tensor([100.0, 100.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    >>> fused = torch.tensor([300.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    >>> sam(fused, reference).round(decimals=6)
    tensor([45.], dtype=torch.float64)
    """
    fused, reference = same_shape(fused, reference)
    norms = ((fused * fused).sum(1) * (reference * reference).sum(1)).sqrt_()
    angle = (fused * reference).sum(1).div_(norms).clamp_(-1, 1).acos_()
    empty = norms == 0
    total = angle.masked_fill_(empty, 0).sum((1, 2))
    return (total / (~empty).sum((1, 2))).rad2deg()
