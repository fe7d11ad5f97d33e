"""The best affine map from PAN to each band of an image, fitted to the answer itself."""

from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.methods._classical import cov, divide, mean, var
from pansharp_bench.registry import register_method
from pansharp_bench.scene import as_images


@register_method("oracle-affine", title="Oracle affine", kind="oracle", sees="reference")
def oracle_affine(pan: Tensor, reference: Tensor | None) -> Tensor:
    """g_b PAN + c_b by least squares on the reference, per image: no affine map of PAN can do better."""
    if reference is None:
        raise BenchError("oracle-affine is fitted to the reference, and this image has none")
    pan, reference = as_images(pan, "pan"), as_images(reference, "reference")
    high, truth = pan.double(), reference.double()
    gain = divide(cov(truth, high), var(high))
    return (gain * (high - mean(high)) + mean(truth)).to(pan.dtype)
