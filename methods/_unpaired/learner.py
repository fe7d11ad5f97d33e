"""Training steps: what CUT and the bridge methods share, and the bridge's own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import resize_bicubic
from pansharp_bench.methods._closed_form import moments
from pansharp_bench.methods._unpaired.base import TranslationMethod
from pansharp_bench.methods._unpaired.bridge import Bridge, BridgeMethod
from pansharp_bench.methods._unpaired.losses import (
    bridge_loss,
    discriminator_loss,
    energy_loss,
    lsgan,
    mean_patch_nce,
    transport_cost,
)
from pansharp_bench.methods._unpaired.networks import (
    STEM,
    Features,
    LowPass,
    PatchGAN,
    ProjectionHeads,
    draw_positions,
    initialise,
)
from pansharp_bench.methods._unpaired.options import ContrastiveBridgeOptions, TranslationOptions
from pansharp_bench.methods._unpaired.schedule import linear_decay
from pansharp_bench.methods._unpaired.selection import selection_score
from pansharp_bench.scene import Scene
from pansharp_bench.training import Learner, Trainer, UnpairedData
from pansharp_bench.training.loop import Backward

MOST_VALIDATION_IMAGES = 64


class OwnGrey:
    """The grey of target images as a source whose translation is known: the bands' mean, carried to the mean and
    deviation of low-passed PAN of other scenes."""

    def __init__(self, data: UnpairedData) -> None:
        low_pass = LowPass().to(data.device)
        low = torch.cat([low_pass(x) for x in data.all_source().split(64)])
        grey = data.all_target().mean(1, keepdim=True)
        (self.low_mean, low_std), (self.grey_mean, grey_std) = moments(low), moments(grey)
        self.gain = (low_std / grey_std).where(grey_std > 0, 0)

    def __call__(self, target: Tensor) -> Tensor:
        """(N, C, H, W) DN of the target bands -> (N, 1, H, W) DN of PAN."""
        grey = target.mean(1, keepdim=True)
        return ((grey - self.grey_mean) * self.gain + self.low_mean).to(grey.dtype)


class TranslationLearner(Learner):
    """Samples, optimisers and selection of a translation method. Networks: G here, and with ``ema`` its running
    mean, which then is the method's generator; the others by subclass."""

    def __init__(self, method: TranslationMethod, data: UnpairedData, trainer: Trainer) -> None:
        super().__init__()
        self.method, self.data, self.trainer = method, data, trainer
        self.config: TranslationOptions = method.config
        self.device, self.draws, self.team = trainer.device, trainer.generator, trainer.team
        self.networks["G"] = method.generator
        if self.config.ema:
            self.networks["G"] = copy.deepcopy(method.generator)
            self.networks["average"] = method.generator.requires_grad_(False)
        from_pan = data.sensor.source_bands == 1
        self.own_grey = OwnGrey(data) if from_pan and self.config.lambda_grey else None

    def colour_loss(self, target: Tensor, translate: Callable[[Tensor], Tensor]) -> Tensor:
        """Squared error of normalised target images ``translate``d from their own grey."""
        assert self.own_grey is not None
        normaliser = self.method.normaliser
        as_pan = self.own_grey(normaliser.restore(target))
        return (translate(normaliser.pan(as_pan).contiguous()) - target).square().mean()

    def add(self, name: str, network: nn.Module) -> None:
        """A network of this learner, freshly initialised."""
        self.networks[name] = initialise(network.to(self.device), self.draws)

    def optimise(self, **rates: float) -> None:
        """An Adam for each network that has none yet; ``rates``: learning rates in units of ``lr``."""
        c = self.config
        for name, network in self.networks.items():
            if name in self.optimizers or name == "average":
                continue
            self.optimizers[name] = torch.optim.Adam(
                network.parameters(), c.lr * rates.get(name, 1.0), (c.beta1, c.beta2), fused=True
            )
            self.schedulers[name] = LambdaLR(
                self.optimizers[name], lambda done: linear_decay(done + 1, c.constant, c.steps - c.constant)
            )

    def update(self, loss: Tensor, backward: Backward, *names: str) -> None:
        """Differentiate and let these networks' optimisers step."""
        for name in names:
            self.optimizers[name].zero_grad()
        backward(loss)
        for name in names:
            self.optimizers[name].step()
        if "G" in names and self.config.ema:
            mean, now = ([p.detach() for p in self.networks[k].parameters()] for k in ("average", "G"))
            torch._foreach_lerp_(mean, now, 1 - self.config.ema)

    def images(self, sources: int, targets: int) -> tuple[Tensor, Tensor]:
        """Source images (sources, C, H, W), PAN in every band, and target images (targets, C, H, W) of other
        scenes, in [-1, 1]; of a team, the share of them."""
        source, target = self.data.draw(sources, targets, self.draws, self.config.augment)
        normaliser = self.method.normaliser
        return normaliser.pan(self._crop(source)), normaliser.ms(self._crop(target))

    def _crop(self, x: Tensor) -> Tensor:
        """Resized and cropped, as far as it is asked for."""
        c = self.config
        if c.load:
            falling = c.crop and self.schedulers["G"].last_epoch >= c.constant
            x = resize_bicubic(x, size=2 * (c.crop if falling else c.load,))
        side, (h, w) = c.crop, x.shape[-2:]
        if not side:
            return x
        if side > min(h, w):
            raise BenchError(f"option crop={side} is larger than the training patches of {h} x {w}")
        top, left = (
            int(torch.randint(s - side + 1, (), generator=self.trainer.host_generator)) for s in (h, w)
        )
        return x[..., top : top + side, left : left + side]

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.draws, device=self.device)

    def validate(self) -> float:
        """``selection_score`` on validation PAN and the MS of other validation scenes."""
        pan, ms = (x[:MOST_VALIDATION_IMAGES] for x in (self.data.valid_source, self.data.valid_target))
        own = pan[self.team.part(len(pan), self.device)]
        fused = self.team.gather(self.method.fuse(Scene(self.data.sensor, pan=own)))
        return selection_score(fused[: len(pan)], pan, ms)


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Within, no gradient is taken for these networks' weights (it still flows through them)."""
    for network in networks:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in networks:
            network.requires_grad_(True)


def tap_pixels(taps: Sequence[int], height: int, width: int) -> list[int]:
    """How many positions the features at these layers have, for an image of this size."""
    known = {0: (height + 6) * (width + 6), 4: height * width, 8: (height // 2) * (width // 2)}
    return [known.get(t, (height // 4) * (width // 4)) for t in taps]


@dataclass(frozen=True)
class BridgeDraw:
    """All that is random in one step of a bridge. With n samples and g = 1 to 3 groups of chains:

    ``start`` (g n, C, H, W): where chains begin, the groups A, [B,] [A'] in this order, B for the contrastive loss
    and A' for the entropy; ``target`` (n, ...): B;
    ``chain_z`` (index, g n, w), ``chain_noise`` (index, g n, C, H, W) or None; ``z`` (g n, w) of the calls
    with gradient; ``nce_z`` and ``positions`` of the contrastive pairs A and B.
    """

    index: int
    start: Tensor
    target: Tensor
    chain_z: Tensor
    chain_noise: Tensor | None
    z: Tensor
    nce_z: Tensor | None = None
    positions: list[Tensor] | None = None


@dataclass
class Shown:
    """What D is shown as fake and as real, what showing it so costs G, and anything to be logged."""

    fake: Tensor
    real: Tensor
    penalty: Tensor | float = 0.0
    logged: dict[str, Tensor] = field(default_factory=dict)


class BridgeLearner(TranslationLearner):
    """UNSB's step: chains to a random state, then discriminator D, energy network E, and generator G with
    projection heads F. Subclasses may change what D sees and add losses.

    Images are normalised one by one and networks never mix them, so groups that the published code takes
    through the generator one after the other go as one batch; keys of the contrastive loss take no gradient,
    and reuse the stem's work on A and B from the first call on them. Results are the same.
    """

    config: ContrastiveBridgeOptions

    def __init__(self, method: BridgeMethod, data: UnpairedData, trainer: Trainer) -> None:
        super().__init__(method, data, trainer)
        c, channels = self.config, data.sensor.channels
        self.bridge = Bridge(c.timesteps, c.tau)
        self.noise_width = method.generator.noise_width
        self.add("D", PatchGAN(channels, c.ndf, c.timesteps))
        if c.entropy != "off":
            self.add("E", PatchGAN(4 * channels, c.ndf, c.timesteps))
        if c.lambda_nce:
            self.add("F", ProjectionHeads(method.generator.tap_channels(c.nce_layers), c.nce_width))
        self.contrasted = (
            (2 if c.nce_identity else 1) if c.lambda_nce else 0
        )  # groups of the batch, from its front
        self.optimise()

    def draw(self) -> BridgeDraw:
        c, n = self.config, self.config.batch
        index = int(torch.randint(c.timesteps, (), generator=self.trainer.host_generator))
        a, target = self.images(n if c.entropy == "off" else 2 * n, n)
        own = len(target)
        start = torch.cat((a[:own], target, a[own:])) if self.contrasted == 2 else a.contiguous()
        return self.noise(index, start, target)

    def noise(self, index: int, start: Tensor, target: Tensor) -> BridgeDraw:
        """The draw of a step at this index on these images: the team's share of a draw for them all."""
        c, width, groups = self.config, self.noise_width, len(start) // len(target)
        size = self.team.size * len(start)
        chain_z = self.normal(index, size, width)
        chain_noise = self.normal(index, size, *start.shape[1:]) if c.bridge_noise else None
        draw = BridgeDraw(
            index, start, target, self.team.share(chain_z, groups, 1),
            None if chain_noise is None else self.team.share(chain_noise, groups, 1),
            self.team.share(self.normal(size, width), groups),
        )  # fmt: skip
        if not self.contrasted:
            return draw
        pixels = tap_pixels(c.nce_layers, *start.shape[-2:])
        positions = draw_positions(pixels, self.contrasted, c.nce_patches, self.draws, self.device)
        nce_z = self.normal(self.contrasted * len(target) * self.team.size, width)
        return replace(draw, nce_z=self.team.share(nce_z, self.contrasted), positions=positions)

    def step(self, backward: Backward) -> dict[str, Tensor]:
        return self.learn(self.draw(), backward)

    def learn(self, draw: BridgeDraw, backward: Backward) -> dict[str, Tensor]:
        """One step with everything random given; returns the losses."""
        c, i, n = self.config, draw.index, len(draw.target)
        generator, discriminator = (self.networks[k] for k in "GD")
        source = draw.start[:n]

        stem: Features | None = None

        def generate(x: Tensor, k: int, z: Tensor) -> Tensor:
            nonlocal stem
            if k > 0 or not self.contrasted:
                return generator(x, k, z, source=draw.start)
            image, kept = generator(
                x, k, z, source=draw.start, keep=(*(t for t in c.nce_layers if t < STEM), STEM)
            )
            stem = {layer: feature[: self.contrasted * n].detach() for layer, feature in kept.items()}
            return image

        with torch.no_grad():
            state = self.bridge.chain(
                draw.start, i, lambda x, k: generate(x, k, draw.chain_z[k]), draw.chain_noise
            )
        fakes = generate(state, i, draw.z)
        fake = fakes[:n]
        shown = self.show(fake, draw)
        losses = shown.logged

        scores = discriminator(torch.cat((shown.fake.detach(), shown.real)), i)
        losses["D"] = discriminator_loss(*scores.chunk(2))
        self.update(losses["D"], backward, "D")

        if c.entropy != "off":
            losses["E"] = energy_loss(*self.energies(state, fakes.detach(), i), c.entropy == "bounded")
            self.update(losses["E"], backward, "E")

        with frozen(*(self.networks[k] for k in "DE" if k in self.networks)):
            losses["gan"] = lsgan(discriminator(shown.fake, i), True)
            if c.entropy == "off":
                losses["bridge"] = transport_cost(state[:n], fake, c.tau)
            else:
                losses["bridge"], losses["entropy"] = bridge_loss(
                    state[:n],
                    fake,
                    *self.energies(state, fakes, i),
                    i,
                    c.timesteps,
                    c.tau,
                    c.entropy == "bounded",
                )
            total = c.lambda_gan * losses["gan"] + c.lambda_sb * losses["bridge"]
            if self.contrasted:
                assert stem is not None
                losses["nce"] = self.contrast(fakes[: self.contrasted * n], stem, draw)
                total = total + c.lambda_nce * losses["nce"]
            if self.own_grey:
                losses["grey"] = self.colour_loss(draw.target, lambda x: generator(x, 0, draw.z[:n]))
                total = total + c.lambda_grey * losses["grey"]
            total = total + shown.penalty + self.further(fake, source, losses)
            losses["G"] = total
            self.update(total, backward, *(k for k in self.optimizers if k not in "DE"))
        return {k: v.detach() for k, v in losses.items()}

    def energies(self, state: Tensor, fakes: Tensor, index: int) -> tuple[Tensor, Tensor]:
        """E's scores of the pairs (state, prediction) of A with themselves, and with those of A': a team's all, for
        the entropy's sum runs over the whole batch."""
        pairs, n = torch.cat((state, fakes), 1), self.config.batch // self.team.size
        pair, other = pairs[:n], pairs[-n:]
        both = torch.cat((torch.cat((pair, pair), 1), torch.cat((pair, other), 1)))
        joint, shuffled = self.networks["E"](both, index).chunk(2)
        return self.team.gather(joint), self.team.gather(shuffled)

    def contrast(self, images: Tensor, stem: Features, draw: BridgeDraw) -> Tensor:
        """Contrastive loss of translated images against what they were made from, whose stem is given."""
        c, generator, heads = self.config, self.networks["G"], self.networks["F"]
        with torch.no_grad():
            keys = heads(generator(None, 0, draw.nce_z, start=stem, taps=c.nce_layers), draw.positions)
        queries = heads(generator(images, 0, draw.nce_z, taps=c.nce_layers), draw.positions)
        return mean_patch_nce(queries, keys, c.nce_temperature)

    def show(self, fake: Tensor, draw: BridgeDraw) -> Shown:
        return Shown(fake, draw.target)

    def further(self, fake: Tensor, source: Tensor, losses: dict[str, Tensor]) -> Tensor | float:
        """Weighted further losses of the generator, entered in ``losses`` too."""
        return 0.0
