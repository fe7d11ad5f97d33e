"""What every translation method is outside its losses: options, normalisation, inference, validation."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.errors import BenchError
from pansharp_bench.methods._closed_form import moments
from pansharp_bench.methods._unpaired.networks import Head, Skip, initialise
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Learner, TrainedMethod, Trainer, UnpairedData
from pansharp_bench.training.samplers import Augment, Pairing, Target

Stretch = Literal["percentile", "moments", "peak"]
_LARGEST_SAMPLE = 1 << 22  # values of a band that are enough for its percentiles


@dataclass(frozen=True)
class TranslationConfig(TrainedMethod.Config):
    """Options of all translation methods.

    ``steps`` of ``batch`` samples each; learning rate ``lr`` held for a share ``1 - decay`` of them, then
    falling linearly to zero. ``crop``: side of random crops of the training patches (0: whole patches).
    ``ngf``, ``ndf``, ``blocks``: widths of generator and discriminators, residual blocks. ``pairing`` and
    ``target`` are what the sampler serves (``target=gt`` shows sharp MS: an upper bound, not a result).
    ``stretch``: DN to [-1, 1] by the sensor's peak, or by the training PAN and each training MS band: their 0.1
    and 99.9 percentiles, or mean ± 3 deviations (``moments``: equal values are then what ``pan-affine`` makes of
    PAN); always by the peak where source and target are the same bands (a calibration: a map of the source's own
    would be part of the answer). ``skip`` and ``head``: see ``Generator``. ``ema``: the generator that is scored,
    kept and used is a running mean of the trained one's weights, of which a step leaves this share (0: it is the
    trained one itself). ``validations``: how often the state is
    scored for selection (0: the last state is kept).
    """

    steps: int = 150_000
    batch: int = 8
    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    decay: float = 0.5
    crop: int = 0
    augment: Augment = "dihedral"
    ngf: int = 64
    ndf: int = 64
    blocks: int = 9
    pairing: Pairing = "disjoint"
    target: Target = "lms"
    stretch: Stretch = "percentile"
    skip: Skip = "none"
    head: Head = "conv"
    ema: float = 0.0
    validations: int = 20

    def __post_init__(self) -> None:
        one_of("augment", self.augment, ("none", "flips", "dihedral"))
        one_of("pairing", self.pairing, ("disjoint", "independent"))
        one_of("target", self.target, ("lms", "gt"))
        one_of("stretch", self.stretch, get_args(Stretch))
        one_of("skip", self.skip, get_args(Skip))
        one_of("head", self.head, get_args(Head))
        for name in ("steps", "batch", "ngf", "ndf", "blocks"):
            if getattr(self, name) < 1:
                raise BenchError(f"option {name}={getattr(self, name)} must be at least 1")
        if not 0 <= self.decay <= 1:
            raise BenchError(f"option decay={self.decay} must lie between 0 and 1")
        if not 0 <= self.ema < 1:
            raise BenchError(f"option ema={self.ema} must be from 0 to below 1")


@dataclass(frozen=True)
class ContrastiveConfig(TranslationConfig):
    """Options of methods with a contrastive loss: whether (``nce``), between generator features of the image
    and of its source at ``nce_layers``, ``nce_patches`` positions each, through heads of ``nce_width``; also
    of B with its own translation if ``nce_identity``. ``lambda_gan`` and ``lambda_nce`` weigh the adversarial
    and the contrastive loss (UNSB's release multiplies by the latter twice; here once).
    """

    lambda_gan: float = 1.0
    lambda_nce: float = 1.0
    nce: bool = True
    nce_identity: bool = True
    nce_layers: tuple[int, ...] = (0, 4, 8, 12, 16)
    nce_patches: int = 256
    nce_width: int = 256
    nce_temperature: float = 0.07

    def __post_init__(self) -> None:
        super().__post_init__()
        deepest = 11 + self.blocks
        if not self.nce:
            return
        if wrong := [t for t in self.nce_layers if t not in (0, 4, 8) and not 12 <= t <= deepest]:
            raise BenchError(
                f"option nce_layers: layer {wrong[0]} cannot be tapped; with {self.blocks} blocks "
                f"0, 4, 8 and 12 to {deepest} can"
            )


def one_of(name: str, value: Any, known: tuple[Any, ...]) -> None:
    """Raises BenchError unless the option's value is known."""
    if value not in known:
        raise BenchError(f"option {name}={value!r} is unknown; known are: {', '.join(map(str, known))}")


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

    Config = TranslationConfig
    presets: ClassVar[dict[str, dict[str, Any]]]
    config: TranslationConfig
    generator: nn.Module

    def __init__(self, sensor: Sensor, config: TranslationConfig | None = None) -> None:
        super().__init__(sensor, config)
        self.normaliser = Normaliser(sensor)

    @abstractmethod
    def translate(self, x: Tensor) -> Tensor:
        """Source images (N, C, H, W) in [-1, 1], H and W multiples of 4 -> predicted targets. The result for
        an image does not depend on the others of the batch."""

    @torch.no_grad()
    def fuse(self, scene: Scene) -> Tensor:
        """(N, C, H, W) DN in [0, peak], from PAN alone; whole images, so norms see the whole image."""
        pan = scene.pan
        h, w = pan.shape[-2:]
        x = F.pad(self.normaliser.pan(pan), (0, -w % 4, 0, -h % 4), mode="reflect")
        out = self.normaliser.restore(self.translate(x)[..., :h, :w])
        return out.clamp(0, self.sensor.peak)

    @abstractmethod
    def learner(self, data: UnpairedData, trainer: Trainer) -> Learner:
        """The learner that trains ``self.generator``."""

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        """Train on unpaired images; returns the loop's summary and the normalisation, for the record."""
        if self.sensor.source_bands == 1:
            self.normaliser.measure(data, self.config.stretch)
        initialise(self.generator, trainer.generator)
        every = self.config.validations and max(1, self.config.steps // self.config.validations)
        summary = trainer.run(self.learner(data, trainer), self.config.steps, validate_every=every)
        ranges = {"pan": self.normaliser.pan_range.tolist(), "ms": self.normaliser.ms_range.tolist()}
        return {"summary": asdict(summary), "normalisation": ranges}


def selection_score(fused: Tensor, pan: Tensor, ms: Tensor) -> float:
    """How far fused images are from what unpaired images can ask of them; lower is better.

    Distance of the spectra plus loss of structure. Spectra: pixels of ``fused`` and of ``ms`` (other scenes)
    are standardised by the bands of ``ms`` and projected on 32 fixed directions (and each band), and the mean
    1-D Wasserstein distance of the projections is taken. Structure: 1 - mean correlation of the Laplacians
    of PAN (or of the source bands' mean) and of the fused bands' mean.

    Args:
        fused: (N, C, H, W) DN.
        pan: (N, 1, H, W) DN, the images ``fused`` was made from.
        ms: (M, C, H, W) DN, of other scenes.
    """
    channels = ms.shape[1]
    target, got = (x.transpose(0, 1).flatten(1).T for x in (ms, fused))
    mean, deviation = target.mean(0), target.std(0).clamp_min(1e-6)
    directions = torch.randn(channels, 32, generator=torch.Generator().manual_seed(0)).to(ms)
    directions = torch.cat((directions / directions.norm(dim=0), torch.eye(channels).to(ms)), 1)
    levels = torch.linspace(0, 1, 513, device=ms.device, dtype=ms.dtype)
    quantiles = []
    for pixels in (target, got):
        projected = ((pixels - mean) / deviation @ directions).sort(0).values
        place = levels * (len(projected) - 1)
        below, share = place.floor().long(), (place % 1)[:, None]
        above = (below + 1).clamp_max(len(projected) - 1)
        quantiles.append(projected[below].lerp(projected[above], share))
    spectral = (quantiles[0] - quantiles[1]).abs().mean()
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).to(ms)[None, None]
    edges = [F.conv2d(x.mean(1, keepdim=True), laplacian).flatten(1) for x in (pan, fused)]
    before, after = (e - e.mean(1, keepdim=True) for e in edges)
    structure = F.cosine_similarity(before, after, dim=1).mean()
    return float(spectral + 1 - structure)
