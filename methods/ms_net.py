"""ms-net: a fusion network trained on MS alone, with a PAN made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import LaplacianPyramid, decimate, interp23, mtf_filter
from pansharp_bench.method import Pairing, TrainingData
from pansharp_bench.methods._paired import LIGHT, PairedConfig, PairedMethod
from pansharp_bench.methods.fusionnet import FusionNet
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene, Split
from pansharp_bench.training import PairedData, Trainer, UnpairedData, augment_batch
from pansharp_bench.training.samplers import Augment

_ROUNDS = 3  # levels of a pyramid are not independent: what a gain changes in one shows in the next


@dataclass(frozen=True)
class MSNetConfig(PairedConfig):
    """How a PAN is made from MS: ``bands`` of a Laplacian pyramid in which its detail is given that of real PAN.

    Which bands make PAN, and how much sharper it is, cannot be known without pairs, so every training image may get
    a PAN of its own: ``mix`` says how far its bands' weights are drawn, from equal ones (0) to any average (1:
    uniform over all); ``jitter`` is the deviation of the logarithm of random gains on the pyramid's bands.
    ``pairing``: how MS and PAN images are kept apart.
    """

    bands: int = 3
    mix: float = 0.0
    jitter: float = 0.0
    pairing: Pairing = "disjoint"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.mix <= 1 or self.jitter < 0:
            raise BenchError(
                f"options mix={self.mix}, jitter={self.jitter}: mix lies between 0 and 1, jitter is not negative"
            )


class SyntheticPan:
    """Averages of MS bands with the mean of PAN and, level by level of a pyramid, its deviation.

    Args:
        pan: (N, 1, H, W) DN, of any scenes.
        ms: (M, C, H, W) DN, of any others.
        bands: levels of the pyramid besides its residual.
    """

    def __init__(self, pan: Tensor, ms: Tensor, bands: int) -> None:
        self.pyramid = LaplacianPyramid(bands)
        self.pan_mean, of_pan = self._measured(pan)
        self.of_pan = of_pan.flatten().sqrt()
        self.means, self.products = self._measured(ms)
        self.gains: list[Tensor] = []
        for _ in range(_ROUNDS - 1):
            made = torch.cat([self(part) for part in ms.split(64)])
            of_made = self._measured(made)[1].flatten().sqrt()
            self.gains.append((self.of_pan / of_made).where(of_made > 0, 0))

    def _measured(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Means of the bands (C, 1, 1), and of every pyramid level of what is left, finest first, the mean products
        of any two bands (levels, C, C)."""
        mean = images.double().mean((0, 2, 3)).float()[:, None, None]
        total = torch.zeros((), dtype=torch.float64, device=images.device)
        for part in images.split(64):
            levels = [v.double() for v in self.pyramid.decompose(part - mean)]
            products = [torch.einsum("nchw,ndhw->cd", v, v) / v[:, 0].numel() for v in levels]
            total = total + torch.stack(products) * (len(part) / len(images))
        return mean, total.float()

    def __call__(self, ms: Tensor, weights: Tensor | None = None, gains: Tensor | None = None) -> Tensor:
        """(n, 1, H, W) of (n, C, H, W), with ``weights`` (n, C) of the bands (equal ones by default) and further
        ``gains`` (n, levels)."""
        if weights is None:
            weights = ms.new_full(ms.shape[:2], 1 / ms.shape[1])
        made = torch.einsum("nchw,nc->nhw", ms - self.means, weights)[:, None]
        deviations = torch.einsum("nc,lcd,nd->nl", weights, self.products, weights).clamp(min=0).sqrt()
        first = (self.of_pan / deviations).where(deviations > 0, 0)
        for gain in (first if gains is None else first * gains, *self.gains):
            made = self.pyramid.gate(made, gain)
        return made + self.pan_mean


class MadePairs:
    """Samples for a paired network out of MS images alone: each is the reference; itself, degraded by the
    sensor's MTF and decimated, the MS; :class:`SyntheticPan` of it the PAN. Serves what ``PairedData``
    serves."""

    def __init__(self, data: UnpairedData, config: MSNetConfig) -> None:
        self.sensor, self.device, self.images = data.sensor, data.device, data.target
        self.config, self.team = config, data.team
        self.pan_of = SyntheticPan(data.all_source(), data.all_target(), config.bands)
        self.valid = _Memory(self._scene(data.valid_target))

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, samples: Tensor, generator: torch.Generator, augment: Augment = "none") -> Scene:
        """The samples of these indices ((N,) on the device), each with a PAN drawn for it."""
        ms = self.images.take(self.team.share(samples))
        ms = augment_batch({"ms": ms}, augment, generator, self.team)["ms"]
        return self._scene(ms, self._weights(len(samples), generator), self._gains(len(samples), generator))

    def scenes(self, index: Tensor) -> Scene:
        """The samples of these indices ((N,) on the device), each with the same kind of PAN."""
        return self._scene(self.images.take(index))

    def _weights(self, n: int, generator: torch.Generator) -> Tensor | None:
        """(n, C), the share of it: between equal ones and draws that are uniform over all that sum to 1."""
        mix, bands = self.config.mix, self.sensor.channels
        if not mix:
            return None
        drawn = self.team.share(torch.rand(n, bands, generator=generator, device=self.device))
        drawn = drawn.clamp(min=1e-6).log().neg()
        return mix * drawn / drawn.sum(1, keepdim=True) + (1 - mix) / bands

    def _gains(self, n: int, generator: torch.Generator) -> Tensor | None:
        """(n, levels), the share of it: random on the pyramid's bands, 1 on its residual."""
        if not self.config.jitter:
            return None
        drawn = torch.randn(n, self.config.bands, generator=generator, device=self.device)
        return F.pad((self.config.jitter * self.team.share(drawn)).exp(), (0, 1), value=1.0)

    def _scene(self, reference: Tensor, weights: Tensor | None = None, gains: Tensor | None = None) -> Scene:
        ms = decimate(mtf_filter(reference, self.sensor), self.sensor).contiguous()
        pan = self.pan_of(reference, weights, gains)
        return Scene(self.sensor, pan, ms, interp23(ms, self.sensor), reference)


class _Memory(Split):
    name, keys = "valid", ("pan", "ms", "lms", "gt")

    def __init__(self, scene: Scene) -> None:
        self.scene, self.sensor = scene, scene.sensor

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, index: int | slice) -> Scene:
        return self.scene[index]


@register_method(
    "ms-net", title="MS net", kind="deep", sees="pan+ms", training="unpaired",
    paper="none: a method of this suite (docs/paired.md)", year=2026, licence="MIT", smallest=8, halo=8,
)  # fmt: skip
class MSNet(PairedMethod):
    """FusionNet's network, trained without one pair of PAN and MS.

    A scene's MS is the reference; its input is that MS one scale coarser, and a PAN made of it whose brightness
    and sharpness are those of PAN images of other scenes. At inference it sees PAN and registered MS like any
    paired network. What is learnt at the coarser scale is taken to hold at the finer one, as in Wald's
    protocol."""

    Config = MSNetConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        name: {**options, "mix": 1.0, "jitter": 0.15}
        for name, options in (*LIGHT.items(), ("paper", {"steps": 20_000, "schedule": "cosine"}))
    }
    config: MSNetConfig

    def network(self) -> FusionNet:
        return FusionNet(self.sensor.channels)

    def training_data(self) -> TrainingData:
        return TrainingData(
            self.config.pairing, "gt"
        )  # MS at its own scale is the reference of the coarser one

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:  # type: ignore[override]
        made = MadePairs(data, self.config)
        told = {"of_pan": made.pan_of.of_pan.tolist(), "gains": [g.tolist() for g in made.pan_of.gains]}
        return super().fit(cast(PairedData, made), trainer) | told
