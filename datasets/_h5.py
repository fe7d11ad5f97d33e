"""Safe reading of scenes kept in PanCollection's HDF5 form: keys pan, ms, lms and gt, each N,C,H,W.

A file from the internet may be anything. So everything that can be known without reading pixels is checked
before a byte is allocated: that it is HDF5 at all, plain datasets (no link out of the file or within it, no
virtual dataset, no external storage), number type, axes, bands, ratio, equal sizes, and a declared size that
the stored bytes can account for. Finiteness is checked on every read. Values are never clipped or rejected
for their range: the 23-tap expansion rings beyond the sensor's peak and below zero.
"""

from __future__ import annotations

import operator
import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np
import torch
from torch import Tensor

from pansharp_bench.errors import DataError
from pansharp_bench.files import looks_like
from pansharp_bench.registry import SENSORS
from pansharp_bench.scene import Scene, Sensor, Split, SplitName

KEYS = ("pan", "ms", "lms", "gt")
_SMALL = 64 << 20  # bytes of memory nobody is harmed by
_EXPANSION = (
    100  # real imagery compresses 3 to 30 times; far beyond that a file declares what it does not hold
)
_AGAIN = "download it again"


@dataclass(frozen=True)
class Array:
    """One checked dataset of a file."""

    shape: tuple[int, ...]
    dtype: str


class H5Split(Split):
    """Scenes of one HDF5 file, opened on first use, in every process anew.

    ``gt`` is required except in ``full``, where it is read if it is there (a simulator knows the truth).
    Instances pickle (without the open file) and work in forked and spawned workers.

    Raises DataError, on construction or on reading, naming file, key, what was found and what was expected.
    """

    def __init__(self, path: str | Path, name: SplitName, sensor: Sensor) -> None:
        self.path, self.name, self.sensor = Path(path), name, sensor
        self._handle: tuple[int, dict[str, h5py.Dataset]] | None = None
        self._stamp = stamp_of(self.path)
        optional = ("gt",) if name == "full" else ()
        with open_h5(self.path) as file:
            found = {k: check_dataset(self.path, file, k, k in optional) for k in KEYS}
        self.arrays = {k: a for k, a in found.items() if a is not None}
        self.keys = tuple(self.arrays)
        _check_together(self.path, self.arrays, sensor)
        self._n = self.arrays["pan"].shape[0]

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: int | slice) -> Scene:
        return Scene(self.sensor, **{k: self.read(k, index) for k in self.keys})

    def read(self, key: str, index: int | slice) -> Tensor:
        """(n, C, H, W) float32 DN of one key; an int gives a batch of one. Reads nothing else."""
        rows = rows_of(index, self._n, str(self.path))
        shape = (len(rows), *self.arrays[key].shape[1:])
        if not len(rows):
            return torch.empty(shape)
        step = abs(rows.step)
        first, last = min(rows[0], rows[-1]), max(rows[0], rows[-1])
        out = np.empty(shape, np.float32)
        try:
            self._datasets()[key].read_direct(out, np.s_[first : last + 1 : step])
        except (OSError, RuntimeError) as error:
            where = f"samples {first} to {last}"
            refuse(self.path, key, f"{where} cannot be read ({first_line(error)})", "intact data", _AGAIN)
        if rows.step < 0:
            out = out[::-1].copy()
        finite = np.isfinite(out)
        if not finite.all():
            bad = np.flatnonzero(~finite.all(axis=(1, 2, 3)))
            value = out[bad[0]][~finite[bad[0]]][0]
            more = f" and {len(bad) - 1} more of those read" if len(bad) > 1 else ""
            refuse(self.path, key, f"{value} in sample {rows[int(bad[0])]}{more}", "finite float32 values")
        return torch.from_numpy(out)

    def _datasets(self) -> dict[str, h5py.Dataset]:
        pid = os.getpid()
        if self._handle is None or self._handle[0] != pid:  # a forked copy of an open file must not be used
            self._handle = None
            if stamp_of(self.path) != self._stamp:
                raise DataError(f"{self.path} changed since it was checked; start again")
            file = open_h5(self.path)
            self._handle = pid, {k: file[k] for k in self.keys}
        return self._handle[1]

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_handle": None}


def rows_of(index: int | slice, n: int, where: str) -> range:
    """The samples that an index means; an int, one. Raises IndexError."""
    if isinstance(index, slice):
        return range(n)[index]
    i = operator.index(index)
    if not -n <= i < n:
        raise IndexError(f"sample {i} of {n} in {where}")
    i %= n
    return range(i, i + 1)


def refuse(path: Path, key: str, found: str, expected: str, mend: str = "") -> NoReturn:
    raise DataError(f"{path}, key {key!r}: found {found}; expected {expected}" + (mend and f" — {mend}"))


def first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def stamp_of(path: Path) -> tuple[int, int, int]:
    try:
        s = path.stat()
    except OSError as error:
        what = "a link to nothing" if path.is_symlink() else error.strerror
        raise DataError(f"{path}: found {what}; expected an HDF5 file") from error
    return s.st_size, s.st_mtime_ns, s.st_ino


def open_h5(path: Path) -> h5py.File:
    """The file, open for reading; DataError says what it is instead."""
    if path.is_dir():
        raise DataError(f"{path}: found a folder; expected an HDF5 file")
    if not path.is_file():
        raise DataError(f"{path}: found something that is not a plain file; expected an HDF5 file")
    try:
        if h5py.is_hdf5(path):
            return h5py.File(path, "r", locking="best-effort")
        found = looks_like(path)
    except OSError as error:
        text = first_line(error)
        if "truncated" in text:
            text = f"a truncated file ({text.split('(')[-1].rstrip(')')})"
            raise DataError(f"{path}: found {text}; expected all of it — {_AGAIN}") from error
        raise DataError(f"{path}: found a file that cannot be opened ({text}); expected HDF5") from error
    raise DataError(f"{path}: found {found}; expected an HDF5 file — {_AGAIN}")


def check_dataset(path: Path, file: h5py.File, key: str, optional: bool) -> Array | None:
    """A plain, whole, four-axis dataset of numbers; nothing is followed and no value is read."""
    try:
        link = file.get(key, getlink=True)
        if link is None:
            if optional:
                return None
            names = ", ".join(sorted(list(file)[:12])) or "none"
            refuse(path, key, f"no such key (there are: {names})", "keys gt, lms, ms, pan (full: no gt)")
        if isinstance(link, h5py.ExternalLink):
            refuse(path, key, f"a link into another file ({link.filename})", "the data itself")
        if isinstance(link, h5py.SoftLink):
            refuse(path, key, f"a soft link to {link.path}", "the data itself")
        # the low-level call, as asking a virtual dataset for its shape may already open other files
        made = h5py.h5o.open(file.id, key.encode())
        if not isinstance(made, h5py.h5d.DatasetID):
            refuse(path, key, "a group", "a dataset")
        plan = made.get_create_plist()
        if plan.get_layout() == h5py.h5d.VIRTUAL:
            refuse(path, key, "a virtual dataset (a view of other files)", "the data itself")
        if plan.get_external_count():
            refuse(path, key, f"external storage ({os.fsdecode(plan.get_external(0)[0])})", "the data itself")
        dataset = h5py.Dataset(made)
        if dataset.dtype.kind not in "fiu":
            refuse(path, key, f"values of type {_dtype_name(dataset)}", "numbers (float64, float32, uint16)")
        shape = dataset.shape
        if shape is None or len(shape) != 4 or 0 in shape:
            what = "no data" if shape is None else f"shape {shape}"
            refuse(path, key, what, "four axes N,C,H,W, none of them empty")
        _check_size(path, key, dataset)
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        refuse(path, key, f"a damaged entry ({first_line(error)})", "a readable dataset", _AGAIN)
    return Array(shape, str(dataset.dtype))


def _dtype_name(dataset: h5py.Dataset) -> str:
    return "string" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype)


def _check_size(path: Path, key: str, dataset: h5py.Dataset) -> None:
    """The declared size must be explained by what is stored: a header may claim terabytes of fill value."""
    need = prod(dataset.shape) * dataset.dtype.itemsize
    file_size = path.stat().st_size
    declared = f"shape {dataset.shape} ({_bytes(need)})"
    if need > max(_SMALL, _EXPANSION * file_size):
        refuse(path, key, f"{declared} in a file of {_bytes(file_size)}", "a size the file can hold")
    stored = dataset.id.get_storage_size()
    if need > max(_SMALL, _EXPANSION * stored) or not stored:
        refuse(path, key, f"{declared} with {_bytes(stored)} stored", "as much data as is declared")
    if dataset.chunks is None:
        if need > file_size:
            refuse(path, key, f"{declared} in a file of {_bytes(file_size)}", "all of the data", _AGAIN)
        return
    chunk = prod(dataset.chunks) * dataset.dtype.itemsize
    if chunk > max(_SMALL, need):
        refuse(path, key, f"chunks of {_bytes(chunk)}", f"at most the data's own {_bytes(need)}")
    wanted = prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    if (there := dataset.id.get_num_chunks()) < wanted:
        refuse(path, key, f"{there} of {wanted} chunks (writing was interrupted)", "all of them", _AGAIN)


def _bytes(n: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1024:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:.4g} TiB"


def _check_together(path: Path, arrays: dict[str, Array], sensor: Sensor) -> None:
    """Axes, bands, ratio and sizes of all keys against the sensor and against each other."""
    r, c = sensor.ratio, sensor.channels
    for key, array in arrays.items():
        bands = 1 if key == "pan" else c
        if array.shape[1] != bands:
            refuse(path, key, *_wrong_axes(array.shape, bands, key, sensor))
    n, _, height, width = arrays["pan"].shape
    if height % r or width % r:
        refuse(path, "pan", f"size {height}x{width}", f"a multiple of the ratio {r}")
    for key, array in arrays.items():
        here_n, _, here_h, here_w = array.shape
        if here_n != n:
            refuse(path, key, f"{here_n} samples (shape {array.shape})", f"{n}, as in 'pan'")
        wanted = (height // r, width // r) if key == "ms" else (height, width)
        if (here_h, here_w) != wanted:
            what = f"{wanted[0]}x{wanted[1]} (pan is {height}x{width}, the ratio {r})"
            refuse(path, key, f"size {here_h}x{here_w}", what)


def _wrong_axes(shape: tuple[int, ...], bands: int, key: str, sensor: Sensor) -> tuple[str, str]:
    found, expected = f"shape {shape}", f"axes N,C,H,W with {bands} band{'s' * (bands > 1)}"
    if shape[3] == bands != shape[2]:
        return f"{found}, which looks like N,H,W,C", expected
    if shape[2] == bands != shape[3]:
        return f"{found}, which looks like H,W,C,N", expected
    alike = [e.name for e in SENSORS if e.obj.channels == shape[1]] if key != "pan" else []
    found += f", {shape[1]} bands" + (f" (as {', '.join(alike)} have)" if alike else "")
    return found, f"{expected} for sensor {sensor.name}"
