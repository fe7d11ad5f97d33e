"""Changing the grid: decimation, the 23-tap interpolator, MATLAB's bicubic resize."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from pansharp_bench.imaging.linear import operator, separable
from pansharp_bench.scene import as_float

_HALF_BAND = (0.5, 0.305334091185, 0, -0.072698593239, 0, 0.021809577942, 0, -0.005192756653, 0,
              0.000807762146, 0, -0.000060081482)  # fmt: skip


def decimate(x: Tensor, ratio: int = 4) -> Tensor:
    """Every ``ratio``-th sample, from ``ratio // 2`` on: (..., H, W) -> (..., H/ratio, W/ratio)."""
    return as_float(x)[..., ratio // 2 :: ratio, ratio // 2 :: ratio]


def interp23(x: Tensor, ratio: int = 4) -> Tensor:
    """Expand by the 23-tap polynomial kernel (Aiazzi et al. 2002), circular borders.

    Each factor of two inserts zeros, the samples at odd positions in the first step and at even ones after
    it, and filters both axes; with ratio 4 sample i lands at 4i + 2, where ``decimate`` finds it again.

    Args:
        x: (..., h, w).
        ratio: a power of two.

    Returns:
        (..., ratio·h, ratio·w), in the dtype of ``x``.

    Raises:
        ValueError: ``ratio`` is not a power of two.

    >>> import torch
    >>> ms = torch.rand(1, 4, 16, 16)
    >>> torch.allclose(decimate(interp23(ms)), ms)
    True
    """
    x = as_float(x)
    rows, cols = (operator(x.device, _interp23_matrix, n, ratio) for n in x.shape[-2:])
    return separable(x, rows, cols)


def _interp23_matrix(n: int, ratio: int) -> np.ndarray:
    if ratio < 1 or ratio & (ratio - 1):
        raise ValueError(f"the 23-tap interpolator expands by a power of two, not by {ratio}")
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

    def matrix(n: int, wanted: int | None) -> Tensor:
        m = wanted or math.ceil((scale or 1) * n)
        return operator(x.device, _bicubic_matrix, n, m, scale or m / n, antialias)

    rows, cols = (matrix(n, wanted) for n, wanted in zip(x.shape[-2:], size or (None, None), strict=True))
    return separable(x, rows, cols)


def _bicubic_matrix(n: int, m: int, scale: float, antialias: bool) -> np.ndarray:
    shrink = min(scale, 1.0) if antialias else 1.0
    centre = (np.arange(1, m + 1) / scale + 0.5 * (1 - 1 / scale))[:, None]
    support = 4 / shrink
    index = np.floor(centre - support / 2) + np.arange(math.ceil(support) + 2)
    d = np.abs(shrink * (centre - index))
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    weight = np.where(d <= 1, near, np.where(d <= 2, far, 0.0))
    weight /= weight.sum(1, keepdims=True)
    mirrored = (index.astype(int) - 1) % (2 * n)
    mirrored = np.minimum(mirrored, 2 * n - 1 - mirrored)
    matrix = np.zeros((m, n))
    np.add.at(matrix, (np.arange(m)[:, None], mirrored), weight)
    return matrix
