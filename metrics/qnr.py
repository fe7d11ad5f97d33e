"""QNR: quality with no reference (Alparone et al. 2008)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pansharp_bench.metrics._common import BLOCK
from pansharp_bench.metrics._distortion import (
    block_quality,
    full_resolution,
    spatial_distortion,
    spatial_parts,
)
from pansharp_bench.registry import Blockwise, register_metric
from pansharp_bench.scene import Sensor


class QNR(NamedTuple):
    """Each (N,) float64. ``d_lambda`` is the spectral distortion Dλ (not Khan's), ``d_s`` the spatial one."""

    qnr: Tensor
    d_lambda: Tensor
    d_s: Tensor


def qnr(
    fused: Tensor,
    ms: Tensor,
    pan: Tensor,
    lms: Tensor | None = None,
    ratio: int | str | Sensor = 4,
    block: int = BLOCK,
) -> QNR:
    """Quality with no reference.

    ``(1 - Dλ)(1 - D_s)``; 1 is perfect.
    ``Dλ = mean_{i<j} |Q(F_i, F_j) - Q(MS_i, MS_j)|`` with MS expanded and Q the universal quality index on
    blocks of 32 x 32; D_s as in :func:`~pansharp_bench.metrics.hqnr`.

    Args:
        fused: (N, C, H, W) DN, C at least 2, H and W multiples of ``block``.
        ms: (N, C, H/ratio, W/ratio) DN.
        pan: (N, 1, H, W) DN.
        lms: ``ms`` expanded by the 23-tap interpolator (N, C, H, W), computed when not given.
        ratio: MS pixel size over PAN pixel size, a power of two; or a sensor, which gives its phase too.
        block: side of a block; papers use 32.

    Returns:
        Named tuple ``qnr, d_lambda, d_s``, each (N,) float64. Dλ and QNR are NaN where two bands are flat in
        one block, D_s and QNR where a band and PAN are.

    Raises:
        ImageError: shapes that do not belong together, or sides that are no multiples of ``block``.

    >>> import torch
    >>> from pansharp_bench.imaging import interp23
    >>> pan, ms = torch.rand(2, 1, 64, 64) * 2047, torch.rand(2, 4, 16, 16) * 2047
    >>> qnr(interp23(ms), ms, pan).d_lambda.round(decimals=6)  # expanding keeps the relations of the bands
    tensor([0., 0.], dtype=torch.float64)
    """
    value, d_lambda, d_s = full_resolution(_BLOCKWISE, fused, ms, pan, lms, ratio, block).unbind(1)
    return QNR(value, d_lambda, d_s)


def _parts(
    fused: Tensor,
    pan: Tensor,
    lms: Tensor,
    low: Tensor,
    sensor: int | str | Sensor,
    core: tuple[slice, slice],
    block: int = BLOCK,
) -> Tensor:
    """(N, h, w, C (C + 1)): Q of each two fused bands, of each two of MS, and what D_s is made of."""
    fused, pan, lms, low = (x[(..., *core)] for x in (fused, pan, lms, low))
    i, j = torch.triu_indices(fused.shape[1], fused.shape[1], 1, device=fused.device)
    of_pairs = [block_quality(x, x, block)[..., i, j] for x in (fused, lms)]
    return torch.cat([*of_pairs, spatial_parts(fused, pan, lms, low, block)], -1)


def _combine(means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    bands = math.isqrt(means.shape[-1])
    of_fused, of_ms = means[..., : -2 * bands].chunk(2, -1)
    d_lambda, d_s = (of_fused - of_ms).abs().mean(-1), spatial_distortion(means[..., -2 * bands :])
    return (1 - d_lambda) * (1 - d_s), d_lambda, d_s


_BLOCKWISE = Blockwise(_parts, _combine)


@register_metric(
    "qnr", title="QNR", protocol="full", columns=("QNR", "D_lambda_QNR"), better=("high", "low"), order=20,
    smallest=BLOCK, blockwise=_BLOCKWISE,
)  # fmt: skip
def _columns(
    fused: Tensor,
    ms: Tensor,
    pan: Tensor,
    sensor: str | Sensor,
    lms: Tensor | None = None,
    block: int = BLOCK,
) -> tuple[Tensor, Tensor]:
    """Quality with no reference and its spectral distortion Dλ; its D_s is that of HQNR."""
    score = qnr(fused, ms, pan, lms, sensor, block)
    return score.qnr, score.d_lambda
