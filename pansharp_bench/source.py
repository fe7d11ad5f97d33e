"""Code from outside: what a record must hold to know again the plug-in that took part in a run.

The project's own code is known by its version and commit, which the environment part of a record tells. A plug-in
is known by what its files say.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pansharp_bench.environment import PACKAGES
from pansharp_bench.registry import Entry

_OWN = __name__.partition(".")[0]
_KNOWN = {_OWN, *sys.stdlib_module_names, *(p.replace("-", "_") for p in PACKAGES)}


def source_of(entry: Entry[Any], *others: object) -> dict[str, str]:
    """What the code of a registered thing (and of ``others``, objects) says, by name; empty where all of it is the
    project's.

    A file has its SHA-256, a package that of all its Python files. What either imports is followed, wherever in the
    code it does, but not into installed packages: of these the name tells the version, unless every record does.
    """
    found: dict[str, str] = {}
    modules = {getattr(o, "__module__", None) or type(o).__module__ for o in others}
    modules |= {entry.origin, entry.facts["module"]}
    for module in sorted(modules):
        if module.partition(".")[0] not in _KNOWN and not _add(module, found, itself=True):
            found[module] = _text_hash(entry.obj)
    return found


def _add(module: str, found: dict[str, str], itself: bool = False) -> bool:
    """Enter a module and what it imports; False where it has no file. ``itself``: it took part and is not only
    imported, so that an installed package, too, is known by its files."""
    name, file = _located(module)
    if file is None:
        return False
    installed = bool({"site-packages", "dist-packages"} & set(file.parts))
    package = file.name == "__init__.py"
    importable = package or file.stem == name.rpartition(".")[2]
    called = name if importable else file.name  # a plug-in file's module has a name of its path
    if installed:
        called = f"{called} {_version(name)}"
    by_version = installed and not itself
    if found.get(called) or (by_version and called in found):
        return True
    if by_version:
        found[called] = ""
        return True
    files = sorted(file.parent.rglob("*.py")) if package else [file]
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(file.parent).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    found[called] = digest.hexdigest()
    for imported in () if installed else sorted({m for p in files for m in _imports(p)}):
        if imported.partition(".")[0] not in _KNOWN:
            _add(imported, found)
    return True


def _located(module: str) -> tuple[str, Path | None]:
    """The outermost package or module on the way to a module that has a file, and that file."""
    parts = module.split(".")
    for n in range(1, len(parts) + 1):
        name = ".".join(parts[:n])
        path = getattr(sys.modules.get(name), "__file__", None)
        if path is None and name not in sys.modules:
            try:
                spec = importlib.util.find_spec(name)
            except (ImportError, ValueError):
                break
            path = spec.origin if spec and spec.has_location else None
        if path:
            return name, Path(path)
    return module, None


def _imports(path: Path) -> Iterator[str]:
    """Everything a file may import, anywhere in it; relative imports stay in its package."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # a template, or for another Python: nothing that is run
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _version(module: str) -> str:
    top = module.partition(".")[0]
    try:
        return metadata.version(top)
    except metadata.PackageNotFoundError:  # a distribution of another name; looking for it takes longer
        return ", ".join(metadata.version(d) for d in metadata.packages_distributions().get(top, ()))


def _text_hash(obj: Any) -> str:
    """Of what was typed into a notebook there is the text of the object alone."""
    try:
        return hashlib.sha256(inspect.getsource(obj).encode()).hexdigest()
    except (OSError, TypeError):
        return "unknown"
