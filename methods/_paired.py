"""What the paired networks share: options, normalisation, sampling, one training step, selection, inference.

A method gives a network and says how it is called (:meth:`PairedMethod.predict`) and, where it is not a plain
L1, what it is trained on (:meth:`PairedMethod.losses`). Inside, images are divided by the sensor's peak DN.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.imaging import decimate
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Backward, Learner, PairedData, TrainedMethod, Trainer
from pansharp_bench.training.samplers import Augment, load_resident

Schedule = Literal["constant", "step", "cosine"]


@dataclass(frozen=True)
class PairedConfig(TrainedMethod.Config):
    """Options every paired method has.

    Training lasts ``steps`` steps or ``epochs`` passes over the samples; the other is 0. ``schedule``:
    ``constant``, ``step`` (a tenth from half-way on) or ``cosine`` (down to 0), after ``warmup`` steps of
    linear rise. ``loss``: mean absolute (``l1``) or squared (``mse``) error. ``clip`` bounds the gradient's
    norm; 0 leaves it. ``validations`` is how many times, evenly spread, the mean absolute error on the
    validation split is taken, on ``validate_on`` of its samples, evenly spread (0: all); the best state is kept.
    ``peak`` is the DN that becomes 1; 0 takes the sensor's.
    """

    steps: int = 1000
    epochs: int = 0
    batch: int = 32
    lr: float = 1e-3
    schedule: Schedule = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    clip: float = 0.0
    augment: Augment = "none"
    validations: int = 20
    validate_on: int = 0
    loss: Literal["l1", "mse"] = "l1"
    peak: float = 0.0
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.epochs) < 0 or (self.steps > 0) == (self.epochs > 0):
            raise ValueError(f"one of steps={self.steps} and epochs={self.epochs} must be 0, the other more")
        if min(self.batch, self.validations) < 1 or min(self.lr, self.peak, self.clip, self.warmup) < 0:
            raise ValueError("batch and validations must be at least 1, and nothing may be negative")


LIGHT: dict[str, dict[str, Any]] = {
    "quick": {
        "steps": 600,
        "batch": 16,
        "lr": 1e-3,
        "schedule": "cosine",
        "validations": 3,
        "validate_on": 128,
    },
    "standard": {"steps": 20_000, "batch": 32, "lr": 1e-3, "schedule": "cosine"},
}
"""Presets of the small convolutional networks, beside each one's own ``paper``."""


class SkipBlock(nn.Module):
    """conv, ReLU, conv, and a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(torch.relu(self.conv1(x)))


class Perceptron(nn.Module):
    """Two linear layers with a GELU between, exact (``none``) or by its ``tanh`` approximation."""

    def __init__(self, width: int, hidden: int, gelu: str = "none") -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.gelu = gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate=self.gelu))


class Batch(NamedTuple):
    """Registered samples divided by the peak: pan (N, 1, H, W), ms (N, C, H/4, W/4), lms and gt (N, C, H, W);
    ``samples`` (N,) says which of the training samples they are, ``epoch`` (from 1) how often those were seen."""

    pan: Tensor
    ms: Tensor
    lms: Tensor
    gt: Tensor
    samples: Tensor
    epoch: int


class PairedMethod(TrainedMethod):
    """Base of the paired networks; a subclass gives ``Config``, ``presets``, ``network`` and, where these
    differ, ``divisor``, ``predict``, ``losses`` and ``learner``."""

    Config = PairedConfig
    divisor = 4
    """Height and width of PAN must be multiples of this; others are padded here and cropped back."""

    config: PairedConfig
    peak: Tensor

    def __init__(self, sensor: Sensor, config: PairedConfig | None = None) -> None:
        super().__init__(sensor, config or self.configure("quick"))
        if sensor.ratio != 4:
            raise BenchError(f"this network is made for ratio 4; sensor {sensor.name!r} has {sensor.ratio}")
        self.net = self.network()
        # part of the state, for weights are worth nothing without the scale they were trained on
        self.register_buffer("peak", torch.tensor(float(self.config.peak or sensor.peak)))

    def network(self) -> nn.Module:
        """The network with fresh weights."""
        raise NotImplementedError

    def predict(self, net: nn.Module, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        """The fused image, all divided by the peak, from sizes that are multiples of ``divisor``."""
        return net(pan, ms, lms)

    def rate(self) -> tuple[float, Schedule]:
        """Learning rate and its course; overridden where the authors' depend on the sensor."""
        return self.config.lr, self.config.schedule

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """``loss`` is differentiated; others are logged."""
        return {"loss": self.distance(self.predict(net, batch.pan, batch.ms, batch.lms), batch.gt)}

    def distance(self, fused: Tensor, truth: Tensor) -> Tensor:
        return F.mse_loss(fused, truth) if self.config.loss == "mse" else F.l1_loss(fused, truth)

    def learner(self, data: PairedData, trainer: Trainer, steps: int) -> PairedLearner:
        return PairedLearner(self, data, trainer, steps)

    def fit(self, data: PairedData, trainer: Trainer) -> dict[str, Any]:
        """Train, and keep the state of least mean absolute error on the validation split."""
        c = self.config
        self.to(trainer.device)
        if c.channels_last:
            self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if c.compile:
            self.net.compile()
        steps = c.steps or c.epochs * math.ceil(len(data) / c.batch)
        learner = self.learner(data, trainer, steps)
        every = max(1, steps // c.validations)
        trainer.run(learner, steps, validate_every=every)
        return {"peak": float(self.peak), "batch": learner.batch, "epochs": learner.epochs_done}

    @torch.no_grad()
    def fuse(self, scene: Scene) -> Tensor:
        """(N, C, H, W) DN from pan, ms and lms; any size, on the scene's device and in its type."""
        if scene.ms is None or scene.lms is None:
            raise BenchError(f"method {self.card.name!r} fuses PAN with MS: the scene must have ms and lms")
        weight = next(self.net.parameters())
        # a network knows MS pixels where they lay on PAN in training
        ms = scene.ms if scene.sensor.phase == self.sensor.phase else decimate(scene.lms, self.sensor)
        pan, ms, lms = (x.to(weight.dtype) / self.peak for x in (scene.pan, ms, scene.lms))
        h, w = pan.shape[-2:]
        down, right = -h % self.divisor, -w % self.divisor
        if down or right:
            pan, lms = (F.pad(x, (0, right, 0, down), mode="replicate") for x in (pan, lms))
            ms = F.pad(ms, (0, right // 4, 0, down // 4), mode="replicate")
        with evaluating(self.net):
            fused = self.predict(self.net, pan, ms, lms)[..., :h, :w]
        return (fused * self.peak).to(scene.pan.dtype)

    def own_keys(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        if any(k.startswith("net.") for k in state):  # saved by a run of ours
            return state
        return {"peak": self.authors_peak()} | {f"net.{k}": v for k, v in self.authors_keys(state).items()}

    def authors_keys(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """The authors' state dict under the network's keys; overridden where these are not the same."""
        return state

    def authors_peak(self) -> Tensor:
        """The DN that became 1 when the authors trained; overridden where that is not the sensor's peak."""
        return self.peak


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, for a while."""
    was = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(was)


class PairedLearner(Learner):
    """AdamW on shuffled batches; every sample comes once per epoch, and an incomplete last batch is filled
    with the epoch's first samples."""

    def __init__(self, method: PairedMethod, data: PairedData, trainer: Trainer, steps: int) -> None:
        super().__init__()
        c = method.config
        sides = data.scenes(torch.zeros(1, dtype=torch.int64, device=data.device)).pan.shape[-2:]
        if any(side % method.divisor for side in sides):
            raise DataError(
                f"this network learns from images whose sides are multiples of {method.divisor}; those of split "
                f"'train' have {sides[0]} x {sides[1]}"
            )
        self.method, self.data, self.trainer = method, data, trainer
        self.batch = min(c.batch, len(data))
        self.per_epoch = math.ceil(len(data) / self.batch)
        self.at = 0
        self.valid = load_resident(
            data.valid, ("pan", "ms", "lms", "gt"), data.device, progress=trainer.progress
        )
        parameters = [p for p in method.net.parameters() if p.requires_grad]
        rate, schedule = method.rate()
        optimizer = AdamW(
            parameters, lr=rate, weight_decay=c.weight_decay, fused=trainer.device.type == "cuda"
        )
        self.networks = {"net": method.net}
        self.optimizers = {"net": optimizer}
        self.schedulers = {"net": LambdaLR(optimizer, lambda i: factor(schedule, i, steps, c.warmup))}

    @property
    def epochs_done(self) -> float:
        return round(self.at / self.per_epoch, 3)

    def step(self, backward: Backward) -> dict[str, Tensor]:
        optimizer = self.optimizers["net"]
        losses = self.losses(self.next_batch())
        optimizer.zero_grad(set_to_none=True)
        backward(losses["loss"])
        if clip := self.method.config.clip:
            torch.nn.utils.clip_grad_norm_(self.networks["net"].parameters(), clip)
        optimizer.step()
        return {k: v.detach() for k, v in losses.items()}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.losses(self.networks["net"], batch)

    def next_batch(self) -> Batch:
        epoch, position = divmod(self.at, self.per_epoch)
        self.at += 1
        # an epoch's order follows from the seed and its number, so a resumed run needs no other memory
        if position == 0 or not hasattr(self, "order"):
            generator = torch.Generator().manual_seed(hash((self.trainer.seed, epoch)) % 2**63)
            order = torch.randperm(len(self.data), generator=generator)
            order = torch.cat([order, order[: self.batch]])
            self.order = order.to(self.data.device, non_blocking=True)
        samples = self.order[position * self.batch : (position + 1) * self.batch]
        scene = self.data.batch(samples, self.trainer.generator, self.method.config.augment)
        assert scene.ms is not None and scene.lms is not None and scene.gt is not None
        pan, ms, lms, gt = (x / self.method.peak for x in (scene.pan, scene.ms, scene.lms, scene.gt))
        return Batch(pan, ms, lms, gt, self.trainer.team.share(samples), epoch + 1)

    def validate(self) -> float:
        """Mean absolute error on validation samples, as a share of the peak."""
        device, n, team = self.data.device, len(self.valid["gt"]), self.trainer.team
        chosen = torch.linspace(0, n - 1, min(n, self.method.config.validate_on or n), device=device)
        errors = []
        for index in chosen.round().long()[team.part(len(chosen), device)].split(64):
            pan, ms, lms, gt = (self.valid[k].take(index) for k in ("pan", "ms", "lms", "gt"))
            fused = self.method.fuse(Scene(self.data.sensor, pan, ms, lms))
            errors.append((fused - gt).abs().mean((1, 2, 3)))
        return float(team.gather(torch.cat(errors))[: len(chosen)].mean() / self.method.peak)

    def state(self) -> dict[str, Any]:
        return {"at": self.at}

    def load_state(self, state: dict[str, Any]) -> None:
        self.at = state["at"]
        self.__dict__.pop("order", None)


def factor(schedule: Schedule, step: int, steps: int, warmup: int = 0) -> float:
    """What the learning rate is multiplied with at a step.

    >>> [round(factor("cosine", i, 9, warmup=1), 2) for i in (0, 1, 5, 9)]
    [1.0, 1.0, 0.5, 0.0]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    if schedule == "step":
        return 1.0 if progress < 0.5 else 0.1
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    return 1.0
