"""``bench fuse``: a PAN and an MS GeoTIFF become a fused one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.assess import show
from pansharp_bench.cli.options import completes, plugin_option, running, say
from pansharp_bench.cli.pair import pair_options, shown

if TYPE_CHECKING:
    from pansharp_bench.scenes import FusedFile

_PATH = click.Path(path_type=Path)


def _size(ctx: click.Context, param: click.Parameter, text: str) -> int:
    """Bytes of "2G", "500M"."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    try:
        found = int(float(number) * unit)
    except (ValueError, OverflowError):
        found = 0
    if found < 1:
        raise click.BadParameter(f"{text!r} is no amount of memory, such as 2G or 500M")
    return found


def _creation(ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    split = [pair.partition("=") for pair in pairs]
    if wrong := [key + sign + value for key, sign, value in split if not (key and sign)]:
        raise click.BadParameter(f"{wrong[0]!r} is not of the form KEY=VALUE")
    return {key: value for key, _, value in split}


@click.command(short_help="Fuse a PAN and an MS GeoTIFF.")
@click.option(
    "--method", default="", shell_complete=completes("METHODS"),
    help="Registered name, e.g. mtf-glp-fs (see `bench list methods`) [default: whose --weights they are].",
)  # fmt: skip
@click.option("--weights", metavar="FILE", help="Weights of a trained method, as `bench run` leaves them.")
@pair_options
@click.option("--out", "-o", required=True, type=_PATH, metavar="FILE", help="GeoTIFF to write.")
@click.option("--register", is_flag=True, help="Correct the offset between PAN and MS that is measured.")
@click.option("--dtype", help="Type of the samples, e.g. uint16, float32; PAN's by default.")
@click.option(
    "--co", "options", multiple=True, metavar="KEY=VALUE", callback=_creation,
    help="Creation option of GDAL, e.g. COMPRESS=ZSTD; may be repeated.",
)  # fmt: skip
@click.option(
    "--format", type=click.Choice(["GTiff", "COG"], case_sensitive=False), default="GTiff", show_default=True,
    help="COG: a cloud-optimised GeoTIFF, with overviews.",
)  # fmt: skip
@click.option("--overviews", is_flag=True, help="Add overviews to a GTiff.")
@click.option(
    "--tile", type=click.IntRange(64), help="Side of a tile in PAN pixels; by default what --memory holds."
)
@click.option("--memory", default="2G", show_default=True, callback=_size, help="Memory to stay within.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Tiles fused at once.")
@click.option(
    "--scheduler",
    default="",
    metavar="ADDRESS",
    help="Of Dask, whose workers fuse the tiles: tcp://host:8786.",
)
@click.option(
    "--approximate",
    is_flag=True,
    help="Let a method that needs the whole scene fuse it by tiles; seams are measured.",
)
@click.option("--resume", is_flag=True, help="Continue an interrupted fusion of the same files and options.")
@click.option("--force", is_flag=True, help="Begin anew, discarding an interrupted fusion.")
@click.option("--score", is_flag=True, help="Assess the result: `bench assess` with the same files.")
@click.option("--quiet", is_flag=True, help="No progress bar, and nothing but warnings.")
@plugin_option
def fuse(
    method: str,
    weights: str | None,
    pair: dict[str, Any],
    out: Path,
    score: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Fuse PAN and MS into a GeoTIFF on PAN's grid, over the ground that both show.

    Where MS lies on PAN is computed from both georeferences, and the offset that is left is measured. Integers are
    rounded and saturated. Pixels without a value in either file have none in the result.

    \b
    bench fuse --method mtf-glp-fs --sensor wv3 --pan pan.tif --ms ms.tif -o fused.tif
    bench fuse --method gsa --sensor l8 --pan B8.TIF --ms B2.TIF --ms B3.TIF --ms B4.TIF --ms B5.TIF -o fused.tif
    bench fuse --weights weights.safetensors --sensor my.toml --pan pan.tif --ms ms.tif -o fused.tif
    bench fuse --method gsa --sensor qb --pan pan.tif --ms utm34.tif -o fused.tif --warp --format COG --score
    """
    from pansharp_bench.scenes import fuse_files

    with running():  # of fusing and assessing: both may have the same to say
        with shown("fusing", quiet) as progress:
            done = fuse_files(out=out, method=method, weights=weights, progress=progress, **pair, **options)
        if not quiet:
            _tell(done)
        if score:
            from pansharp_bench.assess import assess_files

            with shown("assessing", quiet) as progress:
                found = assess_files(out, register=options["register"], progress=progress, **pair)
            show(found)


def _tell(done: FusedFile) -> None:
    order = "" if done.named else " (in the order of the file, which does not name them)"
    say(f"bands         {', '.join(done.bands)}{order}")
    say(f"phase         MS pixel 0 on PAN row {done.phase[0]:g}, column {done.phase[1]:g}")
    if done.resampled:
        say(
            f"resampled     MS onto pixels of {done.sensor.ratio} PAN pixels on PAN's grid ({done.resampled})"
        )
    corrected = ", corrected" if done.registered else ""
    say(f"registration  {done.registration}{corrected}")
    valid = "" if done.valid == 1 else f", {done.valid:.1%} with values"
    size = f"{done.size[0]} x {done.size[1]}"
    clipped = f", {done.clipped} of the values clipped to its range" if done.clipped else ""
    say(f"written       {done.path}: {size} pixels{valid}, {done.dtype}{clipped}, in {done.seconds:.1f} s")
