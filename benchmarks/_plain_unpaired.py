"""One training step of UNSB, CUT and SP-I2I, written out as published: the baseline that speed is held against.

Everything is computed in the order and number of times the published code does it: all of a network's layers
(those without influence too), every convolution's bias, one chain after the other, each with a call at its
last state that nobody uses, every pair of the contrastive loss by itself, keys with a graph that is then cut.
Parameters that the fast networks have carry the same names, so ``load_state_dict(..., strict=False)`` gives
both the same weights; and a step takes the same draws as the fast learner's ``learn``.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.imaging import LaplacianPyramid
from pansharp_bench.methods._unpaired.learner import BridgeDraw
from pansharp_bench.methods._unpaired.networks import ProjectionHeads
from pansharp_bench.methods._unpaired.options import BridgeOptions
from pansharp_bench.methods.cut import CUTConfig, CUTDraw
from pansharp_bench.methods.sp_i2i import SPConfig, grey_of


def norm(x: Tensor) -> Tensor:
    return F.instance_norm(x, eps=1e-5)


def downsample(x: Tensor) -> Tensor:
    row = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = (torch.outer(row, row) / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device)
    kernel = (torch.outer(row, row) / 16).expand(x.shape[1], 1, 4, 4)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    whole = F.conv_transpose2d(padded, kernel, stride=2, padding=2, groups=x.shape[1])
    return whole[:, :, 1:-1, 1:-1]


def embedding(index: int, dim: int, like: Tensor) -> Tensor:
    half = dim // 2
    step = torch.log(torch.tensor(10000.0)) / (half - 1)
    angle = float(index) * torch.exp(torch.arange(half) * -step)
    return torch.cat((angle.sin(), angle.cos()))[None].to(like)


class Dense(nn.Module):
    """Two linear layers with leaky ReLU, under the name ``layers``."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class PlainBlock(nn.Module):
    """CUT's residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(norm(self.conv1(F.pad(x, (1, 1, 1, 1), mode="reflect"))))
        return x + norm(self.conv2(F.pad(h, (1, 1, 1, 1), mode="reflect")))


class PlainBridgeBlock(nn.Module):
    """UNSB's block: as released, where the first branch is computed and overwritten; or ``film``."""

    def __init__(self, width: int, film: bool) -> None:
        super().__init__()
        self.film = film
        self.conv1, self.conv2 = nn.Conv2d(width, width, 3), nn.Conv2d(width, width, 3)
        self.time = nn.Linear(width, width)
        self.style = nn.Linear(2 * width if film else width, 2 * width)

    def forward(self, x: Tensor, time: Tensor, z: Tensor) -> Tensor:
        if self.film:
            h = norm(self.conv1(F.pad(x, (1, 1, 1, 1), mode="reflect")))
            style = self.style(torch.cat((z, time.expand(len(z), -1)), 1))
        else:
            h = self.conv1(x) + self.time(time)[..., None, None]
            h = norm(x)
            style = self.style(z)
        scale, shift = style[..., None, None].chunk(2, 1)
        h = F.relu(scale * h + shift)
        return x + norm(self.conv2(F.pad(h, (1, 1, 1, 1), mode="reflect")))


class PlainPixelHead(nn.Module):
    """Three layers per pixel, on features and source."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        widths = (features + channels, features, features, channels)
        self.layers = nn.ModuleDict({str(2 * k): nn.Conv2d(widths[k], widths[k + 1], 1) for k in range(3)})

    def forward(self, x: Tensor) -> Tensor:
        for name, layer in self.layers.items():
            x = torch.einsum("nchw,oc->nohw", x, layer.weight[..., 0, 0]) + layer.bias[:, None, None]
            x = x if name == "4" else x.clamp_min(0)
        return x


class PlainDetail(nn.Module):
    """The source's part of the image: its bands' low-passes times gains, and what these leave over."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, source: Tensor) -> Tensor:
        low = upsample(upsample(downsample(downsample(source))))
        return source + (self.gain - 1) * low


class PlainGenerator(nn.Module):
    """CUT's generator, or with ``bridge`` UNSB's; with the options ``skip`` and ``head`` of either."""

    def __init__(
        self, channels: int, ngf: int, blocks: int, bridge: bool = False, film: bool = False,
        skip: str = "none", pixel: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        width = 4 * ngf
        self.ngf, self.bridge, self.blurred = ngf, bridge, skip == "handed"
        self.pixel = PlainPixelHead(ngf, channels) if pixel else None
        self.detail = None if skip == "none" else PlainDetail(channels)
        self.conv1 = nn.Conv2d(channels, ngf, 7)
        self.conv4 = nn.Conv2d(ngf, 2 * ngf, 3, padding=1)
        self.conv8 = nn.Conv2d(2 * ngf, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            PlainBridgeBlock(width, film) if bridge else PlainBlock(width) for _ in range(blocks)
        )
        self.conv22 = nn.Conv2d(width, 2 * ngf, 3, padding=1)
        self.conv26 = nn.Conv2d(2 * ngf, ngf, 3, padding=1)
        self.conv30 = nn.Conv2d(ngf, channels, 7)
        if bridge:
            self.time_path = Dense(ngf, width)
            self.noise_path = nn.Sequential(
                *(m for _ in range(4) for m in (nn.Linear(width, width), nn.LeakyReLU(0.2)))
            )

    def forward(
        self, x: Tensor, index: int = 0, z: Tensor | None = None, taps: Sequence[int] = (),
        source: Tensor | None = None,
    ) -> Tensor | list[Tensor]:  # fmt: skip
        source = x if source is None else source
        seen = source
        if self.blurred:
            x, seen = (upsample(upsample(downsample(downsample(v)))) for v in (x, source))
        condition = ()
        if self.bridge:
            assert z is not None
            time = self.time_path(embedding(index, self.ngf, x))
            condition = (time, self.noise_path(z / torch.sqrt(z.square().mean(1, keepdim=True) + 1e-8)))
        features = {0: F.pad(x, (3, 3, 3, 3), mode="reflect")}
        h = F.relu(norm(self.conv1(features[0])))
        h = features[4] = self.conv4(h)
        h = downsample(F.relu(norm(h)))
        h = features[8] = self.conv8(h)
        h = downsample(F.relu(norm(h)))
        for k, block in enumerate(self.blocks):
            h = features[12 + k] = block(h, *condition)
            if taps and 12 + k == max(taps):
                return [features[t] for t in taps]
        h = F.relu(norm(self.conv22(upsample(h))))
        h = F.relu(norm(self.conv26(upsample(h))))
        if self.pixel is None:
            h = self.conv30(F.pad(h, (3, 3, 3, 3), mode="reflect"))
        else:
            h = self.pixel(torch.cat((h, seen), 1))
        return torch.tanh(h) if self.detail is None else h + self.detail(source)


class PlainPatchGAN(nn.Module):
    """The patch discriminator; with ``timed`` every stage gets a time term."""

    def __init__(self, channels: int, ndf: int, timed: bool = False) -> None:
        super().__init__()
        widths = [ndf, 2 * ndf, 4 * ndf, 8 * ndf]
        self.ndf = ndf
        self.conv1 = nn.Conv2d(channels, ndf, 4, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(widths[k], widths[k + 1], 4, padding=1) for k in range(3))
        self.last = nn.Conv2d(8 * ndf, 1, 4, padding=1)
        self.timed = timed
        if timed:
            self.time_path = Dense(4 * ndf, 4 * ndf)
            self.time_term = nn.Linear(4 * ndf, ndf)
            self.time_terms = nn.ModuleList(nn.Linear(4 * ndf, w) for w in widths[1:])

    def forward(self, x: Tensor, index: int = 0) -> Tensor:
        time = self.time_path(embedding(index, 4 * self.ndf, x)) if self.timed else None
        h = self.conv1(x)
        if time is not None:
            h = h + self.time_term(time)[..., None, None]
        h = downsample(F.leaky_relu(h, 0.2))
        for k, layer in enumerate(self.convs):
            h = layer(h)
            if time is not None:
                h = h + self.time_terms[k](time)[..., None, None]
            h = F.leaky_relu(norm(h), 0.2)
            if k < 2:
                h = downsample(h)
        return self.last(h)


def literal_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """(N, p, d) twice -> (N p,): cross entropy with the positive first and -10 on the negatives' diagonal."""
    n, p = query.shape[:2]
    key = key.detach()
    positive = (query * key).sum(-1).reshape(-1, 1)
    negative = torch.bmm(query, key.transpose(1, 2))
    negative.masked_fill_(torch.eye(p, dtype=torch.bool, device=query.device)[None], -10.0)
    logits = torch.cat((positive, negative.reshape(-1, p)), 1) / temperature
    return F.cross_entropy(
        logits, torch.zeros(n * p, dtype=torch.long, device=query.device), reduction="none"
    )


def nce(
    generator: nn.Module, heads: ProjectionHeads, source: Tensor, image: Tensor, positions: list[Tensor],
    config: BridgeOptions | CUTConfig, z: Tensor | None = None, mirrored: bool = False,
) -> Tensor:  # fmt: skip
    """Contrastive loss of one image batch against its source; the taps' positions are (p,)."""
    extra = () if z is None else (0, z)
    queries = generator(image, *extra, taps=config.nce_layers)
    keys = generator(source, *extra, taps=config.nce_layers)
    if mirrored:
        queries = [q.flip(-1) for q in queries]
    total = 0.0
    for head, query, key, position in zip(heads.heads, queries, keys, positions, strict=True):
        sampled = []
        for feature in (key, query):
            h = head(feature.permute(0, 2, 3, 1).flatten(1, 2)[:, position].flatten(0, 1))
            h = h / (h.square().sum(1, keepdim=True).sqrt() + 1e-7)
            sampled.append(h.reshape(len(feature), -1, h.shape[1]))
        total = total + literal_nce(sampled[1], sampled[0], config.nce_temperature).mean()
    return total / len(positions)


def square(scores: Tensor, target: float) -> Tensor:
    return F.mse_loss(scores, torch.full_like(scores, target))


def update(loss: Tensor, optimizers: dict[str, torch.optim.Optimizer], *names: str) -> None:
    for name in names:
        optimizers[name].zero_grad()
    loss.backward()
    for name in names:
        optimizers[name].step()


def require_grad(value: bool, *networks: nn.Module) -> None:
    for network in networks:
        for parameter in network.parameters():
            parameter.requires_grad = value


def log_sum(
    energy: nn.Module, pair: Tensor, other: Tensor, index: int, bounded: bool
) -> tuple[Tensor, Tensor]:
    """The logarithm of the sum over the other draw's pairs (bounded: and the own); the own pairs' scores."""
    joint = energy(torch.cat((pair, pair), 1), index)
    total = energy(torch.cat((pair, other), 1), index).exp().sum() + bounded * joint.exp().sum()
    return total.log(), joint


def apart(fake: Tensor, source: Tensor, distance: str) -> Tensor:
    """How far a level is from the source's, image by image."""
    total = 0.0
    for f, s in zip(fake, source, strict=True):
        if distance == "l1":
            total = total + (f - s).abs().mean()
        elif distance == "gain":
            gain = min(max(float((f * s).sum().detach() / (f * f).sum().detach()), 0.25), 4.0)
            total = total + (gain * f - s).abs().mean()
        else:
            total = total + (1 - F.cosine_similarity(f.flatten(), s.flatten(), dim=0)) * s.abs().mean()
    return total / len(fake)


def bridge_step(
    networks: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    config: BridgeOptions,
    draw: BridgeDraw,
    times: list[float],
) -> dict[str, Tensor]:
    """One step of UNSB; of SP-I2I where ``config`` is its. Networks G, D, E, and F or gate."""
    generator, discriminator, energy = networks["G"], networks["D"], networks.get("E")
    c, i, n = config, draw.index, len(draw.target)
    groups = draw.start.split(n)
    zs = draw.z.split(n)
    states = []
    with torch.no_grad():
        for g, x in enumerate(groups):
            end = x
            for k in range(i + 1):
                if k > 0:
                    step = times[k] - times[k - 1]
                    share = step / (1 - times[k - 1])
                    noise = draw.chain_noise[k - 1, g * n : (g + 1) * n]
                    x = (1 - share) * x + share * end + (c.tau * step * (1 - share)) ** 0.5 * noise
                z = draw.chain_z[k, g * n : (g + 1) * n] if k < i else torch.randn_like(zs[g])
                end = generator(x, k, z, source=groups[g])
            states.append(x)
    ends = [generator(x, i, z, source=a) for x, z, a in zip(states, zs, groups, strict=True)]
    fake, fake2 = ends[0], ends[-1]
    pair, pair2 = torch.cat((states[0], fake), 1), torch.cat((states[-1], fake2), 1)

    shown, losses = fake, {}
    if isinstance(c, SPConfig) and c.gating:
        weights = networks["gate"](fake.detach(), i)
        pyramid = LaplacianPyramid(c.bands)
        levels = pyramid.decompose(fake)
        shown = pyramid.reconstruct([weights[:, j, None, None, None] * v for j, v in enumerate(levels)])

    require_grad(True, discriminator)
    losses["D"] = 0.5 * (
        square(discriminator(shown.detach(), i), 0) + square(discriminator(draw.target, i), 1)
    )
    update(losses["D"], optimizers, "D")
    losses["bridge"] = c.tau * ((states[0] - fake) ** 2).mean()
    if energy is not None:
        require_grad(True, energy)
        a, joint = log_sum(energy, pair.detach(), pair2.detach(), i, c.entropy == "bounded")
        losses["E"] = -joint.mean() + a + a**2
        update(losses["E"], optimizers, "E")
        require_grad(False, energy)
        a, joint = log_sum(energy, pair, pair2, i, c.entropy == "bounded")
        losses["bridge"] = losses["bridge"] - (c.timesteps - i) / c.timesteps * c.tau * (joint.mean() - a)

    require_grad(False, discriminator)
    losses["gan"] = square(discriminator(shown, i), 1)
    losses["G"] = c.lambda_gan * losses["gan"] + c.lambda_sb * losses["bridge"]
    names = ["G"]
    if c.lambda_nce:
        z1, z2 = draw.nce_z.split(n)
        first = nce(generator, networks["F"], groups[0], fake, [p[0] for p in draw.positions], c, z1)
        second = nce(generator, networks["F"], groups[1], ends[1], [p[1] for p in draw.positions], c, z2)
        losses["nce"] = (first + second) / 2
        losses["G"] = losses["G"] + c.lambda_nce * losses["nce"]
        names.append("F")
    if isinstance(c, SPConfig):
        pyramid = LaplacianPyramid(c.bands)
        weights_ = [c.sp_falloff**j for j in range(c.bands)]
        structure = 0.0
        for w, x, y in zip(weights_, pyramid.decompose(fake), pyramid.decompose(groups[0]), strict=False):
            structure = structure + w / sum(weights_) * apart(grey_of(x), grey_of(y), c.sp_distance)
        losses["structure"] = structure
        losses["G"] = losses["G"] + c.lambda_sp * structure
        names += ["gate"] if c.gating else []
    update(losses["G"], optimizers, *names)
    return {k: v.detach() for k, v in losses.items()}


def cut_step(
    networks: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    config: CUTConfig,
    draw: CUTDraw,
) -> dict[str, Tensor]:
    """One step of CUT or FastCUT. Networks G, D, F."""
    generator, discriminator, heads = (networks[k] for k in "GDF")
    c, n, losses = config, len(draw.source), {}
    inputs = torch.cat((draw.source, draw.target)) if c.nce_identity else draw.source
    images = generator(inputs.flip(-1) if draw.mirrored else inputs)
    fake = images[:n]
    require_grad(True, discriminator)
    losses["D"] = 0.5 * (square(discriminator(fake.detach()), 0) + square(discriminator(draw.target), 1))
    update(losses["D"], optimizers, "D")
    require_grad(False, discriminator)
    losses["gan"] = square(discriminator(fake), 1)
    losses["nce"] = nce(
        generator, heads, draw.source, fake, [p[0] for p in draw.positions], c, mirrored=draw.mirrored
    )
    if c.nce_identity:
        again = nce(generator, heads, draw.target, images[n:], [p[1] for p in draw.positions], c)
        losses["nce"] = (losses["nce"] + again) / 2
    losses["G"] = c.lambda_gan * losses["gan"] + c.lambda_nce * losses["nce"]
    update(losses["G"], optimizers, "G", "F")
    return {k: v.detach() for k, v in losses.items()}


def plain_networks(
    fast: dict[str, nn.Module], config: BridgeOptions | CUTConfig, channels: int
) -> dict[str, nn.Module]:
    """The published networks with the weights of the fast ones (what those lack keeps its initial value)."""
    c, bridge = config, isinstance(config, BridgeOptions)
    film = bridge and c.time_mode == "film"
    plain = {
        "G": PlainGenerator(channels, c.ngf, c.blocks, bridge, film, c.skip, c.head == "pixel"),
        "D": PlainPatchGAN(channels, c.ndf, timed=bridge),
    }
    if "E" in fast:
        plain["E"] = PlainPatchGAN(4 * channels, c.ndf, timed=True)
    first = next(fast["G"].parameters())
    for name, network in plain.items():
        unknown = network.to(first).load_state_dict(fast[name].state_dict(), strict=False).unexpected_keys
        assert not unknown, unknown
    return plain | {name: copy.deepcopy(fast[name]) for name in ("F", "gate") if name in fast}


def plain_optimizers(
    networks: dict[str, nn.Module], config: BridgeOptions | CUTConfig
) -> dict[str, torch.optim.Adam]:
    c = config
    return {k: torch.optim.Adam(n.parameters(), c.lr, (c.beta1, c.beta2)) for k, n in networks.items()}
