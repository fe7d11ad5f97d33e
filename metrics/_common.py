"""What several metrics share: checked images, work in pieces, window sums, blocks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from einops import rearrange
from torch import Tensor

from pansharp_bench.errors import ImageError
from pansharp_bench.scene import as_float

BLOCK = 32
_PIECE = 1 << 18  # samples: 2 MB in float64


def check_shapes(fused: Tensor, reference: Tensor, smallest: int = 1) -> None:
    """Raise ImageError unless both are (N, C, H, W) of one shape, with sides of at least ``smallest``."""
    for name, x in (("fused", fused), ("reference", reference)):
        as_float(x, name)
    if fused.ndim != 4 or fused.shape != reference.shape:
        raise ImageError(
            "fused and reference must both be (N, C, H, W) of the same shape; "
            f"found fused {tuple(fused.shape)} and reference {tuple(reference.shape)}"
        )
    if min(fused.shape[-2:]) < smallest:
        raise ImageError(
            f"images must be at least {smallest} x {smallest} pixels; found {tuple(fused.shape)}"
        )


def check_images(images: Tensor, smallest: int = 1) -> None:
    """Raise ImageError unless these are (N, C, H, W), with sides of at least ``smallest``."""
    if as_float(images, "images").ndim != 4 or min(images.shape[-2:]) < smallest:
        sides = f" with sides of at least {smallest}" if smallest > 1 else ""
        raise ImageError(f"images must be (N, C, H, W){sides}; found {tuple(images.shape)}")


def warn_of_normalised(metric: str, *images: Tensor, peak: float = math.inf) -> None:
    """Warn where all values of all images lie in [0, 1], and not all are 0, but the definition takes them for DN up
    to ``peak``. Only values in memory are looked at."""
    if peak <= 1 or not all(x.numel() and x.device.type in ("cpu", "cuda") for x in images):
        return
    bounds = [x.double().aminmax() for x in images]
    if min(b.min for b in bounds) >= 0 and 0 < max(b.max for b in bounds) <= 1:
        what = "is defined for DN" if peak == math.inf else f"with peak {peak:g} takes images for DN"
        warnings.warn(f"{metric} {what}, but all values lie in [0, 1]", stacklevel=3)


def pieces(images: Tensor) -> Sequence[Tensor]:
    """The images a few at a time on the CPU, see :func:`in_pieces`."""
    if images.device.type != "cpu":
        return (images,)
    return images.split(max(1, _PIECE // max(1, images[:1].numel())))


def in_pieces(function: Callable[..., Tensor], *images: Tensor) -> Tensor:
    """``function(*images)`` in float64, for a function that treats entries of the leading axis alone.

    On the CPU it is called with a few entries at a time: temporaries that stay in cache, and below the size
    that the allocator gives back to the system after every operation, make it several times as fast.
    """
    size = max(1, _PIECE // max(1, images[0][:1].numel()))
    if images[0].device.type != "cpu" or len(images[0]) <= size:
        return function(*(x.double() for x in images))
    pieces = zip(*(x.split(size) for x in images), strict=True)
    return torch.cat([function(*(x.double() for x in piece)) for piece in pieces])


def planes(x: Tensor) -> Tensor:
    """Every band as an image of its own: (N, C, H, W) -> (N·C, 1, H, W)."""
    return x.flatten(0, 1)[:, None]


def box_sum(x: Tensor, size: int) -> Tensor:
    """Sums over every ``size`` x ``size`` window: (..., H, W) -> (..., H-size+1, W-size+1).

    Each axis by doubling (2, 4, 8, ... samples), so nothing is subtracted: no cancellation, and integers stay
    exact.
    """
    for dim in (-2, -1):
        count = x.shape[dim] - size + 1
        parts, start, width = [], 0, 1
        for bit in reversed(f"{size:b}"):
            if bit == "1":
                parts.append(x.narrow(dim, start, count))
                start += width
            if start < size:
                rest = x.shape[dim] - width
                x = x.narrow(dim, 0, rest) + x.narrow(dim, width, rest)
                width *= 2
        x = reduce(torch.add, parts)
    return x


def weighted_sum(x: Tensor, taps: Sequence[float]) -> Tensor:
    """Separable correlation with ``taps`` along both axes, valid windows only.

    A float64 convolution is several times as slow on the CPU.
    """
    for dim in (-2, -1):
        count = x.shape[dim] - len(taps) + 1
        total = x.narrow(dim, 0, count) * taps[0]
        for i, tap in enumerate(taps[1:], 1):
            total.add_(x.narrow(dim, i, count), alpha=tap)
        x = total
    return x


def blocks(x: Tensor, side: int = BLOCK) -> Tensor:
    """Non-overlapping blocks of b x b pixels: (N, C, H, W) -> (N, H/b, W/b, C, b²)."""
    return rearrange(x, "n c (y i) (x j) -> n y x c (i j)", i=side, j=side)


def check_peak(peak: float) -> None:
    """Raise ImageError for what no images have as their largest value."""
    if not 0 < peak < math.inf:
        raise ImageError(f"peak={peak:g} is no positive number; it is the sensor's largest DN, e.g. 2047")


def check_block(side: int) -> None:
    """Raise ImageError unless moments can be taken of blocks of that side."""
    if side < 2:
        raise ImageError(f"blocks of side {side} have no variance; 2 is the least, {BLOCK} what papers use")
