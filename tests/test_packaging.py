"""What the project says of itself: dependencies that are what is imported, one version, pins for all."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pansharp_bench as pb

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("methods", "metrics", "datasets")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOOLS = {"coverage", "ruff", "mypy", "pytest_xdist"}  # run, not imported


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
    for_tests = extras.pop("test") | extras.pop("browser")
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
