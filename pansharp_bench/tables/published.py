"""Published rows: what papers print, from ``published.csv``, beside what is measured here."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources

from pansharp_bench.registry import METHODS, MethodCard
from pansharp_bench.tables.editions import Edition
from pansharp_bench.tables.model import Cell, Column, Row


@cache
def published_values() -> tuple[dict[str, str], ...]:
    """published.csv: method, year, dataset, protocol (RR, FR), metric, value, source."""
    text = resources.files("pansharp_bench").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(io.StringIO(text)))


def published_rows(
    edition: Edition, columns: list[Column], unregistered: bool, methods: Sequence[str] | None, source: str
) -> list[Row]:
    """Rows of published.csv on this sensor's public set.

    A row is the first source in the file that names the method; values marked there as wrong are left out.
    """
    if not edition.published:
        return []
    protocol_names = {p.name: p.published for p in edition.protocols if p.published}
    wanted = {(protocol_names.get(c.protocol), c.name): c for c in columns}
    names = {"Q4": "Q2n", "Q8": "Q2n"}
    cards = _cards_by_published_name()
    gathered: dict[str, dict[Column, Cell]] = defaultdict(dict)
    sources: dict[str, str] = {}
    for line in published_values():
        column = wanted.get((line["protocol"], names.get(line["metric"], line["metric"])))
        if line["dataset"] != edition.published or column is None:
            continue
        card = cards.get(_key(line["method"].partition(", ")[0]))  # "SP-I2I, L=6": a variant
        origin = line["source"].partition(" (column")[0]
        if "do not use" in origin:
            continue
        if not origin.startswith(source) or not (card or unregistered):
            continue
        if methods is not None and (card is None or card.name not in methods):
            continue
        if sources.setdefault(line["method"], origin) == origin:
            gathered[line["method"]].setdefault(column, Cell(float(line["value"])))
    title = f"Published on {' '.join(dict.fromkeys((edition.track.collection, edition.published)))}"
    title += "" if edition.own else " (other images: for orientation only)"
    rows, place = [], {}
    for method, cells in gathered.items():
        card = cards.get(_key(method.partition(", ")[0]))
        side = edition.track.groups.get(card.sees, "") if card else ""
        side = side and f", {side[0].lower()}{side[1:]}"
        seen = (card.sees, card.training) if card else ("", "")
        facts = asdict(card) if card else {}
        row = Row(title + side, method, *seen, sources[method], cells, source="published", method=facts)
        listed = methods.index(card.name) if methods is not None and card is not None else 0
        place[id(row)] = (side == "", "without" in side, listed)
        rows.append(row)
    return sorted(rows, key=lambda r: place[id(r)])


@cache
def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _cards_by_published_name() -> dict[str, MethodCard]:
    return {_key(x): e.card for e in METHODS for x in (e.name, e.card.label, e.card.published) if x}
