"""The pansharpening track: full and reduced resolution, as papers print them."""

from pansharp_bench.protocols.full import FULL, TRUTH
from pansharp_bench.protocols.reduced import REDUCED
from pansharp_bench.registry import TRACKS

TRACKS.add(
    (FULL, REDUCED, TRUTH),
    name="pansharpening",
    title="Pansharpening",
    summary="fuse PAN with MS, or translate PAN into MS bands",
    protocols=("full", "reduced", "truth"),
)
