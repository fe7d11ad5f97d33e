"""Metrics: one file each, registered by decorator. Every metric takes (N, C, H, W) DN and gives (N,) float64.

Against a reference: :func:`ergas`, :func:`sam`, :func:`scc`, :func:`q_avg`, :func:`q2n` (Q4, Q8),
:func:`psnr`, :func:`ssim`. Without one: :func:`hqnr`, :func:`qnr`. All but PSNR and SSIM, which it lacks,
equal DLPan-Toolbox, the field's MATLAB reference, to 1e-9. :func:`rmse` is in the unit of the images.

Of a calibration, where two sets of images are unpaired, whole sets are compared, values in [0, peak]:
:func:`chi2_histogram`, :func:`histogram_intersection`, :func:`earth_movers_distance`,
:func:`power_spectrum`, :func:`mean_reflectance` and :func:`compare_reflectance` with spectra from files.
"""

from pansharp_bench.imaging.spectra import Spectrum, band_reflectance, read_spectrum
from pansharp_bench.metrics.ergas import ergas
from pansharp_bench.metrics.histograms import (
    chi2_histogram,
    earth_movers_distance,
    histogram,
    histogram_intersection,
)
from pansharp_bench.metrics.hqnr import HQNR, hqnr
from pansharp_bench.metrics.power_spectrum import PowerSpectrum, power_spectrum
from pansharp_bench.metrics.psnr import psnr, psnr_band_mean
from pansharp_bench.metrics.q2n import q2n, q2n_map
from pansharp_bench.metrics.q_avg import q_avg
from pansharp_bench.metrics.qnr import QNR, qnr
from pansharp_bench.metrics.reflectance import compare_reflectance, mean_reflectance
from pansharp_bench.metrics.rmse import rmse
from pansharp_bench.metrics.sam import sam
from pansharp_bench.metrics.scc import scc
from pansharp_bench.metrics.ssim import ssim, ssim_uniform

__all__ = [
    "HQNR", "QNR", "PowerSpectrum", "Spectrum", "band_reflectance", "chi2_histogram", "compare_reflectance",
    "earth_movers_distance", "ergas", "histogram", "histogram_intersection", "hqnr", "mean_reflectance",
    "power_spectrum", "psnr", "psnr_band_mean", "q2n", "q2n_map", "q_avg", "qnr", "read_spectrum", "rmse", "sam",
    "scc", "ssim", "ssim_uniform",
]  # fmt: skip
