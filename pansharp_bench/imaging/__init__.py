"""Pure tensor functions on images: MTF filters, interpolation, pyramids, Wald degradation.

Batched over leading axes, differentiable, on the device of their input and in its dtype (float32 for integers). A
value that is not finite spreads. Filters, interpolation and degradation equal the field's MATLAB toolbox, borders
included. Anything but a tensor of real numbers raises ImageError.
"""

from pansharp_bench.imaging.degrade import Degraded, wald_degrade
from pansharp_bench.imaging.interpolation import decimate, interp23, reduce_bicubic, resize_bicubic
from pansharp_bench.imaging.mtf import (
    lowpass,
    mtf_filter,
    mtf_filter_pan,
    mtf_kernel,
    mtf_reduce,
    mtf_reduce_pan,
)
from pansharp_bench.imaging.pyramid import (
    LaplacianPyramid,
    atrous,
    decompose,
    max_bands,
    pyramid_down,
    pyramid_up,
    reconstruct,
)
from pansharp_bench.imaging.transport import LeastTransport, least_transport

__all__ = [
    "Degraded", "LaplacianPyramid", "LeastTransport", "atrous", "decimate", "decompose", "interp23",
    "least_transport", "lowpass", "max_bands", "mtf_filter", "mtf_filter_pan", "mtf_kernel", "mtf_reduce",
    "mtf_reduce_pan", "pyramid_down",
    "pyramid_up", "reconstruct", "reduce_bicubic", "resize_bicubic", "wald_degrade",
]  # fmt: skip
