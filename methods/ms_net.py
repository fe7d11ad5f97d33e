"""ms-net: a fusion network trained on MS alone, with a PAN made from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

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
    """``bands`` of a Laplacian pyramid in which the made PAN's detail is given that of real PAN; ``pairing``:
    how MS and PAN images are kept apart."""

    bands: int = 3
    pairing: Pairing = "disjoint"


class SyntheticPan:
    """Grey of MS images (the bands' mean) with the mean of PAN and, level by level of a pyramid, its deviation.

    Args:
        pan: (N, 1, H, W) DN, of any scenes.
        ms: (M, C, H, W) DN, of any others.
    """

    def __init__(self, pan: Tensor, ms: Tensor, bands: int) -> None:
        self.pyramid = LaplacianPyramid(bands)
        self.pan_mean, of_pan = self._measured(pan)
        made = ms.mean(1, keepdim=True)
        self.grey_mean, of_made = self._measured(made)
        self.gains: list[Tensor] = []
        for _ in range(_ROUNDS):
            self.gains.append((of_pan / of_made).where(of_made > 0, 0))
            made = torch.cat([self(part) for part in ms.split(64)])
            _, of_made = self._measured(made)

    def _measured(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean, and the deviations of the levels of what is left of it, finest first."""
        mean = images.double().mean().float()
        squares = [
            torch.stack([level.double().square().mean() for level in self.pyramid.decompose(part - mean)])
            * (len(part) / len(images))
            for part in images.split(64)
        ]
        return mean, torch.stack(squares).sum(0).sqrt().float()

    def __call__(self, ms: Tensor) -> Tensor:
        """(n, 1, H, W) of (n, C, H, W)."""
        made = ms.mean(1, keepdim=True) - self.grey_mean
        for gains in self.gains:
            made = self.pyramid.gate(made, gains)
        return made + self.pan_mean


class MadePairs:
    """Samples for a paired network out of MS images alone: each is the reference; itself, degraded by the
    sensor's MTF and decimated, the MS; :class:`SyntheticPan` of it the PAN. Serves what ``PairedData``
    serves."""

    def __init__(self, data: UnpairedData, bands: int) -> None:
        self.sensor, self.device, self.images = data.sensor, data.device, data.target
        self.pan_of = SyntheticPan(data.all_source(), data.all_target(), bands)
        self.valid = _Memory(self._scene(data.valid_target))

    def __len__(self) -> int:
        return len(self.images)

    def scenes(
        self, index: Tensor, generator: torch.Generator | None = None, augment: Augment = "none"
    ) -> Scene:
        """The samples of these indices ((N,) on the device)."""
        ms = self.images.take(index)
        if generator is not None:
            ms = augment_batch({"ms": ms}, augment, generator)["ms"]
        return self._scene(ms)

    def _scene(self, reference: Tensor) -> Scene:
        ms = decimate(mtf_filter(reference, self.sensor), self.sensor).contiguous()
        return Scene(self.sensor, self.pan_of(reference), ms, interp23(ms, self.sensor), reference)


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
    paper="none: a method of this suite (docs/paired.md)", year=2026, licence="MIT", halo=16,
)  # fmt: skip
class MSNet(PairedMethod):
    """FusionNet's network, trained without one pair of PAN and MS.

    A scene's MS is the reference; its input is that MS one scale coarser, and a PAN made of it whose brightness
    and sharpness are those of PAN images of other scenes. At inference it sees PAN and registered MS like any
    paired network. What is learnt at the coarser scale is taken to hold at the finer one, as in Wald's
    protocol."""

    Config = MSNetConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = LIGHT | {"paper": {"steps": 20_000, "schedule": "cosine"}}
    config: MSNetConfig

    def network(self) -> FusionNet:
        return FusionNet(self.sensor.channels)

    def training_data(self) -> TrainingData:
        return TrainingData(
            self.config.pairing, "gt"
        )  # MS at its own scale is the reference of the coarser one

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:  # type: ignore[override]
        made = MadePairs(data, self.config.bands)
        return super().fit(cast(PairedData, made), trainer) | {
            "pan_gains": [g.tolist() for g in made.pan_of.gains]
        }
