"""``junocam2hst-sim``: a simulated Jupiter seen by a fine, uncalibrated JunoCam and a coarse, calibrated Hubble.

Every perijove and every Hubble rotation has its own weather (``jupiter/weather.py``), so nothing is paired; the
climate is the same. Segments are those of the real track (zones, HEALPix centres, Lambert projection, 16,000 km).
The test perijove also keeps its ``truth``: the I/F Hubble's bands would show at JunoCam's resolution.

JunoCam: its own bands and their leaks, limb darkening, noise and square-root companding to 8 bits; then what is
done to make a mosaic: imperfect limb correction, exposures and framelets that do not quite match, flattening by
a low pass of luminance, sharpening, white balance, saturation, a tone curve, 8 bits. Hubble: I/F, blurred 2.5
times as much, a little noise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from pansharp_bench.datasets._known import finding, verified
from pansharp_bench.datasets.junocam2hst._paper import CYCLES, PERIJOVES
from pansharp_bench.datasets.junocam2hst.dataset import JunoCam2HST
from pansharp_bench.datasets.junocam2hst.store import Store, Writer
from pansharp_bench.datasets.jupiter.ellipsoid import SEGMENT_KM, centres, laea_inverse
from pansharp_bench.datasets.jupiter.junocam.raw import decompanding_table
from pansharp_bench.datasets.jupiter.maps import EXTRA_FILTERS
from pansharp_bench.datasets.jupiter.segments import pixel_grid
from pansharp_bench.datasets.jupiter.weather import MercatorGrid, Response, reflect, sample, weather, wrap
from pansharp_bench.datasets.jupiter.zones import ZONES
from pansharp_bench.errors import BenchError
from pansharp_bench.files import cache_dir, made_once
from pansharp_bench.scene import CALIBRATION_SPLITS, FileIdentity, SplitName, as_sensor

VERSION = 3  # counts every change that alters pixels
NAME, SECOND_STAGE = "junocam2hst-sim", "junocam2hst-uvm-sim"  # the second with the further bands
BLUR = 0.5  # pixels: spread of JunoCam's Gaussian point spread, a gain of 0.29 at the Nyquist frequency
COARSER = 2.5  # Hubble's blur is this much wider, so it has that gain at a frequency this much lower
NSIDE = {"train": 32, "test": 32, "target": 16}  # as in the real track
MARGIN = 6  # pixels cut around a segment and lost again to the blur

HUBBLE = Response(white=(1.0, 0.95, 0.82), colour=(0.10, 0.42, 0.85), clear=(0.35, 0.22, 0.08))
JUNOCAM = Response(white=(1.0, 0.98, 0.92), colour=(0.05, 0.37, 0.70), clear=(0.60, 0.36, 0.10))
LEAKS = ((0.93, 0.06, 0.01), (0.05, 0.89, 0.06), (0.01, 0.11, 0.88))  # of JunoCam's filters
HUBBLE_NOISE = 0.004  # I/F, before the blur
ULTRAVIOLET_METHANE = Response(white=(0.36, 0.20), colour=(0.75, 0.05), clear=(-0.10, 1.30))


@dataclass(frozen=True)
class Amount:
    """How much to make: pixels of a segment, degrees of a map pixel, training perijoves, segments of each split."""

    pixels: int
    step: float
    perijoves: int
    train: int
    target: int
    test: int

    def samples(self) -> dict[SplitName, int]:
        return {"train": self.train, "target": self.target, "test": self.test}


SIZES = {
    "default": Amount(64, 0.14, 6, 960, 960, 240),
    "tiny": Amount(32, 0.6, 1, 48, 48, 24),
    "full": Amount(256, 0.04, 6, 4800, 2968, 600),
}


@dataclass(frozen=True)
class Map:
    """One map to make and what is cut from it."""

    split: SplitName
    index: int  # perijove, or rotation
    count: int


@dataclass(frozen=True)
class Segments:
    """Segments of a map: images (n, 3, H, W), where they lie, and for the test the truth."""

    images: Tensor
    zone: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray
    truth: Tensor | None = None
    extra: Tensor | None = None


def place(seed: int, size: str, extra: bool = False) -> Path:
    """The folder of a simulation's file. With ``extra`` the same segments have ultraviolet and methane too."""
    return cache_dir() / "sim" / f"junocam2hst-v{VERSION}-s{seed}-{size}{'-extra' if extra else ''}"


def about(seed: int, size: str, extra: bool = False) -> dict:
    """The identity of a simulation: files of equal identity hold the same segments."""
    told = {"simulator_version": VERSION, "seed": seed, "size": size, **asdict(SIZES[size])}
    return told | ({"extra_bands": list(EXTRA_FILTERS)} if extra else {})


def ready(seed: int, size: str, extra: bool = False) -> Path:
    """The simulation's file; makes it if it is not in the cache. Raises BenchError when the cache cannot be
    written."""
    file = "junocam2hst.h5"
    folder = made_once(
        place(seed, size, extra), lambda made: make(made / file, seed, size, extra), "simulated segments"
    )
    return folder / file


def maps(size: Amount) -> list[Map]:
    """All maps of a simulation, the largest first."""
    target = [Map("target", rotation, size.target // 2) for rotation in (0, 1)]
    train = [Map("train", pj, size.train // size.perijoves) for pj in PERIJOVES["train"][: size.perijoves]]
    return [*target, *train, Map("test", PERIJOVES["test"][0], size.test)]


def make(path: Path, seed: int, size: str, extra: bool = False) -> None:
    """Write a simulation to a file. Several maps are made at a time, each by one thread: what comes out does not
    depend on how many."""
    chosen = SIZES[size]
    todo = maps(chosen)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    writer = Writer(
        path, as_sensor("junocam2hst").bands, tuple(ZONES), SEGMENT_KM / chosen.pixels, SEGMENT_KM,
        about(seed, size, extra), extra_bands=EXTRA_FILTERS if extra else (),
    )  # fmt: skip
    shown = sys.stderr.isatty()
    if not shown:
        print(f"simulating {len(todo)} maps of {NAME} (once; kept in {cache_dir() / 'sim'})", file=sys.stderr)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with (
            ThreadPoolExecutor(min(cores, len(todo), 4), "map", torch.set_num_threads, (1,)) as pool,
            tqdm(
                total=len(todo), unit="map", desc=f"simulating {NAME} (once)", leave=False, disable=not shown
            ) as bar,
        ):
            jobs: list[Future[Segments]] = [pool.submit(segments, m, chosen, seed, extra) for m in todo]
            try:
                for m, job in zip(todo, jobs, strict=True):
                    got = job.result()
                    which: dict[str, Any] = (
                        {"cycle": CYCLES[0], "rotation": m.index}
                        if m.split == "target"
                        else {"perijove": m.index}
                    )
                    writer.append(
                        m.split, got.images, got.zone, got.latitude, got.longitude,
                        truth=got.truth, extra=got.extra, **which,
                    )  # fmt: skip
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(threads)
    writer.close()


@dataclass(frozen=True)
class Taken:
    """A map of some ``air`` as its camera took it: ``image`` (3, H, W), the places ``picked`` for segments, and
    JunoCam's ``swath``. What is drawn of ``rng`` from here on leaves all this as it is."""

    rng: np.random.Generator
    grid: MercatorGrid
    air: Tensor
    image: Tensor
    picked: Segments
    swath: Pass | None = None


def take(m: Map, size: Amount, seed: int) -> Taken:
    """One map's weather, seen by its camera."""
    rng = np.random.default_rng([seed, ("train", "target", "test").index(m.split), m.index])
    if m.split == "target":
        grid = MercatorGrid(west=rng.uniform(0, 360), width=360.0, step=size.step)
        air = weather(rng, grid, (grid.west - rng.uniform(0, 360)) % 360)
        picked = choose(rng, m, None, grid)
        truth = reflect(air, HUBBLE)
        noise = torch.from_numpy(rng.standard_normal(truth.shape))
        return Taken(rng, grid, air, truth + HUBBLE_NOISE * noise, picked)
    grid = MercatorGrid(west=rng.uniform(0, 360), width=120.0, step=size.step)
    swath = Pass.draw(rng, grid)
    air = weather(rng, grid, (grid.west - 60 + rng.uniform(-14, 14)) % 360)
    picked = choose(rng, m, swath, grid)
    return Taken(rng, grid, air, junocam(rng, air, grid, swath), picked, swath)


def segments(m: Map, size: Amount, seed: int, extra: bool = False) -> Segments:
    """One map's weather, seen by its camera and cut; with ``extra`` Hubble's further bands, or the true ones."""
    t = take(m, size, seed)

    def cut(image: Tensor, blur: float) -> Tensor:
        return _cut(image, t.grid, t.picked, size, blur)

    made = replace(t.picked, images=cut(t.image, COARSER * BLUR if m.split == "target" else BLUR))
    further = reflect(t.air, ULTRAVIOLET_METHANE) if extra else None
    if m.split == "target" and further is not None:  # drawn last, so that all else is the same without
        noise = torch.from_numpy(t.rng.standard_normal(further.shape))
        return replace(made, extra=cut(further * (1 + HUBBLE_NOISE * noise), COARSER * BLUR))
    if m.split == "test":
        made = replace(made, truth=cut(reflect(t.air, HUBBLE), BLUR))
        return made if further is None else replace(made, extra=cut(further, BLUR))
    return made


class SimulatedJunoCam2HST(JunoCam2HST):
    """``junocam2hst-sim``: ``size`` is ``default``, ``full`` (the real track's 256 pixels; long and large) or
    ``tiny``; equal seeds give equal files, byte for byte, on every processor. With ``extra``, Hubble's segments and
    the truth have F275W and FQ889N too.

    The file is made on first use (about a minute on one core) and kept; ``PANSHARP_CACHE`` says where. Raises
    BenchError for an unknown size, a negative seed, or a cache that cannot be written.
    """

    commands: ClassVar[dict[str, str]] = {}

    def __init__(self, seed: int = 0, size: str = "default", extra: bool = False) -> None:
        if size not in SIZES:
            raise BenchError(f"unknown size {size!r} of {NAME}; known are: {', '.join(SIZES)}")
        if seed < 0:
            raise BenchError(f"seed {seed} of {NAME} is negative")
        self.name, self.sensor = NAME, as_sensor("junocam2hst")
        self.seed, self.size, self.extra = int(seed), size, extra

    @cached_property
    def path(self) -> Path:  # type: ignore[override]
        return ready(self.seed, self.size, self.extra)

    @cached_property
    def store(self) -> Store:  # type: ignore[override]
        return Store(self.path)

    def available(self) -> tuple[SplitName, ...]:
        return CALIBRATION_SPLITS

    def files(self, *splits: SplitName) -> tuple[FileIdentity, ...]:
        name = SECOND_STAGE if self.extra else NAME
        return tuple(
            replace(f, verified=verified(name, self.size, self.seed, f.path.name, f.sha256))
            for f in super().files(*splits)
        )

    def folds(self) -> tuple[str, ...]:
        """None: a simulated perijove is known in truth where it is the test alone."""
        return ()

    def check(self) -> Iterator[tuple[str, str]]:
        yield finding(self.files("test")[0])
        yield from super().check()

    def provenance(self) -> dict:
        return about(self.seed, self.size, self.extra)

    def summary(self) -> dict:
        folder = place(self.seed, self.size, self.extra)
        where = str(folder) if folder.is_dir() else "made on first use"
        return {"where": where, "splits": SIZES[self.size].samples()}


# -- where ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pass:
    """A perijove pass over the middle of a grid: ``drift`` and ``bend`` place its ground track (degrees east of the
    grid's middle at ``latitude``), ``narrow`` is its half width at the equator, where Juno is nearest, ``wide``
    near the poles."""

    drift: float
    bend: float
    narrow: float
    wide: float

    @classmethod
    def draw(cls, rng: np.random.Generator, grid: MercatorGrid) -> Pass:
        return cls(rng.uniform(-6, 6), rng.uniform(-8, 8), rng.uniform(21, 26), rng.uniform(42, 48))

    def track(self, latitude):
        return self.drift + self.bend * np.sin(np.radians(2 * latitude))

    def half_width(self, latitude):
        return self.narrow + (self.wide - self.narrow) * np.sin(np.radians(np.abs(latitude) * 1.5)) ** 2


def choose(rng: np.random.Generator, m: Map, seen: Pass | None, grid: MercatorGrid) -> Segments:
    """Centres of segments that are wholly seen, in each zone by its share, and two at least."""
    at = centres(NSIDE[m.split])
    inside = [np.nonzero(at.zone == zone)[0] for zone in range(len(ZONES))]
    share = np.array([len(i) for i in inside])
    if seen:
        inside = [i[_covered(seen, grid, at.latitude[i], at.longitude[i])] for i in inside]
    room = np.array([len(i) for i in inside])
    taken = np.minimum(2, room)
    while taken.sum() < min(m.count, room.sum()):
        taken[np.argmin(np.where(taken < room, (taken + 0.5) / share, np.inf))] += 1
    index = [np.sort(rng.permutation(i)[:n]) for i, n in zip(inside, taken, strict=True)]
    chosen = np.concatenate(index)
    return Segments(torch.empty(0), at.zone[chosen], at.latitude[chosen], at.longitude[chosen])


def _covered(seen: Pass, grid: MercatorGrid, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Whether the whole edge of each segment lies within the swath."""
    t = torch.linspace(-1, 1, 9, dtype=torch.float64) * (SEGMENT_KM / 2)
    side = torch.full_like(t, SEGMENT_KM / 2)
    x, y = torch.cat([t, t, side, -side]), torch.cat([side, -side, t, t])
    lat, east = laea_inverse(x, y, torch.from_numpy(latitude)[:, None])
    offset = (grid.west - longitude) % 360 - 60  # degrees east of the grid's middle
    offset = (offset[:, None] + east.numpy() + 180) % 360 - 180
    return (np.abs(offset - seen.track(lat.numpy())) < seen.half_width(lat.numpy())).all(1)


def _cut(image: Tensor, grid: MercatorGrid, where: Segments, size: Amount, blur: float) -> Tensor:
    """(n, bands, P, P) segments of a map, blurred by a Gaussian of ``blur`` pixels."""
    wide = size.pixels + 2 * MARGIN
    x, y = pixel_grid(wide, wide * SEGMENT_KM / size.pixels)
    near = torch.arange(wide) - torch.arange(size.pixels)[:, None] - MARGIN
    low_pass = torch.exp(-0.5 * (near.double() / blur) ** 2) * (near.abs() <= MARGIN)
    low_pass /= low_pass.sum(1, keepdim=True)
    out = torch.empty(len(where.zone), image.shape[0], size.pixels, size.pixels, dtype=torch.float64)
    image = wrap(image)
    # segments of one latitude have the same shape on the map, moved in longitude
    for latitude in np.unique(where.latitude):
        index = torch.from_numpy(np.nonzero(where.latitude == latitude)[0])
        lat, east = laea_inverse(x, y, torch.tensor(latitude))
        row = torch.from_numpy(grid.pixel(lat.numpy(), 0.0)[0])
        start = torch.from_numpy((grid.west - where.longitude) % 360)[index, None, None]
        column = (start + east) / grid.step
        found = sample(image, row.expand_as(column), column, "bicubic")
        out[index] = (low_pass @ (found.double() @ low_pass.mT)).transpose(0, 1).to(found.dtype)
    return out


# -- JunoCam -------------------------------------------------------------------------------------------------


def junocam(rng: np.random.Generator, air: Tensor, grid: MercatorGrid, seen: Pass) -> Tensor:
    """(3, H, W) a perijove's mosaic, 0..1 in steps of 1/255, of air (3, H, W)."""
    w = grid.shape[1]
    leaks = torch.tensor(LEAKS, dtype=torch.float64)
    light = torch.einsum("ij,jhw->ihw", leaks, reflect(air, JUNOCAM))
    lat = torch.from_numpy(grid.latitude)[:, None]
    east = ((torch.arange(w, dtype=torch.float64) + 0.5) * grid.step - 60)[None]

    # raw: low sun towards the poles and one side of the swath; noise; companding
    noon = rng.uniform(-40, 40)
    cosine = (torch.cos(torch.deg2rad(lat)) * torch.cos(torch.deg2rad((east - noon) * 0.75))).clamp(0.12)
    codes = decompanding_table("SQROOT").astype(np.float64)
    exposure = codes[-1] * 0.62
    dn = exposure * light * cosine**0.95
    dn = dn + (0.03 * dn + 3.0).sqrt() * torch.from_numpy(rng.standard_normal(dn.shape))
    table = torch.from_numpy(codes)
    dn = table[torch.bucketize(dn, (table[1:] + table[:-1]) / 2)]

    # mosaic
    value = dn / exposure / cosine ** rng.uniform(0.88, 0.97)
    value = value * _exposures(rng, lat, east) * _framelets(rng, lat, east)
    grey = value.mean(0)
    wide, near = _low_pass(grey, 9.0 / grid.step), _low_pass(grey, 1.2 / grid.step)
    value = value * (grey.mean() / wide) ** 0.6 * (grey / near) ** 0.7
    value = value * _spread(rng, GAIN, 0.008) + _spread(rng, OFFSET, 0.008)
    grey = value.mean(0)
    value = (grey + SATURATION * (value - grey)).clamp(0, 1)
    value = value + TONE * value * (1 - value) * (2 * value - 1)
    return (value.clamp(0, 1) * 255).round() / 255


GAIN, OFFSET = (1.40, 1.50, 1.65), (-0.18, -0.05, 0.04)
SATURATION, TONE = 1.4, 0.3


def _spread(rng: np.random.Generator, values: tuple[float, ...], spread: float) -> Tensor:
    varied = np.array(values) * (1 + rng.normal(0, spread, len(values)))
    return torch.from_numpy(varied)[:, None, None]


def _exposures(rng: np.random.Generator, lat: Tensor, east: Tensor) -> Tensor:
    """The gain of the exposure each place was taken from: some twelve of them from north to south, colours and
    brightness a little apart, joined within half a degree."""
    edges = 80 - np.cumsum(rng.uniform(9, 18, 16))
    bend = torch.from_numpy(rng.uniform(-0.004, 0.004, 16))
    gain = torch.from_numpy(1 + rng.normal(0, 0.008, (16, 3)) + rng.normal(0, 0.02, (16, 1)))
    out = gain[0][:, None, None].expand(3, *torch.broadcast_shapes(lat.shape, east.shape)).clone()
    for i in range(15):
        beyond = torch.sigmoid((float(edges[i]) + bend[i] * east**2 - lat) / 0.25)
        out += beyond * (gain[i + 1] - gain[i])[:, None, None]
    return out


def _framelets(rng: np.random.Generator, lat: Tensor, east: Tensor) -> Tensor:
    """What is left of the framelets: strips across the swath whose gains differ, darker at their edges."""
    height, tilt = rng.uniform(2.2, 3.2), rng.uniform(-0.12, 0.12)
    across = (lat + tilt * east + 200) / height
    number = across.floor()
    gain = torch.from_numpy(rng.normal(0, 0.006, (3, 256)))
    edge = ((across - number - 0.5).abs() * 2) ** 8
    return 1 + gain[:, number.long()] - 0.02 * edge


def _low_pass(image: Tensor, sigma: float) -> Tensor:
    """(H, W) Gaussian low pass, by way of a coarser grid; longitudes wrap."""
    coarse = 16
    small = F.avg_pool2d(image[None, None], coarse)
    s = sigma / coarse
    reach = int(3 * s) + 1
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=image.dtype) / s) ** 2)
    kernel = (kernel / kernel.sum())[None, None, None]
    wraps = (small.shape[-1] + reach - 1) // small.shape[-1]
    small = F.pad(small.repeat(1, 1, 1, 2 * wraps + 1), (0, 0, reach, reach), mode="replicate")
    start = wraps * (image.shape[-1] // coarse) - reach
    small = small[..., start : start + image.shape[-1] // coarse + 2 * reach]
    small = F.conv2d(F.conv2d(small, kernel), kernel.transpose(2, 3))
    return F.interpolate(small, image.shape, mode="bilinear", align_corners=False)[0, 0]
