"""``bench data build junocam2hst``: from maps of the whole planet to a file of segments."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import click

from pansharp_bench.datasets.junocam2hst._paper import CYCLES, PERIJOVES
from pansharp_bench.datasets.jupiter.zones import ZONES
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.finite import FiniteRange

VERSION = 2  # counts every change that alters segments of the same maps; 2: fill is no cloud
PAPER = {"segment_pixels": 256, "nside_junocam": 32, "nside_hst": 16, "hst_resolution": None}
REPLICA_PIXELS, REPLICA_DEGREES = 64, 0.63
_CHUNK = 64  # segments cut at a time
_FINER = 2.0  # than a map may be a segment, as the paper's is than Hubble's
_PAPER_WIDTH = 9000  # pixels round the planet of the mosaics the paper used


def build(
    out: Path,
    junocam: Sequence[Path],
    hst: Sequence[Path],
    *,
    train: Sequence[int] = PERIJOVES["train"],
    test: Sequence[int] = PERIJOVES["test"],
    cycles: Sequence[int] | None = CYCLES,
    zones: Sequence[str] = tuple(ZONES),
    segment_pixels: int = 256,
    nside_junocam: int = 32,
    nside_hst: int = 16,
    hst_resolution: float | None = None,
    label: str | None = None,
    junocam_options: dict[str, Any] | None = None,
    hst_options: dict[str, Any] | None = None,
    workers: int | None = None,
    force: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> Path:
    """Cut the segments of a JunoCam2HST data set and write them to ``out``.

    Whole perijoves are held out: ``test`` may not share one with ``train``. An attempt that was killed is taken
    up where it ended, and the finished file is the same, byte for byte.

    Args:
        junocam, hst: files or folders of maps (:func:`maps.find_junocam`, :func:`maps.find_hst`, which
            ``junocam_options`` and ``hst_options`` go to).
        cycles: Hubble cycles; None for all that are found.
        hst_resolution: degrade the Hubble maps to this many degrees a pixel first.
        label: part of the data set's name, for what is not the paper's recipe; ``custom`` where that is so and
            none is given.
        workers: threads; as many as there are cores by default.

    Raises BenchError (DataError for the maps) with everything cut so far kept.
    """
    import os

    import torch

    from pansharp_bench.datasets.junocam2hst._inspect import blank_zones
    from pansharp_bench.datasets.junocam2hst.dataset import check_label
    from pansharp_bench.datasets.junocam2hst.store import Store, Writer
    from pansharp_bench.datasets.jupiter import maps
    from pansharp_bench.datasets.jupiter.ellipsoid import SEGMENT_KM, centres

    if both := sorted(set(train) & set(test)):
        raise BenchError(
            f"PJ{both[0]} is in --train and in --test; segments overlap, so hold out whole perijoves"
        )
    if not train or not test:
        raise BenchError("give at least one perijove each with --train and --test")
    if segment_pixels < 8:
        raise BenchError(f"--segment-pixels {segment_pixels} is too small; the paper's is 256")
    if label is not None:
        check_label(label, of_file=True)
    if out.suffix != ".h5":
        raise BenchError(f"--out {out}: data files are found by their names; let it end in .h5")
    zones = tuple(zones)
    if len(set(zones)) < len(zones):
        raise BenchError(f"--zones {','.join(zones)} names a zone twice")
    mosaics = maps.find_junocam(junocam, (*train, *test), **(junocam_options or {}))
    opal = maps.find_hst(hst, cycles, **(hst_options or {}))
    recipe = {
        "segment_pixels": segment_pixels, "nside_junocam": nside_junocam, "nside_hst": nside_hst,
        "hst_resolution": hst_resolution,
    }  # fmt: skip
    if label is None:
        label = "" if recipe == PAPER and _as_in_paper(mosaics, opal) else "custom"
    header: dict[str, Any] = {
        "bands": ("red", "green", "blue"),
        "zones": zones,
        "km_per_pixel": SEGMENT_KM / segment_pixels,
        "segment_km": SEGMENT_KM,
        "provenance": _provenance(mosaics, opal, recipe, train, test),
        "label": label,
        "extra_bands": opal[0].extra_bands,
    }
    if out.exists() and not force:
        told = Store(out)
        if told.provenance == header["provenance"] and told.zones == zones and told.label == label:
            say(f"{out} is already built")
            return out
        raise BenchError(f"{out} exists and holds something else; give --force to replace it")
    out.parent.mkdir(parents=True, exist_ok=True)
    places = {"junocam": centres(nside_junocam, zones), "hst": centres(nside_hst, zones)}
    writer = Writer(out, **header)
    jobs = []
    for source in (*mosaics, *opal):
        split = "target" if source.rotation else "test" if source.number in test else "train"
        where = places["hst" if source.rotation else "junocam"]
        for start in range(0, len(where), _CHUNK):
            piece = f"{source.name.replace(' ', '-')}-{start:06d}"
            jobs.append((source, split, piece, slice(start, start + _CHUNK)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the work is parallel over segments
    try:
        _cut(
            writer, jobs, places, segment_pixels, SEGMENT_KM, hst_resolution, workers or os.cpu_count() or 1,
            progress, say,
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    for text in _check_zones(writer, zones):
        say(text)
    path = writer.close()
    for text in blank_zones(Store(path)):
        say(f"note: {text}")
    say(f"wrote {path}")
    return path


def _cut(
    writer: Any,
    jobs: list[tuple],
    places: dict[str, Any],
    pixels: int,
    size_km: float,
    hst_resolution: float | None,
    workers: int,
    progress: bool,
    say: Callable[[str], None],
) -> None:
    """Every piece that is not stored yet: map by map, so that one map is in memory, in ``workers`` threads. The
    first map that is much coarser than the segments is told."""
    from tqdm import tqdm

    from pansharp_bench.datasets.jupiter.mosaic import KM_PER_DEGREE
    from pansharp_bench.datasets.jupiter.segments import Cutter

    with (
        tqdm(total=len(jobs) * _CHUNK, unit="centre", disable=not progress) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        current, cutter, coarse = None, None, False
        running: set[Future] = set()
        for source, split, piece, part in jobs:
            if writer.has(split, piece):
                bar.update(_CHUNK)
                continue
            if source is not current:
                _collect(running, bar, 0)
                bar.set_description(source.name)
                cutter = None  # let go of the last map before the next is read
                found = source.read()
                across, own = found.degrees_per_pixel * KM_PER_DEGREE, size_km / pixels
                if across > _FINER * own and not coarse:
                    coarse = True
                    with bar.external_write_mode():
                        say(
                            f"warning: segments of {own:.4g} km a pixel are cut from {source.name}, which has "
                            f"{across:.4g}: most of their pixels are interpolated; --segment-pixels "
                            f"{size_km / across:.0f} are as fine as it"
                        )
                if source.rotation:  # of a perijove's mosaic most is unseen
                    bounds = {zone: ZONES[zone] for zone in writer.header["zones"]}
                    writer.note_blank(source.name, found.blank(bounds))
                if source.rotation and hst_resolution:
                    found = found.degraded(hst_resolution)
                current, cutter = source, Cutter(found, pixels, size_km)
                del found
            where = places["hst" if source.rotation else "junocam"]
            running.add(pool.submit(_piece, writer, cutter, source, split, piece, where, part))
            running = _collect(running, bar, 2 * workers)
        _collect(running, bar, 0)


def _piece(writer: Any, cutter: Any, source: Any, split: str, piece: str, where: Any, part: slice) -> None:
    zone, latitude, longitude = where.zone[part], where.latitude[part], where.longitude[part]
    images, kept = cutter(latitude, longitude)
    index = kept.numpy()
    if source.rotation:
        rest: dict[str, Any] = {"cycle": source.number, "rotation": "AB".index(source.rotation)}
        if source.extra_bands:
            rest["extra"] = images[:, 3:]
    else:
        rest = {"perijove": source.number}
    writer.append(split, images[:, :3], zone[index], latitude[index], longitude[index], piece=piece, **rest)


def _collect(running: set[Future], bar: Any, most: int) -> set[Future]:
    """Wait until at most so many are under way; an error of one is raised here."""
    while len(running) > most:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
            bar.update(_CHUNK)
    return running


def _check_zones(writer: Any, zones: tuple[str, ...]) -> list[str]:
    """Notes on zones that one side lacks. Raises DataError where training could draw no partner, or nothing."""
    counts = {split: writer.zone_counts(split) for split in ("train", "target", "test")}
    for split, what in (("train", "training mosaics"), ("target", "Hubble maps"), ("test", "test mosaics")):
        if not counts[split].sum():
            raise DataError(
                f"the {what} gave no segment: none has a centre with all of its surroundings seen "
                "(is the latitude kind, the left edge or the blank colour of the maps right?)"
            )
    lacking = [z for z, a, b in zip(zones, counts["train"], counts["target"], strict=True) if a and not b]
    if lacking:
        raise DataError(
            f"zone {', '.join(lacking)} has JunoCam segments but none of Hubble, so training finds no partner; "
            "give Hubble maps that cover it, or leave it out with --zones"
        )
    empty = [z for z, a in zip(zones, counts["train"], strict=True) if not a]
    return [f"note: no JunoCam segment for training in zone {', '.join(empty)}"] if empty else []


def _as_in_paper(mosaics: list[Any], opal: list[Any]) -> bool:
    """Whether the maps are of the paper's kind: calibrated OPAL files, mosaics of full resolution."""
    from PIL import Image

    try:
        for mosaic in mosaics:
            with Image.open(mosaic.paths[0]) as picture:
                if picture.width < _PAPER_WIDTH:
                    return False
    except (OSError, Image.DecompressionBombError):
        return False  # reading it says what is wrong
    return all(s.paths[0].suffix.lower() == ".fits" for s in opal)


def _provenance(mosaics: list[Any], opal: list[Any], recipe: dict, train: Any, test: Any) -> dict[str, Any]:
    from pansharp_bench.files import sha256_of

    sources = [
        {"name": s.name, "files": {p.name: sha256_of(p) for p in s.paths}, "read_as": dict(s.options)}
        for s in (*mosaics, *opal)
    ]
    made = {"made_by": "bench data build junocam2hst", "builder_version": VERSION}
    made |= {"sources": sources, "recipe": recipe}
    return json.loads(json.dumps(made | {"train": sorted(train), "test": sorted(test)}))


def _numbers(ctx: Any, option: Any, text: str | None) -> tuple[int, ...] | None:
    if text is None or isinstance(text, tuple):
        return text
    try:
        return tuple(int(word.upper().removeprefix("PJ")) for word in text.split(",") if word)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list such as 16,17 or PJ16,PJ17") from None


def _scales(ctx: Any, option: Any, pairs: tuple[str, ...]) -> dict[str, float]:
    try:
        scales = {k.upper(): float(v) for k, v in (pair.split("=") for pair in pairs)}
    except ValueError:
        scales = {"": 0.0}
    if not all(0 < v < math.inf for v in scales.values()):
        raise click.BadParameter("give FILTER=SCALE, above 0, e.g. F631N=0.00364")
    return scales


_LATITUDE = click.Choice(["planetocentric", "planetographic"])
_DIRECTION = click.Choice(["east", "west"])
_PATH = click.Path(path_type=Path)
_TRAIN, _TEST, _CYCLES = (",".join(map(str, n)) for n in (PERIJOVES["train"], PERIJOVES["test"], CYCLES))


@click.command("junocam2hst")
@click.option(
    "--junocam", multiple=True, required=True, type=_PATH, help="Mosaics: folder or files, by PJ number."
)
@click.option(
    "--hst", multiple=True, required=True, type=_PATH, help="OPAL maps: folder or files, FITS or pictures."
)
@click.option("--out", required=True, type=_PATH, help="The file to write.")
@click.option("--train", default=_TRAIN, callback=_numbers, show_default=True, help="Perijoves to train on.")
@click.option("--test", default=_TEST, callback=_numbers, show_default=True, help="Perijoves held out.")
@click.option("--cycles", callback=_numbers, help=f"Hubble cycles (22 is 2015).  [default: {_CYCLES}]")
@click.option("--zones", help="Latitude zones, separated by commas.  [default: all ten]")
@click.option("--replica", is_flag=True, help="Low-resolution stand-in: 64-pixel segments, Hubble at 0.63 degrees, "
              "any cycle, named junocam2hst-mini.")  # fmt: skip
@click.option("--segment-pixels", type=int, help="Pixels across a segment of 16,000 km.  [default: 256]")
@click.option("--nside-junocam", default=32, show_default=True, help="HEALPix nside of JunoCam's centres.")
@click.option("--nside-hst", default=16, show_default=True, help="HEALPix nside of Hubble's centres.")
@click.option(
    "--hst-resolution",
    type=FiniteRange(0, 10, min_open=True),
    metavar="DEG",
    help="Degrade Hubble's maps to so many degrees a pixel.",
)
@click.option(
    "--hst-readme", type=_PATH, help="OPAL readme with I/F scales.  [default: the one beside the FITS]"
)
@click.option(
    "--hst-scale", multiple=True, callback=_scales, metavar="FILTER=SCALE", help="I/F scale of a filter."
)
@click.option("--hst-cycle", type=int, help="Cycle of a Hubble picture whose name does not say it.")
@click.option("--junocam-latitude", type=_LATITUDE, default="planetocentric", show_default=True)
@click.option(
    "--junocam-left",
    type=FiniteRange(-360, 360),
    default=180.0,
    show_default=True,
    help="West longitude of the mosaics' left edge.",
)
@click.option("--junocam-right-is", type=_DIRECTION, default="east", show_default=True)
@click.option("--hst-latitude", type=_LATITUDE, default="planetographic", show_default=True)
@click.option(
    "--hst-left",
    type=FiniteRange(-360, 360),
    default=360.0,
    show_default=True,
    help="West longitude of Hubble maps' left edge.",
)
@click.option("--hst-right-is", type=_DIRECTION, default="east", show_default=True)
@click.option("--hst-south-first", is_flag=True, help="Hubble's first row is the southernmost.")
@click.option("--label", help="Name for a data set of one's own: junocam2hst-LABEL.")
@click.option("--workers", type=click.IntRange(1), help="Threads.  [default: one a core]")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def command(
    junocam: tuple[Path, ...],
    hst: tuple[Path, ...],
    out: Path,
    cycles: tuple[int, ...] | None,
    zones: str | None,
    replica: bool,
    segment_pixels: int | None,
    hst_resolution: float | None,
    hst_readme: Path | None,
    hst_scale: dict[str, float],
    hst_cycle: int | None,
    junocam_latitude: str,
    junocam_left: float,
    junocam_right_is: str,
    hst_latitude: str,
    hst_left: float,
    hst_right_is: str,
    hst_south_first: bool,
    label: str | None,
    **rest: Any,
) -> None:
    """Cut JunoCam mosaics and Hubble OPAL maps into the segments of JunoCam2HST, one HDF5 file.

    The defaults are the paper's recipe. A killed run continues where it ended.

    \b
    bench data build junocam2hst --junocam PJimgs/ --hst opal/ --out data/junocam2hst.h5
    """
    import sys

    if cycles is None and not replica:
        cycles = CYCLES
    if replica:
        segment_pixels = segment_pixels or REPLICA_PIXELS
        hst_resolution = hst_resolution or REPLICA_DEGREES
        label = label or "mini"
    build(
        out,
        junocam,
        hst,
        cycles=cycles,
        zones=tuple(z.strip() for z in zones.split(",")) if zones else tuple(ZONES),
        segment_pixels=segment_pixels or 256,
        hst_resolution=hst_resolution,
        label=label,
        junocam_options={
            "latitude": junocam_latitude,
            "west_left": junocam_left,
            "east_right": junocam_right_is == "east",
        },
        hst_options={
            "latitude": hst_latitude,
            "west_left": hst_left,
            "east_right": hst_right_is == "east",
            "north_up": not hst_south_first,
            "scales": hst_scale or None,
            "readme": hst_readme,
            "cycle": hst_cycle,
        },
        progress=sys.stderr.isatty(),
        say=click.echo,
        **rest,
    )
