"""The source image as it is."""

from torch import Tensor

from pansharp_bench.registry import register_method


@register_method("identity", title="Identity", kind="untouched", sees="pan", tracks=("calibration",))
def identity(pan: Tensor) -> Tensor:
    """The uncalibrated source itself: all structure kept, no colour changed."""
    return pan.clone()
