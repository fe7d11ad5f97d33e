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

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pansharp_bench.methods.canconv.kmeans import kmeans, one_hot

TAPS = 9


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
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        centroids = _ClusterMeans.apply(padded, labels, groups)

        z = centroids.unflatten(2, (TAPS, -1)).transpose(2, 3).flatten(2)  # the weights expect channel first
        hidden = self.kernel_head(z)
        area, cin, cout = (torch.sigmoid(f(hidden)) for f in (self.to_area, self.to_cin, self.to_cout))
        gain = (area[..., :, None] * cin[..., None, :]).flatten(2)
        bias = self.centroid_to_bias(z)
        theta = self.kernels.transpose(0, 1).flatten(0, 1)
        y = _ClusterConv.apply(padded, labels, *(t.to(x.dtype) for t in (gain, theta, cout, bias)))
        return y.permute(0, 3, 1, 2)


def filter_small(labels: Tensor, clusters: int, threshold: float) -> Tensor:
    """Labels with the members of clusters of at most ⌊threshold · N⌋ pixels renamed to ``clusters``."""
    most = int(torch.tensor(threshold, dtype=torch.float32) * labels.shape[1])
    sizes = torch.zeros(len(labels), clusters + 1, dtype=torch.int64, device=labels.device)
    sizes.scatter_add_(1, labels, torch.ones_like(labels))
    return torch.where(sizes.gather(1, labels) > most, labels, clusters)


# -- the two operations on patches, each with its derivative --


def _pieces(padded: Tensor) -> Iterator[tuple[slice, slice]]:
    """Slices of images and of pixel rows whose patches together stay within a budget."""
    b, h, w, c = padded.shape
    budget = (1 << 27) if padded.is_cuda else (1 << 20)
    per_row = (w - 2) * TAPS * c
    rows = min(h - 2, max(1, budget // per_row))
    images = max(1, budget // (per_row * rows))
    for i in range(0, b, images):
        for r in range(0, h - 2, rows):
            yield slice(i, min(i + images, b)), slice(r, min(r + rows, h - 2))


def _patches(padded: Tensor, images: slice, rows: slice) -> Tensor:
    """(n, pixels, 9·C) patches of a piece."""
    x = padded[images, rows.start : rows.stop + 2]
    n, h, w, c = x.shape
    s, stride_h, stride_w, _ = x.stride()
    view = x.as_strided((n, h - 2, w - 2, 3, 3 * c), (s, stride_h, stride_w, stride_h, 1))
    return view.reshape(n, (h - 2) * (w - 2), TAPS * c)


def _add_patches(total: Tensor, patches: Tensor, images: slice, rows: slice) -> None:
    """The adjoint of :func:`_patches`, added onto ``total``."""
    x = total[images, rows.start : rows.stop + 2]
    n, h, w, c = x.shape
    taps = patches.view(n, h - 2, w - 2, 3, 3, c)
    for ky in range(3):
        for kx in range(3):
            x[:, ky : ky + h - 2, kx : kx + w - 2] += taps[:, :, :, ky, kx]


def _pick(table: Tensor, labels: Tensor) -> Tensor:
    """(n, pixels, D) rows of each image's (n, K, D) table."""
    n, k, d = table.shape
    index = labels + k * torch.arange(n, device=labels.device)[:, None]
    return table.reshape(n * k, d).index_select(0, index.reshape(-1)).view(n, -1, d)


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The type sums are kept in."""
    return torch.promote_types(dtype, torch.float32)


class _ClusterMeans(torch.autograd.Function):
    """Mean patch of each group; of the whole image in the last place; zero for an empty group."""

    @staticmethod
    def forward(ctx, padded, labels, groups):
        padded = padded.contiguous()
        width = padded.shape[2] - 2
        share = one_hot(labels, groups, _exact(padded.dtype))
        share[..., -1] = 1
        share /= share.sum(1, keepdim=True).clamp(min=1)
        means = padded.new_zeros(len(padded), groups, TAPS * padded.shape[3], dtype=share.dtype)
        for images, rows in _pieces(padded):
            part = share[images, rows.start * width : rows.stop * width]
            means[images] += part.to(padded.dtype).mT @ _patches(padded, images, rows)
        ctx.save_for_backward(share)
        ctx.like = padded
        return means

    @staticmethod
    def backward(ctx, grad):
        (share,) = ctx.saved_tensors
        like = ctx.like
        width = like.shape[2] - 2
        total = like.new_zeros(like.shape, dtype=share.dtype)
        for images, rows in _pieces(like):
            part = share[images, rows.start * width : rows.stop * width]
            _add_patches(total, part @ grad[images], images, rows)
        return total.to(like.dtype), None, None


class _ClusterConv(torch.autograd.Function):
    """y = (patches ⊙ gain[l]) Θ ⊙ scale[l] + bias[l], as (B, H, W, cout)."""

    @staticmethod
    def forward(ctx, padded, labels, gain, theta, scale, bias):
        padded = padded.contiguous()
        b, h, w, _ = padded.shape
        width = w - 2
        inner = padded.new_empty(b, (h - 2) * width, theta.shape[1])
        for images, rows in _pieces(padded):
            pixels = slice(rows.start * width, rows.stop * width)
            modulated = _patches(padded, images, rows) * _pick(gain[images], labels[images, pixels])
            inner[images, pixels] = modulated @ theta
        ctx.save_for_backward(padded, labels, gain, theta, scale, inner)
        y = torch.addcmul(_pick(bias, labels), inner, _pick(scale, labels))
        return y.view(b, h - 2, width, -1)

    @staticmethod
    def backward(ctx, grad):
        padded, labels, gain, theta, scale, inner = ctx.saved_tensors
        width = padded.shape[2] - 2
        groups = gain.shape[1]
        exact = _exact(padded.dtype)
        grad = grad.flatten(1, 2)
        member = one_hot(labels, groups, padded.dtype)
        grad_scale, grad_bias = member.mT @ (grad * inner), member.mT @ grad
        grad_inner = grad * _pick(scale, labels)
        grad_padded = padded.new_zeros(padded.shape, dtype=exact)
        grad_gain = gain.new_zeros(gain.shape, dtype=exact)
        grad_theta = theta.new_zeros(theta.shape, dtype=exact)
        for images, rows in _pieces(padded):
            pixels = slice(rows.start * width, rows.stop * width)
            patches = _patches(padded, images, rows)
            picked = _pick(gain[images], labels[images, pixels])
            part = grad_inner[images, pixels]
            grad_theta += (patches * picked).flatten(0, 1).T @ part.flatten(0, 1)
            modulated = part @ theta.T
            grad_gain[images] += member[images, pixels].mT @ (patches * modulated)
            _add_patches(grad_padded, picked * modulated, images, rows)
        return (
            grad_padded.to(padded.dtype), None, grad_gain.to(gain.dtype), grad_theta.to(theta.dtype),
            grad_scale, grad_bias,
        )  # fmt: skip
