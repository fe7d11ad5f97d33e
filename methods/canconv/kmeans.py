"""Batched k-means: Lloyd's iteration over all images of a batch at once, seeded by k-means++.

Every image has its own clusters, its own stopping point and the same random numbers, and all is computed in
float64. So on given points an image's labels depend neither on its batch nor on device, processor or threads, but
for points within float64's rounding of a tie. No more can be promised of labels whose points were themselves
computed in float32: last bits of a convolution turn with the size of its batch and with the processor, and a
point that near to a tie may change sides. What can be had is that this stays rare and does not spread: see
:func:`plus_plus`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kmeans(
    points: Tensor, k: int, start: Tensor | None = None, tolerance: float = 0.01, iterations: int = 50,
    seed: int = 42,
) -> Tensor:  # fmt: skip
    """Cluster the points of each image.

    Args:
        points: (B, N, D) of any floating type.
        k: number of clusters; clusters may be empty where an image has fewer distinct points.
        start: (B, N) labels whose means are the first centres; default k-means++ seeding.
        tolerance: an image stops when at most this share of its points changed their label.
        iterations: upper bound.
        seed: of the seeding's draws.

    Returns:
        (B, N) int64 labels in 0..k-1. Of equally near centres the first.

    >>> x = torch.tensor([[[0.0], [0.1], [5.0], [5.1]]])
    >>> labels = kmeans(x, 2)
    >>> (labels[0, 0] == labels[0, 1]).item(), (labels[0, 0] == labels[0, 2]).item()
    (True, False)
    """
    with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
        return _lloyd(points.double(), k, start, tolerance, iterations, seed)


def _lloyd(
    points: Tensor, k: int, start: Tensor | None, tolerance: float, iterations: int, seed: int
) -> Tensor:
    if start is None:
        centres = plus_plus(points, k, seed)
    else:
        centres = _means(points, start, points.new_zeros(len(points), k, points.shape[2]))
    labels = _nearest(points, centres)
    found, live = labels.clone(), torch.arange(len(points), device=points.device)
    running = torch.ones_like(live, dtype=torch.bool)
    # asking a GPU which have stopped makes the host wait, so it is asked less often there
    patience = 8 if points.is_cuda else 1
    for i in range(1, iterations):
        centres = _means(points, labels, centres)
        nearest = _nearest(points, centres)
        changed = (nearest != labels).double().mean(1)
        labels = torch.where(running[:, None], nearest, labels)
        running = running & (changed > tolerance)
        if i % patience == 0 and not running.all():  # go on with those that have not stopped
            found[live] = labels
            live, labels, centres, points = (x[running] for x in (live, labels, centres, points))
            running = running[running]
            if not len(live):
                break
    found[live] = labels
    return found


def plus_plus(points: Tensor, k: int, seed: int = 42) -> Tensor:
    """(B, k, D) centres by k-means++: each is a point drawn with probability proportional to its squared
    distance from the nearest centre so far (Arthur and Vassilvitskii 2007).

    The draw is a race: point i arrives after a time of exponential distribution and rate d², and the first is
    taken. Where the draw is looked up in cumulated distances instead, a change of one point shifts all that
    follow, and with them the choice; here it changes the choice only by winning or losing the race itself.
    """
    b, n, d = points.shape
    # drawn on the CPU, so that every device sees the same
    draws = torch.rand(k, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    times = draws.neg_().log1p_().neg_().to(points.device)
    rows = torch.arange(b, device=points.device)
    centres = points.new_empty(b, k, d)
    squared = points.new_ones(b, n)
    for j in range(k):
        centres[:, j] = points[rows, (squared / times[j]).argmax(1)]
        to_last = torch.cdist(points, centres[:, j : j + 1], compute_mode="donot_use_mm_for_euclid_dist")
        to_last = to_last[..., 0].square()
        squared = torch.minimum(squared, to_last) if j else to_last
    return centres


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    """(B, N) index of the nearest centre."""
    half = centres.square().sum(2)[:, None] / 2  # |p - c|² / 2 without |p|², which is the same for all c
    # min, for argmin takes twice as long on a CPU
    found = [torch.baddbmm(half, p, centres.mT, alpha=-1).min(2).indices for p in _chunks(points)]
    return found[0] if len(found) == 1 else torch.cat(found, 1)


def _means(points: Tensor, labels: Tensor, previous: Tensor) -> Tensor:
    """(B, k, D) mean of each cluster; an empty one keeps its previous centre."""
    k = previous.shape[1]
    counts = previous.new_zeros(len(previous), k).scatter_add_(1, labels, points.new_ones(labels.shape))
    counts, sums = counts[..., None], torch.zeros_like(previous)
    for p, chosen in zip(_chunks(points), _chunks(labels), strict=True):
        sums = torch.baddbmm(sums, one_hot(chosen, k, points.dtype).mT, p)
    return torch.where(counts > 0, sums / counts.clamp(min=1), previous)


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    """(B, N, ...) in pieces: small ones stay in a processor's cache, larger ones bound memory on a GPU."""
    return x.split(1 << (16 if x.is_cuda else 12), 1)


def one_hot(labels: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """(B, N, k) membership of (B, N) labels. Sums over members as a product with this matrix are
    deterministic, which scattered additions on a GPU are not."""
    zeros = torch.zeros(*labels.shape, k, dtype=dtype, device=labels.device)
    return zeros.scatter_(2, labels[..., None], 1)
