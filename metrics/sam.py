"""SAM: spectral angle mapper (Yuhas et al. 1992)."""

from torch import Tensor

from pansharp_bench.metrics._common import check_shapes, in_pieces
from pansharp_bench.registry import register_metric


@register_metric(
    "sam",
    title="SAM",
    protocol=("reduced", "truth"),
    columns=("SAM",),
    better=("low",),
    unit="°",
    order=30,
    digits=3,
)
def sam(fused: Tensor, reference: Tensor) -> Tensor:
    """Spectral angle mapper: the mean angle between the pixels' spectra, in degrees.

    ``acos(<F, G> / sqrt(<F, F> <G, G>))``; a pixel whose spectrum is zero in either image is left out. A
    cosine that rounding puts above 1 counts as angle 0. 0 is perfect.

    Args:
        fused, reference: (N, C, H, W) DN.

    Returns:
        (N,) float64; NaN where every pixel is left out.

    Raises:
        ImageError: the shapes differ.

    >>> import torch
    >>> reference = torch.tensor([100.0, 100.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    >>> fused = torch.tensor([300.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    >>> sam(fused, reference).round(decimals=6)
    tensor([45.], dtype=torch.float64)
    """
    check_shapes(fused, reference)
    return in_pieces(_mean_angle, fused, reference).rad2deg_()


def _mean_angle(fused: Tensor, reference: Tensor) -> Tensor:
    norms = ((fused * fused).sum(1) * (reference * reference).sum(1)).sqrt_()
    angles = (fused * reference).sum(1).div_(norms).clamp_(-1, 1).acos_()
    empty = norms == 0
    return angles.masked_fill_(empty, 0).sum((1, 2)) / (~empty).sum((1, 2))
