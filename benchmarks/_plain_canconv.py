"""CANConv written out straightforwardly: the baseline that speed is held against.

Every cluster of every image gets its own kernel in memory, pixels are sorted by cluster, and each group is
multiplied with its kernel: one product per group on the CPU, all groups padded to the largest one in a batched
product on a GPU, where many small launches would be slower. k-means runs image by image. Weights are those of
the fast layer, and so are the outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.methods.canconv.kmeans import kmeans
from pansharp_bench.methods.canconv.layer import CANConv, filter_small


class PlainCANConv(CANConv):
    def partition(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            points = F.unfold(x.float(), 3, padding=1).unflatten(1, (-1, 9)).mean(2).mT.contiguous()
            return torch.cat(
                [kmeans(p[None], self.clusters, start if start is None else start[i : i + 1])
                 for i, p in enumerate(points)]
            )  # fmt: skip

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        b, _, h, w = x.shape
        groups = self.clusters + 1
        labels = filter_small(labels, self.clusters, self.threshold)
        patches = F.unfold(x, 3, padding=1).mT
        group = (labels + groups * torch.arange(b, device=x.device)[:, None]).flatten()
        sizes = torch.bincount(group, minlength=b * groups)

        rows = patches.flatten(0, 1)
        sums = rows.new_zeros(b * groups, rows.shape[1]).index_add(0, group, rows)
        means = (sums / sizes.clamp(min=1)[:, None]).view(b, groups, -1)
        means = torch.cat([means[:, :-1], patches.mean(1, keepdim=True)], 1)

        hidden = self.kernel_head(means)
        area, cin, cout = (torch.sigmoid(f(hidden)) for f in (self.to_area, self.to_cin, self.to_cout))
        kernels = torch.einsum("bkc,bkt,bko,cto->bkcto", cin, area, cout, self.kernels).flatten(2, 3)
        bias = self.centroid_to_bias(means)

        order = group.argsort(stable=True)
        multiply = _padded if x.is_cuda else _one_by_one
        y = multiply(rows[order], sizes, kernels.flatten(0, 1), bias.flatten(0, 1))
        back = torch.empty_like(y).index_copy(0, order, y)
        return back.view(b, h * w, -1).mT.unflatten(2, (h, w))


def _one_by_one(rows: Tensor, sizes: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
    parts = zip(rows.split(sizes.tolist()), kernels.unbind(), bias.unbind(), strict=True)
    return torch.cat([torch.addmm(b, part, kernel) for part, kernel, b in parts])


def _padded(rows: Tensor, sizes: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
    place = torch.arange(int(sizes.max()), device=rows.device) < sizes[:, None]
    table = rows.new_zeros(*place.shape, rows.shape[1])
    table[place] = rows
    return torch.baddbmm(bias[:, None], table, kernels)[place]


def plain(net: nn.Module) -> nn.Module:
    """Make a network's content-adaptive layers straightforward ones, in place."""
    for module in net.modules():
        if isinstance(module, CANConv):
            module.__class__ = PlainCANConv
    return net
