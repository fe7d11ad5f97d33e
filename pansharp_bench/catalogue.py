"""Cards of what is shipped, kept between commands, so that a listing or a table imports no method and no torch.

Cards are what modules said when they were imported: any Python may make them, and no second list is kept by hand.
Read as text, decorators would not tell cards made in a loop, nor a method's presets. Importing torch later inside
functions helps sensors, protocols and datasets, and is done there; a network's class cannot be made without it.

A package's cards count while every file of the project and every folder of installed packages is what it was. The
first command after a change imports everything; so does each where the cache cannot be read or written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pansharp_bench.errors import BenchError
from pansharp_bench.files import cache_dir, stamp, write_text

_ENGINE = Path(__file__).parent


def fingerprint(folders: Iterable[str]) -> str:
    """Changes when a file of the engine or of these folders does, or what is installed."""
    digest = hashlib.sha256(sys.version.encode())
    for root in (str(_ENGINE), *folders):
        for folder, below, names in os.walk(root, followlinks=True):
            below[:] = sorted(name for name in below if name != "__pycache__")
            for path in (Path(folder, name) for name in sorted(names)):
                digest.update(f"{path}{stamp(path)}".encode())
    installed = (p for p in sys.path if p.endswith(("site-packages", "dist-packages")) and os.path.isdir(p))
    for folder in sorted(installed):  # an install or a removal changes the folder's time
        digest.update(f"{folder}{os.stat(folder).st_mtime_ns}".encode())
    return digest.hexdigest()


def read(package: str, key: str) -> Any:
    """What was kept of a package under this fingerprint; None where it is another, or not readable."""
    try:
        digest, _, text = _file(package).read_text(encoding="utf-8").partition("\n")
        made_by, kept = json.loads(text, object_hook=_with_tuples)
    except (BenchError, OSError, ValueError, TypeError):
        return None
    return kept if made_by == key and digest == hashlib.sha256(text.encode()).hexdigest() else None


def keep(package: str, key: str, cards: Any) -> None:
    """Keep these cards, unless they hold what JSON cannot, or the cache cannot be written."""
    with contextlib.suppress(BenchError, TypeError, ValueError):
        text = json.dumps([key, cards], allow_nan=False)
        write_text(_file(package), f"{hashlib.sha256(text.encode()).hexdigest()}\n{text}")


def forget(package: str) -> None:
    """Of a package that is not what it said it was."""
    with contextlib.suppress(BenchError, OSError):
        _file(package).unlink(missing_ok=True)


def _file(package: str) -> Path:
    place = hashlib.sha256(f"{_ENGINE.resolve()} {package}".encode()).hexdigest()
    return cache_dir() / "cards" / f"{place}.json"


def _with_tuples(found: dict[str, Any]) -> dict[str, Any]:
    """Cards hold tuples where JSON has lists."""
    return {k: _tuples(v) for k, v in found.items()}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
