"""CANConv: content-adaptive non-local convolution for remote sensing pansharpening (CVPR 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pansharp_bench.methods._paired import (
    Batch,
    PairedConfig,
    PairedLearner,
    PairedMethod,
    Schedule,
)
from pansharp_bench.methods.canconv.network import CANNet
from pansharp_bench.registry import register_method
from pansharp_bench.training import PairedData, Trainer

__all__ = ["CANConvMethod", "CANNet"]


@dataclass(frozen=True)
class CANConvConfig(PairedConfig):
    """``width`` channels at full size, ``clusters`` groups of pixels per image; a cluster of at most the share
    ``threshold`` of the pixels is merged into one of all such. With ``cache`` a training sample's partition is
    kept from epoch to epoch and renewed as :func:`renews` says. ``lr=0`` takes the authors' rate for the
    sensor."""

    width: int = 32
    clusters: int = 32
    threshold: float = 0.005
    cache: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cache and self.augment != "none":
            raise ValueError(
                "a cached partition does not fit a flipped sample: use augment=none or cache=false"
            )
        if not 1 <= self.clusters <= 255:
            raise ValueError("clusters must be from 1 to 255")


@register_method(
    "canconv",
    title="CANConv",
    kind="deep",
    sees="pan+ms",
    training="paired",
    paper="Y. Duan, X. Wu, H. Deng, L.-J. Deng: Content-Adaptive Non-Local Convolution for Remote Sensing "
    "Pansharpening",
    doi="10.48550/arXiv.2404.07543",
    year=2024,
    licence="MIT (our implementation)",
    published="CANConv",
)
class CANConvMethod(PairedMethod):
    """A kernel per cluster of similar pixels, made from the cluster's mean patch; U-shaped network."""

    Config = CANConvConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {
            "steps": 120,
            "batch": 8,
            "lr": 1e-3,
            "schedule": "cosine",
            "validations": 2,
            "validate_on": 64,
        },
        "standard": {"steps": 6000, "lr": 1e-3, "schedule": "cosine"},
        "paper": {"steps": 0, "epochs": 500, "lr": 0.0, "validations": 50},
    }
    config: CANConvConfig

    def network(self) -> CANNet:
        c = self.config
        return CANNet(self.sensor.channels, c.width, c.clusters, c.threshold)

    def predict(self, net: torch.nn.Module, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        return net(pan, lms)[0]

    def rate(self) -> tuple[float, Schedule]:
        if self.config.lr:
            return super().rate()
        return (1e-3, "step") if self.sensor.channels == 8 else (5e-4, "constant")

    def learner(self, data: PairedData, trainer: Trainer, steps: int) -> PairedLearner:
        kind = CachingLearner if self.config.cache else PairedLearner
        return kind(self, data, trainer, steps)


class CachingLearner(PairedLearner):
    """Remembers the partitions of every training sample, and renews them now and then."""

    known: list[Tensor] | None = None
    """Three (samples, pixels) uint8 tables."""

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        known, refine = None, False
        if batch.epoch > 1 and self.known is not None:
            known = tuple(table[batch.samples].long() for table in self.known)
            refine = renews(batch.epoch)
        fused, found = self.networks["net"](batch.pan, batch.lms, known, refine)
        if known is None or refine:
            if self.known is None:
                n = len(self.data)
                self.known = [f.new_zeros(n, f.shape[1], dtype=torch.uint8) for f in found]
            team = self.trainer.team
            samples = team.gather(batch.samples)
            for table, labels in zip(self.known, found, strict=True):
                table[samples] = team.gather(labels.to(torch.uint8))
        return {"loss": self.method.distance(fused, batch.gt)}

    def state(self) -> dict[str, Any]:
        return super().state() | {"known": self.known}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        if state["known"] is not None:
            self.known = [table.to(self.data.device) for table in state["known"]]


def renews(epoch: int) -> bool:
    """Whether k-means runs again in this epoch (from 2 on): in each of the first ten, then in every 10th,
    from 100 on in every 20th, from 300 on in every 50th.

    >>> [e for e in range(2, 420) if renews(e)][8:]
    [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 120, 140, 160, 180, 200, 220, 240, 260, 280, 300, 350, 400]
    """
    every = 1 if epoch <= 10 else 10 if epoch <= 100 else 20 if epoch <= 300 else 50
    return epoch % every == 0
