"""Scenes kept as pairs of PAN and MS, GeoTIFF or ``.mat``, a file or more an image; with the reference, where there
is one.

Files with a georeference tell where MS lies on PAN; those without are taken to lie as in the field's toolbox. The
images of a split are of one size: scenes that are not, or are large, or have pixels without a value, are cut into
such, what is over or has no value left out. Without a reference, what needs one is degraded by Wald's protocol,
by the sensor's MTF, so that MS is the reference.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.datasets._h5 import Array, first_line, rows_of
from pansharp_bench.datasets._layouts import SceneFiles, find_scenes, resolved, role_of
from pansharp_bench.datasets._real import RealFiles
from pansharp_bench.errors import DataError
from pansharp_bench.files import looks_like, sha256_of, stamp
from pansharp_bench.imaging import interp23, wald_degrade
from pansharp_bench.raster import Grid, Mend, Raster, in_unit_of, place, relate, relate_counts
from pansharp_bench.registry import DATASETS
from pansharp_bench.scene import FileIdentity, Scene, Sensor, Split, SplitName, as_sensor

_LARGEST = 2048  # PAN pixels a side of a scene that is taken whole
_SIDES = (512, 256, 128)  # of images that scenes are cut into: the first of which one has values throughout
_PATCH = 64  # of training samples, as PanCollection's
_SAME = 0.05  # PAN pixels: phases of scenes of one set
_COLOURS = ("red", "green", "blue", "nir")
_UNPLACED = (
    "take the georeference off both (gdal_edit.py -unsetgt -a_srs None): then MS pixel 0 is taken to be "
    "centred on PAN pixel ratio/2, as in the field's toolbox"
)
_MENDS: dict[Mend, str] = {
    "warp": "bring MS onto PAN's grid, e.g. by gdalwarp -t_srs … -r cubic",
    "resample": "resample MS by gdalwarp -tr … -r cubic; or, where the sizes are known to be wrong and the counts "
    f"of pixels right, {_UNPLACED}",
}
_SHOWN = 12  # scenes that are listed by name


class Pairs(RealFiles):
    """The scenes of one sensor under a folder, as :func:`~pansharp_bench.datasets._layouts.find_scenes` finds them.

    Without scenes of reduced resolution those of full resolution are degraded. ``sensor`` has the phase that the
    files tell, where those of all splits tell the same; what each tells is in the provenance.
    """

    def __init__(
        self, sensor: str, root: Path, scenes: dict[SplitName, list[SceneFiles]], label: str | None = None
    ) -> None:
        super().__init__(sensor, root, label)
        self.scenes = dict(scenes)
        if "full" in scenes:
            # the truth at full resolution, where there is one, is no reference of a lower one
            bare = [replace(s, files={k: s.files[k] for k in ("pan", "ms")}) for s in scenes["full"]]
            self.scenes.setdefault("reduced", bare)
        self._open: dict[SplitName, PairSplit] = {}

    @cached_property
    def sensor(self) -> Sensor:  # type: ignore[override]
        known = [self.opened(name).sensor for name in self.available()]
        return known[0] if all(s.phase == known[0].phase for s in known) else as_sensor(self._sensor)

    def available(self) -> tuple[SplitName, ...]:
        return tuple(name for name in ("train", "valid", "reduced", "full") if name in self.scenes)

    def opened(self, name: SplitName) -> PairSplit:
        if name not in self._open:
            self._open[name] = PairSplit(name, self.scenes[name], as_sensor(self._sensor))
        return self._open[name]

    def identity(self, name: SplitName) -> FileIdentity:
        split = self.opened(name)
        paths = [path for scene in split.scenes for path in scene.paths]
        made = [split.side, split.degraded, split.sensor.phase, [astuple(image) for image in split.images]]
        lines = [json.dumps(made), *(f"{path.name} {sha256_of(path)}" for path in paths)]
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        where = Path(os.path.commonpath(paths))
        return FileIdentity(name, where, sum(p.stat().st_size for p in paths), digest, None)

    def looked_for(self, name: SplitName) -> str:
        folder = {"reduced": "reduced/ or RR/", "full": "full/ or FR/"}.get(name, f"{name}/")
        return (
            f"pairs of PAN and MS in folders called {folder}; found only {', '.join(self.available())}. Where to "
            f"get more — {DATASETS.get(self._sensor).card.where}"
        )

    def provenance(self) -> dict:
        return {"pairs": {name: self.opened(name).recipe for name in self.available()}}

    def remarks(self, file: FileIdentity) -> Iterator[tuple[str, str]]:
        split = self.opened(file.split)
        yield (
            "note",
            f"{file.split}: {split.recipe}; no checksum of an original is known; sha256 {file.sha256}",
        )
        for scene in split.looks[:_SHOWN]:
            yield "note", f"{file.split}: {scene}"
        if (more := len(split.looks) - _SHOWN) > 0:
            yield "note", f"{file.split}: and {more} more scenes"
        if split.left_out:
            yield (
                "note",
                f"{file.split}: {_many(split.left_out, 'image')} with pixels without a value left out",
            )


@dataclass(frozen=True)
class _Look:
    """What is known of a scene before its pixels are read: ``pan`` and ``ms``, where on their grids the part begins
    that both cover, of ``size`` in PAN pixels; where MS lies on PAN, or None if the files do not tell."""

    files: SceneFiles
    size: tuple[int, int]
    pan: tuple[int, int]
    ms: tuple[int, int]
    phase: tuple[float, float] | None
    whole: dict[str, tuple[int, int]]
    dtypes: dict[str, str]
    nodata: float | None
    masked: bool

    def __str__(self) -> str:
        sizes = ", ".join(f"{k} {h} x {w} {self.dtypes[k]}" for k, (h, w) in self.whole.items())
        placed = "no georeference: the toolbox's place is assumed"
        if self.phase:
            placed = f"MS pixel 0 on PAN row {self.phase[0]:g}, column {self.phase[1]:g}"
        none = "" if self.nodata is None else f"; nodata {self.nodata:g}"
        return f"{self.files.name}: {sizes}; {placed}{none}"


@dataclass(frozen=True)
class _Image:
    """One image of a split: which scene, and its first row and column in PAN pixels of what both images cover."""

    scene: int
    row: int
    col: int


class PairSplit(Split):
    """Equally sized images of scenes in files, read when asked for; instances pickle and work in any worker.

    ``recipe`` tells how the images come of the files.

    Raises DataError, naming scene and file, for what does not belong together, or holds no image without gaps.
    """

    def __init__(self, name: SplitName, scenes: Sequence[SceneFiles], sensor: Sensor) -> None:
        self.name, self.scenes = name, list(scenes)
        self.looks = [_look(scene, sensor) for scene in scenes]
        self.sensor = replace(sensor, phase=_common_phase(self.looks, sensor))
        with_gt = {"gt" in scene.files for scene in scenes}
        if len(with_gt) > 1:
            lacking = next(s.name for s in scenes if "gt" not in s.files)
            raise DataError(
                f"split {name!r}: scene {lacking} has no reference (gt), and others have: give all or none"
            )
        self.degraded = name != "full" and with_gt == {False}
        self.keys = (
            ("pan", "ms", "lms") if name == "full" and with_gt == {False} else ("pan", "ms", "lms", "gt")
        )
        self.side, self.images, self.left_out = self._cut()
        height, width = (n // (sensor.ratio if self.degraded else 1) for n in self.side)
        small = (height // sensor.ratio, width // sensor.ratio)
        self.shapes = {"pan": (1, height, width), "ms": (sensor.channels, *small)}
        self.shapes |= dict.fromkeys(("lms", "gt"), (sensor.channels, height, width))
        first = self.looks[0].dtypes
        kept = {k: v for k, v in first.items() if not self.degraded} | (
            {"gt": first["ms"]} if self.degraded else {}
        )
        self.arrays = {k: Array((len(self), *self.shapes[k]), kept.get(k, "float32")) for k in self.keys}

    @property
    def recipe(self) -> str:
        """In words: how many images of which size, at which place of MS, and whether degraded."""
        h, w = self.shapes["pan"][1:]
        phase = self.sensor.phase
        placed = (
            f"at phase {phase[0]:g}, {phase[1]:g}" if isinstance(phase, tuple) else "at the toolbox's phase"
        )
        made = ", degraded from full resolution by Wald's protocol" if self.degraded else ""
        images, scenes = _many(len(self), "image"), _many(len(self.scenes), "scene")
        return f"{images} of {h} x {w} PAN pixels of {scenes} {placed}{made}"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice) -> Scene:
        found = [self._read(self.images[i]) for i in rows_of(index, len(self), self.name)]
        parts = {
            key: torch.cat([one[key] for one in found]) if found else torch.empty(0, *self.shapes[key])
            for key in self.keys
        }
        return Scene(self.sensor, **parts)

    def read(self, key: str, index: int | slice) -> Tensor:
        if not rows_of(index, len(self), self.name):
            return torch.empty(0, *self.shapes[key])
        return getattr(self[index], key)

    def _cut(self) -> tuple[tuple[int, int], list[_Image], int]:
        """Rows and columns of the images in PAN pixels of the files, the images, and how many were left out."""
        ratio = self.sensor.ratio
        unit = ratio**2 if self.degraded or self.name == "full" else ratio
        sizes = {look.size for look in self.looks}
        least = tuple(min(n) for n in zip(*sizes, strict=True))
        if min(least) < unit:
            small = next(look for look in self.looks if min(look.size) < unit)
            raise DataError(
                f"scene {small.files.name}: PAN and MS share {small.size} PAN pixels, too few for an image"
            )
        if self.name in ("train", "valid"):
            tries = [_PATCH * (ratio if self.degraded else 1)]
        else:
            tries = [*([_LARGEST] if len(sizes) == 1 and max(least) <= _LARGEST else []), *_SIDES]
        for side in tries:
            rows, cols = (min(side, n) // unit * unit for n in least)
            images = [
                _Image(i, row, col)
                for i, look in enumerate(self.looks)
                for row, col in product(
                    *(_starts(n, t, unit) for n, t in zip(look.size, (rows, cols), strict=True))
                )
            ]
            kept = [one for one in images if self._valued(one, (rows, cols))]
            if kept:
                return (rows, cols), kept, len(images) - len(kept)
        raise DataError(
            f"split {self.name!r}: no image of {rows} x {cols} PAN pixels of {self.looks[0].files.name} and others "
            "has a value in every pixel of PAN and MS (nodata, masks and NaN are out)"
        )

    def _valued(self, image: _Image, side: tuple[int, int]) -> bool:
        look = self.looks[image.scene]
        if not look.masked:
            return True
        with _images(look.files, self.sensor) as rasters:
            for role, raster in rasters.items():
                _, valid = raster.read(*self._window(image, role, side))
                if valid is not None and not valid.all():
                    return False
        return True

    def _window(self, image: _Image, role: str, side: tuple[int, int]) -> tuple[slice, slice]:
        look = self.looks[image.scene]
        at, size, start = (image.row, image.col), side, look.pan
        if role == "ms":
            ratio = self.sensor.ratio
            at, size, start = (at[0] // ratio, at[1] // ratio), (side[0] // ratio, side[1] // ratio), look.ms
        rows, cols = (slice(s + a, s + a + n) for s, a, n in zip(start, at, size, strict=True))
        return rows, cols

    def _read(self, image: _Image) -> dict[str, Tensor]:
        look = self.looks[image.scene]
        got: dict[str, Tensor] = {}
        with _images(look.files, self.sensor) as rasters:
            for role, raster in rasters.items():
                values, _ = raster.read(*self._window(image, role, self.side))
                if not values.isfinite().all():
                    raise DataError(
                        f"scene {look.files.name}: {role} has NaN or infinite values; cut them off, or give "
                        "GeoTIFFs, of which images without a value are left out"
                    )
                got[role] = in_unit_of(rasters["pan"], raster, values)[None].float()
        if self.degraded:
            low = wald_degrade(got["ms"], got["pan"], self.sensor)
            got = {"pan": low.pan, "ms": low.ms, "gt": got["ms"]}
        got.setdefault("lms", interp23(got["ms"], self.sensor))
        return got


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _starts(size: int, side: int, unit: int) -> range:
    """First pixels of the images along an axis, in the middle of what there is."""
    number = size // side
    first = (size - number * side) // 2 // unit * unit
    return range(first, first + number * side, side)


def _common_phase(looks: Sequence[_Look], sensor: Sensor) -> tuple[float, float] | float | None:
    first = looks[0]
    for look in looks[1:]:
        a, b = first.phase, look.phase
        if (a is None) != (b is None) or (
            a and b and max(abs(x - y) for x, y in zip(a, b, strict=True)) > _SAME
        ):
            told = ["no georeference" if p is None else f"{p[0]:g}, {p[1]:g}" for p in (a, b)]
            raise DataError(
                f"MS does not lie alike on PAN in the scenes {first.files.name} ({told[0]}) and {look.files.name} "
                f"({told[1]}): one dataset has one phase. Give them folders and --label of their own; or, where "
                f"the georeference is not to be trusted, {_UNPLACED}"
            )
    return first.phase or sensor.phase


def _look(files: SceneFiles, sensor: Sensor) -> _Look:
    """Open a scene and hold it against its sensor. Raises DataError for what does not fit."""
    with _images(files, sensor) as images:
        pan, ms = images["pan"].grid, images["ms"].grid
        placed = [any((grid.transform, grid.rpc)) for grid in (pan, ms)]
        if placed[0] != placed[1]:
            bare, other = (ms, pan) if placed[0] else (pan, ms)
            raise DataError(
                f"{bare.name} has no georeference and {other.name} has one: give both one, or {_UNPLACED}"
            )
        centre = None
        if all(placed):
            ratio, centre = relate(pan, ms, _MENDS)
        else:
            ratio = relate_counts(pan, ms)
        if ratio != sensor.ratio:
            raise DataError(
                f"scene {files.name}: an MS pixel is {ratio} PAN pixels wide, and {sensor.title} has ratio "
                f"{sensor.ratio}: is it another sensor, or are these PAN and its own reduction?"
            )
        at = place(centre or ((ratio - 1) / 2,) * 2, ratio, pan.size, ms.size)
        for role in images.keys() & {"lms", "gt"}:
            if images[role].grid.size != pan.size:
                raise DataError(
                    f"scene {files.name}: {role} {images[role].path} has {_sized(images[role].grid)} pixels, and "
                    f"PAN {_sized(pan)}: it must lie on PAN's grid"
                )
        return _Look(
            files,
            at.pan_size,
            at.pan,
            at.ms,
            at.phase if centre else None,
            {role: image.grid.size for role, image in images.items()},
            {role: image.dtype for role, image in images.items()},
            images["pan"].nodata if images["pan"].nodata is not None else images["ms"].nodata,
            any(image.masked for image in images.values()),
        )


def _sized(grid: Grid) -> str:
    return f"{grid.size[0]} x {grid.size[1]}"


@contextmanager
def _images(files: SceneFiles, sensor: Sensor) -> Iterator[dict[str, Any]]:
    """The images of a scene by role, open for reading, their bands the sensor's. Raises DataError."""
    with ExitStack() as stack:
        found: dict[str, Any] = {}
        for role, paths in files.files.items():
            what = f"scene {files.name}: {role.upper()}"
            if any(p.suffix.lower() == ".mat" for p in paths):
                image: Any = MatRaster(paths, role, what, files.coloured and role == "ms")
            else:
                image = stack.enter_context(Raster(paths, what))
            _choose_bands(image, role, sensor, files)
            found[role] = image
        yield found


def _choose_bands(image: Any, role: str, sensor: Sensor, files: SceneFiles) -> None:
    if role == "pan":
        if len(image) != 1:
            raise DataError(
                f"scene {files.name}: PAN {image.path} has {len(image)} bands: are PAN and MS swapped?"
            )
        return
    if role == "ms" and files.coloured:
        if set(sensor.bands) != set(_COLOURS):
            raise DataError(
                f"scene {files.name}: files of RGB and NIR are four bands, and {sensor.title} has "
                f"{sensor.channels} ({', '.join(sensor.bands)}); give all of them in one MS file"
            )
        if len(image) != len(_COLOURS):
            raise DataError(
                f"scene {files.name}: RGB and NIR have {len(image)} bands where three and one are expected"
            )
        image.choose([_COLOURS.index(band) + 1 for band in sensor.bands])
        return
    if len(image) < sensor.channels:
        raise DataError(
            f"scene {files.name}: {role.upper()} {image.path} has {len(image)} bands{image.left_out}, and "
            f"{sensor.title} {sensor.channels} ({', '.join(sensor.bands)}): is it another sensor?"
        )
    image.choose_named(sensor.bands)


class MatRaster:
    """The array of one role in a ``.mat`` file (or in several, band after band), read as a Raster is.

    Of several arrays in a file that whose name says the role; else there must be one alone. Version 7.3, which is
    HDF5, is read too.
    """

    nodata, masked, left_out = None, False, ""

    def __init__(self, paths: Sequence[Path], role: str, what: str, parts: bool = False) -> None:
        if wrong := [p for p in paths if p.suffix.lower() != ".mat"]:
            raise DataError(f"{what} {wrong[0]}: .mat and .tif are not mixed within one image")
        self.path, self.what = paths[0], what
        arrays = [_array(p, role, what) for p in paths]
        if len({a.shape[:2] for a in arrays}) > 1:
            raise DataError(
                f"{what} {paths[0]} and {paths[1]} are to be bands of one image, but differ in size"
            )
        self._values = np.concatenate(arrays, 2)
        self.grid = Grid(str(self.path), (self._values.shape[0], self._values.shape[1]))
        self.names = ("",) * len(self)
        self.dtype = str(self._values.dtype)

    def __len__(self) -> int:
        return self._values.shape[2]

    @property
    def scaling(self) -> tuple[tuple[float, float], ...]:
        """None is told by such a file."""
        return ((1.0, 0.0),) * len(self)

    def choose(self, bands: Sequence[int]) -> None:
        """Keep these bands, numbered from 1, in this order."""
        self._values = self._values[..., [b - 1 for b in bands]]

    def choose_named(self, wanted: Sequence[str]) -> bool:
        """Nothing is named here: all must be wanted."""
        if len(self) != len(wanted):
            raise DataError(
                f"{self.what} {self.path} has {len(self)} bands where the sensor has {len(wanted)} "
                f"({', '.join(wanted)}): write a file that holds these alone, with axes rows, columns, bands"
            )
        return False

    def read(self, rows: slice, columns: slice) -> tuple[Tensor, None]:
        """(C, h, w) float64 of a window."""
        window = self._values[rows, columns].astype(np.float64).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(window)), None


def _array(path: Path, role: str, what: str) -> np.ndarray:
    """(H, W, C) of a role."""
    arrays = _read_mat(path, stamp(path))
    named = resolved({own: name for name in arrays if (own := role_of(name))})
    chosen = named.get(role)
    if chosen is None and len(arrays) == 1:
        (only,) = arrays
        told = role_of(only)
        chosen = only if told is None or (told == "pan") == (role == "pan") else None
    if not chosen:
        listed = ", ".join(f"{k} {v.shape}" for k, v in arrays.items()) or "none"
        raise DataError(
            f"{what} {path}: which of its arrays is {role.upper()} is not told by their names ({listed})"
        )
    array = arrays[chosen]
    return array[..., None] if array.ndim == 2 else array


def array_names(path: Path) -> tuple[str, ...]:
    """The names of the images in a ``.mat`` file. Raises DataError for what is none."""
    import h5py
    from scipy.io import whosmat

    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:  # a link could lead out of the file
                return tuple(k for k in file if isinstance(file.get(k, getlink=True), h5py.HardLink))
        return tuple(name for name, shape, _ in whosmat(path) if len(shape) in (2, 3) and min(shape) > 0)
    except Exception as error:  # scipy raises many kinds on damaged files
        raise DataError(_unreadable(path, error)) from error


@lru_cache(maxsize=4)
def _read_mat(path: Path, stamped: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Every array of numbers of two or three axes that is an image, as MATLAB orders axes."""
    import h5py
    from scipy.io import loadmat

    names = array_names(path)
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                found = {
                    k: np.asarray(file[k]).transpose() for k in names if isinstance(file[k], h5py.Dataset)
                }
        else:
            found = {
                k: np.asarray(v) for k, v in loadmat(path, variable_names=list(names)).items() if k in names
            }
    except Exception as error:
        raise DataError(_unreadable(path, error)) from error
    return {
        k: v for k, v in found.items() if v.dtype.kind in "uif" and v.ndim in (2, 3) and min(v.shape[:2]) > 1
    }


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path} is no readable .mat file: found {looks_like(path)} ({first_line(error)})"


def scenes_under(root: Path, sensor: str) -> dict[SplitName, list[SceneFiles]]:
    """The sensor's scenes below a folder, by split; empty where there are none."""
    return find_scenes(root, sensor, array_names)
