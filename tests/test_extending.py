"""What plugs in from outside: examples that are what `bench new` writes, run, and keep to what is asked."""

import inspect
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

pb.register_sensor(Sensor("broken-sensor", "", ("a", "a"), 1.0, (0.3, 0.3), 0.15, (0, 1, 1)))

@pb.register_metric("broken-metric", columns=("Broken",), better=("low",))
def metric(fused, reference):
    """One number for the whole batch"""
    return (fused - reference).abs().mean()

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
        ("broken-sensor", "two bands have one name: a, a"),
        ("broken-metric", "Broken is () for 2 images"),
        ("broken-name", "asks for truth; it may ask for fused, reference, sensor, ratio, peak"),
    ],
)
def test_what_is_broken_is_said_in_words(broken, name, said):
    assert any(said in problem for problem in broken[1][name])


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
