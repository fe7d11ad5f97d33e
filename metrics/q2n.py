"""Q2n: the hypercomplex quality index, Q4 for 4 bands and Q8 for 8 (Garzelli and Nencini 2009).

In every block, 32 x 32 in papers, each pixel is a hypercomplex number whose components are the bands, and the
universal quality index is taken with the Cayley-Dickson product. That product is bilinear, so its block mean
follows from the bands' covariances: one small matrix product per block stands for all products of pixels. The
images are rounded to 16-bit integers first, hence the sums of products are exact in float64.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import torch
from torch import Tensor

from pansharp_bench.metrics._common import (
    BLOCK,
    blocks,
    check_block,
    check_shapes,
    in_pieces,
    warn_of_normalised,
)
from pansharp_bench.registry import register_metric

_HALF = (
    0.5 - 2**-54
)  # floor(x + _HALF) rounds half up for every float64 x >= 0; with 0.5, not for 0.5 - 2**-54
_EPS = 2**-52


@register_metric("q2n", title="Q2n", protocol="reduced", columns=("Q2n",), order=40, smallest=BLOCK // 2)
def q2n(fused: Tensor, reference: Tensor, block: int = BLOCK) -> Tensor:
    """Hypercomplex quality index over blocks of 32 x 32 pixels: Q4 for 4 bands, Q8 for 8.

    1 is perfect. Both images are rounded to integers in 0..65535 (NaN counts as 0), so they must be DN; in [0, 1]
    little is left of them, which is warned of. Each block is normalised by the reference's mean and sample
    deviation, and the hypercomplex product does not commute: the arguments cannot be exchanged. Missing bands up to
    a power of two are zero; images are mirrored at the right and the bottom up to whole blocks.

    Args:
        fused, reference: (N, C, H, W) DN.
        block: side of a block; papers use 32.

    Returns:
        (N,) float64.

    Raises:
        ImageError: the shapes differ, the images are too small to be mirrored to whole blocks, or a block is
            of less than 2 x 2 pixels.

    >>> import torch
    >>> reference = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0)) * 2047
    >>> q2n(reference, reference)
    tensor([1.], dtype=torch.float64)
    """
    return q2n_map(fused, reference, block).mean((1, 2))


def q2n_map(fused: Tensor, reference: Tensor, block: int = BLOCK) -> Tensor:
    """Q2n of every block, between 0 and 1: (N, ceil(H/block), ceil(W/block)) float64. See :func:`q2n`."""
    check_block(block)
    check_shapes(fused, reference, smallest=-(-block // 2))
    warn_of_normalised("Q2n", fused, reference)
    return in_pieces(partial(block_q2n, block=block), fused, reference)


def block_q2n(fused: Tensor, reference: Tensor, block: int = BLOCK) -> Tensor:
    """:func:`q2n_map` of float64 images that have been checked."""
    f, g = _integer_blocks(fused, block), _integer_blocks(reference, block)
    n = block * block
    sum_f, sum_g = f.sum(-1), g.sum(-1)
    covariance = (n * (g @ f.mT) - sum_g[..., :, None] * sum_f[..., None, :]) / (n * (n - 1))
    var_f, var_g = ((n * (x * x).sum(-1) - s.square()) / (n * (n - 1)) for x, s in ((f, sum_f), (g, sum_g)))

    # g' = (g - mean_g) / dev_g + 1, f' = (f - mean_g) / scale + 1
    dev_g = torch.where(var_g == 0, _EPS, var_g.sqrt())
    scale = torch.where(sum_g == 0, 1, dev_g)
    mean_f = (sum_f - sum_g) / n / scale + 1
    covariance /= dev_g[..., :, None] * scale[..., None, :]
    spread = (var_g / dev_g.square()).sum(-1) + (var_f / scale.square()).sum(-1)

    # spread = c·mean|g'|² + c·mean|f'|² - c·(|mean g'|² + |mean f'|²) with c = n / (n - 1). Where both blocks
    # are flat, the reference implementation's result hangs on whether rounding leaves exactly 0: same order here.
    c = n / (n - 1)
    size_g = math.sqrt(g.shape[-2])  # correctly rounded, as vector_norm is; Tensor.sqrt with MKL is not
    size_f = torch.linalg.vector_norm(mean_f, dim=-1)
    power_g, power_f = size_g * size_g, size_f.square()
    spread = torch.where(spread == 0, c * power_g + c * power_f - c * (power_g + power_f), spread)

    bias = 2 * size_g * size_f / (power_g + power_f)
    product = covariance.flatten(-2) @ _conjugate_product(g.shape[-2]).to(g.device).flatten(0, 1)
    quality = torch.linalg.vector_norm(product, dim=-1) * bias * 2 / spread
    return torch.where(spread == 0, bias, quality)


def _integer_blocks(x: Tensor, block: int) -> Tensor:
    """Rounded to uint16's range as MATLAB does, mirrored to whole blocks (in which no order counts), with bands up
    to a power of two: (N, H/block, W/block, 2^k, block²) float64."""
    x = x.nan_to_num(0.0).clamp_(0, 65535).add_(_HALF).floor_()
    for dim in (-2, -1):
        if missing := -x.shape[dim] % block:
            x = torch.cat([x, x.narrow(dim, x.shape[dim] - missing, missing)], dim)
    bands = x.shape[1]
    padded = 1 << (bands - 1).bit_length()
    x = blocks(x, block)
    return torch.nn.functional.pad(x, (0, 0, 0, padded - bands)) if padded > bands else x


@lru_cache(maxsize=8)
def _conjugate_product(n: int) -> Tensor:
    """Signs s of g ∘ conj(f): component k is the sum over i, j of s[i, j, k] g_i f_j. (n, n, n) float64."""
    with torch.inference_mode(False):  # a cached inference tensor could not be used under autograd later
        return cayley_dickson(n) * _conjugation(n)[:, None]


def cayley_dickson(n: int) -> Tensor:
    """Signs of the Cayley-Dickson product of n components, n a power of two, halves (a, b) ∘ (c, d)."""
    if n == 1:
        return torch.ones(1, 1, 1, dtype=torch.float64)
    h = n // 2
    half, conj = cayley_dickson(h), _conjugation(h)
    signs = torch.zeros(n, n, n, dtype=torch.float64)
    signs[:h, :h, :h] = half  # a ∘ c
    signs[h:, h:, :h] = -half.transpose(0, 1) * conj[:, None]  # - conj(d) ∘ b
    signs[:h, h:, h:] = half * conj[:, None, None] * conj[:, None]  # conj(a) ∘ conj(d)
    signs[h:, :h, h:] = half.transpose(0, 1) * conj[:, None, None]  # c ∘ conj(b)
    return signs


def _conjugation(n: int) -> Tensor:
    return torch.tensor([1.0] + [-1.0] * (n - 1), dtype=torch.float64)
