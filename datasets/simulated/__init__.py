"""Simulated sensors: procedural landscapes seen through a real sensor's bands, blur and noise.

``qb-sim``, ``gf2-sim`` and ``wv3-sim`` come as PanCollection files, made once in the cache. At full resolution
the true multispectral image is known and kept as ``gt``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.registry import register_dataset
from pansharp_bench.scene import SPLITS, Dataset, FileIdentity, Split, SplitName, as_sensor


class Simulated(Dataset):
    """A simulated sensor: ``size`` is ``default``, ``small`` or ``tiny``; equal seeds give equal scenes.

    The files are made on first use (well under a minute on two cores) and kept; see ``PANSHARP_CACHE``.
    Raises BenchError for an unknown size, a negative seed, or a cache that cannot be written.
    """

    def __init__(self, sensor: str, seed: int = 0, size: str = "default") -> None:
        from pansharp_bench.datasets.simulated.generate import SIZES

        if size not in SIZES:
            raise BenchError(f"unknown size {size!r} of {sensor}-sim; known are: {', '.join(SIZES)}")
        if seed < 0:
            raise BenchError(f"seed {seed} of {sensor}-sim is negative")
        self.sensor, self.seed, self.size = as_sensor(sensor), int(seed), size
        self.name = f"{sensor}-sim"

    @cached_property
    def folder(self) -> Path:
        from pansharp_bench.datasets.simulated.generate import ready

        return ready(self.sensor.name, self.seed, self.size)

    def available(self) -> tuple[SplitName, ...]:
        return SPLITS

    def split(self, name: SplitName) -> Split:
        from pansharp_bench.datasets._h5 import H5Split

        return H5Split(self._path(name), name, self.sensor)

    def files(self, *splits: SplitName) -> tuple[FileIdentity, ...]:
        from pansharp_bench.datasets._files import sha256_of

        paths = {s: self._path(s) for s in splits or SPLITS}
        return tuple(FileIdentity(s, p, p.stat().st_size, sha256_of(p), None) for s, p in paths.items())

    def provenance(self) -> dict:
        from pansharp_bench.datasets.simulated.generate import about

        return about(self.sensor.name, self.seed, self.size)

    def summary(self) -> dict:
        from pansharp_bench.datasets.simulated.generate import SIZES, place

        size, folder = SIZES[self.size], place(self.sensor.name, self.seed, self.size)
        counts = {"train": size.train * size.patches, "valid": size.valid * size.patches,
                  "reduced": size.reduced, "full": size.full}  # fmt: skip
        return {"where": str(folder) if folder.is_dir() else "made on first use", "splits": counts}

    def info(self) -> Iterator[dict]:
        from pansharp_bench.datasets._inspect import describe

        for file in self.files():
            yield {
                "split": file.split, "path": str(file.path), "size": file.size, "sha256": file.sha256,
                "verified": file.verified, **describe(self.split(file.split)),
            }  # fmt: skip

    def check(self) -> Iterator[tuple[str, str]]:
        from pansharp_bench.datasets._inspect import inspect

        yield from inspect(self, set())

    def _path(self, split: SplitName) -> Path:
        from pansharp_bench.datasets.simulated.generate import file_name

        if split not in SPLITS:
            raise DataError(f"unknown split {split!r}; known are: {', '.join(SPLITS)}")
        return self.folder / file_name(self.sensor.name, split)


def _register(sensor: str, title: str, published: str) -> None:
    @register_dataset(f"{sensor}-sim", title=f"{title}, simulated", sensor=sensor, published=published,
                      summary=f"simulated {title} scenes, made in the cache")  # fmt: skip
    def load(
        root: Path | None = None, label: str | None = None, seed: int = 0, size: str = "default"
    ) -> Simulated:
        return Simulated(sensor, seed, size)


_register("qb", "QuickBird", "QB")
_register("gf2", "GaoFen-2", "GF2")
_register("wv3", "WorldView-3", "WV3")
