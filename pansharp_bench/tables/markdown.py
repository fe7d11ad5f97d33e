"""Tables as GitHub Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tabulate import tabulate

from pansharp_bench.record import short_hash
from pansharp_bench.tables.formatting import cell_text, cost_text, heading, prefix
from pansharp_bench.tables.model import Row, Table, named_apart

_SEES = {"pan+ms": "PAN + MS", "pan+bag": "PAN + MS pixels"}


def to_markdown(table: Table) -> str:
    """GitHub Markdown; groups as bold lines of their own."""
    labels = [f"*{r.label}*" if r.source == "published" else r.label for r in table.rows]
    about = [
        (
            _SEES.get(r.sees, r.sees.replace("pan", table.starts_from).replace("+", " + ")),
            r.training,
            "published" if r.source == "published" else r.variant,
        )
        for r in table.rows
    ]
    further = [(*cost_text(r), _records(r, table), _paper(r, table)) for r in table.rows]
    text = _grid(
        table,
        labels,
        ("Sees", "Training", "Variant"),
        about,
        ("ms/MP", "Params", "Record", "Paper"),
        further,
    )
    if table.records_at:
        text = _narrow(text)
    title = table.caption or table.title
    notes = "".join(f"- {n}\n" for n in table.notes)
    return f"## {title}\n\n{text}\n\n**best**, <u>second best</u> of each group.\n\n{notes}"


def _records(row: Row, table: Table) -> str:
    """The hashes of its records, each a link where it is known how the file is reached."""
    paths = [(short_hash(r), r.path(Path(table.records_at)).as_posix()) for r in row.records]
    return ", ".join(f"[{name}]({path})" if table.records_at else name for name, path in paths)


def _paper(row: Row, table: Table) -> str:
    """The year of its paper, a link with its title where the table is a page with links."""
    year = str(row.method.get("year") or "") if row.paper else ""
    if not (row.doi and table.records_at):
        return year
    quoted = row.paper.replace('"', "'")
    return f'[{year}]({row.doi} "{quoted}")'


def to_brief_markdown(chosen: Table) -> str:
    """The scores of its rows, for a page that shows a table among other things."""
    names = iter(named_apart([r for r in chosen.rows if r.source == "measured"]))
    labels = [f"*{r.label}*" if r.source == "published" else next(names) for r in chosen.rows]
    nothing: list[tuple[str, ...]] = [() for _ in labels]
    grid = _grid(chosen, labels, (), nothing, (), nothing)
    return _narrow(grid)


def _narrow(grid: str) -> str:
    """Without the width that only a reader of text needs."""
    return re.sub(r" {2,}", " ", re.sub(r"-{4,}", "---", grid))


def _grid(
    table: Table,
    labels: Sequence[str],
    before: Sequence[str],
    about: Iterable[Sequence[str]],
    after: Sequence[str],
    costs: Iterable[Sequence[str]],
) -> str:
    """Method, columns ``before`` the scores, scores, columns ``after`` them; groups as lines of their own."""
    marks = table.marks()
    headers = ["Method", *before, *(prefix(table, c) + heading(c) for c in table.columns), *after]
    body, group = [], None
    for i, (row, label, own, cost) in enumerate(zip(table.rows, labels, about, costs, strict=True)):
        if row.group != group:
            group = row.group
            body.append([f"**{group}**", *[""] * (len(headers) - 1)])
        values = []
        for column in table.columns:
            text = cell_text(row.cells.get(column), column, table.spread)
            mark = marks.get((i, column))
            values.append(f"**{text}**" if mark == "best" else f"<u>{text}</u>" if mark == "second" else text)
        body.append([label, *own, *values, *cost])
    body = [[cell.replace("|", "\\|") for cell in line] for line in body]
    return tabulate(body, headers, tablefmt="github", disable_numparse=True)
