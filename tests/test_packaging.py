"""What is installed: with and without symbolic links, with no dependency that nothing uses."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import pansharp_bench as pb

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("methods", "metrics", "datasets")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = {"ruff", "mypy"}  # run, not imported


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """The sources as git leaves them where it cannot make symbolic links: each is a file with its target's name."""
    pytest.importorskip("setuptools", minversion="77")
    to = tmp_path_factory.mktemp("clone")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to)
    leave_out = shutil.ignore_patterns("__pycache__")
    for room in ("pansharp_bench", *ROOMS):
        shutil.copytree(ROOT / room, to / room, symlinks=True, ignore=leave_out)
    for room in ROOMS:
        (to / "pansharp_bench" / room).unlink()
        (to / "pansharp_bench" / room).write_text(f"../{room}")
    return to


def built(clone: Path, kind: str, to: Path) -> Path:
    """The wheel that setuptools makes of it."""
    code = f"import setuptools.build_meta as backend; backend.build_{kind}({str(to)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=clone, check=True, capture_output=True)
    (wheel,) = to.glob("*.whl")
    return wheel


def test_an_editable_install_works_without_symbolic_links(clone, tmp_path):
    with zipfile.ZipFile(built(clone, "editable", tmp_path)) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        f"import site; site.addsitedir({str(tmp_path / 'site')!r})\n"
        "import pansharp_bench as pb, pansharp_bench.methods.exp as method\n"
        "from pansharp_bench.registry import broken\n"
        "print(pb.__file__, method.__file__, sep='\\n')\n"
        "print(len(pb.list_methods()), len(pb.list_metrics()), len(pb.list_datasets()), len(broken))"
    )
    # no site: this environment's own install stays out of it; its packages are named one by one
    packages = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *packages])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    package, method, counts = done.stdout.splitlines()
    assert Path(package) == clone / "pansharp_bench" / "__init__.py"
    assert Path(method) == clone / "methods" / "exp.py"
    assert counts == f"{len(pb.list_methods())} {len(pb.list_metrics())} {len(pb.list_datasets())} 0"


def test_a_wheel_holds_every_module_and_the_data(clone, tmp_path):
    with zipfile.ZipFile(built(clone, "wheel", tmp_path)) as wheel:
        held = {name for name in wheel.namelist() if name.startswith("pansharp_bench/")}
    package = ROOT / "pansharp_bench"
    wanted = {
        f"pansharp_bench/{path.relative_to(package)}"
        for path in (*package.rglob("*.py"), *package.glob("*.csv"), *package.glob("*.toml"))
        if path.relative_to(package).parts[0] not in ROOMS
    } | {f"pansharp_bench/{path.relative_to(ROOT)}" for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert held == wanted | {"pansharp_bench/py.typed"}


def modules(*folders: str) -> set[str]:
    """What the files of these folders import from elsewhere, at the top or later."""
    names = set()
    for path in (p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"pansharp_bench"}


def names(requirements: list[str]) -> set[str]:
    """Distributions, by the name they are imported under."""
    found = {re.match(r"[\w.-]+", r)[0].lower().replace("-", "_") for r in requirements}
    return {"PIL" if name == "pillow" else name for name in found}


def test_dependencies_are_what_is_imported():
    extras = {extra: names(wanted) for extra, wanted in PROJECT["optional-dependencies"].items()}
    for_tests = extras.pop("test")
    optional = set().union(*extras.values())
    used = modules("pansharp_bench", *ROOMS)
    assert names(PROJECT["dependencies"]) == used - optional
    assert optional <= used
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    assert {name for name in for_tests - TOOLS if name not in tests} == set()


def test_every_dependency_is_pinned():
    pins = names((ROOT / "constraints.txt").read_text().splitlines())
    wanted = names(PROJECT["dependencies"]).union(*map(names, PROJECT["optional-dependencies"].values()))
    assert wanted <= pins


def test_one_version_everywhere():
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert PROJECT["version"] == pb.__version__ == citation
    assert f"## [{pb.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
