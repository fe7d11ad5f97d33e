"""A simulated sensor as a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from pansharp_bench.datasets._known import finding, verified
from pansharp_bench.datasets.simulated.sizes import SIZES, about, file_name, place
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import sha256_of
from pansharp_bench.scene import SPLITS, Dataset, FileIdentity, Split, SplitName, as_sensor


class Simulated(Dataset):
    """A simulated sensor: ``size`` is ``default``, ``small`` or ``tiny``; equal seeds give equal
    files, byte for byte, on every processor.

    Nothing that makes or reads files is loaded before it is needed: a table of records needs neither.
    The files are made on first use (about a minute on two cores) and kept; ``PANSHARP_CACHE`` says where.
    Raises BenchError for an unknown size, a negative seed, or a cache that cannot be written.
    """

    def __init__(self, sensor: str, seed: int = 0, size: str = "default") -> None:
        if size not in SIZES:
            raise BenchError(f"unknown size {size!r} of {sensor}-sim; known are: {', '.join(SIZES)}")
        if seed < 0:
            raise BenchError(f"seed {seed} of {sensor}-sim is negative")
        self.sensor, self.seed, self.size = as_sensor(sensor), int(seed), size
        self.name = f"{sensor}-sim"

    @cached_property
    def folder(self) -> Path:
        from pansharp_bench.datasets.simulated.generate import ready

        return ready(self.sensor, self.seed, self.size)

    def available(self) -> tuple[SplitName, ...]:
        return SPLITS

    def split(self, name: SplitName) -> Split:
        from pansharp_bench.datasets._h5 import H5Split

        return H5Split(self._path(name), name, self.sensor)

    def files(self, *splits: SplitName) -> tuple[FileIdentity, ...]:
        identities = []
        for split in splits or SPLITS:
            path = self._path(split)
            digest = sha256_of(path)
            known = verified(self.name, self.size, self.seed, path.name, digest)
            identities.append(FileIdentity(split, path, path.stat().st_size, digest, known))
        return tuple(identities)

    def provenance(self) -> dict:
        return about(self.sensor, self.seed, self.size)

    def summary(self) -> dict:
        folder = place(self.sensor, self.seed, self.size)
        where = str(folder) if folder.is_dir() else "made on first use"
        return {"where": where, "splits": SIZES[self.size].samples()}

    def info(self) -> Iterator[dict]:
        from pansharp_bench.datasets._inspect import describe

        for file in self.files():
            yield {**asdict(file), "path": str(file.path), **describe(self.split(file.split))}

    def check(self) -> Iterator[tuple[str, str]]:
        from pansharp_bench.datasets._inspect import inspect

        yield from map(finding, self.files())
        yield from inspect(self)

    def glance(self, *splits: SplitName) -> Iterator[tuple[str, str]]:
        return map(finding, self.files(*splits))  # files of known content hold nothing unknown

    def _path(self, split: SplitName) -> Path:
        if split not in SPLITS:
            raise DataError(f"unknown split {split!r}; known are: {', '.join(SPLITS)}")
        return self.folder / file_name(self.sensor, split)
