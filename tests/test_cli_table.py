"""``bench table`` and ``bench ablate``: records are reused or made, and printed as the paper prints them."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from records import make
from safetensors.torch import load_file

from pansharp_bench import record
from pansharp_bench.cli import main
from pansharp_bench.cli.records import expected_seconds
from pansharp_bench.cli.table import variants_of
from pansharp_bench.errors import BenchError
from pansharp_bench.files import sha256_of
from pansharp_bench.plan import RunSpec, outline, recorded

TINY = str(Path(__file__).parent / "plugins" / "tiny.py")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PANSHARP_DATA", raising=False)
    return lambda *words: CliRunner().invoke(main, [str(w) for w in words])


@pytest.fixture
def papers(tmp_path, monkeypatch):
    papers = tmp_path / "papers.toml"
    papers.write_text(
        '[7]\ntitle = "Some paper, Table 7"\ndataset = "tiny"\nprotocols = ["reduced"]\nsource = ""\n'
        'methods = ["half", "gain"]\n'
    )
    monkeypatch.setattr(sys.modules["pansharp_bench.cli.table"], "PAPERS", papers)


def test_variants_of_the_command_line():
    assert variants_of(["--levels", "1,2", "--no-gating", "--lr=0.1"]) == [
        {"levels": "1"}, {"levels": "2"}, {"gating": "false"}, {"lr": "0.1"},
    ]  # fmt: skip
    assert variants_of([]) == [{}]
    for words in (["levels"], ["--levels"], ["--levels", "--no-gating"]):
        with pytest.raises(BenchError):
            variants_of(words)


def test_ablate_runs_every_variant_once_and_reuses_it(bench, tmp_path):
    words = (
        "ablate",
        "gain",
        "--plugin",
        TINY,
        "--dataset",
        "tiny",
        "--quiet",
        "--steps",
        "8,16,40",
        "--no-select",
    )
    first = bench(*words, "--out", tmp_path / "out")
    assert first.exit_code == 0, first.output
    rows = [line for line in first.output.splitlines() if line.startswith("| Gain")]
    assert [r.split("|")[4].strip() for r in rows] == [
        "quick, steps=8, select=True", "quick, steps=16, select=True", "quick, steps=40, select=True",
        "quick, steps=40, select=False",
    ]  # fmt: skip
    assert len(list(tmp_path.glob("results/**/*.json"))) == 4
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".md", ".csv", ".tex"}
    again = bench(*words)
    assert again.output.count("reused") == 4


def test_ablate_settles_every_variant_before_the_first_trains(bench, tmp_path):
    result = bench("ablate", "gain", "--plugin", TINY, "--dataset", "tiny", "--steps", "8", "--bogus", "3")
    assert result.exit_code == 2 and "unknown option 'bogus'" in result.output
    assert not list(tmp_path.rglob("*.json*"))


def test_ablating_inference_uses_given_weights(bench, tmp_path):
    trained = bench("run", "--method", "gain", "--plugin", TINY, "--dataset", "tiny", "--quiet")
    (weights,) = tmp_path.glob("runs/**/weights.safetensors")
    words = ("ablate", "gain", "--plugin", TINY, "--dataset", "tiny", "--quiet", "--weights", weights)
    result = bench(*words, "--seeds", "0,0,1", "--lr", "0.1,0.2")
    assert trained.exit_code == result.exit_code == 0, result.output
    assert result.output.count("weights from its own training") == 2
    theirs = tmp_path / "theirs.pth"  # says nothing of its training
    torch.save(
        {"params": {k: 0 * v for k, v in load_file(weights).items()}, "params_ema": load_file(weights)},
        theirs,
    )
    assert "which is meant" in bench(*words[:-1], theirs, "--lr", "0.3").output
    chosen = bench(*words[:-1], f"{theirs}:params_ema", "--lr", "0.3").output
    (row,) = (line.split("|")[4].strip() for line in chosen.splitlines() if line.startswith("| Gain"))
    assert row == f"weights from theirs.pth:params_ema ({sha256_of(theirs)[:8]})"
    (path,) = (p for p in tmp_path.glob("results/**/*.json") if "theirs" in p.read_text())
    made = record.read(path)
    assert made.weights["file"] == "theirs.pth:params_ema"
    assert made.spec["weights"] == {"file_sha256": sha256_of(theirs), "state_dict": "params_ema"}
    assert len(list(tmp_path.glob("runs/**/losses.jsonl"))) == 1


def test_a_papers_table_from_records(bench, tmp_path, monkeypatch):
    papers = tmp_path / "papers.toml"
    papers.write_text(
        '[7]\ntitle = "Some paper, Table 7"\ndataset = "tiny"\nprotocols = ["reduced"]\nsource = ""\n'
        'methods = ["half", "gain", "exp"]\n'
    )
    monkeypatch.setattr(sys.modules["pansharp_bench.cli.table"], "PAPERS", papers)
    dry = bench("table", "7", "--plugin", TINY, "--dry-run")
    assert dry.exit_code == 0 and dry.output.count("missing") == 3 and not list(tmp_path.rglob("*.json"))
    made = bench("table", "7", "--plugin", TINY, "--quiet", "--seeds", "0,1")
    assert made.exit_code == 0, made.output
    rows = [line.split("|")[1].strip() for line in made.output.splitlines() if line.startswith("| ")]
    assert [r for r in rows if r in ("half", "Gain", "EXP")] == ["half", "Gain", "EXP"]
    assert "2 seeds" in made.output and "HQNR" not in made.output
    assert bench("table", "7", "--plugin", TINY, "--dry-run", "--seeds", "0,1").output.count("have ") == 4
    more = bench("table", "7", "--plugin", TINY, "--dry-run", "--seeds", "0,1,2")
    assert more.output.count("have ") == 4
    assert "missing  gain · tiny · quick · seed 2: under a minute" in more.output
    words = ("table", "7", "--plugin", TINY, "--dry-run", "--seeds", "2", "--json")
    half, gain, exp = json.loads(bench(*words).stdout)
    assert Path(half["record"]).exists() and Path(exp["record"]).exists() and half["expected_seconds"] is None
    assert gain["record"] is None and 0 < gain["expected_seconds"] < 60 and gain["seed"] == 2


def test_a_table_says_what_it_will_run_and_how_long_about(bench, papers):
    first = bench("table", "7", "--plugin", TINY, "--quiet", "--pictures", "0")
    assert "0 of 2 runs have a record; to be made:" in first.stderr
    assert "run 2 of 2: gain · tiny · quick · seed 0" in first.stderr and "no such run" in first.stderr
    then = bench("table", "7", "--plugin", TINY, "--quiet", "--pictures", "0", "--seeds", "0,1")
    assert "2 of 3 runs have a record" in then.stderr and "seed 1: under a minute" in then.stderr
    third = bench("table", "7", "--plugin", TINY, "--quiet", "--seeds", "0,1")
    assert "to be made" not in third.stderr and third.stderr.count("reused") == 4
    assert third.stdout == then.stdout


def test_a_dry_run_makes_nothing(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))
    dry = bench("table", "2", "--dry-run")  # of a set that is simulated on first use
    assert dry.exit_code == 0 and dry.output.count("missing") == 6 and "sp-i2i · qb-sim · quick" in dry.output
    assert not list(tmp_path.iterdir())


def test_a_table_whose_records_are_there_needs_no_data_file(bench, tmp_path, monkeypatch):
    papers = tmp_path / "papers.toml"
    papers.write_text(
        '[7]\ntitle = "T"\ndataset = "qb"\nprotocols = ["reduced"]\nsource = ""\nmethods = ["exp"]\n'
    )
    monkeypatch.setattr(sys.modules["pansharp_bench.cli.table"], "PAPERS", papers)
    plain, spec = make(ERGAS=[1.25]), {**outline(RunSpec("exp", "qb", label="mini")), "data": "not at hand"}
    of_mini = {**plain.dataset, "name": "qb-mini"}
    of_exp = {**plain.method, "kind": "classical"}
    record.write(
        replace(plain, spec=spec, spec_sha256=record.spec_hash(spec), dataset=of_mini, method=of_exp),
        Path("results"),
    )
    made = bench("table", "7", "--label", "mini")
    assert made.exit_code == 0, made.output
    assert "qb-mini: " in made.stdout and "1.250" in made.stdout
    absent = bench("table", "7", "--label", "other")
    assert absent.exit_code == 2 and "--data DIR" in absent.stderr


def test_a_record_of_another_simulator_is_no_record(bench, tmp_path, monkeypatch):
    dataset = sys.modules["pansharp_bench.registry"].DATASETS.get("qb-sim").obj()
    results, spec = tmp_path / "results", RunSpec("exp", "qb")
    for version in (dataset.provenance(), dataset.provenance() | {"simulator_version": 0}):
        for path in results.rglob("*.json"):
            path.unlink()
        plain = make(ERGAS=[1.0])
        spec_of = {**outline(spec), "data": "of other days"}
        of_sim = {**plain.dataset, "name": "qb-sim", "provenance": version}
        path = record.write(
            replace(plain, spec=spec_of, spec_sha256=record.spec_hash(spec_of), dataset=of_sim), results
        )
        wanted = path if version == dataset.provenance() else None
        assert recorded(spec, results) == wanted
        assert recorded(replace(spec, data=tmp_path), results) is None  # files that are there are looked at


def test_the_time_is_told_in_proportion_to_the_steps(bench, tmp_path):
    spec = RunSpec("sp-i2i", "qb", options={"steps": 100, "levels": 6}, device="cpu")
    assert expected_seconds(spec, tmp_path) is None
    plain, told = make(ERGAS=[1.0, 2.0]), outline(spec)
    for dataset, levels, seconds in (("gf2-sim", 6, 7.0), ("qb-sim", 4, 60.0), ("qb-sim", 5, 30.0)):
        of_run = {**told, "dataset": dataset, "options": {**told["options"], "steps": 400, "levels": levels}}
        device = "cuda:0" if levels == 5 else "cpu"
        record.write(
            replace(
                plain, spec=of_run, spec_sha256=record.spec_hash(of_run), environment={"device": device},
                training={"seconds": seconds}, inference={"reduced": {"seconds_per_image": 2.0}},
            ),
            tmp_path,
        )  # fmt: skip
    assert expected_seconds(spec, tmp_path) == 60 * 100 / 400 + 2 * 2.0


def test_what_cannot_be_written_at_the_end_is_said_at_the_start(bench, tmp_path, papers):
    (tmp_path / "file").write_text("")
    for words in (("table", "7"), ("ablate", "gain", "--dataset", "tiny")):
        result = bench(*words, "--plugin", TINY, "--out", tmp_path / "file" / "out")
        assert result.exit_code == 2 and "cannot write to" in result.stderr
    assert not list(tmp_path.rglob("*.json*"))


def test_an_option_for_all_rows_yields_to_a_rows_own_and_tells_no_rows_apart(bench, tmp_path, monkeypatch):
    papers = tmp_path / "papers.toml"
    papers.write_text(
        '[7]\ntitle = "Some paper, Table 7"\ndataset = "tiny"\nprotocols = ["reduced"]\nsource = ""\n'
        'methods = [{ method = "gain", select = true }, { method = "gain", select = false, steps = 16 }]\n'
    )
    monkeypatch.setattr(sys.modules["pansharp_bench.cli.table"], "PAPERS", papers)
    made = bench("table", "7", "--plugin", TINY, "--quiet", "--set", "steps=8", "--set", "lr=0.05")
    assert made.exit_code == 0, made.output
    rows = [line for line in made.output.splitlines() if line.startswith("| Gain")]
    # lr is given as the preset has it: a row would name it only if it told rows apart
    assert [r.split("|")[4].strip() for r in rows] == [
        "quick, select=True, steps=8", "quick, select=False, steps=16",
    ]  # fmt: skip
    mistaken = bench("table", "7", "--plugin", TINY, "--set", "bogus=1")
    assert mistaken.exit_code == 2 and "unknown option 'bogus'" in mistaken.output


def test_an_unknown_table_lists_the_known(bench):
    result = bench("table", "99")
    assert result.exit_code == 2 and "known are: 1, 2, 3, 4" in result.output
