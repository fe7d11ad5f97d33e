"""Tables as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pansharp_bench.files import write_text
from pansharp_bench.tables.csv import to_csv
from pansharp_bench.tables.latex import to_latex
from pansharp_bench.tables.markdown import to_markdown
from pansharp_bench.tables.model import Table

RENDERERS = {"md": to_markdown, "csv": to_csv, "tex": to_latex}


def write_tables(
    tables: list[Table], folder: Path, formats: Sequence[str] = ("md", "csv", "tex"), index: bool = True
) -> list[Path]:
    """Write every table in every format, and (with ``index``) a ``README.md`` of all the Markdown ones."""
    texts = {f"{t.name}.{kind}": RENDERERS[kind](t) for t in tables for kind in formats}
    if index and "md" in formats:
        head = "# Leaderboards\n\nGenerated from the records by `bench leaderboard`; do not edit.\n\n"
        texts["README.md"] = head + "\n".join(to_markdown(t) for t in tables)
    for name, text in texts.items():
        write_text(folder / name, text)  # a table half written would pass for a table
    return [folder / name for name in texts]
