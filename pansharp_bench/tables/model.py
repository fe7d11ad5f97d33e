"""The model of a table: columns, cells, rows, and which of them are best. What the renderers draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Column:
    """One quantity of one protocol. ``label`` is what the table prints (Q4 or Q8 for Q2n), ``prefix`` what
    tells it from another protocol's in one table."""

    protocol: str
    name: str
    label: str
    better: str
    digits: int = 4
    prefix: str = ""


@dataclass(frozen=True)
class Cell:
    """Mean over images (over runs first, where there are several seeds); NaN where a score is missing."""

    mean: float
    std: float = math.nan
    images: int = 0
    interval: tuple[float, float] | None = None
    runs: int = 1
    between_runs: float = math.nan


@dataclass(frozen=True)
class Row:
    """A method under one set of options, or a published row."""

    group: str
    label: str
    sees: str
    training: str
    variant: str
    cells: dict[Column, Cell]
    source: str = "measured"
    ranked: bool = True
    cost: tuple[float | None, int | None] = (None, None)  # ms per megapixel, parameters
    plain: bool = True  # as its preset is today, on weights of its own
    floor: bool = False  # takes nothing from PAN


def named_apart(rows: Sequence[Row]) -> list[str]:
    """The label of every row, with its variant where another row has the same label."""
    labels = Counter(row.label for row in rows)
    return [f"{r.label} ({r.variant})" if labels[r.label] > 1 and r.variant else r.label for r in rows]


@dataclass(frozen=True)
class Table:
    """What the renderers draw."""

    name: str
    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    starts_from: str = "PAN"  # what a method sees that sees no more than the source

    def selection(self) -> Table:
        """One row a method, where the whole table has several: as its preset is today and on weights of its own. A
        method with no such row keeps all of them."""
        kept = [r for r in self.rows if r.plain]
        found = {r.label for r in kept if r.source == "measured"}
        return replace(self, rows=[r for r in self.rows if r.plain or r.label not in found])

    def marks(self) -> dict[tuple[int, Column], str]:
        """``best`` and ``second`` of every column among the measured rows of each ranked group."""
        found = {}
        ranked = [i for i, r in enumerate(self.rows) if r.ranked and r.source == "measured"]
        for group in dict.fromkeys(self.rows[i].group for i in ranked):
            members = [i for i in ranked if self.rows[i].group == group]
            for column in self.columns:
                scored = [
                    (self.rows[i].cells[column].mean, i)
                    for i in members
                    if column in self.rows[i].cells and math.isfinite(self.rows[i].cells[column].mean)
                ]
                ranks = sorted({v for v, _ in scored}, reverse=column.better == "high")[:2]
                for value, i in scored:
                    if len(scored) > 1 and value in ranks:
                        found[i, column] = ("best", "second")[ranks.index(value)]
        return found
