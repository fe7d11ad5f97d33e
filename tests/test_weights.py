"""Weights of others, however their tools wrapped them: taken where it is clear what is meant, else refused."""

import json
import re
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from click.testing import CliRunner
from rasterio.transform import from_origin
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

import pansharp_bench as pb
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import interp23
from pansharp_bench.method import TrainedMethod, build
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, as_sensor
from pansharp_bench.weights import located, read_weights, save_weights


def fresh(seed: int = 0) -> TrainedMethod:
    torch.manual_seed(seed)
    return build(METHODS.get("fusionnet"), as_sensor("qb"))


THEIRS = fresh(1).net.state_dict()
KEY = "body.0.weight"
ZEROS = {k: torch.zeros_like(v) for k, v in THEIRS.items()}


def under(prefix: str, state: dict = THEIRS) -> dict:
    return {f"{prefix}{k}": v for k, v in state.items()}


def loaded(path) -> dict:
    method = fresh(2)
    method.load_weights(path)
    return method.net.state_dict()


@pytest.fixture
def save(tmp_path):
    def save(content, name="theirs.pth"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def optimiser() -> dict:
    net = torch.nn.Linear(2, 2)
    adam = torch.optim.Adam(net.parameters())
    net(torch.ones(2)).sum().backward()
    adam.step()
    return adam.state_dict()


LAYOUTS = {
    "plain": THEIRS,
    "module.": under("module."),
    "model.": under("model."),
    "net.": under("net."),
    "_orig_mod.": under("_orig_mod."),
    "several": under("module._orig_mod.net."),
    "a compiled part": {k.replace("body.", "body._orig_mod."): v for k, v in THEIRS.items()},
    "averaged": AveragedModel(fresh(1).net).state_dict(),
    "params": {"params": THEIRS},
    "nested": {"epoch": 3, "best": 0.5, "checkpoint": {"model": {"state_dict": under("module.")}}},
    "BasicSR's average": {"params_ema": THEIRS},
    "with its optimiser": {"net": THEIRS, "optimizer": optimiser(), "scheduler": {"last_epoch": 3}},
    "Lightning": {
        "state_dict": under("model."),
        "optimizer_states": [optimiser()],
        "callbacks": {"ModelCheckpoint": {"best_k_models": {"a.ckpt": torch.tensor(0.1)}}},
        "loops": {},
    },
    "beside scores and options": {
        "best": np.float64(0.5),
        "epoch": np.int64(3),
        "losses": np.ones(2, np.float32),
        "args": Namespace(lr=1e-3, name="theirs"),
        "state_dict": THEIRS,
    },
    "beside a discriminator": {"netG": THEIRS, "netD": {"0.weight": torch.zeros(3, 3)}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_the_usual_tools_wrap_around_weights_is_understood(layout, save):
    assert all(torch.equal(v, THEIRS[k]) for k, v in loaded(save(LAYOUTS[layout])).items())


def test_of_several_that_fit_none_is_taken_silently(save):
    path = save({"params": ZEROS, "params_ema": THEIRS})
    said = rf"params \({len(THEIRS)} tensors\), params_ema .*several fit.*{re.escape(str(path))}:params_ema"
    with pytest.raises(BenchError, match=said):
        loaded(path)
    assert torch.equal(loaded(f"{path}:params_ema")[KEY], THEIRS[KEY])
    assert not loaded(f"{path}:params")[KEY].any()
    with pytest.raises(BenchError, match="no state dict 'ema'; there are: params "):
        loaded(f"{path}:ema")


def test_a_name_may_reach_into_the_keys(save):
    """Lightning keeps whatever the module owns, losses with networks of their own among them."""
    path = save({"state_dict": under("model.") | under("loss.vgg.")})
    with pytest.raises(BenchError, match="unexpected: "):
        loaded(path)
    assert torch.equal(loaded(f"{path}:state_dict.model")[KEY], THEIRS[KEY])


def test_of_several_that_do_not_fit_none_is_blamed(save):
    with pytest.raises(BenchError, match=r"G \(1 tensors\), D \(1 tensors\), of which none fits"):
        loaded(save({"G": {"a": torch.zeros(2)}, "D": {"b": torch.zeros(2)}}))


def test_a_colon_may_be_part_of_a_files_own_name(save, tmp_path):
    path = save(THEIRS, "epoch:3")
    assert located(path) == (path, "")
    assert located(f"{path}:params") == (path, "params")
    assert [located(p)[1] for p in ("C:\\weights.pth", "C:/weights.pth", tmp_path / "a:b" / "w.pth")] == [
        ""
    ] * 3


def test_safetensors_too(tmp_path):
    path = tmp_path / "theirs.safetensors"
    save_file(under("module."), path)
    assert torch.equal(loaded(path)[KEY], THEIRS[KEY])


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        (b"\xef\xbb\xbf\n<!-- quota --><html>", "a web page"),
        (b"", "an empty file"),
        (bytes(4096), "zeros"),
        (b"\x89HDF\r\n\x1a\nrest", "HDF5"),
    ],
)
def test_what_is_no_weights_file_is_called_what_it_is(content, said, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BenchError, match=said) as caught:
        read_weights(tmp_path / name)
    assert "code" not in str(caught.value)


def test_what_could_run_code_is_refused(save):
    with pytest.raises(BenchError, match="could run code"):
        read_weights(save({"state_dict": THEIRS, "log": Path("log.txt")}))
    with pytest.raises(BenchError, match="could run code"):
        read_weights(save(fresh(1).net))


def test_archives_of_other_things_are_one_plain_sentence(tmp_path):
    torch.save(THEIRS, tmp_path / "cut.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "cut.pth").read_bytes()[:-300])
    np.savez(tmp_path / "arrays.npz", a=np.zeros(3))
    for name in ("cut.pth", "arrays.npz"):
        with pytest.raises(
            BenchError, match=rf"weights .*{name} are damaged, or an archive of something else"
        ) as e:
            read_weights(tmp_path / name)
        assert len(str(e.value).splitlines()) == 1


# -- weights that say what they are --


@pytest.fixture
def ours(tmp_path):
    """As a run saves them: of an option that is not the preset's."""
    config = METHODS.get("fusionnet").obj.configure("quick", {"steps": 7})
    told = {
        "method": "fusionnet",
        "sensor": "qb",
        "preset": "quick",
        "options": asdict(config),
        "changed": ["steps"],
    }
    save_weights(fresh(1).state_dict(), tmp_path / "ours.safetensors", json.dumps(told))
    return tmp_path / "ours.safetensors"


def test_a_method_is_loaded_from_the_weights_of_a_run_alone(ours):
    pan, ms = torch.rand(1, 1, 64, 64) * 2047, torch.rand(1, 4, 16, 16) * 2047
    ready = pb.load(weights=ours)
    assert (ready.card.name, ready.sensor.name) == ("fusionnet", "qb")
    expected = fresh(1).eval().fuse(Scene(as_sensor("qb"), pan=pan, ms=ms, lms=interp23(ms)))
    assert torch.equal(ready.fuse(pan, ms), expected)
    assert torch.equal(pb.fuse("fusionnet", pan, ms, sensor="qb", weights=ours), expected)
    assert pb.load(weights=ours, sensor="gf2").sensor.name == "gf2"
    double = ready.fuse(pan.double(), ms.double())  # computed as the weights are
    assert double.dtype == torch.float64 and not double.requires_grad
    torch.testing.assert_close(double.float(), expected, rtol=1e-5, atol=1e-2)


def test_an_untrained_method_is_loaded_by_its_name_and_sensor():
    pan, ms = torch.rand(1, 1, 64, 64) * 2047, torch.rand(1, 4, 16, 16) * 2047
    assert torch.equal(pb.load("gsa", sensor="qb").fuse(pan, ms), pb.fuse("gsa", pan, ms, sensor="qb"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "which method"),
        ({"name": "gsa"}, "of which sensor are the images"),
        ({"weights": "theirs"}, "do not say which method they are of: give its name"),
        ({"name": "fusionnet", "weights": "theirs"}, "of which sensor are the images, which weights"),
        ({"weights": "none.safetensors"}, "do not exist"),
        ({"name": "pnn", "weights": "ours"}, "are of method 'fusionnet', not of 'pnn'"),
        ({"name": "fusionnet", "sensor": "qb"}, "must be trained first"),
    ],
)
def test_what_is_not_known_is_asked_for(given, said, ours, save):
    files = {"theirs": save(THEIRS), "ours": ours}
    if "weights" in given:
        given = given | {"weights": files.get(given["weights"], given["weights"])}
    with pytest.raises(BenchError, match=said):
        pb.load(**given)


def bench(*words):
    return CliRunner().invoke(main, list(map(str, words)), catch_exceptions=False)


def test_commands_need_no_method_beside_weights_of_a_run(ours, save, tmp_path):
    plugin = Path(__file__).parent / "plugins" / "tiny.py"
    made = bench(
        "run", "--weights", ours, "--dataset", "tiny", "--plugin", plugin, "--results", tmp_path / "results",
        "--runs", tmp_path / "runs", "--quiet", "--pictures", 0, "--json",
    )  # fmt: skip
    (told,) = json.loads(made.stdout)
    assert (told["method"], told["preset"], told["options"]["steps"]) == ("fusionnet", "quick", 7)
    foreign = bench("run", "--weights", save(THEIRS), "--dataset", "tiny", "--plugin", plugin)
    assert foreign.exit_code == 2 and "give its name" in foreign.output
    neither = bench("run", "--dataset", "tiny", "--plugin", plugin)
    assert neither.exit_code == 2 and "which method?" in neither.output


def test_a_scene_is_fused_by_weights_alone(ours, tmp_path):
    pair = save_pair(tmp_path)
    out = tmp_path / "fused.tif"
    done = bench("fuse", "--weights", ours, "--sensor", "qb", *pair, "-o", out, "--quiet")
    assert done.exit_code == 0, done.output
    with rasterio.open(out) as file:
        assert file.tags()["PANSHARP_METHOD"] == "fusionnet"


def save_pair(folder):
    for name, count, side, pixel in (("pan", 1, 64, 0.6), ("ms", 4, 16, 2.4)):
        values = np.random.default_rng(0).integers(100, 900, (count, side, side), dtype=np.int16)
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", width=side, height=side, count=count, dtype="int16",
            crs="EPSG:32633", transform=from_origin(5e5, 5e6, pixel, pixel),
        ) as file:  # fmt: skip
            file.write(values)
    return "--pan", folder / "pan.tif", "--ms", folder / "ms.tif"
