"""Tables: derived, grouped, ranked within a side, honest about what is missing, mixed or published."""

import csv
import io
import json
import math
import re
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pansharp_bench import figures
from pansharp_bench import record as records
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError
from pansharp_bench.record import Record, summarise
from pansharp_bench.registry import METHODS
from pansharp_bench.tables import (
    MISSING,
    RENDERERS,
    Choice,
    Row,
    bootstrap_interval,
    critical_difference,
    named_apart,
    published_values,
    rank_tables,
    read_remarks,
    refreshed,
    tables,
    timed_alike,
    to_csv,
    to_json,
    to_latex,
    to_markdown,
    write_tables,
)
from pansharp_bench.tables.formatting import cost_text
from pansharp_bench.timings import Figure, Rates, Speeds, read_speeds
from pansharp_bench.timings import write as write_speeds

ROOT = Path(__file__).resolve().parents[1]


def make(
    method,
    sees="pan+ms",
    dataset="qb-mini",
    seed=0,
    test="aa",
    protocols=None,
    simulated=False,
    verified=False,
    train="t",
    splits=("reduced", "full"),
    **extra,
):
    spec = {
        "track": "pansharpening",
        "dataset": dataset,
        "method": method,
        "preset": "untrained",
        "seed": seed,
        "options": {},
        "changed": [],
        "weights": {},
        "data": test,
        **extra,
    }
    protocols = protocols or {"reduced": {"ERGAS": [2.0, 4.0], "SAM": [1.0, 3.0], "Q2n": [0.8, 0.9]}}
    return Record(
        schema=records.SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        spec=spec,
        spec_sha256=records.spec_hash(spec),
        method={
            "name": method,
            "title": method.upper(),
            "sees": sees,
            "training": "none",
            "kind": "classical",
        },
        dataset={
            "name": dataset,
            "sensor": "qb",
            "channels": 4,
            "peak": 2047,
            "files": [
                {"split": s, "path": f"{s}.h5", "sha256": h, "verified": verified}
                for s, h in (("train", train * 64), *((s, test * 32) for s in splits))
            ],
            "fingerprint": test,
            "test_fingerprint": dict.fromkeys(splits, test),
            "provenance": {"simulator_version": 1} if simulated else {},
        },
        protocols={k: summarise(v) for k, v in protocols.items()},
    )


def ergas(value):
    return {"reduced": {"ERGAS": [value, value]}}


def cells_of(table, label):
    (row,) = (r for r in table.rows if r.label == label and r.source == "measured")
    return {c.name: cell for c, cell in row.cells.items()}


def write_timed(record, results):
    """A record, and what `bench speed` wrote of its method with these options."""
    records.write(record, results)
    spec, channels = record.spec, record.dataset["channels"]
    known = [f for s in read_speeds(results) for f in s.figures]
    own = Figure("inference", spec["method"], channels, 1 << 16, options=spec["options"], seconds=0.01)
    here = {"device": "cpu", "processor": "Some Chip", "threads": 1}
    write_speeds(Speeds("2026-01-01", here, {}, Rates(1e9, 1e9), [*known, own]), results)


def test_means_are_over_images_and_columns_follow_the_metric_cards():
    (table,) = tables([make("a")])
    assert [c.label for c in table.columns] == ["ERGAS", "SAM", "Q4"]
    assert cells_of(table, "A")["ERGAS"].mean == 3.0
    assert cells_of(table, "A")["ERGAS"].std == pytest.approx(math.sqrt(2))


def test_sides_are_apart_and_each_has_its_best():
    same = make("same", "pan", protocols=ergas(0.0))
    table = tables(
        [
            make("good", protocols=ergas(1.0)),
            make("fair", protocols=ergas(2.0)),
            make("poor", protocols=ergas(3.0)),
            make("blind", "pan", protocols=ergas(9.0)),
            make("deaf", "pan", protocols=ergas(8.0)),
            make("bag", "pan+bag", protocols=ergas(0.5)),
            make("oracle", "reference", protocols=ergas(0.1)),
            replace(
                same, method={**same.method, "kind": "untouched"}
            ),  # resembles its source like nothing else
        ]
    )[0]
    marks = {table.rows[i].label: mark for (i, _), mark in table.marks().items()}
    assert marks == {"GOOD": "best", "FAIR": "second", "DEAF": "best", "BLIND": "second"}
    measured = [r.label for r in table.rows if r.source == "measured"]
    assert measured == ["GOOD", "FAIR", "POOR", "SAME", "DEAF", "BLIND", "BAG", "ORACLE"]


def test_below_its_floor_nothing_is_better():
    runs = [
        make(name, protocols=ergas(value)) for name, value in zip("abcd", (0.1, 0.3, 0.5, 0.7), strict=True)
    ]
    for run in runs:
        run.protocols["reduced"]["floors"] = {"ERGAS": 0.4}
    (table,) = tables(runs)
    marks = {table.rows[i].label: mark for (i, _), mark in table.marks().items()}
    assert marks == {"A": "best", "B": "best", "C": "second"}
    assert cells_of(table, "A")["ERGAS"].mean == 0.1
    other = [replace(r, dataset={**r.dataset, "name": "other"}) for r in runs]
    (ranks,) = rank_tables([table, *tables(other)])
    assert [r.cells[ranks.columns[-1]].mean for r in ranks.rows] == [1.5, 1.5, 3.0, 4.0]


def test_a_missing_score_shows_as_missing_and_never_vanishes_in_a_mean():
    nan = math.nan
    table = tables(
        [
            make("a", protocols={"reduced": {"SAM": [1.0, nan]}}),
            make("b", protocols={"reduced": {"SAM": [2.0, 2.0]}}),
        ]
    )[0]
    assert math.isnan(cells_of(table, "A")["SAM"].mean)
    text = to_markdown(table)
    (line,) = (x for x in text.splitlines() if x.startswith("| A "))
    assert MISSING in line
    assert "missing (NaN)" in text and "missing (NaN)" not in to_markdown(tables([make("a")])[0])
    assert "best" not in {m for (i, _), m in table.marks().items() if table.rows[i].label == "A"}


def test_different_files_never_share_a_table():
    made = tables([make("a", test="aa"), make("b", test="bb")])
    assert len(made) == 2
    assert all(len([r for r in t.rows if r.source == "measured"]) == 1 for t in made)
    assert len({t.name for t in made}) == 2
    assert all("1 record(s) of qb-mini do not compare with these" in t.notes[0] for t in made)
    assert all("reduced, full (other files of the same name)" in t.notes[0] for t in made)
    assert not any(n.startswith("Not scored") for t in made for n in t.notes)  # they are, elsewhere


def test_another_sensor_or_another_reading_never_shares_a_table():
    plain, other = {"name": "mine", "mtf": [0.3]}, {"name": "mine", "mtf": [0.4]}
    source = {"dataset": {"mine.py": "aa"}}
    found = [make("a", sensor=plain), make("b", sensor=other), make("c"), make("d", source=source)]
    made = tables([*found, make("e", sensor=plain), make("f", source={"metric m": {"m.py": "aa"}})])
    labels = [{r.label for r in t.rows if r.source == "measured"} for t in made]
    assert labels == [{"A", "E"}, {"B"}, {"C", "F"}, {"D"}] and len({t.name for t in made}) == 4


def test_a_metric_that_came_or_changed_makes_no_second_row_and_is_told():
    def scored(method, value, code, created, **extra):
        source = {"metric m": {"m.py": code}} if code else {}
        protocols = {"reduced": {"ERGAS": [1.0]} | ({"M": [value]} if code else {})}
        record = make(method, protocols=protocols, **({"source": source} if source else {}), **extra)
        return replace(record, created=created)

    found = [scored("a", 0.0, "", "2026-01-01"), scored("a", 0.2, "new", "2026-01-03")]
    found += [scored("a", 0.1, "old", "2026-01-02"), scored("b", 0.1, "old", "2026-01-02")]
    (table,) = tables(found)
    assert cells_of(table, "A")["M"].mean == 0.2  # the newest, whatever the order
    assert "seeds" not in "".join(r.variant for r in table.rows if r.source == "measured")
    assert any("Metric m changed between these runs" in n for n in table.notes)


def test_a_method_whose_plug_in_changed_has_a_row_for_each_code():
    def of(code):
        return make("a", source={"method": {"a.py": code}}, protocols=ergas(1.0))

    (table,) = tables([of("x"), of("y"), make("b", source={"method": {"b.py": "x"}})])
    variants = {r.label: r.variant for r in table.rows if r.source == "measured"}
    rows = [r.variant for r in table.rows if r.label == "A" and r.source == "measured"]
    assert len(rows) == 2 and len({*rows}) == 2 and all(v.startswith("code ") for v in rows)
    assert variants["B"] == ""


def test_seeds_of_one_method_are_one_row():
    options = {"x": 1, "y": 2}  # in whatever order
    turned = dict(reversed(options.items()))
    found = [
        make("a", seed=s, protocols=ergas(v), options=o) for s, v, o in ((0, 1.0, options), (1, 3.0, turned))
    ]
    made = tables(found)
    assert cells_of(made[0], "A")["ERGAS"].mean == 2.0
    (row,) = (r for r in made[0].rows if r.source == "measured")
    assert "2 seeds" in row.variant


def test_simulated_and_mini_are_never_shown_as_the_public_set():
    for dataset, simulated in (("qb-mini", False), ("qb-sim", True)):
        (table,) = tables([make("a", dataset=dataset, simulated=simulated)])
        assert table.title.startswith(dataset)
        groups = {r.group for r in table.rows if r.source == "published"}
        head = "Published on PanCollection QB (other images: for orientation only)"
        assert groups == {f"{head}, with co-registration", f"{head}, without co-registration"}
        notes = " ".join(table.notes)
        assert ("Simulated" if simulated else "no row of qb-mini is a PanCollection result") in notes


@pytest.mark.parametrize(
    ("dataset", "extra"),
    [("mine", {}), ("ge1-mine", {}), ("qb-mine", {"source": {"dataset": {"mine.py": "0"}}})],
)
def test_a_dataset_that_no_paper_knows_has_no_published_rows(dataset, extra):
    """Of another paper's sensor though it be."""
    (table,) = tables([make("a", dataset=dataset, **extra)])
    assert {r.source for r in table.rows} == {"measured"} and "PanCollection" not in " ".join(table.notes)


def test_only_verified_files_are_shown_as_the_public_set():
    for verified, own in ((True, True), (None, False), (False, False)):
        (table,) = tables([make("a", dataset="qb", verified=verified)])
        assert ("(files not verified)" not in table.title) == own
        published = {r.group for r in table.rows if r.source == "published"}
        assert published and all(("other images" in g) != own for g in published)


def test_training_on_other_files_is_another_row():
    (table,) = tables([make("a", train="t"), make("a", train="u", seed=1)])
    assert len([r for r in table.rows if r.source == "measured"]) == 2


def test_the_same_record_twice_is_one_seed():
    (table,) = tables([make("a"), make("a")])
    (row,) = (r for r in table.rows if r.source == "measured")
    assert "seeds" not in row.variant


def test_rows_of_one_protocol_only_join_a_combined_table():
    both = {"full": {"HQNR": [0.9]}, "reduced": {"ERGAS": [1.0]}}
    oracle = make("o", "reference", protocols=ergas(0.1), splits=("reduced",))
    (table,) = tables([make("a", protocols=both), oracle], combine=True)
    assert [r.label for r in table.rows if r.source == "measured"] == ["A", "O"]
    other = make("b", protocols=both, test="bb")
    assert len(tables([make("a", protocols=both), oracle, other], combine=True)) == 2


def test_learning_from_sharp_references_is_never_ranked():
    peeked = replace(make("p", "pan", protocols=ergas(0.5)), training={"data": {"target": "gt"}})
    table = tables([peeked, make("a", "pan", protocols=ergas(1.0)), make("b", "pan", protocols=ergas(2.0))])[
        0
    ]
    marks = {table.rows[i].label: mark for (i, _), mark in table.marks().items()}
    assert marks == {"A": "best", "B": "second"}


def test_a_metric_that_is_gone_keeps_its_column():
    record = make("a")
    scored = {**summarise({"ERGAS": [1.0], "GONE": [2.0]}), "better": {"ERGAS": "low", "GONE": "low"}}
    (table,) = tables([replace(record, protocols={"reduced": scored})])
    assert [(c.name, c.better) for c in table.columns] == [("ERGAS", "low"), ("GONE", "low")]


def test_a_papers_table_keeps_its_order_and_its_own_published_rows():
    found = [make("sp-i2i", "pan", protocols=ergas(1.0)), make("cut", "pan", protocols=ergas(2.0))]
    (table,) = tables(found, methods=["cut", "sp-i2i"], source="SP-I2I paper")
    assert [r.label for r in table.rows if r.source == "measured"] == ["CUT", "SP-I2I"]
    assert [r.label for r in table.rows if r.source == "published"] == ["CUT", "SP-I2I"]


def test_published_rows_are_told_apart_and_never_ranked():
    (table,) = tables([make("sp-i2i", "pan", dataset="qb", protocols=ergas(99.0))], all_published=True)
    published = {r.label: r for r in table.rows if r.source == "published"}
    assert {"SP-I2I", "UNSB", "CUT", "DCPNet", "CANConv", "PAN-Crafter"} <= set(published)
    (value,) = published["SP-I2I"].cells.values()
    assert value.mean == 10.549
    assert not any(table.rows[i].source == "published" for i, _ in table.marks())
    assert "*SP-I2I*" in to_markdown(table)


def test_a_value_its_own_source_calls_wrong_is_left_out():
    values = [
        line["value"]
        for line in published_values()
        if line["method"] == "BDSD-PC" and line["dataset"] == "GF2" and line["metric"] == "Q4"
    ]
    assert "0.9932" in values
    record = make("a", dataset="gf2-mini", protocols={"reduced": {"Q2n": [0.5]}})
    (table,) = tables([record], all_published=True)
    (row,) = (r for r in table.rows if r.label == "BDSD-PC")
    assert [cell.mean for cell in row.cells.values()] == [0.892]


def test_csv_has_full_precision_and_latex_is_escaped():
    (table,) = tables([make("a_b", protocols={"reduced": {"ERGAS": [1 / 3] * 6}})], spread="ci")
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    (measured,) = (r for r in rows if r["source"] == "measured")
    assert float(measured["mean"]) == 1 / 3 and float(measured["ci95_low"]) == pytest.approx(1 / 3)
    (other,) = tables([make("b", protocols={"reduced": {"ERGAS": [1.0, 2, 3, 4, 5, 6]}})], spread="ci")
    (row,) = (r for r in csv.DictReader(io.StringIO(to_csv(other))) if r["source"] == "measured")
    assert float(row["ci95_low"]) < 3.0 < float(row["mean"]) == 3.5 < 4.0 < float(row["ci95_high"])
    latex = to_latex(table)
    assert r"A\_B" in latex and r"\begin{tabular}{lc}" in latex and latex.count("{") == latex.count("}")


def test_bootstrap_interval_covers_the_mean_as_theory_says():
    scores = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap_interval(scores)
    half = 1.96 * scores.std(ddof=1) / math.sqrt(400)
    assert low == pytest.approx(scores.mean() - half, abs=0.03)
    assert high == pytest.approx(scores.mean() + half, abs=0.03)
    assert all(map(math.isnan, bootstrap_interval([1.0, math.nan])))


def test_writing_gives_every_format_and_an_index(tmp_path):
    paths = write_tables(tables([make("a")]), tmp_path)
    assert {p.name for p in paths} == {
        "qb-mini-reduced.md",
        "qb-mini-reduced.csv",
        "qb-mini-reduced.tex",
        "README.md",
    }


def test_combined_table_has_both_protocols_side_by_side():
    both = {"full": {"HQNR": [0.9, 0.8]}, "reduced": {"ERGAS": [1.0, 2.0]}}
    (table,) = tables([make("a", protocols=both)], combine=True)
    assert [(c.protocol, c.name) for c in table.columns] == [("full", "HQNR"), ("reduced", "ERGAS")]
    assert "FR HQNR" in to_markdown(table)
    assert "FR HQNR" not in to_markdown(tables([make("a", protocols=both)])[0])


def test_costs_are_written_with_as_many_digits_as_they_have_meaning():
    written = {
        (None, None): ("", ""), (0.0, 0): ("0.0", ""), (9.94, 99_999): ("9.9", "99,999"),
        (10.4, 100_000): ("10", "0.10 M"), (1234.0, 2_500_000): ("1,234", "2.50 M"),
    }  # fmt: skip
    for cost, words in written.items():
        assert cost_text(Row("g", "A", "pan", "none", "", {}, cost=cost)) == words


def test_unreadable_records_do_not_stop_the_board(tmp_path):
    path = records.write(make("a"), tmp_path)
    path.with_name("torn.json").write_text("{")
    found = [x for _, x in records.read_all(tmp_path) if not isinstance(x, BenchError)]
    assert len(found) == 1


def test_a_preset_that_means_other_options_now_is_called_an_earlier_one():
    now = asdict(METHODS.get("cut").obj.configure("quick"))
    known = {k: v for k, v in now.items() if v != getattr(METHODS.get("cut").obj.Config(), k)}
    found = [
        make("cut", preset="quick", options=known),  # options it does not know are at their defaults
        make("cut", preset="quick", options=now | {"steps": 800}),
        make("cut", preset="quick", options=now | {"steps": 7}, changed=["steps"]),
        make("cut", preset="gone", options=now),
    ]
    (table,) = tables(found)
    measured = [r.variant for r in table.rows if r.source == "measured"]
    assert sorted(measured) == ["earlier gone", "earlier quick", "quick", "quick, steps=7"]


def test_the_committed_tables_are_what_bench_leaderboard_writes(tmp_path):
    """Of what is staged, whatever was run here since. Mend: `bench leaderboard`, then `git add results`."""
    listed = subprocess.run(["git", "ls-files", "-z", "results"], cwd=ROOT, capture_output=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout")
    export = ["git", "checkout-index", "-z", "--stdin", f"--prefix={tmp_path}/"]
    subprocess.run(export, cwd=ROOT, input=listed.stdout, check=True)
    again = tmp_path / "results/leaderboards"
    committed = again.rename(tmp_path / "committed")
    done = CliRunner().invoke(main, ["leaderboard", "--results", str(tmp_path / "results")])
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in committed.iterdir()) == sorted(p.name for p in again.iterdir())
    for path in committed.iterdir():
        made = again / path.name
        if path.suffix == ".csv":  # full precision: last bits are the processor's
            for old, new in zip(csv.reader(path.open()), csv.reader(made.open()), strict=True):
                assert [_rounded(x) for x in new] == [_rounded(x) for x in old], path.name
        else:
            assert made.read_text() == path.read_text(), path.name


def test_the_readme_shows_the_table_of_the_records():
    """Mend: `bench leaderboard --into README.md`."""
    found = [x for _, x in records.read_all(ROOT / "results") if not isinstance(x, BenchError)]
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert refreshed(page, tables(found, choice=Choice(all_runs=False), datasets=["qb-mini"])) == page


def test_a_page_shows_one_row_a_method_and_its_own_words(tmp_path):
    now = asdict(METHODS.get("cut").obj.configure("quick"))
    found = [
        make("cut", "pan", preset="quick", options=now, protocols=ergas(3.0)),
        make(
            "cut", "pan", preset="quick", options=now | {"steps": 7}, changed=["steps"], protocols=ergas(1.0)
        ),
        make(
            "cut",
            "pan",
            preset="paper",
            options=asdict(METHODS.get("cut").obj.configure("paper")),
            protocols=ergas(2.0),
        ),
        make("unsb", "pan", preset="gone", protocols=ergas(4.0)),
    ]
    place = "words\n<!-- leaderboard: qb-mini-reduced -->\n\n{}\n\n<!-- leaderboard ends -->\nmore\n"
    page = refreshed(place.format("old"), tables(found))
    assert page.startswith("words\n") and page.endswith("\nmore\n") and "old" not in page
    rows = [line.split(" | ")[:2] for line in page.splitlines() if line.startswith("| ")]
    assert ["| CUT (paper)", "**2.000** |"] in rows and ["| CUT (quick)", "<u>3.000</u> |"] in rows
    assert [r for r in rows if r[0] == "| UNSB"] == [["| UNSB", "4.000 |"]] and len(
        [r for r in rows if "CUT (" in r[0]]
    ) == 2
    assert refreshed(page, tables(found)) == page
    for wrong, said in (
        ("words", "no place for a table"),
        (place.replace("qb-mini", "qv"), "'qv-reduced'; there are: qb-mini"),
    ):
        with pytest.raises(BenchError, match=said):
            refreshed(wrong, tables(found))


def test_bench_leaderboard_renews_a_page_or_nothing(tmp_path):
    records.write(make("a"), tmp_path / "results")
    page = tmp_path / "page.md"
    words = ["leaderboard", "--results", str(tmp_path / "results"), "--into", str(page)]
    page.write_bytes(b"\xff\xfe")
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and f"{page} cannot be read: 'utf-8' codec" in result.stderr
    page.write_text("<!-- leaderboard: nope -->\n\n\n\n<!-- leaderboard ends -->")
    assert CliRunner().invoke(main, words).exit_code == 2 and not (tmp_path / "results/leaderboards").exists()
    page.write_text("<!-- leaderboard: qb-mini-reduced -->\n\n\n\n<!-- leaderboard ends -->")
    assert CliRunner().invoke(main, words).exit_code == 0 and "| A | 3.000 |" in page.read_text()


def test_a_table_says_which_methods_its_protocol_leaves_out_and_why():
    both = {"full": {"HQNR": [0.9, 0.8]}, "reduced": {"ERGAS": [1.0, 2.0]}}
    found = [
        make("a", protocols=both),
        make("o", "reference", protocols=ergas(0.1)),
        make("late", protocols=ergas(0.2)),
    ]
    full, reduced = tables(found)
    assert "Not in this table: O (they look at a reference, and this protocol has none)." in full.notes
    assert "Not scored under this protocol: LATE." in full.notes
    assert not any(n.startswith(("Not in this table", "Not scored")) for n in reduced.notes)


def test_ranks_of_one_image_are_called_so():
    one, two = (tables([make("a", protocols={"reduced": {"ERGAS": [1.0] * n}})])[0].notes for n in (1, 2))
    note = "Reduced resolution: these are ranks of one image; another may rank otherwise."
    assert note in one and note not in two


def test_a_remark_stands_below_the_tables_of_its_files(tmp_path):
    text = '[[remark]]\ndataset = "qb-mini"\nprotocol = "reduced"\nfile = "aa"\ntext = "Its PAN is odd."\n'
    (tmp_path / "remarks.toml").write_text(text)
    remarks = read_remarks(tmp_path)
    of = {test: tables([make("a", test=test)], remarks=remarks)[0].notes for test in ("aa", "bb")}
    assert "Its PAN is odd." in of["aa"] and "Its PAN is odd." not in of["bb"]
    (tmp_path / "remarks.toml").write_text('[[remark]]\ndataset = "qb-mini"\n')
    with pytest.raises(
        BenchError, match=r"remarks\.toml holds no remarks of dataset, protocol, file and text"
    ):
        read_remarks(tmp_path)
    assert read_remarks(tmp_path / "none") == []


def test_rows_of_one_label_are_named_apart():
    (table,) = tables([make("a", preset="quick"), make("a", preset="paper"), make("b")])
    labels = named_apart([r for r in table.rows if r.source == "measured"])
    assert sorted(labels) == ["A (paper)", "A (quick)", "B"]


def test_figures_name_the_variants_of_a_method_apart(tmp_path, monkeypatch):
    """None vanishes behind another of its name."""
    drawn = {}
    monkeypatch.setattr(figures, "quality_against_cost", lambda points, *_: drawn.update(cost=points))
    monkeypatch.setattr(figures, "spectra", lambda curves, *_: drawn.update(psd=list(curves)))
    spectrum = {"frequency": [0.1, 0.2], "output": [1.0, 2.0], "source": [1.0, 1.0]}
    for preset, options in (("quick", {"a": 1}), ("quick", {"a": 2}), ("paper", {"a": 1})):
        changed = ["a"] if options["a"] == 2 else []
        plain = make("mine", preset=preset, options=options, changed=changed)
        plain.protocols["reduced"]["curves"] = {"psd": spectrum}
        write_timed(plain, tmp_path)
    for what in ("cost", "psd"):
        words = [
            "figure",
            what,
            "--dataset",
            "qb-mini",
            "--results",
            str(tmp_path),
            "--out",
            str(tmp_path / "x.png"),
        ]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
    assert sorted(p[0] for p in drawn["cost"]) == ["MINE (paper)", "MINE (quick)", "MINE (quick, a=2)"]
    assert drawn["psd"] == ["source", "MINE, a=2", "MINE, paper", "MINE, quick"]


def board(tmp_path, *words, code=0):
    """What ``bench leaderboard`` prints of the records under ``tmp_path``."""
    done = CliRunner().invoke(main, ["leaderboard", "--results", str(tmp_path), *words])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def labels_of(text):
    return [row["label"] for row in json.loads(text)[0]["rows"] if row["source"] == "measured"]


def test_a_board_is_chosen_and_sorted(tmp_path):
    now = asdict(METHODS.get("cut").obj.configure("quick"))
    scored = {"reduced": {"ERGAS": [1.0, 1.0], "SAM": [3.0, 3.0], "Q2n": [0.1, 0.1]}}
    heavy = make("heavy", protocols=ergas(4.0))
    trial = make("cut", preset="quick", options=now | {"steps": 7}, changed=["steps"], protocols=ergas(0.1))
    for record in (
        make("a"),
        make("b", protocols=scored),
        make("cut", preset="quick", options=now, protocols=ergas(9.0)),
        trial,
        replace(heavy, method=heavy.method | {"kind": "deep"}, weights={"parameters": 10**6}),
    ):
        records.write(record, tmp_path)
    whole = ("--json", "--protocol", "reduced")
    assert labels_of(board(tmp_path, *whole)) == ["B", "A", "HEAVY", "CUT"]
    assert labels_of(board(tmp_path, *whole, "--all-runs")) == ["CUT", "B", "A", "HEAVY", "CUT"]
    assert labels_of(board(tmp_path, *whole, "--sort", "Q4")) == ["A", "B", "CUT", "HEAVY"]
    assert labels_of(board(tmp_path, *whole, "--methods", "heavy,a")) == ["HEAVY", "A"]
    assert labels_of(board(tmp_path, *whole, "--methods", "heavy,a", "--sort", "ERGAS")) == ["A", "HEAVY"]
    assert labels_of(board(tmp_path, *whole, "--kind", "deep")) == ["HEAVY"]
    assert "HEAVY" not in labels_of(board(tmp_path, *whole, "--max-params", "1000"))
    assert "CUT" not in labels_of(board(tmp_path, *whole, "--preset", "paper"))
    (columns,) = (t["columns"] for t in json.loads(board(tmp_path, *whole, "--columns", "Q4,SAM")))
    assert [c["metric"] for c in columns] == ["Q2n", "SAM"]
    sources = {r["source"] for r in json.loads(board(tmp_path, *whole, "--no-published"))[0]["rows"]}
    assert sources == {"measured"}
    assert not (tmp_path / "leaderboards").exists(), "a board that is shaped is only printed"
    assert "1 row(s) of other options" in board(tmp_path)
    for words, said in (
        (("--columns", "RGAS"), "no table is left: none has RGAS"),
        (("--sort", "RGAS"), "no table has a column 'RGAS'; there are: ERGAS"),
        (("--methods", "gsa"), "no records of method 'gsa'"),
        (("--dataset", "qv"), "no records of dataset 'qv'"),
        (("--caption", "x", "--dataset", "qb-mini,qb-mini"), ""),
    ):
        assert said in board(tmp_path, *words, code=2 if said else 0)


def test_a_shaped_board_does_not_replace_a_whole_one(tmp_path):
    records.write(make("a"), tmp_path)
    records.write(make("b"), tmp_path)
    board(tmp_path)
    kept = (tmp_path / "leaderboards/qb-mini-reduced.md").read_text()
    board(tmp_path, "--methods", "a")
    assert (tmp_path / "leaderboards/qb-mini-reduced.md").read_text() == kept
    board(tmp_path, "--methods", "a", "--out", str(tmp_path / "mine"))
    assert "| A |" in (tmp_path / "mine/qb-mini-reduced.md").read_text()


def test_a_spread_is_what_it_says_and_six_images_are_the_least_for_an_interval():
    six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    found = [make("a", protocols={"reduced": {"ERGAS": six}}), make("b", seed=0, protocols=ergas(1.0))]
    found.append(make("b", seed=1, protocols=ergas(3.0)))

    def text(label, spread):
        (table,) = tables(found, spread=spread)
        lines = to_markdown(table).splitlines()
        return next(x for x in lines if x.startswith(f"| {label} ")), table.notes

    std = f"3.500 ± {np.std(six, ddof=1):.3f}"
    assert std in text("A", "std")[0] and "±: standard deviation over images." in text("A", "std")[1]
    assert "2.000 ± 1.414" in text("B", "seeds")[0] and "±" not in text("A", "seeds")[0]
    low, high = bootstrap_interval(six)
    assert f"3.500 [{low:.3f}, {high:.3f}]" in text("A", "ci")[0] and "[" not in text("B", "ci")[0]


def test_rows_name_their_records_and_their_paper(tmp_path):
    plain = make("a_b")
    facts = plain.method | {"paper": "Some & One: A way", "doi": "10.1/x", "year": 2001}
    found = [replace(plain, method=facts), replace(make("a_b", seed=1), method=facts)]
    for record in found:
        records.write(record, tmp_path / "results")
    hashes = [r.spec_sha256[:8] for r in found]
    (table,) = tables(found, choice=Choice(published=False))
    paths = write_tables([table], tmp_path / "boards", RENDERERS, False, tmp_path / "results")
    texts = {p.suffix: p.read_text(encoding="utf-8") for p in paths}
    for name, record in zip(hashes, found, strict=True):
        link = record.path(Path("../results")).as_posix()
        assert (tmp_path / "boards" / link).exists()
        assert f"[{name}]({link})" in texts[".md"] and f'<a href="{link}">{name}</a>' in texts[".html"]
        assert all(name in texts[kind] for kind in (".tex", ".csv", ".json"))
    assert '[2001](https://doi.org/10.1/x "Some & One: A way")' in texts[".md"]
    assert 'href="https://doi.org/10.1/x" title="Some &amp; One: A way">2001</a>' in texts[".html"]
    assert all("https://doi.org/10.1/x" in texts[kind] for kind in (".tex", ".csv", ".json"))
    assert hashes[0] in to_markdown(table) and f"[{hashes[0]}]" not in to_markdown(table)


def test_latex_is_a_whole_float_for_a_paper():
    (table,) = tables([make("a")], choice=Choice(published=False))
    text = to_latex(replace(table, caption="50 % of a_b", label="tab:x"))
    assert r"\caption{50 \% of a\_b}" in text and r"\label{tab:x}" in text
    begun, ended = (text.count(rf"\{word}{{") for word in ("begin", "end"))
    assert begun == ended == 4 and r"\item Reduced resolution: 2 image(s)" in text
    assert r"\label{tab:qb-mini-reduced}" in to_latex(table)


def test_json_has_what_is_missing_as_null():
    (table,) = tables([make("a", protocols={"reduced": {"SAM": [1.0, math.nan]}})])
    (row,) = (r for r in json.loads(to_json(table))["rows"] if r["source"] == "measured")
    assert row["scores"]["reduced"]["SAM"]["mean"] is None and row["method"] == "a"
    seeds = [make("a", seed=s, protocols={"reduced": {"SAM": [1.0 + s, 3.0 + s]}}) for s in (0, 2)]
    (table,) = tables(seeds, spread="ci")
    told = json.loads(to_json(table))
    (row,) = (r for r in told["rows"] if r["source"] == "measured")
    assert row["scores"]["reduced"]["SAM"] == {
        "mean": 3.0, "std_over_images": pytest.approx(math.sqrt(2)), "images": 2, "runs": 2,
        "std_over_runs": pytest.approx(math.sqrt(2)), "ci95": None, "mark": None,
    }  # fmt: skip
    assert told["title"] == table.title and "captioned" in to_json(replace(table, caption="captioned"))


def test_ranks_over_datasets_are_demsars():
    """The example of Demšar 2006, Table 6: C4.5 with and without two tunings, AUC on 14 data sets."""
    scores = """.763 .768 .771 .798  .599 .591 .590 .569  .954 .971 .968 .967  .628 .661 .654 .657
    .882 .888 .886 .898  .936 .931 .916 .931  .661 .668 .609 .685  .583 .583 .563 .625  .775 .838 .866 .875
    1.0 1.0 1.0 1.0  .940 .962 .965 .962  .619 .666 .614 .669  .972 .981 .9751 .975  .957 .978 .946 .970"""
    values = np.array(scores.split(), dtype=float).reshape(14, 4)
    found = [
        make(name, dataset=f"d{i:02d}-mini", protocols={"reduced": {"Q2n": [value, value]}})
        for i, line in enumerate(values)
        for name, value in zip(("c45", "c45-m", "c45-cf", "c45-m-cf"), line, strict=True)
    ]
    (table,) = rank_tables(tables(found, choice=Choice(published=False)))
    means = {r.label: c.mean for r in table.rows for k, c in r.cells.items() if k.name == "mean rank"}
    wanted = {"C45": 3.143, "C45-M": 2.0, "C45-CF": 2.893, "C45-M-CF": 1.964}
    assert means == pytest.approx(wanted, abs=5e-4)
    assert re.search(r"\| 3\.0 .*\| 3\.14 +\|", to_markdown(table))
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=5e-3)
    assert "4 methods over 14 datasets; mean ranks less than 1.25 apart do not differ" in table.notes[0]
    assert "p = 0.017) the mean ranks differ" in table.notes[0]  # the paper: 9.28, ties not corrected for


def test_a_method_without_a_score_in_one_dataset_has_no_mean_rank():
    scored = (("a", "x", 1.0), ("b", "x", 2.0), ("c", "x", 0.5), ("a", "y", 1.0), ("b", "y", 2.0))
    found = [make(m, dataset=f"{d}-mini", protocols=ergas(v)) for m, d, v in scored]
    (table,) = rank_tables(tables(found, choice=Choice(published=False)))
    ranks = {r.label: {k.name: c.mean for k, c in r.cells.items()} for r in table.rows}
    assert ranks["A"] == {"x-mini": 1.0, "y-mini": 1.0, "mean rank": 1.0}
    assert math.isnan(ranks["C"]["mean rank"]) and math.isnan(ranks["C"]["y-mini"])
    assert "x-mini" not in ranks["C"] and any(n.endswith("others' ranks: C.") for n in table.notes)
    with pytest.raises(BenchError, match="need two tables of one protocol at least"):
        rank_tables(tables(found[:2]))


def test_ranks_are_of_what_is_ranked_and_by_one_score_each():
    def scored(*methods, **extra):
        return [
            make(m, dataset=f"{d}-mini", protocols=ergas(i), **extra)
            for d in "xy"
            for i, m in enumerate(methods)
        ]

    (two,) = rank_tables(
        tables([*scored("a", "b"), *scored("oracle", sees="reference")], choice=Choice(published=False))
    )
    assert [r.label for r in two.rows] == ["A", "B"] and "Friedman" not in " ".join(two.notes)
    (three,) = rank_tables(tables(scored("a", "b", "c")))
    assert "3 methods over 2 datasets" in three.notes[0] and "by Friedman's test" in three.notes[0]
    with pytest.raises(BenchError, match="with a column 'SAM' at least; of x-mini"):
        rank_tables(tables([*scored("a"), make("a", dataset="z-mini")]), "SAM")
    with pytest.raises(BenchError, match="A has several rows in x-mini-reduced"):
        rank_tables(tables([*scored("a"), *scored("a", train="u")]))


def test_rows_that_have_times_are_compared_on_their_machine():
    rows = [
        Row("g", "A", "pan", "none", "", {}, cost=(cost, None), timed_on="processor" if cost else "")
        for cost in (None, 2.0, 3.0)
    ]
    assert timed_alike(rows) == ("processor", rows[1:]) and timed_alike(rows[:1]) == ("", [])


@pytest.mark.parametrize(
    "words", [("leaderboard",), ("figure", "cost", "--dataset", "qb-mini", "--column", "SAM")]
)
def test_a_folder_that_cannot_be_written_is_one_message(tmp_path, words):
    write_timed(make("a"), tmp_path / "results")
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(
        main, [*words, "--results", str(tmp_path / "results"), "--out", str(tmp_path / "file" / "x.png")]
    )
    assert done.exit_code == 2 and f"cannot write to {tmp_path / 'file' / 'x.png'}" in done.stderr


def _rounded(text):
    try:
        return f"{float(text):.10g}"
    except ValueError:
        return text


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
def test_the_page_of_the_papers_tables_is_that_of_the_records(number, tmp_path):
    """Mend: `bench table N --label mini --recorded --into docs/reproduce.md`."""
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8"), encoding="utf-8")
    there = ["--label", "mini", "--recorded", "--results", str(ROOT / "results"), "--into", str(page)]
    done = CliRunner().invoke(main, ["table", number, *there, "--device", "cpu"])
    assert done.exit_code == 0 and f"Table {number}" in done.output
    assert page.read_text(encoding="utf-8") == (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")


def test_a_page_without_a_place_for_the_table_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("words", encoding="utf-8")
    there = ["--results", str(ROOT / "results"), "--recorded", "--device", "cpu"]
    done = CliRunner().invoke(main, ["table", "2", "--label", "mini", *there, "--into", str(page)])
    assert done.exit_code == 2 and "<!-- table: table-2-qb-mini-full-reduced -->" in done.output
    none = CliRunner().invoke(main, ["table", "2", "--label", "nosuch", *there])
    assert none.exit_code == 2 and "none of the 6 runs" in none.output
