"""What a data file is (its SHA-256), remembered so that large files are read for it only once."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from pansharp_bench.errors import DataError

_BLOCK = 1 << 22


def cache_dir() -> Path:
    """Where everything that can be made again is kept: ``PANSHARP_CACHE``, or ``pansharp-bench`` in the
    user's cache folder. The folder need not exist yet."""
    if chosen := os.environ.get("PANSHARP_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pansharp-bench"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    The result is kept in the cache under the file's path, size, times and inode, so a file is hashed again
    only after it was touched. A cache that cannot be written is done without. Raises DataError when the file
    cannot be read, or changes meanwhile.
    """
    try:
        before = _stamp(path)
        key = repr((str(path.resolve()), before)).encode()
        kept = cache_dir() / "sha256" / hashlib.sha256(key).hexdigest()
        try:
            known = kept.read_text()
        except OSError:
            known = ""
        if len(known) == 64:
            return known
        digest = _hash(path)
        if _stamp(path) != before:
            raise DataError(f"{path} changed while it was being read; wait until it is complete")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_name(f"{kept.name}.{os.getpid()}")
        part.write_text(digest)
        part.replace(kept)
    except OSError:
        pass
    return digest


def _stamp(path: Path) -> tuple[int, int, int, int]:
    s = path.stat()
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino


def _hash(path: Path) -> str:
    from tqdm import tqdm

    size, digest = path.stat().st_size, hashlib.sha256()
    shown = size > 1 << 29 and sys.stderr.isatty()
    with open(path, "rb", buffering=0) as file, tqdm(
        total=size, unit="B", unit_scale=True, desc=f"sha256 {path.name}", disable=not shown, leave=False
    ) as bar:  # fmt: skip
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()
