"""Metrics under other settings: columns of their own, in a record of their own, shown where they are asked for."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from pansharp_bench import metrics
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError, ImageError
from pansharp_bench.experiment import run
from pansharp_bench.plan import RunSpec, plan
from pansharp_bench.registry import METRICS, load_plugin
from pansharp_bench.scene import load_dataset
from pansharp_bench.settings import asked_metrics, settings_of
from pansharp_bench.tables import tables

TINY = Path(__file__).parent / "plugins" / "tiny.py"
load_plugin(TINY)
ASKED = ("q2n:block=16", "q2n:block=8", "ssim_uniform", "psnr:peak=1000")


def images(*shape):
    generator = torch.Generator().manual_seed(0)
    fused, reference = (torch.rand(shape, generator=generator) * 2047 for _ in range(2))
    return fused / 4 + reference * torch.linspace(0.2, 2, shape[-1]), reference


# -- blocks: by their definitions, for sides that papers do not use --


def by_hand(f, g):
    """The universal quality index of two blocks, unbiased moments or not: the quotient is that of both."""
    n = f.numel()
    cov = ((f - f.mean()) * (g - g.mean())).sum() / (n - 1)
    return 4 * cov * f.mean() * g.mean() / (f.var() + g.var()) / (f.mean() ** 2 + g.mean() ** 2)


def test_windows_of_q_have_the_side_asked_for():
    f, g = (x.double() for x in images(1, 1, 20, 24))
    windows = [
        by_hand(f[0, 0, i : i + 9, j : j + 9], g[0, 0, i : i + 9, j : j + 9])
        for i in range(12)
        for j in range(16)
    ]
    assert metrics.q_avg(f, g, block=9).item() == pytest.approx(float(sum(windows)) / len(windows), rel=1e-9)


def test_blocks_of_q2n_have_the_side_asked_for():
    f, g = (x.round().double() for x in images(1, 4, 64, 64))
    whole = metrics.q2n(f, g, block=64)
    assert whole.shape == (1,) and metrics.q2n_map(f, g, block=16).shape == (1, 4, 4)
    quarters = [metrics.q2n(f[..., i : i + 32, j : j + 32], g[..., i : i + 32, j : j + 32], block=16)
                for i in (0, 32) for j in (0, 32)]  # fmt: skip
    torch.testing.assert_close(metrics.q2n(f, g, block=16), torch.stack(quarters).mean(0))
    assert not torch.allclose(whole, metrics.q2n(f, g))
    assert metrics.q2n_map(f[..., :40, :], g[..., :40, :], block=64).shape == (1, 1, 1)  # mirrored


def test_blocks_without_a_reference_have_the_side_asked_for():
    fused, _ = images(1, 4, 96, 96)
    pan, ms = images(1, 1, 96, 96)[0], images(1, 4, 24, 24)[1]
    for index in (metrics.hqnr, metrics.qnr):
        assert len({index(fused, ms, pan, block=b)[2].item() for b in (16, 32, 48, 96)}) == 4
        with pytest.raises(ImageError, match="multiples of 64"):
            index(fused, ms, pan, block=64)
        with pytest.raises(ImageError, match="no variance"):
            index(fused, ms, pan, block=1)


# -- what is asked for --


def test_a_metric_under_a_setting_is_the_function_with_it():
    (entry,) = asked_metrics([" q2n: block = 16 "]).values()
    fused, reference = images(1, 4, 64, 64)
    assert torch.equal(entry.obj(fused, reference), metrics.q2n(fused, reference, block=16))
    assert entry.card.columns == ("Q2n [block=16]",) and METRICS.get("q2n").card.columns == ("Q2n",)


def test_values_have_the_type_of_the_default():
    assert list(asked_metrics(["ergas:ratio=2", "ergas:ratio=2.0"])) == ["ergas:ratio=2"]
    assert list(asked_metrics(["ergas:ratio=2.5"])) == ["ergas:ratio=2.5"]
    assert list(asked_metrics(["psnr:peak=2047"])) == ["psnr:peak=2047"]  # a sensor's may be another


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q2m", "did you mean q2n"),
        ("q2n:size=3", r"no setting size; there are, with their defaults: block \(32\)"),
        ("psnr:peek=3", r"peak \(the sensor's\)"),
        ("sam:size=3", "it has none"),
        ("histograms:bins=3", "it has none"),
        ("q2n:block=x", "not of type int"),
        ("psnr:peak=nan", "not a finite number"),
        ("q2n:block", "not of the form"),
        ("q2n:block=3,block=4", "twice"),
    ],
)
def test_mistakes_are_named(text, said):
    with pytest.raises(BenchError, match=said):
        asked_metrics([text])


def test_every_metric_tells_its_settings():
    assert settings_of(METRICS.get("hqnr")) == {"block": 32} and settings_of(METRICS.get("scc")) == {}


# -- runs --


def test_what_is_as_usual_leaves_a_record_its_name():
    plain = plan(RunSpec("exp", "tiny"))
    assert "metrics" not in plain.identity
    assert plan(RunSpec("exp", "tiny", metrics=("q2n:block=32", "sam"))).sha256 == plain.sha256
    apart = plan(RunSpec("exp", "tiny", metrics=ASKED))
    assert apart.sha256 != plain.sha256
    assert plan(RunSpec("exp", "tiny", metrics=ASKED[::-1])).sha256 == apart.sha256


def test_a_metric_of_no_protocol_of_the_run_is_refused():
    with pytest.raises(BenchError, match="of none of the protocols of this run: full, reduced"):
        plan(RunSpec("exp", "tiny", metrics=("rmse",)))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("asked")
    return [
        run(RunSpec("exp", "tiny", metrics=asked), folder, folder / "runs", pictures=0, progress=False).record
        for asked in (ASKED, ())
    ]


def test_columns_stand_in_the_record_beside_the_usual(records):
    asked, plain = (r.protocols["reduced"] for r in records)
    own = {"Q2n [block=16]", "Q2n [block=8]", "SSIM_uniform", "PSNR [peak=1000]"}
    assert set(asked["scores"]) - set(plain["scores"]) == own
    assert all(asked["scores"][k] == v for k, v in plain["scores"].items())
    assert asked["better"]["Q2n [block=16]"] == "high"
    scene = load_dataset("tiny").split("reduced")[1]
    cut = (..., slice(20, -21), slice(20, -21))
    expected = metrics.q2n(scene.lms[cut], scene.gt[cut], block=16)
    assert asked["scores"]["Q2n [block=16]"][1] == pytest.approx(expected.item(), rel=1e-12)
    usual = asked["scores"]["PSNR"][0] - asked["scores"]["PSNR [peak=1000]"][0]
    assert usual == pytest.approx(20 * torch.tensor(2047 / 1000).double().log10().item())
    assert records[0].spec["metrics"] == sorted(ASKED)


@pytest.mark.parametrize("newest", [0, 1])
def test_tables_show_them_where_they_are_asked_for_and_in_one_row(records, newest):
    made = [replace(r, created=f"2030-01-0{1 + (i == newest)}") for i, r in enumerate(records)]
    (table,) = tables(made, protocols=["reduced"])
    assert not any("[" in c.label or c.name == "SSIM_uniform" for c in table.columns)
    (table,) = tables(made, protocols=["reduced"], columns=["Q4", "Q4 [block=8]", "SSIM_uniform"])
    (row,) = (r for r in table.rows if r.source == "measured")
    usual, small, uniform = (row.cells[c].mean for c in table.columns)
    assert len({usual, small, uniform}) == 3
    assert small == records[0].protocols["reduced"]["mean"]["Q2n [block=8]"]


def test_from_the_command_line(tmp_path):
    def bench(*words):
        return CliRunner().invoke(main, [*words, "--plugin", str(TINY)], catch_exceptions=False)

    results = ("--results", str(tmp_path / "results"))
    asked = ("--metric", "q2n:block=16")
    there = (*results, "--runs", str(tmp_path / "runs"), "--quiet", "--pictures", "0")
    made = bench(
        "run", "--method", "exp", "--dataset", "tiny", *asked, *there, "--save-fused", str(tmp_path / "exp")
    )
    assert "Q4 [block=16] ↑" in made.output
    scored = bench("score", str(tmp_path / "exp"), "--dataset", "tiny", "--name", "Theirs", *asked, *results)
    assert "Q4 [block=16] ↑" in scored.output
    shown = bench("leaderboard", *results, "--columns", "Q4 [block=16]", "--no-published").output
    assert "Theirs" in shown and "EXP" in shown
    many = bench("run", "--method", "exp,gs", "--dataset", "tiny", *asked, *there)
    assert many.output.count("Q4 [block=16] ↑") == 2
    compared = bench("compare", "exp", "gs", "--dataset", "tiny", "--metric", "Q4 [block=16]", *results)
    assert "3 images in common with scores by Q4 [block=16]" in compared.output  # of 6 that it takes
    assert "block" in bench("list", "q2n").output
