"""Optimal transport between histograms: the least that values must be moved to come near a distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class LeastTransport(NamedTuple):
    """``value`` (P,) float64, lower bounds of what is minimised; ``shares`` (P, K) float64, the histograms that
    were reached."""

    value: Tensor
    shares: Tensor


def least_transport(
    source: Tensor, target: Tensor, prices: Sequence[float], anywhere: bool = False
) -> LeastTransport:
    """For each price the histogram p that makes ``price · W²(source, p) + χ²(p, target)`` least.

    W² is the mean squared distance that the values of the source must be moved for their histogram to be p, in
    units of the range's length; ``χ² = ½ Σ (p - q)² / (p + q)``. A bin of the source stands for values at its
    middle, or ``anywhere`` in it, which go to the nearest edge of the bin they are moved to, or stay where they are
    inside it. So among all images made of the source in whatever way, with mean squared difference m from it, none
    has a χ² below ``value - price · m``; of real values, which lie anywhere in their bins, that holds for those of
    ``anywhere``.

    Solved through its dual, which is concave and has a price v of each target bin as its variables: maximise
    ``Σ s_i min_k (price · c_ik + v_k) - Σ φ*_k(v_k)``, φ* the convex conjugate of the terms of χ² (whatever v is,
    that is a lower bound). It is a step of the gradient flow of χ² in Wasserstein space (Jordan, Kinderlehrer and
    Otto 1998).

    Args:
        source: (n,) shares in bins of equal width over the range, sum 1; many more bins than K.
        target: (K,) shares over the same range, sum 1.
        prices: P of them, of moving all values by the length of the range, in units of χ²; above 0. One after
            another is nearer to the last one's solution in rising or falling order.

    >>> source, target = torch.zeros(128), torch.zeros(4)
    >>> source[:32], target[2:] = 1 / 32, 0.5  # all in the first quarter; the target in the last two
    >>> value, shares = least_transport(source, target, [0.01, 1000])
    >>> value.round(decimals=3).tolist(), shares[:, 0].tolist()  # what stays where it is
    ([0.003, 1.0], [0.0, 1.0])
    """
    from scipy.optimize import minimize

    s, q = (x.double().cpu().numpy() for x in (source, target))
    at = (np.arange(len(s)) + 0.5) / len(s)
    edges = np.arange(len(q) + 1) / len(q)
    reach = 0.5 / len(s) if anywhere else 0.0
    cost = np.maximum(np.maximum(edges[:-1] - at[:, None], at[:, None] - edges[1:]) - reach, 0) ** 2
    every = np.arange(len(s))

    def dual(v: np.ndarray, price: float) -> tuple[float, np.ndarray]:
        """Its negative, and the gradient of that."""
        priced = price * cost + v
        nearest = priced.argmin(1)
        conjugate, wanted = _conjugate(v, q)
        value = s @ priced[every, nearest] - conjugate.sum()
        return -value, wanted - np.bincount(nearest, s, len(q))

    v, values, shares = np.zeros(len(q)), [], []
    for price in prices:
        found = minimize(  # beyond these v the conjugate is constant, or infinite
            dual, v, (price,), "L-BFGS-B", jac=True, bounds=[(-1.5, 0.4999)] * len(q),
            options={"maxiter": 2000, "maxcor": 30},
        )  # fmt: skip
        v = found.x
        values.append(-found.fun)
        shares.append(np.bincount((price * cost + v).argmin(1), s, len(q)))
    return LeastTransport(torch.tensor(values, dtype=torch.float64), torch.from_numpy(np.stack(shares)))


def _conjugate(v: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Supremum over p of v p - ½ (p - q)² / (p + q), and the p that attains it."""
    ratio = 2 / np.sqrt(1 - 2 * v) - 1
    return v * q * ratio - 0.5 * q * (ratio - 1) ** 2 / (ratio + 1), q * ratio
