"""Each channel with the mean and standard deviation of the target camera's."""

from typing import Any

import torch
from torch import Tensor

from pansharp_bench.methods._rows import AffineRow
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene
from pansharp_bench.training import Trainer, UnpairedData


@register_method(
    "channel-affine", title="Channel affine", kind="baseline", sees="pan", training="unpaired",
    tracks=("calibration",),
)  # fmt: skip
class ChannelAffine(AffineRow):
    """(x_b - μ(x_b)) σ(y_b) / σ(x_b) + μ(y_b), the statistics those of all source images x and targets y.

    A channel in which the sources do not vary becomes μ(y_b). The result is clamped to [0, peak].
    """

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        (mean, std), (target_mean, target_std) = (_moments(x) for x in (data.all_pan(), data.all_ms()))
        gain = (target_std / std).where(std > 0, 0)
        offset = target_mean - gain * mean
        self.gain.copy_(gain[:, None, None])
        self.offset.copy_(offset[:, None, None])
        return {"gain": gain.tolist(), "offset": offset.tolist()}

    def fuse(self, scene: Scene) -> Tensor:
        return super().fuse(scene).clamp(0, self.sensor.peak)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (C,) float64, a slice of the images at a time."""
    count, slices = images[:, 0].numel(), images.split(64)
    mean = torch.stack([x.double().sum((0, 2, 3)) for x in slices]).sum(0) / count
    squares = [(x.double() - mean[:, None, None]).square_().sum((0, 2, 3)) for x in slices]
    return mean, (torch.stack(squares).sum(0) / count).sqrt()
