"""Files: whole or not at all on a full disk too, of the user's own mode, locked where that is possible."""

import errno
import os
import subprocess
import sys
import time
import types
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pansharp_bench import files
from pansharp_bench.errors import BenchError
from pansharp_bench.files import RunFolder, atomically, check_writable, locked, made_once, write_text
from pansharp_bench.training import Learner, Trainer
from pansharp_bench.weights import read_weights, save_weights

HERE = Path(__file__).parent
NO_LOCKS = "knows no file locks"


@contextmanager
def small_disk(size=1 << 16):
    """Within, no file can grow beyond so many bytes: the system refuses as a full disk does."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


class Large(Learner):
    def __init__(self):
        super().__init__()
        self.networks["n"] = torch.nn.Linear(1 << 16, 1)

    def step(self, backward):
        return {"loss": torch.zeros(())}


def test_a_file_appears_whole_under_its_name(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with atomically(path) as part:
        part.write_text("1")
        assert part.suffix == ".csv" and not path.exists()
    assert path.read_text() == "1" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("no number"), KeyboardInterrupt()])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "table.csv"
    write_text(path, "old")
    with pytest.raises(type(error)), atomically(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_may_be_asked_for(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *a: (_ for _ in ()).throw(OSError(errno.ENOTSUP, "no links")))
    path = tmp_path / "record.json"
    write_text(path, "first", replace=False)
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]
    if links:
        with pytest.raises(FileExistsError):
            write_text(path, "second", replace=False)
        assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_hashed_once_even_where_nothing_can_be_kept(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the cache should be")
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))
    data, read = tmp_path / "data.h5", []
    data.write_bytes(b"1")
    monkeypatch.setattr(files, "_hash", lambda path, whole=files._hash: read.append(path) or whole(path))
    first = [files.sha256_of(data) for _ in range(3)]
    assert len(set(first)) == 1 and len(read) == 1
    data.write_bytes(b"22")
    assert files.sha256_of(data) not in first


def test_a_full_disk_is_one_error_and_leaves_nothing_behind(tmp_path):
    weights = tmp_path / "weights.safetensors"
    with small_disk(), pytest.raises(BenchError, match=rf"cannot write to {weights}: .*; make room"):
        save_weights({"a": torch.zeros(1 << 16)}, weights, "{}")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    folder = RunFolder(tmp_path)
    trainer = Trainer(tmp_path, "cpu", progress=False)
    trainer.run(Large(), 1)
    before = folder.checkpoint.read_bytes()
    with (
        small_disk(),
        pytest.raises(BenchError, match=rf"cannot write to {folder.checkpoint}: .*; make room"),
    ):
        trainer.run(Large(), 2)
    assert folder.checkpoint.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [folder.checkpoint, folder.log]


def test_what_a_killed_process_left_half_written_goes_when_its_run_goes_on(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt), atomically(folder.checkpoint) as part:
        part.write_text("half")
        left = part.rename(tmp_path / part.name.replace(".checkpoint.", ".checkpoint.0"))
        raise KeyboardInterrupt
    assert left.exists()
    with folder.held():
        assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"cannot write to .*file/sub"):
        check_writable(tmp_path / "file" / "sub")
    with pytest.raises(BenchError, match=r"cannot write to .*file/sub/table\.csv"):
        write_text(tmp_path / "file" / "sub" / "table.csv", "")


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_saved_weights_are_as_readable_as_the_user_wants(tmp_path, mask, mode):
    path = tmp_path / "weights.safetensors"
    before = os.umask(mask)
    try:
        save_weights({"a": torch.arange(3.0)}, path, "{}")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert torch.equal(read_weights(path)["a"], torch.arange(3.0))


HOLDER = """
import sys, time
from pathlib import Path
from pansharp_bench.files import RunFolder
with RunFolder(Path(sys.argv[1])).held() as held:
    print(held, flush=True)
    time.sleep(60)
"""


def test_a_run_under_way_in_another_process_is_not_disturbed(tmp_path):
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "True\n"
        with (
            pytest.raises(BenchError, match=r"under way in another process \(its folder: .*"),
            RunFolder(tmp_path).held(),
        ):
            pass
    finally:
        other.kill()
        other.wait()
    with RunFolder(tmp_path).held() as held:  # the lock of a process that was killed is gone
        assert held


def test_who_waits_for_a_lock_gets_it(tmp_path):
    script = HOLDER.replace("sleep(60)", "sleep(0.5)")
    other = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    other.stdout.readline()
    started = time.monotonic()
    with locked(tmp_path / ".lock") as held:
        assert held and time.monotonic() - started > 0.1
    assert other.wait() == 0


@pytest.fixture
def windows(monkeypatch):
    """No fcntl; msvcrt's lock of one byte, which another handle of the same file does not get."""
    held = {}

    def locking(handle, mode, count):
        inode = os.fstat(handle).st_ino
        if held.setdefault(inode, handle) != handle:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    fake = types.SimpleNamespace(locking=locking, LK_NBLCK=2)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)


def test_without_fcntl_the_other_systems_lock_holds(tmp_path, windows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with RunFolder(tmp_path).held() as held:
            assert held
            with pytest.raises(BenchError, match="under way"), RunFolder(tmp_path).held():
                pass


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK, errno.EINVAL])
def test_a_file_system_without_locks_is_said_and_worked_on(tmp_path, monkeypatch, code):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match=NO_LOCKS), RunFolder(tmp_path / "run").held() as held:
        assert not held
    with pytest.warns(UserWarning, match=NO_LOCKS):
        folder = made_once(tmp_path / "made", lambda part: part.mkdir(), "it")
    assert folder.is_dir()


BARE = """
import sys
from pathlib import Path
sys.modules |= {"fcntl": None, "resource": None}
from pansharp_bench.experiment import run
from pansharp_bench.plan import RunSpec
from pansharp_bench.registry import load_plugin
here, out = map(Path, sys.argv[1:])
load_plugin(here / "plugins" / "tiny.py")
print(run(RunSpec("exp", "tiny"), out / "results", out / "runs", pictures=0, progress=False).path)
"""


def test_a_run_needs_nothing_that_only_unix_has(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(HERE), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_file()
    assert done.stderr.count(NO_LOCKS) == 1  # and no fcntl or msvcrt here at all
