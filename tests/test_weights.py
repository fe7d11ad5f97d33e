"""Weights of others, however their tools wrapped them: taken where it is clear what is meant, else refused."""

import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from pansharp_bench.errors import BenchError
from pansharp_bench.method import TrainedMethod, build
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import as_sensor
from pansharp_bench.weights import located, read_weights


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
