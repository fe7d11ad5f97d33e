"""Tables as GitHub Markdown."""

from __future__ import annotations

from tabulate import tabulate

from pansharp_bench.tables.formatting import cell_text, heading, prefix
from pansharp_bench.tables.model import Row, Table

_SEES = {"pan+ms": "PAN + MS", "pan+bag": "PAN + MS pixels", "reference": "reference"}


def to_markdown(table: Table) -> str:
    """GitHub Markdown; groups as bold lines of their own."""
    marks = table.marks()
    headers = [
        "Method",
        "Sees",
        "Training",
        "Variant",
        *(prefix(table, c) + heading(c) for c in table.columns),
        "ms/MP",
        "Params",
    ]
    body, group = [], None
    for i, row in enumerate(table.rows):
        if row.group != group:
            group = row.group
            body.append([f"**{group}**", *[""] * (len(headers) - 1)])
        values = []
        for column in table.columns:
            text = cell_text(row.cells.get(column), column)
            mark = marks.get((i, column))
            values.append(f"**{text}**" if mark == "best" else f"<u>{text}</u>" if mark == "second" else text)
        label = f"*{row.label}*" if row.source == "published" else row.label
        variant = "published" if row.source == "published" else row.variant
        body.append(
            [
                label,
                _SEES.get(row.sees, table.starts_from if row.sees else ""),
                row.training,
                variant,
                *values,
                *_cost(row),
            ]
        )
    body = [[cell.replace("|", "\\|") for cell in line] for line in body]
    text = tabulate(body, headers, tablefmt="github", disable_numparse=True)
    notes = "".join(f"- {n}\n" for n in table.notes)
    return f"## {table.title}\n\n{text}\n\n**best**, <u>second best</u> of each group.\n\n{notes}"


def _cost(row: Row) -> tuple[str, str]:
    speed, parameters = row.cost
    return (
        "" if speed is None else f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}",
        "" if not parameters else f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters:,}",
    )
