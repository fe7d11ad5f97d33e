"""What plugs in from outside: examples that are what `bench new` writes, run, and keep to what is asked."""

import inspect
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from apart import apart
from click.testing import CliRunner

import pansharp_bench as pb
from pansharp_bench.cli import main
from pansharp_bench.cli.new import rendered
from pansharp_bench.contract import check_plugin
from pansharp_bench.errors import BenchError

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
WRITTEN = ("method", "paired", "unpaired", "metric", "dataset", "sensor")


@pytest.fixture(autouse=True)
def _apart():
    with apart():
        yield


def bench(*words, code=0):
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("kind", WRITTEN)
def test_an_example_is_what_bench_new_writes(kind):
    """Mend: `bench new` into examples/, where it differs."""
    file = EXAMPLES / f"my_{kind}.py"
    assert file.read_text() == rendered(kind, file)
    assert (EXAMPLES / f"test_{file.name}").read_text() == rendered("test", file, kind)


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_tests_of_an_example_pass(kind):
    found = runpy.run_path(str(EXAMPLES / f"test_my_{kind}.py"))
    tests = [f for name, f in found.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_bench_new_writes_what_bench_check_passes_and_overwrites_nothing(tmp_path):
    file = tmp_path / "sharper_bands.py"
    assert f"next: bench check --plugin {file}" in bench("new", "method", file)
    assert (tmp_path / "test_sharper_bands.py").exists()
    said = bench("check", "--plugin", file)
    assert "sharper-bands (method)" in said and "all 14 things asked are kept" in said
    assert "exists; nothing was written" in bench("new", "metric", file, code=2)
    assert "a metric does not learn" in bench(
        "new", "metric", tmp_path / "m.py", "--learns", "paired", code=2
    )
    assert "call it like a Python module" in bench("new", "metric", tmp_path / "My-Metric.py", code=2)


def test_bench_check_reads_a_datasets_files_where_it_is_told(tmp_path, monkeypatch):
    file = tmp_path / "filed.py"
    text = (EXAMPLES / "my_dataset.py").read_text().replace("my-dataset", "filed")
    opening = "        self.sensor = as_sensor"
    file.write_text(text.replace(opening, "        assert (root / 'here').exists()\n" + opening))
    said = bench("check", "--plugin", file, code=1)
    assert "dataset 'filed' cannot be opened: TypeError" in said
    (tmp_path / "here").touch()
    bench("check", "--plugin", file, "--data", tmp_path)
    monkeypatch.setenv("PANSHARP_DATA", str(tmp_path))
    bench("check", "--plugin", file)


SET_METRIC = '''
import pansharp_bench as pb

@pb.register_metric("mean-gap", columns=("MeanGap",), better=("low",), scope="set")
class MeanGap:
    """Distance of the mean of all outputs to that of all references."""

    def __init__(self, sensor):
        self.means = {}

    def add(self, role, images):
        self.means.setdefault(role, []).append(images.double().mean())

    def scores(self):
        mean = {role: sum(found) / len(found) for role, found in self.means.items()}
        return ((mean["output"] - mean["truth"]).abs(),)

    def curves(self):
        return {}
'''


def test_a_metric_of_a_set_is_of_any_protocol(tmp_path):
    file = tmp_path / "mean_gap.py"
    file.write_text(SET_METRIC)
    bench("check", "--plugin", file)
    tiny = Path(__file__).parent / "plugins" / "tiny.py"
    words = (
        "--dataset",
        "tiny",
        "--pictures",
        0,
        "--results",
        tmp_path / "results",
        "--runs",
        tmp_path / "runs",
    )
    bench("run", "--plugin", tiny, "--plugin", file, "--method", "half", *words)
    (record,) = (tmp_path / "results").rglob("*.json")
    (gap,) = json.loads(record.read_text())["protocols"]["reduced"]["scores"]["MeanGap"]
    assert gap > 100  # half of everything


BROKEN = '''
from dataclasses import dataclass
import torch
import pansharp_bench as pb
from pansharp_bench.scene import Sensor
from pansharp_bench.training import TrainedMethod

@pb.register_method("broken-unit", kind="classical")
def unit(lms, *, sensor):
    """Forgets to undo its normalisation"""
    return lms / sensor.peak

@pb.register_method("broken-batch", kind="classical")
def batch(lms):
    """Centres on the mean of the batch"""
    return lms - lms.mean() + 500 + 0 * lms.mul_(1.01)

@pb.register_method("broken-random", kind="classical")
def random(lms):
    """Draws from the global generator"""
    return lms + torch.rand_like(lms)

@pb.register_method("broken-state", kind="deep", training="paired")
class State(TrainedMethod):
    """Keeps what it learns where nobody saves it"""

    @dataclass(frozen=True)
    class Config(TrainedMethod.Config):
        steps: int = 1

    presets = {"quick": {}, "standard": {"stepz": 3}}
    offset = 0.0

    def fit(self, data, trainer):
        self.offset = 100.0

    def fuse(self, scene):
        return scene.lms + self.offset

class Net(TrainedMethod):
    @dataclass(frozen=True)
    class Config(TrainedMethod.Config):
        steps: int = 1

    def fuse(self, scene):
        return scene.lms

@pb.register_method("broken-fit", kind="deep", training="paired")
class Unfit(Net):
    """Has no fit"""

@pb.register_method("broken-loop", kind="deep", training="paired")
class Loop(Net):
    """Takes steps by itself"""

    def fit(self, data, trainer):
        pass

@pb.register_method("broken-none", kind="classical")
def none(lms):
    """Forgets to return"""

@pb.register_dataset("broken-card", sensor="gf2")
class Card:
    """Has another sensor on its card"""

    name, sensor = "broken-card", Sensor("qb", "", ("a",), 2047.0, (0.3,), 0.15, (0, 0, 0))

    def __init__(self, root, label):
        pass

pb.register_sensor(Sensor("broken-sensor", "", ("a", "a"), 1.0, (0.3, 0.3), 0.15, (0, 1, 1)))

@pb.register_metric("broken-metric", columns=("Broken",), better=("low",))
def metric(fused, reference):
    """One number for the whole batch"""
    return (fused - reference).abs().mean()

@pb.register_metric("broken-column", columns="SAM", better="low")
def column(fused, reference):
    """Gives what another gives"""
    return (fused - reference).double().abs().mean((1, 2, 3))

@pb.register_metric("broken-number", columns="Number")
def number(fused, reference):
    """A number"""
    return 1.0

@pb.register_metric("broken-name", columns=("Broken2",), better=("low",))
def name(fused, truth):
    """Asks for what nobody offers"""
    return (fused - truth).abs().mean((1, 2, 3))
'''


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    file = tmp_path_factory.mktemp("broken") / "broken.py"
    file.write_text(BROKEN)
    problems = {}
    with apart():
        for found in check_plugin(file):
            problems.setdefault(found.name, []).append(found.problem)
    return file, problems


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken-unit", "what is normalised within must be undone"),
        ("broken-batch", "DN when it is fused alone"),
        ("broken-batch", "fuse changes lms in place"),
        ("broken-random", "the same scene fused twice differs by up to"),
        ("broken-state", "what fit learns must be parameters or buffers"),
        ("broken-state", "presets lack paper"),
        ("broken-fit", "class Unfit has no fit of its own"),
        ("broken-loop", "fit takes no steps by trainer.run"),
        ("broken-none", "fuse gave NoneType for pan"),
        ("broken-card", "its card says sensor='gf2', but its images are of 'qb'"),
        ("broken-sensor", "two bands have one name: a, a"),
        ("broken-metric", "Broken is () for 2 images"),
        ("broken-column", "metric 'sam' gives SAM too: call its columns otherwise"),
        ("broken-number", "Number is float for 2 images"),
        ("broken-name", "asks for truth; it may ask for fused, reference, sensor, ratio, peak"),
    ],
)
def test_what_is_broken_is_said_in_words(broken, name, said):
    assert any(said in problem for problem in broken[1][name])


def test_nothing_is_asked_of_an_image_that_is_not_there(broken):
    assert len(broken[1]["broken-none"]) == 2 * 2 + 2  # of either sensor it is made, and gives none


CONFIG = """
from dataclasses import dataclass
import pansharp_bench as pb
from pansharp_bench.training import TrainedMethod

class Net(TrainedMethod):
    {decorator}
    class Config(TrainedMethod.Config):
        width{option}
"""


@pytest.mark.parametrize(
    ("decorator", "option", "said"),
    [
        ("", ": int = 3", "Net.Config is no dataclass of its own"),
        ("@dataclass(frozen=True)", " = 3", "Net.Config.width is no option without a type"),
        ("@dataclass(frozen=True, kw_only=True)", ": int", "Net.Config.width has no default"),
        ("@dataclass(frozen=True)", ": 'Width' = 3", "cannot be told: name 'Width' is not defined"),
        ("@dataclass(frozen=True)", ": int = 3\n    presets = ['quick']", "Net.presets is no dict of dicts"),
    ],
)
def test_what_is_no_option_is_refused_where_it_is_written(tmp_path, decorator, option, said):
    file = tmp_path / "net.py"
    file.write_text(CONFIG.format(decorator=decorator, option=option))
    assert f"{said}" in bench("check", "--plugin", file, code=2)


def test_bench_check_exits_with_1_and_finds_one_thing_by_its_name(broken):
    said = bench("check", "--plugin", broken[0], "broken-metric", code=1)
    assert "BROKEN" in said and "broken-unit" not in said and "2 of 2 things asked are broken" in said
    with pytest.raises(BenchError, match="registers no 'nope'; it registers broken-batch, "):
        list(check_plugin(broken[0], "nope"))


def test_bench_check_needs_no_pytest():
    code = "import sys; sys.modules['pytest'] = None; import pansharp_bench.contract, pansharp_bench.cli.new"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def test_help_says_what_the_fields_of_a_card_are():
    for register, fields in (
        (pb.register_method, ("sees", "training", "smallest")),
        (pb.register_metric, ("protocol", "columns", "better")),
        (pb.register_dataset, ("sensor", "stand_in")),
    ):
        assert set(fields) < set(inspect.signature(register).parameters)
        assert all(
            f"    {name}: " in inspect.getdoc(register) for name in inspect.signature(register).parameters
        )
    assert str(inspect.signature(pb.register_method)).startswith("(name: str, *, title: str = ''")


def test_a_track_of_ones_own_runs_and_has_a_table(tmp_path):
    shared = ("--plugin", EXAMPLES / "my_track.py", "--results", tmp_path / "results")
    for method in ("my-sharpen", "my-blur"):
        words = ("--dataset", "my-blurred", "--runs", tmp_path / "runs", "--pictures", 0)
        bench("run", "--method", method, *words, *shared)
    said = bench("leaderboard", *shared)
    assert said.index("| Unsharp mask") < said.index("| As it is") and "From the blurred image" in said


def test_a_package_plugs_in_by_its_entry_points(tmp_path):
    source = tmp_path / "package"
    for path in (EXAMPLES / "package").rglob("*.[pt]*"):
        target = source / path.relative_to(EXAMPLES / "package")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    subprocess.run([sys.executable, "-m", "pip", *words, str(tmp_path / "site"), str(source)], check=True)
    code = (
        "import pansharp_bench as pb; print(pb.list_methods('example-*'), pb.list_metrics('example-*'));"
        "import torch; image = torch.rand(1, 4, 64, 64) * 900 + 9;"
        "print(pb.fuse('example-ratio', image.mean(1, keepdim=True), image[..., ::4, ::4], sensor='qb').shape)"
    )
    path = os.pathsep.join((str(ROOT), str(tmp_path / "site")))
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    names, shape, *_ = (done.stdout or done.stderr).splitlines()
    assert (names, shape) == ("['example-ratio'] ['example-bias']", "torch.Size([1, 4, 64, 64])")
