"""A plug-in file: a tiny in-memory dataset, a function method and a learner of one number.

It shows that everything plugs in from outside, and gives the engine's tests something quick to run.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

import pansharp_bench as pb
from pansharp_bench.imaging import interp23
from pansharp_bench.scene import Dataset, FileIdentity, Scene, Split, as_sensor
from pansharp_bench.training import Learner, TrainedMethod

SIZES = {"train": (16, 64), "valid": (4, 64), "reduced": (3, 128), "full": (2, 128)}


class TinySplit(Split):
    def __init__(self, name, sensor):
        self.name, self.sensor = name, sensor
        self.keys = ("pan", "ms", "lms") if name == "full" else ("pan", "ms", "lms", "gt")
        n, size = SIZES[name]
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        coarse = torch.rand(n, sensor.channels, size // 8, size // 8, generator=generator)
        self.gt = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear") * sensor.peak
        self.gt = (self.gt + 40 * torch.randn(self.gt.shape, generator=generator)).clamp(1, sensor.peak)

    def __len__(self):
        return len(self.gt)

    def __getitem__(self, index):
        part = slice(index, index + 1) if isinstance(index, int) else index
        gt = self.gt[part]
        ms = torch.nn.functional.avg_pool2d(gt, 4)
        return Scene(
            self.sensor,
            pan=gt.mean(1, keepdim=True),
            ms=ms,
            lms=interp23(ms),
            gt=gt if "gt" in self.keys else None,
        )


class Tiny(Dataset):
    """Three small random scenes, made in memory"""

    def __init__(self, root=None, label=None):
        self.sensor = as_sensor("qb")
        self.name = "tiny" + (f"-{label}" if label else "")

    def available(self):
        return tuple(SIZES)

    def split(self, name):
        return TinySplit(name, self.sensor)

    def files(self, *splits):
        return tuple(
            FileIdentity(s, Path(f"{s}.mem"), 0, hashlib.sha256(s.encode()).hexdigest(), None)
            for s in splits or SIZES
        )

    def provenance(self):
        return {"made_by": "tests"}


pb.register_dataset("tiny", title="Tiny", sensor="qb")(Tiny)


@pb.register_method("half", kind="classical")
def half(lms, *, sensor):
    """Half of the interpolated MS: a poor method"""
    return lms / 2


@pb.register_method("gain", title="Gain", kind="deep", training="paired")
class Gain(TrainedMethod):
    """One learnt gain per band on the interpolated MS"""

    @dataclass(frozen=True)
    class Config(TrainedMethod.Config):
        steps: int = 40
        lr: float = 0.05
        select: bool = True
        explode_at: int = 0

    presets = {"quick": {}, "paper": {"steps": 60}}  # noqa: RUF012

    def __init__(self, sensor, config=None):
        super().__init__(sensor, config)
        self.gain = nn.Conv2d(sensor.channels, sensor.channels, 1, groups=sensor.channels, bias=False)
        self.dropout = nn.Dropout(0.1)

    def forward(self, lms):
        return self.gain(self.dropout(lms))

    def fit(self, data, trainer):
        trainer.run(
            GainLearner(self, data, trainer),
            self.config.steps,
            validate_every=10 if self.config.select else 0,
            checkpoint_every=15,
            log_every=4,
        )

    def fuse(self, scene):
        return self(scene.lms / scene.sensor.peak) * scene.sensor.peak


class GainLearner(Learner):
    def __init__(self, method, data, trainer):
        super().__init__()
        self.data, self.trainer, self.config = data, trainer, method.config
        self.count = 0
        self.networks["net"] = method
        self.optimizers["net"] = torch.optim.Adam(method.parameters(), lr=method.config.lr)
        self.schedulers["net"] = torch.optim.lr_scheduler.StepLR(self.optimizers["net"], 20, 0.5)

    def step(self, backward):
        scene = self.data.batch(4, self.trainer.generator, "dihedral")
        self.count += 1
        loss = (self.networks["net"](scene.lms / 2047) - scene.gt / 2047).abs().mean()
        if self.count == self.config.explode_at:
            loss = loss * float("inf")
        self.optimizers["net"].zero_grad()
        backward(loss)
        self.optimizers["net"].step()
        return {"l1": loss.detach()}

    def validate(self):
        scene = self.data.valid[:]
        return float((self.networks["net"](scene.lms / 2047) - scene.gt / 2047).abs().mean())

    def state(self):
        return {"count": self.count}

    def load_state(self, state):
        self.count = state["count"]
