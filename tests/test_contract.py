"""What everything registered must keep to; registering is being tested."""

import itertools
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from partitions import partitions
from stray import strays

from pansharp_bench.errors import BenchError
from pansharp_bench.method import FunctionMethod, TrainedMethod, build, is_trained, resolve_config
from pansharp_bench.registry import DATASETS, METHODS, METRICS, SENSORS, load_plugin
from pansharp_bench.scene import CALIBRATION_SPLITS, SPLITS, Dataset, Scene, Sensor, as_sensor
from pansharp_bench.training import PairedData, Trainer, UnpairedData

load_plugin(Path(__file__).parent / "plugins" / "tiny.py")
TINY = DATASETS.get("tiny")
SHIPPED = [
    e.name for e in METHODS if e.origin.startswith("pansharp_bench.") and "pansharpening" in e.card.tracks
]
SMALL = {"steps": 2, "batch": 2, "validations": 1}  # the least that training a method can mean
SENSORS_TRIED = {"qb": 4, "wv3": 8}


def scenes(sensor: Sensor, n: int = 2, height: int = 48, width: int = 64) -> Scene:
    """Smooth random scenes in DN with correlated bands."""
    from pansharp_bench.imaging import interp23, wald_degrade

    generator = torch.Generator().manual_seed(5)
    base = torch.rand(n, 1, height // 8, width // 8, generator=generator)
    tint = torch.rand(n, sensor.channels, height // 16, width // 16, generator=generator)
    up = lambda x: torch.nn.functional.interpolate(x, (height, width), mode="bicubic")  # noqa: E731
    gt = ((0.7 * up(base) + 0.3 * up(tint)) * 0.4 * sensor.peak + 30).clamp(1, sensor.peak)
    gt = gt + 0.01 * sensor.peak * torch.rand(gt.shape, generator=generator)
    ms = wald_degrade(gt, gt.mean(1, keepdim=True), sensor).ms
    return Scene(sensor, pan=gt.mean(1, keepdim=True), ms=ms, lms=interp23(ms), gt=gt)


_strays: dict[tuple[str, str], list[str]] = {}
_made: dict[tuple[str, str], FunctionMethod | TrainedMethod] = {}


def ready(name: str, sensor_name: str) -> FunctionMethod | TrainedMethod:
    """The method, trained for two steps where it learns."""
    if (name, sensor_name) in _made:
        return _made[name, sensor_name]
    entry, sensor = METHODS.get(name), as_sensor(sensor_name)
    options = {}
    if is_trained(entry):
        known = {f.name for f in fields(entry.obj.configure("quick"))}
        options = {k: v for k, v in SMALL.items() if k in known}
    torch.manual_seed(0)
    method = build(entry, sensor, resolve_config(entry, "quick", options))
    if isinstance(method, TrainedMethod):
        trainer = Trainer(None, "cpu", seed=0, progress=False)
        train, valid = InMemory(sensor, 8), InMemory(sensor, 4)
        load = UnpairedData.halves if method.card.training == "unpaired" else PairedData
        method.train()
        with strays(trainer) as found:
            method.fit(load(sensor, train, valid, trainer.device), trainer)
        _strays[name, sensor_name] = found
        method.eval()
    _made[name, sensor_name] = method
    return method


class InMemory:
    """A split of 64-pixel scenes."""

    keys = ("pan", "ms", "lms", "gt")

    def __init__(self, sensor, n):
        self.sensor, self.all = sensor, scenes(sensor, n, 64, 64)

    def __len__(self):
        return len(self.all)

    def __getitem__(self, index):
        return self.all[index]

    def read(self, key, index):
        return getattr(self[index], key)


def fuse(method, scene, seed=0):
    with torch.inference_mode():
        return method.fuse(scene.seen_by(method.card, seed))


cases = pytest.mark.parametrize(("name", "sensor"), list(itertools.product(SHIPPED, SENSORS_TRIED)))


@cases
def test_output_has_the_shape_type_and_unit_of_its_input(name, sensor):
    scene = scenes(as_sensor(sensor))
    fused = fuse(ready(name, sensor), scene)
    assert fused.shape == scene.gt.shape
    assert fused.dtype == torch.float32
    assert fused.isfinite().all()
    # DN, not [0, 1] nor [-1, 1], and nothing beyond what ringing explains
    assert fused.mean() > 5 and fused.abs().max() < 4 * scene.sensor.peak


@cases
def test_a_step_reaches_its_networks_as_they_were_prepared(name, sensor):
    ready(name, sensor)
    assert not _strays.get((name, sensor))


@cases
def test_a_batch_is_its_images(name, sensor):
    scene, method = scenes(as_sensor(sensor)), ready(name, sensor)
    if method.card.sees == "pan+bag":
        pytest.skip("each image's pixels are put in an order of their own")
    with partitions() as labels:
        both = fuse(method, scene)
    for i in range(2):
        with partitions([of_both[i : i + 1] for of_both in labels]):
            alone = fuse(method, scene[i])
        assert (both[i] - alone[0]).abs().max() <= 2e-5 * scene.sensor.peak


@cases
def test_the_same_scene_gives_the_same_image(name, sensor):
    scene, method = scenes(as_sensor(sensor)), ready(name, sensor)
    first = fuse(method, scene)
    torch.manual_seed(123)  # nothing may hang on the global generator
    assert torch.equal(fuse(method, scene), first)


@pytest.mark.parametrize("name", SHIPPED)
def test_inputs_are_left_as_they_were(name):
    scene = scenes(as_sensor("qb"))
    before = {k: getattr(scene, k).clone() for k in ("pan", "ms", "lms", "gt")}
    fuse(ready(name, "qb"), scene)
    assert all(torch.equal(getattr(scene, k), v) for k, v in before.items())


@pytest.mark.parametrize("name", SHIPPED)
def test_sizes_that_are_multiples_of_the_ratio_work(name):
    scene = scenes(as_sensor("qb"), 1, 52, 76)
    assert fuse(ready(name, "qb"), scene).shape == (1, 4, 52, 76)


@pytest.mark.parametrize("name", [n for n in SHIPPED if is_trained(METHODS.get(n))])
def test_state_dict_holds_all_that_fuse_needs(name):
    method, scene = ready(name, "qb"), scenes(as_sensor("qb"))
    torch.manual_seed(99)
    again = build(METHODS.get(name), method.sensor, method.config)
    again.load_state_dict(method.state_dict())
    again.eval()
    assert torch.equal(fuse(again, scene), fuse(method, scene))


@pytest.mark.parametrize("name", [n for n in SHIPPED if is_trained(METHODS.get(n))])
def test_presets_are_valid_and_typing_mistakes_are_named(name):
    entry = METHODS.get(name)
    assert {"quick", "standard", "paper"} <= set(entry.obj.presets)
    for preset in entry.obj.presets:
        assert resolve_config(entry, preset) is not None
    with pytest.raises(BenchError, match="unknown option 'no_such'"):
        resolve_config(entry, "quick", {"no_such": "1"})
    with pytest.raises(BenchError, match="steps='x' is not of type int"):
        resolve_config(entry, "quick", {"steps": "x"})


@pytest.mark.parametrize("name", SHIPPED)
def test_cards_say_what_the_method_is(name):
    card = METHODS.get(name).card
    assert card.title and card.summary and len(card.summary) < 200
    assert card.kind in {"classical", "deep", "unpaired", "baseline", "oracle"}
    if card.kind in {"classical", "deep", "unpaired"}:
        assert card.paper and card.year
    assert (card.kind == "oracle") == (card.sees == "reference")
    assert is_trained(METHODS.get(name)) == (card.training != "none")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", SHIPPED)
def test_cuda_gives_what_the_cpu_gives(name):
    scene, method = scenes(as_sensor("qb")), ready(name, "qb")
    with partitions() as labels:
        on_cpu = fuse(method, scene)
    if isinstance(method, TrainedMethod):
        method.to("cuda")
    with partitions(labels):
        on_cuda = fuse(method, scene.to("cuda")).cpu()
    if isinstance(method, TrainedMethod):
        method.to("cpu")
    assert (on_cpu - on_cuda).abs().max() <= 2e-3 * scene.sensor.peak


@pytest.mark.parametrize("name", METRICS.names(scope="image"))
@pytest.mark.parametrize("sensor", SENSORS_TRIED)
def test_metrics_give_one_float64_per_image_in_their_columns(name, sensor):
    import inspect

    entry, scene = METRICS.get(name), scenes(as_sensor(sensor), 2, 64, 64)
    offered = {
        "fused": scene.lms, "reference": scene.gt, "ms": scene.ms, "pan": scene.pan, "lms": scene.lms,
        "sensor": scene.sensor, "ratio": 4, "peak": scene.sensor.peak,
    }  # fmt: skip
    wanted = inspect.signature(entry.obj).parameters
    assert set(wanted) <= set(offered)
    result = entry.obj(**{k: v for k, v in offered.items() if k in wanted})
    values = (result,) if isinstance(result, torch.Tensor) else tuple(result)
    assert len(values) == len(entry.card.columns)
    assert len(entry.card.better) in (1, len(values))
    for value in values:
        assert value.shape == (2,) and value.dtype == torch.float64 and value.isfinite().all()


def test_metric_columns_are_unique_within_a_protocol():
    for protocol in ("reduced", "full", "calibration", "truth"):
        columns = [c for e in METRICS.entries(protocol=protocol) for c in e.card.columns]
        assert len(columns) == len(set(columns))


@pytest.mark.parametrize("name", [n for n in DATASETS.names() if n.endswith("-sim")])
def test_simulated_datasets_are_whole_and_say_what_they_are(name):
    dataset = DATASETS.get(name).obj(root=None, label=None, size="tiny")
    assert isinstance(dataset, Dataset) and dataset.name == name
    (track,) = DATASETS.get(name).card.tracks
    expected = {
        "pansharpening": SPLITS,
        "calibration": CALIBRATION_SPLITS,
        "bands": ("train", "valid", "test"),
    }
    assert dataset.available() == expected[track]
    for split_name in dataset.available():
        split = dataset.split(split_name)
        scene, sensor = split[0], dataset.sensor
        h, w = scene.pan.shape[-2:]
        assert len(split) > 0 and scene.pan.shape == (1, sensor.source_bands, h, w)
        assert scene.pan.dtype == torch.float32 and scene.pan.min() >= 0
        if track == "bands":
            assert scene.gt.shape == (1, sensor.channels, h, w) and scene.ms is scene.lms is None
        elif track == "calibration":
            assert split.groups.shape == (len(split),) and split.groups.dtype == torch.int64
            assert (scene.gt is not None) == (split_name == "test") and scene.ms is scene.lms is None
        else:
            r = sensor.ratio
            assert scene.ms.shape == (1, sensor.channels, h // r, w // r)
            assert scene.gt.shape == scene.lms.shape == (1, sensor.channels, h, w)
        if scene.gt is not None:
            assert scene.gt.min() >= 0 and scene.gt.max() <= sensor.peak
    assert all(len(f.sha256) == 64 for f in dataset.files())
    assert dataset.provenance()


@pytest.mark.parametrize("name", SENSORS.names())
def test_sensors_are_plausible(name):
    sensor = as_sensor(name)
    pansharpening = sensor.source == ("pan",)
    known = [(1023, 4), (2047, 4), (4095, 4), (65535, 2)]
    assert (sensor.peak, sensor.ratio) in (known if pansharpening else [(1, 1)])
    assert not pansharpening or all(0.1 < g < 0.6 for g in (*sensor.mtf, sensor.mtf_pan))
    assert not pansharpening or SENSORS.get(name).card.source
    if "red" in sensor.bands:
        assert [sensor.bands[i] for i in sensor.rgb] == ["red", "green", "blue"]
    assert len(set(sensor.bands)) == sensor.channels == len(sensor.mtf)
