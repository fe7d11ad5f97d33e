"""Mean ranks over datasets, and how far apart two of them must be to tell methods apart.

Demšar: Statistical comparisons of classifiers over multiple data sets. JMLR 7, 2006. Friedman's test asks whether
the mean ranks differ at all, Nemenyi's critical difference which of them do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pansharp_bench.errors import BenchError
from pansharp_bench.tables.model import Cell, Column, Row, Table

_LEVEL = 0.05
_Key = tuple[str, str, str]  # group, label, preset


def rank_tables(tables: Sequence[Table], metric: str = "") -> list[Table]:
    """For every protocol that several datasets were scored under, the ranks of the methods in each dataset and
    their mean, by a metric (its column's name or label; the tables' first, if none is given).

    Ranks are within what methods see, of their presets as they are today, and among those that have a score in
    every dataset: where one is missing, so is the method's mean rank. Equal scores share a rank. Raises BenchError
    where no two datasets can be ranked.
    """
    by_protocol: dict[tuple[str, str], list[tuple[Table, Column]]] = {}
    for table in tables:
        column = next((c for c in table.columns if metric in ("", c.name, c.label)), None)
        if column:
            by_protocol.setdefault((column.protocol, column.name), []).append((table, column))
    ranked = [_ranked(found) for found in by_protocol.values() if len(found) > 1]
    if not ranked:
        asked = f" with a column {metric!r}" if metric else ""
        raise BenchError(
            f"ranks over datasets need two tables of one protocol{asked} at least; of "
            f"{', '.join(t.name for t in tables) or 'no table'} no two are"
        )
    return ranked


def _ranked(found: Sequence[tuple[Table, Column]]) -> Table:
    first, scored = found[0]
    of = {id(t): t.name.removesuffix(f"-{scored.protocol}") for t, _ in found}
    columns = {id(t): Column(scored.protocol, of[id(t)], of[id(t)], "low", 1) for t, _ in found}
    mean = Column(scored.protocol, "mean rank", "mean rank", "low", 2)
    rows: dict[_Key, Row] = {}
    scores: dict[_Key, dict[int, float]] = {}
    for table, column in found:
        for row in table.rows:
            if row.source != "measured" or not (row.ranked and row.plain):
                continue
            key = (row.group, row.label, row.preset)
            if id(table) in scores.setdefault(key, {}):
                raise BenchError(
                    f"{row.label} has several rows in {table.name}: ranks need one a method and preset"
                )
            rows.setdefault(key, row)
            scores[key][id(table)] = table.standing(row, column)
    notes, made = [], []
    for group in dict.fromkeys(key[0] for key in rows):
        members = [key for key in rows if key[0] == group]
        whole = [k for k in members if all(math.isfinite(scores[k].get(id(t), math.nan)) for t, _ in found)]
        ranks = _ranks([[scores[k][id(t)] for k in whole] for t, _ in found], scored.better)
        place = {k: ranks[:, i] for i, k in enumerate(whole)}
        means = {k: float(place[k].mean()) if k in place else math.nan for k in members}
        for key in sorted(members, key=lambda k: (k not in place, means[k] if k in place else 0, k)):
            cells = {}
            for i, (table, _) in enumerate(found):
                if key in place:
                    cells[columns[id(table)]] = Cell(float(place[key][i]))
                elif not math.isfinite(scores[key].get(id(table), math.nan)):
                    cells[columns[id(table)]] = Cell(math.nan)
            cells[mean] = Cell(means[key])
            made.append(_row(rows[key], cells))
        notes.append(f"{group}: {_verdict(ranks)}")
    absent = [row.label for row in made if math.isnan(row.cells[mean].mean)]
    if absent:
        notes.append(
            f"–: no score in that dataset, so no mean rank, and no part in the others' ranks: {', '.join(absent)}."
        )
    title = f"Ranks by {scored.label} over {len(found)} datasets, {scored.protocol}"
    return Table(
        name=f"ranks-{scored.protocol}-{scored.name}",
        title=title,
        columns=[*columns.values(), mean],
        rows=made,
        notes=notes,
        starts_from=first.starts_from,
    )


def _row(row: Row, cells: dict[Column, Cell]) -> Row:
    preset = row.preset if row.preset != "untrained" else ""
    return Row(row.group, row.label, row.sees, row.training, preset, cells, method=row.method)


def _ranks(scores: list[list[float]], better: str) -> np.ndarray:
    """(datasets, methods) ranks from 1, the best; ties share their mean."""
    from scipy.stats import rankdata

    values = np.array(scores, dtype=float).reshape(len(scores), -1)
    return rankdata(values if better == "low" else -values, axis=1)


def critical_difference(methods: int, datasets: int, level: float = _LEVEL) -> float:
    """Nemenyi's: mean ranks of this many methods over this many datasets that are further apart differ.

    >>> round(critical_difference(4, 14), 2)  # Demšar 2006, section 3.2.2
    1.25
    """
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - level, methods, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * datasets)))


def _verdict(ranks: np.ndarray) -> str:
    datasets, methods = ranks.shape
    if methods < 2:
        return "fewer than two methods have a score in every dataset; nothing to rank."
    least = critical_difference(methods, datasets)
    differ = f"mean ranks less than {least:.2f} apart do not differ (Nemenyi, {_LEVEL:g})"
    text = f"{methods} methods over {datasets} datasets; {differ}"
    if methods < 3:
        return f"{text}."
    from scipy.stats import friedmanchisquare

    _, p = friedmanchisquare(*ranks.T)
    verdict = "differ" if p < _LEVEL else "could all be equal"
    return f"{text}; by Friedman's test (p = {p:.2g}) the mean ranks {verdict}."
