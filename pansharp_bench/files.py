"""Files: written whole or not at all, held by one process at a time, known by their SHA-256; a run's folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pansharp_bench.errors import BenchError, DataError, UnderWay

_BLOCK = 1 << 22
_POLL = 0.1  # seconds between two looks at a lock that is held
_hashed: dict[str, str] = {}


@contextlib.contextmanager
def atomically(path: Path, replace: bool = True, folder: Path | None = None) -> Iterator[Path]:
    """A file that appears under its name whole, or not at all: write the one that is given, which lies beside it,
    or in a ``folder`` on the same disk.

    When the block ends it is brought to the disk and named ``path``; when it fails, nothing is left behind and a
    file that was there before stays.

    Raises:
        BenchError: it cannot be written, e.g. because the disk is full.
        FileExistsError: there is such a file, and it is not to be replaced.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "numbers.txt")
    >>> with atomically(path) as part:
    ...     _ = part.write_text("1 2 3")
    >>> [p.name for p in path.parent.iterdir()]
    ['numbers.txt']
    """
    own = f"{os.getpid()}-{secrets.token_hex(3)}"  # containers of one cluster have the same process numbers
    part = (folder or path.parent) / f".{path.stem}.{own}{path.suffix}"
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written(path):
            yield part
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        if not replace:
            _link_new(part, path)
        with written(path):
            if replace:
                os.replace(part, path)
            sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def whole(paths: Iterable[Path]) -> list[Path]:
    """In order, those that are not a part of a file being written: a process that was killed may have left one."""
    return sorted(path for path in paths if not path.name.startswith("."))


def write_text(path: Path, text: str, replace: bool = True) -> None:
    """Write a text (UTF-8, Unix line ends) as :func:`atomically` does."""
    with atomically(path, replace) as part:
        part.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Around code that writes: what the disk refuses becomes one BenchError that names the path."""
    try:
        yield
    except BenchError:
        raise
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__context__  # torch hides the disk's own words
        if not isinstance(cause, OSError):
            raise
        why = os.strerror(cause.errno) if cause.errno else cause
        raise BenchError(f"cannot write to {path}: {why}; make room or choose another folder") from error


def _link_new(part: Path, path: Path) -> None:
    """Give a file its name in one step that fails where the name is taken."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.replace(part, path)


def check_writable(folder: Path) -> None:
    """Raises BenchError where no file can be made in this folder: better before a training than after."""
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def sync(folder: Path) -> None:
    """Bring a folder's list of files to the disk, where the system lets a folder be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def locked(path: Path, refusal: str = "") -> Iterator[bool]:
    """Hold the lock of a file, which is made where it is not there; the lock ends with the process at the latest.

    Waits while another process holds it or, with ``refusal``, raises UnderWay with these words. Where the
    platform or the file system knows no locks this is said in a warning, and False is given.
    """
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab")  # noqa: SIM115 (closed below)
    with file:
        try:
            while not _try_lock(file.fileno()):
                if refusal:
                    raise UnderWay(refusal)
                time.sleep(_POLL)
            held = True
        except (ImportError, OSError) as error:
            warnings.warn(
                f"{path.parent} knows no file locks ({error}): let no second process work there", stacklevel=3
            )
            held = False
        yield held


def _try_lock(handle: int) -> bool:
    """Whether the lock of an open file was got. Raises OSError or ImportError where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except PermissionError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what is too large for its record."""

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The state of a training, to be resumed."""
        return self.path / "checkpoint.pt"

    @property
    def log(self) -> Path:
        """Losses, a JSON object a line."""
        return self.path / "losses.jsonl"

    @property
    def weights(self) -> Path:
        """What was learnt."""
        return self.path / "weights.safetensors"

    @property
    def pictures(self) -> Path:
        """Training curves, and the first scenes of every split."""
        return self.path / "pictures"

    @contextlib.contextmanager
    def held(self) -> Iterator[bool]:
        """Keeps other processes out, see :func:`locked`, and does away with what a killed one left half-written;
        raises UnderWay where one is at work in it."""
        busy = f"this run is under way in another process (its folder: {self.path})"
        with locked(self.path / ".lock", busy) as held:
            for file in (self.checkpoint, self.weights) if held else ():
                for left in self.path.glob(f".{file.stem}.*{file.suffix}"):
                    left.unlink(missing_ok=True)
            yield held


def cache_dir() -> Path:
    """Where everything that can be made again is kept: ``PANSHARP_CACHE``, or ``pansharp-bench`` in the
    user's cache folder. The folder need not exist yet. Raises BenchError for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = expanded(os.environ.get("PANSHARP_CACHE") or Path(base, "pansharp-bench"))
    if folder.parts[0].startswith("~"):
        raise BenchError(f"the cache, {folder}, is in no home folder: name one for it with PANSHARP_CACHE")
    return folder


def expanded(path: str | os.PathLike[str]) -> Path:
    """With the home folder for a ``~``; as it is where there is none, for who looks there to say so."""
    return Path(os.path.expanduser(path))


def made_once(folder: Path, make: Callable[[Path], None], what: str) -> Path:
    """The folder, which ``make`` fills where it is not there yet.

    It appears whole or not at all; of several processes that want it, one makes it and the others wait. Raises
    BenchError, saying ``what``, when it cannot be written.
    """
    base = folder.parent
    if folder.is_dir():
        return folder
    lock = base / f"{folder.name}.lock"
    try:
        base.mkdir(parents=True, exist_ok=True)
        lock.touch()
        with locked(lock) as held:
            if not folder.is_dir():  # another process may have made it while we waited
                for left in base.glob(f"{folder.name}.part-*") if held else ():
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


def looks_like(path: Path) -> str:
    """What a file is that is not what its name says, judged by how it begins. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(512)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        return "an empty file"
    if text.startswith((b"<!", b"<html", b"<?xml")):
        return "a web page (the download page was saved instead of the file)"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer (the file itself was not fetched: `git lfs pull`)"
    if text.startswith(b"matlab 5.0"):
        return "a MATLAB .mat file"
    if head.startswith(b"PK"):
        return "a zip archive (unpack it)"
    if head.startswith((b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!")):
        return "a compressed archive (unpack it)"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file, perhaps a damaged one"
    if not any(head):
        return "zeros (an interrupted download)"
    return f"a file that begins with {head[:12]!r}"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal.

    The result is kept, in the process and in the cache, under the file's path, size, times and inode, so a file is
    hashed again only after it was touched. A cache that cannot be written is done without. Raises DataError when
    the file cannot be read, or changes meanwhile.
    """
    try:
        before = stamp(path)
        key = repr((str(path.resolve()), before))
        if key in _hashed:
            return _hashed[key]
        kept = cache_dir() / "sha256" / hashlib.sha256(key.encode()).hexdigest()
        try:
            known = kept.read_text(encoding="ascii")
        except (OSError, ValueError):
            known = ""
        if len(known) == 64:
            return known
        digest = _hash(path)
        if stamp(path) != before:
            raise DataError(f"{path} changed while it was being read; wait until it is complete")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    _hashed[key] = digest
    with contextlib.suppress(BenchError):
        write_text(kept, digest)
    return digest


def stamp(path: Path) -> tuple[int, int, int, int]:
    """Changes when the file does. Raises OSError."""
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
