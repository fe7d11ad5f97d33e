"""Tables as LaTeX, for papers."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

from pansharp_bench.record import short_hash
from pansharp_bench.tables.formatting import cell_text, prefix
from pansharp_bench.tables.model import Row, Table

_LATEX = r"""% {{ table.title }} (needs booktabs and threeparttable)
\begin{table}
\centering
\begin{threeparttable}
\caption{ {{- (table.caption or table.title) | tex -}} }
\label{ {{- table.label or "tab:" + table.name -}} }
\begin{tabular}{l{{ "c" * table.columns | length }}}
\toprule
{{ heading }} \\
{% for group, lines in groups -%}
\midrule
\multicolumn{ {{- table.columns | length + 1 -}} }{l}{\textit{ {{- group | tex -}} }} \\
{% for line in lines -%}
{{ line }}
{% endfor -%}
{% endfor -%}
\bottomrule
\end{tabular}
{% if table.notes -%}
\begin{tablenotes}
\footnotesize
{% for note in table.notes -%}
\item {{ note | tex }}
{% endfor -%}
\end{tablenotes}
{% endif -%}
\end{threeparttable}
\end{table}
"""
_MARKED = {"best": r"\textbf{%s}", "second": r"\underline{%s}", None: "%s"}


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{",
        "}": r"\}", "^": r"\^{}", "~": r"\~{}", "∞": r"$\infty$", "–": "--", "λ": r"$\lambda$", "χ": r"$\chi$",
        "²": r"\textsuperscript{2}", "×": r"$\times$", "±": r"$\pm$", "…": r"\ldots{}", "`": "", "[": "{[}",
    }
)  # fmt: skip


def _tex(text: str) -> str:
    return text.translate(_TEX)


@cache
def _template() -> Any:
    from jinja2 import Environment

    environment = Environment(autoescape=False, keep_trailing_newline=True)
    environment.filters["tex"] = _tex
    return environment.from_string(_LATEX)


def to_latex(table: Table) -> str:
    """A table for a paper, in the layout of the SP-I2I paper's Tables 2 and 4; a remark behind every row names its
    records and its paper."""
    marks = table.marks()
    groups: dict[str, list[str]] = defaultdict(list)
    for i, row in enumerate(table.rows):
        label = f"{row.label} ({row.variant})" if row.variant and row.source == "measured" else row.label
        values = (cell_text(row.cells.get(c), c, table.spread) for c in table.columns)
        cells = [_MARKED[marks.get((i, c))] % _tex(v) for c, v in zip(table.columns, values, strict=True)]
        groups[row.group].append(" & ".join([_tex(label), *cells]) + rf" \\ {_source(row)}".rstrip())
    arrows = {"high": r"$\uparrow$", "low": r"$\downarrow$"}
    names = [_tex(prefix(table, c) + c.label) for c in table.columns]
    heading = " & ".join(
        ["Method", *(f"{n} {arrows[c.better]}" for n, c in zip(names, table.columns, strict=True))]
    )
    return _template().render(table=table, heading=heading, groups=groups.items())


def _source(row: Row) -> str:
    """A remark in the source: records, paper and where it is found."""
    records = " ".join(short_hash(r) for r in row.records)
    parts = [records and f"record {records}", row.paper, row.doi]
    return f"% {'; '.join(filter(None, parts))}" if any(parts) else ""
