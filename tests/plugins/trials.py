"""A plug-in file beside tiny.py: methods that try the patience of those who run them."""

import os
import signal
import time
from dataclasses import dataclass

import torch
from torch import nn

import pansharp_bench as pb
from pansharp_bench.training import Learner, TrainedMethod


@pb.register_method("hungry", kind="classical")
def hungry(lms, *, sensor):
    """Takes memory until somebody stops it"""
    eaten = []
    while len(eaten) < 40:
        eaten.append(torch.ones(16 << 20))
        time.sleep(0.1)
    return lms


@pb.register_method("sleeper", kind="deep", training="paired")
class Sleeper(TrainedMethod):
    """Sleeps at every step; at one of them its process dies, the first time"""

    @dataclass(frozen=True)
    class Config(TrainedMethod.Config):
        steps: int = 40
        pause: float = 0.05
        die_at: int = 0

    presets = {"quick": {}}  # noqa: RUF012

    def __init__(self, sensor, config=None):
        super().__init__(sensor, config)
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, lms):
        return self.gain * lms

    def fit(self, data, trainer):
        trainer.run(SleepLearner(self, data, trainer), self.config.steps, checkpoint_every=10, log_every=1)

    def fuse(self, scene):
        return self(scene.lms)


class SleepLearner(Learner):
    def __init__(self, method, data, trainer):
        super().__init__()
        self.data, self.trainer, self.config, self.count = data, trainer, method.config, 0
        self.networks["net"] = method
        self.optimizers["net"] = torch.optim.SGD(method.parameters(), 1e-4)

    def step(self, backward):
        self.count += 1
        time.sleep(self.config.pause)
        died = self.trainer.folder.path / "died"
        if self.count == self.config.die_at and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        scene = self.data.batch(1, self.trainer.generator)
        loss = (self.networks["net"](scene.lms / 2047) - scene.gt / 2047).abs().mean()
        self.optimizers["net"].zero_grad()
        backward(loss)
        self.optimizers["net"].step()
        return {"l1": loss.detach()}

    def state(self):
        return {"count": self.count}

    def load_state(self, state):
        self.count = state["count"]
