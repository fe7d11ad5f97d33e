"""Errors of scores: by resampled blocks, by what is held out."""

import csv
import json
import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pansharp_bench import metrics, record, uncertainty
from pansharp_bench.cli import main
from pansharp_bench.datasets.junocam2hst import JunoCam2HST
from pansharp_bench.datasets.junocam2hst.store import Writer
from pansharp_bench.datasets.jupiter.ellipsoid import centres, healpix_cell, healpix_rings
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.metrics.histograms import Histograms
from pansharp_bench.protocols.mosaic import mosaic
from pansharp_bench.registry import METHODS


def test_cells_hold_the_points_about_their_centres():
    for nside in (1, 4, 16):
        lat, lon = healpix_rings(nside)
        assert healpix_cell(nside, lat, lon).tolist() == list(range(12 * nside**2))
    # every cell of nside 4 holds the 64 of nside 32 within it, which lie nearest to no far centre
    lat, lon = healpix_rings(32)
    cells = healpix_cell(4, lat, lon)
    assert np.bincount(cells).tolist() == [64] * 192

    def vectors(lat, lon):
        a, b = np.radians(lat), np.radians(lon)
        return np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)])

    own = vectors(*(x[cells] for x in healpix_rings(4)))
    apart = np.degrees(np.arccos((own * vectors(lat, lon)).sum(0).clip(-1, 1)))
    assert apart.max() < 14  # half the diagonal of the largest; a wrong neighbour is farther


def test_resampled_histograms_are_those_of_the_images():
    draws = torch.Generator().manual_seed(1)
    images, target = (torch.rand(n, 3, 8, 8, generator=draws) ** p for n, p in ((12, 1.0), (9, 1.4)))
    groups, blocks = torch.arange(12) % 2, torch.arange(12) // 3
    metric = Histograms("junocam2hst")
    metric.add("target", target, torch.arange(9) % 3)  # nothing is output of the third
    for i in range(12):
        metric.add("output", images[i : i + 1], groups[i : i + 1], blocks[i : i + 1])
    weights = torch.tensor([[1, 1, 1, 1], [2, 0, 1, 0], [0, 0, 0, 3]], dtype=torch.float64)
    found = Histograms.resampled(metric.curves(), [0, 1, 2, 3], weights)
    for row, w in enumerate(weights.long().tolist()):
        index = torch.tensor([i for i in range(12) for _ in range(w[blocks[i]])])
        assert found["chi2"][row].item() == pytest.approx(
            metrics.chi2_histogram(images[index], target).item(), rel=1e-12
        )
        zones = [
            metrics.chi2_histogram(images[index[groups[index] == g]], target[torch.arange(9) % 3 == g]).item()
            for g in (0, 1)
        ]
        assert found["chi2_zone"][row].item() == pytest.approx(sum(zones) / 2, rel=1e-12)
        assert found["chi2_zone_worst"][row].item() == pytest.approx(max(zones), rel=1e-12)
    assert found["chi2"][0].item() == metric.scores()[0]
    apart = Histograms("junocam2hst")
    apart.add("target", target, torch.full((9,), 5))
    apart.add("output", images, groups, blocks)
    nothing = Histograms.resampled(apart.curves(), [0, 1, 2, 3], weights)
    assert nothing["chi2_zone"].isnan().all() and nothing["chi2_zone_worst"].isnan().all()


def told(scores, blocks):
    std = torch.tensor(scores, dtype=torch.float64).std().item()
    scored = {"scores": {"SSIM": scores}, "std": {"SSIM": std}, "origins": {"block": blocks}}
    return SimpleNamespace(
        protocols={"calibration": scored}, spec={"track": "calibration"}, method={"name": "x"},
        dataset={"name": "d"}, scores=lambda protocol, column: scores,
    )  # fmt: skip


def test_copies_of_an_image_make_nothing_surer():
    """Sixteen copies of each of 60 values: the error is that of the 60, four times what independent images had."""
    values = torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    record = told(values.repeat_interleave(16).tolist(), torch.arange(60).repeat_interleave(16).tolist())
    found = uncertainty.intervals(record, "calibration")["SSIM"]
    expected = (values.std(correction=0) / math.sqrt(60)).item()
    assert uncertainty.count(record, "calibration") == 60
    assert found.value == pytest.approx(values.mean().item(), abs=1e-12)
    assert found.error == pytest.approx(expected, rel=0.06)  # of 2,000 draws
    assert found.error / found.independent == pytest.approx(4, rel=0.08)
    assert found.high - found.low == pytest.approx(2 * 1.96 * expected, rel=0.1)


def test_intervals_of_chi2_cover_what_it_is_of_ever_more_blocks():
    """Blocks scatter about a histogram near to the target's; χ² of the law they are drawn from is known."""
    draws, x = np.random.default_rng(0), np.linspace(0, 1, 31)

    def histograms(middles):
        h = np.exp(-0.5 * ((x - middles[:, None]) / 0.1) ** 2)
        return np.rint(1e5 * h / h.sum(1, keepdims=True)).astype(int)

    law = histograms(0.5 + 0.1 * draws.standard_normal(50_000)).sum(0)
    p, q = law / law.sum(), np.exp(-0.5 * ((x - 0.5) / 0.15) ** 2)
    q /= q.sum()
    truth = 0.5 * ((p - q) ** 2 / (p + q)).sum()
    covered = 0
    for _ in range(60):
        counts = histograms(0.5 + 0.1 * draws.standard_normal(40))
        output = [
            {"group": 0, "block": b, "counts": [" ".join(map(str, c))]} for b, c in enumerate(counts.tolist())
        ]
        target = [q.tolist()]
        record = told([1.0] * 40, list(range(40)))
        record.protocols["calibration"]["curves"] = {
            "histogram": {"target": target},
            "histogram_blocks": {"output": output, "target": [{"group": 0, "shares": target}]},
        }
        record.scores = lambda protocol, column: [1.0]
        found = uncertainty.intervals(record, "calibration", draws=300)["chi2"]
        assert 0 <= found.low <= found.high
        covered += found.low <= truth <= found.high
    assert covered >= 54  # percentiles of the resampled values hold it 16 times


def test_a_difference_is_surer_than_what_it_is_between():
    """Blocks are hard or easy for both alike: the difference of x + .1 + little noise and x is sure, neither is."""
    draws = torch.Generator().manual_seed(0)
    hard = torch.randn(40, generator=draws, dtype=torch.float64).repeat_interleave(5)
    noise = 0.01 * torch.randn(40, generator=draws, dtype=torch.float64).repeat_interleave(5)
    blocks = torch.arange(40).repeat_interleave(5).tolist()
    first, second = told((hard + 0.1 + noise).tolist(), blocks), told(hard.tolist(), blocks)
    it = uncertainty.differences([first], [second], "calibration")["SSIM"]
    assert it.value == pytest.approx(0.1 + noise.mean().item())
    assert it.error == pytest.approx((noise.std(correction=0) / 200**0.5 * 5**0.5).item(), rel=0.06)
    assert uncertainty.intervals(first, "calibration")["SSIM"].error > 50 * it.error
    assert uncertainty.differences([first, second], [second], "calibration")["SSIM"].value == (
        pytest.approx(it.value / 2)
    )
    with pytest.raises(BenchError, match="images are of the same blocks"):
        uncertainty.differences([first], [told(hard.tolist(), blocks[::-1])], "calibration")


def test_what_is_not_told_or_cannot_be_is_said():
    record = told([1.0, 2.0], [3, 3])
    with pytest.raises(BenchError, match="all images of d are of one block"):
        uncertainty.intervals(record, "calibration")
    with pytest.raises(BenchError, match="which perijove its images are of; it tells block"):
        uncertainty.by_unit(record, "calibration", "perijove")
    assert uncertainty.by_unit(record, "calibration", "block") == {3: {"SSIM": 1.5}}


@pytest.fixture
def root(tmp_path):
    """Three perijoves of random segments, of which 18 is the test."""
    where = centres(4, ("EZ", "SPR"))
    draws = torch.Generator().manual_seed(2)
    n = len(where)
    place = {"zone": where.zone, "latitude": where.latitude, "longitude": where.longitude}
    path = tmp_path / "data" / "junocam2hst.h5"
    with Writer(path, ("red", "green", "blue"), ("EZ", "SPR"), 500.0, 16000.0, {}, "toy") as writer:
        for split, number in (("train", 16), ("train", 17), ("test", 18)):
            images = torch.rand(n, 3, 32, 32, generator=draws) * number / 20
            writer.append(split, images, **place, perijove=number)
        writer.append("target", torch.rand(n, 3, 32, 32, generator=draws), **place, cycle=26, rotation=0)
    return path.parent


def test_another_perijove_is_held_out(root):
    whole = JunoCam2HST(root)
    assert whole.folds() == ("toy-pj16", "toy-pj17")
    fold = JunoCam2HST(root, "toy-pj16")
    train, test = fold.split("train"), fold.split("test")
    assert (fold.name, fold.folds()) == ("junocam2hst-toy-pj16", ())
    assert set(test.column("perijove")) == {16} and set(train.column("perijove")) == {17, 18}
    old = whole.split("train"), whole.split("test")
    n = len(old[1])
    assert (len(test), len(train)) == (n, 2 * n)
    torch.testing.assert_close(test.read("pan", slice(None)), old[0].read("pan", slice(0, n)), rtol=0, atol=0)
    both = torch.cat([old[0].read("pan", slice(n, 2 * n)), old[1].read("pan", slice(None))])
    torch.testing.assert_close(train.read("pan", slice(3, 2 * n - 1)), both[3:-1], rtol=0, atol=0)
    torch.testing.assert_close(train[-1].pan, both[-1:], rtol=0, atol=0)
    assert train[-1].latitude.tolist() == old[1].latitude[-1:].tolist()
    assert train.read("pan", slice(0, 0)).shape == (0, 3, 32, 32)
    with pytest.raises(IndexError, match=f"sample {2 * n} of {2 * n}"):
        train[2 * n]
    assert train.groups.tolist() == old[0].groups[n:].tolist() + old[1].groups.tolist()
    names = {f.split: f.sha256 for f in fold.files()}
    other = {f.split: f.sha256 for f in JunoCam2HST(root, "toy-pj17").files()}
    assert names["target"] == other["target"] and names["train"] != other["train"] != names["test"]
    assert fold.provenance()["held_out"] == "PJ16" and fold.provenance()["fold_of"] == "junocam2hst-toy"
    assert not [text for level, text in fold.check() if level == "error"]
    with pytest.raises(DataError, match="perijove 30 cannot be held out: there are 16, 17, 18"):
        JunoCam2HST(root, "toy-pj30").split("test")


def test_every_fold_is_run_and_errors_are_drawn(root, tmp_path):
    folders = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    words = ["--dataset", "junocam2hst", "--data", str(root), *folders, "--quiet", "--pictures", "0"]
    done = CliRunner().invoke(main, ["run", "--method", "histogram-matching", "--each-fold", *words])
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(main, ["run", "--method", "histogram-matching", "--each-fold", *words])
    assert again.exit_code == 0 and again.output.count("reused ") == 3
    both = ["run", "--method", "histogram-matching,identity", "--each-fold", *words, "--json"]
    assert len(json.loads(CliRunner().invoke(main, both).stdout)) == 6
    found = {r.dataset["name"]: r for _, r in record.read_all(tmp_path / "results")}
    assert found.keys() == {"junocam2hst-toy", "junocam2hst-toy-pj16", "junocam2hst-toy-pj17"}
    refused = CliRunner().invoke(main, [*both, "--save-fused", str(tmp_path / "fused")])
    assert refused.exit_code == 2 and "--save-fused: of one run" in refused.output
    own = found["junocam2hst-toy"]
    assert set(own.protocols["calibration"]["origins"]) == {"perijove", "block"}
    picture = tmp_path / "errors.png"
    drawn = CliRunner().invoke(
        main, ["figure", "errors", "--dataset", "junocam2hst-toy", *folders[:2], "--out", str(picture)]
    )
    assert drawn.exit_code == 0 and picture.stat().st_size > 5000, drawn.output
    with open(picture.with_suffix(".csv")) as file:
        rows = {(r["column"], r["over"]): r for r in csv.DictReader(file)}
    chi2 = next(r for (c, o), r in rows.items() if c == "chi2" and o.endswith("blocks"))
    assert 0 < float(chi2["low"]) < float(chi2["high"])
    assert float(chi2["value"]) == pytest.approx(own.protocols["calibration"]["mean"]["chi2"])
    values = [r.protocols["calibration"]["mean"]["SSIM"] for r in found.values()]
    turned = rows["SSIM", "3 held out in turn"]
    assert float(turned["value"]) == pytest.approx(np.mean(values))
    assert float(turned["error"]) == pytest.approx(np.std(values, ddof=1))
    assert ("SSIM", "PJ16 held out") in rows
    words = [
        "figure",
        "errors",
        "--dataset",
        "junocam2hst-toy",
        *folders[:2],
        "--out",
        str(tmp_path / "x.png"),
    ]
    pair = ["compare", "histogram-matching", "identity", "--dataset", "junocam2hst-toy", *folders[:2]]
    (chi2,) = json.loads(CliRunner().invoke(main, [*pair, "--metric", "chi2", "--json"]).stdout)
    assert chi2["means"][0] - chi2["means"][1] == pytest.approx(chi2["difference"])
    assert chi2["ci95"][0] < chi2["ci95"][1] < 0
    shown = CliRunner().invoke(main, pair).output
    assert "chi2 ↓" in shown and "both rows on the same drawn blocks" in shown
    other = CliRunner().invoke(main, [*words, "--protocol", "full"])
    assert other.exit_code == 2 and "scored under protocol 'full'; there are: calibration" in other.output
    unknown = CliRunner().invoke(main, [*words, "--column", "chi"])
    assert unknown.exit_code == 2 and "--column chi: no record tells its error; there are: " in unknown.output


def test_a_dataset_without_folds_says_so(tmp_path):
    done = CliRunner().invoke(
        main,
        ["run", "--method", "identity", "--dataset", "qb-sim", "--each-fold", "--results", str(tmp_path)],
    )
    assert done.exit_code == 2 and "no part that could be held out" in done.output


@dataclass(frozen=True)
class Noise:
    inference_seed: int = 5


def test_a_stochastic_methods_samples_are_laid_out_together(root, tmp_path):
    """Every sample has a seed of its own, and all segments of one the same."""
    dataset, laid = JunoCam2HST(root), {}

    def fuse(scene):
        return torch.zeros_like(scene.pan) + method.config.inference_seed

    def lay(split, images, path, bands):
        laid[path.name] = list(images)
        return [path]

    dataset.mosaic = lay
    method = SimpleNamespace(card=METHODS.get("cut").card, config=Noise(), fuse=fuse)
    mosaic(method, dataset, tmp_path, torch.device("cpu"), draws=3, progress=False)
    outputs = laid["junocam2hst-toy-cut"]
    assert len(outputs) == len(dataset.split("test")) and outputs[0].shape == (1, 3, 3, 32, 32)
    assert all(x[0, :, 0, 0, 0].tolist() == [5, 6, 7] for x in outputs)
    assert laid["junocam2hst-toy-source"][0].ndim == 4
