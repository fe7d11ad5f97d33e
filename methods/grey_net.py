"""grey-net: colours learnt from the target's own grey, whose translation is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import decimate
from pansharp_bench.methods._closed_form import moments, ms_like
from pansharp_bench.methods._unpaired.base import TranslationMethod
from pansharp_bench.methods._unpaired.learner import TranslationLearner
from pansharp_bench.methods._unpaired.networks import Generator, Head, LowPass, Skip
from pansharp_bench.methods._unpaired.options import Stretch, TranslationOptions
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor
from pansharp_bench.training import Learner, Trainer, UnpairedData
from pansharp_bench.training.loop import Backward


@dataclass(frozen=True)
class GreyNetConfig(TranslationOptions):
    """``kappa``: how much of PAN's detail a band gets, in units of the bands' deviations; 0: what
    :func:`detail_share` measures for each."""

    lr: float = 1e-3
    decay: float = 1.0
    stretch: Stretch = "moments"
    skip: Skip = "detail"
    lambda_grey: float = 1.0
    head: Head = "pixel"
    kappa: float = 0.0

    def check(self) -> None:
        if self.lambda_grey <= 0:
            raise BenchError(
                f"option lambda_grey={self.lambda_grey}: grey-net is nothing without the loss of its grey"
            )


class GreyNetLearner(TranslationLearner):
    """Squared error of the colours that G gives to the grey of target images; no adversary, no PAN but its
    moments."""

    def __init__(self, method: GreyNet, data: UnpairedData, trainer: Trainer) -> None:
        super().__init__(method, data, trainer)
        self.optimise()

    def step(self, backward: Backward) -> dict[str, Tensor]:
        target = self._crop(self.data.draw(0, self.config.batch, self.draws, self.config.augment)[1])
        coloured = self.colour_loss(self.method.normaliser.ms(target), self.networks["G"])
        loss = self.config.lambda_grey * coloured
        self.update(loss, backward, "G")
        return {"loss": loss.detach()}


@register_method(
    "grey-net", title="Grey net", kind="unpaired", sees="pan", training="unpaired",
    paper="none: a method of this suite (docs/sp-i2i.md)", year=2026, licence="MIT", smallest=12,
)  # fmt: skip
class GreyNet(TranslationMethod):
    """Regression on the grey of MS, whose translation is known, colours low-passed PAN; PAN's detail is added.

    Trained on MS images alone, whose grey (the bands' mean) is carried to the mean and deviation of low-passed PAN
    of other scenes. At inference MS_b = G(low)_b + κ_b (PAN - low), all in units of the bands' deviations.
    """

    Config = GreyNetConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {"steps": 400, "batch": 4, "ngf": 16, "blocks": 5, "ema": 0.99, "validations": 2},
        "standard": {"steps": 8000, "batch": 16, "ema": 0.999},
        "paper": {},
    }
    config: GreyNetConfig
    generator: Generator
    kappa: Tensor

    def __init__(self, sensor: Sensor, config: GreyNetConfig | None = None) -> None:
        super().__init__(sensor, config)
        c = self.config
        self.generator = Generator(sensor.channels, c.ngf, c.blocks, c.skip, c.head)
        self.low_pass = LowPass()
        self.register_buffer("kappa", torch.full((sensor.channels, 1, 1), c.kappa or 1.0))

    def translate(self, x: Tensor, origin: tuple[int, int] = (0, 0)) -> Tensor:
        low = self.low_pass(x)
        return self.generator(low) + self.kappa * (x - low)

    def learner(self, data: UnpairedData, trainer: Trainer) -> Learner:
        return GreyNetLearner(self, data, trainer)

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        if not self.config.kappa:
            self.kappa.copy_(detail_share(data, self.low_pass)[:, None, None])
        return super().fit(data, trainer) | {"kappa": self.kappa.flatten().tolist()}


def detail_share(data: UnpairedData, low_pass: LowPass) -> Tensor:
    """(C,) how much finer structure a band has than PAN, both seen on the MS grid: the share of its deviation that
    the low-pass takes, over PAN's, through the band's MTF. What holds at that scale is taken to hold at PAN's.
    1 where either has none.

    Needs no reference and no pair: PAN and MS are images of different scenes.
    """
    shares = []
    for images in (decimate(data.all_target(), data.sensor), ms_like(data.all_source(), data.sensor)):
        detail = images - torch.cat([low_pass(x) for x in images.split(256)])
        shares.append(moments(detail)[1] / moments(images)[1])
    of_band, of_pan = shares
    share = (of_band / of_pan).float()
    return share.where(share.isfinite() & (share > 0), 1)
