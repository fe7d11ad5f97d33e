"""What everything registered must keep to; registering is being tested. The checks are `bench check`'s own."""

import itertools
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from partitions import partitions

from pansharp_bench import contract
from pansharp_bench.contract import fuse, made_ready, scenes
from pansharp_bench.errors import BenchError
from pansharp_bench.method import FunctionMethod, TrainedMethod, is_trained, resolve_config
from pansharp_bench.registry import DATASETS, METHODS, METRICS, SENSORS, load_plugin
from pansharp_bench.scene import CALIBRATION_SPLITS, SPLITS, Dataset, as_sensor

load_plugin(Path(__file__).parent / "plugins" / "tiny.py")
SHIPPED = [
    e.name for e in METHODS if e.origin.startswith("pansharp_bench.") and "pansharpening" in e.card.tracks
]
SENSORS_TRIED = ("qb", "wv3")
TRAINED = [n for n in SHIPPED if is_trained(METHODS.get(n))]

_made: dict[tuple[str, str], tuple[FunctionMethod | TrainedMethod, list[str]]] = {}


def prepared(name: str, sensor: str) -> tuple[FunctionMethod | TrainedMethod, list[str]]:
    if (name, sensor) not in _made:
        _made[name, sensor] = made_ready(METHODS.get(name), as_sensor(sensor))
    return _made[name, sensor]


def ready(name: str, sensor: str) -> FunctionMethod | TrainedMethod:
    """The method, trained for two steps where it learns."""
    return prepared(name, sensor)[0]


cases = pytest.mark.parametrize(("name", "sensor"), list(itertools.product(SHIPPED, SENSORS_TRIED)))


@cases
def test_output_has_the_shape_type_and_unit_of_its_input(name, sensor):
    contract.check_output(ready(name, sensor), scenes(as_sensor(sensor)))


@cases
def test_a_step_reaches_its_networks_as_they_were_prepared(name, sensor):
    contract.check_steps(*prepared(name, sensor))


@cases
def test_a_batch_is_its_images(name, sensor):
    scene, method = scenes(as_sensor(sensor)), ready(name, sensor)
    if method.card.sees == "pan+bag":
        pytest.skip("each image's pixels are put in an order of their own")
    labels = []

    @contextmanager
    def around(image):
        with partitions(None if image is None else [x[image : image + 1] for x in labels]) as found:
            yield
        if image is None:
            labels.extend(found)

    contract.check_batch(method, scene, around)


@cases
def test_the_same_scene_gives_the_same_image(name, sensor):
    contract.check_repeatable(ready(name, sensor), scenes(as_sensor(sensor)))


@pytest.mark.parametrize("name", SHIPPED)
def test_inputs_are_left_as_they_were(name):
    contract.check_inputs_kept(ready(name, "qb"), scenes(as_sensor("qb")))


@pytest.mark.parametrize("name", SHIPPED)
def test_sizes_that_are_multiples_of_the_ratio_work(name):
    contract.check_sizes(ready(name, "qb"), as_sensor("qb"))


@pytest.mark.parametrize("name", TRAINED)
def test_state_dict_holds_all_that_fuse_needs(name):
    contract.check_state(ready(name, "qb"), METHODS.get(name), scenes(as_sensor("qb")))


@pytest.mark.parametrize("name", TRAINED)
def test_presets_are_valid_and_typing_mistakes_are_named(name):
    entry = METHODS.get(name)
    contract.check_presets(entry)
    with pytest.raises(BenchError, match="unknown option 'no_such'"):
        resolve_config(entry, "quick", {"no_such": "1"})
    with pytest.raises(BenchError, match="steps='x' is not of type int"):
        resolve_config(entry, "quick", {"steps": "x"})


@pytest.mark.parametrize("name", SHIPPED)
def test_cards_say_what_the_method_is(name):
    card = METHODS.get(name).card
    contract.check_card(METHODS.get(name))
    assert card.title and card.kind in {"classical", "deep", "unpaired", "baseline", "oracle"}
    if card.kind in {"classical", "deep", "unpaired"}:
        assert card.paper and card.year


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
    contract.check_metric(METRICS.get(name), as_sensor(sensor))


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
    contract.check_dataset(dataset, DATASETS.get(name).card.sensor)
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
