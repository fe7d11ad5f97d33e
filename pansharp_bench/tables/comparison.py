"""Two rows of a table, image by image: does one beat the other, by how much, and is that more than chance?"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pansharp_bench.errors import BenchError
from pansharp_bench.record import blocks_of
from pansharp_bench.tables.formatting import format_value
from pansharp_bench.tables.measured import FEWEST, bootstrap_interval
from pansharp_bench.tables.model import Column, Row, Table

_LEVEL = 0.05


@dataclass(frozen=True)
class PairedComparison:
    """A and B by one column. ``difference`` is the mean of A - B over images, with its 95 % bootstrap interval;
    ``wins`` counts the images on which A is better. Images that overlap, as a record's blocks tell, would be far
    too sure: whole blocks are drawn, and their means counted and tested (``unit`` names them, of which there are
    ``units``).

    ``p``: Wilcoxon's signed-rank test, two-sided. ``effect``: matched-pairs rank-biserial correlation (Kerby 2014),
    from -1, B better throughout, to 1, A better throughout. Of several seeds an image's score is the mean;
    ``between_seeds`` is the deviation of A's and B's means over them, NaN for one seed. ``missing``: images without
    a score of A or B, which are left out.
    """

    column: Column
    names: tuple[str, str]
    means: tuple[float, float]
    images: int
    unit: str
    units: int
    missing: int
    difference: float
    interval: tuple[float, float]
    wins: int
    ties: int
    losses: int
    p: float
    effect: float
    seeds: tuple[int, int]
    between_seeds: tuple[float, float]

    @property
    def sentence(self) -> str:
        """What the numbers say."""
        digits, label = self.column.digits, self.column.label
        first, second = self.names
        gain = self.difference if self.column.better == "high" else -self.difference
        winner, loser = (first, second) if gain > 0 else (second, first)
        wins, losses = (self.wins, self.losses) if gain > 0 else (self.losses, self.wins)
        low, high = sorted(abs(x) for x in self.interval)
        apart = format_value(abs(self.difference), digits)
        test = f"Wilcoxon p {self.p_text}, rank-biserial effect {abs(self.effect):.2f} of 1"
        counts = f"better on {wins} of {self.units} {self.unit}, worse on {losses}"
        if self.p >= _LEVEL or gain * self.effect <= 0:
            between = " to ".join(format_value(x, digits) for x in self.interval)
            return (
                f"No difference in {label} between {first} and {second} is shown on these {self.units} "
                f"{self.unit}: the mean difference is {format_value(self.difference, digits)} "
                f"(95 % interval {between}; {test})."
            )
        if self.interval[0] <= 0 <= self.interval[1]:
            low = 0.0
        return (
            f"{winner} is better than {loser} in {label} by {apart} on average (95 % interval "
            f"{format_value(low, digits)} to {format_value(high, digits)}), {counts} ({test})."
        )

    @property
    def p_text(self) -> str:
        """As a reader takes it: no more digits than it has meaning."""
        return "< 0.0001" if self.p < 1e-4 else f"= {self.p:.2g}"


def find_row(table: Table, name: str) -> Row:
    """The measured row of a method's name, ``NAME:PRESET``, or the hash of a record of it, as tables show it.

    A method of several rows is meant as its presets are today. Raises BenchError where no row is meant, or several.
    """
    measured = [r for r in table.rows if r.source == "measured"]
    if re.fullmatch("[0-9a-f]{6,64}", name):
        found = [r for r in measured if any(x.spec_sha256.startswith(name) for x in r.records)]
    else:
        method, _, preset = name.partition(":")
        found = [r for r in measured if r.method["name"] == method and preset in ("", r.preset)]
        found = [r for r in found if r.plain] or found
    if not found:
        known = ", ".join(sorted({r.method["name"] for r in measured}))
        raise BenchError(
            f"{table.name} has no row {name!r}; there are: {known}, and the hashes of their records"
        )
    if len(found) > 1:
        which = "; ".join(f"{r.records[0].spec_sha256[:8]} ({r.variant or 'no options'})" for r in found)
        raise BenchError(f"{name!r} is several rows of {table.name}; name one by its record: {which}")
    return found[0]


def compare(table: Table, first: Row, second: Row, metric: str = "") -> list[PairedComparison]:
    """Two rows of a table by every column that scores images, or by one, given by name or label.

    Images of one scene resemble each other, so that they are worth less than as many scenes: an interval over them
    says nothing of another scene. Raises BenchError for an unknown column, and for fewer than 6 images (or blocks
    of such as overlap) with scores of both rows, where no test can tell anything.
    """
    columns = [c for c in table.columns if metric in ("", c.name, c.label)]
    if not columns:
        known = ", ".join(c.label for c in table.columns)
        raise BenchError(f"{table.name} has no column {metric!r}; there are: {known}")
    made, counts = [], []
    for column in columns:
        scores = [_per_image(row, column) for row in (first, second)]
        if len({len(s) for s in scores}) > 1:
            continue  # one has no such score
        both = np.isfinite(np.stack(scores)).all(axis=0)
        told = blocks_of((r for row in table.rows for r in row.records), column.protocol)
        unit, of_image = ("blocks", told) if len(told) == len(both) else ("images", range(len(both)))
        blocks = np.array(of_image)[both]
        counts.append((len(np.unique(blocks)), unit))
        if counts[-1][0] >= FEWEST:
            made.append(_comparison(column, (first, second), scores, both, unit, blocks))
    if not made:
        most, unit = max(counts, default=(0, "images"))
        raise BenchError(
            f"{first.label} and {second.label} have {most} {unit} in common with scores by "
            f"{metric or 'any column'} in {table.name}; a comparison needs {FEWEST} at least"
        )
    return made


def _per_image(row: Row, column: Column) -> np.ndarray:
    runs = [r.scores(column.protocol, column.name) for r in row.records]
    return np.mean([r for r in runs if r] or [[]], axis=0)


def _comparison(
    column: Column,
    rows: tuple[Row, Row],
    scores: Sequence[np.ndarray],
    both: np.ndarray,
    unit: str,
    blocks: np.ndarray,
) -> PairedComparison:
    from scipy.stats import rankdata, wilcoxon

    a, b = (s[both] for s in scores)
    difference = a - b
    of_block = np.unique(blocks, return_inverse=True)[1]
    apart = np.bincount(of_block, difference) / np.bincount(of_block)
    gain = apart if column.better == "high" else -apart
    nonzero = gain[gain != 0]
    ranks = rankdata(abs(nonzero))
    effect = float((ranks * np.sign(nonzero)).sum() / ranks.sum()) if len(nonzero) else 0.0
    cells = [row.cells[column] for row in rows]
    labels = [row.label for row in rows]
    if labels[0] == labels[1]:
        labels = [f"{row.label} ({row.variant})" for row in rows]
    return PairedComparison(
        column,
        (labels[0], labels[1]),
        (float(a.mean()), float(b.mean())),
        len(difference),
        unit,
        len(gain),
        int((~both).sum()),
        float(difference.mean()),
        bootstrap_interval(difference, blocks=blocks),
        int((gain > 0).sum()),
        int((gain == 0).sum()),
        int((gain < 0).sum()),
        float(wilcoxon(nonzero).pvalue) if len(nonzero) else 1.0,
        effect,
        (cells[0].runs, cells[1].runs),
        (cells[0].between_runs, cells[1].between_runs),
    )


def comparison_facts(it: PairedComparison) -> dict[str, object]:
    """For JSON: what is not a number is None."""

    def plain(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "protocol": it.column.protocol,
        "metric": it.column.name,
        "better": it.column.better,
        "names": it.names,
        "means": it.means,
        "images": it.images,
        "unit": it.unit,
        "units": it.units,
        "missing": it.missing,
        "difference": it.difference,
        "ci95": it.interval,
        "wins": it.wins,
        "ties": it.ties,
        "losses": it.losses,
        "wilcoxon_p": it.p,
        "rank_biserial": it.effect,
        "seeds": it.seeds,
        "std_over_seeds": [plain(x) for x in it.between_seeds],
        "sentence": it.sentence,
    }
