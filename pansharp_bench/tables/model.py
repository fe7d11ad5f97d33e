"""The model of a table: columns, cells, rows, and which of them are best. What the renderers draw."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class Table:
    """What the renderers draw."""

    name: str
    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    starts_from: str = "PAN"  # what a method sees that sees no more than the source

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
