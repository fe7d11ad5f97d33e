"""The model of a table: columns, cells, rows, and which of them are best. What the renderers draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pansharp_bench.record import Record

Spread = Literal["", "std", "seeds", "ci"]


@dataclass(frozen=True)
class Column:
    """One quantity of one protocol. ``label`` is what the table prints (Q4 or Q8 for Q2n), ``prefix`` what
    tells it from another protocol's in one table. One that is not ``usual`` is shown where it is asked for."""

    protocol: str
    name: str
    label: str
    better: str
    digits: int = 4
    prefix: str = ""
    usual: bool = True


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
    timed_on: str = ""  # the machine of `bench speed` that its milliseconds are of
    plain: bool = True  # as its preset is today, on weights of its own
    floor: bool = False  # takes nothing from PAN
    method: Mapping[str, Any] = field(default_factory=dict)  # its card; empty where none is registered
    records: tuple[Record, ...] = ()  # one a seed, of which its scores are means

    @property
    def preset(self) -> str:
        """``untrained`` where nothing is learnt; empty for a published row."""
        return self.records[0].spec["preset"] if self.records else ""

    @property
    def paper(self) -> str:
        """Authors and title as its card has them; empty for a method of no paper."""
        paper = self.method.get("paper", "")
        return "" if paper.startswith("none") else paper

    @property
    def doi(self) -> str:
        """Of its paper, as an address."""
        doi = self.method.get("doi", "")
        return f"https://doi.org/{doi}" if doi else ""


@dataclass(frozen=True)
class Choice:
    """Which rows of a table are shown, and by what they are sorted.

    Without ``all_runs`` a method has the rows of its presets as they are today, on weights of its own. ``presets``
    chooses among those that learn, ``kinds`` by the card, ``max_parameters`` by what is known: a published row, of
    which no count is known, is not small. ``sort`` is a column, by name or label.
    """

    all_runs: bool = True
    presets: Sequence[str] = ()
    kinds: Sequence[str] = ()
    max_parameters: int | None = None
    published: bool = True
    sort: str = ""

    def keeps(self, row: Row) -> bool:
        """Whether a row is one of those asked for."""
        if row.source == "published" and (not self.published or self.max_parameters is not None):
            return False
        return (
            (not self.presets or row.preset in ("", "untrained", *self.presets))
            and (not self.kinds or row.method.get("kind") in self.kinds)
            and (self.max_parameters is None or (row.cost[1] or 0) <= self.max_parameters)
        )

    def chosen(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are shown."""
        return [r for r in (rows if self.all_runs else own_rows(rows)) if self.keeps(r)]


def own_rows(rows: Sequence[Row]) -> list[Row]:
    """Of every method the rows of its presets as they are today, on weights of its own; where it has none, all."""
    found = {r.label for r in rows if r.plain and r.source == "measured"}
    return [r for r in rows if r.plain or r.label not in found]


def timed_alike(rows: Sequence[Row]) -> tuple[str, list[Row]]:
    """The machine on which a table's milliseconds were measured, and the rows that have some."""
    timed = [r for r in rows if r.cost[0]]
    return (timed[0].timed_on if timed else ""), timed


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
    spread: Spread = ""  # what stands behind every mean
    records_at: str = ""  # the folder of records, from the file that shows the table; without it no links
    caption: str = ""
    label: str = ""
    floors: Mapping[Column, float] = field(default_factory=dict)  # what the target itself would score

    def selection(self) -> Table:
        """One row a method, where the whole table has several: :func:`own_rows`."""
        return replace(self, rows=own_rows(self.rows))

    def standing(self, row: Row, column: Column) -> float:
        """What a row is ranked by: its mean, or the column's floor, beyond which nothing is better; NaN without."""
        if column not in row.cells:
            return math.nan
        mean, floor = row.cells[column].mean, self.floors.get(column, math.nan)
        beyond = mean < floor if column.better == "low" else mean > floor
        return floor if beyond else mean

    def marks(self) -> dict[tuple[int, Column], str]:
        """``best`` and ``second`` of every column among the measured rows of each ranked group: by standing."""
        found = {}
        ranked = [i for i, r in enumerate(self.rows) if r.ranked and r.source == "measured"]
        for group in dict.fromkeys(self.rows[i].group for i in ranked):
            members = [i for i in ranked if self.rows[i].group == group]
            for column in self.columns:
                every = ((self.standing(self.rows[i], column), i) for i in members)
                scored = [(value, i) for value, i in every if math.isfinite(value)]
                ranks = sorted({v for v, _ in scored}, reverse=column.better == "high")[:2]
                for value, i in scored:
                    if len(scored) > 1 and value in ranks:
                        found[i, column] = ("best", "second")[ranks.index(value)]
        return found
