"""``junocam2hst``: the real JunoCam2HST data set, from a file made by ``bench data build`` or as released."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import expanded
from pansharp_bench.registry import register_dataset
from pansharp_bench.scene import CALIBRATION_SPLITS, Dataset, FileIdentity, Split, SplitName, as_sensor

if TYPE_CHECKING:
    from torch import Tensor

    from pansharp_bench.datasets.junocam2hst.store import Store
    from pansharp_bench.datasets.jupiter.segments import SegmentSplit

NAME = "junocam2hst"
WHERE = (
    "the segments as released: Zenodo record 16429481 (the README of "
    "github.com/junocamcalibration/JunoCam_calibration_UNSB names it); or build them with "
    "`bench data build junocam2hst` from JunoCam's mosaics (github.com/ramanakumars/JuDE, backend/PJimgs) and "
    "Hubble's OPAL maps (doi 10.17909/T9G593)"
)
_FOLD = re.compile(r"(?:(.+)-)?pj(\d+)")  # a label that says which perijove is held out
_DEPTH = 4  # folders below the root that are looked into


def check_label(label: str, of_file: bool = False) -> None:
    """Raises BenchError for a label that no set can have, or that no file (``of_file``) can: ends in a perijove."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", label) or re.split("[-_]", label.lower())[0] == "sim":
        raise BenchError(f"label {label!r} cannot be used; take letters and digits, and not sim")
    if of_file and _FOLD.fullmatch(label):
        raise BenchError(f"label {label!r} would say that a perijove is held out; let it end otherwise")


@register_dataset(
    NAME,
    title="JunoCam2HST",
    summary="Jupiter by JunoCam and by Hubble, unpaired segments of 16,000 km",
    tracks=("calibration",),
    sensor=NAME,
    stand_in="junocam2hst-sim",
    published="JunoCam2HST",
    where=WHERE,
)
class JunoCam2HST(Dataset):
    """JunoCam2HST under a folder: a ``junocam2hst*.h5``, or the released ``trainA``, ``trainB`` of ``.npy`` files.

    ``name`` is ``junocam2hst``, with ``-LABEL`` where the file was built under a label (``junocam2hst-mini``), or
    ``label`` is given for one without. A label that ends in ``pjNN`` (``mini-pj17``) holds perijove NN out instead
    of that which the files have as their test; it is shown in the name.

    Raises DataError where neither is found, or several are, or the file has another label, and BenchError for a
    label that cannot be used.
    """

    commands: ClassVar[dict[str, str]] = {
        "build": "pansharp_bench.datasets.junocam2hst.build:command",
        "mosaic": "pansharp_bench.datasets.jupiter.mosaic:command",
        "project": "pansharp_bench.datasets.jupiter.junocam.command:command",
        "spectra": "pansharp_bench.datasets.jupiter.spectra:command",
        "limb": "pansharp_bench.datasets.jupiter.limb_darkening:command",
    }
    timed: ClassVar[dict[str, str]] = {"segments": "pansharp_bench.datasets.jupiter.pieces:cutting"}

    held_out: int | None = None  # the perijove of a label's end

    def __init__(self, root: Path | None = None, label: str | None = None, **options: object) -> None:
        if given := [k for k, v in options.items() if v is not None]:
            raise BenchError(f"dataset {NAME!r} is made of files and has no option {', '.join(given)}")
        if label is not None:
            check_label(label)
        if root is None:
            raise DataError(
                f"dataset {NAME!r} needs its files: give their folder with --data DIR or PANSHARP_DATA. "
                f"Where to get them — {WHERE}"
            )
        self.sensor = as_sensor(NAME)
        self.store: Store | None = None
        if fold := _FOLD.fullmatch(label or ""):
            label, self.held_out = fold[1], int(fold[2])
        self.path = self._find(expanded(root), label)
        own = self.store.label if self.store else ""
        if own and label and own != label:
            raise DataError(f"{self.path} was built as {NAME}-{own}; it cannot be shown as {NAME}-{label}")
        self.whole = f"{NAME}-{own or label}" if own or label else NAME  # its name, but for what is held out
        self.name = self.whole if self.held_out is None else f"{self.whole}-pj{self.held_out}"

    def _find(self, root: Path, label: str | None) -> Path:
        from pansharp_bench.datasets.junocam2hst.store import Store

        if root.is_file() and root.suffix == ".h5":
            self.store = Store(root)
            return root
        if not root.is_dir():
            raise DataError(f"--data {root} does not exist; give the folder that holds the data files")
        files, releases = _look(root)
        stores = [Store(p) for p in files]
        if label and len(stores) > 1:
            stores = [s for s in stores if s.label == label]
        candidates = [*(s.path for s in stores), *releases]
        if len(candidates) > 1:
            raise DataError(
                f"several sets of {NAME} under {root}: {', '.join(map(str, candidates))}; point --data at one of "
                "them, or name one with --label"
            )
        if not candidates:
            raise DataError(
                f"no {NAME} files under {root}: looked for {NAME}*.h5, and for folders trainA and trainB, there "
                f"and in its folders. Where to get them — {WHERE}"
            )
        self.store = stores[0] if stores else None
        return candidates[0]

    def available(self) -> tuple[SplitName, ...]:
        return self.store.splits if self.store else CALIBRATION_SPLITS

    def split(self, name: SplitName) -> SegmentSplit:
        if self.held_out is None or name == "target":
            return self._stored(name)
        from pansharp_bench.datasets.junocam2hst.fold import FoldSplit

        return FoldSplit(name, [self._stored("train"), self._stored("test")], self.held_out)

    def _stored(self, name: SplitName) -> SegmentSplit:
        """A split as the files have it."""
        from pansharp_bench.datasets.junocam2hst.released import ReleasedSplit
        from pansharp_bench.datasets.junocam2hst.store import StoreSplit

        if name not in CALIBRATION_SPLITS:
            raise DataError(f"unknown split {name!r}; known are: {', '.join(CALIBRATION_SPLITS)}")
        if self.store:
            return StoreSplit(self.store, name, self.sensor)
        return ReleasedSplit(self.path, name, self.sensor)

    def files(self, *splits: SplitName) -> tuple[FileIdentity, ...]:
        from pansharp_bench.datasets.junocam2hst.released import ReleasedSplit, fingerprint
        from pansharp_bench.files import sha256_of

        def identity(name: SplitName) -> tuple[int, str]:
            split = self._stored(name)
            if isinstance(split, ReleasedSplit):
                return fingerprint(split)
            return self.path.stat().st_size, sha256_of(self.path)

        identities = []
        for name in splits or self.available():
            size, digest = identity(name)
            if self.held_out is not None and name != "target":
                both = [identity("train"), identity("test")]
                text = f"{name} pj{self.held_out} {both[0][1]} {both[1][1]}"  # same files, other segments
                size, digest = max(s for s, _ in both), hashlib.sha256(text.encode()).hexdigest()
            identities.append(FileIdentity(name, self.path, size, digest, None))
        return tuple(identities)

    def mosaic(
        self, split: Split, images: Iterable[Tensor], path: Path, bands: tuple[str, ...]
    ) -> list[Path]:
        from pansharp_bench.datasets.jupiter.mosaic import lay_out

        return lay_out(cast("SegmentSplit", split), images, path, self.name, bands)

    def folds(self) -> tuple[str, ...]:
        """A label for each perijove of ``train``: with that held out, and the file's own test trained on."""
        seen = self._stored("train").column("perijove")
        numbers = [] if seen is None or self.held_out is not None else np.unique(seen).tolist()
        own = self.whole.removeprefix(NAME).lstrip("-")
        return tuple("-".join(filter(None, (own, f"pj{n}"))) for n in numbers)

    def provenance(self) -> dict:
        fold = {} if self.held_out is None else {"fold_of": self.whole, "held_out": f"PJ{self.held_out}"}
        if self.store is None:
            return {"layout": "as released, .npy"} | fold
        told = dict(self.store.provenance)  # checksums of the maps stay in the file, whose own is recorded
        if sources := told.pop("sources", None):
            told["maps"] = ", ".join(f"{s['name']} ({', '.join(s['files'])})" for s in sources)
        return told | fold

    def summary(self) -> dict:
        counts: dict[str, int | None] = {}
        for name in self.available():
            try:
                counts[name] = len(self.split(name))
            except DataError:
                counts[name] = None
        return {"where": str(self.path), "splits": counts}

    def info(self) -> Iterator[dict]:
        from pansharp_bench.datasets.junocam2hst._inspect import describe

        for name in self.available():
            (file,) = self.files(name)
            yield {**asdict(file), "path": str(file.path), **describe(self.split(name))}

    def check(self) -> Iterator[tuple[str, str]]:
        from pansharp_bench.datasets.junocam2hst._inspect import inspect

        yield from inspect(self)


def _look(root: Path) -> tuple[list[Path], list[Path]]:
    """Built files and released folders below a folder; hidden folders are not looked into."""
    from pansharp_bench.datasets.junocam2hst.released import is_release

    files, releases = [], []
    for folder, below, names in os.walk(root):
        here = Path(folder)
        files += [here / n for n in sorted(names) if re.fullmatch(rf"{NAME}.*\.h5", n)]
        if is_release(here):
            releases.append(here)
            below.clear()
        deep = len(here.relative_to(root).parts) >= _DEPTH
        below[:] = (
            [] if deep else sorted(d for d in below if not d.startswith(".") and not d.endswith(".part"))
        )
    return files, releases
