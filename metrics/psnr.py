"""PSNR: peak signal-to-noise ratio, pooled over the bands or averaged over them."""

from torch import Tensor

from pansharp_bench.metrics._common import in_pieces, same_shape
from pansharp_bench.registry import register_metric


@register_metric("psnr", title="PSNR", protocol="reduced", columns=("PSNR",), unit="dB", order=50)
@in_pieces
def psnr(fused: Tensor, reference: Tensor, peak: float = 2047) -> Tensor:
    """Peak signal-to-noise ratio, in dB: ``10 log10(peak² / MSE)``, the error pooled over pixels and bands.

    This is what the field's published tables fit. Infinite where the images are equal.

    Args:
        fused, reference: (N, C, H, W) DN.
        peak: the sensor's largest DN, 2047 for 11 bits.

    Returns:
        (N,) float64.

    Raises:
        ValueError: the shapes differ.

    >>> import torch
    >>> reference = torch.zeros(1, 4, 64, 64)
    >>> psnr(reference + 20.47, reference).round(decimals=4)
    tensor([40.], dtype=torch.float64)
    """
    fused, reference = same_shape(fused, reference)
    return _decibels((fused - reference).square_().mean((1, 2, 3)), peak)


@register_metric(
    "psnr-band-mean", title="PSNR (band mean)", protocol="reduced", columns=("PSNR_band_mean",), unit="dB",
    order=51, default=False,
)  # fmt: skip
@in_pieces
def psnr_band_mean(fused: Tensor, reference: Tensor, peak: float = 2047) -> Tensor:
    """Mean over bands of each band's PSNR, in dB; some codes report it, 1 to 2 dB above :func:`psnr`.

    Arguments and result as for :func:`psnr`.

    >>> import torch
    >>> reference = torch.zeros(1, 2, 8, 8)
    >>> error = torch.tensor([20.47, 2.047]).view(1, 2, 1, 1)
    >>> psnr_band_mean(reference + error, reference).round(decimals=4)  # (40 + 60) / 2
    tensor([50.], dtype=torch.float64)
    """
    fused, reference = same_shape(fused, reference)
    return _decibels((fused - reference).square_().mean((2, 3)), peak).mean(1)


def _decibels(mse: Tensor, peak: float) -> Tensor:
    return 10 * (peak**2 / mse).log10()
