"""What flows between the rooms: a Sensor, a Scene (always a batch), a Split of scenes and a Dataset of splits.

One unit everywhere: digital numbers (DN), float32, axes N,C,H,W. With ratio r, PAN size (H, W) and
MS size (h, w) = (H/r, W/r):

=========  ==============  =====================================================================
``pan``    (N, 1, H, W)    panchromatic image
``ms``     (N, C, h, w)    multispectral image on its own grid
``lms``    (N, C, H, W)    ``ms`` expanded to the PAN grid by the 23-tap polynomial kernel
``gt``     (N, C, H, W)    reference, where one exists (reduced resolution, or simulated truth)
=========  ==============  =====================================================================

On a calibration track a scene is an image of the source camera and nothing else: ``pan`` holds it, in all its
bands (the sensor's ``source``), (N, S, H, W) in the target camera's unit; ``gt`` is the calibrated truth, where a
simulation knows it; ``latitude`` (N,), in degrees, that of each image's centre, where they are cut from a map.
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pansharp_bench.errors import BenchError, ImageError, blaming
from pansharp_bench.registry import DATASETS, SENSORS, DatasetCard, Entry, MethodCard

if TYPE_CHECKING:  # a table of records needs sensors and no tensor
    import torch
    from torch import Tensor

DATA_VARIABLE = "PANSHARP_DATA"
SplitName = Literal["train", "valid", "reduced", "full", "target", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "valid", "reduced", "full")  # pansharpening
CALIBRATION_SPLITS: tuple[SplitName, ...] = ("train", "target", "test")
"""``train`` and ``test`` hold images of the source camera, ``target`` those of the camera to be matched."""


@dataclass(frozen=True)
class Sensor:
    """A PAN + MS camera: everything a metric or method may need to know about where DN come from.

    ``peak`` is the largest DN (2047 for 11 bits, 1023 for 10); ``mtf`` the gain of each band's modulation
    transfer function at the Nyquist frequency of the MS grid, in band order; ``mtf_pan`` that of PAN;
    ``rgb`` the 0-based bands of a true-colour picture. ``source`` names the bands of what a scene starts
    from: PAN, or those of another camera's image (a calibration).

    ``phase`` is where the centre of MS pixel 0 lies on the PAN grid, in PAN pixels, (rows, columns) or one
    number for both: ``(ratio - 1) / 2`` where the images have a common corner (1.5 at ratio 4), 0 where their
    first pixels are concentric (Landsat), or anything between. Without it everything is as in the field's
    toolbox, which expands and decimates at ``ratio // 2`` and reduces by bicubic at ``(ratio - 1) / 2``, half a
    pixel apart. Where it is given, all that relates the grids keeps to it.
    """

    name: str
    title: str
    bands: tuple[str, ...]
    peak: float
    mtf: tuple[float, ...]
    mtf_pan: float
    rgb: tuple[int, int, int]
    ratio: int = 4
    source: tuple[str, ...] = ("pan",)
    phase: tuple[float, float] | float | None = None

    def __post_init__(self) -> None:
        for name in ("bands", "mtf", "rgb", "source", "phase"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        for name, values, kind, what in (
            ("bands", self.bands, str, "names"),
            ("mtf", self.mtf, Real, "numbers"),
            ("mtf_pan", (self.mtf_pan,), Real, "a number"),
            ("peak", (self.peak,), Real, "a number"),
            ("rgb", self.rgb, Integral, "whole numbers"),
            ("ratio", (self.ratio,), Integral, "a whole number"),
            ("source", self.source, str, "names"),
        ):
            known = isinstance(values, tuple) and all(
                isinstance(v, kind) and not isinstance(v, bool) for v in values
            )
            if not known:
                raise TypeError(f"sensor {self.name}: {name} {getattr(self, name)!r} is not {what}")
        if len(self.rgb) != 3:
            raise ValueError(f"sensor {self.name}: rgb names {len(self.rgb)} bands, not three")
        if len(self.mtf) != len(self.bands):
            raise ValueError(f"sensor {self.name}: {len(self.bands)} bands but {len(self.mtf)} MTF gains")
        if self.ratio < 1 or self.ratio & (self.ratio - 1):
            raise ValueError(
                f"sensor {self.name}: ratio {self.ratio} is no power of two, which images expand by"
            )
        if wrong := [g for g in (*self.mtf, self.mtf_pan) if not 0 < g <= 1]:
            raise ValueError(f"sensor {self.name}: MTF gain {wrong[0]} does not lie between 0 and 1")
        if not 0 < self.peak < math.inf:
            raise ValueError(f"sensor {self.name}: peak {self.peak} is no positive number")
        if wrong := [b for b in self.rgb if not 0 <= b < len(self.bands)]:
            raise ValueError(
                f"sensor {self.name}: rgb names band {wrong[0]} of {len(self.bands)} (from 0 on)"
            )
        if self.phase is not None:
            phase = self.phase if isinstance(self.phase, tuple) else (self.phase,) * 2
            if len(phase) != 2 or not all(-1 < p < self.ratio for p in phase):
                raise ValueError(
                    f"sensor {self.name}: phase {self.phase} is no number above -1 and below the ratio "
                    f"{self.ratio}, nor two of them (cut PAN or MS, so that their first pixels overlap)"
                )
            object.__setattr__(self, "phase", (float(phase[0]), float(phase[1])))

    def facts(self) -> dict[str, Any]:
        """What of it can influence a score, for the record: all but title, rgb and a phase not given."""
        unsaid = ("title", "rgb", *(("phase",) if self.phase is None else ()))
        return {k: v for k, v in asdict(self).items() if k not in unsaid}

    def placed(self, usual: float) -> tuple[float, float]:
        """``phase``, or the toolbox's usual one where none is given."""
        return self.phase if isinstance(self.phase, tuple) else (usual, usual)

    def looks_normalised(self, low: float, high: float) -> bool:
        """Whether values of this range are hardly this sensor's DN: all in [0, 1], where its peak is far beyond."""
        return low >= 0 and 0 < high <= 1 < self.peak

    @property
    def channels(self) -> int:
        """Number of MS bands."""
        return len(self.bands)

    @property
    def source_bands(self) -> int:
        """Number of bands a scene starts from: 1 for PAN."""
        return len(self.source)


def as_sensor(sensor: str | Sensor) -> Sensor:
    """A Sensor from its registered name, or the Sensor itself."""
    return sensor if isinstance(sensor, Sensor) else SENSORS.get(sensor).obj


def as_float(x: Tensor, name: str = "image") -> Tensor:
    """Numbers to compute with: floats of any width as they are, integers as float32 (of 32 bits and more float64).

    Raises ImageError for anything but a tensor of real numbers.
    """
    import torch

    if not isinstance(x, torch.Tensor):
        what = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
        raise ImageError(
            f"{name} must be a torch.Tensor, found {what} (of an array: torch.from_numpy(array))"
        )
    if x.is_complex() or x.dtype == torch.bool:
        raise ImageError(f"{name} must hold real numbers, found {x.dtype}")
    return x if x.is_floating_point() else x.to(torch.float32 if x.element_size() < 4 else torch.float64)


def as_images(x: Tensor, name: str = "images") -> Tensor:
    """A batch of images, (N, C, H, W) in float32 or float64; what is narrower or integer becomes one of these.

    Raises ImageError where ``x`` is no tensor of real numbers with these axes, or has no bands or pixels.
    """
    x = as_float(x, name)
    if x.ndim != 4 or 0 in x.shape[1:]:
        raise ImageError(f"{name} must be (N, C, H, W), found {tuple(x.shape)}")
    return x if x.element_size() >= 4 else x.float()


@dataclass(frozen=True)
class Scene:
    """A batch of co-located images of one sensor (see the module's table). Slicing gives a smaller batch, iterating
    batches of one. ``origin``: row and column of the first PAN pixel in the image that they were cut from.

    Raises ImageError where the images cannot be the sensor's, or do not belong together; integers and half
    precision become float32.
    """

    sensor: Sensor
    pan: Tensor
    ms: Tensor | None = None
    lms: Tensor | None = None
    gt: Tensor | None = None
    latitude: Tensor | None = None
    origin: Any = (0, 0)  # two int; Any, as scenes are also made of **dict[str, Tensor]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sensor", as_sensor(self.sensor))  # by its name too
        for name in ("pan", "ms", "lms", "gt"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_images(getattr(self, name), name))
        (n, _, h, w), r, c = self.pan.shape, self.sensor.ratio, self.sensor.channels
        if self.latitude is not None and self.latitude.shape != (n,):
            raise ImageError(f"expected {n} latitudes, one an image; found {tuple(self.latitude.shape)}")
        expected = {"pan": (n, self.sensor.source_bands, h, w), "ms": (n, c, h // r, w // r)}
        expected |= dict.fromkeys(("lms", "gt"), (n, c, h, w))
        found = {name: tuple(x.shape) for name in expected if (x := getattr(self, name)) is not None}
        if (self.ms is not None and (h % r or w % r)) or any(
            shape != expected[name] for name, shape in found.items()
        ):
            raise ImageError(
                f"sensor {self.sensor.name!r} has {c} bands and ratio {r}: expected pan "
                f"(N, {self.sensor.source_bands}, {r}h, {r}w), ms (N, {c}, h, w), lms and gt (N, {c}, {r}h, {r}w); "
                "found " + ", ".join(f"{name} {shape}" for name, shape in found.items())
            )

    def __len__(self) -> int:
        return self.pan.shape[0]

    def __getitem__(self, index: int | slice) -> Scene:
        if not isinstance(index, slice):
            at, n = operator.index(index), len(self)
            if not -n <= at < n:
                raise IndexError(f"scene {at} of a batch of {n}")
            index = slice(at % n, at % n + 1)
        return self._map(lambda x: x[index])

    def __iter__(self) -> Iterator[Scene]:
        return (self[i] for i in range(len(self)))

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Scene:
        """The same scenes on a device, or as another type of numbers."""
        return self._map(lambda x: x.to(device=device, dtype=dtype))

    def clone(self) -> Scene:
        """Scenes of their own memory."""
        return self._map(lambda x: x.clone())

    def _map(self, fn: Callable[[Tensor], Tensor]) -> Scene:
        images = (self.ms, self.lms, self.gt, self.latitude)
        ms, lms, gt, latitude = (None if x is None else fn(x) for x in images)
        return Scene(self.sensor, fn(self.pan), ms, lms, gt, latitude, self.origin)

    def seen_by(self, card: MethodCard, seed: int = 0) -> Scene:
        """The scene as a method of this card may see it at inference; honesty is enforced here, not promised.

        A PAN-only method gets no MS at all, nor where an image is, unless it declares the latitude; one that
        declares unregistered MS gets the MS pixels of each image in a random order; the reference is given only to
        the oracle rows that declare it.
        """
        if card.sees in ("pan", "pan+latitude"):
            latitude = self.latitude if card.sees == "pan+latitude" else None
            return replace(self, ms=None, lms=None, gt=None, latitude=latitude)
        if card.sees == "pan+bag":
            import torch

            if self.ms is None:
                raise ValueError("this scene has no ms to shuffle")
            generator = torch.Generator().manual_seed(seed)
            n, c, h, w = self.ms.shape
            order = torch.stack([torch.randperm(h * w, generator=generator) for _ in range(n)])
            bag = self.ms.flatten(2).gather(2, order.to(self.ms.device)[:, None].expand(n, c, h * w))
            return replace(self, ms=bag.view(n, c, h, w), lms=None, gt=None)
        if card.sees == "pan+ms":
            return replace(self, gt=None)
        if card.sees == "reference":
            return self
        raise ValueError(f"method {card.name!r} sees {card.sees!r}, which is unknown")


@dataclass(frozen=True)
class FileIdentity:
    """What a data file is: its content's SHA-256, and whether that is a known original's.

    ``verified``: True (a known original), False (a checksum is known and this is another file), None (no
    checksum of the original is known).
    """

    split: SplitName
    path: Path
    size: int
    sha256: str
    verified: bool | None


class Split(ABC):
    """An ordered set of equally sized scenes, opened lazily and safe to use from worker processes."""

    name: str
    sensor: Sensor
    keys: tuple[str, ...]  # which of pan, ms, lms, gt are stored
    # (N,) int64: kinds of samples (latitude zones), which unpaired training and metrics of sets match
    groups: Tensor | None = None
    latitude: Tensor | None = None  # (N,) float32 degrees, of each sample's centre

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int | slice) -> Scene:
        """Scenes as float32 DN on the CPU; an int gives a batch of one."""

    def read(self, key: str, index: int | slice) -> Tensor:
        """One array of these scenes, (n, C, H, W) float32 DN; a split may read less of the disk for it."""
        return getattr(self[index], key)

    def origins(self) -> dict[str, Tensor]:
        """Name -> (N,) int64, what samples have in common: ``block``, the unit to resample where an uncertainty is
        asked for, as samples of one block are not independent, and units that hold several. Empty where samples are
        independent."""
        return {}

    def __iter__(self) -> Iterator[Scene]:
        return (self[i] for i in range(len(self)))


class Dataset(ABC):
    """Named splits of one sensor. ``name`` is what tables show: ``qb``, ``qb-mini``, ``qb-sim``.

    ``commands`` adds commands to ``bench data``: by name, where the click command is, as ``"module:attribute"``.
    """

    name: str
    sensor: Sensor
    commands: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def available(self) -> tuple[SplitName, ...]:
        """The splits that can be opened."""

    @abstractmethod
    def split(self, name: SplitName) -> Split:
        """Raises DataError, naming file, key, what was found and what was expected."""

    @abstractmethod
    def files(self, *splits: SplitName) -> tuple[FileIdentity, ...]:
        """Identity of the files behind these splits (all available ones by default)."""

    def mosaic(
        self, split: Split, images: Iterable[Tensor], path: Path, bands: tuple[str, ...]
    ) -> list[Path]:
        """Lay images (batches (n, len(bands), H, W), in the order of the split's scenes) out on the map the scenes
        were cut from; ``path`` has no suffix. Gives the files written. Raises BenchError where there is no such
        map."""
        raise BenchError(f"the images of dataset {self.name!r} do not come from one map")

    def folds(self) -> tuple[str, ...]:
        """Labels under which the same files are opened with another part held out as the test; empty where no part
        can be."""
        return ()

    def provenance(self) -> dict:
        """JSON-able extra identity, e.g. a simulator's seed and version."""
        return {}

    def summary(self) -> dict:
        """One line of a listing, cheap (hashes, reads and generates nothing): ``where`` the files lie, and
        ``splits`` with the number of samples of each (None where that is not known yet)."""
        return {"where": "", "splits": dict.fromkeys(self.available())}

    def info(self) -> Iterator[dict]:
        """A JSON-able description of each file: split, path, size, sha256, verified, samples, arrays."""
        return iter(())

    def check(self) -> Iterator[tuple[str, str]]:
        """Findings of a closer look at the files, as (level, text) with level ok, note, warning or error. Where a
        dataset has no look of its own: whether the first scene of each split is numbers, and in DN."""
        for name in self.available():
            scene = self.split(name)[0]
            for key in ("pan", "ms", "lms", "gt"):
                x = getattr(scene, key)
                if x is None:
                    continue
                if not x.isfinite().all():
                    yield "error", f"{name}: {key} has values that are NaN or infinite"
                elif self.sensor.looks_normalised(x.min().item(), x.max().item()):
                    yield "error", f"{name}: {key} looks normalised to [0, 1]; digital numbers are expected"

    def glance(self, *splits: SplitName) -> Iterator[tuple[str, str]]:
        """What :meth:`check` finds about these splits in a fraction of a second. A run asks before it trains,
        refuses errors and passes warnings on. To be overridden where check takes longer."""
        return self.check()


def data_root(root: str | Path | None) -> Path | None:
    """The folder of data files: the one that is given, or that of ``PANSHARP_DATA``."""
    chosen = root or os.environ.get(DATA_VARIABLE)
    return Path(chosen) if chosen else None


def served_by(name: str, root: Path | None) -> Entry[DatasetCard]:
    """The dataset that answers for a name: without a root its simulated stand-in, where it has one."""
    entry = DATASETS.get(name)
    return DATASETS.get(entry.card.stand_in) if root is None and entry.card.stand_in else entry


def load_dataset(
    name: str, root: str | Path | None = None, label: str | None = None, seed: int | None = None
) -> Dataset:
    """A dataset by registered name.

    Args:
        name: e.g. ``"qb"`` or ``"qb-sim"``.
        root: folder with the data files; default the variable ``PANSHARP_DATA``.
        label: names a set of files that are not the known originals: ``label="mini"`` shows as ``qb-mini``.
        seed: of a simulated dataset.

    Where no root is given or configured and the dataset has a simulated stand-in, that is returned with a
    warning; its ``name`` says so (``qb-sim``).

    Returns:
        A :class:`Dataset`: ``dataset.split("reduced")[3]`` is a :class:`Scene` of float32 DN on the CPU.

    Raises:
        UnknownName: no such dataset.
        DataError: a root is given and the files are not there, or not usable.
    """
    root = data_root(root)
    entry = served_by(name, root)
    if entry.name != name:
        if label:
            raise BenchError(f"--label {label} names real files: give their folder with --data DIR")
        warnings.warn(
            f"no data root is configured, so the SIMULATED sensor {entry.name!r} stands in for {name!r}; "
            f"everything written says {entry.name}. For real imagery give --data DIR or set {DATA_VARIABLE} "
            f"(where to get it: `bench data info {name}`)",
            stacklevel=2,
        )
    if label and entry.card.simulated:
        raise BenchError(f"--label {label} names real files; {entry.name} is simulated and keeps its name")
    return opened(entry, root, label, **({} if seed is None else {"seed": seed}))


def opened(entry: Entry[DatasetCard], root: Path | None, label: str | None = None, **extra: Any) -> Dataset:
    """The dataset of an entry, over a folder of files. Raises BenchError where its class fails, or has another name
    than its card."""
    with blaming(f"dataset {entry.name!r} cannot be opened"):
        dataset = entry.obj(root=root, label=label, **extra)
    if dataset.name != entry.name and not dataset.name.startswith(f"{entry.name}-"):
        raise BenchError(
            f"dataset {entry.name!r} calls itself {dataset.name!r}; it must be {entry.name}[-LABEL]"
        )
    return dataset
