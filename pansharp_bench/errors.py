"""Errors a user can mend: the message names the thing and the mend, and the command line exits with 2."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ENGINE = str(Path(__file__).parent)
_LIBRARY = ("<", str(Path(traceback.__file__).parent))  # frozen modules, and Python's own


class BenchError(Exception):
    """A mistake outside the program: wrong name, missing file, bad data. The message is the whole report."""


class UnknownName(BenchError, KeyError):
    """A name no registry holds. The message lists the nearest known names."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class OptionError(BenchError, ValueError):
    """An option whose value does not fit the images at hand: says which, and what would."""


class ImageError(BenchError, ValueError):
    """What cannot be images, or images that do not belong together: says what was found and expected."""


class DataError(BenchError, ValueError):
    """A data file or folder that cannot be used: says which file and key, what was found and expected."""


class RecordExists(BenchError, FileExistsError):
    """A record of the same specification is already on disk and would be overwritten."""


class UnderWay(BenchError):
    """Another process holds what is wanted, and will let go of it."""


def interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """The Ctrl-C that an error stands for: libraries that are interrupted in their import raise what they like."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error


@contextmanager
def blaming(
    what: str, kinds: type[BaseException] | tuple[type[BaseException], ...] = Exception
) -> Iterator[None]:
    """Around code that plugs in: what it raises becomes one BenchError that says ``what`` was under way, the error
    and the line of the code that plugged in (of libraries it called, the line that called them)."""
    try:
        yield
    except BenchError:
        raise
    except kinds as error:
        if stop := interruption(error):
            raise stop from None
        frames = traceback.extract_tb(error.__traceback__)[1:]
        own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(_LIBRARY)]
        own = [f for f in own if not f.filename.startswith(_ENGINE)] or own
        told = not own or isinstance(error, SyntaxError)  # which says where itself
        at = "" if told else f" ({Path(own[-1].filename).name}, line {own[-1].lineno})"
        raise BenchError(f"{what}: {type(error).__name__}: {error}{at}") from error


def first_line(error: BaseException) -> str:
    """What a library says of its failure, or of what caused it, in a line."""
    said = str(error.__cause__ or error)
    return said.splitlines()[0] if said else type(error).__name__
