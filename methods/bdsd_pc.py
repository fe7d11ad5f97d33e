"""BDSD-PC: band-dependent spatial detail with physical constraints."""

import torch
from torch import Tensor

from pansharp_bench.imaging import mtf_filter, mtf_reduce_pan, reduce_bicubic
from pansharp_bench.methods._classical import combine, fusion, nonnegative_regression
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "bdsd-pc",
    title="BDSD-PC",
    kind="classical",
    paper="Vivone: Robust band-dependent spatial-detail approaches for panchromatic sharpening. "
    "IEEE TGRS 57(9), 2019",
    year=2019,
    published="BDSD-PC",
    halo=24,
)
@fusion
def bdsd_pc(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b + γ_b P - Σ_k β_bk M_k, the coefficients γ, β >= 0 from least squares at reduced resolution.

    There the unknown is the detail that the MTF removes from the MS: m_b - MTF(m_b) against PAN, low-passed
    by its own MTF and decimated, and the bands MTF(m_k). m is the expanded MS resized by bicubic.
    """
    low_ms = reduce_bicubic(lms, sensor)
    blurred = mtf_filter(low_ms, sensor)
    low_pan = mtf_reduce_pan(pan, sensor)
    weights = nonnegative_regression(torch.cat([-blurred, low_pan], 1), low_ms - blurred)
    return lms + combine(torch.cat([-lms, pan], 1), weights)
