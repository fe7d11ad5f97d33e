"""PanCollection: QuickBird, GaoFen-2, WorldView-3 and WorldView-2 samples as HDF5 files.

L.-J. Deng et al., "Machine learning in pansharpening: A benchmark, from shallow to deep networks", IEEE
Geoscience and Remote Sensing Magazine, 2022 (doi 10.1109/MGRS.2022.3187652), and L.-J. Deng et al., Journal
of Image and Graphics, 2023 (doi 10.11834/jig.220540). The files are found under one data root whatever the
folders between are called; nothing is downloaded, renamed or repaired.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pansharp_bench.datasets._layouts import satellites_in
from pansharp_bench.datasets._real import RealFiles, walk
from pansharp_bench.errors import DataError
from pansharp_bench.registry import DATASETS
from pansharp_bench.scene import SPLITS, FileIdentity, SplitName, as_sensor

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

PAIRS = (
    "pairs of PAN and MS as .tif or .mat (NAME/pan.tif and NAME/ms.tif, NAME_pan.tif and NAME_ms.tif, pan/1.tif "
    "and ms/1.tif, or both in NAME.mat)"
)
"""The other layout that is read (:mod:`pansharp_bench.datasets._pairs`), in short."""


class PanCollection(RealFiles):
    """The PanCollection files of one sensor under a folder.

    Raises DataError when the folder holds none of the sensor's files, or several different ones for a split,
    and BenchError for a label that cannot be used.
    """

    def __init__(self, sensor: str, root: Path | None, label: str | None = None) -> None:
        self.sensor, where = as_sensor(sensor), DATASETS.get(sensor).card.where
        super().__init__(sensor, root, label)
        found = find_files(self.root)
        self.paths: dict[SplitName, Path] = {
            split: _choose(sensor, split, found[sensor, split])
            for split in SPLITS
            if (sensor, split) in found
        }
        if not self.paths:
            others = sorted({s for s, _ in found} | satellites_in(self.root))
            raise DataError(
                f"no {self.sensor.title} files under {self.root}: looked for "
                f"{'; '.join(file_names(sensor, s) for s in SPLITS)} there and in its folders, and for {PAIRS}"
                + (f" (there are files of {', '.join(others)})" if others else "")
                + f". Where to get them — {where}; put them anywhere below the folder, e.g. in "
                f"{self.root / sensor}, under their own names"
            )

    def available(self) -> tuple[SplitName, ...]:
        return tuple(self.paths)

    def opened(self, name: SplitName) -> H5Split:
        from pansharp_bench.datasets._h5 import H5Split

        return H5Split(self.paths[name], name, self.sensor)

    def identity(self, name: SplitName) -> FileIdentity:
        from pansharp_bench.files import sha256_of

        path = self.paths[name]
        digest = sha256_of(path)
        known = ORIGINALS.get((self.sensor.name, name))
        verified = None if known is None else digest == known
        return FileIdentity(name, path, path.stat().st_size, digest, verified)

    def looked_for(self, name: SplitName) -> str:
        return (
            f"{file_names(self.sensor.name, name)} there and in its folders; found only {', '.join(self.paths)}. "
            f"Where to get it — {DATASETS.get(self.sensor.name).card.where}"
        )

    def remarks(self, file: FileIdentity) -> Iterator[tuple[str, str]]:
        split = file.split
        if file.verified:
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
    """Everything below a folder that is named like a PanCollection file, by (sensor, split)."""
    found: dict[tuple[str, SplitName], list[Path]] = {}
    for folder, below, files in walk(root):
        for name in sorted([*below, *files]):
            if match := _NAME.fullmatch(name):
                sensor = (match["a"] or match["b"]).lower()
                split = match["split"].lower() if match["split"] else "full" if match["full"] else "reduced"
                found.setdefault((sensor, cast(SplitName, split)), []).append(folder / name)
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
