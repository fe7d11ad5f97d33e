"""EXP: interpolation alone, the floor of every table."""

from torch import Tensor

from pansharp_bench.methods._classical import fusion
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor


@register_method(
    "exp",
    title="EXP",
    kind="classical",
    paper="Aiazzi, Alparone, Baronti, Garzelli: Context-driven fusion of high spatial and spectral resolution "
    "images based on oversampled multiresolution analysis. IEEE TGRS 40(10), 2002",
    doi="10.1109/TGRS.2002.803623",
    year=2002,
    published="EXP",
    floor=True,
    halo=0,
)
@fusion
def exp(pan: Tensor, ms: Tensor, lms: Tensor, sensor: Sensor) -> Tensor:
    """MS expanded by the 23-tap polynomial kernel; PAN is not used."""
    return lms
