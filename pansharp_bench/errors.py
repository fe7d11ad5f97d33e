"""Errors a user can mend: the message names the thing and the mend, and the command line exits with 2."""

from __future__ import annotations


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
