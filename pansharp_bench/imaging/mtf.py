"""Filters that imitate a sensor's modulation transfer function (MTF), as DLPan-Toolbox designs them.

The 41 x 41 kernels are not separable (a rotationally swept window cuts them), so the filter runs by FFT: one
transform of the input serves all bands, and the kernels' spectra are real and kept per image size. Where only every
``ratio``-th sample is wanted, it is cheaper to take the kernels as sums of a few separable ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging.interpolation import related, scattered, taps
from pansharp_bench.imaging.linear import along_columns, along_rows, constant, operator
from pansharp_bench.scene import Sensor, as_float, as_sensor

TAPS = 41
_RADIUS = TAPS // 2


def mtf_kernel(gain: float, ratio: int = 4) -> Tensor:
    """The MTF filter of one band: (41, 41) float64.

    A Gaussian whose gain at the Nyquist frequency of the low-resolution grid is ``gain``, sampled in
    frequency with peak 1, and turned into a kernel by the window method with the rotationally swept Kaiser
    window of beta 0.5. It is not normalised: its sum is a little below 1, as in the toolbox.

    >>> round(mtf_kernel(0.3).sum().item(), 6)
    0.99874
    """
    return torch.from_numpy(_kernel(gain, ratio, TAPS - 1))


def mtf_filter(x: Tensor, sensor: str | Sensor | Sequence[float], ratio: int | None = None) -> Tensor:
    """Low-pass each band by the sensor's MTF (correlation, replicate borders), without decimation.

    Args:
        x: (N, C, H, W), or (N, 1, H, W) to filter one image by every band's filter.
        sensor: a sensor or its registered name, or the gains at Nyquist themselves, one per band.
        ratio: MS to PAN pixel size; the sensor's, or 4 with plain gains.

    Returns:
        (N, C, H, W), in the dtype of ``x``.

    Raises:
        BenchError: ``x`` has neither one band nor as many as there are gains.
        UnknownName: no such sensor.

    >>> mtf_filter(torch.ones(1, 1, 64, 64), "qb").mean((2, 3))
    tensor([[0.9989, 0.9988, 0.9987, 0.9984]])
    """
    if isinstance(sensor, (str, Sensor)):
        sensor = as_sensor(sensor)
        gains, ratio = sensor.mtf, ratio or sensor.ratio
    else:
        gains = tuple(float(g) for g in sensor)
    x = as_float(x)
    _fitting(x, gains)
    return _filter(x, gains, ratio or 4, TAPS - 1)


def _fitting(x: Tensor, gains: Sequence[float]) -> None:
    if x.shape[1] not in (1, len(gains)):
        raise BenchError(f"{len(gains)} MTF gains do not fit an image of {x.shape[1]} bands")


def mtf_filter_pan(pan: Tensor, sensor: str | Sensor) -> Tensor:
    """Low-pass PAN (N, 1, H, W) by the sensor's own PAN MTF, without decimation."""
    sensor = as_sensor(sensor)
    return _filter(pan, (sensor.mtf_pan,), sensor.ratio, TAPS - 1)


def lowpass(x: Tensor, ratio: int = 4) -> Tensor:
    """The toolbox's Gaussian low pass for PAN, the same for every band: gain 0.3 at the Nyquist frequency of
    the low-resolution grid, and a Gaussian 41/40 times as wide in frequency as that of ``mtf_filter``."""
    return _filter(x, (0.3,), ratio, TAPS)


def mtf_reduce(x: Tensor, sensor: str | Sensor) -> Tensor:
    """``decimate(mtf_filter(x, sensor), sensor)`` in one go: (N, C or 1, H, W) -> (N, C, H/ratio, W/ratio).

    >>> from pansharp_bench.imaging import decimate
    >>> pan = torch.rand(1, 1, 64, 64, dtype=torch.float64)
    >>> apart = mtf_reduce(pan, "qb") - decimate(mtf_filter(pan, "qb"), "qb")
    >>> bool(apart.abs().max() < 1e-13)
    True
    """
    sensor, x = as_sensor(sensor), as_float(x)
    if x.shape[1] == 1:
        return _reduce(x, sensor, sensor.mtf)
    _fitting(x, sensor.mtf)
    return torch.cat(
        [_reduce(band, sensor, (g,)) for band, g in zip(x.split(1, 1), sensor.mtf, strict=True)], 1
    )


def mtf_reduce_pan(pan: Tensor, sensor: str | Sensor) -> Tensor:
    """``decimate(mtf_filter_pan(pan, sensor), sensor)`` in one go: (N, 1, H, W) -> (N, 1, H/ratio, W/ratio)."""
    sensor = as_sensor(sensor)
    return _reduce(as_float(pan), sensor, (sensor.mtf_pan,))


def _reduce(x: Tensor, sensor: Sensor, gains: tuple[float, ...]) -> Tensor:
    """Every band at every gain: (N, B, H, W) -> (N, B len(gains), H/ratio, W/ratio)."""
    (h, w), (ratio, phase) = x.shape[-2:], related(sensor)
    rank = len(_factors(gains, ratio)[0])
    rows = operator(x.device, _reducing_rows, h, ratio, phase[0], gains)
    wide = along_rows(x.double(), rows).unflatten(-2, (h // ratio, rank))
    columns = (operator(x.device, _reducing_columns, w, ratio, phase[1], gains, k) for k in range(rank))
    reduced = reduce(torch.add, map(along_columns, wide.unbind(-2), columns))
    return (
        reduced.unflatten(-1, (w // ratio, len(gains))).movedim(-1, 2).flatten(1, 2).to(x.dtype).contiguous()
    )


@lru_cache(maxsize=64)
def _factors(gains: tuple[float, ...], ratio: int) -> tuple[np.ndarray, np.ndarray]:
    """The kernels as sums of products: of a column, the same for all, (K, 41), and a row (K, len(gains), 41)."""
    kernels = np.concatenate([_kernel(g, ratio, TAPS - 1) for g in gains], 1)
    columns, sizes, _ = np.linalg.svd(kernels)
    columns = columns[:, sizes > 1e-13 * sizes[0]].T
    return columns, (columns @ kernels).reshape(len(columns), len(gains), TAPS)


def _reducing_rows(n: int, ratio: int, phase: float, gains: tuple[float, ...]) -> np.ndarray:
    return _interleaved(n, ratio, phase, _factors(gains, ratio)[0])


def _reducing_columns(n: int, ratio: int, phase: float, gains: tuple[float, ...], k: int) -> np.ndarray:
    return _interleaved(n, ratio, phase, _factors(gains, ratio)[1][k])


def _interleaved(n: int, ratio: int, phase: float, filters: np.ndarray) -> np.ndarray:
    """Filter by each (replicate borders) and decimate: the first sample of all filters, then the second."""
    samples, weights = taps(n, ratio, phase)
    index = (samples[..., None] + np.arange(-_RADIUS, _RADIUS + 1)).clip(0, n - 1).reshape(len(samples), -1)
    matrices = [scattered(np.outer(weights, line).ravel(), index, n) for line in filters]
    return np.stack(matrices, 1).reshape(-1, n)


def _kernel(gain: float, ratio: int, spread: int) -> np.ndarray:
    alpha = spread / (2 * ratio) / np.sqrt(-2 * np.log(gain))
    gauss = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / alpha) ** 2)
    line = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(gauss))).real
    position = np.linspace(-1, 1, TAPS)
    radius = np.hypot(position[:, None], position)
    window = np.interp(radius, position, np.kaiser(TAPS, 0.5), right=0.0)
    return np.outer(line, line) * window


@constant
def _spectra(device: torch.device, dtype: torch.dtype, shape: tuple[int, int], *kernel: Any) -> Tensor:
    """Real spectra of the kernels centred at the origin: (C, H, W//2 + 1)."""
    return _cached(device, dtype, shape, *kernel)


@lru_cache(maxsize=16)
def _cached(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int], gains: tuple[float, ...], ratio: int,
    spread: int,
) -> Tensor:  # fmt: skip
    kernels = np.zeros((len(gains), *shape))
    kernels[:, :TAPS, :TAPS] = [_kernel(g, ratio, spread) for g in gains]
    kernels = np.roll(kernels, (-_RADIUS, -_RADIUS), (1, 2))
    with torch.inference_mode(False):  # a cached inference tensor could not be used under autograd later
        return torch.from_numpy(np.fft.rfft2(kernels).real).to(device, dtype)


def _filter(x: Tensor, gains: tuple[float, ...], ratio: int, spread: int) -> Tensor:
    x = as_float(x)
    if not len(x):  # of which some FFTs want no transform
        return x.expand(0, max(x.shape[1], len(gains)), *x.shape[-2:])
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    h, w = x.shape[-2:]
    shape = (_fast_length(h + 2 * _RADIUS), _fast_length(w + 2 * _RADIUS))
    padded = F.pad(x.to(dtype), (_RADIUS,) * 4, mode="replicate")
    spectra = _spectra(x.device, dtype, shape, gains, ratio, spread)
    filtered = torch.fft.irfft2(torch.fft.rfft2(padded, s=shape) * spectra, s=shape)
    return filtered[..., _RADIUS : _RADIUS + h, _RADIUS : _RADIUS + w].to(x.dtype)


@lru_cache(maxsize=1024)
def _fast_length(n: int) -> int:
    """The next even length whose prime factors are 2, 3, 5 and 7."""
    n += n % 2
    while True:
        rest = n
        for p in (2, 3, 5, 7):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 2
