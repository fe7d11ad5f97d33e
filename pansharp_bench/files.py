"""What a data file is (its SHA-256, remembered so that large files are read for it only once), and files that
are made once and kept."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from pansharp_bench.errors import BenchError, DataError

_BLOCK = 1 << 22


def cache_dir() -> Path:
    """Where everything that can be made again is kept: ``PANSHARP_CACHE``, or ``pansharp-bench`` in the
    user's cache folder. The folder need not exist yet."""
    if chosen := os.environ.get("PANSHARP_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pansharp-bench"


def made_once(folder: Path, make: Callable[[Path], None], what: str) -> Path:
    """The folder, which ``make`` fills where it is not there yet.

    It appears whole or not at all; of several processes that want it, one makes it and the others wait. Raises
    BenchError, saying ``what``, when it cannot be written.
    """
    base = folder.parent
    if folder.is_dir():
        return folder
    try:
        base.mkdir(parents=True, exist_ok=True)
        with _locked(base / f"{folder.name}.lock"):
            if not folder.is_dir():  # another process may have made it while we waited
                for left in base.glob(f"{folder.name}.part-*"):
                    shutil.rmtree(left, ignore_errors=True)
                part = base / f"{folder.name}.part-{os.getpid()}"
                try:
                    make(part)
                    sync(part)
                    os.replace(part, folder)
                    sync(base)
                finally:
                    shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise BenchError(
            f"{what} cannot be written to {base} ({error.strerror or error}); "
            "name another folder with PANSHARP_CACHE"
        ) from error
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One maker at a time; where the platform has no file locks, makers race and the first one wins."""
    with open(path, "w") as file:
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sync(folder: Path) -> None:
    """Bring a folder's list of files to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
