"""Metrics under other settings than the usual ones: ``q2n:block=64``.

A metric's settings are its function's keyword arguments that have a number or a word as default. Under others it is
a metric of its own, whose columns say them (``Q2n [block=64]``): its values never stand in the usual one's column.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pansharp_bench.errors import BenchError
from pansharp_bench.presets import check_value, read_value
from pansharp_bench.registry import METRICS, Entry, MetricCard

_PLAIN = (bool, int, float, str)
_OF_SENSOR = {"peak", "ratio"}  # what a run takes from the sensor, whatever the function's default is


def settings_of(entry: Entry[MetricCard]) -> dict[str, Any]:
    """Name -> default of what may be set; empty for a metric of whole sets.

    >>> settings_of(METRICS.get("q2n"))
    {'block': 32}
    """
    return {k: v for k, v in entry.facts.get("settings", {}).items() if isinstance(v, _PLAIN)}


def shown_settings(entry: Entry[MetricCard]) -> dict[str, str]:
    """Name -> default in words."""
    return {k: "the sensor's" if k in _OF_SENSOR else str(v) for k, v in settings_of(entry).items()}


def asked_metrics(texts: Iterable[str]) -> dict[str, Entry[MetricCard]]:
    """What these ask for beyond the usual columns: ``NAME:SETTING=VALUE,…``, or the ``NAME`` of a metric that no
    table has unasked. By the text that stands in a specification, sorted; what is as usual is not among them.

    Raises BenchError (or UnknownName) for a metric, setting or value that there is not.

    >>> list(asked_metrics(["q2n:block=064", "q2n:block=32", "q2n"]))
    ['q2n:block=64']
    """
    usual = METRICS.names(default=True)
    found = dict(_asked(text) for text in texts)
    return {text: entry for text, entry in sorted(found.items()) if text not in usual}


def _asked(text: str) -> tuple[str, Entry[MetricCard]]:
    name, colon, rest = text.strip().partition(":")
    entry, given = METRICS.get(name), {}
    for pair in rest.split(",") if colon else ():
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (key and equals and value):
            raise BenchError(f"metric {text!r} is not of the form NAME:SETTING=VALUE,…: {pair!r}")
        if key in given:
            raise BenchError(f"metric {text!r} gives {key} twice")
        given[key] = value
    apart = {k: v for k, v in _typed(entry, given).items() if k in _OF_SENSOR or v != settings_of(entry)[k]}
    told = [f"{k}={str(v).removesuffix('.0')}" for k, v in sorted(apart.items())]
    if not told:
        return name, entry
    columns = tuple(f"{column} [{' '.join(told)}]" for column in entry.card.columns)
    card = replace(entry.card, columns=columns, blockwise=None)
    return f"{name}:{','.join(told)}", replace(entry, card=card, obj=_bound(entry.obj, apart))


def _typed(entry: Entry[MetricCard], given: Mapping[str, str]) -> dict[str, Any]:
    known, hints = settings_of(entry), get_type_hints(entry.obj)
    if unknown := [k for k in given if k not in known]:
        there = ", ".join(f"{k} ({v})" for k, v in shown_settings(entry).items())
        raise BenchError(
            f"metric {entry.name!r} has no setting {', '.join(unknown)}; "
            + (f"there are, with their defaults: {there}" if there else "it has none")
        )
    values = {}
    for key, text in given.items():
        what = f"metric {entry.name!r}: {key}"
        like = float(known[key]) if hints.get(key) is float else known[key]
        values[key] = read_value(what, text, like)
        kind = hints.get(key)
        check_value(what, values[key], get_args(kind) if get_origin(kind) is Literal else ())
    return values


def _bound(function: Callable[..., Any], settings: Mapping[str, Any]) -> Callable[..., Any]:
    """The function with these settings, which it then no longer asks for."""
    bound, signature = partial(function, **settings), inspect.signature(function)
    rest = [p for p in signature.parameters.values() if p.name not in settings]
    bound.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
    return bound
