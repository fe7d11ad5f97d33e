"""Numbers on the command line: finite ones, as NaN passes every range and an infinity every other bound."""

from __future__ import annotations

import math
from typing import Any

import click


class _Finite(click.ParamType):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class Finite(_Finite, click.types.FloatParamType):
    """A finite number: the type of every option that takes one."""


class FiniteRange(_Finite, click.FloatRange):
    """A finite number within bounds."""
