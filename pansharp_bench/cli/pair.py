"""What commands on a PAN and an MS file share: the options that name the pair, and the progress of a scene."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import completes
from pansharp_bench.errors import BenchError
from pansharp_bench.finite import Finite

if TYPE_CHECKING:
    from pansharp_bench.scene import Sensor
    from pansharp_bench.scenes import SensorFigures

_PATH = click.Path(path_type=Path)


def _numbers(kind: type) -> Callable:
    def read(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple | None:
        try:
            found = tuple(kind(x) for x in text.split(",")) if text else None
        except ValueError:
            raise click.BadParameter(f"{text!r} is not of the form 1,2,3") from None
        if not all(map(math.isfinite, found or ())):
            raise click.BadParameter(f"{text!r} is not a list of finite numbers.")
        return found

    return read


_PAIR = (
    click.option("--pan", required=True, type=_PATH, metavar="FILE", help="PAN, one band."),
    click.option(
        "--ms", required=True, type=_PATH, multiple=True, metavar="FILE", help="MS; may be repeated, a file a band."
    ),
    click.option(
        "--sensor", shell_complete=completes("SENSORS"), metavar="NAME|FILE",
        help="Registered sensor (`bench list sensors`), or a TOML file.",
    ),
    click.option("--peak", type=Finite(), help="Without --sensor: the largest DN, e.g. 2047 of 11 bits."),
    click.option(
        "--mtf", callback=_numbers(float), metavar="G[,G…]",
        help="Without --sensor: MTF gains at Nyquist, one per band or one for all; 0.3 by default.",
    ),
    click.option("--ratio", type=click.IntRange(1), help="Without --sensor: PAN pixels a side of an MS pixel."),
    click.option(
        "--align", type=click.Choice(["geo", "counts", "toolbox"]), default="geo", show_default=True,
        help="Where MS lies on PAN: by both georeferences; at a common corner; as the field's toolbox assumes.",
    ),
    click.option(
        "--bands", callback=_numbers(int), metavar="N[,N…]",
        help="Bands of MS in the sensor's order, numbered from 1 over all files; by default as files name them.",
    ),
    click.option(
        "--nodata", type=Finite(), metavar="VALUE",
        help="Pixels with this value in every band count as empty, besides those that the files declare; e.g. 0.",
    ),
    click.option(
        "--warp", is_flag=True,
        help="Resample an MS in another coordinate system, rotated or mirrored, onto PAN's grid (Lanczos).",
    ),
    click.option(
        "--resample", is_flag=True,
        help="Resample an MS whose pixels are no whole number of PAN pixels wide to the nearest (Lanczos).",
    ),
)  # fmt: skip


def pair_options(command: Callable) -> Callable:
    """``--pan``, ``--ms`` and what says how they belong together; the command gets ``pair``, the arguments of
    :func:`pansharp_bench.scenes.open_pair`."""

    @wraps(command)
    def collected(
        pan: Path, ms: tuple[Path, ...], sensor: str | None, peak: float | None, mtf: tuple[float, ...] | None,
        ratio: int | None, **given: Any,
    ) -> Any:  # fmt: skip
        how = {name: given.pop(name) for name in ("align", "bands", "nodata", "warp", "resample")}
        return command(
            pair={"pan": pan, "ms": ms, "sensor": _camera(sensor, peak, mtf, ratio), **how}, **given
        )

    for option in reversed(_PAIR):
        collected = option(collected)
    return collected


def _camera(
    sensor: str | None, peak: float | None, mtf: tuple[float, ...] | None, ratio: int | None
) -> Sensor | SensorFigures:
    from pansharp_bench.scenes import SensorFigures
    from pansharp_bench.sensors import sensor_given

    if sensor:
        given = {"peak": peak, "mtf": mtf, "ratio": ratio}
        if more := [f"--{name}" for name, value in given.items() if value is not None]:
            raise BenchError(f"--sensor {sensor} and {', '.join(more)}: the sensor says that itself")
        return sensor_given(sensor)
    if peak is None:
        raise BenchError("name the sensor by --sensor (`bench list sensors`), or give its --peak and --mtf")
    return SensorFigures(peak, mtf or (), ratio)


@contextmanager
def shown(what: str, quiet: bool) -> Iterator[Callable[[float], None]]:
    """A progress bar with the time left, on a terminal; it is called with the share done."""
    from tqdm import tqdm

    form = "{desc} {percentage:3.0f} %|{bar}| {elapsed}, {remaining} left"
    with tqdm(
        total=1.0, desc=what, bar_format=form, leave=False, disable=quiet or not sys.stderr.isatty()
    ) as bar:
        first = True

        def reached(share: float) -> None:
            nonlocal first
            if first:  # what was done before tells nothing of the speed
                bar.initial = bar.n = share
            first = False
            bar.update(share - bar.n)

        yield reached
