"""Multiresolution: the à-trous low pass and the Laplacian pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging.interpolation import Phase, decimating, related
from pansharp_bench.imaging.linear import operator, separable
from pansharp_bench.scene import Sensor, as_float

_BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


def atrous(x: Tensor, levels: int = 2, step: int | str | Sensor = 1, phase: Phase = None) -> Tensor:
    """DLPan-Toolbox's wavelet low pass of ``levels`` levels: [1 4 6 4 1]/16 twice per level and axis.

    Analysis mirrors the border (edge sample repeated) anew at every level, one filtering each; synthesis
    filters once more per level without a border. The toolbox does not widen the filter from level to level,
    so two levels are a binomial kernel of 17 taps.

    Args:
        x: (..., H, W).
        levels: 2 for ratio 4.
        step, phase: keep every ``step``-th sample as ``decimate`` does; a sensor gives both.

    Returns:
        (..., H/step, W/step), in the dtype of ``x``.
    """
    x = as_float(x)
    step, phase = related(step, phase)
    rows, cols = (
        operator(x.device, _atrous_matrix, n, levels, step, p)
        for n, p in zip(x.shape[-2:], phase, strict=True)
    )
    return separable(x, rows, cols)


def _atrous_matrix(n: int, levels: int, step: int, phase: float) -> np.ndarray:
    matrix = np.eye(n)
    for _ in range(levels):
        matrix = _smooth(np.pad(matrix, ((4, 4), (0, 0)), mode="symmetric"))
    for _ in range(levels):
        matrix = _smooth(matrix)
    return matrix[int(phase) :: step] if phase in range(step) else decimating(n, step, phase) @ matrix


def _smooth(matrix: np.ndarray) -> np.ndarray:
    n = matrix.shape[0] - 4
    return sum(tap * matrix[k : k + n] for k, tap in enumerate(_BINOMIAL))


def pyramid_down(x: Tensor) -> Tensor:
    """Filter by [1 4 6 4 1]/16 (reflecting borders) and keep every second sample from 0 on.

    (..., H, W) -> (..., ceil(H/2), ceil(W/2)). An axis of one or two samples is extended by its edge.
    """
    x = as_float(x)
    return separable(x, *(operator(x.device, _down_matrix, n) for n in x.shape[-2:]))


def pyramid_up(x: Tensor, size: Sequence[int]) -> Tensor:
    """Insert zeros, filter by twice [1 4 6 4 1]/16 (edge-repeating borders), crop to ``size``."""
    x = as_float(x)
    rows, cols = (operator(x.device, _up_matrix, n, m) for n, m in zip(x.shape[-2:], size, strict=True))
    return separable(x, rows, cols)


def _down_matrix(n: int) -> np.ndarray:
    mode: Literal["reflect", "edge"] = "reflect" if n > 2 else "edge"
    return _smooth(np.pad(np.eye(n), ((2, 2), (0, 0)), mode=mode))[::2]


def _up_matrix(n: int, size: int) -> np.ndarray:
    x = np.pad(np.eye(n), ((1, 1), (0, 0)), mode="edge")
    even, odd = (x[:-2] + 6 * x[1:-1] + x[2:]) / 8, (x[1:-1] + x[2:]) / 2
    return np.stack([even, odd], 1).reshape(2 * n, n)[:size]


def decompose(x: Tensor, bands: int) -> list[Tensor]:
    """Laplacian pyramid: ``bands`` band-pass images, finest first, and the low-pass residual.

    With g_0 = x and g_{j+1} = down(g_j): b_j = g_j - up(g_{j+1}), and the residual is the last g. Level j is
    2^j times smaller (rounded up). Linear and differentiable; ``reconstruct`` inverts it exactly.

    Raises:
        BenchError: the image is too small for so many bands (the residual would pass below 1 x 1).
    """
    x = as_float(x)
    most = max_bands(*x.shape[-2:])
    if not 0 <= bands <= most:
        h, w = x.shape[-2:]
        raise BenchError(f"an image of {h} x {w} has a Laplacian pyramid of 0 to {most} bands, not {bands}")
    levels = []
    for _ in range(bands):
        low = pyramid_down(x)
        levels.append(x - pyramid_up(low, x.shape[-2:]))
        x = low
    return [*levels, x]


def reconstruct(levels: Sequence[Tensor]) -> Tensor:
    """The image of a Laplacian pyramid (finest first, residual last): g_j = b_j + up(g_{j+1})."""
    *bands, x = (as_float(level) for level in levels)
    for band in reversed(bands):
        x = band + pyramid_up(x, band.shape[-2:])
    return x


def max_bands(height: int, width: int) -> int:
    """The largest number of band-pass images of this size; the residual is then 1 x 1."""
    return (max(height, width) - 1).bit_length()


@dataclass(frozen=True)
class LaplacianPyramid:
    """A Laplacian pyramid of ``bands`` band-pass levels and a residual, and the gate built on it.

    >>> import torch
    >>> pyramid = LaplacianPyramid(3)
    >>> x = torch.rand(2, 4, 64, 64, dtype=torch.float64)
    >>> [tuple(level.shape[-2:]) for level in pyramid.decompose(x)]
    [(64, 64), (32, 32), (16, 16), (8, 8)]
    >>> torch.allclose(pyramid.gate(x, torch.ones(2, 4)), x, rtol=0, atol=1e-15)
    True
    """

    bands: int

    def decompose(self, x: Tensor) -> list[Tensor]:
        """See :func:`decompose`."""
        return decompose(x, self.bands)

    reconstruct = staticmethod(reconstruct)

    def gate(self, x: Tensor, weights: Tensor) -> Tensor:
        """Scale every level by its weight and put the image together again.

        Args:
            x: (N, C, H, W).
            weights: (N, bands + 1) or (bands + 1,), finest band first, the residual's last.
        """
        levels = self.decompose(x)
        return reconstruct(
            [w[..., None, None, None] * v for w, v in zip(weights.unbind(-1), levels, strict=True)]
        )
