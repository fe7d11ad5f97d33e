"""The paired networks against the authors' own: outputs, gradients, released weights.

Goldens hold weights that differ from zero everywhere, inputs, and what the authors' code made of them. Those of
``cannet_published_qb`` need the authors' weight file, scores on real scenes need the scenes too; these skip
where the files are absent.
"""

import hashlib
import json
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import GOLDEN, real_data, real_weights
from torch import Tensor, nn

from pansharp_bench import metrics
from pansharp_bench.errors import BenchError
from pansharp_bench.method import build
from pansharp_bench.methods.canconv.layer import CANConv, filter_small
from pansharp_bench.methods.canconv.network import CANNet
from pansharp_bench.methods.dcpnet import DCPNet
from pansharp_bench.methods.pancrafter.network import (
    Condition,
    PaperPANCrafter,
    ReleasePANCrafter,
    resize,
)
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, as_sensor

FORWARD = 1e-4  # of the output's range
GRADIENT = 1e-3  # relative, of each parameter's gradient norm


class Golden(NamedTuple):
    arrays: dict[str, Tensor]
    about: dict
    weights: dict[str, Tensor]


def golden(name: str) -> Golden:
    path = GOLDEN / "paired" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"golden {path} is not here; set PANSHARP_GOLDEN")
    with np.load(path) as file:
        arrays = {k: torch.from_numpy(file[k]) for k in file.files}
    weights = {k[3:]: v.float() for k, v in arrays.items() if k.startswith("sd/")}
    return Golden(arrays, json.loads(path.with_suffix(".json").read_text()), weights)


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float = FORWARD) -> None:
    span = (theirs.max() - theirs.min()).item()
    assert (ours - theirs).abs().max().item() <= tolerance * span


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def assert_gradients(net: nn.Module, norms: dict[str, float]) -> None:
    ours = {k: 0.0 if p.grad is None else p.grad.norm().item() for k, p in net.named_parameters()}
    assert ours.keys() == norms.keys()
    for key, norm in norms.items():
        assert ours[key] == pytest.approx(norm, rel=GRADIENT, abs=1e-8), key


def labels_of(g: Golden) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(g.arrays[f"labels/rb{i}"].long() for i in (1, 2, 3))


# -- CANConv --


@pytest.mark.parametrize("name", ["canconv_layer_6_10_k8_s12", "canconv_layer_8_8_k4_s11"])
def test_canconv_layer(name):
    g = golden(name)
    about = g.about
    layer = CANConv(about["cin"], about["cout"], about["cluster_num"], about["filter_threshold"])
    layer.load_state_dict(g.weights)
    x = g.arrays["in/x"].requires_grad_()
    y = layer(x, g.arrays["in/labels"].long())
    assert_near(y, g.arrays["out/y"])
    loss = F.l1_loss(y, g.arrays["in/target"])
    loss.backward()
    assert loss.item() == pytest.approx(about["loss"], rel=1e-5)
    assert_near(x.grad, g.arrays["grad/x"])
    assert_gradients(layer, about["grad_norm"])


@pytest.mark.parametrize("name", ["canconv_layer_6_10_k8_s12", "canconv_layer_8_8_k4_s11"])
def test_canconv_partition_features_and_filter(name):
    g = golden(name)
    k, threshold = g.about["cluster_num"], g.about["filter_threshold"]
    features = F.avg_pool2d(g.arrays["in/x"], 3, 1, 1).flatten(2).mT
    assert_near(features, g.arrays["km/features"], 1e-6)
    raw, filtered = g.arrays["km/raw_labels"].long(), g.arrays["in/labels"].long()
    assert torch.equal(filter_small(raw, k, threshold), filtered)
    assert torch.equal(filter_small(filtered, k, threshold), filtered)


@pytest.mark.parametrize("name", ["cannet_b4_c8_k4_32px_s21", "cannet_b4_c32_k32_64px_s22"])
def test_cannet(name):
    g = golden(name)
    about = g.about
    net = CANNet(about["bands"], about["channels"], about["cluster_num"], about["filter_threshold"])
    net.load_state_dict(g.weights)
    pan, lms = g.arrays["in/pan"].requires_grad_(), g.arrays["in/lms"].requires_grad_()
    fused, _ = net(pan, lms, labels_of(g))
    assert_near(fused, g.arrays["out/sr"])
    loss = F.l1_loss(fused, g.arrays["in/gt"])
    loss.backward()
    assert loss.item() == pytest.approx(about["loss"], rel=1e-5)
    assert_near(pan.grad, g.arrays["grad/pan"])
    assert_near(lms.grad, g.arrays["grad/lms"])
    assert_gradients(net, about["grad_norm"])


def test_canconv_parameter_counts():
    assert [count(CANConv(c, c)) for c in (32, 64, 128)] == [20_793, 59_289, 191_577]
    assert [count(CANNet(b)) for b in (4, 8)] == [785_118, 787_426]


@pytest.mark.parametrize("sensor", ["qb", "gf2", "wv3"])
def test_all_194_keys_of_released_canconv_weights_load(sensor):
    path = real_weights("canconv", f"cannet_{sensor}.pth")
    method = build(METHODS.get("canconv"), as_sensor(sensor))
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.load_weights(path)
    assert sum(not torch.equal(v, before[k]) for k, v in method.state_dict().items()) == 194


def test_released_canconv_weights_reproduce_the_authors_output():
    g = golden("cannet_published_qb")
    path = real_weights("canconv", "cannet_qb.pth")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == g.about["sha256"]
    method = build(METHODS.get("canconv"), as_sensor("qb"))
    method.load_weights(path)
    with torch.no_grad():
        fused, _ = method.net(g.arrays["in/pan"], g.arrays["in/lms"], labels_of(g))
    assert (fused - g.arrays["out/sr"]).abs().max().item() < 1e-3


@pytest.mark.parametrize(
    ("sensor", "q", "ergas"),
    [
        ("gf2", [0.865, 0.905, 0.899, 0.891], [2.82, 2.10, 2.33, 2.73]),
        ("qb", [0.809], [1.25]),
    ],
)
def test_released_canconv_weights_score_on_real_scenes_as_the_authors_code_does(sensor, q, ergas):
    """The two k-means choose other starts, so labels and scores differ a little."""
    h5py = pytest.importorskip("h5py")
    weights = real_weights("canconv", f"cannet_{sensor}.pth")
    with h5py.File(real_data(sensor, f"test_{sensor}_multiExm1.h5")) as file:
        arrays = {k: torch.from_numpy(file[k][: len(q)]).float() for k in ("pan", "ms", "lms", "gt")}
    scene = Scene(as_sensor(sensor), **arrays)
    method = build(METHODS.get("canconv"), scene.sensor)
    method.load_weights(weights)
    fused, truth = (x[..., 20:-21, 20:-21] for x in (method.fuse(scene), scene.gt))
    assert metrics.q2n(fused, truth).tolist() == pytest.approx(q, rel=0.02)
    assert metrics.ergas(fused, truth).tolist() == pytest.approx(ergas, rel=0.02)


# -- DCPNet --


@pytest.mark.parametrize("size", ["32", "64"])
def test_dcpnet(size):
    g = golden("dcpnet_b4_s31")
    method = build(METHODS.get("dcpnet"), as_sensor("qb"))
    net = method.net
    net.load_state_dict(method.authors_keys(g.weights))
    fused, upsampled = net(g.arrays[f"in{size}/pan"], g.arrays[f"in{size}/ms"])
    assert_near(fused, g.arrays[f"out{size}/sr"])
    assert_near(upsampled, g.arrays[f"out{size}/msup"])
    gt, about = g.arrays[f"in{size}/gt"], g.about["sizes"][size]
    loss = F.l1_loss(fused, gt) + 0.5 * F.l1_loss(upsampled, gt)
    loss.backward()
    assert loss.item() == pytest.approx(about["loss"], rel=1e-5)
    norms = {k: torch.tensor(v) for k, v in about["grad_norm"].items()}
    assert_gradients(net, {k: v.item() for k, v in method.authors_keys(norms).items()})


def test_dcpnet_parameter_counts():
    four, eight = DCPNet(4), DCPNet(8)
    assert [count(four), count(eight)] == [1_395_228, 1_414_052]
    modules = [four.pre_net, four.pan_net, four.ms_net, four.fusion_net]
    assert [count(m) for m in modules] == [43_204, 394_272, 316_372, 641_380]


def test_every_key_of_the_authors_dcpnet_has_its_place():
    path = GOLDEN / "paired" / "state_dict_dcpnet_4band.tsv"
    theirs = {}
    for line in path.read_text().strip().splitlines()[1:]:
        key, shape, _ = line.split("\t")
        theirs[key] = torch.zeros(json.loads(shape))
    method = build(METHODS.get("dcpnet"), as_sensor("gf2"))
    method.load_state_dict(method.own_keys(theirs))
    assert all(p.abs().max() == 0 for p in method.parameters())
    assert method.peak == 2047  # what their configuration divides GaoFen-2 by
    theirs["ms_net.ms_rbs.2.conv1.bias"] += 1
    with pytest.raises(BenchError, match=r"ms_net\.rb3\.conv1\.bias"):
        method.own_keys(theirs)


# -- PAN-Crafter --


def release() -> tuple[ReleasePANCrafter, Golden]:
    g = golden("pancrafter_release_b4_h64_d2222_32px_s41")
    net = ReleasePANCrafter(g.about["bands"], g.about["hidden"], g.about["num_heads"], dropout=0.0)
    net.load_state_dict(g.weights)
    return net, g


def test_pancrafter_release():
    net, g = release()
    pan, ms, lpan, gt = (g.arrays[f"in/{k}"] for k in ("pan", "ms", "lpan", "gt"))
    mode = g.arrays["in/switch"].long()
    assert mode.tolist() == [0, 1]  # the first sample in PAN mode, the second in MS mode
    residual = net.residual(pan, ms, lpan, mode)
    assert_near(residual, g.arrays["out/residual"])
    base = torch.stack([resize(lpan, 32, 32)[0].expand(4, -1, -1), resize(ms, 32, 32)[1]])
    assert_near(base + residual, g.arrays["out/rec"])
    target = torch.stack([pan[0].expand(4, -1, -1), gt[1]])
    loss = sum(F.l1_loss(base[i] + residual[i], target[i]) for i in (0, 1))
    loss.backward()
    assert loss.item() == pytest.approx(g.about["loss"], rel=1e-5)
    norms = g.about["grad_norm"]
    assert [k for k, v in norms.items() if v is None] == [k for k in norms if ".k_pan." in k]
    assert_gradients(net, {k: v or 0.0 for k, v in norms.items()})


def test_pancrafter_release_attention():
    net, g = release()
    images = (g.arrays[f"attn/{k}"] for k in ("ms", "lpan", "pan"))
    at = Condition(*images, g.arrays["in/switch"].long())
    block, x = net.cond3_e, g.arrays["attn/x"]
    of_pan, of_ms = block.attn(x, at)
    assert_near(of_pan, g.arrays["attn/x_pan"])
    assert_near(of_ms, g.arrays["attn/x_ms"])
    assert_near(block(x, at, net.tell(at.mode)), g.arrays["attn/out_block_cond3_e"])


def test_pancrafter_parameter_counts():
    """The paper gives 7.17 M for its network; exact figures are those of an independent re-implementation."""
    assert [count(ReleasePANCrafter(b)) for b in (4, 8)] == [9_902_756, 9_968_808]
    assert [count(PaperPANCrafter(b)) for b in (4, 8)] == [7_129_476, 7_207_816]
