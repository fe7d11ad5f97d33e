"""SP-I2I: structure-preserving unpaired translation (Singh et al., 2025).

A Schrödinger bridge as in UNSB, trained with two objectives on the pyramid of the predicted image f: the
discriminator sees f with each Laplacian level scaled by a learned gate, and a consistency loss ties the grey
detail of f to the source,

    L = L_adv(Rec(w * P(f)), B) + lambda_sb L_sb + lambda_sp sum_j lambda_j |P_j(grey f) - P_j(grey A)|.

The paper leaves much open; each such point is an option of :class:`SPConfig`, whose default is argued in
docs/sp-i2i.md.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.errors import BenchError, OptionError
from pansharp_bench.imaging import LaplacianPyramid, max_bands
from pansharp_bench.methods._unpaired.bridge import BridgeMethod
from pansharp_bench.methods._unpaired.learner import BridgeDraw, BridgeLearner, Shown
from pansharp_bench.methods._unpaired.networks import SLOPE, TimeMode, TimePath
from pansharp_bench.methods._unpaired.options import (
    ConsistencyOptions,
    ContrastiveBridgeOptions,
    Distance,
    GateOptions,
)
from pansharp_bench.methods._unpaired.presets import BRIDGE_PRESETS
from pansharp_bench.registry import register_method
from pansharp_bench.training import ALONE, Learner, Team, Trainer, UnpairedData

_SILENT = 1e-12  # a power below which a level says nothing
PHOTOGRAPHIC = (0.299, 0.587, 0.114)  # grey of red, green, blue


@dataclass(frozen=True)
class SPConfig(GateOptions, ConsistencyOptions, ContrastiveBridgeOptions):
    """The bridge, the gate and the tie to the source; UNSB's contrastive loss, which the tie replaces, has no
    weight here."""

    time_mode: TimeMode = "film"
    lambda_nce: float = 0.0
    decay: float = 0.0


class Gate(nn.Module):
    """The weights of a prediction's pyramid levels: (N, C, H, W) and time index -> (N, bands + 1) in [0, 1].

    Finest first, the residual's last. Its last layer starts at 0 with biases that make weights rise evenly
    from 0.1 (finest band) to 0.95 (coarsest), so D sees no detail of the source early on. No norms: the mean
    level must stay visible.
    """

    def __init__(
        self, channels: int, bands: int, steps: int, monotone: bool = False, residual: bool = False
    ) -> None:
        super().__init__()
        self.bands, self.monotone, self.residual = bands, monotone, residual
        widths = (channels, 32, 64, 128, 128)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(widths)
        )
        self.time_path = TimePath(64, 128, steps)
        self.hidden = nn.Linear(256, 128)
        self.last = nn.Linear(128, bands + residual)
        self.restart()

    def restart(self) -> None:
        """Set the last layer to its starting weights."""
        ramp = torch.linspace(0.1, 0.95, self.bands) if self.bands > 1 else torch.full((self.bands,), 0.95)
        if self.monotone:  # w_j = s_j w_{j+1}
            ramp = ramp / torch.cat((ramp[1:], torch.ones(min(1, self.bands))))
        start = torch.cat((ramp, torch.full((int(self.residual),), 0.95)))
        nn.init.zeros_(self.last.weight)
        with torch.no_grad():
            self.last.bias.copy_(torch.logit(start))

    def forward(self, x: Tensor, index: int) -> Tensor:
        h = x
        for layer in self.convs:
            h = F.leaky_relu(layer(h), SLOPE)
        h = torch.cat((h.mean((2, 3)), self.time_path(index).expand(len(x), -1)), 1)
        free = torch.sigmoid(self.last(F.leaky_relu(self.hidden(h), SLOPE)).float())
        bands = free[:, : self.bands]
        if self.monotone:
            # cumprod's derivative asks the device whether there are zeros, and waits
            products = itertools.accumulate(bands.flip(1).split(1, 1), torch.mul)
            bands = torch.cat(list(products), 1).flip(1)
        residual = (
            free[:, self.bands :] if self.residual else torch.ones_like(free[:, :1].new_empty(len(x), 1))
        )
        return torch.cat((bands, residual), 1)


def grey_of(x: Tensor, weights: tuple[float, ...] = ()) -> Tensor:
    """(N, C, H, W) -> (N, 1, H, W): weighted bands (weights sum to 1), see ``ConsistencyOptions``.

    Raises BenchError where the number of weights is not that of bands.
    """
    channels = x.shape[1]
    if not weights:
        weights = PHOTOGRAPHIC if channels == 3 else (1 / channels,) * channels
    if len(weights) != channels:
        raise BenchError(f"option grey has {len(weights)} weights for {channels} bands")
    # filled in there: a GPU would be waited for while a list is copied, and no CUDA graph may hold that
    scale = torch.stack([x.new_full((), w) for w in weights]) / sum(weights)
    return torch.einsum("nchw,c->nhw", x, scale)[:, None]


def level_distance(fake: Tensor, source: Tensor, distance: Distance) -> Tensor:
    """How far a pyramid level (N, 1, h, w) of the grey prediction f is from the source's s, in the source's unit.

    ``l1``: mean |f - s|, as published. PAN's contrast is not the bands', so it is not 0 at the truth. ``gain``:
    mean |g f - s| with the gain of least squares, kept within 1/4 and 4. ``correlation``: (1 - ρ) mean |s|, ρ the
    correlation of f and s about 0. The latter two are 0 wherever f is a multiple of s, image by image.
    """
    if distance == "l1":
        return (fake - source).abs().mean()
    product, power, wanted = (
        v.sum((1, 2, 3), keepdim=True) for v in (fake * source, fake.square(), source.square())
    )
    if distance == "gain":
        gain = (product / power.clamp(min=_SILENT)).clamp(0.25, 4).detach()
        return (gain * fake - source).abs().mean()
    correlation = product * (power * wanted).clamp(min=_SILENT).rsqrt()
    return ((1 - correlation) * source.abs().mean((1, 2, 3), keepdim=True)).mean()


def consistency_loss(fake: Tensor, source: Tensor, config: SPConfig) -> Tensor:
    """sum_j lambda_j d(P_j(grey fake), P_j(grey source)), d the chosen :func:`level_distance`."""
    levels = LaplacianPyramid(config.bands).decompose(grey_of(torch.cat((fake, source)), config.grey))
    if config.bands and not config.sp_include_residual:
        levels = levels[:-1]
    total, weights = fake.new_zeros(()), [config.sp_falloff**j for j in range(len(levels))]
    for weight, level in zip(weights, levels, strict=True):
        of_fake, of_source = level.chunk(2)
        total = total + weight * level_distance(of_fake, of_source, config.sp_distance)
    return total / sum(weights)


def chroma_loss(fake: Tensor, config: SPConfig, team: Team = ALONE) -> Tensor:
    """Mean over bands of the detail of each channel that its regression on the grey detail, over the whole batch,
    leaves over."""
    terms = []
    for level in LaplacianPyramid(config.bands).decompose(fake)[:-1]:
        grey = grey_of(level, config.grey)
        with torch.no_grad():
            moments = [(level * grey).mean((0, 2, 3), keepdim=True), grey.square().mean()]
            team.average(moments)
            gain = moments[0] / (moments[1] + 1e-8)
        terms.append((level - gain * grey).abs().mean())
    return torch.stack(terms).mean() if terms else fake.new_zeros(())


class SPLearner(BridgeLearner):
    """The bridge's step with the gate before D and the consistency loss on G."""

    config: SPConfig

    def __init__(self, method: SPI2I, data: UnpairedData, trainer: Trainer) -> None:
        super().__init__(method, data, trainer)
        c, h, w = self.config, *(self.config.crop or self.config.load or s for s in data.patch_size)
        if c.bands > max_bands(h, w):
            most = max_bands(h, w) + (not c.levels_exclude_residual)
            raise OptionError(
                f"option levels={c.levels}: training images of {h} x {w} have pyramids of at most {most} levels"
            )
        self.pyramid = LaplacianPyramid(c.bands)
        if c.gated:
            gate = Gate(data.sensor.channels, c.bands, c.timesteps, c.gate == "monotone", c.gate_residual)
            self.networks["gate"] = gate.to(self.device)
            self.optimise(gate=c.gate_lr)

    def show(self, fake: Tensor, draw: BridgeDraw) -> Shown:
        c = self.config
        if not c.gated:
            return super().show(fake, draw)
        weights = self.networks["gate"](fake.detach() if c.gate_detached else fake, draw.index)
        return Shown(
            self.pyramid.gate(fake, weights),
            self.pyramid.gate(draw.target, weights.detach()) if c.filter_real else draw.target,
            c.gate_penalty * weights[:, : c.bands].sum(1).mean() / max(1, c.bands),
            {f"gate{j}": w for j, w in enumerate(weights.mean(0).detach())},
        )

    def further(self, fake: Tensor, source: Tensor, losses: dict[str, Tensor]) -> Tensor:
        c = self.config
        losses["structure"] = consistency_loss(fake, source, c)
        total = c.lambda_sp * losses["structure"]
        if c.sp_chroma:
            losses["chroma"] = chroma_loss(fake, c, self.team)
            total = total + c.sp_chroma * losses["chroma"]
        return total


@register_method(
    "sp-i2i",
    title="SP-I2I",
    kind="unpaired",
    sees="pan",
    training="unpaired",
    tracks=("pansharpening", "calibration"),
    paper="Structure-Preserving Unpaired Image Translation to Photometrically Calibrate JunoCam with Hubble Data",
    year=2025,
    smallest=24,
    published="SP-I2I",
)
class SPI2I(BridgeMethod):
    """Schrödinger bridge with a Laplacian gate before its discriminator and a detail consistency loss."""

    Config = SPConfig
    # At the generator's own rate either gate runs into a corner within a hundred steps and may jump to the
    # other; a hundredth of it keeps the weights between, and monotone weights cannot come out upside down.
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        name: {**options, "gate": "monotone", "gate_lr": 0.01} for name, options in BRIDGE_PRESETS.items()
    }
    presets["quick"]["sp_falloff"] = 0.1  # PAN's contrast is the bands' only in the finest level
    config: SPConfig

    def learner(self, data: UnpairedData, trainer: Trainer) -> Learner:
        return SPLearner(self, data, trainer)
