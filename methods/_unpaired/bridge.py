"""The discretised Schrödinger bridge: its time grid, its Markov chain, and methods that walk it.

With T steps the states lie at t_0 = 0 and t_{k+1} = (1 + h_k / h_{T-1}) / 2, where h_k is the k-th harmonic
number: for T = 5 at 0, .5, .74, .86, .94. From state i-1 to i, given the generator's prediction f of the end
point,

    x_i = (1 - s_i) x_{i-1} + s_i f + sqrt(tau (t_i - t_{i-1}) (1 - s_i)) eps,
    s_i = (t_i - t_{i-1}) / (1 - t_{i-1}),  eps ~ N(0, I).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.methods._unpaired.base import TranslationMethod
from pansharp_bench.methods._unpaired.networks import BridgeGenerator
from pansharp_bench.methods._unpaired.options import ContrastiveBridgeOptions
from pansharp_bench.scene import Sensor

_CELL = 64  # pixels a side that are drawn at once


class Bridge:
    """Times and transitions of a bridge with ``steps`` >= 2 states before the end point, of variance ``tau``.

    >>> [round(t, 2) for t in Bridge(5).times]
    [0.0, 0.5, 0.74, 0.86, 0.94, 1.0]
    """

    def __init__(self, steps: int = 5, tau: float = 0.01) -> None:
        if steps < 2:
            raise ValueError(f"a bridge needs at least 2 time steps, not {steps}")
        harmonic = [sum(1 / k for k in range(1, n + 1)) for n in range(steps)]
        self.times = [0.0, *(0.5 + 0.5 * h / harmonic[-1] for h in harmonic)]
        self.steps, self.tau = steps, tau
        self._moves = []
        for before, after in pairwise(self.times[:-1]):
            share = (after - before) / (1 - before)
            self._moves.append((share, (tau * (after - before) * (1 - share)) ** 0.5))

    def advance(self, state: Tensor, prediction: Tensor, index: int, noise: Tensor | None) -> Tensor:
        """State ``index`` (1 to steps - 1) from the one before and the end point predicted there."""
        share, deviation = self._moves[index - 1]
        moved = state.lerp(prediction, share)
        return moved if noise is None else moved.add(noise, alpha=deviation)

    def chain(
        self, start: Tensor, index: int, predict: Callable[[Tensor, int], Tensor], noise: Tensor | None
    ) -> Tensor:
        """The state at ``index`` of chains begun at ``start`` (N, C, H, W).

        ``predict(state, k)`` is the end point seen from state k; ``noise`` (index, N or 1, C, H, W) is
        standard normal, None for none. The generator is called ``index`` times: the prediction at the last
        state is the caller's, with gradient or without.
        """
        state = start
        for k in range(index):
            state = self.advance(state, predict(state, k), k + 1, None if noise is None else noise[k])
        return state


class BridgeMethod(TranslationMethod):
    """Base of methods whose generator predicts the end of a bridge from every state of it."""

    Config = ContrastiveBridgeOptions
    config: ContrastiveBridgeOptions
    generator: BridgeGenerator

    def __init__(self, sensor: Sensor, config: ContrastiveBridgeOptions | None = None) -> None:
        super().__init__(sensor, config)
        c = self.config
        self.generator = BridgeGenerator(
            sensor.channels, c.ngf, c.blocks, c.timesteps, c.time_mode, c.skip, c.head
        )

    def translate(self, x: Tensor, origin: tuple[int, int] = (0, 0)) -> Tensor:
        return self.predictions(x, origin)[-1]

    def predictions(self, x: Tensor, origin: tuple[int, int] = (0, 0)) -> list[Tensor]:
        """The end points predicted at states 0 to nfe - 1 of chains from x: results of 1 to nfe calls.

        Noise is drawn from ``inference_seed``, by the place of a pixel, and shared by the images of a batch, so an
        image's result is its own; with ``samples`` > 1 it is the mean of so many runs.
        """
        c, bridge = self.config, Bridge(self.config.timesteps, self.config.tau)
        draws = torch.Generator().manual_seed(c.inference_seed)
        total = [torch.zeros_like(x) for _ in range(c.nfe)]
        for run in range(c.samples):
            state = x
            for k in range(c.nfe):
                z = torch.randn(1, self.generator.noise_width, generator=draws).to(x)
                end = self.generator(state, k, z.expand(len(x), -1), source=x)
                total[k] += end
                if k + 1 < c.nfe:
                    seed = c.inference_seed, run, k
                    noise = noise_at(origin, x.shape[1:], seed).to(x) if c.bridge_noise else None
                    state = bridge.advance(state, end, k + 1, noise)
        return [t / c.samples for t in total]


def noise_at(origin: tuple[int, int], shape: Sequence[int], seed: Sequence[int]) -> Tensor:
    """Standard normal (C, H, W) float32 whose first row and column are ``origin`` of a plane without end: equal
    places of it have equal noise, in whatever windows it is looked at."""
    (c, h, w), (top, left) = shape, origin
    rows, columns = (range(a // _CELL, -(-(a + n) // _CELL)) for a, n in ((top, h), (left, w)))
    plane = np.empty((c, len(rows) * _CELL, len(columns) * _CELL), np.float32)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            draws = np.random.default_rng([*seed, row % 2**32, column % 2**32])
            cell = plane[:, i * _CELL : (i + 1) * _CELL, j * _CELL : (j + 1) * _CELL]
            cell[:] = draws.standard_normal(cell.shape, np.float32)
    top, left = top % _CELL, left % _CELL
    return torch.from_numpy(plane[:, top : top + h, left : left + w])
