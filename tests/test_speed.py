"""Speeds: what is timed and beside which floor, the file of a machine, and the tables that it serves."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from records import make

from pansharp_bench import speed, timings, workloads
from pansharp_bench.cli import main
from pansharp_bench.cli.speed import merged
from pansharp_bench.errors import BenchError
from pansharp_bench.record import Record, read_all
from pansharp_bench.record import write as write_record
from pansharp_bench.tables import tables
from pansharp_bench.timings import Figure, Rates, Speeds, read_speeds

CPU = torch.device("cpu")
LEAST = speed.Extent(32, 16, 2, 1, ("qb",), ("quick", "standard"), scene=128, records=3)
HERE = {"device": "cpu", "device_name": "CPU, 1 threads", "processor": "Some Chip", "threads": 1}


@pytest.fixture(scope="module")
def measured():
    kinds = [kind for kind in timings.KINDS if kind not in timings.COMMANDS]
    found = speed.measure(CPU, kinds, replace(LEAST, patch=32), ["exp", "fusionnet"])
    return {(f.kind, f.name, f.preset): f for f in found.figures}, found


def test_every_kind_is_timed_and_no_figure_is_below_its_floor(measured):
    figures, found = measured
    assert {kind for kind, _, _ in figures} == set(timings.KINDS) - set(timings.COMMANDS)
    assert {name for kind, name, _ in figures if kind == "inference"} == {"exp", "fusionnet"}
    assert {name for kind, name, _ in figures if kind == "step"} == {"fusionnet"}
    assert {"ergas", "hqnr"} <= {name for kind, name, _ in figures if kind == "metric"}
    assert not [f.failed for f in found.figures if f.failed]
    assert found.rates.operations > 1e8 and found.rates.bytes > 1e8
    assert all(0 < f.floor < f.seconds for f in found.figures)


def test_operations_are_counted(measured):
    """FusionNet's 3x3 convolutions: bands to 32, eight of 32 to 32, 32 to bands; two operations a product."""
    figures, _ = measured
    expected = 2 * 9 * (4 * 32 + 8 * 32 * 32 + 32 * 4) * 32 * 32
    assert figures["inference", "fusionnet", "quick"].operations == expected
    training = figures["step", "fusionnet", "standard"].operations
    assert training == pytest.approx(
        2 * 3 * expected, rel=0.05
    )  # two patches; forward, and two products backward


def test_presets_that_compute_the_same_are_timed_once(measured):
    figures, _ = measured
    quick, standard = (figures["inference", "fusionnet", p] for p in LEAST.presets)
    assert quick.seconds == standard.seconds and quick.options != standard.options


def test_what_fails_costs_the_others_nothing(monkeypatch):
    def fails(scene):
        raise ZeroDivisionError("by nothing")

    built = speed.build
    broken = SimpleNamespace(fuse=fails)
    monkeypatch.setattr(speed, "build", lambda e, *rest: broken if e.name == "gsa" else built(e, *rest))
    found = speed.measure(CPU, ("inference",), LEAST, ["gsa", "exp"])
    assert [(f.name, f.failed) for f in found.figures] == [
        ("gsa", "ZeroDivisionError: by nothing"), ("exp", "")
    ]  # fmt: skip


def test_segments_are_cut_and_a_scene_is_fused_from_files(measured):
    figures, _ = measured
    ((_, _, cut),) = [(k, n, f) for (k, n, _), f in figures.items() if k == "segments"]
    assert (cut.batch, cut.channels, cut.pixels, cut.moved) == (64, 3, 32 * 32, 4 * 64 * 3 * 32 * 32)
    (fused,) = speed.measure(CPU, ["scenes"], LEAST, ["exp"]).figures
    assert not fused.failed
    assert fused.pixels == 128 * 128 and fused.moved > 2 * (128 * 128 * (1 + 4) + 32 * 32 * 4)
    assert 0 < fused.floor < fused.processor_seconds < 2 * fused.seconds and fused.mib > 50


def test_many_records_are_read_from_json_and_from_the_cache(tmp_path, monkeypatch):
    seen = []

    def spent(command, PANSHARP_CACHE, **_):
        (root,) = re.findall(r"[^\s']+/results(?=[\s'])", f"{' '.join(command)} ")
        seen.append((len([r for _, r in read_all(root) if isinstance(r, Record)]), PANSHARP_CACHE))
        return workloads.Spent(2.0, 1.0, 3.0)

    write_record(make(), tmp_path)
    monkeypatch.setattr(workloads, "spent", spent)
    figures = speed.measure(CPU, ["records"], LEAST, results=tmp_path).figures
    assert [f.name for f in figures] == [
        f"{name}{turn}"
        for name in ("load_results", "load_results, categories", "leaderboard", "report")
        for turn in (" from JSON", "")
    ]  # fmt: skip
    assert {(f.batch, f.seconds, f.mib, f.floor) for f in figures} == {(3, 2.0, 3.0, 0.0)}
    assert [n for n, _ in seen] == [3] * 8 and len({cache for _, cache in seen}) == 4


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no system call tells")
def test_a_command_s_memory_is_not_that_of_who_starts_it():
    here = bytearray(b"1" * (200 << 20))
    used = workloads.spent([sys.executable, "-c", "print(len(b'1' * (50 << 20)))"])
    assert 50 < used.mib < len(here) >> 20 and used.seconds > 0
    with pytest.raises(BenchError, match=r"(?s)failed: .*by zero"):
        workloads.spent([sys.executable, "-c", "1 / 0"])


def test_what_cannot_be_timed_says_why_and_costs_the_others_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    done = CliRunner().invoke(main, ["speed", "--only", "scenes,records", "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "scenes: not timed, rasterio is missing" in done.stderr
    assert f"records: not timed, {tmp_path} holds no records" in done.stderr
    assert speed.why_not("segments", torch.device("cuda"), tmp_path)
    assert not speed.why_not("inference", torch.device("cuda"), tmp_path)


# -- the file of a machine, and tables --


def speeds(**figure):
    known = {"kind": "inference", "name": "exp", "channels": 4, "pixels": 1 << 16, "seconds": 0.01}
    return Speeds("2026-01-01", HERE, {"repeats": 5}, Rates(1e9, 1e9), [Figure(**(known | figure))])


def test_a_file_is_of_a_machine_and_keeps_what_is_not_measured_again(tmp_path):
    path = timings.write(speeds(), tmp_path)
    assert path == tmp_path / "speed" / "some-chip-1-threads.json"
    timings.write(speeds(kind="metric", name="ergas"), tmp_path)
    timings.write(speeds(seconds=0.02), tmp_path)
    (found,) = read_speeds(tmp_path)
    assert {(f.name, f.seconds) for f in found.figures} == {("ergas", 0.01), ("exp", 0.02)}
    assert timings.machine_of(HERE | {"device": "cuda:0", "device_name": "NVIDIA H200"}) == "NVIDIA H200"


def test_what_was_timed_beside_others_does_not_replace_what_was_timed_alone(tmp_path):
    shown = []
    for seconds, others in ((3.0, 0.9), (2.0, 0.8), (1.0, 0.0), (4.0, 0.9)):
        timings.write(speeds(seconds=seconds, others=others), tmp_path)
        (found,) = read_speeds(tmp_path)
        shown += [f.seconds for f in found.figures]
    assert shown == [3.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "why"),
    [("{", "Expecting"), ('{"schema": 9}', "it has schema 9, .* reads 1"), ('{"schema": 1}', "'rates'")],
)
def test_a_file_that_holds_none_is_named(tmp_path, text, why):
    (tmp_path / "speed").mkdir()
    (tmp_path / "speed" / "x.json").write_text(text)
    with pytest.raises(BenchError, match=rf"x\.json holds no speeds of a machine: {why}"):
        read_speeds(tmp_path)


ALONE = 0.01 * 1e9 / (1 << 16)


@pytest.mark.parametrize(
    ("figure", "shown"),
    [
        ({}, ALONE),
        ({"channels": 8}, None),
        ({"failed": "so"}, None),
        ({"others": 0.1}, ALONE),
        ({"others": 0.5}, None),
        ({"options": {"width": 2}}, None),  # the method was timed, but not so
        ({"options": {"width": 1, "later": 3}}, ALONE),
        ({"options": {"width": 1, "later": 3}, "apart": ["later"]}, None),
    ],
)
def test_tables_show_what_was_timed_alone_wherever_runs_were_made(figure, shown):
    run = ran({"width": 1} if "options" in figure else {})
    (table,) = tables([run], speeds=[speeds(**figure)])
    assert table.rows[0].cost[0] == (shown and pytest.approx(shown))
    notes = [n for n in table.notes if n.startswith("ms/MP")]
    assert all("by `bench speed` with nothing beside it, on Some Chip, 1 threads" in note for note in notes)
    assert notes or not shown


def ran(options):
    run = make()
    run = replace(run, spec=run.spec | {"options": options}, method=run.method | {"kind": "classical"})
    environment = {"device": "cpu", "device_name": "CPU, 1 threads"}
    return replace(run, inference={"reduced": {"milliseconds_per_megapixel": 5.0}}, environment=environment)


def test_a_table_has_the_times_of_one_machine():
    """The one that timed most of its methods, the newest of several."""
    runs = [ran({}), replace(ran({}), spec=ran({}).spec | {"method": "gsa"})]
    here, there = speeds(), replace(speeds(seconds=9.0), environment=HERE | {"processor": "Other"})
    both = replace(there, figures=[*there.figures, replace(there.figures[0], name="gsa", seconds=8.0)])
    for known in ([here, both], [both, here]):
        (table,) = tables(runs, speeds=known)
        assert sorted(r.cost[0] for r in table.rows if r.records) == pytest.approx([800 * ALONE, 900 * ALONE])
    (table,) = tables(runs, speeds=[replace(there, created="2026-02-01"), here])
    assert sorted(r.cost[0] or 0 for r in table.rows if r.records) == pytest.approx([0, 900 * ALONE])
    assert timings.best_known([here], [replace(r, dataset=r.dataset | {"channels": 3}) for r in runs]) is None


def test_a_calibration_is_timed_on_its_own_images():
    found = speed.measure(
        CPU, ["inference"], replace(LEAST, sensors=("qb", "junocam2hst")), ["gsa", "identity"]
    )
    assert [(f.name, f.channels, f.failed) for f in found.figures] == [("gsa", 4, ""), ("identity", 3, "")]


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not tell")
def test_others_at_work_are_noticed_and_one_s_own_work_is_not():
    def busy(seconds, then=""):
        code = (
            f"import time; t = time.process_time() + {seconds}\nwhile time.process_time() < t: pass\n{then}"
        )
        return subprocess.Popen([sys.executable, "-c", code])

    began = speed._clocks()
    stranger = busy(60)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(3)
        beside = speed._clocks()
    finally:
        stranger.kill()
    assert speed._others(began, beside) > timings.COMPANY
    stranger.wait()

    before = speed._clocks()
    busy(2).wait()
    after = speed._clocks()
    own, all_ = after[2] - before[2], after[1] - before[1]
    assert 2 <= own < 2.5 and own <= all_ + 0.1


def test_presets_that_were_timed_as_one_are_a_line():
    both = [
        Figure("inference", "cut", 4, 256, preset=p, options={"x": p}, seconds=1.0)
        for p in ("quick", "paper")
    ]
    other = Figure("inference", "gsa", 4, 256, preset="untrained", seconds=1.0)
    assert [f.preset for f in merged([*both, other])] == ["quick, paper", "untrained"]


def test_the_command_says_how_long_shows_the_rates_and_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "Extent", lambda: LEAST)
    words = ["speed", "--only", "inference", "--method", "exp", "--results", str(tmp_path)]
    first = CliRunner().invoke(main, words)
    assert first.exit_code == 0, first.output
    assert "was not measured here before" in first.stderr and "GFLOP/s" in first.stderr
    (path,) = (tmp_path / "speed").glob("*.json")
    assert json.loads(path.read_text())["figures"][0]["name"] == "exp"
    assert "took under a minute last time" in CliRunner().invoke(main, words).stderr


def test_options_that_no_preset_has_are_timed_beside_the_presets(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "Extent", lambda: replace(LEAST, presets=("quick",)))
    monkeypatch.setattr(speed, "_others", lambda *_: 0.0)

    def bench(*words):
        return CliRunner().invoke(main, ["speed", "--method", "sp-i2i", *words, "--results", str(tmp_path)])

    def figures():
        (found,) = read_speeds(tmp_path)
        return {tuple(f.changed): f for f in found.fused["sp-i2i", 4]}

    assert bench("--only", "inference").exit_code == 0
    usual = figures()[()]
    done = bench("--set", "levels=2")
    assert done.exit_code == 0 and "quick, levels=2" in done.stdout, done.output
    assert figures().keys() == {(), ("levels=2",)} and figures()[()] == usual
    run = make(SAM=[1.0])
    run.spec.update(method="sp-i2i", options=usual.options | {"levels": 2})
    (found,) = read_speeds(tmp_path)
    assert found.of(run) == figures()[("levels=2",)].milliseconds_per_megapixel
    for words, said in (
        (("--set", "level=2"), "unknown option 'level'"),
        (("--set", "levels=2", "--only", "step"), "--set goes with inference"),
        (("--method", "gsa", "--set", "levels=2"), "'gsa' has no options"),
    ):
        refused = bench(*words)
        assert refused.exit_code == 2 and said in refused.stderr, refused.output
    assert CliRunner().invoke(main, ["speed", "--set", "levels=2"]).exit_code == 2


def test_unknown_kinds_are_refused():
    done = CliRunner().invoke(main, ["speed", "--only", "fast"])
    assert (
        done.exit_code == 2
        and "--only fast is unknown; known are: inference, step, metric, segments" in done.stderr
    )
    done = CliRunner().invoke(main, ["speed", "--only", "metric", "--method", "gsa"])
    assert done.exit_code == 2 and "--method goes with inference, step, scenes" in done.stderr
