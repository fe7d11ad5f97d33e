"""Tables as CSV, for programs."""

from __future__ import annotations

import csv
import io
import math

from pansharp_bench.record import short_hash
from pansharp_bench.tables.model import Table


def to_csv(table: Table) -> str:
    """One line per row and column, full precision: made to be read by programs."""
    lines = [
        {
            "table": table.name,
            "source": row.source,
            "group": row.group,
            "method": row.label,
            "sees": row.sees,
            "training": row.training,
            "variant": row.variant,
            "protocol": column.protocol,
            "metric": column.label,
            "better": column.better,
            "mean": _number(cell.mean),
            "std_over_images": _number(cell.std),
            "images": cell.images or "",
            "runs": cell.runs if row.source == "measured" else "",
            "std_over_runs": _number(cell.between_runs),
            "ci95_low": _number(cell.interval[0]) if cell.interval else "",
            "ci95_high": _number(cell.interval[1]) if cell.interval else "",
            "records": " ".join(short_hash(r) for r in row.records),
            "paper": row.paper,
            "doi": row.doi,
        }
        for row in table.rows
        for column, cell in row.cells.items()
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)
