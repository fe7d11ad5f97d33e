"""Consoles as they are: one that lacks a sign (latin-1, cp1252, gbk) gets a plain one in its place."""

from __future__ import annotations

import codecs
import sys

_PLAIN = {
    "↑": "^", "↓": "v", "→": "->", "–": "-", "—": "-", "−": "-", "·": "|", "…": "...", "×": "x", "±": "+-",
    "∞": "inf", "°": " deg", "²": "^2", "χ": "chi", "λ": "lambda", "µ": "u", "’": "'",
}  # fmt: skip


def _plainly(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # asked for by name, for writing alone
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error("plainly", _plainly)


def write_plainly() -> None:
    """Let what is printed from here on never fail for a sign that the console's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not where a program put something else in their place
            stream.reconfigure(errors="plainly")
