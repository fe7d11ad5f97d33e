"""What every translation method is outside its losses: normalisation and inference."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.errors import OptionError
from pansharp_bench.method import TrainingData
from pansharp_bench.methods._closed_form import moments
from pansharp_bench.methods._unpaired import released
from pansharp_bench.methods._unpaired.networks import Generator, initialise
from pansharp_bench.methods._unpaired.options import Stretch, TranslationOptions
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Learner, TrainedMethod, Trainer, UnpairedData

_LARGEST_SAMPLE = 1 << 22  # values of a band that are enough for its percentiles


class Normaliser(nn.Module):
    """DN to [-1, 1], or about that, and back by global constants: one affine map for PAN, one for each MS band."""

    pan_range: Tensor
    ms_range: Tensor

    def __init__(self, sensor: Sensor) -> None:
        super().__init__()
        full = torch.tensor([0.0, sensor.peak])
        self.register_buffer("pan_range", full.expand(1, 2).clone())
        self.register_buffer("ms_range", full.expand(sensor.channels, 2).clone())

    def measure(self, data: UnpairedData, stretch: Stretch) -> None:
        """Take the ranges from the training images of either domain."""
        if stretch == "peak":
            return
        limits = _percentiles if stretch == "percentile" else _three_deviations
        self.pan_range.copy_(_not_empty(limits(data.all_source())))
        self.ms_range.copy_(_not_empty(limits(data.all_target())))

    def pan(self, x: Tensor) -> Tensor:
        """(N, 1, H, W) DN -> (N, C, H, W), every band the same. A source of C bands stays one of C bands."""
        low, high = _bounds(self.pan_range)
        return ((x - low) * (2 / (high - low)) - 1).expand(-1, len(self.ms_range), -1, -1)

    def ms(self, x: Tensor) -> Tensor:
        low, high = _bounds(self.ms_range)
        return (x - low) * (2 / (high - low)) - 1

    def restore(self, x: Tensor) -> Tensor:
        """MS in [-1, 1] -> DN."""
        low, high = _bounds(self.ms_range)
        return (x + 1) * ((high - low) / 2) + low


def _bounds(ranges: Tensor) -> tuple[Tensor, Tensor]:
    return ranges[:, 0, None, None], ranges[:, 1, None, None]


def _percentiles(images: Tensor) -> Tensor:
    """(C, 2): the values below and above which 0.1 % of each band's pixels lie."""
    values = images.transpose(0, 1).flatten(1)
    values = values[:, :: 1 + values.shape[1] // _LARGEST_SAMPLE]
    last = values.shape[1] - 1
    return torch.stack([values.kthvalue(1 + round(q * last), 1).values for q in (0.001, 0.999)], 1)


def _three_deviations(images: Tensor) -> Tensor:
    """(C, 2): mean - 3 and mean + 3 deviations of each band."""
    mean, deviation = moments(images)
    return torch.stack([mean - 3 * deviation, mean + 3 * deviation], 1)


def _not_empty(ranges: Tensor) -> Tensor:
    """(C, 2) ranges; one of a band without variation is widened to 1 DN, as nothing can be divided by it."""
    spread = (1 - (ranges[:, 1:] - ranges[:, :1])).where(ranges[:, 1:] <= ranges[:, :1], 0)
    return ranges + spread * ranges.new_tensor([-0.5, 0.5])


class TranslationMethod(TrainedMethod):
    """Base of methods that translate PAN into MS with a generator, and look at PAN alone to do so."""

    Config = TranslationOptions
    presets: ClassVar[dict[str, dict[str, Any]]]
    config: TranslationOptions
    generator: Generator

    def __init__(self, sensor: Sensor, config: TranslationOptions | None = None) -> None:
        super().__init__(sensor, config)
        self.normaliser = Normaliser(sensor)

    def training_data(self) -> TrainingData:
        return TrainingData(self.config.pairing, self.config.target)

    @abstractmethod
    def translate(self, x: Tensor, origin: tuple[int, int] = (0, 0)) -> Tensor:
        """Source images (N, C, H, W) in [-1, 1], H and W multiples of 4 -> predicted targets. The result for
        an image does not depend on the others of the batch, and noise only on the place that the pixels have in the
        whole, whose row and column ``origin`` comes first."""

    @torch.no_grad()
    def fuse(self, scene: Scene) -> Tensor:
        """(N, C, H, W) DN in [0, peak], from PAN alone; whole images, so norms see the whole image."""
        pan = scene.pan
        h, w = pan.shape[-2:]
        x = self.normaliser.pan(pan).to(next(self.generator.parameters()).dtype)
        x = F.pad(x, (0, -w % 4, 0, -h % 4), mode="reflect")
        out = self.normaliser.restore(self.translate(x, scene.origin)[..., :h, :w])
        return out.clamp(0, self.sensor.peak).to(pan.dtype)

    def own_keys(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of the public CUT or UNSB, which has one scale for all bands, under our keys. Those published of
        a calibration have its bands from blue to red, as its files do."""
        if any(k.startswith("generator.") for k in state):  # saved by a run of ours
            return state
        state = released.own_keys(self.generator, state)
        if self.sensor.source_bands > 1:
            for key, axis in (("conv1.weight", 1), ("conv30.weight", 0), ("conv30.bias", 0)):
                if key in state:
                    state[key] = state[key].flip(axis)
        ranges = Normaliser(self.sensor).state_dict()
        return {f"normaliser.{k}": v for k, v in ranges.items()} | {
            f"generator.{k}": v for k, v in state.items()
        }

    @abstractmethod
    def learner(self, data: UnpairedData, trainer: Trainer) -> Learner:
        """The learner that trains ``self.generator``."""

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        """Train on unpaired images; gives the normalisation. Raises OptionError for crops below the least size."""
        for name in ("crop", "load"):
            if 0 < (side := getattr(self.config, name)) < (least := self.card.smallest):
                raise OptionError(f"option {name}={side}: method {self.card.name!r} needs at least {least}")
        if self.sensor.source_bands == 1:
            self.normaliser.measure(data, self.config.stretch)
        initialise(self.generator, trainer.generator)
        every = self.config.validations and max(1, self.config.steps // self.config.validations)
        trainer.run(self.learner(data, trainer), self.config.steps, validate_every=every)
        ranges = {"pan": self.normaliser.pan_range.tolist(), "ms": self.normaliser.ms_range.tolist()}
        return {"normalisation": ranges}
