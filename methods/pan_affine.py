"""PAN with each band's mean and standard deviation."""

from pansharp_bench.methods._closed_form import AffineRow
from pansharp_bench.registry import register_method


@register_method("pan-affine", title="PAN affine", kind="baseline", sees="pan", training="unpaired", halo=0)
class PanAffine(AffineRow):
    """(PAN - μ(PAN)) σ(MS_b) / σ(PAN) + μ(MS_b), the statistics those of unpaired training images."""
