"""The segments as the authors released them: one ``.npy`` file a segment, everything else in its name.

``trainA`` (and ``testA``) hold JunoCam, ``{ZONE}_PJ_{nn}_jc_{index}.npy``, H,W,3 in the order blue, green, red;
``trainB`` (``testB``) hold Hubble, ``{ZONE}_cycle_{nn}_rot_{A|B}_hst_{index}.npy``, 5,H,W: F275W, F395N, F502N,
F631N, FQ889N. Both 0..1; here they become red, green, blue, with F275W and FQ889N of Hubble's as ``extra``. Folders
by zone below these are looked into.

The files of ``trainA`` and ``testA`` are taken together and divided by perijove, as in the paper: a random part
of overlapping segments is no test set. ``A_metadata.csv`` and ``B_metadata.csv``, where they are there, give the
centres: longitudes are east of the middle of the mosaic (JunoCam) or of the left edge plus 180 (Hubble), JunoCam's
latitudes planetocentric.
"""

from __future__ import annotations

import csv
import hashlib
import operator
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.datasets.junocam2hst._paper import CYCLES, PERIJOVES
from pansharp_bench.datasets.jupiter.ellipsoid import to_planetographic
from pansharp_bench.datasets.jupiter.maps import EXTRA_FILTERS
from pansharp_bench.datasets.jupiter.segments import SegmentSplit
from pansharp_bench.datasets.jupiter.zones import ZONES
from pansharp_bench.errors import DataError
from pansharp_bench.files import sha256_of
from pansharp_bench.scene import Scene, Sensor, SplitName

_NAME = re.compile(
    r"(?P<zone>[A-Za-z]+)_(?:PJ_(?P<perijove>\d+)_jc|cycle_(?P<cycle>\d+)_rot_(?P<rotation>[AB])_hst)_\d+\.npy"
)
_BANDS = {"A": [2, 1, 0], "B": [3, 2, 1]}  # where red, green and blue are
_EXTRA = [0, 4]  # F275W and FQ889N


class ReleasedSplit(SegmentSplit):
    """Segments of one split, read file by file: ``pan`` (n, 3, H, W), red, green, blue; ``groups`` the zone;
    ``extra_bands`` names what :meth:`extra` gives of Hubble's.

    Raises DataError naming the folder or file, what was found and what was expected.
    """

    keys = ("pan",)
    stored_as = "float32"

    def __init__(self, root: Path, name: SplitName, sensor: Sensor) -> None:
        self.root, self.name, self.sensor, self.zones = Path(root), name, sensor, tuple(ZONES)
        self.domain = "B" if name == "target" else "A"
        self.extra_bands = EXTRA_FILTERS if self.domain == "B" else ()
        wanted = CYCLES if name == "target" else PERIJOVES[name]
        number = "cycle" if name == "target" else "perijove"
        found = _files(self.root, self.domain)
        chosen = [(p, m) for p, m in found if m[number] is not None and int(m[number]) in wanted]
        if not chosen:
            there = ", ".join(sorted({m[number] for _, m in found if m[number]})) or "none"
            raise DataError(
                f"{self.root}: split {name!r} needs segments of {number} {', '.join(map(str, wanted))} in "
                f"train{self.domain} or test{self.domain}; found {number}s: {there}"
            )
        if strange := sorted({m["zone"] for _, m in chosen} - set(ZONES)):
            raise DataError(f"{self.root}: found segments of zone {', '.join(strange)}, which is unknown")
        self.paths = [p for p, _ in chosen]
        self._columns: dict[str, np.ndarray] = {
            "zone": np.array([self.zones.index(m["zone"]) for _, m in chosen], np.uint8),
            number: np.array([int(m[number]) for _, m in chosen], np.int16),
        }
        if name == "target":
            self._columns["rotation"] = np.array(["AB".index(m["rotation"]) for _, m in chosen], np.uint8)
        self._columns |= _centres(self.root, self.domain, self.paths)
        self.groups = torch.from_numpy(self._columns["zone"].astype(np.int64))
        if "latitude" in self._columns and np.isfinite(self._columns["latitude"]).all():
            self.latitude = torch.from_numpy(self._columns["latitude"].astype(np.float32))
        self._size = _load(self.paths[0], self.domain, _BANDS[self.domain]).shape[1:]

    def __len__(self) -> int:
        return len(self.paths)

    def column(self, name: str) -> np.ndarray | None:
        """(N,) ``zone``, ``perijove`` or ``cycle`` and ``rotation``, ``latitude`` and ``longitude`` (west) where
        the metadata tell them."""
        return self._columns.get(name)

    def __getitem__(self, index: int | slice) -> Scene:
        return Scene(self.sensor, pan=self.read("pan", index), latitude=self.latitude_of(index))

    def read(self, key: str, index: int | slice) -> Tensor:
        if key != "pan":
            raise DataError(f"{self.root}: split {self.name!r} has no {key!r}")
        return self._read(index, _BANDS[self.domain])

    def extra(self, index: int | slice) -> Tensor:
        """(n, 2, H, W) I/F of F275W and FQ889N; raises DataError for JunoCam's segments, which have no such."""
        if not self.extra_bands:
            raise DataError(f"{self.root}: split {self.name!r} has no further bands")
        return self._read(index, _EXTRA)

    def _read(self, index: int | slice, bands: list[int]) -> Tensor:
        if isinstance(index, slice):
            paths = self.paths[index]
        else:
            i = operator.index(index)
            if not -len(self) <= i < len(self):
                raise IndexError(f"sample {i} of {len(self)} in {self.root}")
            paths = [self.paths[i]]
        out = np.empty((len(paths), len(bands), *self._size), np.float32)
        for row, path in enumerate(paths):
            segment = _load(path, self.domain, bands)
            if segment.shape[1:] != self._size:
                raise DataError(
                    f"{path}: found size {segment.shape[1:]}; expected {self._size}, as the others"
                )
            out[row] = segment
        return torch.from_numpy(out)


def is_release(folder: Path) -> bool:
    return (folder / "trainA").is_dir() and (folder / "trainB").is_dir()


def fingerprint(split: ReleasedSplit) -> tuple[int, str]:
    """Bytes and SHA-256 of a split: of its files' names and contents, each of which is read once and remembered."""
    digest = hashlib.sha256()
    for path in split.paths:
        digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return sum(p.stat().st_size for p in split.paths), digest.hexdigest()


def _files(root: Path, domain: str) -> list[tuple[Path, re.Match[str]]]:
    """Every segment of a domain, by name; one that occurs twice (in train and in test) counts once."""
    found: dict[str, tuple[Path, re.Match[str]]] = {}
    for folder in (root / f"train{domain}", root / f"test{domain}"):
        for path in folder.rglob("*.npy"):
            if match := _NAME.fullmatch(path.name):
                found.setdefault(path.name, (path, match))
    return [found[name] for name in sorted(found)]


def _load(path: Path, domain: str, chosen: list[int]) -> np.ndarray:
    """(n, H, W) the chosen bands of one file, 0..1."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: found no readable .npy file ({str(error).splitlines()[0]})") from error
    channels, axis = (3, -1) if domain == "A" else (5, 0)
    expected = "H,W,3 (blue, green, red)" if domain == "A" else "5,H,W (F275W, F395N, F502N, F631N, FQ889N)"
    if array.ndim != 3 or array.shape[axis] != channels or array.dtype.kind != "f":
        raise DataError(f"{path}: found {array.dtype} of shape {array.shape}; expected floats, {expected}")
    bands = array[..., chosen].transpose(2, 0, 1) if domain == "A" else array[chosen]
    bands = np.asarray(bands, np.float32)
    if not np.isfinite(bands).all():
        raise DataError(f"{path}: found NaN or infinite values; expected 0..1")
    if bands.max() > 1.5 or bands.min() < -0.5:
        raise DataError(f"{path}: found values from {bands.min():g} to {bands.max():g}; expected 0..1")
    return bands


def _centres(root: Path, domain: str, paths: list[Path]) -> dict[str, np.ndarray]:
    """Latitude and west longitude of every segment from the metadata; nothing where they are not there."""
    known: dict[str, tuple[float, float]] = {}
    for file in sorted(root.glob(f"{domain}*_metadata.csv")):
        try:
            with open(file, encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    stem = re.split(r"[/\\]", row["filepath_npy"])[-1].removesuffix(".npy")
                    known[stem] = float(row["latitude"]), float(row["longitude"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{file}: found metadata that cannot be read ({type(error).__name__} {error}); expected the "
                "columns filepath_npy, latitude and longitude"
            ) from error
    if not known:
        return {}
    places = np.array([known.get(p.stem, (np.nan, np.nan)) for p in paths])
    latitude = to_planetographic(places[:, 0]) if domain == "A" else places[:, 0]
    longitude = -places[:, 1] if domain == "A" else 180 - places[:, 1]
    return {"latitude": latitude, "longitude": longitude % 360}
