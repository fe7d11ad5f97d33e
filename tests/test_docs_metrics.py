"""The glossary of metrics has every column, with the unit, direction and protocols of its card."""

import re
from pathlib import Path

import pytest

from pansharp_bench.registry import METRICS

PAGE = (Path(__file__).resolve().parents[1] / "docs/metrics.md").read_text()
ROWS = {
    row[0]: row[1:]
    for line in PAGE.splitlines()
    if re.match(r"\| `\w+`[^|]*\| `\w+` \|", line)
    for row in [[re.sub(r"^`(\w+)`.*", r"\1", cell.strip()) for cell in line.strip("|").split("|")]]
}
OWN = [e for e in METRICS if e.origin.startswith("pansharp_bench.metrics.")]
COLUMNS = [(entry, column) for entry in OWN for column in entry.card.columns]


@pytest.mark.parametrize(("entry", "column"), COLUMNS, ids=lambda x: x if isinstance(x, str) else x.name)
def test_every_column_is_in_the_glossary(entry, column):
    name, protocols, unit, _, good = ROWS[column]
    card = entry.card
    asked = (card.protocol,) if isinstance(card.protocol, str) else card.protocol
    assert name == entry.name and set(protocols.split(", ")) == set(asked)
    assert unit == (card.unit or "–") and good == {"high": "↑", "low": "↓"}[card.directions[column]]


def test_nothing_else_is_in_the_glossary():
    assert ROWS.keys() == {column for _, column in COLUMNS}
    assert all(entry.name in PAGE for entry in OWN)
