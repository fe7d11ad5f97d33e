"""A clone without symbolic links, as Windows makes them (core.symlinks=false), installs and works like any."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("methods", "metrics", "datasets")
BARE = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PIP_NO_INDEX": "1"}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    path = tmp_path_factory.mktemp("clone") / "repository"
    words = ["git", "clone", "--quiet", "-c", "core.symlinks=false", str(ROOT), str(path)]
    if not (ROOT / ".git").exists() or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("not a git checkout")
    assert all((path / "pansharp_bench" / room).is_file() for room in ROOMS)
    return path


def pip(*words):
    own = ["--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words, *own], capture_output=True, text=True, env=BARE
    )
    assert done.returncode == 0, done.stderr


def test_an_editable_install_imports_every_plugin(clone, tmp_path):
    pip("install", "--ignore-installed", "--prefix", str(tmp_path), "--editable", str(clone))
    (finder,) = tmp_path.rglob("*_finder.py")
    folders = [str(finder.parent), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    code = (
        f"import site; [site.addsitedir(f) for f in {folders}]\n"
        "from pansharp_bench import methods\n"
        "from pansharp_bench.registry import DATASETS, METHODS, METRICS, broken\n"
        "print(methods.__file__, broken, *(e.name for t in (METHODS, METRICS, DATASETS) for e in t), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env=BARE, cwd=tmp_path, check=True
    )
    where, broken, *names = done.stdout.splitlines()
    assert Path(where) == clone / "methods" / "__init__.py" and broken == "{}"
    assert {"sp-i2i", "ergas", "qb"} <= set(names)


def test_a_wheel_has_every_module(clone, tmp_path):
    pip("wheel", "--wheel-dir", str(tmp_path), str(clone))
    (wheel,) = tmp_path.glob("*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".py")}
    tracked = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=clone, capture_output=True, text=True, check=True
    )
    modules = [n for n in tracked.stdout.splitlines() if n.startswith(("pansharp_bench/", *ROOMS))]
    assert names == {n if n.startswith("pansharp_bench") else f"pansharp_bench/{n}" for n in modules}
