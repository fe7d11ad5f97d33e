"""What a registered thing says of itself, as words and small tables: for the terminal and for pages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from pansharp_bench.presets import options_of
from pansharp_bench.registry import Card, DatasetCard, Entry, MethodCard, MetricCard, SensorCard
from pansharp_bench.scene import Sensor, as_sensor
from pansharp_bench.settings import shown_settings


def prose(entry: Entry[Any]) -> str:
    """Its documentation up to arguments and examples, where it has one of its own."""
    said = entry.facts["doc"]
    for end in ("\nArgs:", "\nReturns:", "\nRaises:", "\n>>>"):
        said = said.partition(end)[0]
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", said).strip() or entry.card.summary


def facts(card: Card) -> Iterator[tuple[str, str]]:
    """What a card says beyond name, title, summary and what :func:`details` shows."""
    elsewhere = {"name", "title", "summary", "columns", "better", "order", "digits", "blockwise"}
    for field in fields(card):
        value = getattr(card, field.name)
        usual = isinstance(value, bool) and value == field.default
        if field.name not in elsewhere and not usual and value not in ("", None, ()):
            yield field.name.replace("_", " "), text(value)


def details(entry: Entry[Any]) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Tables for what is of no fixed length: options and presets, columns, bands, settings."""
    card = entry.card
    if isinstance(card, MetricCard):
        ways = {"high": "higher is better", "low": "lower is better"}
        yield ["column", "", "decimals"], [[c, ways[b], str(card.digits)] for c, b in card.directions.items()]
    if isinstance(card, MethodCard) and (own := options_of(entry)):
        presets = {name: own.settle(name) for name in own.presets}
        rows = [[k, *(text(given[k]) for given in presets.values())] for k in own.usual]
        yield ["option", *presets], rows
    elif isinstance(card, MetricCard):
        if rows := [list(pair) for pair in shown_settings(entry).items()]:
            yield ["setting", "default"], rows
    elif settings := entry.facts.get("settings"):
        yield ["setting", "default"], [[name, text(value)] for name, value in settings.items()]
    if isinstance(card, SensorCard):
        yield _bands(entry.obj)
    elif isinstance(card, DatasetCard) and card.sensor:
        yield _bands(as_sensor(card.sensor))


def _bands(sensor: Sensor) -> tuple[list[str], list[list[str]]]:
    about = f"{sensor.title}: 0 to {sensor.peak:g}, ratio {sensor.ratio}"
    source = ((f"{b}, of the source", sensor.mtf_pan) for b in sensor.source)
    gains = [*zip(sensor.bands, sensor.mtf, strict=True), *source]
    return [about, "MTF gain"], [[band, f"{gain:g}"] for band, gain in gains]


def text(value: object) -> str:
    """A value in one line; a dash for none."""
    if isinstance(value, (tuple, list)):
        return ", ".join(map(str, value))
    return "–" if value in (None, "") else str(value)
