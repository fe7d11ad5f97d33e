"""Changing the grid: decimation, the 23-tap interpolator, MATLAB's bicubic resize.

What relates the MS grid to PAN's takes a sensor, or its registered name, or the bare ratio and a phase: where, in
PAN pixels, MS pixel 0 lies (:class:`~pansharp_bench.scene.Sensor`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from torch import Tensor

from pansharp_bench.imaging.linear import Operator, operator, separable
from pansharp_bench.scene import Sensor, as_float, as_sensor

Phase = tuple[float, float] | float | None
_HALF_BAND = (0.5, 0.305334091185, 0, -0.072698593239, 0, 0.021809577942, 0, -0.005192756653, 0,
              0.000807762146, 0, -0.000060081482)  # fmt: skip


def related(
    ratio: int | str | Sensor, phase: Phase = None, bicubic: bool = False
) -> tuple[int, tuple[float, float]]:
    """Ratio and phase of a sensor, or those given; without a phase the toolbox's, which is another one where it
    reduces by bicubic."""
    if not isinstance(ratio, int):
        sensor = as_sensor(ratio)
        ratio, phase = sensor.ratio, sensor.phase
    if phase is None:
        phase = (ratio - 1) / 2 if bicubic else ratio // 2
    return ratio, phase if isinstance(phase, tuple) else (phase, phase)


def decimate(x: Tensor, ratio: int | str | Sensor = 4, phase: Phase = None) -> Tensor:
    """Every ``ratio``-th sample: (..., H, W) -> (..., H/ratio, W/ratio).

    From ``phase`` on, or the toolbox's ``ratio // 2``; between samples the values that ``interp23``'s kernel
    gives, the border mirrored.
    """
    x, (ratio, phase) = as_float(x), related(ratio, phase)
    if all(p in range(ratio) for p in phase):
        return x[..., int(phase[0]) :: ratio, int(phase[1]) :: ratio]
    rows, cols = (
        operator(x.device, decimating, n, ratio, p) for n, p in zip(x.shape[-2:], phase, strict=True)
    )
    return separable(x, rows, cols)


def decimating(n: int, ratio: int, phase: float) -> np.ndarray:
    """The matrix of :func:`decimate` along an axis of n samples."""
    index, weights = taps(n, ratio, phase)
    return scattered(weights, index, n)


def taps(n: int, ratio: int, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`decimate` takes along an axis of n samples: indices (n // ratio, k), and their weights (k,)."""
    at, weights = _kernel(phase)
    at, weights = at[weights != 0], weights[weights != 0]
    return _mirrored(at + ratio * np.arange(n // ratio)[:, None], n), weights


def interp23(x: Tensor, ratio: int | str | Sensor = 4, phase: Phase = None, *, margin: int = 0) -> Tensor:
    """Expand by the 23-tap polynomial kernel (Aiazzi et al. 2002), circular borders.

    Each factor of two inserts zeros, the samples at odd positions in the first step and at even ones after
    it, and filters both axes; with ratio 4 sample i lands at 4i + 2, where ``decimate`` finds it again.

    At another phase p sample i lands at ratio·i + p. Repeated for ever the expansion converges to a function
    that is defined everywhere and reproduces polynomials of degree 11 (Deslauriers, Dubuc 1989); it is
    evaluated there.

    Args:
        x: (..., h, w).
        ratio: a power of two; or a sensor, which gives the phase too.
        phase: where sample 0 lands, in samples of the output, (rows, columns) or one number for both; default
            the toolbox's, ``ratio // 2``.
        margin: samples of ``x`` at each side that are not expanded themselves, and serve those within.

    Returns:
        (..., ratio·(h - 2 margin), ratio·(w - 2 margin)), in the dtype of ``x``.

    Raises:
        ValueError: ``ratio`` is not a power of two.

    >>> import torch
    >>> ms = torch.rand(1, 4, 16, 16)
    >>> torch.allclose(decimate(interp23(ms)), ms)
    True
    """
    x = as_float(x)
    ratio, phase = related(ratio, phase)
    rows, cols = (
        operator(x.device, _expanding, n, ratio, p, margin) for n, p in zip(x.shape[-2:], phase, strict=True)
    )
    return separable(x, rows, cols)


def _expanding(n: int, ratio: int, phase: float, margin: int) -> np.ndarray:
    return _interp23_matrix(n, ratio, phase)[ratio * margin : ratio * (n - margin)]


def _interp23_matrix(n: int, ratio: int, phase: float) -> np.ndarray:
    if ratio < 1 or ratio & (ratio - 1):
        raise ValueError(f"the 23-tap interpolator expands by a power of two, not by {ratio}")
    if phase != ratio // 2:
        kernels = (_kernel((row - phase) / ratio) for row in range(ratio))
        rows = [scattered(weights, (at + np.arange(n)[:, None]) % n, n) for at, weights in kernels]
        return np.stack(rows, 1).reshape(ratio * n, n)
    taps = 2 * np.array(_HALF_BAND[:0:-1] + _HALF_BAND)
    matrix = np.eye(n)
    for step in range(ratio.bit_length() - 1):
        length = matrix.shape[0]
        centre = 2 * np.arange(length) + (step == 0)
        stage = np.zeros((2 * length, length))
        for shift, tap in zip(range(-11, 12), taps, strict=True):
            np.add.at(stage, ((centre + shift) % (2 * length), np.arange(length)), tap)
        matrix = stage @ matrix
    return matrix


@cache
def _kernel(position: float) -> tuple[np.ndarray, np.ndarray]:
    """The limit of the 23-tap expansion at a position: indices of the samples it takes, and their weights.

    The limit f of one sample has f(x) = Σ t_n f(2x - n), t being the taps without the toolbox's rounding, and is
    1 at 0 and 0 at all other integers: each binary digit of the position is a product with a small matrix.
    """
    whole = math.floor(position)
    rest, digits = position - whole, list[int]()
    while rest and len(digits) < 60:
        digits.append(int(2 * rest))
        rest = 2 * rest - digits[-1]
    samples = np.arange(-10, 12)
    weights = (samples == 0).astype(float)
    for digit in reversed(digits):
        weights = _exact_taps()[samples - 2 * samples[:, None] + digit + 33] @ weights
    return whole + samples, weights


@cache
def _exact_taps() -> np.ndarray:
    """Taps -33 to 33: 1 in the middle, half-way between samples Lagrange's polynomial of twelve, else 0."""
    nodes = np.arange(-11, 12, 2)
    taps = np.zeros(67)
    taps[33] = 1
    for node in nodes:
        others = nodes[nodes != node]
        taps[33 + node] = np.prod(-others / (node - others))
    return taps


def scattered(weights: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Rows of length n that hold the weights at the indices given for each."""
    matrix = np.zeros((len(index), n))
    np.add.at(matrix, (np.arange(len(index))[:, None], index), weights)
    return matrix


def _mirrored(index: np.ndarray, n: int) -> np.ndarray:
    """Indices of n samples, those beyond them folded back (edge sample repeated)."""
    index = index % (2 * n)
    return np.minimum(index, 2 * n - 1 - index)


def resize_bicubic(
    x: Tensor, scale: float | None = None, *, size: Sequence[int] | None = None, antialias: bool = True
) -> Tensor:
    """MATLAB's ``imresize(x, scale, "bicubic")``: cubic convolution (a = -0.5), symmetric borders.

    When shrinking, the kernel is widened by the scale (antialiasing). PyTorch's bicubic differs: a = -0.75
    without antialiasing, and renormalised instead of mirrored borders with it.

    Args:
        x: (..., h, w).
        scale: factor of both axes; the output has ``ceil(scale·n)`` samples.
        size: the output's (H, W), instead of ``scale``.
        antialias: widen the kernel when shrinking.

    Returns:
        (..., H, W), in the dtype of ``x``.

    Raises:
        ValueError: not exactly one of ``scale`` and ``size`` is given.

    >>> import torch
    >>> resize_bicubic(torch.ones(1, 1, 8, 12), 1 / 4).shape
    torch.Size([1, 1, 2, 3])
    """
    if (scale is None) == (size is None):
        raise ValueError("resize_bicubic needs either scale or size")
    x = as_float(x)

    def matrix(n: int, wanted: int | None) -> Operator:
        m = wanted or math.ceil((scale or 1) * n)
        return operator(x.device, _bicubic_matrix, n, m, scale or m / n, antialias)

    rows, cols = (matrix(n, wanted) for n, wanted in zip(x.shape[-2:], size or (None, None), strict=True))
    return separable(x, rows, cols)


def reduce_bicubic(x: Tensor, ratio: int | str | Sensor = 4, phase: Phase = None) -> Tensor:
    """``resize_bicubic`` to the MS grid: (..., H, W) -> (..., H/ratio, W/ratio), sample i at ratio·i + phase.

    Without a phase it is ``resize_bicubic(x, 1 / ratio)``, which the toolbox takes: ratio·i + (ratio - 1) / 2,
    half a pixel before the samples of ``decimate``.
    """
    x = as_float(x)
    ratio, phase = related(ratio, phase, bicubic=True)
    rows, cols = (
        operator(x.device, _bicubic_matrix, n, math.ceil(n / ratio), 1 / ratio, True, p - (ratio - 1) / 2)
        for n, p in zip(x.shape[-2:], phase, strict=True)
    )
    return separable(x, rows, cols)


def _bicubic_matrix(n: int, m: int, scale: float, antialias: bool, shift: float = 0.0) -> np.ndarray:
    shrink = min(scale, 1.0) if antialias else 1.0
    centre = (np.arange(1, m + 1) / scale + 0.5 * (1 - 1 / scale) + shift)[:, None]
    support = 4 / shrink
    index = np.floor(centre - support / 2) + np.arange(math.ceil(support) + 2)
    d = np.abs(shrink * (centre - index))
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    weight = np.where(d <= 1, near, np.where(d <= 2, far, 0.0))
    weight /= weight.sum(1, keepdims=True)
    return scattered(weight, _mirrored(index.astype(int) - 1, n), n)
