"""CUT: contrastive unpaired translation (Park et al., ECCV 2020), and its light variant FastCUT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.methods._unpaired.base import TranslationMethod
from pansharp_bench.methods._unpaired.learner import TranslationLearner, frozen, tap_pixels
from pansharp_bench.methods._unpaired.losses import discriminator_loss, lsgan, mean_patch_nce
from pansharp_bench.methods._unpaired.networks import Generator, PatchGAN, ProjectionHeads, draw_positions
from pansharp_bench.methods._unpaired.options import ContrastiveOptions
from pansharp_bench.methods._unpaired.presets import PRESETS
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Sensor
from pansharp_bench.training import Learner, Trainer, UnpairedData
from pansharp_bench.training.loop import Backward


@dataclass(frozen=True)
class CUTConfig(ContrastiveOptions):
    """Options of CUT. ``flip_equivariance``: half of the time the generator gets the source mirrored."""

    flip_equivariance: bool = False

    def check(self) -> None:
        if self.lambda_nce <= 0:
            raise BenchError(
                f"option lambda_nce={self.lambda_nce}: CUT is nothing without its contrastive loss"
            )
        if self.flip_equivariance and self.nce_identity:
            raise BenchError("option flip_equivariance goes with nce_identity=false")


@dataclass(frozen=True)
class CUTDraw:
    """All that is random in one step: A and B (n, C, H, W), positions per tap, whether A is mirrored."""

    source: Tensor
    target: Tensor
    positions: list[Tensor]
    mirrored: bool = False


class CUTLearner(TranslationLearner):
    """CUT's step: discriminator D, then generator G with projection heads F.

    The keys of the contrastive loss are features that translating the images has already computed.
    """

    config: CUTConfig

    def __init__(self, method: CUT, data: UnpairedData, trainer: Trainer) -> None:
        super().__init__(method, data, trainer)
        c = self.config
        self.add("D", PatchGAN(data.sensor.channels, c.ndf))
        self.add("F", ProjectionHeads(method.generator.tap_channels(c.nce_layers), c.nce_width))
        self.optimise()

    def draw(self) -> CUTDraw:
        c = self.config
        source, target = self.images(c.batch, c.batch)
        pixels = tap_pixels(c.nce_layers, *source.shape[-2:])
        positions = draw_positions(pixels, 1 + c.nce_identity, c.nce_patches, self.draws, self.device)
        coin = torch.rand((), generator=self.trainer.host_generator)
        return CUTDraw(source, target, positions, c.flip_equivariance and bool(coin < 0.5))

    def step(self, backward: Backward) -> dict[str, Tensor]:
        return self.learn(self.draw(), backward)

    def learn(self, draw: CUTDraw, backward: Backward) -> dict[str, Tensor]:
        """One step with everything random given; returns the losses."""
        c, n = self.config, len(draw.source)
        generator, discriminator, heads = (self.networks[k] for k in "GDF")
        losses = {}
        if draw.mirrored:
            images = generator(draw.source.flip(-1))
            with torch.no_grad():
                keys = generator(draw.source, taps=c.nce_layers)
        else:
            inputs = torch.cat((draw.source, draw.target)) if c.nce_identity else draw.source.contiguous()
            images, kept = generator(inputs, keep=c.nce_layers)
            keys = [kept[layer].detach() for layer in c.nce_layers]
        fake = images[:n]

        scores = discriminator(torch.cat((fake.detach(), draw.target)))
        losses["D"] = discriminator_loss(*scores.chunk(2))
        self.update(losses["D"], backward, "D")

        with frozen(discriminator):
            losses["gan"] = lsgan(discriminator(fake), True)
            queries = generator(images, taps=c.nce_layers)
            if draw.mirrored:
                queries = [q.flip(-1) for q in queries]
            with torch.no_grad():
                keys = heads(keys, draw.positions)
            losses["nce"] = mean_patch_nce(heads(queries, draw.positions), keys, c.nce_temperature)
            losses["G"] = c.lambda_gan * losses["gan"] + c.lambda_nce * losses["nce"]
            if self.own_grey:
                losses["grey"] = self.colour_loss(draw.target, generator)
                losses["G"] = losses["G"] + c.lambda_grey * losses["grey"]
            self.update(losses["G"], backward, "G", "F")
        return {k: v.detach() for k, v in losses.items()}


@register_method(
    "cut",
    title="CUT",
    kind="unpaired",
    sees="pan",
    training="unpaired",
    tracks=("pansharpening", "calibration"),
    paper="Contrastive Learning for Unpaired Image-to-Image Translation",
    year=2020,
    smallest=24,
)
class CUT(TranslationMethod):
    """Adversarial translation whose patches must stay recognisable as those of the source."""

    Config = CUTConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = PRESETS
    config: CUTConfig
    generator: Generator

    def __init__(self, sensor: Sensor, config: CUTConfig | None = None) -> None:
        super().__init__(sensor, config)
        c = self.config
        self.generator = Generator(sensor.channels, c.ngf, c.blocks, c.skip, c.head)

    def translate(self, x: Tensor, origin: tuple[int, int] = (0, 0)) -> Tensor:
        return self.generator(x)

    def learner(self, data: UnpairedData, trainer: Trainer) -> Learner:
        return CUTLearner(self, data, trainer)


@dataclass(frozen=True)
class FastCUTConfig(CUTConfig):
    """CUT's options with FastCUT's defaults."""

    nce_identity: bool = False
    lambda_nce: float = 10.0
    flip_equivariance: bool = True
    decay: float = 0.25


@register_method(
    "fastcut",
    title="FastCUT",
    kind="unpaired",
    sees="pan",
    training="unpaired",
    tracks=("pansharpening", "calibration"),
    paper="Contrastive Learning for Unpaired Image-to-Image Translation",
    year=2020,
    smallest=24,
)
class FastCUT(CUT):
    """CUT without identity pairs, with a heavier contrastive loss and mirrored sources."""

    Config = FastCUTConfig
