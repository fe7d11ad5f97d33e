"""One HDF5 file of map segments: how the track's samples are kept.

Groups ``train``, ``target`` and ``test`` each hold ``images`` (uint16, N,C,H,W, one chunk a segment; value =
stored x the attribute ``scale``) and one number a segment: ``zone`` (index into the file's attribute ``zones``),
``latitude`` (planetographic degrees) and ``longitude`` (System III west, 0 to 360) of the centre, ``perijove``
(``train``, ``test``) or ``cycle`` and ``rotation`` (``target``; 0 = A, 1 = B). ``truth``, like ``images``, is
there where a simulation knows the answer; ``extra`` holds further bands of ``target``, or of the ``truth``. File
attributes: ``format``, ``format_version``, ``bands``, ``extra_bands`` where there are such, ``zones``,
``km_per_pixel``, ``segment_km``, ``label``, ``provenance`` (JSON) and, where it was built, ``blank`` (JSON: map of
Hubble's -> zone -> the share of it that was never seen).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import operator
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from pansharp_bench.datasets._h5 import check_dataset, first_line, open_h5, refuse, stamp_of
from pansharp_bench.datasets.jupiter.segments import SegmentSplit
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import write_text
from pansharp_bench.scene import CALIBRATION_SPLITS, Scene, Sensor, SplitName

FORMAT, VERSION = "junocam2hst", 1
LEVELS = 65535
COLUMNS = {
    "zone": np.uint8,
    "latitude": np.float64,
    "longitude": np.float64,
    "perijove": np.int16,
    "cycle": np.int16,
    "rotation": np.uint8,
}
_REQUIRED = {"train": ("perijove",), "test": ("perijove",), "target": ("cycle", "rotation")}


class Writer:
    """Builds a file piece by piece. Killed at any moment it loses at most the piece in hand.

    Pieces lie in a folder beside the file until :meth:`close` puts them together, in the order of their names,
    and moves the whole into place; so the same pieces give the same bytes, in whatever order and in however
    many attempts they came. A Writer of the same path and header finds the pieces of an earlier attempt.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "juno.h5"
    >>> with Writer(path, ("red", "green", "blue"), ("EZ",), 62.5, 16000.0, {"seed": 1}) as writer:
    ...     images = torch.rand(2, 3, 8, 8)
    ...     writer.append("train", images, zone=0, latitude=[1, 2], longitude=[0, 90], perijove=16)
    >>> store = Store(path)
    >>> store.count("train"), store.column("train", "latitude").tolist()
    (2, [1.0, 2.0])
    """

    def __init__(
        self,
        path: str | Path,
        bands: Sequence[str],
        zones: Sequence[str],
        km_per_pixel: float,
        segment_km: float,
        provenance: dict[str, Any],
        label: str = "",
        extra_bands: Sequence[str] = (),
    ) -> None:
        self.path = Path(path)
        self.header: dict[str, Any] = {
            "format": FORMAT,
            "format_version": VERSION,
            "bands": list(bands),
            "zones": list(zones),
            "km_per_pixel": float(km_per_pixel),
            "segment_km": float(segment_km),
            "label": label,
            "provenance": json.dumps(provenance, sort_keys=True),
        } | ({"extra_bands": list(extra_bands)} if extra_bands else {})
        text = json.dumps(self.header, sort_keys=True)
        self.parts = self.path.with_name(
            f"{self.path.name}.{hashlib.sha256(text.encode()).hexdigest()[:12]}.part"
        )
        self._next = dict.fromkeys(CALIBRATION_SPLITS, 0)
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BenchError(f"{self.parts} cannot be written: {error.strerror or error}") from error
        for rest in self.parts.glob("*.tmp"):
            rest.unlink()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()

    def has(self, split: SplitName, piece: str) -> bool:
        """Whether this piece is already stored, and whole (a crash of the machine may have cut it short)."""
        return zipfile.is_zipfile(self._file(split, piece))

    def append(
        self,
        split: SplitName,
        images: Tensor | np.ndarray,
        zone: Any,
        latitude: Any,
        longitude: Any,
        *,
        perijove: Any = None,
        cycle: Any = None,
        rotation: Any = None,
        truth: Tensor | np.ndarray | None = None,
        extra: Tensor | np.ndarray | None = None,
        piece: str | None = None,
    ) -> None:
        """Store n segments.

        Args:
            split: ``train``, ``target`` or ``test``.
            images: (n, C, H, W), 0..1; what lies outside is clipped, and 16 bits are kept.
            zone, latitude, longitude, perijove, cycle, rotation: (n,) or one value for all; ``train`` and
                ``test`` need a perijove, ``target`` a cycle and a rotation.
            truth: like ``images``.
            extra: (n, E, H, W), the ``extra_bands``, 0..1.
            piece: a name, by which :meth:`has` knows the piece and by which pieces are ordered; one stored
                before under the name is replaced. Without it pieces are numbered as they come.

        Raises DataError for shapes that do not belong together, values that are not finite, or a zone that
        the file does not have.
        """
        if split not in CALIBRATION_SPLITS:
            raise DataError(f"unknown split {split!r}; known are: {', '.join(CALIBRATION_SPLITS)}")
        if piece is None:
            piece = f"{self._next[split]:06d}"
            self._next[split] += 1
        arrays = {"images": self._quantised(images, self.header["bands"])}
        n, _, *size = arrays["images"].shape
        for key, values in (("truth", truth), ("extra", extra)):
            if values is not None:
                bands = self.header.get("extra_bands", ()) if key == "extra" else self.header["bands"]
                arrays[key] = self._quantised(values, bands)
                if arrays[key].shape != (n, len(bands), *size):
                    found, expected = arrays[key].shape, (n, len(bands), *size)
                    raise DataError(f"{key} has shape {found}; expected {expected}, as images")
        given = dict(
            zone=zone,
            latitude=latitude,
            longitude=longitude,
            perijove=perijove,
            cycle=cycle,
            rotation=rotation,
        )
        for name, values in given.items():
            if values is None:
                if name in _REQUIRED[split]:
                    raise DataError(f"segments of split {split!r} need a {name}")
                continue
            if name not in _REQUIRED[split] and name in ("perijove", "cycle", "rotation"):
                raise DataError(f"segments of split {split!r} have no {name}")
            column = np.asarray(values)
            if column.ndim > 1 or column.size not in (1, n):
                raise DataError(f"{name} has shape {column.shape}; expected ({n},), one value a segment")
            arrays[name] = np.broadcast_to(column.astype(COLUMNS[name]).reshape(-1), n).copy()
        if n and arrays["zone"].max() >= len(self.header["zones"]):
            raise DataError(f"zone {arrays['zone'].max()} of {len(self.header['zones'])} zones")
        arrays["longitude"] %= 360
        file = self._file(split, piece)
        temporary = file.with_suffix(".tmp")
        try:
            with open(temporary, "wb") as out:
                np.savez(out, **arrays)  # type: ignore[arg-type]
            temporary.replace(file)
        except OSError as error:
            raise BenchError(f"{file} cannot be written: {error.strerror or error}") from error

    def note_blank(self, name: str, shares: dict[str, float]) -> None:
        """Keep which share of each zone is blank on a map."""
        write_text(self.parts / f"blank-{name}.json", json.dumps({name: shares}))

    def zone_counts(self, split: SplitName) -> np.ndarray:
        """(zones,) how many segments of each zone are stored so far."""
        counts = np.zeros(len(self.header["zones"]), np.int64)
        for path in self.parts.glob(f"{split}-*.npz"):
            with np.load(path) as piece:
                counts += np.bincount(piece["zone"], minlength=len(counts))
        return counts

    def close(self) -> Path:
        """Put the pieces together, move the file into place and remove them."""
        temporary = self.parts / "whole.tmp"
        try:
            with h5py.File(temporary, "w", libver="earliest") as out:
                for name, value in self.header.items():
                    out.attrs[name] = value
                if noted := sorted(self.parts.glob("blank-*.json")):
                    blank = {
                        k: v
                        for path in noted
                        for k, v in json.loads(path.read_text(encoding="utf-8")).items()
                    }
                    out.attrs["blank"] = json.dumps(blank)
                for split in CALIBRATION_SPLITS:
                    if pieces := sorted(self.parts.glob(f"{split}-*.npz")):
                        self._assemble(out.create_group(split), pieces)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            raise BenchError(f"{self.path} cannot be written: {first_line(error)}") from error
        shutil.rmtree(self.parts)
        return self.path

    def _assemble(self, group: h5py.Group, pieces: list[Path]) -> None:
        sizes: list[int] = []
        shapes: dict[str, list[int]] = {}
        for path in pieces:
            with np.load(path) as piece:
                n = _npz_shape(piece, "images")[0]
                sizes.append(n)
                for name in piece.files if n else ():
                    rest = list(_npz_shape(piece, name)[1:])
                    if rest != shapes.setdefault(name, rest):
                        raise DataError(f"{path} holds {name} of {rest}; expected {shapes[name]}, as before")
        if not shapes:
            raise DataError(f"no segment of split {group.name[1:]!r} was stored")
        total, start = sum(sizes), 0
        for name, shape in sorted(shapes.items()):
            made = group.create_dataset(
                name,
                (total, *shape),
                np.uint16 if shape else COLUMNS[name],
                chunks=(1, *shape) if shape else None,
                track_times=False,
            )
            if shape:
                made.attrs["scale"] = 1 / LEVELS
        for path, n in zip(pieces, sizes, strict=True):
            with np.load(path) as piece:
                if n and (missing := shapes.keys() - set(piece.files)):
                    raise DataError(f"{path} has no {', '.join(missing)}; other pieces of the split have")
                for name in sorted(shapes) if n else ():
                    group[name][start : start + n] = piece[name]
            start += n

    @staticmethod
    def _quantised(images: Tensor | np.ndarray, bands: Sequence[str]) -> np.ndarray:
        x = torch.as_tensor(images)
        if x.ndim != 4 or x.shape[1] != len(bands):
            raise DataError(f"images have shape {tuple(x.shape)}; expected N,C,H,W with {len(bands)} bands")
        if not torch.isfinite(x.sum(dtype=torch.float64)):
            raise DataError("images hold values that are not finite; blank pixels must be filled first")
        levels = x.double().clamp(0, 1).mul_(LEVELS).round_()
        return levels.to(torch.uint16).cpu().numpy()

    def _file(self, split: str, piece: str) -> Path:
        return self.parts / f"{split}-{piece}.npz"


def _npz_shape(piece: Any, name: str) -> tuple[int, ...]:
    """Shape of an array of an .npz file, without reading it."""
    with piece.zip.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        return read(file)[0]


class Store:
    """A file for reading: what it holds is checked here, pixels are read when asked for.

    ``bands``, ``extra_bands``, ``zones``, ``km_per_pixel``, ``segment_km``, ``label``, ``provenance`` and ``blank``
    are its attributes, ``splits`` the splits it has. Instances pickle and work in forked and spawned workers.

    Raises DataError naming file, key, what was found and what was expected.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._handle: tuple[int, h5py.File] | None = None
        self._stamp = stamp_of(self.path)
        with open_h5(self.path) as file:
            self._read_header(file)
            self._counts: dict[SplitName, int] = {}
            self._keys: dict[SplitName, tuple[str, ...]] = {}
            self._shapes: dict[SplitName, tuple[int, ...]] = {}
            self._columns: dict[SplitName, dict[str, np.ndarray]] = {}
            for split in CALIBRATION_SPLITS:
                link = file.get(split, getlink=True)
                if link is None:
                    continue
                if not isinstance(link, h5py.HardLink) or not isinstance(file[split], h5py.Group):
                    refuse(self.path, split, "something that is not a group of this file", "a group")
                self._read_group(file, split)
        if not self._counts:
            raise DataError(f"{self.path}: found none of the groups {', '.join(CALIBRATION_SPLITS)}")
        self.splits = tuple(self._counts)

    def _read_header(self, file: h5py.File) -> None:
        attributes = {}
        with contextlib.suppress(OSError, RuntimeError, TypeError):
            attributes = dict(file.attrs)
        if attributes.get("format") != FORMAT:
            raise DataError(
                f"{self.path}: found no attribute format={FORMAT!r}; expected a file made by "
                f"`bench data build {FORMAT}`"
            )
        if (version := attributes.get("format_version")) != VERSION:
            raise DataError(f"{self.path}: found format_version {version}; this program reads {VERSION}")
        try:
            self.bands = tuple(map(str, attributes["bands"]))
            self.extra_bands = tuple(map(str, attributes.get("extra_bands", ())))
            self.zones = tuple(map(str, attributes["zones"]))
            self.km_per_pixel = float(attributes["km_per_pixel"])
            self.segment_km = float(attributes["segment_km"])
            self.label = str(attributes.get("label", ""))
            self.provenance: dict[str, Any] = json.loads(attributes["provenance"])
            self.blank: dict[str, dict[str, float]] = json.loads(attributes.get("blank", "{}"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.path}: attributes are missing or damaged ({type(error).__name__} {error})"
            ) from error

    def _read_group(self, file: h5py.File, split: SplitName) -> None:
        keys: list[str] = []
        n = 0
        for key in ("images", "truth", "extra"):
            name = f"{split}/{key}"
            found = check_dataset(self.path, file, name, optional=key != "images")
            if found is None:
                continue
            bands = self.extra_bands if key == "extra" else self.bands
            if found.dtype != "uint16" or found.shape[1] != len(bands):
                expected = f"uint16, N,C,H,W with {len(bands)} bands ({', '.join(bands)})"
                refuse(self.path, name, f"{found.dtype} of shape {found.shape}", expected)
            if keys and (found.shape[0], *found.shape[2:]) != (n, *self._shapes[split][2:]):
                refuse(
                    self.path,
                    name,
                    f"shape {found.shape}",
                    f"{self._shapes[split]}, as images, but for bands",
                )
            scale = file[name].attrs.get("scale")
            if not isinstance(scale, float | np.floating) or abs(float(scale) * LEVELS - 1) > 1e-9:
                refuse(self.path, name, f"scale {scale}", f"1/{LEVELS}")
            if key == "images":
                self._shapes[split], n = found.shape, found.shape[0]
            keys.append(key)
        columns = {}
        for key in COLUMNS:
            needed = key in ("zone", "latitude", "longitude") or key in _REQUIRED[split]
            name = f"{split}/{key}"
            link = file.get(name, getlink=True)
            if link is None and not needed:
                continue
            made = file[name] if isinstance(link, h5py.HardLink) else None
            if not isinstance(made, h5py.Dataset) or made.shape != (n,) or made.dtype.kind not in "iuf":
                what = "no data" if made is None else f"shape {getattr(made, 'shape', None)}"
                refuse(self.path, name, what, f"{n} numbers, one a segment")
            if made.is_virtual or made.external:
                refuse(self.path, name, "data kept in another file", "the data itself")
            columns[key] = made[:]
        if (wrong := columns["zone"][~np.isin(columns["zone"], range(len(self.zones)))]).size:
            refuse(self.path, f"{split}/zone", f"zone {wrong[0]}", f"{len(self.zones)} zones, counted from 0")
        for key in ("latitude", "longitude"):
            if not np.isfinite(columns[key]).all():
                refuse(self.path, f"{split}/{key}", "values that are not finite", "degrees")
        self._counts[split], self._keys[split], self._columns[split] = n, tuple(keys), columns

    def count(self, split: SplitName) -> int:
        return self._counts[self._known(split)]

    def keys(self, split: SplitName) -> tuple[str, ...]:
        """Which of ``images``, ``truth`` and ``extra`` the split has."""
        return self._keys[self._known(split)]

    def shape(self, split: SplitName) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self._shapes[self._known(split)]

    def columns(self, split: SplitName) -> tuple[str, ...]:
        return tuple(self._columns[self._known(split)])

    def column(self, split: SplitName, name: str) -> np.ndarray:
        """(N,) ``zone``, ``latitude``, ``longitude``, ``perijove``, ``cycle`` or ``rotation``."""
        columns = self._columns[self._known(split)]
        if name not in columns:
            raise DataError(
                f"{self.path}: split {split!r} has no column {name!r}; it has {', '.join(columns)}"
            )
        return columns[name]

    def images(self, split: SplitName, index: int | slice = slice(None), key: str = "images") -> Tensor:
        """(n, C, H, W) float32, 0..1, on the CPU; an int gives a batch of one."""
        if key not in self.keys(split):
            raise DataError(f"{self.path}: split {split!r} has no {key!r}")
        n = self.count(split)
        if isinstance(index, slice):
            rows = range(n)[index]
        else:
            i = operator.index(index)
            if not -n <= i < n:
                raise IndexError(f"sample {i} of {n} in {self.path}")
            rows = range(i % n, i % n + 1)
        if not len(rows):
            bands = len(self.extra_bands if key == "extra" else self.bands)
            return torch.empty(0, bands, *self._shapes[split][2:])
        first, last = min(rows[0], rows[-1]), max(rows[0], rows[-1])
        try:
            stored = self._file()[f"{split}/{key}"][first : last + 1 : abs(rows.step)]
        except (OSError, RuntimeError) as error:
            where = f"samples {first} to {last}"
            refuse(
                self.path, f"{split}/{key}", f"{where} cannot be read ({first_line(error)})", "intact data"
            )
        if rows.step < 0:
            stored = stored[::-1]
        return torch.from_numpy(stored.astype(np.float32)).div_(LEVELS)

    def _known(self, split: SplitName) -> SplitName:
        if split not in self._counts:
            raise DataError(f"{self.path} has no split {split!r}; it has {', '.join(self._counts)}")
        return split

    def _file(self) -> h5py.File:
        if self._handle is None or self._handle[0] != os.getpid():  # a forked copy must not be used
            self._handle = None
            if stamp_of(self.path) != self._stamp:
                raise DataError(f"{self.path} changed since it was checked; start again")
            self._handle = os.getpid(), open_h5(self.path)
        return self._handle[1]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_handle": None}


class StoreSplit(SegmentSplit):
    """A split of a Store: ``pan`` is the segment, ``gt`` the truth where it is known, ``groups`` the zone;
    ``extra_bands`` names what :meth:`extra` gives."""

    stored_as = "uint16"

    def __init__(self, store: Store, name: SplitName, sensor: Sensor) -> None:
        if store.bands != sensor.bands:
            refuse(
                store.path,
                "bands",
                f"bands {', '.join(store.bands)}",
                f"{', '.join(sensor.bands)}, in this order",
            )
        self.store, self.name, self.sensor, self.zones = store, name, sensor, store.zones
        self._stored = {"pan": "images", "gt": "truth"}
        self.keys = tuple(k for k, v in self._stored.items() if v in store.keys(name))
        self.extra_bands = store.extra_bands if "extra" in store.keys(name) else ()
        self.groups = torch.from_numpy(store.column(name, "zone").astype(np.int64))
        self.latitude = torch.from_numpy(store.column(name, "latitude").astype(np.float32))

    def __len__(self) -> int:
        return self.store.count(self.name)

    def __getitem__(self, index: int | slice) -> Scene:
        images = {k: self.read(k, index) for k in self.keys}
        return Scene(self.sensor, **images, latitude=self.latitude_of(index))

    def column(self, name: str) -> np.ndarray | None:
        """(N,) one number a segment (see :data:`COLUMNS`); None where the file has none."""
        return self.store.column(self.name, name) if name in self.store.columns(self.name) else None

    def read(self, key: str, index: int | slice) -> Tensor:
        return self.store.images(self.name, index, self._stored[key])

    def extra(self, index: int | slice) -> Tensor:
        """(n, E, H, W) I/F of the further bands; raises DataError where there are none."""
        return self.store.images(self.name, index, "extra")
