"""SHA-256 of the simulated files with seed 0, which are the same on every processor (``known.csv``).

After a change of a simulator's VERSION, in a fresh cache:
``PANSHARP_CACHE=$(mktemp -d) python -m pansharp_bench.datasets._known`` makes every set of the list and writes it
anew (a new set is added as a row without a checksum).
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from pansharp_bench.scene import FileIdentity

LIST = Path(__file__).with_name("known.csv")
_COLUMNS = ("dataset", "size", "file", "sha256")


@cache
def known() -> dict[tuple[str, str, str], str]:
    """(dataset, size, file's name) -> SHA-256."""
    with open(LIST, encoding="utf-8", newline="") as file:
        return {(r["dataset"], r["size"], r["file"]): r["sha256"] for r in csv.DictReader(file)}


def verified(dataset: str, size: str, seed: int, name: str, sha256: str) -> bool | None:
    """Whether a simulated file is what it is elsewhere; None where that is not known."""
    expected = known().get((dataset, size, name)) if seed == 0 else None
    return None if expected is None else sha256 == expected


def finding(file: FileIdentity) -> tuple[str, str]:
    """What ``bench data check`` says of a simulated file."""
    if file.verified is None:
        return "note", f"{file.path}: no checksum is known for this seed and size; sha256 {file.sha256}"
    if file.verified:
        return "ok", f"{file.path} is the same as everywhere (sha256 {file.sha256[:12]}…)"
    return "warning", (
        f"{file.path} is not the same as elsewhere (sha256 {file.sha256[:12]}…), so results on it "
        "stand in tables of their own"
    )


def main() -> None:
    from pansharp_bench.registry import DATASETS

    made = {}
    for dataset, size in sorted({key[:2] for key in known()}):
        for file in DATASETS.get(dataset).obj(root=None, label=None, size=size).files():
            made[dataset, size, file.path.name] = file.sha256
    with open(LIST, "w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows(
            [_COLUMNS, *((*k, v) for k, v in sorted(made.items()))]
        )


if __name__ == "__main__":
    main()
