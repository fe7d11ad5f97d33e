"""PAN with the mean and standard deviation of the scene's own bands."""

from torch import Tensor

from pansharp_bench.methods._classical import divide, mean, std
from pansharp_bench.methods._closed_form import ms_like
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor, as_images, as_sensor


@register_method("scene-affine", title="Scene affine", kind="baseline", sees="pan+bag", halo=8)
def scene_affine(pan: Tensor, ms: Tensor, *, sensor: str | Sensor) -> Tensor:
    """(PAN - μ(PAN_b)) σ(MS_b) / σ(PAN_b) + μ(MS_b), with this scene's MS as an unordered bag of pixels.

    PAN_b is PAN through the band's MTF and decimated, so that both deviations belong to one resolution.
    """
    pan = as_images(pan, "pan")
    high, bag = pan.double(), as_images(ms, "ms").double()
    low = ms_like(high, as_sensor(sensor))
    return ((high - mean(low)) * divide(std(bag), std(low)) + mean(bag)).to(pan.dtype)
