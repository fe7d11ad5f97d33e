"""``pb.load_results``: every score of every record, and nothing else."""

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from records import make

import pansharp_bench as pb
from pansharp_bench import record
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError
from pansharp_bench.record import summarise

ROOT = Path(__file__).resolve().parents[1]


def test_values_are_those_of_the_committed_records():
    frame = pb.load_results(ROOT / "results")
    words = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    seen = 0
    for path, of_run in frame.groupby("record"):
        data = json.loads(Path(path).read_text())
        assert set(of_run["spec_sha256"]) == {data["spec_sha256"]} and set(of_run["seed"]) == {
            data["spec"]["seed"]
        }
        of_column = dict(list(of_run.groupby(["protocol", "metric"])))
        assert len(of_column) == sum(len(p["scores"]) for p in data["protocols"].values())
        for (protocol, metric), rows in of_column.items():
            theirs = [words.get(x, x) for x in data["protocols"][protocol]["scores"][metric]]
            assert rows["value"].tolist() == pytest.approx(theirs, rel=0, abs=0, nan_ok=True)
            seen += len(theirs)
    assert seen == len(frame)
    assert frame["record"].nunique() == len(list((ROOT / "results").glob("*/*/*/*.json")))
    assert set(frame["better"]) == {"high", "low"}  # though the oldest records do not say


def test_rows_say_which_image_and_which_seed(tmp_path):
    for seed in (3, 4):
        record.write(make(seed, SAM=[1.5, math.nan, 2.0], PSNR=[math.inf, 30.0, 31.0], chi2=[0.25]), tmp_path)
    frame = pb.load_results(tmp_path)
    assert len(frame) == 14
    words = re.findall(r"^ *``(\w+)``", pb.load_results.__doc__, re.MULTILINE)
    assert set(words) | {"title", "kind", "sees", "training", "protocol"} == set(frame.columns)
    one = frame[frame["seed"] == 4].set_index("metric")
    assert one.loc["SAM", "image"].tolist() == [0, 1, 2]
    assert one.loc["SAM", "value"].isna().tolist() == [False, True, False]
    assert one.loc["PSNR", "value"].tolist() == [math.inf, 30.0, 31.0]
    assert math.isnan(frame["value"].mean(skipna=False))
    assert frame[frame["metric"] == "chi2"]["image"].isna().all()  # of the whole set
    assert one["title"].unique().tolist() == ["EXP"] and one["track"].unique().tolist() == ["pansharpening"]


def test_what_differs_from_the_preset_is_said_and_options_become_columns_on_request(tmp_path):
    record.write(make(SAM=[1.0]), tmp_path)
    for levels, changed in ((4, []), (6, ["levels"])):
        plain = make(SAM=[float(levels)])
        spec = {**plain.spec, "method": "sp-i2i", "options": {"levels": levels}, "changed": changed}
        record.write(replace(plain, spec=spec, spec_sha256=record.spec_hash(spec)), tmp_path)
    frame = pb.load_results(tmp_path, options=["levels"]).set_index("value")
    assert frame["changed"].to_dict() == {1.0: "", 4.0: "", 6.0: "levels=6"}
    assert frame["options.levels"].dropna().to_dict() == {4.0: 4, 6.0: 6}
    assert "options.levels" not in pb.load_results(tmp_path)
    with pytest.raises(BenchError, match="option nope"):
        pb.load_results(tmp_path, options=["levels", "nope"])


def test_rows_scored_on_other_files_can_be_told_apart(tmp_path):
    for seed, sha in ((0, "aa"), (1, "aa"), (2, "bb")):
        plain = make(seed, SAM=[1.0])
        record.write(
            replace(plain, dataset={**plain.dataset, "test_fingerprint": {"reduced": sha}}), tmp_path
        )
    assert pb.load_results(tmp_path).groupby("test_sha256")["seed"].agg(set).tolist() in (
        [{0, 1}, {2}],
        [{2}, {0, 1}],
    )


@pytest.mark.parametrize(
    ("mend", "said"),
    [
        (lambda data: data["protocols"]["reduced"].pop("scores"), "lacks scores"),
        (lambda data: data["protocols"].update(reduced=["SAM"]), "lacks"),
        (lambda data: data.update(protocols=[]), "not a whole record"),
        (
            lambda data: data["protocols"]["reduced"]["scores"].update(SAM=[1.0, "?"]),
            "SAM of protocol reduced",
        ),
        (lambda data: data.update(schema=99), "schema 99"),
        (lambda data: data.update(schema=1, training=["steps"]), "not a whole record"),
    ],
)
def test_a_broken_record_is_left_out_with_a_warning_that_names_it(tmp_path, mend, said):
    good, bad = (record.write(make(seed, SAM=[1.0]), tmp_path) for seed in (0, 1))
    data = json.loads(bad.read_text())
    del data["sha256"]
    mend(data)
    bad.write_text(json.dumps(data))
    with pytest.warns(UserWarning, match=rf"left out: {bad}.*{said}"):
        frame = pb.load_results(tmp_path)
    assert frame["record"].tolist() == [str(good)]


def test_datasets_are_chosen_and_no_others_read(tmp_path):
    plain = make(SAM=[1.0, 2.0])
    other = {**plain.spec, "dataset": "gf2"}
    record.write(replace(plain, spec=other, dataset={**plain.dataset, "name": "gf2"}), tmp_path)
    unread = record.write(plain, tmp_path)
    unread.write_text("{")
    assert pb.load_results(tmp_path, datasets=["gf2"])["dataset"].tolist() == ["gf2", "gf2"]
    with pytest.raises(BenchError, match=rf"no records of dataset 'gf' under {tmp_path}; there are: gf2, "):
        pb.load_results(tmp_path, datasets=["gf2", "gf"])
    done = CliRunner().invoke(main, ["leaderboard", "--dataset", "gf2", "--results", str(tmp_path)])
    assert done.exit_code == 0 and "left out" not in done.stderr


def test_categories_say_the_same_in_less_memory():
    words = pb.load_results(ROOT / "results")
    frame = pb.load_results(ROOT / "results", categories=True)
    assert frame["method"].dtype == "category" and frame["seed"].dtype == words["seed"].dtype
    assert frame.memory_usage(deep=True).sum() < 0.4 * words.memory_usage(deep=False).sum()
    by = ["dataset", "protocol", "method", "metric"]
    means = frame.groupby(by, observed=True)["value"].mean()
    assert means.to_dict() == pytest.approx(
        words.groupby(by)["value"].mean().to_dict(), nan_ok=True, rel=0, abs=0
    )
    assert frame["record"].tolist() == words["record"].tolist()


def test_no_records_is_one_clear_error(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BenchError, match=rf"no records under {folder}: `bench run` writes one"):
            pb.load_results(folder)


def test_summaries_and_rows_agree(tmp_path):
    scores = {"SAM": [1.0, 2.0, 4.0], "ERGAS": [3.0, 5.0, 7.0]}
    record.write(make(**scores), tmp_path)
    means = pb.load_results(tmp_path).groupby("metric")["value"].mean()
    assert means.to_dict() == pytest.approx(summarise(scores)["mean"])


def test_pandas_is_imported_when_a_frame_is_asked_for():
    code = "import sys, pansharp_bench.results; print('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
