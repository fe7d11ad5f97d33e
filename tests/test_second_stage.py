"""The second stage: ultraviolet and methane from red and blue, from OPAL files to a mosaic of five bands."""

import json
import math

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from jupiter import planet, save_png

import pansharp_bench as pb
from pansharp_bench import experiment
from pansharp_bench.cli import main
from pansharp_bench.datasets.junocam2hst.build import build
from pansharp_bench.datasets.junocam2hst.second_stage import HELD_OUT, degrees_apart
from pansharp_bench.datasets.junocam2hst.store import Store
from pansharp_bench.datasets.jupiter import maps as maps_module
from pansharp_bench.datasets.jupiter.ellipsoid import laea_inverse
from pansharp_bench.datasets.jupiter.segments import pixel_grid
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import RunFolder
from pansharp_bench.method import build as build_method
from pansharp_bench.plan import RunSpec
from pansharp_bench.protocols.mosaic import second_stage
from pansharp_bench.registry import DATASETS, METHODS
from pansharp_bench.scene import Scene, as_sensor
from pansharp_bench.training import PairedData, Trainer

SENSOR = as_sensor("junocam2hst-uvm")
FILTERS = (*maps_module.RGB_FILTERS, *maps_module.EXTRA_FILTERS)
SCALES = dict(zip(FILTERS, (0.01, 0.02, 0.03, 0.004, 0.001), strict=True))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PANSHARP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write_opal(folder, rotation, filters=FILTERS):
    """OPAL files of one planet: ultraviolet is .3 red + .1 blue, methane .05 red blue, all with their scales."""
    fits = pytest.importorskip("astropy.io.fits")
    folder.mkdir(exist_ok=True)
    red, green, blue = planet(90, "planetographic", 360.0).values.numpy()
    bands = (red, green, blue, 0.3 * red + 0.1 * blue, 0.05 * red * blue)
    for name, band in zip(FILTERS, bands, strict=True):
        if name in filters:
            stem = f"hlsp_opal_hst_wfc3-uvis_jupiter-2019{rotation}_{name.lower()}_v1_globalmap.fits"
            fits.writeto(folder / stem, band / SCALES[name])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A built data set: two whole mosaics, two rotations in five filters."""
    made = tmp_path_factory.mktemp("second")
    for name in ("PJ16", "PJ18"):
        save_png(made / "juno" / f"{name}.png", planet(90).values)
    for rotation in "ab":
        write_opal(made / "opal", rotation)
    build(
        made / "junocam2hst.h5", [made / "juno"], [made / "opal"], train=(16,), test=(18,), zones=("EZ", "NPR"),
        segment_pixels=16, nside_junocam=8, label="five", hst_options={"scales": SCALES}, progress=False,
    )  # fmt: skip
    return made


def test_all_five_filters_are_built_and_the_first_three_as_ever(folder, tmp_path):
    store = Store(folder / "junocam2hst.h5")
    assert store.extra_bands == ("F275W", "FQ889N")
    assert store.keys("target") == ("images", "extra") and store.keys("train") == ("images",)
    red, _, blue = store.images("target", 7)[0]
    ultraviolet, methane = store.images("target", 7, "extra")[0]
    torch.testing.assert_close(ultraviolet, 0.3 * red + 0.1 * blue, atol=2e-4, rtol=0)
    torch.testing.assert_close(
        methane, 0.05 * red * blue, atol=4e-4, rtol=0
    )  # a mean of products, not a product
    (tmp_path / "opal").mkdir()
    for rotation in "ab":
        write_opal(tmp_path / "opal", rotation, maps_module.RGB_FILTERS)
    three = maps_module.find_hst([tmp_path / "opal"], scales=SCALES)[0]
    five = maps_module.find_hst([folder / "opal"], scales=SCALES)[0]
    assert (three.extra_bands, five.extra_bands) == ((), ("F275W", "FQ889N"))
    assert torch.equal(three.read().values, five.read().values[:3])


def test_filters_that_one_rotation_or_the_scales_lack_are_left_out(tmp_path):
    write_opal(tmp_path / "opal", "a")
    write_opal(tmp_path / "opal", "b", (*maps_module.RGB_FILTERS, "F275W"))
    assert [s.extra_bands for s in maps_module.find_hst([tmp_path / "opal"], scales=SCALES)] == [(), ()]
    write_opal(tmp_path / "whole", "a")
    rgb = {k: v for k, v in SCALES.items() if k != "FQ889N"}
    assert [s.extra_bands for s in maps_module.find_hst([tmp_path / "whole"], scales=rgb)] == [()]


def test_no_cloud_of_the_test_is_trained_on(folder):
    dataset = DATASETS.get("junocam2hst-uvm").obj(root=folder, label=None)
    assert dataset.name == "junocam2hst-uvm-five" and dataset.available() == ("train", "valid", "test")
    seen = {}
    for name in dataset.available():
        split = dataset.split(name)
        x, y = pixel_grid(16)
        latitude, west = (torch.from_numpy(split.column(k))[:, None, None] for k in ("latitude", "longitude"))
        lat, east = laea_inverse(x, y, latitude)
        seen[name] = set(zip(lat.round().flatten().tolist(), ((west - east) % 360).round().flatten().tolist(),
                             strict=True))  # fmt: skip
        assert split[3].pan.shape == split[3].gt.shape == (1, 2, 16, 16)
    assert len(seen["train"]) > 1000 < len(seen["test"])
    assert not (seen["train"] | seen["valid"]) & seen["test"]
    assert dataset.split("test").column("longitude").max() < HELD_OUT
    rows = np.concatenate([dataset.split(s).index for s in dataset.available()])
    assert len(rows) == len(set(rows.tolist()))


def test_segments_of_other_latitudes_are_kept_apart_too():
    """At 66 N a segment reaches farther east than at 63 N, where both show the same clouds."""
    latitudes = [60.4, 63.4, 66.4]
    apart = degrees_apart(latitudes, 64)  # pixel centres below, half a pixel within
    x, y = pixel_grid(64)
    lat, east = laea_inverse(x, y, torch.tensor(latitudes, dtype=torch.float64)[:, None, None])
    rows = lat.round(decimals=0)
    for i, own in enumerate(latitudes):
        needed = max(
            (east[i][rows[i] == row].max() + east[k][rows[k] == row].max()).item()
            for k in range(3)
            for row in set(rows[i].unique().tolist()) & set(rows[k].unique().tolist())
        )
        assert needed < apart[own] < needed + 5  # and no farther than rows of a whole degree can tell


def test_pairs_are_of_the_same_segment(folder):
    split = DATASETS.get("junocam2hst-uvm").obj(root=folder, label=None).split("valid")
    scene = split[1:4]
    red, blue = scene.pan.unbind(1)
    torch.testing.assert_close(scene.gt[:, 0], 0.3 * red + 0.1 * blue, atol=2e-4, rtol=0)
    assert torch.equal(split.read("gt", 2), scene.gt[1:2])
    assert split[-1].pan.shape[0] == 1 and len(split.read("pan", slice(0, 0))) == 0


def test_a_set_of_three_bands_says_what_is_missing(folder, tmp_path):
    (tmp_path / "opal").mkdir()
    write_opal(tmp_path / "opal", "a", maps_module.RGB_FILTERS)
    build(
        tmp_path / "junocam2hst.h5", [folder / "juno"], [tmp_path / "opal"], train=(16,), test=(18,),
        zones=("EZ",), segment_pixels=8, nside_junocam=8, label="three", hst_options={"scales": SCALES},
        progress=False,
    )  # fmt: skip
    with pytest.raises(DataError, match="no F275W and FQ889N; build them from OPAL maps of all five filters"):
        DATASETS.get("junocam2hst-uvm").obj(root=tmp_path, label=None).split("train")


class Pairs:
    """Random red and blue, and a bent function of them."""

    keys, groups, name = ("pan", "gt"), None, "train"

    def __init__(self, n, seed, bent=True):
        draws = torch.Generator().manual_seed(seed)
        pan = 0.1 + 0.8 * torch.rand(n, 2, 16, 16, generator=draws)
        red, blue = pan.unbind(1)
        second = 0.03 + 0.1 * red * blue if bent else 0.03 + 0.1 * red
        self.scene = Scene(SENSOR, pan=pan, gt=torch.stack([0.05 + 0.3 * red - 0.02 * blue, second], 1))

    def __len__(self):
        return len(self.scene)

    def __getitem__(self, index):
        return self.scene[index]

    def read(self, key, index):
        return getattr(self.scene[index], key)


def fitted(name, train, valid, tmp_path, **options):
    entry = METHODS.get(name)
    method = build_method(entry, SENSOR, entry.obj.configure("quick", options))
    method.fit(
        PairedData(SENSOR, train, valid, torch.device("cpu")), Trainer(tmp_path, "cpu", progress=False)
    )
    return method.eval()


def error(method, split):
    with torch.inference_mode():
        return (
            (method.fuse(split.scene.seen_by(method.card)) - split.scene.gt).square().mean((0, 2, 3)).sqrt()
        )


def test_affine_regression_finds_an_affine_map(tmp_path):
    method = fitted("affine-regression", Pairs(40, 1, bent=False), Pairs(4, 2, bent=False), tmp_path)
    torch.testing.assert_close(method.weight, torch.tensor([[0.3, -0.02], [0.1, 0.0]]), atol=1e-5, rtol=0)
    torch.testing.assert_close(method.bias, torch.tensor([0.05, 0.03]), atol=1e-5, rtol=0)
    # beyond what was seen nothing is known: the edge's value
    beyond = Scene(SENSOR, pan=torch.full((1, 2, 4, 4), 5.0))
    assert method.fuse(beyond).flatten().max() == pytest.approx(0.05 + 0.3 * 0.9 - 0.02 * 0.9, abs=2e-3)


def test_pixel_regression_bends_where_affine_cannot_and_blank_pixels_teach_nothing(tmp_path):
    train, valid, test = Pairs(40, 1), Pairs(4, 2), Pairs(4, 3)
    train.scene.pan[::2, :, :4] = 0  # blank
    affine = fitted("affine-regression", train, valid, tmp_path / "a")
    network = fitted("pixel-regression", train, valid, tmp_path / "b", steps=400, batch=2048)
    assert error(affine, test)[1] > 0.005  # .1 (r - .5) (b - .5) is left: .1 * .231 * .231
    assert error(network, test)[1] < 0.2 * error(affine, test)[1]
    assert error(network, test)[0] < 0.002


def test_a_draw_of_blank_images_alone_teaches_nothing(tmp_path):
    train = Pairs(8, 1)
    train.scene.pan[2:] = 0
    network = fitted("pixel-regression", train, Pairs(4, 2), tmp_path, steps=100, samples=1, batch=64)
    losses = [json.loads(line).get("loss") for line in RunFolder(tmp_path).log.read_text().splitlines()]
    assert all(map(math.isfinite, filter(None, losses)))
    assert error(network, Pairs(4, 3)).max() < 0.02


def test_blank_training_images_are_one_clear_error(tmp_path):
    train = Pairs(4, 1)
    train.scene.pan.zero_()
    with pytest.raises(BenchError, match="every training pixel is blank"):
        fitted("affine-regression", train, Pairs(4, 2), tmp_path)


def test_outputs_get_the_second_stage_and_go_on_the_map(folder, tmp_path):
    places = {"results": tmp_path / "results", "runs": tmp_path / "runs", "progress": False}
    spec = RunSpec("pixel-regression", "junocam2hst-uvm", options={"steps": 20}, data=folder)
    stage = experiment.run(spec, **places, pictures=1)
    assert stage.record.dataset["name"] == "junocam2hst-uvm-five" and stage.record.spec["track"] == "bands"
    assert stage.record.protocols["truth"]["mean"]["RMSE"] < 0.02
    words = ["figure", "mosaic", "--method", "colour-ot", "--dataset", "junocam2hst", "--data", folder,
             "--runs", tmp_path / "runs", "--out", tmp_path / "maps",
             "--quiet", "--second-stage", stage.checkpoint]  # fmt: skip
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    name = "junocam2hst-five-colour-ot"
    made = {p.name for p in (tmp_path / "maps").iterdir()}
    assert made >= {f"{name}.tif", f"{name}.png", f"{name}-F275W.png", f"{name}-FQ889N.png"}
    with rasterio.open(tmp_path / "maps" / f"{name}.tif") as file:
        assert file.descriptions[:5] == ("red", "green", "blue", "F275W", "FQ889N")
        assert file.descriptions[9] == "FQ889N sd" and file.count == 10
        red, _, blue, ultraviolet, methane = file.read()[:5]
    known = np.isfinite(red)
    assert (known == np.isfinite(methane)).all() and known.any()
    inside = known & (red < 0.6) & (red > 0.4)
    np.testing.assert_allclose(ultraviolet[inside], (0.3 * red + 0.1 * blue)[inside], atol=0.02)
    with rasterio.open(tmp_path / "maps" / "junocam2hst-five-source.tif") as file:
        assert file.count == 6  # what is not calibrated has no such bands
    result = CliRunner().invoke(main, [*map(str, words[:-2]), "--draws", "3"])
    assert result.exit_code == 2 and "draws no noise" in result.output


def test_weights_of_something_else_are_no_second_stage(folder, tmp_path):
    sensor, cpu = pb.load_dataset("junocam2hst", folder).sensor, torch.device("cpu")
    with pytest.raises(BenchError, match=r"nowhere\.safetensors does not exist"):
        second_stage(tmp_path / "nowhere.safetensors", sensor, cpu)
    other = experiment.run(
        RunSpec("channel-affine", "junocam2hst", data=folder), tmp_path, tmp_path, progress=False
    )
    with pytest.raises(BenchError, match="was not saved by a run of track 'bands'"):
        second_stage(other.checkpoint, sensor, cpu)


def test_the_simulation_keeps_its_segments_and_tests_on_the_truth():
    plain = DATASETS.get("junocam2hst-sim").obj(size="tiny")
    pairs = DATASETS.get("junocam2hst-uvm-sim").obj(size="tiny")
    assert pairs.name == "junocam2hst-uvm-sim"
    test, truth = pairs.split("test"), plain.split("test").read("gt", slice(None))
    assert torch.equal(test.read("pan", slice(None)), truth[:, [0, 2]])
    hubble = plain.split("target").read("pan", slice(None))
    rows = np.sort(np.concatenate([pairs.split(s).index for s in ("train", "valid")]))
    assert rows.tolist() == list(range(len(hubble)))
    assert torch.equal(pairs.split("train").read("pan", 0)[0], hubble[pairs.split("train").index[0], [0, 2]])
    ultraviolet, methane = test.read("gt", slice(None)).unbind(1)
    assert 0.1 < ultraviolet.mean() < 0.3 and 0.05 < methane.mean() < 0.2
    told = CliRunner().invoke(main, ["data", "list", "--json"])
    assert "junocam2hst-uvm-sim" in {r["name"] for r in json.loads(told.stdout)}
