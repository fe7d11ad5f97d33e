"""The calibration track: two domains of their own, metrics of whole sets, curves, tables and figures of them."""

import csv
import hashlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import pansharp_bench as pb
from pansharp_bench import experiment, figures, metrics, record, tables
from pansharp_bench.cli import main
from pansharp_bench.plan import RunSpec
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import CALIBRATION_SPLITS, Dataset, FileIdentity, Scene, Split, as_sensor

SIDE, COUNTS = 32, {"train": 9, "target": 8, "test": 4}


class Images(Split):
    """Smooth random images; those of the target are darker and redder. Samples alternate between two groups."""

    def __init__(self, name):
        self.name, self.sensor, self.keys = name, as_sensor("junocam2hst"), ("pan",)
        self.groups = torch.arange(COUNTS[name]) % 2
        draws = torch.Generator().manual_seed(len(name))
        coarse = torch.rand(COUNTS[name], 3, 8, 8, generator=draws)
        images = torch.nn.functional.interpolate(coarse, size=SIDE, mode="bilinear")
        tint = torch.tensor([0.6, 0.4, 0.2]) if name == "target" else torch.tensor([0.8, 0.9, 1.0])
        self.images = images * tint[:, None, None]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return Scene(self.sensor, self.images[slice(index, index + 1) if isinstance(index, int) else index])


class Planet(Dataset):
    """Two cameras over no planet at all"""

    sensor = as_sensor("junocam2hst")

    def __init__(self, root=None, label=None):
        self.name = "no-planet"

    def available(self):
        return CALIBRATION_SPLITS

    def split(self, name):
        return Images(name)

    def files(self, *splits):
        return tuple(
            FileIdentity(s, Path(f"{s}.mem"), 0, hashlib.sha256(s.encode()).hexdigest(), None)
            for s in splits or CALIBRATION_SPLITS
        )


@pytest.fixture(autouse=True, scope="module")
def planet():
    if "no-planet" not in pb.list_datasets():
        card = {"tracks": ("calibration",), "published": "JunoCam2HST", "simulated": True}
        pb.register_dataset("no-planet", sensor="junocam2hst", **card)(Planet)

        @pb.register_method("hole", kind="baseline", sees="pan", tracks=("calibration",))
        def hole(pan, *, sensor):
            """Not a number in one pixel of the brightest image"""
            return torch.where(pan == Images("test").images.max(), math.nan, pan)


def run(tmp_path, method, **options):
    spec = RunSpec(method, "no-planet", "quick", options, device="cpu")
    return experiment.run(spec, tmp_path / "results", tmp_path / "runs", progress=False)


def test_the_source_itself_scores_perfect_structure_and_its_own_colours(tmp_path):
    outcome = run(tmp_path, "identity")
    scored = outcome.record.protocols["calibration"]
    test, target = Images("test").images, Images("target").images
    assert scored["scores"]["SSIM"] == pytest.approx([1.0] * 4) and set(scored["scores"]["PSNR"]) == {
        math.inf
    }
    assert scored["scores"]["chi2"] == [pytest.approx(metrics.chi2_histogram(test, target).item(), abs=1e-12)]
    assert scored["mean"]["chi2"] > 0.1 and "truth" not in outcome.record.protocols
    spectrum = scored["curves"]["psd"]
    assert spectrum["output"] == pytest.approx(spectrum["source"]) and len(spectrum["frequency"]) > 8
    assert spectrum["target"] != pytest.approx(spectrum["source"])
    assert outcome.pictures and all(p.stat().st_size > 1000 for p in outcome.pictures)
    assert record.read(outcome.path).protocols["calibration"]["curves"] == scored["curves"]


def test_zones_are_compared_by_themselves_and_the_floor_is_known(tmp_path):
    outcome = run(tmp_path, "identity")
    scored = outcome.record.protocols["calibration"]
    test, target = Images("test"), Images("target")
    zones = [
        metrics.chi2_histogram(test.images[test.groups == z], target.images[target.groups == z]).item()
        for z in (0, 1)
    ]
    assert scored["scores"]["chi2_zone"] == [pytest.approx(sum(zones) / 2, rel=1e-9)]
    assert scored["scores"]["chi2_zone_worst"] == [pytest.approx(max(zones), rel=1e-9)]
    assert scored["floors"]["chi2"] == pytest.approx(0, abs=1e-12)  # both sets are half of each zone
    (table,) = tables.tables([outcome.record], columns=["SSIM", "chi2"])
    floor = "Floor: chi2 0.0000 is what the target's own images score"
    assert floor in tables.to_markdown(table) and floor in tables.to_latex(table)
    assert "floor 0.0000" in tables.run_table(outcome.record)


def test_the_bound_of_all_outputs_is_drawn_from_records(tmp_path):
    for method in ("identity", "histogram-matching", "minimal-ot"):
        run(tmp_path, method)
    picture, results = tmp_path / "bound.png", tmp_path / "results"
    words = ["figure", "bound", "--dataset", "no-planet", "--results", str(results), "--out", str(picture)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0 and picture.stat().st_size > 5000, done.output
    with open(picture.with_suffix(".csv")) as file:
        rows = [(float(r["psnr_to_source"]), float(r["least_chi2"])) for r in csv.DictReader(file)]
    assert len(rows) > 10
    by_psnr = sorted(rows)
    assert [c for _, c in by_psnr] == sorted(c for _, c in rows) and by_psnr[0][
        1
    ] == 0  # farther may be nearer
    empty = CliRunner().invoke(main, [*words[:3], "qb-sim", *words[4:]])
    assert empty.exit_code == 2 and "no records" in empty.output


def test_a_label_says_no_more_than_tells_it_apart(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "spectra", lambda curves, *_: drawn.update(labels=sorted(curves)))
    own = run(tmp_path, "identity").record

    def labels(*variants):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for changed in variants:
            spec = {**own.spec, **changed}
            record.write(replace(own, spec=spec, spec_sha256=record.spec_hash(spec)), folder)
        words = ["figure", "psd", "--dataset", "no-planet", "--results", folder, "--out", tmp_path / "x.png"]
        done = CliRunner().invoke(main, list(map(str, words)))
        assert done.exit_code == 0, done.output
        return [label for label in drawn["labels"] if label.startswith("Identity")]

    assert labels({}) == ["Identity"]
    assert labels({}, {"seed": 1}) == ["Identity, seed 0", "Identity, seed 1"]
    assert labels({}, {"preset": "paper"}) == ["Identity, paper", "Identity, untrained"]
    told = [record.spec_hash({**own.spec, **changed})[:8] for changed in ({}, {"data": "other"})]
    assert labels({}, {"data": "other"}) == sorted(f"Identity, {sha256}" for sha256 in told)


@pytest.mark.parametrize("kind", ["psd", "bound", "cost"])
def test_what_was_scored_on_other_files_is_not_in_the_same_picture(kind, tmp_path, monkeypatch):
    drawn = []
    for name in ("spectra", "bound_by_transport", "quality_against_cost"):
        monkeypatch.setattr(figures, name, lambda *given: drawn.append(str(given[:2])))
    monkeypatch.setattr(
        tables, "timed_alike", lambda rows: ("a machine", [replace(r, cost=(1.0, None)) for r in rows])
    )
    own = run(tmp_path, "histogram-matching").record
    other = run(tmp_path, "minimal-ot").record
    files = {"test": "f" * 64, "target": "f" * 64}
    dataset = {**other.dataset, "test_fingerprint": files}
    record.write(replace(other, created="2020", dataset=dataset), tmp_path / "results", force=True)
    part = run(tmp_path, "channel-affine").record  # the latest, and of fewer splits
    dataset = {**part.dataset, "test_fingerprint": {"test": part.dataset["test_fingerprint"]["test"]}}
    record.write(replace(part, created="3000", dataset=dataset), tmp_path / "results", force=True)
    words = ["figure", kind, "--dataset", "no-planet", "--results", str(tmp_path / "results")]
    words += ["--protocol", "calibration", "--column", "chi2"] if kind == "cost" else []
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path / "x.png")])
    assert done.exit_code == 0, done.output
    assert own.method["title"] in drawn[0] and other.method["title"] not in drawn[0]


def test_matching_colours_brings_chi2_down(tmp_path):
    matched = run(tmp_path, "histogram-matching").record
    assert matched.protocols["calibration"]["mean"]["chi2"] < 0.1
    assert matched.training["data"]["pairing"] == "same group"
    assert {f["split"] for f in matched.dataset["files"]} == {"train", "target", "test"}
    assert set(matched.dataset["test_fingerprint"]) == {"target", "test"}


@pytest.mark.parametrize("method", ["sp-i2i", "unsb", "cut"])
def test_translation_methods_train_between_domains(tmp_path, method):
    tiny = {"steps": 2, "ngf": 4, "ndf": 4, "blocks": 2, "validations": 1}
    tiny |= {"levels": 3} if method == "sp-i2i" else {"nce_layers": "0,4,8,12"}
    outcome = run(tmp_path, method, **tiny)
    assert outcome.record.protocols["calibration"]["images"] == 4
    fitted = METHODS.get(method).obj(
        as_sensor("junocam2hst"), METHODS.get(method).obj.configure("quick", tiny)
    )
    fitted.load_weights(outcome.checkpoint)
    assert torch.equal(fitted.normaliser.pan_range, fitted.normaliser.ms_range[:1])  # one scale for both


def test_an_image_with_a_hole_leaves_the_set_without_a_score(tmp_path):
    scored = run(tmp_path, "hole").record.protocols["calibration"]
    assert math.isnan(scored["mean"]["chi2"]) and scored["missing"]["chi2"] == [0]
    assert len(scored["missing"]["SSIM"]) == 1


def test_a_pansharpening_method_is_refused(tmp_path):
    with pytest.raises(pb.errors.BenchError, match="not made for calibration"):
        run(tmp_path, "gsa")


def test_table_and_figure_say_what_they_show(tmp_path):
    for method in ("identity", "histogram-matching", "channel-affine"):
        run(tmp_path, method)
    found = [r for _, r in record.read_all(tmp_path / "results")]
    (table,) = tables.tables(found, columns=["chi2", "SSIM", "PSNR"])
    assert [c.name for c in table.columns] == ["chi2", "SSIM", "PSNR"]
    best = {c.name: table.rows[i].label for (i, c), mark in table.marks().items() if mark == "best"}
    # the source resembles itself perfectly, which is no merit
    assert best.keys() == {"chi2", "SSIM", "PSNR"}
    assert "Identity" not in {table.rows[i].label for i, _ in table.marks()}
    text = tables.to_markdown(table)
    assert "Calibrated without a registered pair" in text and "PanCollection" not in text
    published = {r.label: r for r in table.rows if r.source == "published"}
    assert published["SP-I2I, L=6"].cells[table.columns[2]].mean == 26.556

    picture = tmp_path / "psd.png"
    words = ("figure", "psd", "--dataset", "no-planet", "--results", tmp_path / "results", "--out", picture)
    assert CliRunner().invoke(main, [str(w) for w in words]).exit_code == 0
    with open(picture.with_suffix(".csv")) as file:
        rows = list(csv.DictReader(file))
    assert {"cycles_per_pixel", "source", "target", "Histogram matching", "Identity"} <= rows[0].keys()
    truth = found[0].protocols["calibration"]["curves"]["psd"]["source"]
    assert [float(r["source"]) for r in rows] == pytest.approx(truth) and picture.stat().st_size > 5000


def test_spectra_are_those_of_one_seed_and_of_methods_that_have_none(tmp_path):
    folders = tmp_path / "results", tmp_path / "runs"
    tiny = {"steps": 1, "ngf": 4, "ndf": 4, "levels": 2}
    for method in ("identity", "channel-affine"):
        run(tmp_path, method)
    spec = RunSpec("sp-i2i", "no-planet", "quick", tiny, device="cpu")
    for chosen in (spec, replace(spec, seed=1, options={**tiny, "levels": 1})):
        trained = experiment.run(chosen, *folders, progress=False)
    # of given weights no seed is known, so they are drawn on request alone, then for any seed
    given = replace(chosen, weights=trained.checkpoint, options={**tiny, "levels": 1, "nfe": 1})
    sha = experiment.run(given, *folders, progress=False).record.spec["weights"]["file_sha256"]
    drawn = {}
    for seed in (0, 1, 2, "2 --given-weights"):
        picture = tmp_path / "psd.png"
        words = (
            "figure",
            "psd",
            "--dataset",
            "no-planet",
            "--results",
            folders[0],
            "--out",
            picture,
            "--seed",
        )
        assert CliRunner().invoke(main, [*map(str, words), *str(seed).split()]).exit_code == 0
        with open(picture.with_suffix(".csv")) as file:
            header = next(csv.reader(file))
        drawn[seed] = [label.partition(", ")[2] for label in header if label.startswith("SP-I2I")]
        assert {"source", "target", "Identity", "Channel affine"} <= {*header}
    assert drawn == {
        0: ["levels=2, ndf=4, ngf=4, steps=1"],
        1: ["levels=1, ndf=4, ngf=4, steps=1"],
        2: [],
        "2 --given-weights": [f"levels=1, ndf=4, nfe=1, ngf=4, steps=1, weights {sha[:8]}"],
    }


def test_a_papers_rows_carry_options_and_those_that_cannot_be_are_left_out(tmp_path, monkeypatch):
    papers = tmp_path / "papers.toml"
    papers.write_text(
        '[1]\ntitle = "Some paper"\ndataset = "no-planet"\nprotocols = ["calibration"]\n'
        'source = "SP-I2I paper Table 1"\ncolumns = ["PSNR", "chi2"]\nmethods = ["identity", '
        '{ method = "sp-i2i", levels = 2, steps = 1, ngf = 4, ndf = 4 }, { method = "sp-i2i", levels = 9 }]\n'
    )
    monkeypatch.setattr(sys.modules["pansharp_bench.cli.table"], "PAPERS", papers)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["table", "1", "--quiet"])
    assert result.exit_code == 0, result.output
    assert "left out: sp-i2i: option levels=9" in result.output and "chi2_256" not in result.output
    assert "levels=2" in result.output and result.output.index("PSNR ↑") < result.output.index("chi2 ↓")
    # what is set for all rows is nothing to a row in closed form, of which there is no step
    papers.write_text(papers.read_text().replace('"identity"', '"identity", "channel-affine"'))
    result = CliRunner().invoke(main, ["table", "1", "--quiet", "--set", "samples=1", "--dry-run"])
    assert result.exit_code == 0 and "channel-affine" in result.output, result.output


def test_a_dataset_brings_its_own_commands():
    listed = CliRunner().invoke(main, ["data", "--help"]).output
    assert all(f"  {verb} " in listed for verb in ("build", "mosaic", "project", "info", "check"))
    for words in (["build", "--help"], ["build", "junocam2hst", "--help"]):
        result = CliRunner().invoke(main, ["data", *words])
        assert result.exit_code == 0 and "--junocam" in result.output


def test_samples_is_short_for_an_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "run --method sp-i2i --dataset no-planet --samples 2 --quiet --pictures 0"
    for option in ("steps=1", "ngf=4", "ndf=4", "levels=2"):
        words += f" --set {option}"
    assert CliRunner().invoke(main, words.split()).exit_code == 0
    ((_, made),) = record.read_all(tmp_path / "results")
    assert made.spec["options"]["samples"] == 2 and "samples" in made.spec["changed"]
    refused = CliRunner().invoke(
        main, ["run", "--method", "identity", "--dataset", "no-planet", "--samples", "2"]
    )
    assert refused.exit_code == 2 and "samples" in refused.output


def test_the_numbers_of_a_record_survive_json(tmp_path):
    path = run(tmp_path, "identity").path
    assert json.loads(path.read_text())["protocols"]["calibration"]["mean"]["PSNR"] == "Infinity"
