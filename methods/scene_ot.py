"""PAN carried to the distribution of the scene's own bands by optimal transport."""

from torch import Tensor

from pansharp_bench.imaging.statistics import ordered
from pansharp_bench.methods._closed_form import ms_like, transport
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor, as_images, as_sensor


@register_method(
    "scene-ot", title="Scene optimal transport", kind="baseline", sees="pan+bag", smallest=8, halo=8
)
def scene_ot(pan: Tensor, ms: Tensor, *, sensor: str | Sensor) -> Tensor:
    """Monotone optimal transport PAN -> band with this scene's MS as an unordered bag of pixels.

    The k-th smallest of PAN through the band's MTF and decimated is carried to the k-th smallest of the band;
    the map is then applied to PAN itself.
    """
    pan, ms = as_images(pan, "pan"), as_images(ms, "ms")
    low = ms_like(pan.double(), as_sensor(sensor))
    source, target = (ordered(x) for x in (low, ms.double()))
    values = pan.double().flatten(2).repeat(1, ms.shape[1], 1)
    return transport(values, source, target).view(*ms.shape[:2], *pan.shape[-2:]).to(pan.dtype)
