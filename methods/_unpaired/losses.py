"""Losses of CUT and UNSB. All are scalars in float32 or the inputs' higher precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def lsgan(scores: Tensor, real: bool) -> Tensor:
    """Least-squares adversarial loss: mean (score - 1)^2 for real, mean score^2 for fake."""
    return (scores - 1).square().mean() if real else scores.square().mean()


def discriminator_loss(fake: Tensor, real: Tensor) -> Tensor:
    """(mean fake^2 + mean (real - 1)^2) / 2 over the maps of scores."""
    return 0.5 * (lsgan(fake, False) + lsgan(real, True))


def patch_nce(queries: Tensor, keys: Tensor, temperature: float = 0.07, reduction: str = "mean") -> Tensor:
    """Contrastive loss between patches of a generated image and the same patches of its source.

    ``queries``, ``keys`` (N, p, d): unit vectors; keys are constants. Each query must pick the key of its own
    position among those of its image: -log softmax_j(q_i . k_j / temperature) at j = i. (The published form
    also adds exp(-10 / temperature) to the sum: at 0.07 e^-128 of its least possible value, below float64's reach.)
    """
    logits = torch.bmm(queries, keys.detach().transpose(1, 2)) / temperature
    own = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape[:2])
    return F.cross_entropy(logits.flatten(0, 1), own.flatten(), reduction=reduction)


def mean_patch_nce(queries: Sequence[Tensor], keys: Sequence[Tensor], temperature: float = 0.07) -> Tensor:
    """Mean of ``patch_nce`` over the taps."""
    losses = [patch_nce(q, k, temperature) for q, k in zip(queries, keys, strict=True)]
    return torch.stack(losses).mean()


def normaliser(joint: Tensor, shuffled: Tensor, bounded: bool = False) -> Tensor:
    """The logarithm of the sum that scores of true pairs are compared with: over the ``shuffled`` pairs as
    released, over the true ones too where it is to be ``bounded``. Their mean cannot exceed the latter."""
    scores = torch.cat((joint.flatten(), shuffled.flatten())) if bounded else shuffled.flatten()
    return scores.logsumexp(0)


def energy_loss(joint: Tensor, shuffled: Tensor, bounded: bool = False) -> Tensor:
    """UNSB's loss of the energy network: -mean(joint) + a + a^2, a the :func:`normaliser`.

    ``joint`` are its scores of (state, prediction) pairs with themselves, ``shuffled`` with those of another
    draw; the square keeps a near -1/2.
    """
    a = normaliser(joint, shuffled, bounded)
    return a + a.square() - joint.mean()


def transport_cost(state: Tensor, prediction: Tensor, tau: float) -> Tensor:
    """tau mean |x - f|^2, per element, x the state and f the end predicted from it."""
    return tau * (state - prediction).square().mean()


def bridge_loss(
    state: Tensor, prediction: Tensor, joint: Tensor, shuffled: Tensor, index: int, steps: int, tau: float,
    bounded: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """UNSB's transport cost with entropy, as released: tau mean |x - f|^2 - (T - i)/T tau H, and H.

    H = mean(joint) - a, with the :func:`normaliser` a, estimates the pair's entropy but for a constant; scores as
    in ``energy_loss``. As released it has no bound; ``bounded``, it is 0 at most. Against the
    equation |x - f|^2 - 2 tau (1 - t) H the release scales the transport by tau and takes (T - i)/T for
    2 (1 - t).
    """
    entropy = joint.mean() - normaliser(joint, shuffled, bounded)
    return transport_cost(state, prediction, tau) - (steps - index) / steps * tau * entropy, entropy
