"""GSA: Gram-Schmidt adaptive."""

from torch import Tensor

from pansharp_bench.imaging import atrous
from pansharp_bench.methods._classical import (
    centred_regression,
    combine,
    deviations,
    divide,
    fusion,
    injected,
    mean,
)
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "gsa",
    title="GSA",
    kind="classical",
    paper="Aiazzi, Baronti, Selva: Improving component substitution pansharpening through multivariate "
    "regression of MS+Pan data. IEEE TGRS 45(10), 2007",
    doi="10.1109/TGRS.2007.901007",
    year=2007,
    halo=4,
)
@fusion
def gsa(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """M_b + g_b (P - I), the intensity I = Σ w_b M_b + w_0 regressed on PAN at reduced resolution.

    w: least squares of PAN, decimated after the à-trous low pass, on the MS; g_b = cov(M_b, I) / var(I). All
    images are freed of their means first; w_0 is then 0.
    """
    weights = centred_regression(ms, atrous(pan, levels=(sensor.ratio - 1).bit_length(), step=sensor))
    means, products = deviations(lms)
    with_intensity = products @ weights
    gains = divide(with_intensity, weights.mT @ with_intensity)[..., None]
    centre = mean(pan) - (means[:, None] @ weights)[..., None]
    return injected(lms, gains, pan - combine(lms, weights) - centre)
