"""Tables as JSON, for programs that want them whole."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from pansharp_bench.record import short_hash
from pansharp_bench.tables.model import Cell, Column, Row, Table


def to_json(table: Table) -> str:
    """One object: columns, rows with scores by protocol and metric, notes. What is missing is null."""
    return _text(_plain(table))


def to_json_list(tables: Iterable[Table]) -> str:
    """Several tables as one list."""
    return _text([_plain(t) for t in tables])


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(table: Table) -> dict[str, Any]:
    marks = table.marks()
    columns = [
        {"protocol": c.protocol, "metric": c.name, "label": c.label, "better": c.better}
        for c in table.columns
    ]
    rows = [
        _row(row, {c: marks[i, c] for c in table.columns if (i, c) in marks})
        for i, row in enumerate(table.rows)
    ]
    title = table.caption or table.title
    return {"name": table.name, "title": title, "columns": columns, "rows": rows, "notes": table.notes}


def _row(row: Row, marks: dict[Column, str]) -> dict[str, Any]:
    scores: dict[str, dict[str, Any]] = {}
    for column, cell in row.cells.items():
        scores.setdefault(column.protocol, {})[column.name] = _cell(cell) | {"mark": marks.get(column)}
    speed, parameters = row.cost
    return {
        "source": row.source,
        "group": row.group,
        "method": row.method.get("name"),
        "label": row.label,
        "sees": row.sees,
        "training": row.training,
        "preset": row.preset,
        "variant": row.variant,
        "ranked": row.ranked,
        "scores": scores,
        "milliseconds_per_megapixel": speed,
        "parameters": parameters,
        "records": [short_hash(r) for r in row.records],
        "paper": row.paper,
        "doi": row.doi,
    }


def _cell(cell: Cell) -> dict[str, Any]:
    interval = cell.interval and [_number(x) for x in cell.interval]
    return {
        "mean": _number(cell.mean),
        "std_over_images": _number(cell.std),
        "images": cell.images or None,
        "runs": cell.runs,
        "std_over_runs": _number(cell.between_runs),
        "ci95": interval,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
