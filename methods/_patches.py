"""3x3 patches of channels-last images, made piece by piece so that a piece stays in the processor's cache.

For layers whose kernel changes from pixel to pixel: making patches again is cheaper than keeping them. A patch is
ordered tap first, channel second; ``padded`` images are (B, H + 2, W + 2, C), contiguous.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

TAPS = 9


def pieces(padded: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of images and of pixel rows whose patches together stay within a budget."""
    b, h, w, c = padded.shape
    budget = (1 << 27) if padded.is_cuda else (1 << 20)
    per_row = (w - 2) * TAPS * c
    rows = min(h - 2, max(1, budget // per_row))
    images = max(1, budget // (per_row * rows))
    for i in range(0, b, images):
        for r in range(0, h - 2, rows):
            yield slice(i, min(i + images, b)), slice(r, min(r + rows, h - 2))


def patches_of(padded: Tensor, images: slice, rows: slice) -> Tensor:
    """(n, pixels, 9·C) patches of a piece."""
    x = padded[images, rows.start : rows.stop + 2]
    n, h, w, c = x.shape
    s, stride_h, stride_w, _ = x.stride()
    view = x.as_strided((n, h - 2, w - 2, 3, 3 * c), (s, stride_h, stride_w, stride_h, 1))
    return view.reshape(n, (h - 2) * (w - 2), TAPS * c)


def add_patches(total: Tensor, patches: Tensor, images: slice, rows: slice) -> None:
    """The adjoint of :func:`patches_of`, added onto ``total``."""
    x = total[images, rows.start : rows.stop + 2]
    n, h, w, c = x.shape
    taps = patches.view(n, h - 2, w - 2, 3, 3, c)
    for ky in range(3):
        for kx in range(3):
            x[:, ky : ky + h - 2, kx : kx + w - 2] += taps[:, :, :, ky, kx]


def sum_type(dtype: torch.dtype) -> torch.dtype:
    """The type sums are kept in."""
    return torch.promote_types(dtype, torch.float32)
