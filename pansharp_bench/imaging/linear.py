"""Separable linear operators on images, as two small matrix products.

Resizing, expanding and the pyramids are linear and separable, borders included, so each is a 1-D matrix per
axis, built once per length. The products run in float64 whatever the input: float32 products may be rounded
to ten bits by a TF32 or autocast setting that the caller does not see.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., Any])


def constant(function: F) -> F:
    """Let a compiled graph keep this function's result, as ``torch.compiler.assume_constant_result`` does: it sets
    this mark and nothing else, but loads the whole compiler to do so, which most programs never use."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant
def operator(device: torch.device, build: Callable[..., np.ndarray], *args: float) -> Tensor:
    """The matrix ``build(*args)`` in float64 on the device, kept for the next call."""
    return _cached(device, build, *args)


@lru_cache(maxsize=64)
def _cached(device: torch.device, build: Callable[..., np.ndarray], *args: float) -> Tensor:
    with torch.inference_mode(False):  # a cached inference tensor could not be used under autograd later
        return torch.from_numpy(build(*args)).to(device)


def separable(x: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
    """``rows @ x @ cols.T`` over the last two axes: (..., h, w) -> (..., H, W), in the dtype of ``x``."""
    return (rows @ (x.double() @ cols.mT)).to(x.dtype)
