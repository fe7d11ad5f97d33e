"""What is given to public functions and cannot be right is one clear error; what can be computed is, rightly."""

import math
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from h5files import samples, write, write_set
from splits import Random

import pansharp_bench as pb
from pansharp_bench import imaging, metrics
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError, DataError, ImageError
from pansharp_bench.experiment import run
from pansharp_bench.imaging import interp23
from pansharp_bench.method import FunctionMethod, build, is_trained, resolve_config
from pansharp_bench.plan import RunSpec, plan
from pansharp_bench.protocol import evaluate
from pansharp_bench.protocols.pansharpening import FULL, REDUCED, TRUTH
from pansharp_bench.registry import DATASETS, METHODS, METRICS, MethodCard, load_plugin
from pansharp_bench.scene import Scene, Sensor, Split, as_sensor
from pansharp_bench.training import PairedData, Trainer, UnpairedData

QB = as_sensor("qb")
UNTRAINED = [
    e.name
    for e in METHODS
    if e.origin.startswith("pansharp_bench.") and "pansharpening" in e.card.tracks and not is_trained(e)
]
FUSING = [name for name in UNTRAINED if METHODS.get(name).card.sees != "reference"]
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64)
NARROW = (torch.float16, torch.bfloat16)


def whole_numbers(most: int = 100, n: int = 1, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """(pan, ms) of smooth DN and noise, whole and in 1..most."""
    g = torch.Generator().manual_seed(0)
    ms = interp23(torch.rand(n, 4, side // 16, side // 16, generator=g)) * 0.7 + 0.1
    ms = ms + 0.1 * torch.rand(ms.shape, generator=g)
    pan = interp23(ms).mean(1, keepdim=True)
    pan = pan + 0.05 * torch.rand(pan.shape, generator=g)
    return tuple((most * x.clamp(0, 1)).round().clamp(1) for x in (pan, ms))


class TestFuse:
    @pytest.mark.parametrize("dtype", [*INTEGERS, *NARROW], ids=str)
    @pytest.mark.parametrize("name", FUSING)
    def test_any_real_type_gives_what_floats_give(self, name, dtype):
        pan, ms = whole_numbers()  # exact in all these types
        fused = pb.fuse(name, pan.to(dtype), ms.to(dtype), sensor="qb")
        wide = dtype in (torch.int32, torch.int64)
        assert fused.dtype == (torch.float64 if wide else torch.float32)
        expected = pb.fuse(name, *((x.double() if wide else x) for x in (pan, ms)), sensor="qb")
        torch.testing.assert_close(fused, expected, rtol=0, atol=0)

    @pytest.mark.parametrize("name", FUSING)
    def test_no_wrapping_and_no_overflow_at_the_ends_of_16_bits(self, name):
        """Interpolation rings beyond both ends of uint16; float16 would be infinite there."""
        pan, ms = (x.to(torch.uint16) for x in whole_numbers(65535))
        sensor = replace(QB, peak=65535)
        expected = pb.fuse(name, pan.double(), ms.double(), sensor=sensor)
        for method in (lambda *x: pb.fuse(name, *x, sensor=sensor), lambda *x: direct(name, *x, sensor)):
            fused = method(pan, ms)
            assert fused.dtype == torch.float32
            assert (fused - expected).abs().max() <= 1e-6 * expected.abs().max()

    def test_types_may_be_mixed(self):
        pan, ms = whole_numbers()
        fused = pb.fuse("scene-affine", pan.double(), ms.to(torch.int16), sensor="qb")
        assert fused.dtype == torch.float64

    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
    @pytest.mark.parametrize("which", ["pan", "ms"])
    def test_a_missing_value_is_named(self, which, value):
        images = dict(zip(("pan", "ms"), whole_numbers(), strict=True))
        images[which][0, 0, 3, 3:5] = value
        with pytest.raises(ImageError, match=f"{which} has 2 values that are NaN or infinite"):
            pb.fuse("exp", **images, sensor="qb")

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            (lambda x: x.numpy(), r"ms must be a torch.Tensor, found numpy.ndarray"),
            (lambda x: Path("ms.tif"), "ms must be a torch.Tensor, found pathlib"),
            (lambda x: "ms.tif", "ms must be a torch.Tensor, found str"),
            (lambda x: None, "ms must be a torch.Tensor, found NoneType"),
            (lambda x: x.tolist(), "ms must be a torch.Tensor, found list"),
            (lambda x: x.to(torch.complex64), "ms must hold real numbers, found torch.complex64"),
            (lambda x: x > 30, "ms must hold real numbers, found torch.bool"),
            (lambda x: x[0], r"ms must be \(N, C, H, W\), found \(4, 16, 16\)"),
            (lambda x: x[None], r"ms must be \(N, C, H, W\), found \(1, 1, 4, 16, 16\)"),
            (lambda x: x[..., :0], r"ms must be \(N, C, H, W\), found \(1, 4, 16, 0\)"),
            (lambda x: x[:, :3], r"has 4 bands and ratio 4.*found pan \(1, 1, 64, 64\), ms \(1, 3, 16, 16\)"),
            (lambda x: x[..., 1:], r"found pan \(1, 1, 64, 64\), ms \(1, 4, 16, 15\)"),
            (lambda x: x.expand(2, -1, -1, -1), r"ms \(2, 4, 16, 16\)"),
            (lambda x: x.to("meta"), "pan is on cpu and ms on meta"),
        ],
    )
    def test_what_cannot_be_images_is_one_clear_error(self, wrong, message):
        pan, ms = whole_numbers()
        with pytest.raises(ImageError, match=message):
            pb.fuse("gsa", pan, wrong(ms), sensor="qb")

    def test_methods_that_cannot_fuse_here(self):
        pan, ms = whole_numbers()
        with pytest.raises(BenchError, match="'identity' is made for calibration"):
            pb.fuse("identity", pan, ms, sensor="qb")
        with pytest.raises(BenchError, match="'pnn' must be trained first"):
            pb.fuse("pnn", pan, ms, sensor="qb")
        with pytest.raises(ImageError, match="'scene-ot' needs images of at least 8 x 8 PAN pixels"):
            pb.fuse("scene-ot", pan[..., :4, :4], ms[..., :1, :1], sensor="qb")

    @pytest.mark.parametrize("name", FUSING)
    def test_the_smallest_images(self, name):
        smallest = max(QB.ratio, METHODS.get(name).card.smallest)
        pan, ms = whole_numbers()
        pan, ms = pan[..., :smallest, :smallest], ms[..., : smallest // 4, : smallest // 4]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert pb.fuse(name, pan, ms, sensor="qb").isfinite().all()

    def test_values_beyond_reason_are_reported(self):
        """Bands that are alike leave BT-H's intensity, less the haze of each, to pass through 0."""
        pan, ms = whole_numbers(2000)
        ms = ms[:, :1].expand(-1, 4, -1, -1).contiguous()
        ms[..., 0, 0] = 1
        with pytest.warns(UserWarning, match=r"'bt-h' gave values from .* where the sensor's peak is 20"):
            fused = pb.fuse("bt-h", pan, ms, sensor=replace(QB, peak=20))
        assert fused.abs().max() > 40
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pb.fuse("exp", pan, ms, sensor="qb")


def test_a_run_reports_them_once():
    load_plugin(Path(__file__).parent / "plugins" / "tiny.py")
    method = FunctionMethod(MethodCard("wild"), lambda lms: lms * torch.tensor([1, 1, 1, 9.0])[:, None, None])
    with pytest.warns(UserWarning) as caught:
        evaluate(method, DATASETS.get("tiny").obj(), [REDUCED], torch.device("cpu"))
    (said,) = [str(w.message) for w in caught if "'wild' gave" in str(w.message)]
    assert "where the sensor's peak is 2047 in reduced scene 0, and the like in 3 of 3 scenes" in said


def direct(name: str, pan: torch.Tensor, ms: torch.Tensor, sensor: Sensor) -> torch.Tensor:
    """The registered function itself."""
    function = pb.get_method(name)
    return (
        function(pan, sensor=sensor).float() if name == "pan-replicate" else function(pan, ms, sensor=sensor)
    )


IMAGING = {
    "decimate": imaging.decimate,
    "interp23": imaging.interp23,
    "reduce_bicubic": imaging.reduce_bicubic,
    "resize_bicubic": lambda x: imaging.resize_bicubic(x, 1 / 4),
    "mtf_filter": lambda x: imaging.mtf_filter(x, "qb"),
    "mtf_filter_pan": lambda x: imaging.mtf_filter_pan(x, "qb"),
    "mtf_reduce": lambda x: imaging.mtf_reduce(x, "qb"),
    "mtf_reduce_pan": lambda x: imaging.mtf_reduce_pan(x, "qb"),
    "lowpass": imaging.lowpass,
    "atrous": imaging.atrous,
    "pyramid_down": imaging.pyramid_down,
    "pyramid_up": lambda x: imaging.pyramid_up(x, (31, 32)),
    "decompose": lambda x: imaging.decompose(x, 2)[0],
    "reconstruct": lambda x: imaging.reconstruct([x, imaging.decimate(x, 2)]),
    "LaplacianPyramid": lambda x: imaging.LaplacianPyramid(2).gate(x, torch.ones(3)),
    "wald_degrade": lambda x: imaging.wald_degrade(x, torch.ones(1, 1, 64, 64), "qb").ms,
}


class TestImaging:
    def test_none_is_left_out(self):
        assert set(imaging.__all__) - set(IMAGING) == {
            "Degraded",
            "LeastTransport",
            "least_transport",
            "max_bands",
            "mtf_kernel",
        }  # which take no image

    @pytest.mark.parametrize("dtype", INTEGERS, ids=str)
    @pytest.mark.parametrize("name", IMAGING)
    def test_integers_are_computed_as_floats(self, name, dtype):
        x = whole_numbers(torch.iinfo(dtype).max if torch.iinfo(dtype).bits < 32 else 10**6)[1].double()
        found, expected = IMAGING[name](x.to(dtype)), IMAGING[name](x)
        assert found.dtype == (torch.float64 if dtype in (torch.int32, torch.int64) else torch.float32)
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()

    @pytest.mark.parametrize("name", IMAGING)
    def test_what_is_no_image_is_one_clear_error(self, name):
        x = whole_numbers()[1]
        for wrong in (x.numpy(), x.to(torch.complex64), x > 30, "image.tif"):
            with pytest.raises(ImageError, match=r"must (be a torch.Tensor|hold real numbers), found"):
                IMAGING[name](wrong)


class TestScene:
    def scene(self, n=3):
        pan, ms = whole_numbers(n=n)
        return Scene(QB, pan=pan, ms=ms, lms=interp23(ms))

    def test_a_loop_over_a_batch_ends(self):
        scene = self.scene()
        parts = list(scene)
        assert [len(part) for part in parts] == [1, 1, 1]
        for i, part in enumerate(parts):
            assert torch.equal(part.pan, scene.pan[i : i + 1]) and torch.equal(part.lms, scene.lms[i : i + 1])
            for at in (i, i - 3, np.int64(i)):
                assert torch.equal(scene[at].ms, part.ms)
        assert len(scene[1:]) == 2 and len(scene[3:]) == 0

    @pytest.mark.parametrize("index", [3, 99, -4])
    def test_beyond_its_end_is_an_index_error(self, index):
        with pytest.raises(IndexError, match=f"scene {index} of a batch of 3"):
            self.scene()[index]

    @pytest.mark.parametrize("dtype", [*INTEGERS, *NARROW], ids=str)
    def test_holds_floats(self, dtype):
        pan, ms = whole_numbers()
        scene = Scene(QB, pan=pan.to(dtype), ms=ms.to(dtype), gt=interp23(ms).round().to(dtype))
        for x, given in ((scene.pan, pan), (scene.ms, ms), (scene.gt, interp23(ms).round())):
            assert x.dtype in (torch.float32, torch.float64)
            assert torch.equal(x, given.to(dtype).to(x.dtype))

    def test_images_that_do_not_belong_together_are_named(self):
        pan, ms = whole_numbers()
        for wrong in (
            {"pan": ms}, {"pan": pan[..., 1:]}, {"ms": ms[:, :3]}, {"ms": ms[..., 1:]}, {"lms": ms}, {"gt": pan},
            {"ms": ms[:0]},
        ):  # fmt: skip
            ((name, x),) = wrong.items()
            with pytest.raises(ImageError, match=rf"sensor 'qb' has 4 bands.*{name} \({x.shape[0]}, "):
                Scene(QB, **{"pan": pan, "ms": ms, **wrong})
        with pytest.raises(ImageError, match=r"gt must be a torch\.Tensor, found numpy\.ndarray"):
            Scene(QB, pan=pan, gt=interp23(ms).numpy())


SCORED = [e for e in METRICS.entries(scope="image") if e.origin.startswith("pansharp_bench.")]


def scored(entry, **changed):
    import inspect

    pan, ms = whole_numbers(2000)
    fused = interp23(ms).round().clamp(0)
    offered = {"fused": fused, "reference": fused.roll(1, 3), "ms": ms, "pan": pan, "sensor": QB} | changed
    wanted = inspect.signature(entry.obj).parameters
    result = entry.obj(**{k: v for k, v in offered.items() if k in wanted})
    return torch.stack([result] if isinstance(result, torch.Tensor) else list(result))


class TestMetrics:
    @pytest.mark.parametrize("dtype", [torch.int16, torch.uint16, torch.int64], ids=str)
    @pytest.mark.parametrize("entry", SCORED, ids=lambda e: e.name)
    def test_integers_score_as_floats(self, entry, dtype):
        pan, ms = whole_numbers(2000)
        fused = interp23(ms).round().clamp(0)
        images = {"fused": fused, "reference": fused.roll(1, 3), "ms": ms, "pan": pan}
        assert torch.equal(scored(entry, **{k: v.to(dtype) for k, v in images.items()}), scored(entry))

    @pytest.mark.parametrize("entry", SCORED, ids=lambda e: e.name)
    def test_what_is_no_image_is_one_clear_error(self, entry):
        fused = interp23(whole_numbers(2000)[1])
        for wrong in (fused.numpy(), fused.to(torch.complex64), fused > 30, None):
            with pytest.raises(ImageError, match=r"fused must (be a torch.Tensor|hold real numbers), found"):
                scored(entry, fused=wrong)

    @pytest.mark.parametrize(
        "function", [metrics.histogram, metrics.power_spectrum, metrics.mean_reflectance]
    )
    def test_sets_too(self, function):
        x = whole_numbers()[1]
        for wrong in (x.numpy(), x.to(torch.complex64), x > 30):
            with pytest.raises(ImageError, match=r"images must (be a torch.Tensor|hold real numbers), found"):
                function(wrong)

    @pytest.mark.parametrize("name", ["q2n", "hqnr", "psnr", "psnr_band_mean", "ssim", "ssim_uniform"])
    def test_normalised_images_are_warned_of(self, name):
        entry = METRICS.get(name)
        pan, ms = whole_numbers(2000)
        unit = {"fused": interp23(ms) / 2047, "ms": ms / 2047, "pan": pan / 2047}
        unit["fused"] = unit["fused"].clamp(0)
        unit["reference"] = unit["fused"].roll(1, 3)
        of_dn = "is defined for" if name in ("q2n", "hqnr") else "with peak 2047 takes images for"
        with pytest.warns(UserWarning, match=rf"{of_dn} DN, but all values lie in \[0, 1\]"):
            scored(entry, **unit)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scored(entry)  # DN
            zero = {k: torch.zeros_like(v) for k, v in unit.items()}
            scored(entry, **zero)  # a tile without data is no sign of a unit
            if name not in ("q2n", "hqnr"):
                scored(entry, **unit, peak=1)

    @pytest.mark.parametrize("entry", SCORED, ids=lambda e: e.name)
    def test_its_least_size_is_on_the_card(self, entry):
        """Where a metric's own check and its card differ, one of them is wrong."""
        least, block = entry.card.smallest, entry.card.protocol == "full"
        pan, ms = whole_numbers(2000, side=128)

        def of_side(side: int):
            small = ms[..., : -(-side // 4), : -(-side // 4)]
            fused = interp23(small)[..., :side, :side]
            return {"fused": fused, "reference": fused + 1, "ms": small, "pan": pan[..., :side, :side]}

        assert scored(entry, **of_side(least)).shape[-1] == 1
        if least > 1:
            with pytest.raises(
                ImageError, match="multiples of 32" if block else f"at least {least} x {least}"
            ):
                scored(entry, **of_side(least - (4 if block else 1)))


class Memory(Split):
    name = "train"
    keys = ("pan", "ms", "lms", "gt")

    def __init__(self, scene: Scene) -> None:
        self.scene, self.sensor = scene, scene.sensor

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, index):
        return self.scene[index]


def trained(name: str, scene: Scene, **options):
    """A method after two steps on these scenes."""
    entry = METHODS.get(name)
    known = vars(entry.obj.configure("quick"))
    small = {"steps": 2, "batch": 2, "validations": 1}
    torch.manual_seed(0)
    method = build(
        entry, scene.sensor, resolve_config(entry, "quick", {k: v for k, v in small.items() if k in known})
    )
    load = UnpairedData.halves if entry.card.training == "unpaired" else PairedData
    trainer = Trainer(None, "cpu", seed=0, progress=False)
    method.fit(load(scene.sensor, Memory(scene), Memory(scene), trainer.device), trainer)
    return method.eval()


def a_scene(n: int = 4, side: int = 64) -> Scene:
    pan, ms = whole_numbers(2000, n, max(side, 64))
    pan, ms = pan[..., :side, :side], ms[..., : side // 4, : side // 4]
    return Scene(QB, pan=pan, ms=ms, lms=interp23(ms), gt=interp23(ms))


class TestSizes:
    def test_the_protocols_know_their_least_size(self):
        assert (REDUCED.smallest, FULL.smallest, TRUTH.smallest) == (73, 32, 73)

    def data(self, folder: Path, train: int = 64, reduced: int = 76, full: int = 32) -> Path:
        write_set(folder, n=2)
        write(folder / "train_qb.h5", samples("qb", 2, train, 1))
        write(folder / "test_qb_multiExm1.h5", samples("qb", 1, reduced, 3))
        raw = samples("qb", 1, full, 4)
        del raw["gt"]
        write(folder / "test_qb_OrigScale_multiExm1.h5", raw)
        return folder

    def test_the_least_sizes_are_enough(self, tmp_path):
        folder = self.data(tmp_path / "data", train=20)
        plan(RunSpec("pnn", "qb", data=folder))
        done = CliRunner().invoke(
            main, ["run", "--method", "exp", "--dataset", "qb", "--data", str(folder), "--label", "mini",
                   "--pictures", "0", "--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")],
        )  # fmt: skip
        assert done.exit_code == 0, done.output

    @pytest.mark.parametrize(
        ("sizes", "method", "message"),
        [
            (
                {"reduced": 72},
                "exp",
                r"scoring \(reduced resolution\) needs images of at least 73 x 73 PAN pixels",
            ),
            ({"full": 28}, "exp", r"scoring \(full resolution\) needs images of at least 32 x 32 PAN pixels"),
            (
                {"train": 16},
                "pnn",
                "'pnn' needs images of at least 20 x 20 PAN pixels; those of split 'train'",
            ),
            ({"reduced": 64}, "pnn", "those of split 'reduced' of dataset qb-unverified have 64 x 64"),
        ],
    )
    def test_smaller_ones_are_refused_before_any_work(self, tmp_path, sizes, method, message):
        folder = self.data(tmp_path / "data", **sizes)
        with pytest.raises(DataError, match=message):
            plan(RunSpec(method, "qb", data=folder))
        done = CliRunner().invoke(
            main, ["run", "--method", method, "--dataset", "qb", "--data", str(folder),
                   "--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")],
        )  # fmt: skip
        assert done.exit_code == 2 and "Traceback" not in done.output
        assert {p.name for p in tmp_path.iterdir()} == {"data"}

    @pytest.mark.parametrize(
        "name", [e.name for e in METHODS if is_trained(e) and e.origin.startswith("pansharp_bench.")]
    )
    def test_methods_learn_and_fuse_at_their_least_size_and_no_smaller(self, name):
        entry = METHODS.get(name)
        track = entry.card.tracks[0]
        sensor = QB if track == "pansharpening" else as_sensor(DATASETS.entries(tracks=track)[0].card.sensor)
        least = max(entry.card.smallest, sensor.ratio)
        known = {f.name for f in fields(entry.obj.Config)}
        small = {
            "steps": 1,
            "batch": 2,
            "validations": 1,
            "ngf": 8,
            "ndf": 8,
            "blocks": 5,
            "width": 32,
            "heads": 4,
        }
        options = {k: v for k, v in small.items() if k in known}

        def carried_out(side):
            torch.manual_seed(0)
            method = build(entry, sensor, resolve_config(entry, "quick", options))
            trainer, split = Trainer(None, "cpu", progress=False), Random(sensor, 4, side)
            if entry.card.training == "paired":
                data = PairedData(sensor, split, split, trainer.device)
            elif track == "pansharpening":
                data = UnpairedData.halves(sensor, split, split, trainer.device)
            else:
                data = UnpairedData.between(sensor, split, split, trainer.device)
            method.fit(data, trainer)
            return method.eval().fuse(Random(sensor, 1, side)[:].seen_by(entry.card))

        assert carried_out(least).isfinite().all()
        if least > sensor.ratio:
            with pytest.raises((RuntimeError, BenchError)):  # or the card asks for more than is needed
                carried_out(least - 4)

    def test_sides_that_a_network_cannot_halve_are_refused(self, tmp_path):
        folder = self.data(tmp_path / "data", train=20)
        spec = RunSpec(
            "dcpnet", "qb", data=folder, label="mini", options={"width": 8, "steps": 1, "batch": 1}
        )
        with pytest.raises(DataError, match="multiples of 8; those of split 'train' have 20 x 20"):
            run(spec, tmp_path / "results", tmp_path / "runs", pictures=0, progress=False)

    def test_crops_below_the_least_size_are_refused(self):
        entry = METHODS.get("cut")
        method = build(entry, QB, resolve_config(entry, "quick", {"steps": 1, "crop": 20}))
        split, trainer = Random(QB, 4, 32), Trainer(None, "cpu", progress=False)
        with pytest.raises(BenchError, match="crop=20: method 'cut' needs at least 24"):
            method.fit(UnpairedData.halves(QB, split, split, trainer.device), trainer)


FLAT = {
    "pan": lambda pan, ms: (torch.full_like(pan, 333.3), ms),
    "bands": lambda pan, ms: (pan, torch.full_like(ms, 345.6)),
}


class TestNothingToDivideBy:
    """An image that does not vary has a deviation of rounding, and a quotient of that is noise of any size."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("name", FUSING)
    @pytest.mark.parametrize("which", FLAT)
    def test_a_flat_image(self, which, name, dtype):
        pan, ms = FLAT[which](*(x.to(dtype) for x in whole_numbers(2000)))
        fused = pb.fuse(name, pan, ms, sensor="qb")
        assert fused.min() > -2000 and fused.max() < 4000

    @pytest.mark.parametrize(
        "name", ["mtf-glp-fs", "mtf-glp-hpm-h", "mtf-glp-hpm-r", "gs2-glp", "gsa", "pracs", "awlp", "mf-hg"]
    )
    def test_a_flat_pan_has_no_detail(self, name):
        pan, ms = (x.double() for x in whole_numbers(2000))
        for value in (333.3, 300, 0.1):
            fused = pb.fuse(name, torch.full_like(pan, value), ms, sensor="qb")
            torch.testing.assert_close(fused, interp23(ms), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("name", ["gs", "gsa", "mtf-glp-fs", "mtf-glp-hpm-r", "gs2-glp", "pracs", "awlp"])
    def test_a_flat_band_stays_flat(self, name):
        pan, ms = (x.double() for x in whole_numbers(2000))
        ms[:, 1] = 345.6
        fused = pb.fuse(name, pan, ms, sensor="qb")
        assert (fused[:, 1] - 345.6).abs().max() < 1e-6
        assert (fused[:, 0] - interp23(ms)[:, 0]).abs().max() > 1

    @pytest.mark.parametrize("value", [0, 0.1, 333.3])
    @pytest.mark.parametrize("name", ["pan-affine", "pan-ot", "pan-mean-spectrum", "grey-affine"])
    @pytest.mark.parametrize("which", ["pan", "band", "bands"])
    def test_flat_training_images(self, which, name, value):
        scene = a_scene()
        pan, lms = scene.pan.clone(), scene.lms.clone()
        target = pan if which == "pan" else lms[:, 1:2] if which == "band" else lms
        target.fill_(value)
        ms = lms[..., 2::4, 2::4].contiguous()
        method = trained(name, replace(scene, pan=pan, ms=ms, lms=lms))
        for at in (scene.pan, pan):
            if name == "pan-mean-spectrum" and at is not pan:
                continue  # its gain is a quotient of means: another exposure is another image
            fused = method.fuse(replace(scene, pan=at))
            assert fused.isfinite().all() and fused.abs().max() < 10 * 2047
        if which == "bands" and name != "pan-mean-spectrum":
            torch.testing.assert_close(fused, torch.full_like(fused, value), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("value", [0.1, 1 / 3])
    @pytest.mark.parametrize("name", ["channel-affine", "histogram-matching", "colour-ot"])
    def test_flat_training_images_of_a_calibration(self, name, value):
        rgb = ("red", "green", "blue")
        sensor = Sensor("three", "Three", rgb, 1.0, (1.0,) * 3, 1.0, (0, 1, 2), ratio=1, source=rgb)
        target = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        entry = METHODS.get(name)
        data = type(
            "Data",
            (),
            {"all_source": lambda s: torch.full_like(target, value), "all_target": lambda s: target},
        )
        method = build(entry, sensor, resolve_config(entry, "quick", {}))
        method.fit(data(), None)
        fused = method.fuse(Scene(sensor, pan=torch.full((1, 3, 32, 32), value)))
        assert fused.isfinite().all()
        if name != "colour-ot":
            assert (fused.mean((0, 2, 3)) - target.mean((0, 2, 3))).abs().max() < 0.05


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: metrics.ergas(x, x, ratio=0), "ratio=0"),
        (lambda x: metrics.ergas(x, x, ratio=0.25), "4, not 1/4"),
        (lambda x: metrics.ergas(x, x, ratio=math.inf), "ratio=inf"),
        (lambda x: metrics.q_avg(x, x, block=1), "blocks of side 1 have no variance"),
        (lambda x: metrics.q2n(x, x, block=1), "blocks of side 1 have no variance"),
        (lambda x: metrics.psnr(x, x, peak=0), "peak=0 is no positive number"),
        (lambda x: metrics.ssim(x, x, peak=-1), "peak=-1 is no positive number"),
        (lambda x: pb.fuse("gsa", x[:0, :1], x[:0, :, ::4, ::4], sensor="qb"), "pan holds no image"),
    ],
)
def test_settings_and_batches_that_mean_nothing_are_refused(call, said):
    with pytest.raises(ImageError, match=said):
        call(torch.rand(1, 4, 64, 64) * 2047)


def test_no_images_have_no_scores():
    ms, pan = torch.rand(0, 4, 16, 16), torch.rand(0, 1, 64, 64)
    assert all(x.shape == (0,) for x in metrics.hqnr(interp23(ms), ms, pan, sensor="qb"))


def test_an_interactive_shell_sees_every_public_name():
    assert set(pb.__all__) <= set(dir(pb))


def test_a_scene_takes_its_sensor_by_name():
    assert Scene("qb", pan=torch.rand(1, 1, 64, 64)).sensor is QB
