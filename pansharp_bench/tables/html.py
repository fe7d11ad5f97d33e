"""Tables as HTML: a page that stands alone."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from pansharp_bench.record import short_hash
from pansharp_bench.tables.formatting import cell_text, cost_text, heading, prefix
from pansharp_bench.tables.model import Table

_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
 :root { color-scheme: light dark; font: 15px/1.4 sans-serif }
 div { overflow-x: auto }
 table { border-collapse: collapse; border-block: 2px solid }
 caption { font-weight: bold; text-align: left; padding-block: .5em }
 th, td { padding: .15em .6em; text-align: right; white-space: nowrap }
 th:first-child, td:first-child { text-align: left }
 thead th, th[colspan] { border-block: 1px solid }
 th[scope=row] { font-weight: normal }
 .second { text-decoration: underline }
</style>
<div>
<table>
<caption>{{ title }}</caption>
<thead><tr>{% for name in headings %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for group, rows in groups -%}
<tr><th colspan="{{ headings | length }}">{{ group }}</th></tr>
{% for row in rows -%}
<tr><th scope="row">{% if row.published %}<i>{{ row.label }}</i>{% else %}{{ row.label }}{% endif %}</th>
{%- for text, mark in row.cells -%}
<td{% if mark == "second" %} class="second"{% endif %}>
{%- if mark == "best" %}<b>{{ text }}</b>{% else %}{{ text }}{% endif %}</td>
{%- endfor -%}
{%- for text in row.cost %}<td>{{ text }}</td>{% endfor -%}
<td>{% for name, path in row.records %}{{ ", " if not loop.first }}
{%- if path %}<a href="{{ path }}">{{ name }}</a>{% else %}{{ name }}{% endif %}{% endfor %}</td>
<td>{% if row.doi %}<a href="{{ row.doi }}" title="{{ row.paper }}">{{ row.year }}</a>
{%- else %}<span title="{{ row.paper }}">{{ row.year }}</span>{% endif %}</td></tr>
{% endfor -%}
{% endfor -%}
</tbody>
</table>
</div>
<p><b>best</b>, <span class="second">second best</span> of each group.</p>
<ul>
{% for note in notes -%}
<li>{{ note | coded | safe }}</li>
{% endfor -%}
</ul>
</html>
"""


@cache
def _template() -> Any:
    from jinja2 import Environment

    made = Environment(autoescape=True, keep_trailing_newline=True)
    made.filters["coded"] = coded
    return made.from_string(_HTML)


def coded(text: str) -> str:
    """As HTML, what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def to_html(table: Table) -> str:
    """A page of one table; rows link to their papers and, where they can be reached, their records."""
    marks = table.marks()
    groups: dict[str, list[dict[str, Any]]] = {}
    for i, row in enumerate(table.rows):
        shown = f"{row.label} ({row.variant})" if row.variant and row.source == "measured" else row.label
        at = Path(table.records_at)
        groups.setdefault(row.group, []).append(
            {
                "label": shown,
                "published": row.source == "published",
                "cells": [
                    (cell_text(row.cells.get(c), c, table.spread), marks.get((i, c))) for c in table.columns
                ],
                "cost": cost_text(row),
                "records": [
                    (short_hash(r), r.path(at).as_posix() if table.records_at else "") for r in row.records
                ],
                "paper": row.paper,
                "doi": row.doi,
                "year": (row.method.get("year") or "paper") if row.paper else "",
            }
        )
    columns = [prefix(table, c) + heading(c) for c in table.columns]
    return _template().render(
        title=table.caption or table.title,
        headings=["Method", *columns, "ms/MP", "Parameters", "Record", "Paper"],
        groups=groups.items(),
        notes=table.notes,
    )
