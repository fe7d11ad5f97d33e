"""The content-adaptive convolution: every cluster of pixels gets a kernel made from its mean patch.

The kernel of cluster k factorises, ``W_k[t, c, o] = a_k[t] u_k[c] Θ[t, c, o] v_k[o]``, so the layer needs no
kernel per cluster, no sorting and no grouped products: with ``p_i`` the 3x3 patch of pixel i and ``l_i`` its
cluster,

    y_i = v[l_i] ⊙ Θᵀ(g[l_i] ⊙ p_i) + β[l_i],    g_k = a_k ⊗ u_k,

is one gather, one product and one dense matrix product shared by all clusters. Patches are made again when
they are needed instead of being kept, in pieces that stay in the processor's cache, so memory hardly grows
with the image. Inside this file a patch is ordered tap first, channel second.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from pansharp_bench.methods._patches import TAPS, add_patches, patches_of, pieces, sum_type
from pansharp_bench.methods.canconv.kmeans import kmeans, one_hot


class CANConv(nn.Module):
    """Content-adaptive 3x3 convolution (Duan et al., CVPR 2024).

    Args:
        cin, cout: channels.
        clusters: K, pixel groups per image.
        threshold: a cluster of at most this share of the pixels joins the group "other", label K, whose
            kernel is made from the mean patch of the whole image.
        hidden: width of the kernel-generating perceptrons.
    """

    def __init__(
        self, cin: int, cout: int, clusters: int = 32, threshold: float = 0.005, hidden: int = 16
    ) -> None:
        super().__init__()
        patch = TAPS * cin
        self.clusters, self.threshold = clusters, threshold
        self.kernels = nn.Parameter(torch.empty(cin, TAPS, cout))
        nn.init.kaiming_normal_(self.kernels)
        self.kernel_head = nn.Sequential(
            nn.Linear(patch, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.to_area = nn.Linear(hidden, TAPS)
        self.to_cin = nn.Linear(hidden, cin)
        self.to_cout = nn.Linear(hidden, cout)
        self.centroid_to_bias = nn.Sequential(
            nn.Linear(patch, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, cout)
        )

    def partition(self, x: Tensor, start: Tensor | None = None) -> Tensor:
        """(B, H·W) labels in 0..K-1: k-means of each pixel's 3x3 box mean. ``start`` as in :func:`kmeans`."""
        with torch.no_grad():
            features = F.avg_pool2d(x.float(), 3, 1, 1)  # zeros outside the image count
            return kmeans(features.flatten(2).mT.contiguous(), self.clusters, start)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """(B, cin, H, W) and (B, H·W) int64 labels in 0..K, to (B, cout, H, W). Labels are filtered here;
        filtering twice changes nothing."""
        groups = self.clusters + 1
        labels = filter_small(labels, self.clusters, self.threshold)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        padded = F.pad(rearrange(x, "b c h w -> b h w c"), (0, 0, 1, 1, 1, 1))
        centroids = _ClusterMeans.apply(padded, labels, groups)

        z = rearrange(centroids, "b k (t c) -> b k (c t)", t=TAPS)  # the weights expect channel first
        hidden = self.kernel_head(z)
        area, cin, cout = (torch.sigmoid(f(hidden)) for f in (self.to_area, self.to_cin, self.to_cout))
        gain = (area[..., :, None] * cin[..., None, :]).flatten(2)
        bias = self.centroid_to_bias(z)
        theta = rearrange(self.kernels, "c t o -> (t c) o")
        y = _ClusterConv.apply(padded, labels, *(t.to(x.dtype) for t in (gain, theta, cout, bias)))
        return rearrange(y, "b h w o -> b o h w")


def filter_small(labels: Tensor, clusters: int, threshold: float) -> Tensor:
    """Labels with the members of clusters of at most ⌊threshold · N⌋ pixels renamed to ``clusters``."""
    most = int(torch.tensor(threshold, dtype=torch.float32) * labels.shape[1])
    sizes = torch.zeros(len(labels), clusters + 1, dtype=torch.int64, device=labels.device)
    sizes.scatter_add_(1, labels, torch.ones_like(labels))
    return torch.where(sizes.gather(1, labels) > most, labels, clusters)


# -- the two operations on patches, each with its derivative --


def _pick(table: Tensor, labels: Tensor) -> Tensor:
    """(n, pixels, D) rows of each image's (n, K, D) table."""
    n, k, d = table.shape
    index = labels + k * torch.arange(n, device=labels.device)[:, None]
    return table.reshape(n * k, d).index_select(0, index.reshape(-1)).view(n, -1, d)


class _ClusterMeans(torch.autograd.Function):
    """Mean patch of each group; of the whole image in the last place; zero for an empty group."""

    @staticmethod
    def forward(ctx, padded, labels, groups):
        padded = padded.contiguous()
        width = padded.shape[2] - 2
        member = one_hot(labels, groups, padded.dtype)
        member[..., -1] = 1
        counts = member.sum(1, dtype=sum_type(padded.dtype)).clamp(min=1)[..., None]
        sums = counts.new_zeros(len(padded), groups, TAPS * padded.shape[3])
        for images, rows in pieces(padded):
            part = member[images, rows.start * width : rows.stop * width]
            sums[images] += part.mT @ patches_of(padded, images, rows)
        ctx.save_for_backward(labels, counts)
        ctx.shape, ctx.dtype = padded.shape, padded.dtype
        return sums / counts

    @staticmethod
    def backward(ctx, grad):
        labels, counts = ctx.saved_tensors
        share = grad / counts
        whole = share[:, -1:]
        share = torch.cat([share[:, :-1] + whole, whole], 1)
        total = share.new_zeros(ctx.shape)
        width = ctx.shape[2] - 2
        for images, rows in pieces(total):
            part = labels[images, rows.start * width : rows.stop * width]
            add_patches(total, _pick(share[images], part), images, rows)
        return total.to(ctx.dtype), None, None


class _ClusterConv(torch.autograd.Function):
    """y = (patches ⊙ gain[l]) Θ ⊙ scale[l] + bias[l], as (B, H, W, cout)."""

    @staticmethod
    def forward(ctx, padded, labels, gain, theta, scale, bias):
        padded = padded.contiguous()
        b, h, w, _ = padded.shape
        width = w - 2
        inner = padded.new_empty(b, (h - 2) * width, theta.shape[1])
        for images, rows in pieces(padded):
            pixels = slice(rows.start * width, rows.stop * width)
            modulated = patches_of(padded, images, rows) * _pick(gain[images], labels[images, pixels])
            inner[images, pixels] = modulated @ theta
        ctx.save_for_backward(padded, labels, gain, theta, scale, inner)
        y = torch.addcmul(_pick(bias, labels), inner, _pick(scale, labels))
        return y.view(b, h - 2, width, -1)

    @staticmethod
    def backward(ctx, grad):
        padded, labels, gain, theta, scale, inner = ctx.saved_tensors
        width = padded.shape[2] - 2
        groups = gain.shape[1]
        exact = sum_type(padded.dtype)
        grad = grad.flatten(1, 2)
        member = one_hot(labels, groups, padded.dtype)
        grad_scale, grad_bias = member.mT @ (grad * inner), member.mT @ grad
        grad_inner = grad * _pick(scale, labels)
        grad_padded = padded.new_zeros(padded.shape, dtype=exact)
        grad_gain = gain.new_zeros(gain.shape, dtype=exact)
        grad_theta = theta.new_zeros(theta.shape, dtype=exact)
        for images, rows in pieces(padded):
            pixels = slice(rows.start * width, rows.stop * width)
            patches = patches_of(padded, images, rows)
            picked = _pick(gain[images], labels[images, pixels])
            part = grad_inner[images, pixels]
            grad_theta += (patches * picked).flatten(0, 1).T @ part.flatten(0, 1)
            modulated = part @ theta.T
            grad_gain[images] += member[images, pixels].mT @ (patches * modulated)
            add_patches(grad_padded, picked * modulated, images, rows)
        return (
            grad_padded.to(padded.dtype), None, grad_gain.to(gain.dtype), grad_theta.to(theta.dtype),
            grad_scale, grad_bias,
        )  # fmt: skip
