"""SP-I2I's own parts: gate, consistency loss, levels, sampling."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import LaplacianPyramid
from pansharp_bench.method import build
from pansharp_bench.methods._unpaired.networks import BridgeGenerator
from pansharp_bench.methods.sp_i2i import (
    SPI2I,
    Gate,
    SPConfig,
    SPLearner,
    chroma_loss,
    consistency_loss,
    grey_of,
    level_distance,
)
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Trainer

SENSOR = Sensor("four", "Four bands", ("b", "g", "r", "n"), 1023.0, (0.3,) * 4, 0.15, (2, 1, 0))
TINY = {"steps": 3, "batch": 2, "ngf": 4, "ndf": 4, "blocks": 2, "validations": 0}


class Source(SimpleNamespace):
    """Random training images in the shape of unpaired data."""

    def __init__(self, side: int = 32) -> None:
        super().__init__(sensor=SENSOR, patch_size=(side, side))
        draws = torch.Generator().manual_seed(0)
        self.valid_source = torch.rand(3, 1, side, side, generator=draws) * 1023
        self.valid_target = torch.rand(3, 4, side, side, generator=draws) * 1023

    def draw(self, a: int, b: int, draws: torch.Generator, augment: str) -> tuple[Tensor, Tensor]:
        source = torch.rand(a, 1, *self.patch_size, generator=draws) * 1023
        return source, torch.rand(b, 4, *self.patch_size, generator=draws) * 1023

    def all_source(self) -> Tensor:
        return self.valid_source

    def all_target(self) -> Tensor:
        return self.valid_target


def fitted(folder: Path | None = None, side: int = 32, **options: Any) -> tuple[SPI2I, SPLearner]:
    method = build(METHODS.get("sp-i2i"), SENSOR, SPI2I.configure("paper", TINY | options))
    kept = []
    make = method.learner
    method.learner = lambda *args: kept.append(make(*args)) or kept[0]
    method.fit(Source(side), Trainer(folder, "cpu", seed=2, progress=False))
    return method, kept[0]


@pytest.mark.parametrize("monotone", [False, True])
@pytest.mark.parametrize("bands", [1, 2, 5])
def test_gate_starts_as_a_low_pass(monotone: bool, bands: int) -> None:
    gate = Gate(4, bands, steps=5, monotone=monotone)
    weights = gate(torch.randn(3, 4, 64, 64), 2)
    ramp = torch.linspace(0.1, 0.95, bands) if bands > 1 else torch.tensor([0.95])
    torch.testing.assert_close(weights, torch.cat((ramp, torch.ones(1))).expand(3, -1))
    assert sum(p.numel() for p in gate.parameters()) == pytest.approx(490_000, rel=0.03)


def test_gate_sees_content_level_and_time_and_any_size() -> None:
    torch.manual_seed(0)
    gate = Gate(4, 3, steps=5)
    torch.nn.init.normal_(gate.last.weight)
    x = torch.rand(2, 4, 48, 80)
    base = gate(x, 0)
    assert base.shape == (2, 4) and not torch.allclose(base[0], base[1])
    assert not torch.allclose(base, gate(x + 0.5, 0))  # no norm hides the mean level
    assert not torch.allclose(base, gate(x, 1))
    assert gate(torch.rand(1, 4, 16, 16), 0).shape == (1, 4)


def test_monotone_gate_is_a_low_pass_whatever_it_learns() -> None:
    gate = Gate(4, 5, steps=5, monotone=True)
    torch.nn.init.normal_(gate.last.weight, std=5)
    torch.nn.init.normal_(gate.last.bias, std=5)
    weights = gate(torch.randn(16, 4, 64, 64), 3)
    assert (weights.diff(dim=1) >= 0).all() and (weights[:, -1] == 1).all()
    free = Gate(4, 5, steps=5, residual=True)
    torch.nn.init.normal_(free.last.bias, std=5)
    weights = free(torch.randn(16, 4, 64, 64), 3)
    assert (weights.diff(dim=1) < 0).any() and (weights[:, -1] != 1).all()


def test_consistency_loss_is_the_weighted_sum_over_grey_bands() -> None:
    torch.manual_seed(0)
    fake, source = (
        torch.rand(2, 4, 64, 64, dtype=torch.float64),
        torch.rand(2, 4, 64, 64, dtype=torch.float64),
    )
    config = SPConfig(levels=4)
    bands = [LaplacianPyramid(3).decompose(grey_of(x)) for x in (fake, source)]
    each = [(a - b).abs().mean() for a, b in zip(*bands, strict=True)]
    expected = (each[0] + each[1] / 2 + each[2] / 4) / 1.75
    torch.testing.assert_close(consistency_loss(fake, source, config), expected)
    with_residual = (each[0] + each[1] / 2 + each[2] / 4 + each[3] / 8) / 1.875
    config = SPConfig(levels=4, sp_include_residual=True)
    torch.testing.assert_close(consistency_loss(fake, source, config), with_residual)
    # a change of colour or of brightness alone costs nothing
    tint = torch.tensor([0.3, -0.1, -0.2, 0.0], dtype=torch.float64).view(1, 4, 1, 1)
    assert consistency_loss(source + tint, source, SPConfig()) < 1e-15
    assert consistency_loss(source + 0.5, source, SPConfig()) < 1e-15
    # without a band only the residual, the image itself, can be compared
    difference = grey_of(fake - source).abs().mean()
    torch.testing.assert_close(consistency_loss(fake, source, SPConfig(levels=1)), difference)


@pytest.mark.parametrize("distance", ["l1", "gain", "correlation"])
def test_only_the_published_distance_forbids_another_contrast(distance: str) -> None:
    draws = torch.Generator().manual_seed(0)
    source = torch.randn(2, 1, 16, 16, generator=draws, dtype=torch.float64)
    other = torch.randn(2, 1, 16, 16, generator=draws, dtype=torch.float64)
    away = float(source.abs().mean())
    gains = torch.tensor([1.3, 0.8], dtype=torch.float64)[:, None, None, None]
    assert float(level_distance(source, source, distance)) == pytest.approx(0, abs=1e-9)
    of_truth = float(level_distance(gains * source, source, distance))
    assert of_truth == pytest.approx(0.25 * away if distance == "l1" else 0, rel=0.05, abs=1e-9)
    for wrong in (torch.zeros_like(source), other, -source):  # detail that is missing, elsewhere, inverted
        assert float(level_distance(wrong, source, distance)) > 0.7 * away
    faint = (1e-3 * other + 1e-4 * source).requires_grad_()
    level_distance(faint, source, distance).backward()
    assert float((faint.grad * source).sum()) < 0  # more of the source's detail is asked for


def test_grey() -> None:
    x = torch.rand(1, 3, 4, 4)
    expected = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    torch.testing.assert_close(grey_of(x)[:, 0], expected)
    x = torch.rand(1, 4, 4, 4)
    torch.testing.assert_close(grey_of(x), x.mean(1, keepdim=True))
    torch.testing.assert_close(grey_of(x, (1.0, 0.0, 0.0, 1.0))[:, 0], (x[:, 0] + x[:, 3]) / 2)
    replicated = torch.rand(1, 1, 4, 4).expand(-1, 4, -1, -1)
    torch.testing.assert_close(grey_of(replicated, (0.1, 0.2, 0.3, 0.4)), replicated[:, :1])
    with pytest.raises(BenchError, match="2 weights for 4 bands"):
        grey_of(x, (0.5, 0.5))


def test_chroma_loss_is_zero_for_multiples_of_the_grey_detail() -> None:
    detail = torch.rand(1, 1, 32, 32, dtype=torch.float64)
    gains = torch.tensor([0.5, 1.0, 1.5, 1.0], dtype=torch.float64).view(1, 4, 1, 1)
    assert chroma_loss(detail * gains, SPConfig(levels=3)) < 1e-6
    assert chroma_loss(torch.rand(1, 4, 32, 32), SPConfig(levels=3)) > 0.05


@pytest.mark.parametrize(
    ("levels", "fits"), [(1, True), (2, True), (4, True), (6, True), (7, True), (8, False)]
)
def test_levels_at_64_pixels(levels: int, fits: bool) -> None:
    method = SPI2I(SENSOR, SPConfig(levels=levels, ngf=4, ndf=4, blocks=1))
    trainer = Trainer(None, "cpu", progress=False)
    if fits:
        learner = method.learner(Source(64), trainer)
        assert len(learner.pyramid.decompose(torch.rand(1, 4, 64, 64))) == levels
        if levels == 1:  # only the residual, whose weight is fixed
            assert "gate" not in learner.networks
        else:
            assert learner.networks["gate"](torch.rand(1, 4, 64, 64), 0).shape[1] == levels
    else:
        with pytest.raises(BenchError, match=r"levels=8: training images of 64 x 64 .* at most 7"):
            method.learner(Source(64), trainer)


def test_levels_besides_the_residual_and_crops_count() -> None:
    trainer = Trainer(None, "cpu", progress=False)
    base = {"ngf": 4, "ndf": 4, "blocks": 1}
    method = SPI2I(SENSOR, SPConfig(levels=6, levels_exclude_residual=True, **base))
    assert method.learner(Source(64), trainer).pyramid.bands == 6
    with pytest.raises(BenchError, match="at most 6 levels"):
        SPI2I(SENSOR, SPConfig(levels=7, crop=32, **base)).learner(Source(64), trainer)


def test_discriminator_sees_the_gated_prediction_and_unfiltered_targets() -> None:
    _, learner = fitted(levels=3)
    draw = learner.draw()
    fake = torch.rand(2, 4, 32, 32)
    shown = learner.show(fake, draw)
    weights = learner.networks["gate"](fake, draw.index)
    levels = learner.pyramid.decompose(fake)
    expected = learner.pyramid.reconstruct(
        [w[:, None, None, None] * v for w, v in zip(weights.T, levels, strict=True)]
    )
    torch.testing.assert_close(shown.fake, expected)
    assert torch.equal(shown.real, draw.target)
    torch.testing.assert_close(torch.stack(list(shown.logged.values())), weights.mean(0))
    _, learner = fitted(levels=3, filter_real=True)
    shown = learner.show(draw.target, draw)
    torch.testing.assert_close(shown.real, shown.fake)
    _, learner = fitted(gating=False)
    assert learner.show(fake, draw).fake is fake and "gate" not in learner.networks


def test_gate_learns_from_the_adversarial_loss_alone() -> None:
    _, learner = fitted(lambda_gan=0.0, lambda_sp=3.0)
    learner.step(lambda loss: loss.backward())
    assert all(p.grad is None or not p.grad.any() for p in learner.networks["gate"].parameters())
    for rate in (1.0, 0.1):
        _, learner = fitted(gate_lr=rate)
        assert learner.optimizers["gate"].param_groups[0]["initial_lr"] == pytest.approx(2e-4 * rate)
        start = Gate(4, learner.config.bands, 5, learner.config.gate == "monotone").last.bias
        moved = (learner.networks["gate"].last.bias - start).abs().max().item()
        assert moved == pytest.approx(3 * 2e-4 * rate, rel=0.5)  # Adam's step, three times


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "free"}, {"gate_residual": True}, {"gate_detached": False}, {"gate_penalty": 0.01},
        {"sp_chroma": 1.0}, {"sp_include_residual": True}, {"levels": 1}, {"gating": False}, {"lambda_nce": 1.0},
        {"levels": 1, "gate_residual": True},
        {"lambda_nce": 1.0, "nce_identity": False}, {"bridge_noise": False}, {"time_mode": "chained"},
        {"stretch": "peak"}, {"crop": 24}, {"timesteps": 3, "nfe": 3}, {"grey": (0.1, 0.2, 0.3, 0.4)},
        {"filter_real": True}, {"skip": "detail"}, {"head": "pixel"}, {"entropy": "off"}, {"stretch": "moments"},
        {"ema": 0.9},
    ],
    ids=str,
)  # fmt: skip
def test_every_option_trains(options: dict[str, Any], tmp_path: Path) -> None:
    method, _ = fitted(tmp_path, **({"blocks": 5} if options.get("lambda_nce") else {}), **options)
    line = json.loads((tmp_path / "losses.jsonl").read_text().splitlines()[-1])
    assert ("gate0" in line) == method.config.gated
    assert method.fuse(Scene(SENSOR, pan=torch.rand(1, 1, 32, 32) * 1023)).isfinite().all()


def test_predictions_are_those_of_one_to_five_calls_and_samples_average() -> None:
    method, _ = fitted()
    x = torch.rand(2, 4, 32, 32) * 2 - 1
    with torch.no_grad():
        whole = method.predictions(x)
        assert len(whole) == 5
        for nfe in range(1, 6):
            fewer = SPI2I(SENSOR, SPI2I.configure("paper", TINY | {"nfe": nfe}))
            fewer.load_state_dict(method.state_dict())
            torch.testing.assert_close(fewer.translate(x), whole[nfe - 1])
        one = SPI2I(SENSOR, SPI2I.configure("paper", TINY | {"samples": 2}))
        one.load_state_dict(method.state_dict())
        both = one.predictions(x)[0]
    draws = torch.Generator().manual_seed(0)
    runs = []
    for _ in range(2):
        z = [torch.randn(1, 16, generator=draws)]
        for _ in range(4):
            torch.randn(4, 32, 32, generator=draws)
            z.append(torch.randn(1, 16, generator=draws))
        with torch.no_grad():
            runs.append(method.generator(x, 0, z[0].expand(2, -1)))
    torch.testing.assert_close(both, (runs[0] + runs[1]) / 2)


def test_only_film_generators_see_time() -> None:
    torch.manual_seed(0)
    x, z = torch.rand(1, 3, 32, 32), torch.randn(1, 16)
    for mode, sees in (("released", False), ("chained", False), ("film", True)):
        network = BridgeGenerator(3, 4, 2, time_mode=mode)
        with torch.no_grad():
            same = torch.allclose(network(x, 0, z), network(x, 4, z), atol=1e-6)
        assert same != sees, mode


def test_generators_cannot_see_the_brightness_or_contrast_of_their_input() -> None:
    """Norms right after the first convolution remove both, so no method of this family can keep them."""
    torch.manual_seed(0)
    network = BridgeGenerator(3, 4, 2, time_mode="film")
    x, z = torch.rand(1, 3, 32, 32), torch.randn(1, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(x, 1, z), network(0.5 * x - 0.3, 1, z), atol=2e-3, rtol=0)
