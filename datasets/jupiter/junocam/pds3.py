"""Labels of PDS3 products: statements KEY = VALUE in the Object Description Language.

Line ends mean nothing to it, so a value may stand below its key, and a key whose value is left out is told by the
next ``=``; what stands in quotes is text, whatever it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pansharp_bench.errors import DataError

_TOKEN = re.compile(
    r"""(?P<blank>\s+|/\*.*?\*/)
      | (?P<text>"[^"]*"|'[^']*')
      | (?P<unit><[^>]*>)
      | (?P<sign>[=(){},])
      | (?P<word>(?:(?!/\*)[^\s=(){},"'<>])+)""",
    re.VERBOSE | re.DOTALL,
)
_CLOSING = ("END_OBJECT", "END_GROUP")
Token = tuple[str, str]  # which of the kinds above, and what stands there


def parse(text: str, path: Path) -> dict[str, Any]:
    """Keys of a label and of its object IMAGE; of one that is repeated the first stands.

    A value is a text, followed by its unit if it has one, or a list of such; "" where none is given. ``path`` is
    for messages. Raises DataError where the text is no label, has no END or cannot be read.

    >>> parse('PDS_VERSION_ID = PDS3 INTERFRAME_DELAY = 0.371 <s> FILTER_NAME = ("BLUE", "RED") END', Path("a.LBL"))
    {'PDS_VERSION_ID': 'PDS3', 'INTERFRAME_DELAY': '0.371 <s>', 'FILTER_NAME': ['BLUE', 'RED']}
    """
    if "PDS_VERSION_ID" not in text:
        raise DataError(f"{path} is not a PDS3 label: it has no PDS_VERSION_ID")
    tokens: list[Token] = []
    for token in _tokens(text, path):
        if token == ("word", "END"):
            break
        tokens.append(token)
    else:
        raise DataError(f"{path} is no whole label: it has no END")
    keys: dict[str, Any] = {}
    within: list[Any] = []
    at = 0
    while at < len(tokens):
        kind, key = tokens[at]
        at += 1
        given = tokens[at : at + 1] == [("sign", "=")]
        if kind != "word" or not (given or key in _CLOSING):
            raise DataError(f"{path}: the label cannot be read at {key!r}")
        value, at = _value(tokens, at + 1, path) if given else ("", at)
        if key in _CLOSING:
            within = within[:-1]
        elif key in ("OBJECT", "GROUP"):
            within.append(value)
        elif within in ([], ["IMAGE"]):
            keys.setdefault(key, value)
    return keys


def _tokens(text: str, path: Path) -> Iterator[Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            line = text.count("\n", 0, at)
            raise DataError(
                f"{path}: the label cannot be read from line {line + 1}: {text.split(chr(10))[line].strip()!r:.80}"
            )
        at = found.end()
        if found.lastgroup != "blank":
            yield str(found.lastgroup), found.group()


def _value(tokens: list[Token], at: int, path: Path) -> tuple[str | list[str], int]:
    """The value that begins at a token, and where the next statement does."""
    kind, word = tokens[at] if at < len(tokens) else ("", "")
    if kind == "sign" and word in ("(", "{"):
        items: list[str] = []
        depth = 0
        for i, (kind, word) in enumerate(tokens[at:], at):
            if kind == "sign":
                depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(word, 0)
                if word == "=":
                    break
                if not depth:
                    return items, i + 1
            elif kind == "unit" and items:
                items[-1] += f" {word}"
            else:
                items.append(_plain(word))
        raise DataError(f"{path}: the label cannot be read: a list is not closed")
    statement = kind == "word" and (word in _CLOSING or tokens[at + 1 : at + 2] == [("sign", "=")])
    if kind not in ("word", "text") or statement:
        return "", at
    unit = [word for kind, word in tokens[at + 1 : at + 2] if kind == "unit"]
    return " ".join([_plain(word), *unit]), at + 1 + len(unit)


def _plain(word: str) -> str:
    return " ".join(word.strip("\"'").split())
