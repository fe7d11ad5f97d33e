"""The pansharpening track: full and reduced resolution, as papers print them."""

from pansharp_bench.protocols.evaluate import Track
from pansharp_bench.protocols.full import FULL, TRUTH
from pansharp_bench.protocols.reduced import REDUCED
from pansharp_bench.registry import TRACKS, Sees

_GROUPS: dict[Sees, str] = {
    "pan+ms": "With co-registration",
    "pan": "Without co-registration",
    "pan+bag": "Without co-registration, but with the scene's own MS pixels",
    "reference": "Bounds that look at the reference (not ranked)",
}

TRACKS.add(
    Track((FULL, REDUCED, TRUTH), "PAN", _GROUPS, "PanCollection"),
    name="pansharpening",
    title="Pansharpening",
    summary="fuse PAN with MS, or translate PAN into MS bands",
    protocols=("full", "reduced", "truth"),
)
