"""How good a fused raster is, whoever made it: indices of scenes of any size, window by window."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import check_writable
from pansharp_bench.imaging import interp23, reduce_bicubic, wald_degrade
from pansharp_bench.imaging.mtf import TAPS
from pansharp_bench.imaging.registration import Read, Registration
from pansharp_bench.protocols.pansharpening import BLOCK, FULL, REDUCED, TRUTH
from pansharp_bench.raster import Raster, geotiff, in_unit_of, within
from pansharp_bench.registry import METHODS, Entry, MetricCard
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.scenes import (
    Align,
    Paths,
    RasterPair,
    SensorFigures,
    misregistered,
    open_pair,
    warn_if_normalised,
)
from pansharp_bench.tiles import TensorPair, fuse_pair, mirrored

_WINDOW = 16 * BLOCK  # PAN pixels of a window, a side
_HALO = 16  # MS pixels around it: the 23 taps reach 11 at any phase, the bicubic reduction 2 more
_REACH = 13
_WALD = 1024  # MS pixels, a side, of the part that is degraded


@dataclass(frozen=True)
class Assessment:
    """Scores of a fused raster by column.

    ``full``: without reference, as ``phase`` says: of MS at its true place on PAN, or at the toolbox's. ``blocks``
    of 32 x 32 pixels were scored, ``skipped`` had pixels without a value in or near them. ``registration`` is the
    offset that was measured, and was corrected where it is ``registered``; ``resampled``: the kernel by which MS
    was brought onto PAN's grid, "" where it lay there. ``truth``: against a reference. ``wald``: of a method on the
    same pair one ratio coarser, whose reference is MS itself.
    """

    path: Path
    sensor: Sensor
    phase: str
    size: tuple[int, int]
    blocks: int
    skipped: int
    full: Mapping[str, float]
    registration: Registration
    registered: bool = False
    resampled: str = ""
    truth: Mapping[str, float] = field(default_factory=dict)
    wald: Mapping[str, float] = field(default_factory=dict)
    wald_method: str = ""
    maps: tuple[Path, ...] = ()

    @property
    def remarks(self) -> list[str]:
        """What speaks against the scores."""
        found = [] if self.registered else misregistered(self.registration)
        if unknown := [name for name, value in self.full.items() if math.isnan(value)]:
            found.append(
                f"{', '.join(unknown)}: no number, as an image is constant over whole blocks: clipped values, or "
                "fill that no file declares (--nodata)?"
            )
        return found

    def facts(self) -> dict[str, Any]:
        """All of it, JSON-able; NaN is None."""

        def plain(scores: Mapping[str, float]) -> dict[str, float | None]:
            return {k: None if math.isnan(v) else v for k, v in scores.items()}

        return {
            "fused": str(self.path),
            "sensor": self.sensor.facts(),
            "phase": self.phase,
            "ms_resampled": self.resampled or None,
            "size": list(self.size),
            "blocks": self.blocks,
            "skipped": self.skipped,
            "full": plain(self.full),
            "truth": plain(self.truth),
            "wald": {"method": self.wald_method, **plain(self.wald)} if self.wald else {},
            "registration": {**self.registration.facts(), "corrected": self.registered},
            "remarks": self.remarks,
        }


@torch.inference_mode()
def assess_files(
    fused: str | Path,
    pan: str | Path,
    ms: Paths,
    *,
    sensor: str | Sensor | SensorFigures,
    align: Align = "geo",
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    warp: bool = False,
    resample: bool = False,
    toolbox: bool = False,
    register: bool = False,
    reference: str | Path | None = None,
    wald: str | None = None,
    maps: Path | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Assessment:
    """Assess a fused raster, made by any software, with the PAN and MS it was made of.

    Indices without reference are computed on whole blocks of 32 x 32 pixels, window by window, with MS expanded and
    PAN reduced where MS lies on PAN; beyond its edges the scene is mirrored. Blocks with a pixel that has no value,
    or within reach of the filters of one, are left out. Scores at another phase are not comparable.

    Args:
        fused: on PAN's grid, or a part of it; its bands as those of ``ms``.
        pan, ms, sensor, align, bands, nodata, warp, resample: see :func:`~pansharp_bench.scenes.open_pair`;
            ``bands`` are of ``ms``, ``nodata`` is of ``fused`` too.
        toolbox: at the phase that the field's toolbox assumes, with its borders, which takes the scene into memory.
        register: take MS to lie where the measured offset puts it; of a product that was fused so.
        reference: the true image, on the fused one's grid.
        wald: a method to be tried one ratio coarser, where MS is the reference (Wald's protocol).
        maps: a folder for the indices of every block, as GeoTIFFs.
        progress: called with the share done.

    Returns:
        An :class:`Assessment`: scores by column, and reservations about them (``remarks``).

    Raises:
        DataError: files that cannot be read, or do not belong together.
        BenchError: a sensor or method that does not fit.
    """
    if toolbox and register:
        raise BenchError(
            "the toolbox's phase says where MS lies, and register would move it: leave one of them out"
        )
    if maps:
        check_writable(maps)
    with (
        open_pair(
            pan, ms, sensor, align=align, bands=bands, nodata=nodata, warp=warp, resample=resample
        ) as whole,
        Raster(fused, "fused image", nodata) as image,
    ):
        offset = whole.registration()
        if moved := register and offset.judged:
            whole = whole.registered(offset)
        pair, read = _beside(whole, image)
        if toolbox:
            pair = replace(pair, sensor=replace(pair.sensor, phase=None))
        known = pair.sensor.phase is not None
        size = tuple(n // BLOCK * BLOCK for n in pair.size)
        if min(size) < BLOCK:
            raise DataError(
                f"{fused} and MS have {pair.size[0]} x {pair.size[1]} pixels in common; {BLOCK} are needed"
            )
        if not warn_if_normalised("MS", pair.sensor, pair.placement.size, pair.read_ms):
            warn_if_normalised("the fused image", pair.sensor, pair.size, read)
        truth = _against(reference, pair, read) if reference else {}
        tried = _wald(wald, pair) if wald else {}
        entries = [e for e in FULL.entries("image") if e.card.blockwise]
        if known:
            found = _windowed(pair, read, (size[0], size[1]), entries, progress)
        else:
            found = _at_once(pair, read, (size[0], size[1]), entries)
        scored = int(found.known.sum())
        if not scored:
            raise DataError("no block of 32 x 32 pixels has values everywhere in the fused image, PAN and MS")
        phase = "toolbox"
        if pair.sensor.phase is not None:
            row, column = pair.placement.phase
            phase = f"MS pixel 0 on PAN row {row:g}, column {column:g}"
        return Assessment(
            Path(fused),
            pair.sensor,
            phase,
            (size[0], size[1]),
            scored,
            found.known.numel() - scored,
            found.scores(entries),
            offset,
            moved,
            pair.ms.resampled,
            truth,
            tried,
            wald or "",
            tuple(found.write(maps, pair, entries)) if maps else (),
        )


def _beside(pair: RasterPair, image: Raster) -> tuple[RasterPair, Read]:
    """The pair cut to where a raster on PAN's grid lies, and how that is read there, in PAN's DN.

    Raises DataError where it is on another grid, or has other bands.
    """
    image.choose_named(pair.sensor.bands)
    row, column = _start(pair, image)
    part = pair.within(row, column, image.grid.size)
    start = (part.placement.pan[0] - row, part.placement.pan[1] - column)

    def read(rows: slice, cols: slice) -> tuple[Tensor, Tensor | None]:
        window = (
            slice(rows.start + start[0], rows.stop + start[0]),
            slice(cols.start + start[1], cols.stop + start[1]),
        )
        values, valid = image.read(*window)
        return in_unit_of(pair.pan, image, values), valid

    return part, read


def _start(pair: RasterPair, image: Raster) -> tuple[int, int]:
    """Row and column of PAN where an image on its grid begins."""
    own, other = pair.pan.grid, image.grid
    if own.transform is None or other.transform is None:
        for start, size in (((0, 0), own.size), (pair.placement.pan, pair.size)):
            if other.size == size:
                return start
        raise DataError(
            f"{image.path} has {other.size[0]} x {other.size[1]} pixels where PAN has {own.size[0]} x "
            f"{own.size[1]}, and without a georeference its place is not known"
        )
    if own.crs != other.crs:
        raise DataError(
            f"{image.path} is in another coordinate system than PAN: bring it onto PAN's grid by gdalwarp"
        )
    t = within(own, other)
    row, column = round(t.f), round(t.c)
    sizes = max(abs(t.a - 1), abs(t.d)) * other.size[1], max(abs(t.e - 1), abs(t.b)) * other.size[0]
    if max(abs(t.f - row), abs(t.c - column), *sizes) > 0.01:
        raise DataError(
            f"{image.path} is not on PAN's grid: it begins at row {t.f + 0:.6g}, column {t.c + 0:.6g} of PAN, "
            f"and its pixels are {t.a:.6g} x {t.e:.6g} of PAN's. Bring it there by gdalwarp -te … -tr …"
        )
    return row, column


@dataclass
class _Blocks:
    """Quantities of every block, by metric (h, w, K), and which blocks count (h, w)."""

    parts: list[Tensor]
    known: Tensor

    def scores(self, entries: Sequence[Entry[MetricCard]]) -> dict[str, float]:
        found: dict[str, float] = {}
        for entry, parts in zip(entries, self.parts, strict=True):
            assert entry.card.blockwise
            values = entry.card.blockwise.combine(parts[self.known].mean(0, keepdim=True))
            found |= {c: v.item() for c, v in zip(entry.card.columns, values, strict=False)}
        return found

    def write(self, folder: Path, pair: RasterPair, entries: Sequence[Entry[MetricCard]]) -> list[Path]:
        """A GeoTIFF a metric, of one pixel a block; NaN where a block does not count."""
        written = []
        grid = pair.grid
        t = grid.transform
        coarse = t and type(t)(BLOCK * t.a, BLOCK * t.b, t.c, BLOCK * t.d, BLOCK * t.e, t.f)
        for entry, parts in zip(entries, self.parts, strict=True):
            assert entry.card.blockwise
            columns = entry.card.columns
            values = torch.stack(entry.card.blockwise.combine(parts)[: len(columns)])
            values = torch.where(self.known, values, torch.nan)
            path = folder / f"{entry.name}.tif"
            size = (values.shape[1], values.shape[2])
            with geotiff(path, size, columns, crs=grid.crs, transform=coarse, nodata=math.nan) as out:
                out.write(values.numpy().astype(np.float32))
            written.append(path)
        return written


def _windowed(
    pair: RasterPair,
    read: Read,
    size: tuple[int, int],
    entries: Sequence[Entry[MetricCard]],
    progress: Callable[[float], None],
) -> _Blocks:
    sensor, r = pair.sensor, pair.sensor.ratio
    known = torch.zeros(size[0] // BLOCK, size[1] // BLOCK, dtype=torch.bool)
    parts: list[Tensor] = [torch.empty(0)] * len(entries)
    corners = [(y, x) for y in range(0, size[0], _WINDOW) for x in range(0, size[1], _WINDOW)]
    progress(0.0)
    for done, (top, left) in enumerate(corners):
        # a window is of whole MS pixels, and the blocks in it
        rows, cols = (
            slice(start, min(start + _WINDOW, n)) for start, n in zip((top, left), size, strict=True)
        )
        around = [slice(p.start // r - _HALO, -(-p.stop // r) + _HALO) for p in (rows, cols)]
        fine = [slice(r * p.start, r * p.stop) for p in around]
        whole = pair.size
        coarse = (whole[0] // r, whole[1] // r)
        ms, of_ms = _mirrored(pair.read_ms, coarse, around[0], around[1])
        pan, of_pan = _mirrored(pair.read_pan, whole, fine[0], fine[1])
        fused, of_fused = _mirrored(read, whole, fine[0], fine[1])
        gaps = _near(~of_pan, _REACH * r) | _near(~of_fused, TAPS // 2)
        gaps |= _near(~of_ms, _REACH).repeat_interleave(r, 0).repeat_interleave(r, 1)
        core = (
            slice(rows.start - fine[0].start, rows.stop - fine[0].start),
            slice(cols.start - fine[1].start, cols.stop - fine[1].start),
        )
        here = tuple(slice(p.start // BLOCK, p.stop // BLOCK) for p in (rows, cols))
        free = ~F.max_pool2d(gaps[core][None].float(), BLOCK)[0].bool()
        known[here] = free
        if free.any():
            pan, ms, fused = _filled(pan, of_pan), _filled(ms, of_ms), _filled(fused, of_fused)
            images = {
                "fused": fused[None],
                "pan": pan[None],
                "lms": interp23(ms[None], sensor),
                "low": interp23(reduce_bicubic(pan[None], sensor), sensor),
            }
            for i, entry in enumerate(entries):
                assert entry.card.blockwise
                found = entry.card.blockwise.parts(**images, sensor=sensor, core=core)[0]
                if not parts[i].numel():
                    parts[i] = found.new_zeros(*known.shape, found.shape[-1])
                parts[i][here] = found
        progress((done + 1) / len(corners))
    return _Blocks(parts, known)


def _at_once(
    pair: RasterPair, read: Read, size: tuple[int, int], entries: Sequence[Entry[MetricCard]]
) -> _Blocks:
    """As the toolbox does: its phases and its borders, which need the whole scene."""
    sensor = pair.sensor
    rows, cols = slice(0, size[0]), slice(0, size[1])
    images, valid = _in_memory(pair, read)
    expanded = interp23(images["ms"][None], sensor)[..., rows, cols]
    pan = images["pan"][None][..., rows, cols]
    given = {
        "fused": images["fused"][None][..., rows, cols],
        "pan": pan,
        "lms": expanded,
        "low": interp23(reduce_bicubic(pan, sensor), sensor),
    }
    if not valid.all():
        raise DataError(
            "the toolbox's indices are of whole images, and some pixels have no value: leave out --toolbox, or cut "
            "the images"
        )
    parts = [
        e.card.blockwise.parts(**given, sensor=sensor, core=(rows, cols))[0]
        for e in entries
        if e.card.blockwise
    ]
    return _Blocks(parts, torch.ones(size[0] // BLOCK, size[1] // BLOCK, dtype=torch.bool))


def _in_memory(pair: RasterPair, read: Read) -> tuple[dict[str, Tensor], Tensor]:
    """The whole images, and where all of them have values, on PAN's grid."""
    r = pair.sensor.ratio
    fine = (slice(0, pair.size[0]), slice(0, pair.size[1]))
    coarse = (slice(0, pair.size[0] // r), slice(0, pair.size[1] // r))
    found = {"fused": read(*fine), "pan": pair.read_pan(*fine), "ms": pair.read_ms(*coarse)}
    valid = torch.ones(pair.size, dtype=torch.bool)
    for name, (_, mask) in found.items():
        if mask is not None:
            valid &= mask.repeat_interleave(r, 0).repeat_interleave(r, 1) if name == "ms" else mask
    return {name: values for name, (values, _) in found.items()}, valid


def _mirrored(read: Read, size: tuple[int, int], rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
    """A window that may reach beyond the image, which is mirrored there (edge pixels repeated); with its mask."""
    index = [mirrored(part.start, part.stop, n) for part, n in zip((rows, cols), size, strict=True)]
    least = [int(i.min()) for i in index]
    values, valid = read(*(slice(low, int(i.max()) + 1) for low, i in zip(least, index, strict=True)))
    inside = (index[0][:, None] - least[0], index[1] - least[1])
    mask = torch.ones(values.shape[1:], dtype=torch.bool) if valid is None else valid
    return values[:, inside[0], inside[1]], mask[inside]


def _near(where: Tensor, reach: int) -> Tensor:
    """Where there is a true pixel within ``reach``, (h, w) bool."""
    return F.max_pool2d(where[None].float(), 2 * reach + 1, 1, reach)[0].bool()


def _filled(image: Tensor, valid: Tensor) -> Tensor:
    """Finite everywhere, so that no NaN reaches a pixel that counts through a transform."""
    return torch.where(valid, image, 0.0)


def _against(reference: str | Path, pair: RasterPair, read: Read) -> dict[str, float]:
    """Indices against the true image, of whole images in memory."""
    with Raster(reference, "reference") as file:
        part, read_true = _beside(pair, file)
        if part.placement != pair.placement:
            raise DataError(f"{reference} does not cover the ground of the fused image")
        images, valid = _in_memory(pair, read)
        truth, known = read_true(slice(0, pair.size[0]), slice(0, pair.size[1]))
        if not (valid if known is None else valid & known).all():
            raise DataError(
                "indices with a reference are of whole images, and some pixels have no value: cut the images first"
            )
    scene = Scene(pair.sensor, pan=images["pan"][None], ms=images["ms"][None], gt=truth[None])
    return _scored(TRUTH, images["fused"][None], scene)


def _wald(method: str, pair: RasterPair) -> dict[str, float]:
    """Indices of a method on the pair one ratio coarser: in the middle, where the scene is large."""
    METHODS.get(method)
    sensor, r = pair.sensor, pair.sensor.ratio
    coarse = [n // r for n in pair.size]
    side = [min(_WALD, n) // r * r for n in coarse]
    start = [(n - s) // 2 for n, s in zip(coarse, side, strict=True)]
    if min(side) < max(2 * r, REDUCED.smallest):
        raise DataError(f"Wald's protocol needs {REDUCED.smallest} x {REDUCED.smallest} MS pixels at least")
    ms, of_ms = pair.read_ms(*(slice(a, a + n) for a, n in zip(start, side, strict=True)))
    pan, of_pan = pair.read_pan(*(slice(r * a, r * (a + n)) for a, n in zip(start, side, strict=True)))
    if any(mask is not None and not mask.all() for mask in (of_ms, of_pan)):
        raise DataError(
            "Wald's protocol is of whole images, and in the middle of the scene pixels have no value"
        )
    low = wald_degrade(ms[None], pan[None], sensor)
    small = TensorPair(low.pan[0], low.ms[0], sensor)
    fused = torch.empty_like(ms)
    for rows, cols, values, _ in fuse_pair(method, small):
        fused[:, rows, cols] = values
    return _scored(REDUCED, fused[None], Scene(sensor, pan=low.pan, ms=low.ms, gt=ms[None]))


def _scored(protocol: Any, fused: Tensor, scene: Scene) -> dict[str, float]:
    smallest = protocol.smallest
    if min(fused.shape[-2:]) < smallest:
        raise BenchError(f"indices with a reference need images of {smallest} x {smallest} pixels at least")
    return {column: value.item() for column, value in protocol.score(fused, scene).items()}
