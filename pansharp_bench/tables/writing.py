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


_PLACE = re.compile(r"(<!-- leaderboard: (\S+) -->\n\n).*?(\n\n<!-- leaderboard ends -->)", re.DOTALL)


def refreshed(page: str, tables: Sequence[Table], called: str = "the page") -> str:
    """A Markdown page with the tables it shows made anew: what stands between ``<!-- leaderboard: NAME -->`` and
    ``<!-- leaderboard ends -->`` becomes the scores of that table, one row a method.

    Raises BenchError, which says what the page is ``called``, where it has no such place or one of no table.
    """
    known = {t.name: t for t in tables}

    def made(place: re.Match[str]) -> str:
        if place[2] not in known:
            raise BenchError(f"{called} shows table {place[2]!r}; there are: {', '.join(known) or 'none'}")
        return place[1] + to_brief_markdown(known[place[2]]) + place[3]

    page, places = _PLACE.subn(made, page)
    if not places:
        raise BenchError(
            f"{called} has no place for a table: <!-- leaderboard: NAME --> ... <!-- leaderboard ends -->"
        )
    return page
