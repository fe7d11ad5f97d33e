"""Metrics: one file each, registered by decorator. Every metric takes (N, C, H, W) DN and gives (N,) float64.

Against a reference: :func:`ergas`, :func:`sam`, :func:`scc`, :func:`q_avg`, :func:`q2n` (Q4, Q8),
:func:`psnr`, :func:`ssim`. Without one: :func:`hqnr`, :func:`qnr`. All but PSNR and SSIM, which it lacks,
equal DLPan-Toolbox, the field's MATLAB reference, to 1e-9.
"""

from pansharp_bench.metrics.ergas import ergas
from pansharp_bench.metrics.hqnr import HQNR, hqnr
from pansharp_bench.metrics.psnr import psnr, psnr_band_mean
from pansharp_bench.metrics.q2n import q2n, q2n_map
from pansharp_bench.metrics.q_avg import q_avg
from pansharp_bench.metrics.qnr import QNR, qnr
from pansharp_bench.metrics.sam import sam
from pansharp_bench.metrics.scc import scc
from pansharp_bench.metrics.ssim import ssim, ssim_uniform

__all__ = [
    "HQNR", "QNR", "ergas", "hqnr", "psnr", "psnr_band_mean", "q2n", "q2n_map", "q_avg", "qnr", "sam", "scc",
    "ssim", "ssim_uniform",
]  # fmt: skip
