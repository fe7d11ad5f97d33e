"""CANNet: a three-level U-shaped network of content-adaptive convolutions.

Attribute names are the keys of the authors' released weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pansharp_bench.methods.canconv.layer import CANConv

Labels = tuple[Tensor, Tensor, Tensor]


class CANBlock(nn.Module):
    """Two content-adaptive convolutions on one partition, with a skip."""

    def __init__(self, width: int, clusters: int, threshold: float) -> None:
        super().__init__()
        self.conv1 = CANConv(width, width, clusters, threshold)
        self.conv2 = CANConv(width, width, clusters, threshold)
        self.act = nn.LeakyReLU(0.01)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return x + self.conv2(self.act(self.conv1(x, labels)), labels)


class CANDown(nn.Module):
    """Half the size, twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(width, width, 2, 2),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.Conv2d(width, 2 * width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class CANUp(nn.Module):
    """Twice the size, half the channels, joined with the encoder's map of that size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.ConvTranspose2d(width, half, 2, 2)
        self.conv2 = nn.Sequential(
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False), nn.Conv2d(half, half, 1)
        )
        self.act = nn.LeakyReLU(0.01)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.act(self.conv2(self.act(self.conv1(x)) + skip))


class CANNet(nn.Module):
    """(B, 1, H, W) PAN and (B, bands, H, W) expanded MS in [0, 1], H and W multiples of 4, to the fused image.

    Three partitions of the pixels, at H, H/2 and H/4, serve the five blocks.
    """

    def __init__(self, bands: int, width: int = 32, clusters: int = 32, threshold: float = 0.005) -> None:
        super().__init__()
        self.head_conv = nn.Conv2d(bands + 1, width, 3, padding=1)
        self.rb1 = CANBlock(width, clusters, threshold)
        self.down1 = CANDown(width)
        self.rb2 = CANBlock(2 * width, clusters, threshold)
        self.down2 = CANDown(2 * width)
        self.rb3 = CANBlock(4 * width, clusters, threshold)
        self.up1 = CANUp(4 * width)
        self.rb4 = CANBlock(2 * width, clusters, threshold)
        self.up2 = CANUp(2 * width)
        self.rb5 = CANBlock(width, clusters, threshold)
        self.tail_conv = nn.Conv2d(width, bands, 3, padding=1)

    def forward(
        self, pan: Tensor, lms: Tensor, known: Labels | None = None, refine: bool = False
    ) -> tuple[Tensor, Labels]:
        """The fused image and the three partitions, (B, H·W), (B, H·W/4), (B, H·W/16), before small clusters
        are merged. ``known`` partitions are used as they are, or with ``refine`` as the start of k-means."""

        def partition(block: CANBlock, x: Tensor, level: int) -> Tensor:
            if known is None or refine:
                return block.conv1.partition(x, None if known is None else known[level])
            return known[level]

        x = self.head_conv(torch.cat([pan, lms], 1))
        fine = partition(self.rb1, x, 0)
        x1 = self.rb1(x, fine)
        x = self.down1(x1)
        middle = partition(self.rb2, x, 1)
        x2 = self.rb2(x, middle)
        x = self.down2(x2)
        coarse = partition(self.rb3, x, 2)
        x = self.rb3(x, coarse)
        x = self.rb4(self.up1(x, x2), middle)
        x = self.rb5(self.up2(x, x1), fine)
        return lms + self.tail_conv(x), (fine, middle, coarse)
