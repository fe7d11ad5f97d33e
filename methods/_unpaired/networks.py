"""Generators, discriminators and projection heads of CUT and UNSB, without what cannot influence a result.

Left out, because the outputs and all other gradients are the same without it:

- biases of convolutions that an affine-less instance norm follows, and time terms added there;
- in UNSB's published block: its first convolution and its time projection, whose results are overwritten.

``inert_parameters`` counts the former, so that published parameter counts can be compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Generator as Draws
from torch import Tensor, nn

TimeMode = Literal["released", "chained", "film"]
Skip = Literal["none", "detail", "handed"]
Head = Literal["conv", "pixel"]
SLOPE = 0.2  # of every leaky ReLU


def instance_norm(x: Tensor) -> Tensor:
    """Each channel of each image to mean 0 and variance 1 (biased, eps 1e-5); no affine, no running state."""
    if x.device.type == "cpu" and x.is_contiguous():
        return F.group_norm(x, x.shape[1], eps=1e-5)  # the same, and the faster kernel there
    return F.instance_norm(x, eps=1e-5)


class Down(nn.Module):
    """Half the size without aliasing: [1,2,1]x[1,2,1]/16, reflected border, stride 2. n -> ceil(n/2)."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=channels)


class Up(nn.Module):
    """Twice the size by [1,3,3,1]x[1,3,3,1]/16 with replicated border: bilinear with half-pixel centres."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
        self.register_buffer("kernel", torch.outer(row, row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        # on the CPU the gradient of this form costs a quarter of the other's
        channels = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(channels, 1, 4, 4)
        padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
        return F.conv_transpose2d(padded, kernel, stride=2, padding=3, groups=channels)


class LowPass(nn.Module):
    """What of images (N, C, H, W) a quarter of their size holds: two times down, two times up."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = Down(), Up()

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        small = self.down(self.down(F.pad(x, (0, -w % 4, 0, -h % 4), mode="reflect")))
        return self.up(self.up(small))[..., :h, :w]


def conv(inputs: int, outputs: int, size: int = 3, bias: bool = False) -> nn.Conv2d:
    """A convolution that keeps the size, with reflected border."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="reflect", bias=bias)


def timestep_embedding(index: Tensor, dim: int) -> Tensor:
    """(n,) integer time indices -> (n, dim): sines, then cosines, of 10000^(-j/(dim/2-1)) times the index."""
    half = dim // 2
    frequency = torch.exp(torch.arange(half, device=index.device) * (-math.log(10000.0) / (half - 1)))
    angle = index[:, None].float() * frequency
    return torch.cat((angle.sin(), angle.cos()), 1)


class TimePath(nn.Module):
    """The time index as a vector: sinusoidal embedding, then two linear layers with leaky ReLU.

    The embedding of the few indices there are is a table, so no tensor of times is ever made in a step.
    """

    table: Tensor

    def __init__(self, embedding: int, width: int, steps: int) -> None:
        super().__init__()
        self.register_buffer("table", timestep_embedding(torch.arange(steps), embedding), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(embedding, width), nn.LeakyReLU(SLOPE), nn.Linear(width, width), nn.LeakyReLU(SLOPE)
        )

    def forward(self, index: int) -> Tensor:
        """(1, width)."""
        return self.layers(self.table[index : index + 1])


STEM = 11  # the number of the stem's last layer; neither noise nor time enters before it

Features = dict[int, Tensor]


class PixelHead(nn.Module):
    """Three 1x1 convolutions on decoder features and the source itself, whose brightness norms keep from the
    features. It starts silent."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(features + channels, features, 1), nn.ReLU(),
            nn.Conv2d(features, features, 1), nn.ReLU(),
            nn.Conv2d(features, channels, 1),
        )  # fmt: skip

    def finish_initialisation(self, draws: Draws) -> None:
        # at the networks' own small weights three layers would pass on gradients of the size of rounding errors
        first, second, last = (m for m in self.layers if isinstance(m, nn.Conv2d))
        for layer in (first, second):
            nn.init.xavier_normal_(layer.weight, generator=draws)
        nn.init.zeros_(last.weight)

    def forward(self, h: Tensor, source: Tensor) -> Tensor:
        return self.layers(torch.cat((h, source), 1))


class DetailPath(nn.Module):
    """Around the core: each band of the source low-passed, times a gain learnt from 1 on, plus the core's
    correction, plus the detail that the low-pass takes. A core that says nothing hands the source on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.low_pass = LowPass()

    def forward(self, source: Tensor, correction: Tensor) -> Tensor:
        low = self.low_pass(source)
        return self.gain * low + correction + (source - low)


class Generator(nn.Module):
    """CUT's ResNet generator, (N, channels, H, W) to the same. H and W must be multiples of 4.

    Layers carry the numbers that contrastive taps use: 0 padded input, 4 and 8 raw convolutions of the stem,
    12 + k the output of block k. ``head`` makes the image from the decoder's features: the published 7x7
    convolution or :class:`PixelHead`. With ``skip="detail"`` it is a correction of the source by way of
    :class:`DetailPath`; with ``handed`` so too, and the network sees what it is made from low-passed, detail being
    handed on unseen; else the image goes through a tanh.
    """

    def __init__(
        self, channels: int, ngf: int = 64, blocks: int = 9, skip: Skip = "none", head: Head = "conv"
    ) -> None:
        super().__init__()
        width = 4 * ngf
        self.channels, self.ngf = channels, ngf
        self.conv1 = nn.Conv2d(channels, ngf, 7, bias=False)
        self.conv4 = nn.Conv2d(ngf, 2 * ngf, 3, padding=1)  # tapped before the norm: these two biases count
        self.conv8 = nn.Conv2d(2 * ngf, width, 3, padding=1)
        self.blocks = nn.ModuleList(self._block(width) for _ in range(blocks))
        self.conv22 = nn.Conv2d(width, 2 * ngf, 3, padding=1, bias=False)
        self.conv26 = nn.Conv2d(2 * ngf, ngf, 3, padding=1, bias=False)
        self.head = head
        if head == "conv":
            self.conv30 = conv(ngf, channels, 7, bias=True)
        else:
            self.pixel = PixelHead(ngf, channels)
        self.detail = None if skip == "none" else DetailPath(channels)
        self.blur = LowPass() if skip == "handed" else nn.Identity()
        self.down, self.up = Down(), Up()

    def _block(self, width: int) -> nn.Module:
        return ResidualBlock(width)

    def tap_channels(self, taps: Sequence[int]) -> list[int]:
        """Channels at these layers. Raises ValueError where a layer cannot be tapped."""
        known = {0: self.channels, 4: 2 * self.ngf, 8: 4 * self.ngf}
        known |= {12 + k: 4 * self.ngf for k in range(len(self.blocks))}
        if unknown := [t for t in taps if t not in known]:
            raise ValueError(
                f"layer {unknown[0]} cannot be tapped; possible are {', '.join(map(str, known))}"
            )
        return [known[t] for t in taps]

    def forward(
        self,
        x: Tensor | None,
        *,
        source: Tensor | None = None,
        start: Features | None = None,
        taps: Sequence[int] = (),
        keep: Sequence[int] = (),
    ) -> Tensor | list[Tensor] | tuple[Tensor, Features]:
        """The image (N, channels, H, W), in [-1, 1] without a path for detail. With ``taps`` instead the features
        at those layers, computing no further than the last; with ``keep`` also those of these layers, by number.
        ``source`` is what ``x`` was made from, where it is not the source itself. ``start``, features kept by an
        earlier call (the layer ``STEM`` among them), replaces ``x`` and the stem's work, for taps.
        """
        return self._run(x, (), source, start, taps, keep)

    def _run(
        self,
        x: Tensor | None,
        condition: tuple,
        source: Tensor | None,
        start: Features | None,
        taps: Sequence[int],
        keep: Sequence[int],
    ) -> Tensor | list[Tensor] | tuple[Tensor, Features]:
        if start is None:
            assert x is not None
            start = self._stem(self.blur(x))
        h, features = start[STEM], dict(start)
        depth = max(0, max(taps) - STEM) if taps else len(self.blocks)
        for k, block in enumerate(self.blocks[:depth]):
            h = features[12 + k] = block(h, *condition)
        if taps:
            return [features[t] for t in taps]
        image = self._decode(h, x if source is None else source)
        return (image, {k: features[k] for k in keep}) if keep else image

    def _stem(self, x: Tensor) -> Features:
        padded = F.pad(x, (3, 3, 3, 3), mode="reflect")
        tap4 = self.conv4(F.relu(instance_norm(self.conv1(padded))))
        tap8 = self.conv8(self.down(F.relu(instance_norm(tap4))))
        return {0: padded, 4: tap4, 8: tap8, STEM: self.down(F.relu(instance_norm(tap8)))}

    def _decode(self, h: Tensor, source: Tensor | None) -> Tensor:
        h = F.relu(instance_norm(self.conv22(self.up(h))))
        h = F.relu(instance_norm(self.conv26(self.up(h))))
        with torch.autocast(h.device.type, enabled=False):  # 8 bits of mantissa would show as banding
            h = h.to(self.conv26.weight.dtype)
            image = self.conv30(h) if self.head == "conv" else self.pixel(h, self.blur(source))
            return torch.tanh(image) if self.detail is None else self.detail(source, image)


class ResidualBlock(nn.Module):
    """x + [conv, norm, ReLU, conv, norm](x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + instance_norm(self.conv2(F.relu(instance_norm(self.conv1(x)))))


class BridgeGenerator(Generator):
    """UNSB's generator: CUT's with blocks that noise z ~ N(0, I) of 4 ngf numbers modulates.

    ``time_mode`` says what the blocks are. ``released``: what the published code computes, one live
    convolution each. ``chained``: two convolutions, as its design intends; still blind to time, since the
    added time vector is removed by the norm. ``film``: two convolutions, scale and shift from z and time.
    """

    def __init__(
        self,
        channels: int,
        ngf: int = 64,
        blocks: int = 9,
        steps: int = 5,
        time_mode: TimeMode = "released",
        skip: Skip = "none",
        head: Head = "conv",
        noise_layers: int = 4,
    ) -> None:
        self.time_mode = time_mode
        super().__init__(channels, ngf, blocks, skip, head)
        self.noise_width = width = 4 * ngf
        self.noise_path = nn.Sequential(
            *(m for _ in range(noise_layers) for m in (nn.Linear(width, width), nn.LeakyReLU(SLOPE)))
        )
        self.time_path = TimePath(ngf, width, steps) if time_mode == "film" else None

    def _block(self, width: int) -> nn.Module:
        return ModulatedBlock(width, self.time_mode)

    def forward(  # type: ignore[override]
        self,
        x: Tensor | None,
        index: int,
        z: Tensor,
        *,
        source: Tensor | None = None,
        start: Features | None = None,
        taps: Sequence[int] = (),
        keep: Sequence[int] = (),
    ) -> Tensor | list[Tensor] | tuple[Tensor, Features]:
        """As Generator's, at time index ``index`` with noise ``z`` (N, 4 ngf)."""
        style = self.noise_path(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())
        if self.time_path is not None:
            style = torch.cat((style, self.time_path(index).expand(len(z), -1)), 1)
        return self._run(x, (style,), source, start, taps, keep)


class ModulatedBlock(nn.Module):
    """A residual block whose normalised features are scaled and shifted per image."""

    def __init__(self, width: int, time_mode: TimeMode) -> None:
        super().__init__()
        self.width, self.film = width, time_mode == "film"
        self.conv1 = None if time_mode == "released" else conv(width, width)
        self.conv2 = conv(width, width)
        self.style = nn.Linear(2 * width if self.film else width, 2 * width)

    def finish_initialisation(self, draws: Draws) -> None:
        if self.film:  # a zero bias would silence the block until the style layer has learnt otherwise
            nn.init.ones_(self.style.bias[: self.width])

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        scale, shift = self.style(style)[..., None, None].chunk(2, 1)
        h = x if self.conv1 is None else self.conv1(x)
        h = F.relu(torch.addcmul(shift, scale, instance_norm(h)))
        return x + instance_norm(self.conv2(h))


class PatchGAN(nn.Module):
    """Patch discriminator: (N, C, H, W) -> (N, 1, h, w) scores; with three ``layers`` beyond the first 256 -> 30,
    64 -> 6 pixels a side.

    With ``steps`` it is told the time index (as UNSB's discriminator and energy network are). Only its first
    stage uses it: norms follow in the others and would remove the term again.
    """

    def __init__(self, channels: int, ndf: int = 64, steps: int = 0, layers: int = 3) -> None:
        super().__init__()
        widths = [ndf * min(2**k, 8) for k in range(layers + 1)]
        self.conv1 = nn.Conv2d(channels, ndf, 4, padding=1)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 4, padding=1, bias=False) for a, b in itertools.pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], 1, 4, padding=1)
        self.time_path = TimePath(4 * ndf, 4 * ndf, steps) if steps else None
        self.time_term = nn.Linear(4 * ndf, ndf) if steps else None
        self.down = Down()

    def forward(self, x: Tensor, index: int = 0) -> Tensor:
        h = self.conv1(x)
        if self.time_path is not None and self.time_term is not None:
            h = h + self.time_term(self.time_path(index))[..., None, None]
        h = F.leaky_relu(h, SLOPE)
        for layer in self.convs:
            h = F.leaky_relu(instance_norm(layer(self.down(h))), SLOPE)
        return self.last(h)


class ProjectionHeads(nn.Module):
    """CUT's F: at each tap, sampled positions through a two-layer perceptron to unit vectors."""

    def __init__(self, channels: Sequence[int], width: int = 256) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(c, width), nn.ReLU(), nn.Linear(width, width)) for c in channels
        )

    def forward(self, features: Sequence[Tensor], positions: Sequence[Tensor]) -> list[Tensor]:
        """(N, p, width) per tap. ``positions``: per tap (G, p) flat pixel indices; the N images are G groups
        of equal size in order, and all images of a group share their positions."""
        out = []
        for head, feature, position in zip(self.heads, features, positions, strict=True):
            n, c = feature.shape[:2]
            index = position.repeat_interleave(n // len(position), 0)[:, None].expand(n, c, -1)
            h = head(feature.flatten(2).gather(2, index).transpose(1, 2))
            out.append(h / (h.norm(dim=-1, keepdim=True) + 1e-7))
        return out


def draw_positions(
    sizes: Sequence[int], groups: int, patches: int, draws: Draws, device: torch.device
) -> list[Tensor]:
    """Per tap of so many pixels, (groups, min(patches, pixels)) distinct random positions for each group."""
    return [
        torch.rand(groups, size, generator=draws, device=device).argsort(1)[:, :patches] for size in sizes
    ]


def initialise(network: nn.Module, draws: Draws, gain: float = 0.02) -> nn.Module:
    """Xavier-normal weights with this gain and zero biases throughout, as CUT and UNSB start.

    ``draws`` is on the device of the network.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_normal_(module.weight, gain, generator=draws)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, ModulatedBlock | PixelHead):
            with torch.no_grad():
                module.finish_initialisation(draws)
    return network


def inert_parameters(network: nn.Module) -> int:
    """How many parameters the published network of this kind has beyond ``network``'s own, none of which can
    influence its output: biases before norms, later stages' time terms in a conditional discriminator, and
    in the published bridge generator the time path and three layers of each block."""
    count = sum(m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d) and m.bias is None)
    if isinstance(network, PatchGAN) and network.time_term is not None:
        width = network.time_term.in_features
        count += sum(c.out_channels * (width + 1) for c in network.convs if isinstance(c, nn.Conv2d))
    if isinstance(network, BridgeGenerator) and network.time_mode == "released":
        w = network.noise_width
        overwritten = w * (9 * w + 1) + w * (w + 1) + 2 * w * (w + 1)  # convolution, time term, second style
        count += len(network.blocks) * overwritten + w * (network.ngf + 1) + w * (w + 1)
    return count
