"""Each channel with the mean and standard deviation of the target camera's."""

from torch import Tensor

from pansharp_bench.methods._closed_form import AffineRow
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene


@register_method(
    "channel-affine", title="Channel affine", kind="baseline", sees="pan", training="unpaired",
    tracks=("calibration",),
)  # fmt: skip
class ChannelAffine(AffineRow):
    """(x_b - μ(x_b)) σ(y_b) / σ(x_b) + μ(y_b), the statistics those of all source images x and targets y.

    A channel in which the sources do not vary becomes μ(y_b). The result is clamped to [0, peak].
    """

    def fuse(self, scene: Scene) -> Tensor:
        return super().fuse(scene).clamp(0, self.sensor.peak)
