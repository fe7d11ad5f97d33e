"""My paired: a network that learns from registered pairs, in a file of its own.

bench check --plugin my_paired.py
bench run --plugin my_paired.py --method my-paired --dataset qb-sim --preset quick
"""

from dataclasses import dataclass

import torch
from torch import nn

import pansharp_bench as pb
from pansharp_bench.training import Learner, TrainedMethod


@pb.register_method(
    "my-paired",
    title="My paired",
    kind="deep",
    sees="pan+ms",  # at inference
    training="paired",  # registered samples with a reference
    # paper="Authors: Title. Journal", doi="10.1109/…", year=2026, licence="MIT",
)
class MyPaired(TrainedMethod):
    """Three convolutions that add detail to the expanded MS."""

    # Every option, with its default. They are changed by `--set lr=1e-4`, stand in the record, and tell runs apart.
    @dataclass(frozen=True)
    class Config(TrainedMethod.Config):
        steps: int = 2000
        batch: int = 16
        lr: float = 1e-3
        width: int = 32
        validations: int = 4

    # quick: minutes on two cores; standard: minutes on a GPU; paper: as published.
    presets = {"quick": {"steps": 400}, "standard": {}, "paper": {"steps": 100_000}}  # noqa: RUF012

    def __init__(self, sensor, config=None):
        super().__init__(sensor, config)  # self.sensor, self.config
        width, bands = self.config.width, sensor.channels
        self.layers = nn.Sequential(
            nn.Conv2d(bands + 1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, bands, 3, padding=1),
        )

    def forward(self, pan, lms):
        """In [0, 1] and back: a method owns its normalisation."""
        pan, lms = pan / self.sensor.peak, lms / self.sensor.peak
        return (lms + self.layers(torch.cat([pan, lms], 1))) * self.sensor.peak

    def fuse(self, scene):
        # What the card says it sees, on the device, in DN; (N, C, H, W) DN is given back. Everything that is needed
        # here must be in state_dict(): parameters and buffers.
        return self(scene.pan, scene.lms)

    def fit(self, data, trainer):
        # `trainer.run` steps the learner, with progress, log, checkpoints, exact resume, and the best state by
        # `validate`. What is returned (JSON-able) stands in the record.
        steps = self.config.steps
        trainer.run(_Learner(self, data, trainer), steps, max(1, steps // self.config.validations))


class _Learner(Learner):
    def __init__(self, method, data, trainer):
        super().__init__()
        self.data, self.trainer, self.config = data, trainer, method.config
        # Under one key: a network and its optimiser. The trainer replaces both by forms prepared for device and
        # precision, so a step reaches them through these dicts.
        self.networks["net"] = method
        self.optimizers["net"] = torch.optim.Adam(method.parameters(), lr=self.config.lr)

    def step(self, backward):
        # n samples drawn on the device, as a Scene of pan, ms, lms, gt in DN; "dihedral" turns and mirrors them.
        scene = self.data.batch(self.config.batch, self.trainer.generator, "dihedral")
        loss = (self.networks["net"](scene.pan, scene.lms) - scene.gt).abs().mean()
        self.optimizers["net"].zero_grad()
        backward(loss)  # not loss.backward(): it scales where the precision wants it
        self.optimizers["net"].step()
        return {"l1": loss.detach()}  # for the log; no .item(), which would wait for the device

    def validate(self):
        """Lower is better; the best state is kept."""
        scene = self.data.valid[:].to(self.trainer.device)
        return float((self.networks["net"](scene.pan, scene.lms) - scene.gt).abs().mean())
