"""Remarks on data files that a reader of their tables must know, kept beside the records they are about."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pansharp_bench.errors import BenchError

FILE = "remarks.toml"


@dataclass(frozen=True)
class Remark:
    """A sentence on the tables of a dataset under a protocol, where the scores are of this test file (SHA-256)."""

    dataset: str
    protocol: str
    file: str
    text: str


def read_remarks(results: Path) -> list[Remark]:
    """The remarks of a folder of records; none where it has no ``remarks.toml``. Raises BenchError for one that
    cannot be read."""
    path = results / FILE
    if not path.exists():
        return []
    try:
        listed = tomllib.loads(path.read_text(encoding="utf-8"))["remark"]
        return [Remark(**remark) for remark in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} holds no remarks of dataset, protocol, file and text: {error}") from error
