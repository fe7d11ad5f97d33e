"""One run end to end, on a tiny dataset that a plug-in file registers."""

import json
import math
import shutil
import warnings
from dataclasses import make_dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import pansharp_bench as pb
from pansharp_bench import record as records
from pansharp_bench.errors import BenchError, DataError, RecordExists, UnknownName
from pansharp_bench.experiment import ready, run
from pansharp_bench.plan import RunSpec, plan, recorded
from pansharp_bench.protocol import rehearse
from pansharp_bench.registry import DATASETS, METHODS, METRICS, TRACKS, MethodCard, load_plugin
from pansharp_bench.scene import Scene, as_sensor, load_dataset

load_plugin(Path(__file__).parent / "plugins" / "tiny.py")
PROTOCOLS = {"reduced": 3, "full": 2}


@pytest.fixture
def go(tmp_path):
    def go(method="exp", dataset="tiny", force=False, resume=False, **spec):
        return run(
            RunSpec(method, dataset, **spec),
            tmp_path / "results",
            tmp_path / "runs",
            force=force,
            resume=resume,
            progress=False,
        )

    return go


def test_an_untrained_method_gives_scores_record_and_pictures(go):
    outcome = go("exp")
    record = records.read(outcome.path)
    assert set(record.protocols) == set(PROTOCOLS)
    for name, images in PROTOCOLS.items():
        scores = record.protocols[name]["scores"]
        assert all(len(v) == images for v in scores.values())
    assert {"ERGAS", "SAM", "SCC", "Q2n", "PSNR", "SSIM"} <= set(record.protocols["reduced"]["scores"])
    assert {"HQNR", "D_s", "D_lambda"} <= set(record.protocols["full"]["scores"])
    assert record.spec["preset"] == "untrained" and outcome.checkpoint is None
    assert [p.name for p in outcome.pictures] == [
        "full-00.png",
        "full-01.png",
        "reduced-00.png",
        "reduced-01.png",
    ]
    assert all(p.stat().st_size > 5000 for p in outcome.pictures)
    assert record.dataset["files"][0]["sha256"] and record.environment["packages"]["torch"]
    assert record.inference["reduced"]["seconds_per_image"] > 0
    assert record.environment["peak_memory"]["process_bytes"] > 1e7


def test_scores_are_those_of_the_metrics_on_the_cut_image(go):
    record = go("exp").record
    scene = load_dataset("tiny").split("reduced")[1]
    cut = (slice(None), slice(None), slice(20, -21), slice(20, -21))
    from pansharp_bench import metrics

    expected = metrics.ergas(pb.fuse("exp", scene.pan, scene.ms, "qb")[cut], scene.gt[cut], ratio=4)
    assert record.scores("reduced", "ERGAS")[1] == pytest.approx(expected.item(), rel=1e-12)


def test_a_trained_method_learns_and_its_weights_are_recorded(go):
    outcome = go("gain")
    assert "training.png" in [p.name for p in outcome.pictures]
    better = outcome.record
    worse = go("half").record
    assert better.protocols["reduced"]["mean"]["ERGAS"] < worse.protocols["reduced"]["mean"]["ERGAS"]
    assert better.weights["parameters"] == 4 and len(better.weights["sha256"]) == 64
    assert better.training["data"] == {"kind": "paired", "train_samples": 16, "valid_samples": 4}
    assert {f["split"] for f in better.dataset["files"]} == {"train", "valid", "reduced", "full"}
    assert better.spec["options"]["steps"] == 40 and better.spec["preset"] == "quick"


def test_weights_file_replaces_training(go):
    trained = go("gain")
    again = go("gain", weights=trained.checkpoint)
    assert again.path != trained.path
    assert again.record.protocols["reduced"]["scores"] == trained.record.protocols["reduced"]["scores"]
    assert again.record.spec["weights"]["file_sha256"] == trained.record.weights["sha256"]
    assert {f["split"] for f in again.record.dataset["files"]} == {"reduced", "full"}


def test_runs_repeat_exactly_and_the_seed_matters(go):
    first = go("gain").record
    again = go("gain", force=True).record
    other = go("gain", seed=1).record
    assert first.protocols == again.protocols and first.weights == again.weights
    assert other.weights["sha256"] != first.weights["sha256"]


def test_an_existing_record_is_refused_before_any_work(go, monkeypatch):
    go("gain")
    monkeypatch.setattr("pansharp_bench.experiment._fit", lambda *a: pytest.fail("trained before refusing"))
    with pytest.raises(RecordExists, match="--force"):
        go("gain")


def test_options_change_the_run_and_its_record(go):
    outcome = go("gain", options={"steps": "8", "select": "no"})
    assert outcome.record.spec["options"]["steps"] == 8
    assert outcome.record.spec["changed"] == ["select", "steps"]


def test_an_option_that_a_method_learns_later_leaves_its_runs_theirs(go, monkeypatch, tmp_path):
    made = go("gain", options={"steps": "8"})
    gain = METHODS.get("gain").obj
    later = make_dataclass("Config", [("daring", float, 0.0)], bases=(gain.Config,), frozen=True)
    monkeypatch.setattr(gain, "Config", later)
    with pytest.raises(RecordExists):
        go("gain", options={"steps": "8"})
    assert recorded(RunSpec("gain", "tiny", options={"steps": "8"}), tmp_path / "results") == made.path
    assert recorded(RunSpec("gain", "tiny", options={"daring": "1"}), tmp_path / "results") is None
    assert go("gain", options={"steps": "8", "daring": "0.5"}).path != made.path


def test_a_class_without_options_learns_all_the_same(go, monkeypatch):
    class Optionless(METHODS.get("gain").obj):
        Config, presets = make_dataclass("Nothing", [], frozen=True), {"quick": {}}

        def fit(self, data, trainer):
            return {"came": "here"}

    entry = replace(METHODS.get("gain"), obj=Optionless)
    monkeypatch.setitem(METHODS._entries, "gain", entry)
    assert go("gain").record.training["fitted"] == {"came": "here"}


def test_nothing_fitted_has_no_seed(go):
    assert go("half", seed=3).record.spec["seed"] == 0


def test_the_run_in_progress_is_not_run_again(go, tmp_path, monkeypatch):
    from pansharp_bench import experiment

    def again(*words):
        with pytest.raises(BenchError, match="under way in another process"):
            go("half")
        return [], {}

    monkeypatch.setattr(experiment, "evaluate", lambda *a: again())
    with pytest.raises(AttributeError):
        go("half")


def test_a_method_cannot_touch_what_it_is_scored_by(go, monkeypatch):
    def greedy(pan, lms, *, sensor):
        pan.zero_()
        out = lms.clone()
        lms.zero_()
        return out

    register_temporarily(monkeypatch, "greedy", greedy)
    register_temporarily(monkeypatch, "modest", lambda lms, *, sensor: lms)
    assert go("greedy").record.protocols["full"]["scores"] == go("modest").record.protocols["full"]["scores"]


def test_an_image_with_nan_has_no_score_at_all(go, monkeypatch):
    def holey(lms, *, sensor):
        lms[..., 40, 40] = math.nan
        return lms

    register_temporarily(monkeypatch, "holey", holey)
    for scored in go("holey").record.protocols.values():
        assert all(map(math.isnan, scored["mean"].values()))
        assert all(v == list(range(scored["images"])) for v in scored["missing"].values())


def test_two_metrics_cannot_give_one_column(go, monkeypatch):
    METRICS.register("liar", protocol="reduced", columns=("ERGAS",))(lambda fused: fused.mean((1, 2, 3)) * 0)
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    try:
        with pytest.raises(BenchError, match="gives ERGAS, as another does"):
            go("half")
    finally:
        monkeypatch.undo()
        del METRICS._entries["liar"]


@pytest.fixture
def metric(monkeypatch):
    """Registers a metric for the length of a test, and says so loudly should anything be trained."""
    METRICS.discover()
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    monkeypatch.setattr("pansharp_bench.experiment._fit", lambda *a: pytest.fail("trained before it failed"))
    return lambda obj, **card: METRICS.register("mine", **{"columns": ("M",), **card})(obj)


def fails(fused, reference):
    raise ZeroDivisionError("by nothing")


def asks(fused, wavelengths):
    return fused.mean((1, 2, 3))


def set_that_fails(where):
    """A metric of sets, of which one method fails."""

    def fail(self, role="", *rest):
        raise IndexError(role)

    whole = {
        "add": lambda *a: None,
        "scores": lambda s: (0.5,),
        "curves": lambda s: {},
        "floors": lambda s: {},
    }
    return type("Mine", (), {"__init__": lambda self, sensor: None, **whole, where: fail})


@pytest.mark.parametrize(
    ("obj", "card", "message"),
    [
        (
            fails,
            {},
            r"metric 'mine' failed on reduced scene 0: ZeroDivisionError: by nothing \(test_experiment\.py, line",
        ),
        (
            asks,
            {},
            r"metric 'mine' asks for wavelengths; it may ask for fused, reference, sensor, ratio, peak",
        ),
        (lambda fused: (fused[:, 0, 0, 0], fused[:, 1, 0, 0]), {}, "gave 2 quantities for its columns M"),
        (lambda fused: fused[0, :, 0, 0], {}, "gave 4 values of M for reduced scene 0: one an image"),
        (lambda fused: "good", {}, "metric 'mine' failed on reduced scene 0: TypeError"),
    ],
)
@pytest.mark.parametrize("method", ["gain", "exp"])
def test_a_metric_that_fails_does_so_before_any_training(go, metric, tmp_path, method, obj, card, message):
    metric(obj, **card)
    with pytest.raises(BenchError, match=message):
        go(method)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("where", "said"), [("add", " on a target image: IndexError: target"), ("scores", ": IndexError"),
                        ("curves", ": IndexError"), ("floors", ": IndexError")],
)  # fmt: skip
def test_a_metric_of_sets_that_fails_does_so_before_any_training(metric, where, said):
    metric(set_that_fails(where), protocol="calibration", scope="set")
    protocol = next(p for p in TRACKS.get("calibration").obj.protocols if p.name == "calibration")
    gt = torch.rand(2, 3, 64, 64)
    scene = Scene(as_sensor("junocam2hst"), pan=gt)
    split = type(
        "OneScene", (), {"name": "test", "__getitem__": lambda s, i: scene[:1], "read": lambda s, k, i: gt[i]}
    )()
    with pytest.raises(BenchError, match=f"metric 'mine' failed{said}"):
        rehearse(SimpleNamespace(split=lambda name: split), [protocol], torch.device("cpu"))


def test_every_shipped_protocol_can_be_rehearsed():
    dataset = load_dataset("tiny")
    rehearse(
        dataset,
        [p for p in TRACKS.get("pansharpening").obj.protocols if p.name in PROTOCOLS],
        torch.device("cpu"),
    )


def test_a_metric_without_columns_is_refused_where_it_is_registered(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import pansharp_bench as pb\n@pb.register_metric('mine')\ndef mine(fused): return fused\n"
    )
    with pytest.raises(
        BenchError, match=r"metric 'mine' names no columns: columns=\(...\).*\(mine\.py, line 2\)"
    ):
        load_plugin(path)


def test_a_method_that_fails_is_named_with_the_scene(go, monkeypatch, tmp_path):
    calls = []

    def shaky(lms, *, sensor):
        calls.append(0)
        return lms if len(calls) < 4 else lms * (1 / 0)

    register_temporarily(monkeypatch, "shaky", shaky)
    with pytest.raises(
        BenchError, match=r"method 'shaky' failed on reduced scene 1: ZeroDivisionError.*test_exp"
    ):
        go("shaky")
    assert not list(tmp_path.rglob("*.json"))


def test_a_training_that_fails_is_named(go, monkeypatch):
    monkeypatch.setattr(METHODS.get("gain").obj, "fit", lambda self, data, trainer: data.no_such_thing)
    with pytest.raises(
        BenchError, match=r"method 'gain' failed in training: AttributeError: .*no_such_thing"
    ):
        go("gain")


def test_a_runs_folder_that_cannot_be_written_is_said_before_any_training(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "pansharp_bench.experiment._fit", lambda *a: pytest.fail("trained before it was seen")
    )
    (tmp_path / "runs").write_text("")
    with pytest.raises(BenchError, match="cannot write to"):
        run(RunSpec("gain", "tiny"), tmp_path / "results", tmp_path / "runs", progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratio": 3}, "ratio 3 is no power of two"),
        ({"ratio": 0}, "ratio 0"),
        ({"mtf": (0.3, 0.3, 0.3, 0.0)}, "MTF gain 0.0"),
        ({"mtf_pan": 1.5}, "MTF gain 1.5"),
        ({"peak": math.nan}, "peak nan"),
        ({"rgb": (4, 1, 0)}, "rgb names band 4 of 4"),
    ],
)
def test_a_sensor_that_cannot_work_is_refused_when_it_is_described(change, message):
    with pytest.raises(ValueError, match=f"sensor qb: {message}"):
        replace(as_sensor("qb"), **change)


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ({"method": "gian"}, UnknownName, "did you mean gain"),
        ({"method": "gain", "dataset": "tyni"}, UnknownName, "did you mean tiny"),
        ({"method": "gain", "preset": "fast"}, BenchError, "unknown preset 'fast'; known are: quick, paper"),
        ({"method": "gain", "options": {"stpes": "3"}}, BenchError, "unknown option 'stpes'"),
        (
            {"method": "gain", "options": {"steps": "many"}},
            BenchError,
            "method 'gain': option steps='many' is not of type int",
        ),
        ({"method": "exp", "options": {"steps": "3"}}, BenchError, "has no options"),
        ({"method": "exp", "resume": True}, BenchError, "no training to resume"),
        ({"method": "exp", "weights": Path("w.pt")}, BenchError, "'exp' is not trained; leave out --weights"),
        ({"method": "exp", "dataset": "qb-sim", "label": "mini"}, BenchError, "simulated and keeps its name"),
        ({"method": "gain", "precision": "bogus"}, BenchError, "unknown precision 'bogus'"),
        ({"method": "exp", "device": "gpu"}, BenchError, "known are: auto, cpu, cuda"),
        ({"method": "gain", "weights": Path("nowhere.pt")}, BenchError, r"nowhere\.pt"),
        ({"method": "exp", "dataset": "qb", "data": Path("nowhere")}, DataError, "nowhere"),
    ],
)
def test_mistakes_are_named_and_write_nothing(go, tmp_path, spec, error, message):
    with pytest.raises(error, match=message):
        go(**spec)
    assert not list(tmp_path.rglob("*.json"))


def test_diverging_training_stops_with_the_mend(go, tmp_path):
    with pytest.raises(BenchError, match=r"diverged at step 8.*learning rate"):
        go("gain", options={"explode_at": "6"})
    assert not list(tmp_path.rglob("results/**/*.json"))


def test_a_training_that_was_interrupted_is_not_begun_anew_unasked(go, tmp_path):
    def torn(**how):
        with pytest.raises(BenchError) as caught:
            go("gain", options={"explode_at": "25"}, **how)  # its state was last saved at step 15
        return str(caught.value)

    assert "diverged" in torn()
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    before = checkpoint.read_bytes()
    assert str(checkpoint.parent) in torn() and "--resume" in torn() and "--force" in torn()
    assert checkpoint.read_bytes() == before
    assert "diverged" in torn(resume=True) and "diverged" in torn(force=True)
    go("gain")  # other options are another training

    with pytest.raises(
        BenchError, match=r"nothing to resume.*of other options, files or code there are .*checkpoint"
    ):
        go("gain", options={"steps": "30"}, resume=True)


def test_a_method_that_is_wanted_ready_writes_nothing(go, tmp_path):
    stepwise, closed = (plan(RunSpec(name, "tiny")) for name in ("gain", "pan-ot"))
    with pytest.raises(
        BenchError, match=r"no finished run .*`bench run --method gain --dataset tiny --preset quick"
    ):
        ready(stepwise, tmp_path / "runs", progress=False)
    assert not list(tmp_path.iterdir())

    go("gain")
    go("pan-ot")
    shutil.rmtree(closed.folder(tmp_path / "runs").path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for settled in (stepwise, closed):
        ready(settled, tmp_path / "runs", progress=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_files_that_no_other_record_knows_are_told(go, monkeypatch):
    go("exp")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        go("half")
    tiny = DATASETS.get("tiny")

    def other_files(dataset, *splits):
        return tuple(replace(f, sha256="0" * 64) for f in files(dataset, *splits))

    files = tiny.obj.files
    monkeypatch.setattr(tiny.obj, "files", other_files)
    said = r"none of the 2 other records of tiny is of these files: reduced, full|full, reduced"
    with pytest.warns(UserWarning, match=said):
        go("half")


def register_temporarily(monkeypatch, name, function, **card):
    monkeypatch.setitem(METHODS._entries, name, None)
    del METHODS._entries[name]
    METHODS.register(name, **card)(function)


def test_a_nan_score_is_recorded_with_its_image_and_poisons_the_mean(go, monkeypatch):
    calls = []

    def sometimes_black(lms, *, sensor):
        calls.append(0)
        return lms * 0 if len(calls) == 4 else lms  # the second image of `reduced`, after two of `full`

    register_temporarily(monkeypatch, "sometimes-black", sometimes_black)
    outcome = go("sometimes-black")
    reduced = records.read(outcome.path).protocols["reduced"]
    assert reduced["missing"]["SAM"] == [1] and math.isnan(reduced["mean"]["SAM"])
    assert '"NaN"' in outcome.path.read_text()
    json.loads(outcome.path.read_text(), parse_constant=pytest.fail)


def test_a_wrong_shape_is_named(go, monkeypatch):
    register_temporarily(monkeypatch, "small", lambda ms, *, sensor: ms)
    with pytest.raises(BenchError, match=r"'small' gave .*\(1, 4, 32, 32\).*expected \(1, 4, 128, 128\)"):
        go("small")


@pytest.mark.parametrize(
    ("fuse", "said"),
    [
        (lambda lms: None, "gave NoneType for full scene 0"),
        (lambda lms: lms.numpy(), "gave numpy.ndarray"),
        (lambda lms: lms.half(), "gave values of torch.float16"),
        (lambda lms: lms.to("meta"), "gave an image on meta"),
    ],
)
def test_what_is_no_image_is_named(go, monkeypatch, fuse, said):
    register_temporarily(monkeypatch, "odd", fuse)
    with pytest.raises(BenchError, match=f"method 'odd' {said}.*; expected .*torch.float32, on cpu"):
        go("odd")


def test_normalised_images_are_warned_of(go, monkeypatch):
    register_temporarily(monkeypatch, "unit", lambda lms, sensor: (lms / sensor.peak).clamp(0, 1))
    with pytest.warns(UserWarning, match="'unit' gave values from .* where the sensor's peak is 2047"):
        go("unit")


def test_what_was_learnt_is_kept_when_scoring_fails(go, monkeypatch):
    monkeypatch.setattr(METHODS.get("gain").obj, "fuse", lambda self, scene: scene.ms)
    with pytest.raises(
        BenchError, match=r"once mended, give it by --weights .*weights\.safetensors"
    ) as caught:
        go("gain")
    weights = Path(str(caught.value).rpartition(" ")[2])
    monkeypatch.undo()
    assert go("gain", weights=weights).record.weights["trained_here"]


def test_a_fit_that_takes_no_steps_is_warned_of(go, monkeypatch):
    monkeypatch.setattr(METHODS.get("gain").obj, "fit", lambda self, data, trainer: None)
    with pytest.warns(UserWarning, match="'gain' took no steps by trainer.run"):
        go("gain")


@pytest.mark.parametrize("where", ["keys", "__getitem__", "__len__"])
def test_a_dataset_that_fails_is_named(go, monkeypatch, where):
    def fails(self, *index):
        raise KeyError("mask")

    split = type(load_dataset("tiny").split("full"))
    monkeypatch.setattr(split, "__init__", lambda self, name, sensor: None)
    monkeypatch.setattr(split, where, property(fails) if where == "keys" else fails, raising=False)
    with pytest.raises(BenchError, match=r"dataset 'tiny' failed.*Error"):
        go("exp")


def test_methods_see_only_what_their_card_declares():
    scene = load_dataset("tiny").split("reduced")[:2]
    blind = scene.seen_by(MethodCard("x", sees="pan"))
    assert blind.ms is None and blind.lms is None and blind.gt is None
    bag = scene.seen_by(MethodCard("x", sees="pan+bag"))
    assert bag.lms is None and bag.gt is None and not torch.equal(bag.ms, scene.ms)
    order = lambda ms: ms.flatten(2).sum(1).sort(-1).values  # noqa: E731
    assert torch.allclose(order(bag.ms), order(scene.ms))
    assert scene.seen_by(MethodCard("x", sees="pan+ms")).gt is None
    assert scene.seen_by(MethodCard("x", sees="reference")).gt is scene.gt


def test_without_a_data_root_the_simulated_sensor_stands_in_loudly(monkeypatch, tmp_path):
    monkeypatch.delenv("PANSHARP_DATA", raising=False)
    with pytest.warns(UserWarning, match=r"SIMULATED sensor 'qb-sim'.*--data DIR"):
        dataset = load_dataset("qb")
    assert dataset.name == "qb-sim"
    with pytest.raises(BenchError, match="--label mini names real files"):
        load_dataset("qb", label="mini")
    with pytest.raises(DataError, match="PanCollection"):
        load_dataset("qb", root=tmp_path)


def test_fuse_checks_shapes_and_training():
    pan, ms = torch.rand(2, 1, 64, 64), torch.rand(2, 4, 16, 16)
    assert pb.fuse("exp", pan, ms, "qb").shape == (2, 4, 64, 64)
    assert pb.fuse("exp", pan, ms, as_sensor("qb")).shape == (2, 4, 64, 64)
    with pytest.raises(BenchError, match="8 bands"):
        pb.fuse("exp", pan, ms, "wv3")
    with pytest.raises(BenchError, match="must be trained first"):
        pb.fuse("gain", pan, ms, "qb")
