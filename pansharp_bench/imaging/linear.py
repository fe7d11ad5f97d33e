"""Separable linear operators on images, as small matrix products.

Resizing, expanding and the pyramids are linear and separable, borders included, so each is a 1-D matrix per axis,
built once per length. An output depends on few inputs near it, so the matrix is kept in blocks of rows with the
columns that are not 0 in them: the work grows with the length, not with its square. The products run in float64
whatever the input: float32 products may be rounded to ten bits by a TF32 or autocast setting that the caller does
not see.
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


_ROWS = 64  # of a block: few enough to leave out most zeros, enough for a matrix product to be at its best

Operator = list[tuple[slice | Tensor, Tensor]]
"""Blocks of rows, from the top: which inputs they take, and their weights for these."""


def operator(device: torch.device, build: Callable[..., np.ndarray], *args: Any) -> Operator:
    """The matrix ``build(*args)`` in float64 on the device, kept for the next call."""
    if torch.compiler.is_compiling():  # a graph can keep a tensor, but no list of them
        return [(slice(None), _whole(device, build, *args))]
    return _blocks(device, build, *args)


@constant
def _whole(device: torch.device, build: Callable[..., np.ndarray], *args: Any) -> Tensor:
    return torch.from_numpy(build(*args)).to(device)


@lru_cache(maxsize=256)
def _blocks(device: torch.device, build: Callable[..., np.ndarray], *args: Any) -> Operator:
    matrix = build(*args)
    blocks: Operator = []
    with torch.inference_mode(False):  # a cached inference tensor could not be used under autograd later
        for first in range(0, max(1, len(matrix)), _ROWS):
            rows = matrix[first : first + _ROWS]
            taken = np.flatnonzero(rows.any(0))
            weights = torch.from_numpy(np.ascontiguousarray(rows[:, taken])).to(device)
            whole = (
                len(taken) and taken[-1] - taken[0] == len(taken) - 1
            )  # a circular border takes from both ends
            index = slice(taken[0], taken[-1] + 1) if whole else torch.from_numpy(taken).to(device)
            blocks.append((index, weights))
    return blocks


def separable(x: Tensor, rows: Operator, cols: Operator) -> Tensor:
    """``rows @ x @ cols.T`` over the last two axes: (..., h, w) -> (..., H, W), in the dtype of ``x``."""
    return along_rows(along_columns(x.double(), cols), rows).to(x.dtype)


def along_rows(x: Tensor, matrix: Operator) -> Tensor:
    """``matrix @ x`` for float64 (..., h, w)."""
    made, first = x.new_empty(*x.shape[:-2], _count(matrix), x.shape[-1]), 0
    for taken, weights in matrix:
        made[..., first : first + len(weights), :] = weights @ x[..., taken, :]
        first += len(weights)
    return made


def along_columns(x: Tensor, matrix: Operator) -> Tensor:
    """``x @ matrix.T`` for float64 (..., h, w)."""
    made, first = x.new_empty(*x.shape[:-1], _count(matrix)), 0
    for taken, weights in matrix:
        made[..., first : first + len(weights)] = x[..., taken] @ weights.mT
        first += len(weights)
    return made


def _count(matrix: Operator) -> int:
    return sum(len(weights) for _, weights in matrix)
