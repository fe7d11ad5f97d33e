"""PAN carried to each band's distribution by optimal transport."""

from pansharp_bench.methods._closed_form import TransportRow
from pansharp_bench.registry import register_method


@register_method(
    "pan-ot", title="PAN optimal transport", kind="baseline", sees="pan", training="unpaired", halo=0
)
class PanOT(TransportRow):
    """Monotone optimal transport PAN -> band, by the quantiles of unpaired training images.

    Of all maps of the PAN value that reach a band's distribution this is the one that moves least.
    """
