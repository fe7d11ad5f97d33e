"""Tables as files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pansharp_bench.errors import BenchError
from pansharp_bench.files import write_text
from pansharp_bench.tables.csv import to_csv
from pansharp_bench.tables.html import to_html
from pansharp_bench.tables.json import to_json
from pansharp_bench.tables.latex import to_latex
from pansharp_bench.tables.markdown import to_brief_markdown, to_markdown
from pansharp_bench.tables.model import Table

RENDERERS = {"md": to_markdown, "csv": to_csv, "tex": to_latex, "json": to_json, "html": to_html}


def write_tables(
    tables: list[Table],
    folder: Path,
    formats: Sequence[str] = ("md", "csv", "tex"),
    index: bool = True,
    results: Path | None = None,
) -> list[Path]:
    """Write every table in every format, and (with ``index``) a ``README.md`` of all the Markdown ones. Rows link
    to their records in ``results``, where that is given."""
    if results:
        tables = [replace(t, records_at=Path(os.path.relpath(results, folder)).as_posix()) for t in tables]
    texts = {f"{t.name}.{kind}": RENDERERS[kind](t) for t in tables for kind in formats}
    if index and "md" in formats:
        head = "# Leaderboards\n\nGenerated from the records by `bench leaderboard`; do not edit.\n\n"
        texts["README.md"] = head + "\n".join(texts[f"{t.name}.md"] for t in tables)
    for name, text in texts.items():
        write_text(folder / name, text)  # a table half written would pass for a table
    return [folder / name for name in texts]


def refreshed(page: str, tables: Sequence[Table], called: str = "the page") -> str:
    """A Markdown page with the leaderboards it shows made anew: what stands between ``<!-- leaderboard: NAME -->``
    and ``<!-- leaderboard ends -->`` becomes the scores of that table, one row a method.

    Raises BenchError, which says what the page is ``called``, where it has no such place or one of no table.
    """
    shown, known = _shown(page, "leaderboard"), {t.name: t.selection() for t in tables}
    if unknown := [name for name in shown if name not in known]:
        raise BenchError(f"{called} shows table {unknown[0]!r}; there are: {', '.join(known) or 'none'}")
    return _renewed(page, "leaderboard", known, called)


def reprinted(page: str, tables: Sequence[Table], called: str = "the page") -> str:
    """A Markdown page with tables of papers made anew: what stands between ``<!-- table: NAME -->`` and
    ``<!-- table ends -->``, if it is one of these; all rows.

    Raises BenchError where the page has no place for any of them.
    """
    return _renewed(page, "table", {t.name: t for t in tables}, called)


def _place(kind: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {kind}: (\S+) -->\n\n).*?(\n\n<!-- {kind} ends -->)", re.DOTALL)


def _shown(page: str, kind: str) -> list[str]:
    return [place[2] for place in _place(kind).finditer(page)]


def _renewed(page: str, kind: str, known: dict[str, Table], called: str) -> str:
    if not known.keys() & set(_shown(page, kind)):
        names = " or ".join(known) if kind == "table" else "NAME"
        raise BenchError(
            f"{called} has no place for a table: <!-- {kind}: {names} --> ... <!-- {kind} ends -->"
        )
    return _place(kind).sub(
        lambda place: (
            place[1] + to_brief_markdown(known[place[2]]) + place[3] if place[2] in known else place[0]
        ),
        page,
    )
