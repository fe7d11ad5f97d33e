"""Several methods, datasets and seeds in one command, and JSON for programs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pansharp_bench.cli import main

TINY = str(Path(__file__).parent / "plugins" / "tiny.py")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PANSHARP_DATA", raising=False)
    return lambda *words: CliRunner().invoke(main, [str(w) for w in words])


def test_what_is_missing_is_run_in_order_and_what_exists_is_skipped(bench):
    words = ("run", "--plugin", TINY, "--dataset", "tiny", "--quiet", "--pictures", 0, "--set", "steps=2")
    first = bench(*words, "--method", "half,gain", "--seeds", "0,1", "--json")
    assert first.exit_code == 0, first.output
    runs = json.loads(first.stdout)
    assert [(r["method"], r["seed"]) for r in runs] == [("half", 0), ("gain", 0), ("gain", 1)]
    assert all(Path(r["record"]).exists() and r["protocols"]["reduced"]["images"] == 3 for r in runs)
    assert [r["options"].get("steps") for r in runs] == [None, 2, 2]
    assert "0 of 3 runs have a record" in first.stderr and "run 2 of 3" in first.stderr
    kept = {r["record"]: Path(r["record"]).stat().st_mtime_ns for r in runs}
    again = bench(*words, "--method", "half,gain", "--seeds", "0,1,2")
    assert again.exit_code == 0 and again.stderr.count("reused ") == 3, again.output
    assert "Gain on tiny, seed 2" in again.stdout
    assert {path: Path(path).stat().st_mtime_ns for path in kept} == kept


def test_what_is_of_one_run_is_refused_of_several(bench):
    words = ("run", "--plugin", TINY, "--dataset", "tiny")
    refused = bench(*words, "--method", "half,gain", "--force", "--beside", "exp", "--save-fused", "fused")
    assert refused.exit_code == 2 and "--beside, --force, --save-fused: of one run" in refused.stderr
    refused = bench(*words, "--method", "half,exp", "--set", "steps=2")
    assert refused.exit_code == 2 and "none of half, exp is trained step by step" in refused.stderr


def test_seeds_of_one_closed_form_take_its_own_options(bench):
    words = ("run", "--plugin", TINY, "--method", "grey-affine", "--dataset", "tiny", "--seeds", "0,1")
    made = bench(*words, "--set", "pairing=independent", "--quiet", "--pictures", 0, "--json")
    assert [r["options"]["pairing"] for r in json.loads(made.stdout)] == ["independent"] * 2, made.output


def test_what_a_plug_in_prints_is_no_part_of_the_json(bench, tmp_path):
    (tmp_path / "chatty.py").write_text("print('hello')\n")
    said = bench("list", "--plugin", "chatty.py", "--json")
    assert json.loads(said.stdout)["methods"] and "hello" in said.stderr


def test_one_run_and_lists_come_as_json(bench):
    words = ("run", "--plugin", TINY, "--method", "half", "--dataset", "tiny", "--quiet", "--json")
    (run,) = json.loads(bench(*words).stdout)
    assert run["method"] == "half" and set(run["protocols"]) == {"full", "reduced"}
    (card,) = json.loads(bench("list", "gsa", "--json").stdout)["methods"]
    assert card["doi"] == "10.1109/TGRS.2007.901007" and card["sees"] == "pan+ms"
    listed = json.loads(bench("list", "--json").stdout)
    assert {"methods", "metrics", "datasets", "sensors", "tracks", "broken"} <= set(listed)
    assert "gsa" in [c["name"] for c in listed["methods"]]


def test_a_torn_record_is_no_record_and_stops_its_own_run_alone(bench):
    words = ("run", "--plugin", TINY, "--dataset", "tiny", "--quiet", "--pictures", 0, "--set", "steps=2")
    made = json.loads(bench(*words, "--method", "gain", "--seeds", "0,1", "--json").stdout)
    torn = Path(made[0]["record"])
    torn.write_bytes(torn.read_bytes()[:100])
    other = bench(*words, "--method", "gain", "--seeds", "1")
    assert other.exit_code == 0 and "reused" in other.stderr
    for seeds in (("--seeds", "0,1"), ("--seed", 0)):
        said = bench(*words, "--method", "gain", *seeds)
        assert (
            said.exit_code == 2
            and "move it away, or make its run anew with `bench run --force`" in said.stderr
        )
    again = bench(*words, "--method", "gain", "--force")
    assert again.exit_code == 0 and json.loads(torn.read_text())["spec"]["seed"] == 0
