"""PAN in every band: what a method is worth that adds no colour."""

from torch import Tensor

from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor, as_sensor


@register_method("pan-replicate", title="PAN replicated", kind="baseline", sees="pan", halo=0)
def pan_replicate(pan: Tensor, *, sensor: str | Sensor) -> Tensor:
    """Every band is PAN itself."""
    return pan.repeat(1, as_sensor(sensor).channels, 1, 1)
