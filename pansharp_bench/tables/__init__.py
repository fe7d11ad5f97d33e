"""Tables derived from records, never typed: Markdown, CSV and LaTeX, one per dataset and protocol.

Rows are grouped as the field's papers do: with co-registration (the method sees PAN and registered MS) and
without, those that look at the scene's own MS pixels apart. In each group the best value is bold, the second
best underlined. Published numbers stand in blocks of their own. A mean over a missing (NaN) score is missing;
it is never a mean over the rest.
"""

from pansharp_bench.tables.assembly import tables
from pansharp_bench.tables.comparison import PairedComparison, compare, comparison_facts, find_row
from pansharp_bench.tables.csv import to_csv
from pansharp_bench.tables.editions import columns_of
from pansharp_bench.tables.formatting import MISSING
from pansharp_bench.tables.html import to_html
from pansharp_bench.tables.json import to_json, to_json_list
from pansharp_bench.tables.latex import to_latex
from pansharp_bench.tables.markdown import to_markdown
from pansharp_bench.tables.measured import FEWEST, bootstrap_interval
from pansharp_bench.tables.model import Cell, Choice, Column, Row, Table, named_apart, timed_alike
from pansharp_bench.tables.published import published_values
from pansharp_bench.tables.ranks import critical_difference, rank_tables
from pansharp_bench.tables.remarks import Remark, read_remarks
from pansharp_bench.tables.terminal import run_table
from pansharp_bench.tables.writing import RENDERERS, refreshed, reprinted, write_tables

__all__ = [
    "FEWEST",
    "MISSING",
    "RENDERERS",
    "Cell",
    "Choice",
    "Column",
    "PairedComparison",
    "Remark",
    "Row",
    "Table",
    "bootstrap_interval",
    "columns_of",
    "compare",
    "comparison_facts",
    "critical_difference",
    "find_row",
    "named_apart",
    "published_values",
    "rank_tables",
    "read_remarks",
    "refreshed",
    "reprinted",
    "run_table",
    "tables",
    "timed_alike",
    "to_csv",
    "to_html",
    "to_json",
    "to_json_list",
    "to_latex",
    "to_markdown",
    "write_tables",
]
