"""Real files of one sensor, whatever their format: what such a dataset is called, and what is found in it."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import expanded
from pansharp_bench.registry import DATASETS
from pansharp_bench.scene import SPLITS, Dataset, FileIdentity, Split, SplitName

_GLANCE = 16 << 20  # bytes of float32 a split is looked at before a run
_DEPTH = 6  # folders below the root; the Hugging Face cache nests deepest
_RESERVED = ("sim", "unverified")


class RealFiles(Dataset):
    """Files of one sensor under a folder.

    ``name`` is the sensor's when every file with a known checksum has it (and one does at least),
    ``<sensor>-<label>`` when a label is given, and ``<sensor>-unverified`` otherwise.

    Raises BenchError for a label that cannot be used, DataError without a folder.
    """

    def __init__(self, sensor: str, root: Path | None, label: str | None = None) -> None:
        self._sensor, self.label = sensor, _checked_label(sensor, label)
        self.root = _checked_root(sensor, root)

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        if self.label:
            return f"{self._sensor}-{self.label}"
        verified = [f.verified for f in self.files()]
        return self._sensor if True in verified and False not in verified else f"{self._sensor}-unverified"

    @abstractmethod
    def opened(self, name: SplitName) -> Split:
        """A split that is there."""

    @abstractmethod
    def identity(self, name: SplitName) -> FileIdentity:
        """Of the files of a split that is there."""

    @abstractmethod
    def looked_for(self, name: SplitName) -> str:
        """What would have been a split, for people; with where to get it."""

    @abstractmethod
    def remarks(self, file: FileIdentity) -> Iterator[tuple[str, str]]:
        """Findings about the files of a split, besides what their pixels show."""

    def split(self, name: SplitName) -> Split:
        if name not in SPLITS:
            raise DataError(f"unknown split {name!r}; known are: {', '.join(SPLITS)}")
        if name not in self.available():
            raise DataError(
                f"dataset {self._sensor!r} has no split {name!r} under {self.root}: looked for "
                f"{self.looked_for(name)}"
            )
        return self.opened(name)

    def files(self, *splits: SplitName) -> tuple[FileIdentity, ...]:
        for split in splits:
            if split not in self.available():
                self.split(split)  # says what is missing
        return tuple(self.identity(split) for split in splits or self.available())

    def summary(self) -> dict:
        counts: dict[str, int | None] = {}
        for split in self.available():
            try:
                counts[split] = len(self.split(split))
            except DataError:
                counts[split] = None
        return {"where": str(self.root), "splits": counts}

    def info(self) -> Iterator[dict]:
        from pansharp_bench.datasets._inspect import describe

        for split in self.available():
            (file,) = self.files(split)
            yield {**asdict(file), "path": str(file.path), **describe(self.split(split))}

    def check(self) -> Iterator[tuple[str, str]]:
        return self._findings(self.available())

    def glance(self, *splits: SplitName) -> Iterator[tuple[str, str]]:
        return self._findings(splits, _GLANCE)

    def _findings(self, splits: tuple[SplitName, ...], limit: int | None = None) -> Iterator[tuple[str, str]]:
        from pansharp_bench.datasets._inspect import inspect

        original = set()
        for split in splits:
            try:
                (file,) = self.files(split)
                yield from self.remarks(file)
            except DataError as error:
                yield "error", str(error)
                continue
            if file.verified:
                original.add(split)
        yield from inspect(self, original, splits, limit)


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folder, names of the folders in it, names of the files in it: of everything below a folder, in order.

    Links to folders are followed, hidden files and folders are not looked at.
    """
    visited = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            below.clear()
            continue
        visited.add(real)
        below[:] = sorted(d for d in below if not d.startswith("."))
        yield Path(folder), list(below), sorted(f for f in files if not f.startswith("."))
        if len(Path(folder).relative_to(root).parts) >= _DEPTH:
            below.clear()


def _checked_root(sensor: str, root: Path | None) -> Path:
    """The folder of a dataset's files. Raises DataError where none is given, or it is no folder."""
    if root is None:
        raise DataError(
            f"dataset {sensor!r} needs its files: give their folder with --data DIR or PANSHARP_DATA. "
            f"Where to get them — {DATASETS.get(sensor).card.where}"
        )
    root = expanded(root)
    if root.is_file():
        raise DataError(f"--data {root} is a file; give the folder it lies in: {root.parent}")
    if not root.is_dir():
        raise DataError(f"--data {root} does not exist; give the folder that holds the data files")
    return root


def _checked_label(sensor: str, label: str | None) -> str | None:
    if label is None:
        return None
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", label):
        raise BenchError(f"label {label!r} is not made of letters, digits, - and _ (beginning with neither)")
    if re.split("[-_]", label.lower())[0] in _RESERVED or f"{sensor}-{label}".lower() in DATASETS:
        raise BenchError(
            f"label {label!r} is reserved: {sensor}-{label} would pass for something else; choose another"
        )
    return label
