"""PAN-Crafter: modality-consistent alignment for pansharpening (ICCV 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.methods._paired import Batch, PairedConfig, PairedLearner, PairedMethod
from pansharp_bench.methods.pancrafter.network import (
    MS,
    PAN,
    PANCrafter,
    PaperPANCrafter,
    ReleasePANCrafter,
)
from pansharp_bench.registry import register_method
from pansharp_bench.training import PairedData, Trainer


@dataclass(frozen=True)
class PANCrafterConfig(PairedConfig):
    """``variant``: the network of the paper or that of the public code (``release``), whose two slips
    ``key_fix`` and ``shift_kernels`` mend. ``pan_weight`` weighs the loss of PAN mode. With ``crop`` below 1
    each sample is a random square of at least that share of the patch's side, enlarged to the patch."""

    variant: Literal["paper", "release"] = "paper"
    width: int = 128
    heads: int = 8
    dropout: float = 0.2
    key_fix: bool = False
    shift_kernels: bool = False
    pan_weight: float = 1.0
    crop: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % 32 or self.width % self.heads:
            raise ValueError("width must be a multiple of 32 and of heads")
        if not 0 < self.crop <= 1:
            raise ValueError("crop must be above 0 and at most 1")


@register_method(
    "pancrafter",
    title="PAN-Crafter",
    kind="deep",
    sees="pan+ms",
    training="paired",
    paper="J. Do, S. Kim, G. Youk, J. Lee, M. Kim: PAN-Crafter: Learning Modality-Consistent Alignment for "
    "PAN-Sharpening, ICCV 2025",
    doi="10.48550/arXiv.2505.23367",
    year=2025,
    licence="MIT (our implementation)",
    published="PAN-Crafter",
)
class PANCrafterMethod(PairedMethod):
    """One network gives back MS or PAN; local attention between the two aligns them."""

    Config = PANCrafterConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {
            "steps": 200, "batch": 4, "lr": 1e-3, "schedule": "cosine", "warmup": 10, "width": 32, "heads": 4,
            "validations": 1, "validate_on": 64,
        },
        "standard": {
            "steps": 4000, "batch": 32, "lr": 3e-4, "schedule": "cosine", "warmup": 100, "weight_decay": 0.01,
            "augment": "dihedral", "channels_last": True,
        },
        "paper": {
            "steps": 50_000, "batch": 48, "lr": 1e-4, "schedule": "cosine", "warmup": 100,
            "weight_decay": 0.01, "augment": "dihedral", "crop": 0.75, "validations": 50,
        },
    }  # fmt: skip
    config: PANCrafterConfig

    def network(self) -> PANCrafter:
        c, bands = self.config, self.sensor.channels
        net: PANCrafter
        if c.variant == "release":
            net = ReleasePANCrafter(bands, c.width, c.heads, c.dropout, c.key_fix, c.shift_kernels)
        else:
            net = PaperPANCrafter(bands, c.width, c.heads)
        self.divisor = net.divisor
        return net

    def predict(self, net: nn.Module, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        mode = torch.full((len(pan),), MS, device=pan.device)
        return (net(2 * pan - 1, 2 * ms - 1, mode) + 1) / 2

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Each sample in both modes; mean absolute error of either half, on the [-1, 1] scale."""
        pan, ms, gt = (2 * x - 1 for x in (batch.pan, batch.ms, batch.gt))
        n = len(pan)
        mode = torch.cat([torch.full((n,), m, device=pan.device) for m in (PAN, MS)])
        back, fused = net(pan.repeat(2, 1, 1, 1), ms.repeat(2, 1, 1, 1), mode).chunk(2)
        in_pan, in_ms = self.distance(back, pan.expand_as(back)), self.distance(fused, gt)
        return {"loss": in_ms + self.config.pan_weight * in_pan, "ms": in_ms, "pan": in_pan}

    def learner(self, data: PairedData, trainer: Trainer, steps: int) -> PairedLearner:
        kind = CroppingLearner if self.config.crop < 1 else PairedLearner
        return kind(self, data, trainer, steps)


class CroppingLearner(PairedLearner):
    """Draws a window for each sample, too."""

    method: PANCrafterMethod

    def next_batch(self) -> Batch:
        batch, trainer = super().next_batch(), self.trainer
        drawn = torch.rand(3, self.batch, generator=trainer.generator, device=trainer.device)
        images = (batch.pan, batch.ms, batch.lms, batch.gt)
        pan, ms, lms, gt = magnified(images, self.method.config.crop, trainer.team.share(drawn, dim=1))
        return batch._replace(pan=pan, ms=ms, lms=lms, gt=gt)


def magnified(images: tuple[Tensor, ...], least: float, drawn: Tensor) -> tuple[Tensor, ...]:
    """Of each of N samples a square window of at least this share of the side, enlarged to the full size by bicubic
    interpolation; the same window for all images, whatever their size. ``drawn`` (3, N) in [0, 1] says which."""
    n = len(images[0])
    share, x, y = drawn
    share = least + (1 - least) * share
    zero = torch.zeros_like(share)
    to_x, to_y = ((1 - share) * (2 * t - 1) for t in (x, y))  # the window's centre, in [-1, 1]
    window = torch.stack([share, zero, to_x, zero, share, to_y], 1).view(n, 2, 3)

    def cut(image: Tensor) -> Tensor:
        grid = F.affine_grid(window, list(image.shape), align_corners=False)
        return F.grid_sample(image, grid, mode="bicubic", padding_mode="border", align_corners=False)

    return tuple(cut(image) for image in images)
