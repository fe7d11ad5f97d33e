"""Trainings that each process of a team can carry out: at least sizes, in float64, lest Adam enlarge rounding."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from splits import Random
from torch import Tensor, nn

from pansharp_bench.errors import BenchError
from pansharp_bench.method import TrainedMethod, build, resolve_config
from pansharp_bench.presets import takes_steps
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import as_sensor
from pansharp_bench.training import ALONE, Backward, Learner, PairedData, Team, Trainer, UnpairedData

STEPPED = [e.name for e in METHODS if e.origin.startswith("pansharp_bench.") and takes_steps(e)]
SIDE = 24
LEAST = {
    "steps": 3, "batch": 2, "validations": 1, "validate_on": 3, "ngf": 4, "ndf": 4, "blocks": 5, "width": 8,
    "clusters": 4, "samples": 2, "hidden": 8, "augment": "dihedral", "nce_width": 8, "nce_patches": 16,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {  # where 8 channels do not go, and what meets more of what crosses a batch
    "pancrafter": {"width": 32, "heads": 4, "crop": 0.75, "steps": 1},
    "lagnet": {"steps": 1},
    "msdcnn": {"steps": 1},
    "canconv": {"augment": "none"},
    "dcpnet": {"steps": 1},
    "sp-i2i": {"sp_chroma": 0.1, "lambda_grey": 1.0, "ema": 0.9},
    "unsb": {"entropy": "bounded", "crop": 24},
}


def trained(name: str, team: Team = ALONE) -> tuple[dict[str, Tensor], dict[str, float], float | None]:
    """Weights, mean losses and the score of selection of a method."""
    entry = METHODS.get(name)
    sensor = as_sensor("qb" if "pansharpening" in entry.card.tracks else "junocam2hst-uvm")
    known = {f.name for f in fields(entry.obj.configure("quick"))}
    options = {k: v for k, v in (LEAST | OWN.get(name, {})).items() if k in known}
    trainer = Trainer(None, "cpu", "64-true", progress=False, team=team)
    method = build(entry, sensor, resolve_config(entry, "quick", options))
    assert isinstance(method, TrainedMethod)
    train, valid = Random(sensor, 4, SIDE), Random(sensor, 3, SIDE)
    if sensor.source_bands == sensor.channels:  # equal ones would leave a regression on them undetermined
        train.all.pan.copy_(train.all.gt)
    load = UnpairedData.halves if entry.card.training == "unpaired" else PairedData
    data = load(sensor, train, valid, trainer.device, team=team)
    method.train()
    if entry.card.kind == "unpaired":  # the gradients of a silent head are of the size of float32's rounding
        torch.set_default_dtype(torch.float64)  # of what prepared networks give
        method.double()
        draw = data.draw
        data.draw = lambda *args: tuple(x.double() for x in draw(*args))
    try:
        method.fit(data, trainer)
    finally:
        torch.set_default_dtype(torch.float32)
    assert trainer.summary is not None
    return method.state_dict(), trainer.summary.losses, trainer.summary.best_score


class Line(Learner):
    """Two numbers, and what comes of a network's own draws in one of them."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        sensor = as_sensor("qb")
        self.trainer = trainer
        self.data = PairedData(sensor, Random(sensor, 6), Random(sensor), trainer.device, team=trainer.team)
        self.networks["line"] = nn.Conv2d(1, 1, 1)
        self.optimizers["line"] = torch.optim.Adam(self.networks["line"].parameters(), 0.01)

    def step(self, backward: Backward) -> dict[str, Tensor]:
        scene = self.data.batch(4, self.trainer.generator, "flips")
        noise = torch.randn(4, 1, 1, 1, generator=self.trainer.generator)
        x, y = scene.pan / 2047 + self.trainer.team.share(noise), scene.lms.mean(1, keepdim=True) / 2047
        loss = (self.networks["line"](x) - y).square().mean()
        self.optimizers["line"].zero_grad()
        backward(loss)
        self.optimizers["line"].step()
        return {"loss": loss.detach()}


def line(folder: Path, steps: int, resume: bool, team: Team = ALONE) -> list[float]:
    """The two numbers after so many steps."""
    trainer = Trainer(
        None if team.rank else folder, "cpu", "64-true", resume=resume, progress=False, team=team
    )
    learner = Line(trainer)
    trainer.run(learner, steps, log_every=2)
    return [p.item() for p in learner.networks["line"].parameters()]


def work(folder: Path, team: Team = ALONE) -> tuple[dict[str, Any], list[float]]:
    """Every method trained, and a training of two steps taken up for two more."""
    return {name: trained(name, team) for name in STEPPED}, line(folder, 4, True, team)


class Unlucky(Line):
    """Fails in the second step, where others already wait for its gradients."""

    def step(self, backward: Backward) -> dict[str, Tensor]:
        if self.trainer.team.rank and self.optimizers["line"].state:
            raise BenchError("no such luck")
        return super().step(backward)


class Aside(Line):
    """Has a weight that no loss reaches."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self.networks["line"].register_parameter("aside", nn.Parameter(torch.ones(1)))


class Thawed(Line):
    """Begins to learn in its second step."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self.networks["late"] = nn.Conv2d(1, 1, 1).requires_grad_(False)

    def step(self, backward: Backward) -> dict[str, Tensor]:
        self.networks["late"](torch.ones(1, 1, 1, 1))
        self.networks["late"].requires_grad_(True)
        return super().step(backward)


def mistaken(team: Team) -> list[str]:
    """What is said of trainings that cannot be shared out."""
    said = []
    for kind in (Aside, Thawed):
        trainer = Trainer(None, "cpu", progress=False, team=team)
        try:
            trainer.run(kind(trainer), 3)
        except BenchError as error:
            said.append(str(error))
    return said


def fail(team: Team) -> None:
    trainer = Trainer(None, "cpu", progress=False, team=team)
    trainer.run(Unlucky(trainer), 3)
