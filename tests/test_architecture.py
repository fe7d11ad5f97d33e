"""The walls of the house: who may import whom, and the mapped top-level folders."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "pansharp_bench"
ENGINE = {
    "errors",
    "files",
    "finite",
    "catalogue",
    "registry",
    "presets",
    "scene",
    "imaging",
    "weights",
    "method",
    "training",
    "settings",
    "protocol",
    "protocols",
    "record",
    "environment",
    "source",
    "plan",
    "contract",
    "experiment",
    "tables",
    "results",
    "uncertainty",
    "figures",
    "raster",
    "sensors",
    "scenes",
    "assess",
    "external",
    "tiles",
    "cards",
    "report",
    "speed",
    "timings",
    "workloads",
    "cluster",
    "sweep",
    "cli",
}

# room -> rooms it may import (its own excepted)
MAY = {
    "errors": set(),
    "files": {"errors"},
    "finite": set(),
    "catalogue": {"errors", "files"},
    "registry": {"errors", "catalogue"},
    "presets": {"errors", "registry"},
    "scene": {"errors", "registry"},
    "imaging": {"scene", "registry", "errors"},
    "method": {"errors", "registry", "presets", "scene", "imaging", "weights"},
    "weights": {"errors", "files"},
    "settings": {"errors", "registry", "presets"},
    "training": {"errors", "environment", "files", "registry", "scene", "imaging", "method"},
    "protocol": {"errors", "registry", "scene", "method"},
    "protocols": {"protocol", "errors", "registry", "scene", "imaging", "weights", "method"},
    "record": {"errors", "files"},
    "environment": {"errors"},
    "source": {"environment", "registry"},
    "figures": {"files", "scene"},
    "raster": {"errors", "files"},
    "sensors": {"errors", "scene"},
    "external": {"errors", "files", "raster", "registry", "scene"},
    "assess": {"errors", "files", "registry", "scene", "imaging", "protocols", "raster", "scenes", "tiles"},
    "cluster": {"errors", "tiles"},
    "scenes": {
        "cluster",
        "errors",
        "method",
        "files",
        "registry",
        "scene",
        "imaging",
        "raster",
        "sensors",
        "source",
        "tiles",
        "unfinished",
        "weights",
        "record",
    },
    "unfinished": {"errors", "files", "record", "tiles"},
    "tiles": {"errors", "registry", "scene", "imaging", "method"},
    "plan": {
        "environment",
        "presets",
        "errors",
        "files",
        "registry",
        "scene",
        "method",
        "training",
        "protocol",
        "record",
        "source",
        "weights",
        "settings",
    },
    "experiment": {
        "presets",
        "errors",
        "files",
        "registry",
        "scene",
        "weights",
        "method",
        "training",
        "protocol",
        "record",
        "environment",
        "plan",
        "figures",
        "external",
    },
    "contract": {"errors", "registry", "scene", "imaging", "method", "training", "protocol"},
    "sweep": {"cluster", "errors", "files", "registry", "scene", "training", "record", "plan", "experiment"},
    "tables": {"errors", "files", "presets", "record", "registry", "protocol", "timings"},
    "timings": {"errors", "files", "record"},
    "speed": {
        "environment",
        "errors",
        "registry",
        "scene",
        "method",
        "presets",
        "training",
        "contract",
        "timings",
        "workloads",
    },
    "workloads": {"contract", "errors", "files", "raster", "record", "scene"},
    "results": {"errors", "record"},
    "cards": {"registry", "presets", "scene", "settings"},
    "report": {"errors", "files", "record", "registry", "tables", "figures", "cards", "timings"},
    "uncertainty": {"errors", "protocol", "record", "registry"},
    "cli": ENGINE,
    "methods": {"errors", "registry", "method", "scene", "imaging", "training"},
    "metrics": {"errors", "registry", "scene", "imaging"},
    "datasets": {"errors", "files", "finite", "registry", "scene", "imaging", "raster", "sensors", "figures"},
}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT / PACKAGE).parts
        if parts[0] in ("methods", "metrics", "datasets"):
            continue  # the same files, reached through the links
        found.append((parts[0].removesuffix(".py"), path))
    for room in ("methods", "metrics", "datasets"):
        found += [(room, path) for path in sorted((ROOT / room).rglob("*.py"))]
    return [(room, path) for room, path in found if room != "__init__" and room != "__main__"]


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == PACKAGE:
                names = [f"{PACKAGE}.{alias.name}" for alias in node.names]
            assert node.level == 0, f"{path}: relative import"
        for name in names:
            assert name.split(".")[0] not in ("methods", "metrics", "datasets"), (
                f"{path}: bare `import {name}`"
            )
            if name.startswith(PACKAGE + "."):
                rooms.add(name.split(".")[1])
    return rooms


@pytest.mark.parametrize(("room", "path"), modules(), ids=[f"{room}-{path.stem}" for room, path in modules()])
def test_rooms_call_only_whom_they_may(room, path):
    public = {"fuse", "load_dataset", "list_methods", "__version__"}  # of the package itself
    reached = imported_rooms(path) - {room} - public
    assert reached <= MAY[room], f"{path} may not import {sorted(reached - MAY[room])}"


def test_datasets_stand_on_jupiter_and_it_on_no_dataset():
    guilty = []
    for path in (ROOT / "datasets" / "jupiter").rglob("*.py"):
        names = re.findall(rf"{PACKAGE}\.datasets\.(\w+)", path.read_text())
        guilty += [f"{path.relative_to(ROOT)}: {name}" for name in names if name != "jupiter"]
    assert not guilty


@pytest.mark.parametrize("name", ["__init__", "zones", "junocam/__init__"])
def test_discovery_and_help_texts_cost_nothing_of_jupiter(name):
    """Discovery imports the room; what it holds is imported by those who use it."""
    tree = ast.parse((ROOT / "datasets" / "jupiter" / f"{name}.py").read_text())
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert [n.module for n in imports if isinstance(n, ast.ImportFrom)] in ([], ["__future__"])
    assert not any(isinstance(n, ast.Import) for n in imports)


def test_no_public_class_name_stands_in_two_files():
    homes: dict[str, list[str]] = {}
    for _, path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert not {name: paths for name, paths in homes.items() if len(paths) > 1}


def test_what_is_private_to_a_file_stays_in_it():
    """A name with an underscore may change without a look elsewhere; a private module serves its whole room."""
    paths = [p for folder in (PACKAGE, *MAPPED, "benchmarks", "tests") for p in (ROOT / folder).rglob("*.py")]
    rooms = [p.relative_to(ROOT).with_suffix("").parts for p in paths]
    known = {".".join((PACKAGE, *parts) if parts[0] != PACKAGE else parts) for parts in rooms}
    known = {name.removesuffix(".__init__") for name in known}
    guilty = []
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
                private = (f"{node.module}.{a.name}" for a in node.names if re.match("_[^_]", a.name))
                guilty += [f"{path.relative_to(ROOT)}: {name}" for name in private if name not in known]
    assert not guilty


def test_the_engine_knows_no_plugin_by_name():
    from pansharp_bench.registry import DATASETS, METHODS, METRICS, SENSORS

    names = {n for table in (METHODS, DATASETS, METRICS, SENSORS) for n in table.names()}
    assert {"sp-i2i", "qb", "ergas"} <= names
    found = []
    for room, path in modules():
        if room not in ENGINE or room == "method":  # a doctest of method.fuse shows two names
            continue
        tree = ast.parse(path.read_text())
        prose = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in prose and node.value in names:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.value!r}")
    assert not found


def test_package_list_disk_and_links_agree():
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    on_disk = {PACKAGE}
    for folder, name in ((ROOT / PACKAGE, PACKAGE), *((ROOT / r, f"{PACKAGE}.{r}") for r in MAPPED)):
        for init in folder.rglob("__init__.py"):
            parts = init.parent.relative_to(folder).parts
            if folder.name == PACKAGE and parts and parts[0] in MAPPED:
                continue
            on_disk.add(".".join((name, *parts)))
    assert set(config["packages"]) == on_disk
    for room in MAPPED:
        link = ROOT / PACKAGE / room
        lost = not link.is_symlink() and link.is_file()  # a clone without symbolic links keeps their text
        assert (link.read_text() == f"../{room}") if lost else (link.resolve() == ROOT / room)
        assert config["package-dir"][f"{PACKAGE}.{room}"] == room


MAPPED = ("methods", "metrics", "datasets")


def test_importing_the_package_and_asking_for_help_stays_light():
    code = (
        "import sys, pansharp_bench\n"
        "from pansharp_bench.cli import main\n"
        "heavy = {'torch', 'numpy', 'scipy', 'h5py', 'pandas', 'matplotlib', 'lightning_fabric', 'rasterio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_text_files_name_their_encoding():
    """The default is the console's: cp1252 on Windows, ASCII in many containers."""
    guilty = []
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            own = isinstance(node.func, ast.Attribute) and node.func.attr in ("read_text", "write_text")
            if isinstance(node.func, ast.Name) and node.func.id == "open":
                mode = node.args[1].value if len(node.args) > 1 else "r"  # always written out
                own = "b" not in mode
            if own and not any(k.arg == "encoding" for k in node.keywords):
                guilty.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not guilty


def test_what_is_not_used_is_not_imported(tmp_path):
    """Training and curves are loaded where something is trained or drawn; the compiler by who compiles."""
    plugin = ROOT / "tests" / "plugins" / "tiny.py"
    code = f"""
import sys
from pathlib import Path
import torch
from click.testing import CliRunner
from pansharp_bench.cli import main

module = sys.modules["pansharp_bench.cli.table"]
module.PAPERS = Path("papers.toml")
module.PAPERS.write_text(
    '[7]\\ntitle = "T"\\ndataset = "tiny"\\nprotocols = ["reduced"]\\nsource = ""\\nmethods = ["exp"]\\n'
    '[8]\\ntitle = "T"\\ndataset = "qb-sim"\\nprotocols = ["reduced"]\\nsource = ""\\nmethods = ["exp", "cut"]'
)
heavy = ["lightning_fabric", "scipy", "h5py", "pandas", "rasterio", "matplotlib"]
if torch.__version__ >= "2.8":  # with older ones einops loads the compiler
    heavy += ["torch._dynamo", "sympy"]
more = ["--plugin", {str(plugin)!r}]
for words in (
    ["list"], ["list", "gsa"], ["table", "8", "--dry-run"],
    ["run", "--method", "exp", "--dataset", "tiny", *more], ["leaderboard", *more], ["table", "7", *more],
    ["run", "--method", "pan-affine", "--dataset", "tiny", *more],
):
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    print(words[0], [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{word} []" for word in ("list", "list", "table", "run", "leaderboard", "table", "run")
    ]
    assert len(list(tmp_path.rglob("*.png"))) == 8  # two scenes of two splits each


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """What commands print in a process of its own, with a cache of cards, and whether they imported torch."""
    folder = tmp_path_factory.mktemp("listed")
    (folder / "papers.toml").write_text(
        '[7]\ntitle = "T"\ndataset = "qb-sim"\nprotocols = ["reduced"]\nsource = ""\n'
        'methods = ["exp", "gsa", "unsb"]\n'
    )
    code = """
import sys
from pathlib import Path
from pansharp_bench.cli import main
sys.modules["pansharp_bench.cli.table"].PAPERS = Path(sys.argv[1])
heavy = {"torch", "scipy", "pandas", "matplotlib", "lightning_fabric", "h5py"}
for words in sys.argv[2:]:
    main(words.split(), standalone_mode=False)
    print("\\n=>", words, sorted(heavy & set(sys.modules)))
"""

    def listed(*commands: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder / "papers.toml"), *commands],
            capture_output=True,
            text=True,
            cwd=folder,
            env={**os.environ, "PANSHARP_CACHE": str(folder / "cache"), "COLUMNS": "200"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed.cards = folder / "cache" / "cards"
    listed("list all")
    return listed


def test_lists_and_tables_of_records_import_no_torch(listed):
    results = ROOT / "results"
    commands = (
        "list all",
        "list gsa",
        "list sp-i2i",
        "list hqnr",
        "list qb",
        f"leaderboard --results {results} --dataset qb-sim --protocol reduced",
        f"table 7 --results {results} --preset quick --device cpu",
        f"table 7 --results {results} --dry-run --device cpu",
    )
    told = [line for line in listed(*commands).splitlines() if line.startswith("=> ")]
    assert told == [f"=> {words} []" for words in commands]


def test_kept_cards_are_not_believed_once_they_are_corrupt(listed):
    whole = {path.name: path.read_bytes() for path in listed.cards.iterdir()}
    assert len(whole) == 4
    before = listed("list all")
    for path, text in zip(sorted(listed.cards.iterdir()), (b"", b"{", b"\xff", b"0\n[1, 2]"), strict=True):
        path.write_bytes(text)
    assert listed("list all").partition("=>")[0] == before.partition("=>")[0]
    assert {path.name: path.read_bytes() for path in listed.cards.iterdir()} == whole
    assert listed("list all") == before


def test_the_repository_speaks_of_the_project_alone():
    pattern = re.compile(r"/wor[k]/|\.librar[y]\b|PyPI mirro[r]")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    guilty = []
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".json", ".csv", ".sh", ""} and path.is_file():
            text = path.read_text(errors="ignore")
            guilty += [f"{name}: {m.group()}" for m in pattern.finditer(text)]
    assert not guilty
