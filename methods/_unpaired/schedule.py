"""The course of the learning rate."""

from __future__ import annotations


def linear_decay(epoch: int, constant: int, decay: int) -> float:
    """The factor on the learning rate in 1-based epoch ``epoch``: 1 for ``constant`` epochs, then linearly
    towards 0, which would be reached one epoch after the last.

    >>> linear_decay(5, 5, 5), round(linear_decay(10, 5, 5), 4)
    (1.0, 0.1667)
    """
    return 1.0 - max(0, epoch - constant) / (decay + 1)
