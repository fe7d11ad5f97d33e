"""The options of a method that learns, told without its class: what listings and tables of records need of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pansharp_bench.errors import BenchError
from pansharp_bench.registry import Entry, MethodCard

PRESETS = ("quick", "standard", "paper")


@dataclass(frozen=True)
class Options:
    """``usual``: every option at its class's default; ``presets``: what each preset changes; ``choices``: what an
    option may be that has few values; ``closed_form``: whether statistics are taken and no steps."""

    usual: Mapping[str, Any]
    presets: Mapping[str, Mapping[str, Any]]
    choices: Mapping[str, tuple[Any, ...]]
    closed_form: bool

    def settle(self, preset: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every option of a preset with ``options`` changed; strings are read as the option's type.

        Whether values fit together only the method's own class knows (``configure``). Raises BenchError on an
        unknown preset or option, a value of another type, one that is no finite number or not among the choices.
        """
        if preset not in self.presets:
            raise BenchError(f"unknown preset {preset!r}; known are: {', '.join(self.presets)}")
        settled = dict(self.usual)
        for what, given in ((f"preset {preset}: option", self.presets[preset]), ("option", options or {})):
            for name, value in given.items():
                if name not in self.usual:
                    known = ", ".join(sorted(self.usual))
                    raise BenchError(f"unknown {what} {name!r}; known are: {known}")
                like = self.usual[name] if settled[name] is None else settled[name]
                if isinstance(value, str) and not isinstance(like, str) and given is options:
                    value = read_value(f"{what} {name}", value, like)
                check_value(f"{what} {name}", value, self.choices.get(name, ()), like)
                same = given is options and isinstance(like, float) and isinstance(value, int)
                settled[name] = float(value) if same else value  # 1 and 1.0 are one run
        return settled


def read_value(what: str, text: str, like: Any) -> Any:
    """A command-line string as the type that ``like`` has. Raises BenchError, saying of ``what``."""
    try:
        if isinstance(like, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        if isinstance(like, (tuple, list)):
            each = like[0] if like else 0.0
            return type(like)(read_value(what, v, each) for v in text.split(",") if v)
        if like is None:
            return None if text.lower() == "none" else _number(text)
        return type(like)(text)
    except (KeyError, ValueError):
        kind = "number, or none" if like is None else type(like).__name__
        raise BenchError(f"{what}={text!r} is not of type {kind}") from None


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def check_value(what: str, value: Any, choices: Sequence[Any] = (), like: Any = None) -> None:
    """Raises BenchError, saying of ``what``, for a value that is no finite number, none of the choices, or of
    another type than ``like``."""
    if choices and value not in choices:
        raise BenchError(f"{what}={value!r} is unknown; known are: {', '.join(map(str, choices))}")
    if isinstance(value, float) and not math.isfinite(value):
        raise BenchError(f"{what}={value} is not a finite number")
    if value is not None and like is not None and not isinstance(value, _kinds(like)):
        raise BenchError(f"{what}={value!r} is not of type {type(like).__name__}")


def _kinds(like: Any) -> tuple[type, ...]:
    """The types whose values may stand where this one stands."""
    if isinstance(like, float):
        return (float, int)
    return (tuple, list) if isinstance(like, (tuple, list)) else (type(like),)


def options_of(entry: Entry[MethodCard]) -> Options | None:
    """What a method that learns can be told; None for a function."""
    told = entry.facts.get("options")
    return Options(**told) if told else None


def is_trained(entry: Entry[MethodCard]) -> bool:
    """Whether it is a class that learns, rather than a function."""
    return "options" in entry.facts


def takes_steps(entry: Entry[MethodCard]) -> bool:
    """Whether the method is trained step by step: minutes and more, where others take seconds."""
    options = options_of(entry)
    return options is not None and not options.closed_form


def settled_options(
    entry: Entry[MethodCard], preset: str, options: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Every option of a method that learns under a preset; None for a function. Raises BenchError."""
    if own := options_of(entry):
        try:
            return own.settle(preset, options)
        except BenchError as error:
            raise BenchError(f"method {entry.name!r}: {error}") from None
    if options:
        raise BenchError(f"method {entry.name!r} has no options (given: {', '.join(options)})")
    if preset not in PRESETS:
        raise BenchError(f"unknown preset {preset!r}; known are: {', '.join(PRESETS)}")
    return None
