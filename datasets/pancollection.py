"""PanCollection: QuickBird, GaoFen-2, WorldView-3 and WorldView-2 samples as HDF5 files.

L.-J. Deng et al., "Machine learning in pansharpening: A benchmark, from shallow to deep networks", IEEE
Geoscience and Remote Sensing Magazine, 2022 (doi 10.1109/MGRS.2022.3187652), and L.-J. Deng et al., Journal
of Image and Graphics, 2023 (doi 10.11834/jig.220540). The files are found under one data root whatever the
folders between are called; nothing is downloaded, renamed or repaired.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.registry import DATASETS, register_dataset
from pansharp_bench.scene import SPLITS, Dataset, FileIdentity, SplitName, as_sensor

if TYPE_CHECKING:
    from pansharp_bench.datasets._h5 import H5Split

WHERE = (
    "https://github.com/liangjiandeng/PanCollection (README: Google Drive and Baidu "
    "folders), https://liangjiandeng.github.io/PanCollection.html, or the Hugging Face dataset "
    "elsting/PanCollection"
)

# SHA-256 of the originals. The full-resolution files and WorldView-2 have none that is known.
ORIGINALS: dict[tuple[str, SplitName], str] = {
    ("qb", "train"): "7d45e191cd03f3df12eb76b5f27624eaba1b464970788eb61723c3574dd14371",
    ("qb", "valid"): "b307bcbb0d69056278a8a0b4970f1cd1b58dfff19bbe949be224e106f1a18470",
    ("qb", "reduced"): "9842a1232ad2d5b9a61c9fd7fb353e8fc6214eeac6e947d888f221ad6ecdda35",
    ("gf2", "train"): "243a0bc8a4cc0a2740ed24409f9e87afe531d87e9d57524c6bcbec2b5f937621",
    ("gf2", "valid"): "ae15b19ccc6ece799ebfeb3fb374b1a333238226397441e3d523b0195dff4f43",
    ("gf2", "reduced"): "709a9a53b2e0f29d3dcd5c6ca4410c2913b62cc03c104fed6c049911dbe1c8ea",
    ("wv3", "train"): "f9e7ec381390ff36ddffd0714df7af07a3c5f456078b219a25f3e18372228f82",
    ("wv3", "valid"): "ba883e57408d1f3c2263cc2818a9fbbf2dbe8e62554c531288f9e8bf9f59dc87",
    ("wv3", "reduced"): "00db0d62f63693410935208e287aea21a736d11840d92eedd2d093c99be5314a",
}

REMARKS: dict[tuple[str, SplitName], str] = {
    (
        "wv3",
        "full",
    ): "PanCollection's .h5 and .mat full-resolution sets share 6 of 20 scenes only, and published "
    "HQNR values are those of the .mat set: figures from this file are not comparable with them",
}

_GLANCE = 16 << 20  # bytes of float32 a split is looked at before a run
_DEPTH = 6  # folders below the root; the Hugging Face cache nests deepest
_RESERVED = ("sim", "unverified")


class PanCollection(Dataset):
    """The PanCollection files of one sensor under a folder.

    ``name`` is the sensor's when every file with a known checksum has it (and one does at least),
    ``<sensor>-<label>`` when a label is given, and ``<sensor>-unverified`` otherwise.

    Raises DataError when the folder holds none of the sensor's files, or several different ones for a split,
    and BenchError for a label that cannot be used.
    """

    def __init__(self, sensor: str, root: Path | None, label: str | None = None) -> None:
        self.sensor, self.label = as_sensor(sensor), _checked_label(sensor, label)
        if root is None:
            raise DataError(
                f"dataset {sensor!r} needs its files: give their folder with --data DIR or PANSHARP_DATA. "
                f"Where to get them — {WHERE}"
            )
        self.root = _checked_root(Path(root))
        found = find_files(self.root)
        self.paths: dict[SplitName, Path] = {
            split: _choose(sensor, split, found[sensor, split])
            for split in SPLITS
            if (sensor, split) in found
        }
        if not self.paths:
            others = sorted({s for s, _ in found})
            raise DataError(
                f"no {self.sensor.title} files under {self.root}: looked for "
                f"{'; '.join(file_names(sensor, s) for s in SPLITS)} there and in its folders"
                + (f" (there are files of {', '.join(others)})" if others else "")
                + f". Where to get them — {WHERE}; put them anywhere below the folder, e.g. in "
                f"{self.root / sensor}, under their own names"
            )

    @cached_property
    def name(self) -> str:  # type: ignore[override]
        sensor = self.sensor.name
        if self.label:
            return f"{sensor}-{self.label}"
        verified = [f.verified for f in self.files()]
        return sensor if True in verified and False not in verified else f"{sensor}-unverified"

    def available(self) -> tuple[SplitName, ...]:
        return tuple(self.paths)

    def split(self, name: SplitName) -> H5Split:
        from pansharp_bench.datasets._h5 import H5Split

        if name not in SPLITS:
            raise DataError(f"unknown split {name!r}; known are: {', '.join(SPLITS)}")
        if name not in self.paths:
            raise DataError(
                f"dataset {self.sensor.name!r} has no split {name!r} under {self.root}: looked for "
                f"{file_names(self.sensor.name, name)} there and in its folders; found only "
                f"{', '.join(self.paths)}. Where to get it — {WHERE}"
            )
        return H5Split(self.paths[name], name, self.sensor)

    def files(self, *splits: SplitName) -> tuple[FileIdentity, ...]:
        from pansharp_bench.files import sha256_of

        identities = []
        for split in splits or self.available():
            path = self.paths.get(split) or self.split(split).path  # the latter says what is missing
            digest = sha256_of(path)
            known = ORIGINALS.get((self.sensor.name, split))
            verified = None if known is None else digest == known
            identities.append(FileIdentity(split, path, path.stat().st_size, digest, verified))
        return tuple(identities)

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
            except DataError as error:
                yield "error", str(error)
                continue
            if file.verified:
                original.add(split)
                yield "ok", f"{split}: {file.path} is the known original (sha256 {file.sha256[:12]}…)"
            elif file.verified is None:
                yield "note", f"{split}: no checksum of the original is known; sha256 {file.sha256}"
            else:
                known = ORIGINALS[self.sensor.name, split]
                mend = f"shown as {self.name}" if self.label else "name this set with --label NAME"
                text = f"sha256 {file.sha256} is not the original's {known[:12]}…; {mend}"
                yield ("note" if self.label else "error"), f"{split}: {file.path}: {text}"
            if not self.label and (remark := REMARKS.get((self.sensor.name, split))):
                yield "note", f"{split}: {remark}"
        yield from inspect(self, original, splits, limit)


def _register(sensor: str, title: str, **card: str) -> None:
    @register_dataset(
        sensor, title=title, sensor=sensor, summary=f"PanCollection, {title}", where=WHERE, **card
    )
    def load(root: Path | None = None, label: str | None = None, **options: object) -> PanCollection:
        if given := [k for k, v in options.items() if v is not None]:
            raise BenchError(f"dataset {sensor!r} is made of files and has no option {', '.join(given)}")
        return PanCollection(sensor, root, label)


_register("qb", "QuickBird", stand_in="qb-sim", published="QB")
_register("gf2", "GaoFen-2", stand_in="gf2-sim", published="GF2")
_register("wv3", "WorldView-3", stand_in="wv3-sim", published="WV3")
_register("wv2", "WorldView-2", published="WV2")


def file_names(sensor: str, split: SplitName) -> str:
    """The names looked for, for people; the sample count may be missing, and case does not matter."""
    if split in ("train", "valid"):
        return f"{split}_{sensor}.h5 or {split}_{sensor}_<count>.h5"
    return f"test_{sensor}_{'OrigScale_' if split == 'full' else ''}multiExm1.h5"


_NAME = re.compile(
    r"(?:(?P<split>train|valid)_(?P<a>[a-z0-9]+)|test_(?P<b>[a-z0-9]+)(?P<full>_OrigScale)?_multiExm\d+)"
    r"(?:_data)?(?:_\d+)?\.(?:h5|hdf5)",
    re.IGNORECASE,
)


def find_files(root: Path) -> dict[tuple[str, SplitName], list[Path]]:
    """Everything below a folder that is named like a PanCollection file, by (sensor, split).

    Links to folders are followed, hidden files and folders are not looked at.
    """
    found: dict[tuple[str, SplitName], list[Path]] = {}
    visited = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            below.clear()
            continue
        visited.add(real)
        for name in sorted([*below, *files]):
            if match := _NAME.fullmatch(name):
                sensor = (match["a"] or match["b"]).lower()
                split = match["split"].lower() if match["split"] else "full" if match["full"] else "reduced"
                found.setdefault((sensor, cast(SplitName, split)), []).append(Path(folder, name))
        deep = len(Path(folder).relative_to(root).parts) >= _DEPTH
        below[:] = [] if deep else sorted(d for d in below if not d.startswith("."))
    return found


def _choose(sensor: str, split: SplitName, candidates: list[Path]) -> Path:
    """The file of a split: copies of one content are one file, different contents are the user's to choose."""
    from pansharp_bench.files import sha256_of

    # a folder or a dead link named like the file counts only where there is no file (reading it says so)
    files = [p for p in candidates if p.is_file()] or candidates[:1]
    distinct = list({(p.stat().st_dev, p.stat().st_ino): p for p in reversed(files) if p.exists()}.values())
    if len(distinct) < 2:
        return files[0]
    if len({p.stat().st_size for p in distinct}) == 1 and len({sha256_of(p) for p in distinct}) == 1:
        return files[0]
    listed = "; ".join(f"{p} ({p.stat().st_size} bytes)" for p in sorted(distinct))
    raise DataError(
        f"{len(distinct)} different files could be split {split!r} of dataset {sensor!r}: {listed}. "
        "Point --data at a folder that holds one of them"
    )


def _checked_root(root: Path) -> Path:
    root = root.expanduser()
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
