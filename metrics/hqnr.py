"""HQNR: hybrid quality with no reference (Aiazzi et al. 2014)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pansharp_bench.imaging import mtf_filter
from pansharp_bench.metrics._common import BLOCK, warn_of_normalised
from pansharp_bench.metrics._distortion import full_resolution, spatial_distortion, spatial_parts
from pansharp_bench.metrics.q2n import block_q2n
from pansharp_bench.registry import Blockwise, register_metric
from pansharp_bench.scene import Sensor, as_sensor


class HQNR(NamedTuple):
    """Each (N,) float64. ``d_lambda`` is Khan's spectral distortion Dλ_K, ``d_s`` the spatial distortion."""

    hqnr: Tensor
    d_lambda: Tensor
    d_s: Tensor


def hqnr(
    fused: Tensor,
    ms: Tensor,
    pan: Tensor,
    sensor: str | Sensor = "qb",
    lms: Tensor | None = None,
    block: int = BLOCK,
) -> HQNR:
    """Hybrid quality with no reference.

    ``(1 - Dλ_K)(1 - D_s)``; 1 is perfect.
    ``Dλ_K = 1 - Q2n(MS expanded, fused image filtered by the sensor's MTF)``, nothing decimated.
    ``D_s = mean_b |Q(F_b, PAN) - Q(MS_b expanded, PAN_low)|`` with PAN_low = PAN reduced by MATLAB's bicubic
    and expanded again, and Q the universal quality index on blocks of 32 x 32. Q2n rounds to integers, so the
    images must be DN; values that all lie in [0, 1] are warned of.

    Args:
        fused: (N, C, H, W) DN, H and W multiples of ``block``.
        ms: (N, C, H/ratio, W/ratio) DN.
        pan: (N, 1, H, W) DN.
        sensor: registered name, e.g. ``"wv3"``, or a Sensor; gives MTF, ratio and phase.
        lms: ``ms`` expanded by the 23-tap interpolator (N, C, H, W), computed when not given.
        block: side of a block; papers use 32.

    Returns:
        Named tuple ``hqnr, d_lambda, d_s``, each (N,) float64. D_s and HQNR are NaN where a band and PAN are
        flat in one block, as where both hold fill.

    Raises:
        ImageError: shapes that do not belong together, or sides that are no multiples of ``block``.
        BenchError: the sensor has another number of bands.
        UnknownName: no such sensor.

    >>> import torch
    >>> from pansharp_bench.imaging import interp23
    >>> pan, ms = torch.rand(2, 1, 64, 64) * 2047, torch.rand(2, 4, 16, 16) * 2047
    >>> score = hqnr(interp23(ms), ms, pan, sensor="qb")
    >>> torch.equal(score.hqnr, (1 - score.d_lambda) * (1 - score.d_s))
    True
    """
    sensor = as_sensor(sensor)

    value, d_s, d_lambda = full_resolution(_BLOCKWISE, fused, ms, pan, lms, sensor, block).unbind(1)
    warn_of_normalised("HQNR", fused, ms)
    return HQNR(value, d_lambda, d_s)


def _parts(
    fused: Tensor,
    pan: Tensor,
    lms: Tensor,
    low: Tensor,
    sensor: str | Sensor,
    core: tuple[slice, slice],
    block: int = BLOCK,
) -> Tensor:
    """(N, h, w, 1 + 2C): Q2n of the fused image at the MS's sharpness, and what D_s is made of."""
    inner = (..., *core)
    spectral = block_q2n(mtf_filter(fused, sensor)[inner], lms[inner], block)
    spatial = spatial_parts(fused[inner], pan[inner], lms[inner], low[inner], block)
    return torch.cat([spectral[..., None], spatial], -1)


def _combine(means: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """HQNR, D_s, Dλ_K: the order in which papers print them."""
    d_lambda, d_s = 1 - means[..., 0], spatial_distortion(means[..., 1:])
    return (1 - d_lambda) * (1 - d_s), d_s, d_lambda


_BLOCKWISE = Blockwise(_parts, _combine)


@register_metric(
    "hqnr", title="HQNR", protocol="full", columns=("HQNR", "D_s", "D_lambda"), better=("high", "low", "low"),
    order=10, smallest=BLOCK, blockwise=_BLOCKWISE,
)  # fmt: skip
def _columns(
    fused: Tensor,
    ms: Tensor,
    pan: Tensor,
    sensor: str | Sensor,
    lms: Tensor | None = None,
    block: int = BLOCK,
) -> tuple[Tensor, Tensor, Tensor]:
    """Hybrid quality with no reference, the spatial distortion D_s and the spectral distortion Dλ_K."""
    score = hqnr(fused, ms, pan, sensor, lms, block)
    return score.hqnr, score.d_s, score.d_lambda
