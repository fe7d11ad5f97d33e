"""``bench`` as users meet it: through click's runner, and as a real process."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pansharp_bench import record, registry
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError

TINY = str(Path(__file__).parent / "plugins" / "tiny.py")
GAIN = ("run", "--plugin", TINY, "--method", "gain", "--dataset", "tiny", "--quiet")
BROKEN = str(Path(__file__).parent / "plugins" / "broken.py")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PANSHARP_DATA", raising=False)
    return lambda *words: CliRunner().invoke(main, [str(w) for w in words])


def process(*words, **more):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "pansharp_bench", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **more,
    )


def test_help_shows_every_command(bench):
    result = bench("--help")
    assert result.exit_code == 0
    for word in ("run", "list", "leaderboard", "data", "bench run --method sp-i2i --dataset qb"):
        assert word in result.output


def test_run_ends_with_a_table_and_says_where_things_went(bench, tmp_path):
    result = bench("run", "--plugin", TINY, "--method", "gain", "--dataset", "tiny", "--quiet")
    assert result.exit_code == 0, result.output
    for word in ("ERGAS ↓", "HQNR ↑", "Reduced resolution", "record ", "pictures ", "weights ", "log "):
        assert word in result.output
    (path,) = tmp_path.glob("results/*/*/*/*.json")
    assert str(path.relative_to(tmp_path)) in result.output
    assert isinstance(record.read(path), record.Record)


def test_beside_shows_what_takes_no_training_on_the_same_scenes(bench, tmp_path):
    words = ("run", "--plugin", TINY, "--method", "gain", "--dataset", "tiny", "--quiet", "--beside")
    result = bench(*words, "half,exp", "--beside", "pan-affine")
    assert result.exit_code == 0, result.output
    (header,) = (line for line in result.stdout.splitlines() if line.startswith("protocol"))
    assert re.split(r"\s{2,}", header.strip()) == [
        "protocol",
        "index",
        "Gain",
        "std",
        "half",
        "EXP",
        "PAN affine",
    ]
    scores = {p.parent.name: record.read(p) for p in tmp_path.glob("results/*/*/*/*.json")}
    (line,) = (x for x in result.stdout.splitlines() if x.startswith("Reduced") and "ERGAS" in x)
    assert f"{scores['exp'].protocols['reduced']['mean']['ERGAS']:.3f}" in line.split()
    trained = bench(*words, "fusionnet", "--force")
    assert trained.exit_code == 2 and "bench run --method fusionnet" in trained.stderr


def test_the_same_run_again_is_refused_without_force(bench):
    words = ("run", "--plugin", TINY, "--method", "half", "--dataset", "tiny", "--quiet")
    assert bench(*words).exit_code == 0
    again = bench(*words)
    assert again.exit_code == 2 and "--force" in again.output
    assert bench(*words, "--force").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "sp-i2", "--dataset", "qb"), "did you mean sp-i2i"),
        (("--method", "exp", "--dataset", "qv"), "unknown dataset 'qv'; did you mean qb"),
        (("--method", "sp-i2i", "--dataset", "qb-sim", "--preset", "fast"), "unknown preset 'fast'"),
        (("--method", "exp", "--dataset", "qb", "--data", "no-such-folder"), "no-such-folder"),
        (("--method", "exp", "--dataset", "qb", "--label", "mini"), "--data DIR"),
        (("--method", "exp", "--dataset", "qb", "--plugin", "gone.py"), "gone.py does not exist"),
        (("--method", "exp", "--dataset", "qb", "--set", "steps"), "name=value"),
        (("--method", "exp", "--dataset", "tiny", "--plugin", BROKEN), "broken on purpose (broken.py, line"),
        (("--method", "mine", "--dataset", "qb"), "--plugin FILE adds methods of your own"),
        (("--method", "exp", "--dataset", "qb-sim", "--preset", "nope"), "unknown preset 'nope'"),
        (("--method", "exp", "--dataset", "qb-sim", "--precision", "32-true"), "leave out --precision"),
        (("--method", "exp", "--dataset", "qb-sim", "--pictures", "-3"), "-3 is not in the range"),
        (
            ("--method", "sp-i2i", "--dataset", "qb", "--set", "sp-chroma=1", "--set", "sp_chroma=2"),
            "sp_chroma is given twice: 1 and 2",
        ),
        (
            ("--method", "sp-i2i", "--dataset", "qb", "--samples", "2", "--set", "samples=3"),
            "--samples 2 and --set samples=3: give one of them",
        ),
    ],
)
def test_mistakes_exit_2_with_one_message_and_no_traceback(bench, words, message):
    result = bench("run", *words)
    assert result.exit_code == 2
    assert message in result.output and "Traceback" not in result.output


def test_where_things_go_is_settled_before_any_training(bench, tmp_path):
    (tmp_path / "file").touch()
    result = bench(*GAIN, "--save-fused", "file/images")
    assert result.exit_code == 2 and "cannot write to file/images" in result.stderr
    assert not list(tmp_path.glob("runs/**/losses.jsonl"))
    result = bench(*GAIN, "--set", "steps=-1")
    assert result.exit_code == 2 and "a training of -1 steps cannot be" in result.stderr
    assert not list(tmp_path.glob("runs/**/losses.jsonl"))
    result = bench("figure", "cost", "--dataset", "tiny", "--out", "cost.nope")
    assert result.exit_code == 2 and "cost.nope is no name of a picture; let it end in .png" in result.stderr


def test_pictures_that_cannot_be_written_cost_no_scores(bench, tmp_path, monkeypatch):
    def full(*_):
        raise BenchError("cannot write to scene.png: No space left on device")

    monkeypatch.setattr("pansharp_bench.experiment.compare_scene", full)
    result = bench(*GAIN, "--set", "steps=4")
    assert result.exit_code == 0 and "! no pictures: cannot write to scene.png" in result.stderr
    assert "HQNR" in result.stdout and "record  " in result.stdout


def test_list_shows_all_kinds_and_broken_plugins(bench, monkeypatch):
    monkeypatch.setattr(registry, "broken", {"theirs = package": "ImportError: broken on purpose"})
    result = bench("list", "--plugin", TINY)
    assert result.exit_code == 0
    for word in ("sp-i2i", "gsa", "ergas", "qb-sim", "wv3", "pansharpening", "half", "tiny"):
        assert word in result.output
    assert "broken plug-ins" in result.output and "broken on purpose" in result.output
    assert "ergas" not in bench("list", "methods").output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sp-i2i", ("method SP-I2I", "year        2025", "option", "quick", "paper", "lambda_sp", "150000")),
        ("gsa", ("10.1109/TGRS.2007.901007", "regressed on PAN", "pansharp_bench.methods.gsa")),
        ("hqnr", ("D_lambda", "lower is better", "protocol    full")),
        ("qb-sim", ("simulated   True", "nir ", "0.22", "size ", "default")),
        ("wv3", ("dataset WorldView-3", "sensor WorldView-3", "red-edge", "0.14")),
        ("calibration", ("protocols   calibration, truth",)),
    ],
)
def test_list_shows_the_card_of_one_name(bench, name, words):
    result = bench("list", name)
    assert result.exit_code == 0, result.output
    for word in words:
        assert word in result.output
    assert ":func:" not in result.output and ">>>" not in result.output


def test_list_of_an_unknown_name_says_what_is_near(bench):
    result = bench("list", "sp-i2")
    assert result.exit_code == 2 and "did you mean sp-i2i" in result.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "gbk"])
def test_a_console_without_unicode_gets_plain_signs(bench, encoding):
    words = ("run", "--plugin", TINY, "--method", "half", "--dataset", "tiny", "--quiet", "--pictures", "0")
    result = CliRunner(charset=encoding).invoke(main, words)
    assert result.exit_code == 0, result.output
    assert ("HQNR ↑" if encoding == "gbk" else "HQNR ^") in result.output and "record  " in result.output


@pytest.mark.parametrize(("encoding", "shown"), [("cp1252", b"'?v'"), ("ascii", "'Δ↓'".encode())])
def test_a_process_on_such_a_console_too(encoding, shown):  # where it is ASCII click writes UTF-8
    command = (sys.executable, "-m", "pansharp_bench", "run", "--set", "Δ↓")
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert done.returncode == 2 and shown in done.stderr


def test_a_sign_no_console_has_a_plain_form_for_is_a_question_mark():
    assert "Δ ERGAS ↓ – 1 µm".encode("ascii", errors="plainly") == b"? ERGAS v - 1 um"


def test_ctrl_c_at_any_moment_exits_130(bench, tmp_path, monkeypatch):
    plugin = tmp_path / "slow.py"
    plugin.write_text("raise KeyboardInterrupt\n")
    loading = bench("run", "--plugin", plugin, "--method", "exp", "--dataset", "tiny")
    assert loading.exit_code == 130 and "interrupted" in loading.stderr
    monkeypatch.setattr("pansharp_bench.record.read_all", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert bench("leaderboard").exit_code == 130


@pytest.mark.parametrize("inside", ["import", "plug-in"])
def test_ctrl_c_that_a_library_made_an_error_of_exits_130(bench, tmp_path, monkeypatch, inside):
    """NumPy, interrupted in its import, raises an ImportError."""
    text = (
        "try:\n    raise KeyboardInterrupt\nexcept BaseException as stop:\n    raise ImportError from stop\n"
    )
    if inside == "plug-in":
        (tmp_path / "slow.py").write_text(text)
        assert bench("list", "--plugin", tmp_path / "slow.py").exit_code == 130
    else:
        monkeypatch.setattr("pansharp_bench.record.read_all", lambda *_: exec(text))
        assert bench("leaderboard").exit_code == 130


def commands(group, ctx, *path):
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from commands(command, click.Context(command, parent=ctx, info_name=name), *path, name)
        else:
            yield (*path, name), command


def test_every_option_that_takes_a_number_refuses_what_is_not_finite():
    found = 0
    for path, command in commands(main, click.Context(main, info_name="bench")):
        for param in command.params:
            if isinstance(param.type, (click.types.FloatParamType, click.FloatRange)):
                found += 1
                for value in ("nan", "inf", "-Infinity"):
                    with pytest.raises(click.BadParameter, match=r"not a finite number|not in the range"):
                        pytest.fail(f"{path} {param.name}: {param.type_cast_value(None, value)}")
    assert found >= 8


def test_a_command_offers_only_what_it_heeds():
    offered = {
        " ".join(path): {param.name for param in command.params}
        for path, command in commands(main, click.Context(main, info_name="bench"))
    }
    told = {"devices", "nodes", "pictures"}
    assert {path: told & names for path, names in offered.items() if "accept_faults" in names} == {
        "run": told,
        "table": told,
        "ablate": told,
        "sweep": told - {"nodes"},  # a run is one worker's
        "figure mosaic": set(),  # these train nothing
        "figure compare": set(),
        "score": set(),
    }
    assert "root" in offered["check"] and "without data" not in main.commands["check"].short_help


def test_gains_that_are_not_finite_are_refused(bench):
    refused = bench(
        "fuse", "--method", "gsa", "--pan", "p.tif", "--ms", "m.tif", "-o", "f.tif", "--mtf", "nan"
    )
    assert refused.exit_code == 2 and "'nan' is not a list of finite numbers" in refused.stderr


def test_what_the_system_refuses_is_one_message(bench, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(tmp_path / "results"))

    monkeypatch.setattr("pansharp_bench.record.read_all", refuse)
    result = bench("leaderboard")
    assert result.exit_code == 2 and f"{tmp_path / 'results'}: Permission denied" in result.stderr


def test_leaderboard_from_records(bench, tmp_path):
    for method in ("gain", "half", "exp"):
        assert (
            bench("run", "--plugin", TINY, "--method", method, "--dataset", "tiny", "--quiet").exit_code == 0
        )
    shaped = bench("leaderboard", "--ci", "--plugin", TINY)
    assert "fewer than 6 have none" in shaped.output and "0 [" not in shaped.output
    assert not (tmp_path / "results/leaderboards").exists()
    result = bench("leaderboard", "--plugin", TINY)
    assert result.exit_code == 0, result.output
    assert "tiny: reduced resolution" in result.output
    assert (tmp_path / "results/leaderboards/tiny-reduced.tex").exists()
    missing = bench("leaderboard", "--dataset", "nope", "--plugin", TINY)
    assert missing.exit_code == 2 and "there are: tiny" in missing.output


def test_leaderboard_without_records_says_how_to_get_some(bench):
    result = bench("leaderboard")
    assert result.exit_code == 2 and "bench run" in result.output


def test_as_a_process_errors_go_to_stderr_with_exit_code_2(tmp_path):
    running = process("run", "--method", "nope", "--dataset", "qb", cwd=tmp_path)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 2 and out == ""
    assert "unknown method 'nope'" in err and "Traceback" not in err


def test_ctrl_c_leaves_a_state_that_resumes_to_the_uninterrupted_result(tmp_path):
    words = [
        "run",
        "--plugin",
        TINY,
        "--method",
        "gain",
        "--dataset",
        "tiny",
        "--quiet",
        "--set",
        "steps=3000",
    ]
    running = process(*words, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/**/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)
    assert running.returncode == 130 and "--resume" in err and "Traceback" not in err
    assert not list(tmp_path.glob("results/**/*.json"))

    resumed = process(*words, "--resume", cwd=tmp_path)
    assert resumed.communicate(timeout=120) and resumed.returncode == 0
    straight = tmp_path / "straight"
    straight.mkdir()
    whole = process(*words, cwd=straight)
    assert whole.communicate(timeout=120) and whole.returncode == 0
    (a,), (b,) = (list(folder.glob("results/*/*/*/*.json")) for folder in (tmp_path, straight))
    first, second = record.read(a), record.read(b)
    assert first.weights == second.weights
    assert first.protocols == second.protocols


@pytest.mark.parametrize(
    ("words", "begun", "told"),
    [
        (["run", "--method"], "gsa,mtf-glp-f", ["gsa,mtf-glp-fs"]),
        (["run", "--dataset"], "gf2-", ["gf2-sim"]),
        (["fuse", "--sensor"], "wv", ["wv2", "wv3", "wv4"]),
        (["run", "--preset"], "", ["quick", "standard", "paper"]),
    ],
)
def test_the_shell_completes_names(words, begun, told):
    from click.shell_completion import ShellComplete

    found = ShellComplete(main, {}, "bench", "_BENCH_COMPLETE").get_completions(words, begun)
    assert [item.value for item in found] == told


@pytest.mark.parametrize(
    ("command", "hint"), [("run", True), ("fuse", True), ("speed", False), ("list", False)]
)
def test_ctrl_c_tells_of_resuming_where_that_can_be(monkeypatch, command, hint):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main.commands[command], "invoke", interrupted)
    words = {"run": ["--dataset", "qb"], "fuse": ["--pan", "p", "--ms", "m", "-o", "f.tif"]}
    done = CliRunner().invoke(main, [command, *words.get(command, [])])
    assert done.exit_code == 130 and ("--resume" in done.stderr) == hint, done.output
