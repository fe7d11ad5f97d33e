"""Measured rows: records of one specification, their scores averaged, ranked within what they see."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pansharp_bench.errors import BenchError
from pansharp_bench.presets import options_of
from pansharp_bench.record import Record, blocks_of, spec_hash
from pansharp_bench.registry import METHODS, Sees
from pansharp_bench.tables.editions import Edition
from pansharp_bench.tables.model import Cell, Column, Row
from pansharp_bench.timings import Speeds

FEWEST = 6  # images from which an interval or a test says anything: of five, no rank test can reach 0.05


def measured_rows(
    edition: Edition,
    columns: list[Column],
    intervals: bool,
    methods: Sequence[str] | None,
    varied: Sequence[str],
    sort: str = "",
    speeds: Speeds | None = None,
) -> list[Row]:
    """A row per specification; runs that differ in the seed alone are one row. Of a run that was made again because
    a metric came, changed or was asked for, the newest record counts that has a column. Sorted by the first column
    or that named ``sort``, or as ``methods`` or the records stand. ``speeds``: of the machine whose milliseconds
    are shown; those of the runs are not, as they had other company."""
    runs: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    codes: dict[str, set[str]] = defaultdict(set)
    for record in edition.records:
        spec = {k: v for k, v in record.spec.items() if k not in ("seed", "data", "source", "metrics")}
        trained_on = {
            f["split"]: f["sha256"] for f in record.dataset["files"] if f["split"] in ("train", "valid")
        }
        code = _code(record)
        codes[record.spec["method"]].add(code)
        draw = _plain_text([record.spec["seed"], record.spec.get("data")])
        runs[_plain_text([spec, trained_on, code])][draw].append(record)
    rows, place = [], {}
    blocks = {column: blocks_of(edition.records, column.protocol) for column in columns}
    for draws in runs.values():
        again = [sorted(made, key=lambda r: r.created, reverse=True) for made in draws.values()]
        members = [made[0] for made in again]
        first = members[0]
        card = first.method
        scores = {
            column: [
                next(filter(None, (r.scores(column.protocol, column.name) for r in made)), [])
                for made in again
            ]
            for column in columns
        }
        cells = {
            column: _cell(found, intervals, blocks[column]) for column, found in scores.items() if any(found)
        }
        # a translator that learnt from sharp MS; to a network that sees MS it is its own scale
        peeked = card["sees"] == "pan" and first.training.get("data", {}).get("target") == "gt"
        sees: Sees = "reference" if peeked else card["sees"]
        earlier = _redefined(first)
        row = Row(
            edition.track.groups[sees],
            card["title"] or card["name"],
            card["sees"],
            card["training"],
            _variant(first, len(members), varied, len(codes[card["name"]]) > 1, earlier),
            cells,
            ranked=sees != "reference" and card.get("kind") != "untouched",
            cost=(speeds.of(first) if speeds else None, first.weights.get("parameters")),
            timed_on=speeds.machine if speeds else "",
            plain=not (first.spec["changed"] or first.spec["weights"] or earlier),
            floor=card["name"] in METHODS and METHODS.get(card["name"]).card.floor,
            method=card,
            records=tuple(sorted(members, key=lambda r: r.spec["seed"])),
        )
        place[id(row)] = (methods or []).index(card["name"]) if methods else 0
        rows.append(row)
    lead = columns[0] if columns else None
    by = next((c for c in columns if sort in (c.name, c.label)), lead)
    groups = list(edition.track.groups.values())

    def order(row: Row) -> tuple:
        if (methods or varied) and not sort:
            return (groups.index(row.group), place[id(row)])
        value = row.cells[by].mean if by in row.cells else math.nan
        signed = -value if by and by.better == "high" else value
        return (groups.index(row.group), math.isnan(value), 0 if math.isnan(value) else signed, row.label)

    rows.sort(key=order)
    if lead and all(p.needs_gt for p in edition.protocols if p.name == lead.protocol):
        return [_marked(row, rows, lead) for row in rows]
    return rows


def _marked(row: Row, rows: list[Row], lead: Column) -> Row:
    """The row; one that was trained and is behind a floor that sees as much says so: it has not learnt to fuse."""
    if row.training == "none" or lead not in row.cells:
        return row
    sign, own = (1 if lead.better == "high" else -1), row.cells[lead].mean
    floors = (r for r in rows if r.floor and r.sees == row.sees and lead in r.cells)
    ahead = [r.label for r in floors if sign * r.cells[lead].mean > sign * own]
    return replace(row, variant=", ".join([row.variant, f"behind {ahead[0]}"])) if ahead else row


def _code(record: Record) -> str:
    """A hash of the plug-in its method came from; empty for the project's own."""
    source = record.spec.get("source", {}).get("method")
    return spec_hash(source)[:8] if source else ""


def _variant(record: Record, seeds: int, varied: Sequence[str], codes: bool, earlier: bool) -> str:
    """Preset (of that name today or ``earlier``), the options that differ from it (and the varied ones), foreign
    weights, which of several codes of one plug-in, number of seeds."""
    spec, parts = record.spec, []
    foreign = spec["weights"] and not record.weights.get("trained_here")
    if spec["preset"] != "untrained" and not foreign:
        named = [*varied, *(k for k in spec["changed"] if k not in varied)]
        preset = f"earlier {spec['preset']}" if earlier else spec["preset"]
        parts = [preset, *(f"{k}={spec['options'][k]}" for k in named if k in spec["options"])]
    if spec["weights"]:
        file = record.weights.get("file", "elsewhere") if foreign else "its own training"
        parts.append(f"weights from {file} ({spec['weights']['file_sha256'][:8]})")
    if codes:
        parts.append(f"code {_code(record) or 'of the project'}")
    if seeds > 1:
        parts.append(f"{seeds} seeds")
    return ", ".join(parts)


def _redefined(record: Record) -> bool:
    """Whether the preset that a record names has come to mean other options since it was made. Options that the
    record does not know count as their defaults."""
    spec = record.spec
    own = options_of(METHODS.get(spec["method"])) if spec["method"] in METHODS else None
    if own is None:
        return False
    changed = {k: spec["options"][k] for k in spec["changed"] if k in spec["options"]}
    try:
        now = own.settle(spec["preset"], changed)
    except BenchError:
        return True
    return _plain_text(now) != _plain_text({**own.usual, **spec["options"]})


def _plain_text(value: Any) -> str:
    """Equal values, read from records or kept of methods, give equal text: what ``canonical`` does of any value."""
    return json.dumps(value, sort_keys=True)


def _cell(runs: list[list[float]], intervals: bool, blocks: Sequence[int]) -> Cell:
    means = [sum(r) / len(r) for r in runs]
    mean = sum(means) / len(means)
    alike = len(set(map(len, runs))) == 1
    pooled = np.array(runs, dtype=float).mean(0) if alike else np.concatenate(runs)
    whole = math.isfinite(mean)
    std = float(pooled.std(ddof=1)) if len(pooled) > 1 and whole else math.nan
    between = float(np.array(means).std(ddof=1)) if len(means) > 1 and whole else math.nan
    of_image = blocks if len(blocks) == len(pooled) else range(len(pooled))
    interval = (
        bootstrap_interval(pooled, blocks=of_image) if intervals and len({*of_image}) >= FEWEST else None
    )
    return Cell(mean, std, len(pooled), interval, len(runs), between)


def bootstrap_interval(
    scores: Sequence[float] | np.ndarray,
    level: float = 0.95,
    draws: int = 10_000,
    blocks: Sequence[int] | np.ndarray | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over images; seeded. Whole ``blocks`` (N,) are drawn where images
    of one are not independent. NaN where a score is missing, or there is one block."""
    values = np.asarray(scores, dtype=float)
    of_block = np.unique(np.arange(len(values)) if blocks is None else blocks, return_inverse=True)[1]
    sums, counts = np.bincount(of_block, values), np.bincount(of_block)
    if len(sums) < 2 or not np.isfinite(values).all():
        return (math.nan, math.nan)
    index = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    means = sums[index].sum(1) / counts[index].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
