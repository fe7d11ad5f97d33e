"""The paired networks against the authors' own: outputs, gradients, released weights.

Goldens hold weights that differ from zero everywhere, inputs, and what the authors' code made of them. Those of
published weights need the authors' weight file, scores on real scenes need the scenes too; these skip where the
files are absent.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from goldens import GOLDEN, UNKNOWN, array_names, by_kind, real_data, real_weights
from torch import Tensor, nn

from pansharp_bench import metrics
from pansharp_bench.errors import BenchError
from pansharp_bench.method import build, resolve_config
from pansharp_bench.methods.canconv.kmeans import kmeans
from pansharp_bench.methods.canconv.layer import CANConv, filter_small
from pansharp_bench.methods.canconv.network import CANNet
from pansharp_bench.methods.dcpnet import DCPNet, DCPNetMethod
from pansharp_bench.methods.pancrafter.network import (
    PAN,
    Condition,
    PaperPANCrafter,
    ReleasePANCrafter,
    resize,
)
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, Sensor, as_sensor

FOLDER = GOLDEN / "paired"
FORWARD = 1e-4  # of the output's range
GRADIENT = 1e-3  # relative, of each parameter's gradient norm
MARKS = {  # fields of the description and arrays by which a case is known, each number in a name as #
    "CANConv layer": {"cin", "cout", "cluster_num", "filter_threshold", "in/x", "in/labels", "out/y"},
    "CANNet": {"bands", "channels", "cluster_num", "filter_threshold", "in/lms", "labels/rb#", "out/sr"},
    "published CANNet": {"weights", "sha#", "in/lms", "labels/rb#", "out/sr"},
    "DCPNet": {"bands", "sizes", "in#/ms", "out#/sr", "out#/msup"},
    "PAN-Crafter": {"bands", "hidden", "depth", "num_heads", "in/switch", "out/residual", "attn/x"},
}
ABOUT = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
ARRAYS = array_names(FOLDER)
# a case of which only one of array file and description is here is of no kind, too
CASES = by_kind(MARKS, {n: {*ABOUT.get(n, ()), *ARRAYS.get(n, ())} for n in ABOUT.keys() | ARRAYS.keys()})
STATES = sorted(path.stem for path in FOLDER.glob("*.tsv"))


def cases(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", CASES[kind])


class Golden(NamedTuple):
    arrays: dict[str, Tensor]
    about: dict
    weights: dict[str, Tensor]


def golden(name: str) -> Golden:
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = {k: torch.from_numpy(file[k]) for k in file.files}
    weights = {k.removeprefix("sd/"): v.float() for k, v in arrays.items() if k.startswith("sd/")}
    return Golden(arrays, ABOUT[name], weights)


def sensor_of(bands: int) -> Sensor:
    names = tuple(f"band {i}" for i in range(bands))
    return Sensor("any", "Any", names, 2047, (0.3,) * bands, 0.15, (0, 0, 0))


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float = FORWARD) -> None:
    span = (theirs.max() - theirs.min()).item()
    assert (ours - theirs).abs().max().item() <= tolerance * span


def counts(make: Callable[..., nn.Module], *sizes: int) -> list[int]:
    """Parameters of the networks of these sizes."""
    with torch.device("meta"):  # nothing is stored
        return [count(make(size)) for size in sizes]


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def assert_gradients(net: nn.Module, norms: dict[str, float]) -> None:
    ours = {k: 0.0 if p.grad is None else p.grad.norm().item() for k, p in net.named_parameters()}
    assert ours.keys() == norms.keys()
    rounding = 1e-7 * max(
        norms.values()
    )  # all that is left of a gradient that cancels, as of a bias before a norm
    for key, norm in norms.items():
        assert ours[key] == pytest.approx(norm, rel=GRADIENT, abs=rounding), key


def labels_of(g: Golden) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(g.arrays[f"labels/rb{i}"].long() for i in (1, 2, 3))


def test_every_case_is_of_a_known_kind():
    assert not CASES[UNKNOWN]


# -- CANConv --


@cases("CANConv layer")
def test_canconv_layer(name):
    g = golden(name)
    about = g.about
    hidden = len(g.weights["kernel_head.0.weight"])
    layer = CANConv(about["cin"], about["cout"], about["cluster_num"], about["filter_threshold"], hidden)
    layer.load_state_dict(g.weights)
    x = g.arrays["in/x"].requires_grad_()
    y = layer(x, g.arrays["in/labels"].long())
    assert_near(y, g.arrays["out/y"])
    loss = F.l1_loss(y, g.arrays["in/target"])
    loss.backward()
    assert loss.item() == pytest.approx(about["loss"], rel=1e-5)
    assert_near(x.grad, g.arrays["grad/x"])
    assert_gradients(layer, about["grad_norm"])


@cases("CANConv layer")
def test_canconv_partition_features_and_filter(name):
    g = golden(name)
    k, threshold = g.about["cluster_num"], g.about["filter_threshold"]
    features = F.avg_pool2d(g.arrays["in/x"], 3, 1, 1).flatten(2).mT
    assert_near(features, g.arrays["km/features"], 1e-6)
    raw, filtered = g.arrays["km/raw_labels"].long(), g.arrays["in/labels"].long()
    assert torch.equal(filter_small(raw, k, threshold), filtered)
    assert torch.equal(filter_small(filtered, k, threshold), filtered)


@cases("CANConv layer")
def test_partitions_are_as_tight_as_the_authors(name):
    """k-means of another make, judged by what k-means minimises: of three starts the best, as each ends in one
    of many valleys."""
    g = golden(name)
    points, theirs = g.arrays["km/features"].float(), g.arrays["km/raw_labels"].long()
    k = g.about["cluster_num"]
    best = torch.stack([spread(points, kmeans(points, k, seed=seed), k) for seed in range(3)]).amin(0)
    assert (best < 1.05 * spread(points, theirs, k)).all()
    again = kmeans(points, k, start=theirs)
    assert (spread(points, again, k) <= spread(points, theirs, k) * 1.0001).all()
    assert (again == theirs).float().mean() > 0.9


def spread(points: Tensor, labels: Tensor, k: int) -> Tensor:
    """Mean squared distance from the own cluster's mean, per image."""
    member = F.one_hot(labels, k).to(points.dtype)
    means = member.mT @ points / member.sum(1).clamp(min=1)[..., None]
    return (points - means.gather(1, labels[..., None].expand_as(points))).square().sum(2).mean(1)


@cases("CANNet")
def test_cannet(name):
    g = golden(name)
    about = g.about
    net = CANNet(about["bands"], about["channels"], about["cluster_num"], about["filter_threshold"])
    net.load_state_dict(g.weights)
    middle = {key.removeprefix("mid/"): value for key, value in g.arrays.items() if key.startswith("mid/")}
    for part, theirs in middle.items():
        net.get_submodule(part).register_forward_hook(
            lambda m, i, ours, theirs=theirs: assert_near(ours, theirs)
        )
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
    assert counts(lambda c: CANConv(c, c), 32, 64, 128) == [20_793, 59_289, 191_577]
    assert counts(CANNet, 4, 8) == [785_118, 787_426]


@pytest.mark.parametrize("sensor", ["qb", "gf2", "wv3"])
def test_all_194_keys_of_released_canconv_weights_load(sensor):
    path = real_weights("canconv", f"cannet_{sensor}.pth")
    method = build(METHODS.get("canconv"), as_sensor(sensor))
    before = {k: v.clone() for k, v in method.state_dict().items()}
    method.load_weights(path)
    assert sum(not torch.equal(v, before[k]) for k, v in method.state_dict().items()) == 194


@cases("published CANNet")
def test_released_canconv_weights_reproduce_the_authors_output(name):
    g = golden(name)
    path = real_weights("canconv", Path(g.about["weights"]).name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == g.about["sha256"]
    method = build(METHODS.get("canconv"), sensor_of(g.arrays["in/lms"].shape[1]))
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


def dcpnet(bands: int, weights: dict[str, Tensor]) -> DCPNetMethod:
    entry, width = METHODS.get("dcpnet"), len(weights["pre_net.conv1.weight"])
    return build(entry, sensor_of(bands), resolve_config(entry, "quick", {"width": width}))


@pytest.mark.parametrize(("name", "size"), [(n, size) for n in CASES["DCPNet"] for size in ABOUT[n]["sizes"]])
def test_dcpnet(name, size):
    g = golden(name)
    method = dcpnet(g.about["bands"], g.weights)
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
    assert counts(DCPNet, 4, 8) == [1_395_228, 1_414_052]
    four = DCPNet(4)
    modules = [four.pre_net, four.pan_net, four.ms_net, four.fusion_net]
    assert [count(m) for m in modules] == [43_204, 394_272, 316_372, 641_380]


def test_their_dcpnet_divides_gaofen_by_2047_and_shared_modules_must_agree():
    method = build(METHODS.get("dcpnet"), as_sensor("gf2"))
    theirs = {
        k.removeprefix("net."): torch.zeros_like(v) for k, v in method.state_dict().items() if k != "peak"
    }
    copy, original = "ms_net.ms_rbs.2.conv1.bias", "ms_net.rb3.conv1.bias"
    method.load_state_dict(method.own_keys({**theirs, copy: theirs[original].clone()}))
    assert method.peak == 2047
    with pytest.raises(BenchError, match=re.escape(original)):
        method.own_keys({**theirs, copy: theirs[original] + 1})


# -- PAN-Crafter --


def release(name: str) -> tuple[ReleasePANCrafter, Golden]:
    g = golden(name)
    about = g.about
    net = ReleasePANCrafter(
        about["bands"], about["hidden"], about["num_heads"], dropout=0.0, depth=about["depth"]
    )
    net.load_state_dict(g.weights)
    return net, g


@cases("PAN-Crafter")
def test_pancrafter_release(name):
    net, g = release(name)
    pan, ms, lpan, gt = (g.arrays[f"in/{k}"] for k in ("pan", "ms", "lpan", "gt"))
    mode, bands = g.arrays["in/switch"].long(), g.about["bands"]
    residual = net.residual(pan, ms, lpan, mode)
    assert_near(residual, g.arrays["out/residual"])
    of_pan = (mode == PAN)[:, None, None, None]
    base, target = (
        torch.where(of_pan, p.expand(-1, bands, -1, -1), m)
        for p, m in ((resize(lpan, *pan.shape[-2:]), resize(ms, *pan.shape[-2:])), (pan, gt))
    )
    assert_near(base + residual, g.arrays["out/rec"])
    loss = sum(F.l1_loss((base + residual)[mode == m], target[mode == m]) for m in mode.unique())
    loss.backward()
    assert loss.item() == pytest.approx(g.about["loss"], rel=1e-5)
    norms = g.about["grad_norm"]
    assert [k for k, v in norms.items() if v is None] == [k for k in norms if ".k_pan." in k]
    assert_gradients(net, {k: v or 0.0 for k, v in norms.items()})


@cases("PAN-Crafter")
def test_pancrafter_release_attention(name):
    net, g = release(name)
    images = (g.arrays[f"attn/{k}"] for k in ("ms", "lpan", "pan"))
    at = Condition(*images, g.arrays["in/switch"].long())
    (output,) = (key for key in g.arrays if key.startswith("attn/out_block_"))
    block, x = net.get_submodule(output.removeprefix("attn/out_block_")), g.arrays["attn/x"]
    of_pan, of_ms = block.attn(x, at)
    assert_near(of_pan, g.arrays["attn/x_pan"])
    assert_near(of_ms, g.arrays["attn/x_ms"])
    assert_near(block(x, at, net.tell(at.mode)), g.arrays[output])


def test_pancrafter_parameter_counts():
    """The paper gives 7.17 M for its network; exact figures are those of an independent re-implementation."""
    assert counts(ReleasePANCrafter, 4, 8) == [9_902_756, 9_968_808]
    assert counts(PaperPANCrafter, 4, 8) == [7_129_476, 7_207_816]


# -- every name of the authors' state dicts --


@pytest.mark.parametrize("name", STATES)
def test_every_key_of_the_authors_has_its_place(name):
    """Sizes are those of the weights."""
    title, *rows = (FOLDER / f"{name}.tsv").read_text().strip().splitlines()
    model, bands, parameters = re.fullmatch(r"# (\w+)_(\d+)band: (\d+) parameters", title).groups()
    theirs = {key: torch.zeros(json.loads(shape)) for key, shape, _ in (row.split("\t") for row in rows)}
    if model == "dcpnet":
        method = dcpnet(int(bands), theirs)
        net, kept = method.net, method.authors_keys(theirs)
    elif model == "cannet":
        net, kept = CANNet(int(bands), len(theirs["head_conv.weight"])), theirs
    elif model == "pancrafter_release":
        blocks = {found[0] for key in theirs if (found := re.match(r"(encoder\d+|middle)\.\d+\.", key))}
        depth = Counter(block.split(".")[0] for block in sorted(blocks))
        net = ReleasePANCrafter(int(bands), theirs["s_token"].shape[1], depth=list(depth.values()))
        kept = theirs
    else:
        pytest.fail(f"what is {title}?")
    net.load_state_dict(kept)
    assert all(p.abs().max() == 0 for p in net.parameters())
    assert count(net) == int(parameters)
