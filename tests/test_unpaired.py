"""UNSB, CUT, FastCUT and SP-I2I as methods: equal to their plain formulation, unpaired, deterministic."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pansharp_bench.methods.cut import CUTLearner
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Sensor
from pansharp_bench.training import Trainer

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
        learner.source, learner.target = (lambda n: a[:n]), (lambda n: b[:n])
        return replace(learner.draw(), mirrored=learner.config.flip_equivariance and index > 0)
    start = torch.cat((a[:2], b, a[2:])) if learner.contrasted else a.contiguous()
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
        ("sp-i2i", {"nce": True}),
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
