"""Each channel with the histogram of the target camera's."""

from torch import Tensor

from pansharp_bench.methods._closed_form import TransportRow
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene


@register_method(
    "histogram-matching", title="Histogram matching", kind="baseline", sees="pan", training="unpaired",
    tracks=("calibration",),
)  # fmt: skip
class HistogramMatching(TransportRow):
    """Monotone transport of each channel by the quantiles of all source and all target images.

    One curve per channel for all images; the joint distribution of the channels is not looked at. The result
    is clamped to [0, peak].
    """

    def fuse(self, scene: Scene) -> Tensor:
        return super().fuse(scene).clamp(0, self.sensor.peak)
