"""The best function of the PAN value for each band of an image, fitted to the answer itself."""

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.registry import register_method
from pansharp_bench.scene import as_images


@register_method("oracle-pointwise", title="Oracle pointwise", kind="oracle", sees="reference")
def oracle_pointwise(pan: Tensor, reference: Tensor | None) -> Tensor:
    """E[band | PAN], per image, over bins of one DN: no function of the (rounded) PAN value can do better."""
    if reference is None:
        raise BenchError("oracle-pointwise is fitted to the reference, and this image has none")
    pan, reference = as_images(pan, "pan"), as_images(reference, "reference")
    n, bands = reference.shape[:2]
    level = pan.flatten(2).round().long()
    level = level - level.amin()
    index = level.expand(n, bands, -1)
    truth = reference.double().flatten(2)
    bins = truth.new_zeros(n, bands, int(level.amax()) + 1)
    total = bins.scatter_add(2, index, truth)
    count = bins.scatter_add(2, index, torch.ones_like(truth))
    return (total / count.clamp(min=1)).gather(2, index).view_as(reference).to(pan.dtype)
