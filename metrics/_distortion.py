"""Spatial distortion D_s and the block quality index behind it, shared by HQNR and QNR."""

from __future__ import annotations

import torch
from torch import Tensor

from pansharp_bench.errors import ImageError
from pansharp_bench.imaging import interp23, reduce_bicubic
from pansharp_bench.metrics._common import BLOCK, blocks, check_block, in_pieces
from pansharp_bench.registry import Blockwise
from pansharp_bench.scene import Sensor, as_float, as_sensor


def full_resolution(
    blockwise: Blockwise,
    fused: Tensor, ms: Tensor, pan: Tensor, lms: Tensor | None, sensor: int | str | Sensor, block: int = BLOCK,
) -> Tensor:  # fmt: skip
    """An index of whole images in float64, its columns side by side (N, K).

    MS is expanded, and PAN reduced by the antialiased bicubic filter and expanded again (PAN_low): for a sensor
    that has a phase, at that; else as in the toolbox, reduced half a pixel before where it is expanded from. Raises
    ImageError where shapes do not belong together or sides are no multiples of the block's.
    """
    check_block(block)
    ratio = sensor if isinstance(sensor, int) else as_sensor(sensor).ratio
    given = {"fused": fused, "ms": ms, "pan": pan} | ({} if lms is None else {"lms": lms})
    for name, x in given.items():
        as_float(x, name)
    shape = (*ms.shape[:-2], *(ratio * side for side in ms.shape[-2:]))
    fits = fused.ndim == 4 and fused.shape == shape and pan.shape == (shape[0], 1, *shape[-2:])
    if not fits or (lms is not None and lms.shape != shape):
        raise ImageError(
            f"with ratio {ratio} expected fused and lms (N, C, {ratio}h, {ratio}w), ms (N, C, h, w) and pan "
            f"(N, 1, {ratio}h, {ratio}w); found "
            + ", ".join(f"{name} {tuple(x.shape)}" for name, x in given.items())
        )
    if any(side % block for side in shape[-2:]):
        raise ImageError(f"sides must be multiples of {block} at full resolution; found fused {tuple(shape)}")

    def columns(fused: Tensor, pan: Tensor, coarse: Tensor) -> Tensor:
        expanded = interp23(coarse, sensor) if lms is None else coarse
        low = interp23(reduce_bicubic(pan, sensor), sensor)
        core = (slice(None), slice(None))
        images = {"fused": fused, "pan": pan, "lms": expanded, "low": low}
        parts = blockwise.parts(**images, sensor=sensor, core=core, block=block)
        return torch.stack(blockwise.combine(parts.mean((1, 2))), 1)

    return in_pieces(columns, fused, pan, ms if lms is None else lms)


def block_quality(x: Tensor, y: Tensor, block: int = BLOCK) -> Tensor:
    """Universal quality index of every band of ``x`` with every band of ``y`` in non-overlapping
    blocks with unbiased moments: (N, Cx, H, W), (N, Cy, H, W) -> (N, H/block, W/block, Cx, Cy).

    ``4 cov m_x m_y / ((var_x + var_y)(m_x² + m_y²))``; NaN where both bands are flat in some block.
    """
    (x, mean_x, var_x), (y, mean_y, var_y) = _moments(x, block), _moments(y, block)
    covariance = x @ y.mT / (block * block - 1)
    variances = var_x[..., :, None] + var_y[..., None, :]
    squares = mean_x.square()[..., :, None] + mean_y.square()[..., None, :]
    return 4 * covariance * mean_x[..., :, None] * mean_y[..., None, :] / variances / squares


def spatial_parts(fused: Tensor, pan: Tensor, lms: Tensor, low: Tensor, block: int = BLOCK) -> Tensor:
    """What D_s is made of, in every block: Q of each fused band with PAN, then of each expanded MS band with
    PAN_low. (N, H/block, W/block, 2C)."""
    pairs = (fused, pan), (lms, low)
    return torch.cat([block_quality(x, y, block)[..., 0] for x, y in pairs], -1)


def spatial_distortion(means: Tensor) -> Tensor:
    """``D_s = mean_b |Q(F_b, PAN) - Q(MS_b, PAN_low)|`` of the means (..., 2C) of :func:`spatial_parts`."""
    of_fused, of_ms = means.chunk(2, -1)
    return (of_fused - of_ms).abs().mean(-1)


def _moments(x: Tensor, block: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centred blocks (N, H/block, W/block, C, block²), and without the last axis their means and unbiased
    variances."""
    x = blocks(x, block)
    mean = x.mean(-1)
    x = x - mean[..., None]
    return x, mean, (x * x).sum(-1) / (block * block - 1)
