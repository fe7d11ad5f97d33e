"""An interrupted fusion goes on where it stopped, and ends in the file of one that was not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import rasterio
from click.testing import CliRunner
from rasterio.env import get_gdal_config
from scenes import full_disk, write_pair

from pansharp_bench import tiles
from pansharp_bench.cli import main
from pansharp_bench.files import locked
from pansharp_bench.scenes import fuse_files
from pansharp_bench.unfinished import Unfinished

WORDS = ("fuse", "--method", "bt-h", "--sensor", "qb", "--pan", "pan.tif", "--ms", "ms.tif", "--tile", "64")
FOLDER = ".fused.tif.part"

STOPPED = """
import os, signal, sys
from pansharp_bench.unfinished import Unfinished
keep = Unfinished.keep
def last(self, number, tile):
    keep(self, number, tile)
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
Unfinished.keep = last
from pansharp_bench.cli import main
main(sys.argv[1:], prog_name="bench")
"""


@pytest.fixture(autouse=True)
def pair(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return write_pair(tmp_path, size=128)


def bench(*words):
    return CliRunner().invoke(main, [*WORDS, *words])


def left(folder):
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def whole():
    assert bench("-o", "whole.tif").exit_code == 0
    return open("whole.tif", "rb").read()


@pytest.fixture
def interrupt(monkeypatch):
    """Ctrl-C while a tile of this number is visited, counted over all rounds."""

    def at(number, error=KeyboardInterrupt):
        visit, seen = tiles.TiledFusion._visit, []

        def stopped(*given):
            seen.append(given)
            if len(seen) == number:
                raise error
            return visit(*given)

        monkeypatch.setattr(tiles.TiledFusion, "_visit", stopped)
        result = bench("-o", "fused.tif")
        monkeypatch.setattr(tiles.TiledFusion, "_visit", visit)
        return result

    return at


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_process_loses_nothing(tmp_path, whole):
    killed = subprocess.run(
        [sys.executable, "-c", STOPPED, *WORDS, "-o", "fused.tif"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "fused.tif").exists()
    refused = bench("-o", "fused.tif")
    assert refused.exit_code == 2 and "--resume" in refused.stderr and "--force" in refused.stderr
    visited = []
    visit = tiles.TiledFusion._visit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles.TiledFusion, "_visit", lambda *a: visited.append(a) or visit(*a))
        result = bench("-o", "fused.tif", "--resume")
    assert result.exit_code == 0, result.output
    assert len(visited) == 2  # of four tiles
    assert (tmp_path / "fused.tif").read_bytes() == whole
    assert left(tmp_path) == ["fused.tif", "ms.tif", "pan.tif", "whole.tif"]


@pytest.mark.parametrize("at", [4, 7, 11])
def test_wherever_it_is_stopped(tmp_path, whole, interrupt, at):
    """In the first round of statistics, in a later one, and among the tiles."""
    result = interrupt(at)
    assert result.exit_code == 130 and not (tmp_path / "fused.tif").exists()
    if at == 4:  # no round is whole
        assert FOLDER not in left(tmp_path)
        return
    assert f"kept in {FOLDER}: go on with it by --resume" in result.stderr
    result = bench("-o", "fused.tif", "--resume")
    assert result.exit_code == 0 and (tmp_path / "fused.tif").read_bytes() == whole
    assert FOLDER not in left(tmp_path)


def test_what_is_not_the_same_is_named(tmp_path, interrupt):
    interrupt(11)
    os.utime("ms.tif", (1, 1))
    result = bench("-o", "fused.tif", "--resume", "--dtype", "float32")
    assert result.exit_code == 2
    (told,) = [x for x in result.stderr.splitlines() if x.startswith("Error")]
    assert (
        "ms is not what it was" in told
        and "dtype was uint16, is float32" in told
        and "pan is not" not in told
    )
    assert Unfinished(tmp_path / "fused.tif").begun
    assert bench("-o", "fused.tif", "--resume", "--force").exit_code == 2
    assert bench("-o", "fused.tif", "--force").exit_code == 0 and FOLDER not in left(tmp_path)


def test_a_cog_may_be_made_of_what_is_finished(tmp_path, whole, interrupt):
    """How the file is written is no part of what its tiles depend on."""
    interrupt(11)
    assert bench("-o", "fused.tif", "--resume", "--format", "cog", "--co", "LEVEL=1").exit_code == 0
    assert left(tmp_path) == ["fused.tif", "ms.tif", "pan.tif", "whole.tif"]
    with rasterio.open("fused.tif") as file, rasterio.open("whole.tif") as plain:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG" and (file.read() == plain.read()).all()
        assert file.tags()["PANSHARP_METHOD"] == "bt-h"


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a process there")
def test_after_a_full_disk(tmp_path, whole):
    with full_disk(60_000):  # of a tile, not of the whole
        result = bench("-o", "fused.tif")
    assert result.exit_code == 2 and "fused.tif" in result.stderr and "--resume" in result.stderr
    assert not (tmp_path / "fused.tif").exists()
    assert bench("-o", "fused.tif", "--resume").exit_code == 0
    assert (tmp_path / "fused.tif").read_bytes() == whole and FOLDER not in left(tmp_path)


def test_gdal_keeps_no_more_of_files_than_memory_allows(pair):
    found = []
    fuse_files(
        *pair, "fused.tif", "exp", sensor="qb", memory=1 << 30,
        progress=lambda share: found.append(get_gdal_config("GDAL_CACHEMAX")),
    )  # fmt: skip
    assert set(found) == {1 << 27}


def test_two_processes_do_not_write_one_file(tmp_path):
    with locked(Path(FOLDER) / ".lock"):
        result = bench("-o", "fused.tif")
    assert result.exit_code == 2 and "another process is writing this file" in result.stderr


def test_nothing_to_resume(tmp_path):
    result = bench("-o", "fused.tif", "--resume")
    assert result.exit_code == 2 and "nothing to resume" in result.stderr
    assert left(tmp_path) == ["ms.tif", "pan.tif"]


def test_a_damaged_tile_is_told(tmp_path, interrupt):
    interrupt(11)
    kept = Unfinished(tmp_path / "fused.tif").tiles[0]
    kept.write_bytes(kept.read_bytes()[:100])
    result = bench("-o", "fused.tif", "--resume")
    assert result.exit_code == 2 and "is damaged" in result.stderr and "--force" in result.stderr
