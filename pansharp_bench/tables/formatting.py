"""How a number and a column's heading are written, in every renderer alike."""

from __future__ import annotations

import math

from pansharp_bench.tables.model import Cell, Column, Table

MISSING = "–"


def format_value(value: float, digits: int) -> str:
    """Fixed decimals; a missing value shows as such."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}f}"


def cell_text(cell: Cell | None, column: Column) -> str:
    """The mean, with its interval where there is one; empty without a cell."""
    if cell is None:
        return ""
    text = format_value(cell.mean, column.digits)
    if cell.interval and not math.isnan(cell.interval[0]):
        low, high = (format_value(x, column.digits) for x in cell.interval)
        text += f" [{low}, {high}]"
    return text


def heading(column: Column) -> str:
    """The column's label and which way is better."""
    return f"{column.label} {'↑' if column.better == 'high' else '↓'}"


def prefix(table: Table, column: Column) -> str:
    """What tells columns of several protocols in one table apart."""
    several = len({c.protocol for c in table.columns}) > 1
    return f"{column.prefix} " if several and column.prefix else ""
