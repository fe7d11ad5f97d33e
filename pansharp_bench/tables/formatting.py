"""How a number and a column's heading are written, in every renderer alike."""

from __future__ import annotations

import math

from pansharp_bench.tables.model import Cell, Column, Row, Spread, Table

MISSING = "–"


def format_value(value: float, digits: int) -> str:
    """Fixed decimals; a missing value shows as such."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}f}"


def cell_text(cell: Cell | None, column: Column, spread: Spread = "") -> str:
    """The mean, with what is known of the spread asked for; empty without a cell."""
    if cell is None:
        return ""
    text = format_value(cell.mean, column.digits)
    if spread == "ci" and cell.interval and not math.isnan(cell.interval[0]):
        low, high = (format_value(x, column.digits) for x in cell.interval)
        return f"{text} [{low}, {high}]"
    deviation = {"std": cell.std, "seeds": cell.between_runs}.get(spread, math.nan)
    return text if math.isnan(deviation) else f"{text} ± {format_value(deviation, column.digits)}"


def heading(column: Column) -> str:
    """The column's label and which way is better."""
    return f"{column.label} {'↑' if column.better == 'high' else '↓'}"


def prefix(table: Table, column: Column) -> str:
    """What tells columns of several protocols in one table apart."""
    several = len({c.protocol for c in table.columns}) > 1
    return f"{column.prefix} " if several and column.prefix else ""


def cost_text(row: Row) -> tuple[str, str]:
    """Milliseconds per megapixel and parameters."""
    speed, parameters = row.cost
    return (
        "" if speed is None else f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}",
        "" if not parameters else f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters:,}",
    )
