"""UNSB's and CUT's building blocks against outputs of their reference implementations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from goldens import DEVICES, GOLDEN, UNKNOWN, array_names, by_kind
from torch import Tensor, nn

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import LaplacianPyramid
from pansharp_bench.method import build, resolve_config
from pansharp_bench.methods._unpaired import losses, released
from pansharp_bench.methods._unpaired.base import TranslationMethod
from pansharp_bench.methods._unpaired.bridge import Bridge
from pansharp_bench.methods._unpaired.networks import (
    STEM,
    BridgeGenerator,
    Down,
    Generator,
    PatchGAN,
    ProjectionHeads,
    Up,
    inert_parameters,
    timestep_embedding,
)
from pansharp_bench.methods._unpaired.schedule import linear_decay
from pansharp_bench.methods.cut import CUT, CUTConfig, CUTDraw, CUTLearner
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Sensor
from pansharp_bench.training import Trainer

FOLDER = GOLDEN / "unpaired"
FORWARD = {"atol": 1e-5, "rtol": 0}  # forward maps in float32
SCALARS = (
    {name: about["scalars"] for name, about in json.loads((FOLDER / "index.json").read_text()).items()}
    if (FOLDER / "index.json").exists()
    else {}
)
MARKS = {  # arrays by which a case is known, each number in a name as #
    "resampling": {"x#", "down#", "up#"},
    "patch NCE": {"q", "k", "loss", "grad_q"},
    "projection heads": {"f#", "id#", "o#"},
    "least squares": {"p"},
    "rates": {"lr_#_#"},
    "embedding": {"emb#"},
    "plain generator": {"x", "y", "feat#"},
    "plain discriminator": {"x", "y"},
    "bridge generator": {"x", "z", "y_t#", "feat#"},
    "conditional discriminator": {"x", "y_t#"},
    "CUT step": {"A", "B", "fake_B", "perm#"},
    "time grid": {"times"},
    "chain": {"real_A", "xt_A", "fake_B", "times", "noise"},
    "bridge losses": {"xt", "x#", "real_B", "grad_fake_t#"},
    "pyramid": {"x", "w", "level#", "gated"},
}
# a case of which only one of array file and description is here is of no kind, too
CASES = by_kind(MARKS, {name: () for name in SCALARS} | array_names(FOLDER))


def cases(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [Case(name) for name in CASES[kind]], ids=CASES[kind])


class Case:
    """The arrays of a case, and the numbers written beside them."""

    def __init__(self, name: str) -> None:
        self.name, self.scalars = name, SCALARS.get(name, {})

    def load(self) -> dict[str, Tensor]:
        with np.load(FOLDER / f"{self.name}.npz") as file:
            return {k: torch.as_tensor(file[k]) for k in file.files}


def numbers(golden: dict[str, Tensor], pattern: str) -> list[int]:
    """The numbers that stand in names of this pattern, in order."""
    return sorted(int(found[1]) for name in golden if (found := re.fullmatch(pattern, name)))


def fill(network: nn.Module, golden: dict[str, Tensor], prefix: str, rename: Callable[[str], str]) -> None:
    """Give the network the reference's weights; ``rename`` turns our parameter name into its."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            value = golden[prefix + rename(name)]
            assert value.shape == parameter.shape, name
            parameter.copy_(value)


def replacing(*pairs: tuple[str, str]) -> Callable[[str], str]:
    def rename(name: str) -> str:
        for ours, theirs in pairs:
            if name.startswith(ours):
                return name.replace(ours, theirs, 1)
        raise KeyError(name)

    return rename


# -- networks of the size that the weights have --


def names_of(network: Generator) -> list[tuple[str, str]]:
    return [(f"{ours}.", f"{theirs}.") for ours, theirs in released.names(network).items()]


def plain_generator(golden: dict[str, Tensor], prefix: str) -> Generator:
    ngf, channels = golden[prefix + "model.1.weight"].shape[:2]
    blocks = len(numbers(golden, prefix + r"model\.(\d+)\.conv_block\.1\.weight"))
    network = Generator(channels, ngf, blocks)
    fill(network, golden, prefix, replacing(*names_of(network)))
    return network


def bridge_generator(golden: dict[str, Tensor], prefix: str) -> BridgeGenerator:
    ngf, channels = golden[prefix + "model.1.weight"].shape[:2]
    blocks = len(numbers(golden, prefix + r"model_res\.(\d+)\.conv_fin\.2\.weight"))
    layers = len(numbers(golden, prefix + r"z_transform\.(\d+)\.weight"))
    network = BridgeGenerator(channels, ngf, blocks, time_mode="released", noise_layers=layers)
    fill(network, golden, prefix, replacing(*names_of(network)))
    return network


def plain_discriminator(golden: dict[str, Tensor], prefix: str) -> PatchGAN:
    ndf, channels = golden[prefix + "model.0.weight"].shape[:2]
    first, *middle, last = numbers(golden, prefix + r"model\.(\d+)\.weight")
    network = PatchGAN(channels, ndf, layers=len(middle))
    pairs = [("conv1.", f"model.{first}."), ("last.", f"model.{last}.")]
    pairs += [(f"convs.{k}.", f"model.{theirs}.") for k, theirs in enumerate(middle)]
    fill(network, golden, prefix, replacing(*pairs))
    return network


def conditional_discriminator(golden: dict[str, Tensor], prefix: str, steps: int) -> PatchGAN:
    ndf, channels = golden[prefix + "model_main.0.conv1.weight"].shape[:2]
    layers = len(numbers(golden, prefix + r"model_main\.(\d+)\.conv1\.weight")) - 1
    network = PatchGAN(channels, ndf, steps, layers)
    pairs = [
        ("conv1.", "model_main.0.conv1."),
        *((f"convs.{k}.", f"model_main.{k + 1}.conv1.") for k in range(layers)),
        ("last.", "final_conv."),
        ("time_path.layers.", "t_embed.main."),
        ("time_term.", "model_main.0.dense."),
    ]
    fill(network, golden, prefix, replacing(*pairs))
    return network


def projection_heads(golden: dict[str, Tensor], prefix: str) -> ProjectionHeads:
    first = [golden[f"{prefix}mlp_{k}.0.weight"] for k in numbers(golden, prefix + r"mlp_(\d+)\.0\.weight")]
    network = ProjectionHeads([w.shape[1] for w in first], first[0].shape[0])
    fill(network, golden, prefix, replacing(*((f"heads.{k}.", f"mlp_{k}.") for k in range(len(first)))))
    return network


def close(ours: Tensor, theirs: Tensor) -> bool:
    """Within 1e-5 of a feature's range: unlike images features have no bound, and rounding grows with them."""
    return bool((ours - theirs).abs().max() <= FORWARD["atol"] * theirs.abs().max().clamp(min=1))


def tapped_layers(golden: dict[str, Tensor], features: dict[int, Tensor]) -> tuple[int, ...]:
    """The layers that the reference's features are of, which the case does not say: each is found among those
    behind the one before."""
    taps: list[int] = []
    for k in numbers(golden, r"feat(\d+)"):
        behind = [n for n in sorted(features) if n != STEM and n > max(taps, default=-1)]
        fitting = [
            n
            for n in behind
            if features[n].shape == golden[f"feat{k}"].shape and close(features[n], golden[f"feat{k}"])
        ]
        assert fitting, f"feat{k} is at none of the layers {behind}"
        taps.append(fitting[0])
    return tuple(taps)


def layers_of(generator: Generator) -> tuple[int, ...]:
    return (0, 4, 8, STEM, *range(12, 12 + len(generator.blocks)))


# -- every kind of case --


def test_every_case_is_of_a_known_kind() -> None:
    assert not CASES[UNKNOWN]


@cases("resampling")
def test_antialiased_resampling(case: Case) -> None:
    golden = case.load()
    for k in numbers(golden, r"x(\d+)"):
        x = golden[f"x{k}"]
        torch.testing.assert_close(Down()(x), golden[f"down{k}"], **FORWARD)
        torch.testing.assert_close(Up()(x.requires_grad_()), golden[f"up{k}"], **FORWARD)
        with torch.no_grad():
            torch.testing.assert_close(Up()(x), golden[f"up{k}"], **FORWARD)


@cases("patch NCE")
def test_patch_nce(case: Case) -> None:
    """How many images the rows are of, the case's name says; else one number must explain all losses."""
    golden, rows = case.load(), len(case.load()["q"])
    named = re.search(r"_B(\d+)", case.name)
    images = [int(named[1])] if named else [n for n in range(1, rows) if rows % n == 0]
    found = []
    for n in images:
        q = golden["q"].unflatten(0, (n, -1)).detach().requires_grad_()
        loss = losses.patch_nce(q, golden["k"].unflatten(0, (n, -1)), case.scalars["T"], reduction="none")
        found.append((loss, q))
    loss, q = min(found, key=lambda pair: (pair[0] - golden["loss"]).abs().max())
    torch.testing.assert_close(loss, golden["loss"], atol=2e-3, rtol=0)
    loss.mean().backward()
    assert loss.mean().item() == pytest.approx(case.scalars["mean"], abs=2e-3)
    torch.testing.assert_close(q.grad.flatten(0, 1), golden["grad_q"], atol=1e-5, rtol=1e-3)


@cases("projection heads")
def test_projection_heads(case: Case) -> None:
    golden = case.load()
    heads, taps = projection_heads(golden, "w:"), numbers(golden, r"f(\d+)")
    got = heads([golden[f"f{k}"] for k in taps], [golden[f"id{k}"][None] for k in taps])
    for k, feature in zip(taps, got, strict=True):
        torch.testing.assert_close(feature.flatten(0, 1), golden[f"o{k}"], **FORWARD)


@cases("least squares")
def test_least_squares_objective(case: Case) -> None:
    golden = case.load()
    assert losses.lsgan(golden["p"], True).item() == pytest.approx(case.scalars["real"], rel=1e-4)
    assert losses.lsgan(golden["p"], False).item() == pytest.approx(case.scalars["fake"], rel=1e-4)


@cases("rates")
def test_learning_rate_schedule(case: Case) -> None:
    for name, rates in case.load().items():
        constant, decay = map(int, name.removeprefix("lr_").split("_"))
        factors = [linear_decay(e, constant, decay) for e in range(1, constant + decay + 1)]
        got = rates[0] / factors[0] * torch.tensor(factors, dtype=torch.float64)
        torch.testing.assert_close(got, rates, rtol=1e-12, atol=0)


@cases("embedding")
def test_timestep_embedding(case: Case) -> None:
    for name, expected in case.load().items():
        dim = int(name.removeprefix("emb"))
        torch.testing.assert_close(timestep_embedding(torch.arange(len(expected)), dim), expected, **FORWARD)


@cases("plain generator")
def test_plain_generator(case: Case) -> None:
    golden = case.load()
    network, x = plain_generator(golden, "w:"), golden["x"]
    torch.testing.assert_close(network(x), golden["y"], **FORWARD)
    taps = tapped_layers(golden, network(x, keep=layers_of(network))[1])
    for k, feature in enumerate(network(x, taps=taps)):
        assert close(feature, golden[f"feat{k}"])


@cases("plain discriminator")
def test_plain_discriminator(case: Case) -> None:
    golden = case.load()
    torch.testing.assert_close(plain_discriminator(golden, "w:")(golden["x"]), golden["y"], **FORWARD)


@cases("bridge generator")
def test_bridge_generator_as_released(case: Case) -> None:
    golden = case.load()
    network, x, z = bridge_generator(golden, "w:"), golden["x"], golden["z"]
    for index in numbers(golden, r"y_t(\d+)"):  # equal: the released generator is blind to time
        torch.testing.assert_close(network(x, index, z), golden[f"y_t{index}"], **FORWARD)
    _, kept = network(x, 0, z, keep=layers_of(network))
    taps, stem = tapped_layers(golden, kept), {layer: kept[layer] for layer in (0, 4, 8, STEM)}
    for features in (network(x, 0, z, taps=taps), network(None, 0, z, start=stem, taps=taps)):
        for k, feature in enumerate(features):
            assert close(feature, golden[f"feat{k}"])


@pytest.mark.parametrize("name", CASES["plain generator"] + CASES["bridge generator"])
def test_weights_of_the_public_code_load(name: str, tmp_path: Path) -> None:
    golden = Case(name).load()
    theirs = {k.removeprefix("w:"): v for k, v in golden.items() if k.startswith("w:")}
    of_bridge = "z" in golden
    network = (bridge_generator if of_bridge else plain_generator)(golden, "w:")
    taps, noise = (0, 4, 8, 12), [0, golden["z"]] if of_bridge else []
    entry, bands = METHODS.get("unsb" if of_bridge else "cut"), network.channels
    sensor = Sensor("any", "Any", tuple(map(str, range(bands))), 2.0, (0.3,) * bands, 0.15, (0, 0, 0))
    options = {"ngf": network.ngf, "blocks": len(network.blocks), "nce_layers": taps}
    if of_bridge and len(network.noise_path) != 8:
        pytest.skip("methods have four layers on the noise")

    def loaded(sensor: Sensor, state: dict[str, Tensor]) -> TranslationMethod:
        torch.save(state, tmp_path / "latest_net_G.pth")
        method = build(entry, sensor, resolve_config(entry, "paper", options))
        method.load_weights(tmp_path / "latest_net_G.pth")
        return method

    method, y = loaded(sensor, theirs), golden["y_t0" if of_bridge else "y"]
    torch.testing.assert_close(method.generator(golden["x"], *noise), y, **FORWARD)
    calibration = replace(sensor, source=sensor.bands, ratio=1)  # published in the other order of bands
    got = loaded(calibration, theirs).generator(golden["x"].flip(1), *noise)
    torch.testing.assert_close(got.flip(1), y, **FORWARD)
    torch.testing.assert_close(method.normaliser.restore(torch.ones(1, bands, 1, 1)).mean().item(), 2.0)
    deeper = "model_res.99.conv_fin.2.weight" if of_bridge else "model.99.conv_block.1.weight"
    with pytest.raises(BenchError, match=f"unexpected: generator.{deeper}"):
        loaded(sensor, theirs | {deeper: torch.zeros(1)})


@cases("conditional discriminator")
def test_conditional_discriminator(case: Case) -> None:
    golden = case.load()
    indices = numbers(golden, r"y_t(\d+)")
    network = conditional_discriminator(golden, "w:", max(indices) + 1)
    for index in indices:
        torch.testing.assert_close(network(golden["x"], index), golden[f"y_t{index}"], **FORWARD)


@cases("CUT step")
def test_whole_cut_step(case: Case) -> None:
    """Losses and images of one step. The file's gradient norms are not compared: they were accumulated on
    those of a pass at the reference's own, unrecorded starting weights (std 0.02, where all of them, spread
    over three orders of magnitude, are found again within a factor of two), and cannot be had from the
    weights given. Gradients of the step are held against a plain formulation in test_unpaired.py instead.
    """
    golden, expected = case.load(), case.scalars
    generator, discriminator = plain_generator(golden, "G:"), plain_discriminator(golden, "D:")
    heads, blocks = projection_heads(golden, "F:"), len(generator.blocks)
    identity, bands = "idt_B" in golden, [str(i) for i in range(generator.channels)]
    sensor = Sensor("any", "Any", tuple(bands), 1.0, (0.3,) * len(bands), 0.15, (0, 0, 0))
    config = CUTConfig(
        ngf=generator.ngf, ndf=discriminator.conv1.out_channels, blocks=blocks, nce_identity=identity,
        nce_layers=(0, 4, 8, 12, min(16, 11 + blocks)), nce_width=heads.heads[0][0].out_features,
        nce_patches=expected["num_patches"],
        lr=0.0,  # the optimisers take no step, so losses and gradients are those of the given weights
    )  # fmt: skip
    method = CUT(sensor, config)
    learner = CUTLearner(method, SimpleNamespace(sensor=sensor), Trainer(None, "cpu"))
    for ours, theirs in (
        (method.generator, generator),
        *zip(map(learner.networks.get, "DF"), (discriminator, heads), strict=True),
    ):
        ours.load_state_dict(theirs.state_dict())
    perms, taps = numbers(golden, r"perm(\d+)"), len(config.nce_layers)
    assert len(perms) == taps * (1 + identity), "other layers are tapped than can be told"
    positions = [torch.stack([golden[f"perm{p}"] for p in perms[k::taps]]) for k in range(taps)]
    images = [golden["A"], golden["B"]][: 1 + identity]
    made = [golden["fake_B"], golden["idt_B"]] if identity else [golden["fake_B"]]
    with torch.no_grad():
        torch.testing.assert_close(method.generator(torch.cat(images)), torch.cat(made), **FORWARD)
    got = learner.learn(CUTDraw(golden["A"], golden["B"], positions), lambda loss: loss.backward())
    parts = [expected["loss_NCE"], expected["loss_NCE_Y"]] if identity else [expected["loss_NCE"]]
    assert got["D"].item() == pytest.approx(expected["loss_D"], rel=1e-4)
    assert got["gan"].item() == pytest.approx(expected["loss_G_GAN"], rel=1e-4)
    assert got["nce"].item() == pytest.approx(sum(parts) / len(parts), abs=2e-3)
    assert got["G"].item() == pytest.approx(expected["loss_G"], abs=2e-3)


@cases("time grid")
def test_time_grid(case: Case) -> None:
    times = case.load()["times"]
    torch.testing.assert_close(torch.tensor(Bridge(len(times) - 1).times), times, **FORWARD)


@cases("chain")
def test_chain(case: Case) -> None:
    golden = case.load()
    gain, offset = stub_constants(case.scalars["stub"])
    bridge = Bridge(len(golden["times"]) - 1, case.scalars["tau"])
    torch.testing.assert_close(torch.tensor(bridge.times), golden["times"], **FORWARD)

    def stub(x: Tensor, k: int) -> Tensor:
        return torch.tanh(gain * x + offset * (k + 1))

    groups = (("real_A", "xt_A", "fake_B"), ("real_A2", "xt_A2", "fake_B2"), ("real_B", "xt_B", "idt_B"))
    index = len(golden["noise"]) // len(groups)
    for group, (start, state, end) in enumerate(groups):
        noise = golden["noise"].reshape(index, len(groups), *golden[start].shape)[:, group]
        got = bridge.chain(golden[start], index, stub, noise)
        torch.testing.assert_close(got, golden[state], **FORWARD)
        torch.testing.assert_close(stub(got, index), golden[end], **FORWARD)


def stub_constants(formula: str) -> Sequence[float]:
    """a and b of ``G(x,t)=tanh(ax+b(t+1))``."""
    read = re.fullmatch(r"G\(x,t\)=tanh\(([\d.]+)x\+([\d.]+)\(t\+1\)\)", formula.replace(" ", ""))
    assert read, f"what is {formula}?"
    return [float(x) for x in read.groups()]


@cases("bridge losses")
def test_bridge_losses_and_gradients(case: Case) -> None:
    golden, expected = case.load(), case.scalars
    energy = conditional_discriminator(golden, "E:", expected["T"])
    discriminator = conditional_discriminator(golden, "D:", expected["T"])
    assert numbers(golden, r"grad_fake_t(\d+)") == list(range(expected["T"]))
    for index in range(expected["T"]):
        fake, fake2 = golden["x1"].clone().requires_grad_(), golden["x1_2"].clone().requires_grad_()
        pair, other = torch.cat((golden["xt"], fake), 1), torch.cat((golden["xt2"], fake2), 1)
        joint, shuffled = energy(
            torch.cat((torch.cat((pair, pair), 1), torch.cat((pair, other), 1))), index
        ).chunk(2)
        bridge, _ = losses.bridge_loss(
            golden["xt"], fake, joint, shuffled, index, expected["T"], expected["tau"]
        )
        scores_fake, scores_real = discriminator(torch.cat((fake.detach(), golden["real_B"])), index).chunk(2)
        got = {
            "loss_SB": bridge,
            "loss_G_GAN": losses.lsgan(discriminator(fake, index), True),
            "loss_D": losses.discriminator_loss(scores_fake, scores_real),
            "loss_E": losses.energy_loss(joint, shuffled),
        }
        assert {k: v.item() for k, v in got.items()} == pytest.approx(expected[f"t{index}"], rel=1e-4)
        bridge.backward()
        for image, name in ((fake, "grad_fake_t"), (fake2, "grad_fake2_t")):
            theirs = golden[f"{name}{index}"]
            atol = 1e-5 * theirs.abs().max().item()  # its scale is that of tau
            torch.testing.assert_close(image.grad, theirs, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@cases("pyramid")
def test_laplacian_pyramid_and_gate(case: Case, device: str) -> None:
    golden = case.load()
    x = golden["x"].to(device)
    pyramid = LaplacianPyramid(max(numbers(golden, r"level(\d+)")))
    levels = pyramid.decompose(x)
    for j, level in enumerate(levels):
        torch.testing.assert_close(level.cpu(), golden[f"level{j}"], atol=1e-12, rtol=0)
    torch.testing.assert_close(pyramid.reconstruct(levels).cpu(), golden["x"], atol=1e-14, rtol=0)
    gated = pyramid.gate(x, golden["w"].to(device)).cpu()
    torch.testing.assert_close(gated, golden["gated"], atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("channels", "plain", "heads", "plain_d", "bridge", "bridge_d", "energy"),
    [
        (3, 11_378_179, 560_384, 2_764_737, 14_684_419, 3_143_041, 3_152_257),
        (4, 11_384_452, 560_640, 2_765_761, 14_690_692, 3_144_065, 3_156_353),
        (8, 11_409_544, 561_664, 2_769_857, 14_715_784, 3_148_161, 3_172_737),
    ],
)
def test_parameter_counts_of_the_releases(
    channels: int, plain: int, heads: int, plain_d: int, bridge: int, bridge_d: int, energy: int
) -> None:
    def count(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters()) + inert_parameters(network)

    with torch.device("meta"):  # nothing is stored
        cut = Generator(channels)
        assert count(cut) == plain
        assert count(ProjectionHeads(cut.tap_channels((0, 4, 8, 12, 16)))) == heads
        assert count(PatchGAN(channels)) == plain_d
        assert count(BridgeGenerator(channels)) == bridge
        assert count(PatchGAN(channels, steps=5)) == bridge_d
        assert count(PatchGAN(4 * channels, steps=5)) == energy
