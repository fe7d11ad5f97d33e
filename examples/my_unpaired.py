"""My unpaired: colours for PAN learnt from MS images of other places, in a file of its own.

bench check --plugin my_unpaired.py
bench run --plugin my_unpaired.py --method my-unpaired --dataset qb-sim --preset quick
"""

from dataclasses import dataclass

import torch
from torch import nn

import pansharp_bench as pb
from pansharp_bench.training import Learner, TrainedMethod


@pb.register_method(
    "my-unpaired",
    title="My unpaired",
    kind="unpaired",
    sees="pan",  # at inference: PAN alone, no MS
    training="unpaired",  # PAN of some places and MS of others; no pair is ever served
    # paper="Authors: Title. Journal", doi="10.1109/…", year=2026, licence="MIT",
)
class MyUnpaired(TrainedMethod):
    """A curve from PAN to each band, until the bands' means and covariance are those of MS images."""

    @dataclass(frozen=True)
    class Config(TrainedMethod.Config):
        steps: int = 1000
        batch: int = 8
        lr: float = 1e-2
        width: int = 16

    presets = {"quick": {"steps": 200}, "standard": {}, "paper": {"steps": 10_000}}  # noqa: RUF012

    def __init__(self, sensor, config=None):
        super().__init__(sensor, config)
        width = self.config.width
        self.curve = nn.Sequential(nn.Conv2d(1, width, 1), nn.Tanh(), nn.Conv2d(width, sensor.channels, 1))

    def forward(self, pan):
        return (pan + self.sensor.peak * self.curve(pan / self.sensor.peak)).clamp(1, self.sensor.peak)

    def fuse(self, scene):
        return self(scene.pan)  # scene.ms and scene.lms are None: the card says sees="pan"

    def fit(self, data, trainer):
        trainer.run(_Learner(self, data, trainer), self.config.steps)


def _moments(images):
    """Means (C,) and covariance (C, C) of the bands of (N, C, H, W)."""
    pixels = images.transpose(0, 1).flatten(1)
    return pixels.mean(1), torch.cov(pixels)


class _Learner(Learner):
    def __init__(self, method, data, trainer):
        super().__init__()
        self.data, self.trainer, self.config = data, trainer, method.config
        self.peak = method.sensor.peak
        self.networks["net"] = method
        self.optimizers["net"] = torch.optim.Adam(method.parameters(), lr=self.config.lr)

    def step(self, backward):
        # PAN (n, 1, H, W) and, of other places, MS on PAN's grid (n, C, H, W), in DN, drawn apart.
        pan, ms = self.data.draw(self.config.batch, self.config.batch, self.trainer.generator)
        ours, theirs = (_moments(x / self.peak) for x in (self.networks["net"](pan), ms))
        loss = sum((a - b).abs().sum() for a, b in zip(ours, theirs, strict=True))
        self.optimizers["net"].zero_grad()
        backward(loss)
        self.optimizers["net"].step()
        return {"moments": loss.detach()}
