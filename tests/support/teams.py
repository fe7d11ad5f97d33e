"""Trainings that each process of a team can carry out: at least sizes, in float64, lest Adam enlarge rounding."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from splits import Random
from torch import Tensor

from pansharp_bench.method import TrainedMethod, build, resolve_config, takes_steps
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import as_sensor
from pansharp_bench.training import ALONE, PairedData, Team, Trainer, UnpairedData

STEPPED = [e.name for e in METHODS if e.origin.startswith("pansharp_bench.") and takes_steps(e)]
LEAST = {
    "steps": 3, "batch": 2, "validations": 1, "validate_on": 3, "ngf": 4, "ndf": 4, "blocks": 5, "width": 8,
    "clusters": 4, "samples": 2, "hidden": 8, "augment": "dihedral", "nce_width": 8, "nce_patches": 16,
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {  # where 8 channels do not go, and what meets more of what crosses a batch
    "pancrafter": {"width": 32, "heads": 4, "crop": 0.75},
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
    side = max(16, entry.card.smallest // 8 * 8 + 8 if entry.card.kind == "unpaired" else 0)
    train, valid = Random(sensor, 4, side), Random(sensor, 3, side)
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


def train_all(names: list[str], team: Team = ALONE) -> dict[str, Any]:
    return {name: trained(name, team) for name in names}
