"""What several metrics share: checked float64 inputs, work in pieces, window sums, 32 x 32 blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

BLOCK = 32
_PIECE = 1 << 19  # samples: 4 MB in float64

P = ParamSpec("P")
R = TypeVar("R")


def same_shape(fused: Tensor, reference: Tensor, smallest: int = 1) -> tuple[Tensor, Tensor]:
    """Both images in float64. Raises ValueError unless they are (N, C, H, W) of one shape, with sides of at
    least ``smallest`` pixels."""
    if fused.ndim != 4 or fused.shape != reference.shape:
        raise ValueError(
            "fused and reference must both be (N, C, H, W) of the same shape; "
            f"found fused {tuple(fused.shape)} and reference {tuple(reference.shape)}"
        )
    if min(fused.shape[-2:]) < smallest:
        raise ValueError(
            f"images must be at least {smallest} x {smallest} pixels; found {tuple(fused.shape)}"
        )
    return fused.double(), reference.double()


def in_pieces(metric: Callable[P, R]) -> Callable[P, R]:
    """Give the metric a big batch in pieces of a few megabytes when it is on the CPU, and join the results.

    Temporaries that stay in cache, and below the size at which the allocator returns memory to the system
    after every operation, make a batch of twenty 256 x 256 x 4 images ten times as fast.
    """

    @wraps(metric)
    def whole(*args: P.args, **kwargs: P.kwargs) -> R:
        batched = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        n = len(batched[0]) if batched[0].ndim else 0
        size = max(1, _PIECE // max(1, max(x.numel() for x in batched) // max(1, n)))
        if n <= size or any(x.is_cuda or len(x) != n for x in batched):
            return metric(*args, **kwargs)

        def part(x: object, start: int) -> object:
            return x[start : start + size] if isinstance(x, Tensor) else x

        parts = [
            metric(*(part(x, i) for x in args), **{k: part(x, i) for k, x in kwargs.items()})
            for i in range(0, n, size)
        ]
        if isinstance(parts[0], Tensor):
            return torch.cat(parts)
        return type(parts[0])(*(torch.cat(column) for column in zip(*parts, strict=True)))

    return whole


def box_sum(x: Tensor, size: int) -> Tensor:
    """Sums over every ``size`` x ``size`` window: (..., H, W) -> (..., H-size+1, W-size+1).

    Each axis by doubling (2, 4, 8, ... samples), so nothing is subtracted: no cancellation, and integers stay
    exact.
    """
    for dim in (-2, -1):
        count = x.shape[dim] - size + 1
        total, start, width = None, 0, 1
        for bit in reversed(f"{size:b}"):
            if bit == "1":
                part = x.narrow(dim, start, count)
                total = part if total is None else total + part
                start += width
            if start < size:
                rest = x.shape[dim] - width
                x = x.narrow(dim, 0, rest) + x.narrow(dim, width, rest)
                width *= 2
        x = total
    return x


def weighted_sum(x: Tensor, taps: Sequence[float]) -> Tensor:
    """Separable correlation with ``taps`` along both axes, valid windows only. (A float64 convolution is
    several times as slow on the CPU.)"""
    for dim in (-2, -1):
        count = x.shape[dim] - len(taps) + 1
        total = x.narrow(dim, 0, count) * taps[0]
        for i, tap in enumerate(taps[1:], 1):
            total.add_(x.narrow(dim, i, count), alpha=tap)
        x = total
    return x


def blocks(x: Tensor) -> Tensor:
    """Non-overlapping 32 x 32 blocks: (N, C, H, W) -> (N, H/32, W/32, C, 1024)."""
    n, c, h, w = x.shape
    tiles = x.reshape(n, c, h // BLOCK, BLOCK, w // BLOCK, BLOCK).permute(0, 2, 4, 1, 3, 5)
    return tiles.reshape(n, h // BLOCK, w // BLOCK, c, BLOCK * BLOCK)
