"""Power spectral density: how the detail of a set of images is spread over spatial frequencies."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pansharp_bench.errors import ImageError
from pansharp_bench.metrics._common import check_images, in_pieces
from pansharp_bench.registry import register_metric
from pansharp_bench.scene import Sensor


class PowerSpectrum(NamedTuple):
    """``frequency`` and ``power``, (K,) float64 each."""

    frequency: Tensor
    power: Tensor


def power_spectrum(images: Tensor, spacing: float = 1.0) -> PowerSpectrum:
    """Azimuthally averaged, normalised power spectral density, mean over images and channels.

    Of each image and channel the mean is taken away and a Hann window w (periodic, along both axes) applied:
    y = w (x - Σwx / Σw), without which the edges of an image, which do not meet, would show as detail. With Y
    its discrete Fourier transform, ``P = spacing² · HW |Y|² / Σ|Y|²``: the density whose integral over all
    frequencies is 1. So a change of gain or offset changes nothing, every image counts alike, and white noise
    has P = spacing². P is averaged over rings of width 1 / (L · spacing), L = min(H, W), about
    frequencies of k / (L · spacing), k = 1 … L // 2; what lies beyond fs / 2 in the corners of the frequency
    plane is left out. The first ring, one wave per image, loses some of its power with the mean. An image
    without variation has no power.

    Args:
        images: (N, C, H, W), sides of at least 4.
        spacing: distance of two pixels: 1 for cycles per pixel; 62.5, where that is in km, for cycles per km.

    Returns:
        ``frequency`` (K,), up to fs / 2 = 1 / (2 · spacing), and ``power`` (K,), in spacing²; float64. NaN
        where an image has a value that is not finite, or there are no images.

    Raises:
        ImageError: the images are not (N, C, H, W), or too small.

    >>> import torch
    >>> wave = torch.sin(2 * torch.pi * 8 / 64 * torch.arange(64.0)).expand(1, 1, 64, 64)
    >>> frequency, power = power_spectrum(wave)
    >>> frequency[power.argmax()], frequency[-1]
    (tensor(0.1250, dtype=torch.float64), tensor(0.5000, dtype=torch.float64))
    """
    power = _spectra(images).mean((0, 1)) * spacing**2
    return PowerSpectrum(_frequencies(images) / spacing, power)


@register_metric(
    "power_spectrum", title="Power spectrum", protocol="calibration", tracks=("calibration",), scope="set",
    columns=("psd_gap",), better=("low",), unit="dB", order=40, digits=2, smallest=4,
)  # fmt: skip
class PowerSpectra:
    """Detail of the outputs against that of their sources, by the power spectra of the sets.

    Column ``psd_gap``: the mean of |10 log10(P_output / P_source)| over the upper octave, fs/4 … fs/2, in dB:
    0 where the finest detail has the same share of an image's power as before; lost detail and added noise
    both count. (A target whose pixels are 2.5 times as wide has nothing to say beyond fs/5.) The curves are
    those of :func:`power_spectrum` in cycles per pixel.

    >>> import torch
    >>> metric, images = PowerSpectra("junocam2hst"), torch.rand(2, 3, 32, 32)
    >>> metric.add("source", images)
    >>> metric.add("output", 0.5 * images + 0.1)
    >>> round(metric.scores()[0], 6)
    0.0
    """

    def __init__(self, sensor: str | Sensor) -> None:
        self._frequency: Tensor | None = None
        self._power: dict[str, Tensor] = {}  # sums over images and channels
        self._count: dict[str, int] = {}

    def add(self, role: str, images: Tensor) -> None:
        """Add (N, C, H, W) images of a role: output, source, target or truth; all of one size."""
        spectra, frequency = _spectra(images).cpu(), _frequencies(images).cpu()
        if self._frequency is None:
            self._frequency = frequency
        if not torch.equal(self._frequency, frequency):
            raise ImageError(
                f"power spectra are of images of one size; {role} images have sides of "
                f"{tuple(images.shape[-2:])} where the shorter was {2 * len(self._frequency)} before"
            )
        total = spectra.sum((0, 1))
        self._power[role] = self._power[role] + total if role in self._power else total
        self._count[role] = self._count.get(role, 0) + images.shape[0] * images.shape[1]

    def _mean(self, role: str) -> Tensor:
        return self._power[role] / self._count[role]

    def scores(self) -> tuple[float, ...]:
        """psd_gap in dB; NaN without outputs or sources."""
        if self._frequency is None or not {"output", "source"} <= set(self._power):
            return (math.nan,)
        ratio = self._mean("output") / self._mean("source")
        return ((10 * ratio[self._frequency >= 0.25].log10()).abs().mean().item(),)

    def curves(self) -> dict[str, Any]:
        """``psd``: ``frequency`` in cycles per pixel, and the power of each role."""
        if self._frequency is None:
            return {}
        roles = {role: self._mean(role).tolist() for role in self._power}
        return {"psd": {"frequency": self._frequency.tolist(), **roles}}


def _frequencies(images: Tensor) -> Tensor:
    """(K,) in cycles per pixel."""
    side = min(images.shape[-2:])
    return torch.arange(1, side // 2 + 1, dtype=torch.float64, device=images.device) / side


def _spectra(images: Tensor) -> Tensor:
    """(N, C, K): normalised density of each image and channel in the rings, in pixels²."""
    check_images(images, smallest=4)
    height, width = images.shape[-2:]
    side, device = min(height, width), images.device
    if not images.numel():  # which the transform refuses
        return images.new_zeros(*images.shape[:2], side // 2, dtype=torch.float64)
    rows, columns = (torch.hann_window(n, dtype=torch.float64, device=device) for n in (height, width))
    window = rows[:, None] * columns

    radius = torch.hypot(
        torch.fft.fftfreq(height, dtype=torch.float64, device=device)[:, None],
        torch.fft.rfftfreq(width, dtype=torch.float64, device=device),
    )
    last = side // 2 + 1  # beyond fs/2
    ring = (radius * side).round().long().clamp_max_(last)
    # the transform of real values: columns but the first and, of an even width, the last stand for two
    twice = torch.full_like(radius, 2.0)
    twice[:, 0] = 1
    if width % 2 == 0:
        twice[:, -1] = 1
    samples = torch.zeros(last + 1, dtype=torch.float64, device=device)
    samples.index_add_(0, ring.flatten(), twice.flatten())

    def of_images(x: Tensor) -> Tensor:
        centre = (x * window).sum((2, 3), keepdim=True) / window.sum()
        y = (x - centre) * window
        power = torch.fft.rfft2(y).abs().square_().mul_(twice).flatten(2)
        total = power.sum(2)
        # what is left of a constant is rounding
        flat = total <= 1e-26 * centre.flatten(1).square() * (height * width) ** 2
        sums = x.new_zeros(*x.shape[:2], last + 1).index_add_(2, ring.flatten(), power)
        density = sums / samples * (height * width / total)[..., None]
        return density.masked_fill(flat[..., None], 0)[..., 1:last]

    return in_pieces(of_images, images)
