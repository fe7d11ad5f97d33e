"""MTF-GLP-FS: full-scale regression-based injection."""

from torch import Tensor

from pansharp_bench.methods._classical import blurred_pan, cov, divide, fusion, injected
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "mtf-glp-fs",
    title="MTF-GLP-FS",
    kind="classical",
    paper="Vivone, Restaino, Chanussot: Full scale regression-based injection coefficients for panchromatic "
    "sharpening. IEEE TIP 27(7), 2018",
    doi="10.1109/TIP.2018.2819501",
    year=2018,
    published="MTF-GLP-FS",
    halo=12,
)
@fusion
def mtf_glp_fs(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b + g_b (P - P_b^L), g_b = cov(M_b, P) / cov(P_b^L, P)."""
    low = blurred_pan(pan, sensor)
    return injected(lms, divide(cov(lms, pan), cov(low, pan)), pan - low)
