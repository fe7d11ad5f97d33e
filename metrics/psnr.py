"""PSNR: peak signal-to-noise ratio, pooled over the bands or averaged over them."""

from torch import Tensor

from pansharp_bench.metrics._common import check_peak, check_shapes, in_pieces, warn_of_normalised
from pansharp_bench.registry import register_metric


@register_metric(
    "psnr",
    title="PSNR",
    protocol=("reduced", "calibration", "truth"),
    columns=("PSNR",),
    unit="dB",
    order=50,
    digits=3,
)
def psnr(fused: Tensor, reference: Tensor, peak: float = 2047) -> Tensor:
    """Peak signal-to-noise ratio in dB, the error pooled over all pixels and bands.

    ``10 log10(peak² / MSE)``, which is what the field's published tables fit. Infinite where the images are
    equal. ``peak`` must be the images' own: all values in [0, 1] and a peak beyond 1 are warned of.

    Args:
        fused, reference: (N, C, H, W) DN.
        peak: the sensor's largest DN, 2047 for 11 bits.

    Returns:
        (N,) float64.

    Raises:
        ImageError: the shapes differ, or ``peak`` is no positive number.

    >>> import torch
    >>> reference = torch.zeros(1, 4, 64, 64)
    >>> psnr(reference + 20.47, reference).round(decimals=4)
    tensor([40.], dtype=torch.float64)
    """
    mse = _band_mse(fused, reference).mean(1)
    warn_of_normalised("PSNR", fused, reference, peak=peak)
    return _decibels(mse, peak)


@register_metric(
    "psnr_band_mean", title="PSNR (band mean)", protocol="reduced", columns=("PSNR_band_mean",), unit="dB",
    order=51, default=False,
)  # fmt: skip
def psnr_band_mean(fused: Tensor, reference: Tensor, peak: float = 2047) -> Tensor:
    """Mean over the bands of each band's peak signal-to-noise ratio, in dB.

    Some codes report it under the name PSNR; where the errors of the bands differ it is above :func:`psnr`, whose
    arguments, result and errors it shares.

    >>> import torch
    >>> reference = torch.zeros(1, 2, 8, 8)
    >>> error = torch.tensor([20.47, 2.047]).view(1, 2, 1, 1)
    >>> psnr_band_mean(reference + error, reference).round(decimals=4)  # (40 + 60) / 2
    tensor([50.], dtype=torch.float64)
    """
    mse = _band_mse(fused, reference)
    warn_of_normalised("PSNR", fused, reference, peak=peak)
    return _decibels(mse, peak).mean(1)


def _band_mse(fused: Tensor, reference: Tensor) -> Tensor:
    check_shapes(fused, reference)
    return in_pieces(lambda f, g: (f - g).square_().mean((2, 3)), fused, reference)


def _decibels(mse: Tensor, peak: float) -> Tensor:
    check_peak(peak)
    return 10 * (peak**2 / mse).log10()
