"""Bands from other bands, pixel by pixel, by a small network."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from pansharp_bench.methods.affine_regression import AffineRegression, every_pixel, pixels
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor
from pansharp_bench.training import Backward, Learner, PairedData, TrainedMethod, Trainer

_VALID = 128  # validation samples looked at


@register_method(
    "pixel-regression", title="Pixel regression", kind="deep", sees="pan", training="paired", tracks=("bands",),
    licence="MIT",
)  # fmt: skip
class PixelRegression(AffineRegression):
    """The least-squares affine map, corrected by a network of two hidden layers.

    Pixel by pixel, because what is learnt from one camera must hold for images finer than its own, and a pixel has
    no resolution. Trained on the squared error, each band's in units of its own deviation: a dim band (methane)
    counts as much as a bright one.
    """

    closed_form = False

    @dataclass(frozen=True)
    class Config(TrainedMethod.Config):
        """``samples`` images are drawn for a step, and ``batch`` of their pixels; ``hidden``: width of the layers;
        ``validations``: how often the error on the validation split is taken, to keep the best state."""

        steps: int = 3000
        samples: int = 16
        batch: int = 8192
        hidden: int = 32
        lr: float = 3e-3
        validations: int = 6

        def __post_init__(self) -> None:
            if min(self.steps, self.samples, self.batch, self.hidden, self.validations) < 1 or self.lr <= 0:
                raise ValueError("steps, samples, batch, hidden, validations and lr must be positive")

    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {}, "standard": {"steps": 20_000, "hidden": 64}, "paper": {"steps": 20_000, "hidden": 64}
    }  # fmt: skip
    config: Config
    scale: Tensor

    def __init__(self, sensor: Sensor, config: Config | None = None) -> None:
        super().__init__(sensor, config)
        widths = (sensor.source_bands, self.config.hidden, self.config.hidden, sensor.channels)
        first, second, last = (nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.correction = nn.Sequential(first, nn.GELU(), second, nn.GELU(), last)
        nn.init.zeros_(last.weight)  # it begins as the affine map
        nn.init.zeros_(last.bias)
        self.register_buffer("scale", torch.ones(sensor.channels))

    def fit(self, data: PairedData, trainer: Trainer) -> dict[str, Any]:
        affine = super().fit(data, trainer)
        looked = torch.arange(0, len(data), max(1, len(data) // _VALID), device=data.device)
        spread = pixels(data.scenes(looked))[1].std(0).nan_to_num(0)  # NaN of fewer than two pixels
        self.scale.copy_(spread.clamp_min(1e-6 * self.sensor.peak))
        learner = _PixelLearner(self, data, trainer)
        every = max(1, self.config.steps // self.config.validations)
        trainer.run(learner, self.config.steps, validate_every=every)
        return {"affine": affine}

    def values(self, x: Tensor) -> Tensor:
        return self.corrected(x, self.correction)

    def corrected(self, x: Tensor, network: nn.Module) -> Tensor:
        """(m, C) of source values (m, S), the correction by this network."""
        place = (x.clamp(self.low, self.high) - self.low) / (self.high - self.low).clamp_min(1e-12)
        return super().values(x) + self.scale * network(2 * place - 1).float()


class _PixelLearner(Learner):
    def __init__(self, method: PixelRegression, data: PairedData, trainer: Trainer) -> None:
        super().__init__()
        c = method.config
        self.method, self.data, self.trainer, self.device = method, data, trainer, trainer.device
        every = max(1, len(data.valid) // _VALID)
        parts = [pixels(data.valid[i].to(data.device)) for i in range(0, len(data.valid), every)]
        self.valid = tuple(torch.cat(v) for v in zip(*parts, strict=True))
        optimizer = Adam(method.correction.parameters(), lr=c.lr)
        self.networks = {"correction": method.correction}
        self.optimizers = {"correction": optimizer}
        self.schedulers = {"correction": CosineAnnealingLR(optimizer, c.steps)}

    def step(self, backward: Backward) -> dict[str, Tensor]:
        c = self.method.config
        images = torch.randint(
            len(self.data),
            (min(c.samples, len(self.data)),),
            generator=self.trainer.generator,
            device=self.device,
        )
        x, y, seen = every_pixel(self.data.scenes(images))
        count = seen.cumsum(0)  # a mask would make the host wait for how many there are
        chance = torch.rand(min(c.batch, len(x)), generator=self.trainer.generator, device=self.device)
        chance = self.trainer.team.share(chance)
        index = torch.searchsorted(count, (chance * count[-1]).long().clamp_max(count[-1] - 1) + 1)
        loss = self.loss(x[index], y[index]) * count[-1].clamp_max(1)  # of blank images nothing is learnt
        self.optimizers["correction"].zero_grad(set_to_none=True)
        backward(loss)
        self.optimizers["correction"].step()
        return {"loss": loss.detach()}

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        made = self.method.corrected(x, self.networks["correction"])
        return F.mse_loss(made / self.method.scale, y / self.method.scale)

    def validate(self) -> float:
        return float(self.loss(*self.valid))
