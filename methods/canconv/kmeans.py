"""Batched k-means: Lloyd's iteration over all images of a batch at once, seeded by k-means++.

Every image has its own clusters, its own stopping point and the same sequence of random numbers, so an
image's labels do not depend on the batch it came in, nor on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 1 << 16  # points of each image worked on at a time, to bound memory on large images


def kmeans(
    points: Tensor, k: int, start: Tensor | None = None, tolerance: float = 0.01, iterations: int = 50,
    seed: int = 42,
) -> Tensor:  # fmt: skip
    """Cluster the points of each image.

    Args:
        points: (B, N, D) float32.
        k: number of clusters; clusters may be empty where an image has fewer distinct points.
        start: (B, N) labels whose means are the first centres; default k-means++ seeding.
        tolerance: an image stops when at most this share of its points changed their label.
        iterations: upper bound.
        seed: of the seeding's draws.

    Returns:
        (B, N) int64 labels in 0..k-1.

    >>> x = torch.tensor([[[0.0], [0.1], [5.0], [5.1]]])
    >>> labels = kmeans(x, 2)
    >>> (labels[0, 0] == labels[0, 1]).item(), (labels[0, 0] == labels[0, 2]).item()
    (True, False)
    """
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        return _lloyd(points.float(), k, start, tolerance, iterations, seed)


def _lloyd(
    points: Tensor, k: int, start: Tensor | None, tolerance: float, iterations: int, seed: int
) -> Tensor:
    if start is None:
        centres = plus_plus(points, k, seed)
    else:
        centres = _means(points, start, points.new_zeros(len(points), k, points.shape[2]))
    labels = _nearest(points, centres)
    running = torch.ones(len(points), 1, dtype=torch.bool, device=points.device)
    # asking a GPU whether all have stopped makes the host wait, so it is asked less often there
    patience = 8 if points.is_cuda else 1
    for i in range(1, iterations):
        centres = _means(points, labels, centres)
        nearest = _nearest(points, centres)
        changed = (nearest != labels).float().mean(1, keepdim=True)
        labels = torch.where(running, nearest, labels)
        running = running & (changed > tolerance)
        if i % patience == 0 and not running.any():
            break
    return labels


def plus_plus(points: Tensor, k: int, seed: int = 42) -> Tensor:
    """(B, k, D) centres by k-means++: each is a point drawn with probability proportional to its squared
    distance from the nearest centre so far (Arthur and Vassilvitskii 2007)."""
    b, n, d = points.shape
    # drawn on the CPU, so that every device sees the same
    draws = torch.rand(k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    rows = torch.arange(b, device=points.device)
    centres = points.new_empty(b, k, d)
    centres[:, 0] = points[:, int(draws[0] * n)]
    draws = draws.to(points.device)
    norms = points.square().sum(2)
    nearest = norms.new_full((b, n), torch.inf)
    for j in range(1, k):
        last = centres[:, j - 1]
        distance = norms - 2 * (points @ last[..., None])[..., 0] + last.square().sum(1, keepdim=True)
        nearest = torch.minimum(nearest, distance.clamp(min=0))
        reached = nearest.double().cumsum(1)
        index = torch.searchsorted(reached, draws[j] * reached[:, -1:], right=True)[:, 0]
        centres[:, j] = points[rows, index.clamp(max=n - 1)]
    return centres


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """(B, N) index of the nearest centre."""
    half = centres.square().sum(2)[:, None] / 2  # |p - c|² / 2 without |p|², which is the same for all c
    found = [torch.baddbmm(half, p, centres.mT, alpha=-1).argmin(2) for p in points.split(_CHUNK, 1)]
    return found[0] if len(found) == 1 else torch.cat(found, 1)


def _means(points: Tensor, labels: Tensor, previous: Tensor) -> Tensor:
    """(B, k, D) mean of each cluster; an empty one keeps its previous centre."""
    k = previous.shape[1]
    sums, counts = torch.zeros_like(previous), previous.new_zeros(len(previous), k, 1)
    for p, chosen in zip(points.split(_CHUNK, 1), labels.split(_CHUNK, 1), strict=True):
        member = one_hot(chosen, k, points.dtype)
        sums = torch.baddbmm(sums, member.mT, p)
        counts = counts + member.sum(1)[..., None]
    return torch.where(counts > 0, sums / counts.clamp(min=1), previous)


def one_hot(labels: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """(B, N, k) membership of (B, N) labels. Sums over members as a product with this matrix are
    deterministic, which scattered additions on a GPU are not."""
    zeros = torch.zeros(*labels.shape, k, dtype=dtype, device=labels.device)
    return zeros.scatter_(2, labels[..., None], 1)
