"""UNSB, CUT, FastCUT and SP-I2I as methods: equal to their plain formulation, unpaired, deterministic."""

from __future__ import annotations

import importlib.util
import math
import signal
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pansharp_bench.errors import BenchError
from pansharp_bench.methods._unpaired.losses import bridge_loss
from pansharp_bench.methods._unpaired.selection import selection_score
from pansharp_bench.methods.cut import CUTLearner
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, Sensor, Split
from pansharp_bench.training import Interrupted, Trainer, UnpairedData
from pansharp_bench.training.samplers import cut_in_halves

NAMES = ("unsb", "cut", "fastcut", "sp-i2i")
TINY = {
    "steps": 4,
    "batch": 2,
    "ngf": 4,
    "ndf": 4,
    "blocks": 5,
    "nce_width": 8,
    "nce_patches": 16,
    "validations": 2,
}
AROUND = {"skip": "detail", "head": "pixel"}
SENSOR = Sensor("tri", "Three bands", ("red", "green", "blue"), 255.0, (0.3,) * 3, 0.15, (0, 1, 2))


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "_plain_unpaired.py"
    spec = importlib.util.spec_from_file_location("_plain_unpaired", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(name: str, sensor: Sensor = SENSOR, **options: Any) -> nn.Module:
    entry = METHODS.get(name)
    method = entry.obj(sensor, entry.obj.configure("paper", TINY | options))
    method.card = entry.card
    return method


def learner_of(name: str, side: int = 32, **options: Any) -> tuple[Any, Tensor, Tensor]:
    """A learner in float64 whose weights are large enough for every path to matter; A and B of 2n images."""
    method = build(name, **options)
    data = SimpleNamespace(sensor=SENSOR, patch_size=(side, side))
    learner = method.learner(data, Trainer(None, "cpu", seed=1, progress=False))
    draws = torch.Generator().manual_seed(0)
    for network in learner.networks.values():
        network.double()
        for parameter in network.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.data = spread * torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
    a = torch.rand(4, 1, side, side, generator=draws, dtype=torch.float64).expand(-1, 3, -1, -1) * 2 - 1
    b = torch.rand(2, 3, side, side, generator=draws, dtype=torch.float64) * 2 - 1
    learner.normal = lambda *shape: torch.randn(*shape, generator=learner.draws, dtype=torch.float64)
    return learner, a, b


def draws_of(learner: Any, a: Tensor, b: Tensor, index: int) -> Any:
    if isinstance(learner, CUTLearner):
        learner.images = lambda sources, targets: (a[:sources], b[:targets])
        return replace(learner.draw(), mirrored=learner.config.flip_equivariance and index > 0)
    first, second = a[:2], a[2:] if "E" in learner.networks else a[:0]
    start = torch.cat((first, b, second) if learner.contrasted else (first, second))
    return learner.noise(index, start, b)


@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unsb", {}),
        ("unsb", {"time_mode": "film"}),
        ("cut", {}),
        ("fastcut", {}),
        ("sp-i2i", {}),
        ("sp-i2i", {"gate": "free", "levels": 3}),
        ("sp-i2i", {"gating": False}),
        ("sp-i2i", {"lambda_nce": 1.0}),
        ("cut", AROUND),
        ("fastcut", AROUND),
        ("unsb", AROUND | {"entropy": "off"}),
        ("sp-i2i", AROUND | {"entropy": "off"}),
        ("sp-i2i", {"skip": "detail"}),
        ("unsb", {"head": "pixel"}),
        ("unsb", {"entropy": "bounded"}),
        ("cut", AROUND | {"skip": "handed"}),
        ("sp-i2i", AROUND | {"skip": "handed", "sp_distance": "correlation"}),
        ("sp-i2i", {"skip": "handed", "sp_distance": "gain"}),
    ],
)
def test_a_step_equals_the_plain_formulation(
    plain: ModuleType, name: str, options: dict[str, Any], index: int
) -> None:
    learner, a, b = learner_of(name, **options)
    c = learner.config
    draw = draws_of(learner, a, b, index)
    networks = plain.plain_networks(learner.networks, c, SENSOR.channels)
    for key, network in networks.items():  # what only the published networks have must not matter
        for part, parameter in network.named_parameters():
            if part not in learner.networks[key].state_dict():
                nn.init.normal_(parameter, std=0.3)
    optimizers = plain.plain_optimizers(networks, c)
    learner.optimizers = plain.plain_optimizers(learner.networks, c)
    if isinstance(learner, CUTLearner):
        expected = plain.cut_step(networks, optimizers, c, draw)
    else:
        expected = plain.bridge_step(networks, optimizers, c, draw, learner.bridge.times)
    got = learner.learn(draw, lambda loss: loss.backward())
    assert {k: got[k].item() for k in expected} == pytest.approx(
        {k: v.item() for k, v in expected.items()}, rel=1e-9
    )
    for key, network in learner.networks.items():
        published = dict(networks[key].named_parameters())
        for part, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.norm() > 0, (key, part)
            torch.testing.assert_close(
                parameter.grad, published[part].grad, rtol=1e-6, atol=1e-12, msg=f"{key}.{part}"
            )


class Tagged(Split):
    """Scene i is constant: PAN of value 2i + 1, every MS of value 2i + 2, so whatever is drawn says its origin."""

    name, sensor, keys = "train", SENSOR, ("pan", "ms", "lms", "gt")

    def __init__(self, scenes: int, side: int = 16) -> None:
        self.scenes, self.side = scenes, side

    def __len__(self) -> int:
        return self.scenes

    def __getitem__(self, index: int | slice) -> Scene:
        chosen = torch.arange(self.scenes)[index].reshape(-1, 1, 1, 1).float()
        pan = (2 * chosen + 1).expand(-1, 1, self.side, self.side)
        ms = (2 * chosen + 2).expand(-1, 3, self.side, self.side)
        return Scene(SENSOR, pan, ms[..., ::4, ::4], ms, ms)


class Textured(Tagged):
    """Small scenes with texture, whose MS are darkened, blurred PAN."""

    def __getitem__(self, index: int | slice) -> Scene:
        draws = torch.Generator().manual_seed(self.scenes)
        pan = torch.nn.functional.avg_pool2d(
            torch.rand(self.scenes, 1, self.side + 2, self.side + 2, generator=draws) * 255, 3, 1
        )[index].reshape(-1, 1, self.side, self.side)
        ms = (
            torch.nn.functional.avg_pool2d(pan, 4).expand(-1, 3, -1, -1)
            * torch.tensor([0.9, 0.6, 0.3])[:, None, None]
        )
        lms = torch.nn.functional.interpolate(ms, scale_factor=4, mode="bilinear")
        return Scene(SENSOR, pan.round(), ms, lms, lms)


def unpaired_data(
    split: type[Tagged] = Textured, side: int = 32, seed: int = 0, **options: Any
) -> UnpairedData:
    return UnpairedData.halves(SENSOR, split(12, side), split(6, side), torch.device("cpu"), seed, **options)


def origins(images: Tensor) -> set[int]:
    """Scene numbers that tagged images come from."""
    return set(((images.unique().round().long() - 1) // 2).tolist())


@pytest.mark.parametrize("seed", range(3))
def test_the_sampler_never_serves_pan_and_ms_of_one_scene(seed: int) -> None:
    data = unpaired_data(Tagged, 16, seed)
    draws = torch.Generator().manual_seed(seed)
    pan, ms = set(), set()
    for _ in range(40):
        source, target = data.draw(8, 8, draws)
        pan |= origins(source)
        ms |= origins(target)
    assert not pan & ms
    assert pan | ms == set(range(12))  # and every scene serves one side
    assert origins(data.all_source()) == pan and origins(data.all_target()) == ms
    assert not origins(data.valid_source) & origins(data.valid_target)
    assert data.describe()["shared_samples"] == 0


class Garbled(Textured):
    """Textured, but the MS of every scene that serves PAN, and the PAN of those that serve MS, is another."""

    def __getitem__(self, index: int | slice) -> Scene:
        scene = super().__getitem__(index)
        serves_pan, _ = cut_in_halves(self.scenes, 0)
        chosen = torch.isin(torch.arange(self.scenes), serves_pan)[index].reshape(-1, 1, 1, 1)
        pan = torch.where(chosen, scene.pan, 255 - scene.pan)
        other = scene.lms.flip(1, 2).roll(3, -1)
        return Scene(SENSOR, pan, scene.ms * 0, torch.where(chosen, other, scene.lms), other * 0)


@pytest.mark.parametrize("name", NAMES)
def test_training_never_uses_ms_of_a_scene_whose_pan_it_uses(name: str, tmp_path: Path) -> None:
    """Other MS in the scenes that serve PAN, other PAN in those that serve MS: not one weight changes."""
    states = []
    for split in (Textured, Garbled):
        method = build(name)
        method.fit(unpaired_data(split), Trainer(None, "cpu", progress=False))
        states.append(method.state_dict())
    assert not torch.equal(Textured(12)[:].lms, Garbled(12)[:].lms)
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


@pytest.mark.parametrize("name", NAMES)
def test_inference_sees_pan_alone(name: str) -> None:
    method = build(name)
    scene = Textured(3, 32)[:]
    visible = scene.seen_by(method.card)
    assert visible.ms is None and visible.lms is None and visible.gt is None
    method.eval()
    assert torch.equal(method.fuse(visible), method.fuse(scene))  # given more, it looks at no more


@pytest.mark.parametrize("name", NAMES)
def test_end_to_end(name: str, tmp_path: Path) -> None:
    """A short training runs, is logged, and its result is in range, repeatable, and the same image by image."""
    data = unpaired_data()
    trainer = Trainer(tmp_path, "cpu", progress=False)
    method = build(name)
    method.fit(data, trainer)
    assert trainer.summary.steps == 4 and trainer.summary.best_score is not None
    scene = Scene(SENSOR, pan=Textured(3, 52)[:].pan[..., :50, :50])  # not a multiple of 4
    fused = method.fuse(scene)
    assert fused.shape == (3, 3, 50, 50) and fused.dtype == torch.float32
    assert fused.min() >= 0 and fused.max() <= SENSOR.peak
    assert torch.equal(fused, method.fuse(scene))
    for k in range(3):
        torch.testing.assert_close(method.fuse(scene[k]), fused[k : k + 1], atol=2e-2, rtol=0)
    again = build(name)
    again.load_state_dict(method.state_dict())
    assert torch.equal(again.fuse(scene), fused)


@pytest.mark.parametrize("ema", [0.0, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_resume_is_exact(name: str, ema: float, tmp_path: Path) -> None:
    def fit(folder: Path, resume: bool = False, stop: int = 0) -> nn.Module:
        trainer = Trainer(folder, "cpu", seed=5, progress=False, resume=resume)
        method = build(name, steps=5, ema=ema)
        if stop:  # run as if interrupted after so many steps: the last validation's draws included
            original = method.learner

            def stopping(*args: Any) -> Any:
                learner = original(*args)
                step, done = learner.step, [0]

                def counted(backward: Any) -> dict[str, Tensor]:
                    done[0] += 1
                    if done[0] == stop:
                        signal.raise_signal(signal.SIGINT)
                    return step(backward)

                learner.step = counted
                return learner

            method.learner = stopping
        method.fit(unpaired_data(), trainer)
        return method

    whole = fit(tmp_path / "whole")
    with pytest.raises(Interrupted, match="after step 3"):
        fit(tmp_path / "torn", stop=3)
    resumed = fit(tmp_path / "torn", resume=True)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_normalisation_is_global_and_undone_exactly() -> None:
    data = unpaired_data()
    method = build("cut")
    method.normaliser.measure(data, "percentile")
    ms = data.all_target()
    torch.testing.assert_close(method.normaliser.restore(method.normaliser.ms(ms)), ms, atol=1e-3, rtol=0)
    inside = (method.normaliser.ms(ms).abs() <= 1).float().mean()
    assert 0.99 < inside < 1
    low, high = method.normaliser.pan_range[0]
    expected = torch.quantile(data.all_source().flatten(), torch.tensor([0.001, 0.999]))
    torch.testing.assert_close(torch.stack((low, high)), expected, atol=1.0, rtol=0)
    peak = build("cut").normaliser
    assert peak.pan(torch.tensor([[[[0.0, SENSOR.peak]]]])).flatten().tolist() == [-1, 1, -1, 1, -1, 1]


@pytest.mark.parametrize("name", NAMES)
def test_a_silent_core_gives_pan_affine(name: str) -> None:
    data = unpaired_data()
    affine = METHODS.get("pan-affine").obj(SENSOR)
    trainer = Trainer(None, "cpu", progress=False)
    affine.fit(data, trainer)
    method = build(name, **AROUND, stretch="moments", steps=1, lr=0.0, validations=0)
    method.fit(data, trainer)
    for parameter in method.generator.pixel.parameters():
        nn.init.zeros_(parameter)
    scene = Scene(SENSOR, pan=data.all_source()[:, :, :30])
    expected = affine.fuse(scene).clamp(0, SENSOR.peak)
    torch.testing.assert_close(method.fuse(scene), expected, atol=1e-5 * SENSOR.peak, rtol=0)


@pytest.mark.parametrize("name", ["cut", "sp-i2i"])
def test_the_way_around_hands_on_what_the_core_cannot(name: str) -> None:
    """Detail of the source comes through whole, whatever the core says; low frequencies take the gain."""
    torch.manual_seed(0)
    method = build(name, **AROUND)
    nn.init.zeros_(method.generator.pixel.layers[-1].weight)
    nn.init.zeros_(method.generator.pixel.layers[-1].bias)
    checked = ((torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1).expand(1, 3, 32, 32)
    flat = torch.full_like(checked, 0.4)
    with torch.no_grad():
        method.generator.detail.gain.fill_(2.0)
        torch.testing.assert_close(method.translate(flat), 2 * flat)
        torch.testing.assert_close(method.translate(checked), checked)


def test_a_pixel_head_sees_the_brightness_that_norms_hide() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 3, 32, 32)
    for head, blind in (("conv", True), ("pixel", False)):
        method = build("cut", head=head)
        with torch.no_grad():
            same = torch.allclose(method.translate(x), method.translate(0.5 * x - 0.3), atol=2e-3)
        assert same == blind, head


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weight", [0.0, 5.0])
def test_targets_are_coloured_from_their_own_grey(name: str, weight: float) -> None:
    """The loss is that of the generator on the bands' mean with PAN's moments; its gradient is added."""
    method = build(name, lambda_grey=weight, skip="detail", stretch="moments", ema=0.0)
    data = unpaired_data()
    method.normaliser.measure(data, "moments")
    learner = method.learner(data, Trainer(None, "cpu", seed=1, progress=False))
    logged = learner.step(lambda loss: loss.backward())
    assert ("grey" in logged) == bool(weight)
    if not weight:
        return
    ms = data.all_target()
    as_pan = learner.own_grey(ms)
    low = torch.cat([method.generator.detail.low_pass(x) for x in data.all_source().split(4)])
    torch.testing.assert_close(as_pan.mean(), low.mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(as_pan.std(), low.std(), rtol=1e-3, atol=0)
    grey = ms.mean(1, keepdim=True)
    assert torch.corrcoef(torch.stack([as_pan.flatten(), grey.flatten()]))[0, 1] > 1 - 1e-6
    target = method.normaliser.ms(ms)
    asked = []
    loss = learner.colour_loss(target, lambda x: asked.append(x) or torch.zeros_like(target))
    torch.testing.assert_close(asked[0], method.normaliser.pan(as_pan))
    torch.testing.assert_close(loss, target.square().mean())


def test_the_bounded_entropy_has_a_bound() -> None:
    """An energy network that tells two draws apart as loudly as it likes: the released estimate follows it."""
    state, end = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    for loud in (0.0, 10.0, 1000.0):
        joint, shuffled = (torch.full((2, 1, 4, 4), x).double() for x in (loud, -loud))
        released, free = bridge_loss(state, end, joint, shuffled, 0, 5, 0.01)
        bounded, held = bridge_loss(state, end, joint, shuffled, 0, 5, 0.01, bounded=True)
        assert free.item() == pytest.approx(2 * loud - math.log(32), rel=1e-6)
        assert held.item() == pytest.approx(-math.log(32 if loud else 64), rel=1e-6)
        assert released.item() == pytest.approx(0.01 - 0.01 * free.item(), rel=1e-5)
        assert bounded.item() == pytest.approx(0.01 - 0.01 * held.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["unsb", "sp-i2i"])
def test_without_entropy_there_is_no_energy_network_and_no_second_chain(name: str) -> None:
    learner, _, _ = learner_of(name, entropy="off", lambda_nce=0.0)
    served = []
    learner.images = lambda sources, targets: (
        served.append(sources) or torch.zeros(sources, 3, 32, 32),
        torch.zeros(targets, 3, 32, 32),
    )
    assert "E" not in learner.networks and len(learner.draw().start) == learner.config.batch == served[0]


@pytest.mark.parametrize("name", ["cut", "sp-i2i"])
def test_the_running_mean_of_the_weights_is_what_is_scored_and_kept(name: str) -> None:
    method = build(name, ema=0.75, validations=1)
    seen: list[dict[str, Tensor]] = []
    make = method.learner

    def watched(*args: Any) -> Any:
        learner = make(*args)
        step, validate = learner.step, learner.validate
        trained = learner.networks["G"]
        seen.append({k: v.detach().clone() for k, v in trained.named_parameters()})

        def recorded(backward: Any) -> dict[str, Tensor]:
            losses = step(backward)
            seen.append({k: v.detach().clone() for k, v in trained.named_parameters()})
            return losses

        def scored() -> float:
            assert not torch.equal(method.generator.conv1.weight, trained.conv1.weight)
            return validate()

        learner.step, learner.validate = recorded, scored
        return learner

    method.learner = watched
    method.fit(unpaired_data(), Trainer(None, "cpu", progress=False))
    expected, *steps = seen
    for weights in steps:
        expected = {k: 0.75 * v + 0.25 * weights[k] for k, v in expected.items()}
    for key, value in method.generator.named_parameters():
        torch.testing.assert_close(value, expected[key], msg=key)


def test_a_band_without_variation_is_no_division_by_zero() -> None:
    class Flat(Textured):
        def __getitem__(self, index: int | slice) -> Scene:
            scene = super().__getitem__(index)
            scene.lms[:, 1] = 20
            return Scene(SENSOR, torch.full_like(scene.pan, 9), scene.ms, scene.lms, scene.lms)

    for stretch in ("percentile", "moments"):
        method = build("cut", stretch=stretch)
        method.fit(unpaired_data(Flat), Trainer(None, "cpu", progress=False))
        assert method.fuse(Scene(SENSOR, pan=torch.full((1, 1, 32, 32), 9.0))).isfinite().all()


def test_selection_prefers_the_right_spectrum_and_structure() -> None:
    scene = Textured(40, 32)[:]
    other = Textured(41, 32)[:]
    right = selection_score(other.lms, other.pan, scene.lms)
    assert right < selection_score(other.lms * 1.3, other.pan, scene.lms)  # brightness
    assert right < selection_score(other.lms.flip(1), other.pan, scene.lms)  # colours
    assert right < selection_score(other.lms.flip(-1), other.pan, scene.lms)  # structure
    pooled = other.lms.transpose(0, 1).flatten(1)
    shuffled = torch.stack([row[torch.randperm(row.numel())] for row in pooled])  # bands not together
    shuffled = shuffled.unflatten(1, (41, 32, 32)).transpose(0, 1)
    assert right < selection_score(shuffled, other.pan, scene.lms)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cut", {"lambda_grey": -1.0}, "lambda_grey=-1.0"),
        ("sp-i2i", {"sp_distance": "no"}, "l1, gain, correlation"),
        ("sp-i2i", {"levels": 0}, "levels=0"),
        ("sp-i2i", {"gate": "open"}, "free, monotone"),
        ("sp-i2i", {"nfe": 6}, "between 1 and timesteps=5"),
        ("unsb", {"time_mode": "x"}, "released, chained, film"),
        ("unsb", {"timesteps": 1}, "timesteps=1"),
        ("unsb", {"nce_layers": (0, 17)}, "layer 17 cannot be tapped"),
        ("cut", {"flip_equivariance": True}, "nce_identity=false"),
        ("cut", {"stretch": "no"}, "percentile, moments, peak"),
        ("sp-i2i", {"skip": "no"}, "none, detail, handed"),
        ("unsb", {"ema": "1"}, "below 1"),
        ("cut", {"head": "no"}, "conv, pixel"),
        ("unsb", {"entropy": "no"}, "released, bounded, off"),
        ("cut", {"decay": 2.0}, "between 0 and 1"),
        ("fastcut", {"batch": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        build(name, **options)


def test_crops_larger_than_the_patches_are_refused() -> None:
    method = build("cut", crop=64)
    with pytest.raises(BenchError, match="crop=64"):
        method.fit(unpaired_data(), Trainer(None, "cpu", progress=False))


def test_images_are_enlarged_before_they_are_cropped_until_the_rate_falls() -> None:
    learner = build("cut", load=48, crop=32, augment="none").learner(
        data := unpaired_data(), Trainer(None, "cpu", progress=False)
    )
    data.source.images = torch.arange(32.0).expand(12, 1, 32, 32)  # a ramp, of slope 1
    slopes = []
    for _ in range(4):
        ramp = learner.images(1, 1)[0][0, 0, :, 8:-8]
        slopes.append(ramp.diff(dim=1).mean().item() * SENSOR.peak / 2)
        learner.schedulers["G"].last_epoch += 1
    assert slopes == pytest.approx([2 / 3, 2 / 3, 1, 1], rel=0.05)
    with pytest.raises(BenchError, match="load=24 must not be smaller than crop=32"):
        build("cut", load=24, crop=32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_cuda_gives_what_the_cpu_gives(name: str) -> None:
    method = build(name).eval()
    scene = Textured(2, 64)[:]
    on_cpu = method.fuse(scene)
    on_gpu = method.cuda().fuse(scene.to("cuda"))
    assert (on_gpu.cpu() - on_cpu).abs().max() < 1e-3 * SENSOR.peak
    method.cpu()
    trainer = Trainer(None, "cuda", progress=False)
    data = UnpairedData.halves(SENSOR, Textured(12, 32), Textured(6, 32), torch.device("cuda"))
    method.cuda().fit(data, trainer)
    assert trainer.summary.steps == 4
