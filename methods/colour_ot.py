"""The joint distribution of the channels carried to the target camera's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.methods._closed_form import UnpairedRow, deviations, quantiles, sample, transport
from pansharp_bench.registry import register_method
from pansharp_bench.scene import Scene, Sensor
from pansharp_bench.training import Trainer, UnpairedData

_SAMPLES = 1 << 18  # colours of each camera that the map is learnt from
_POINTS = 1024  # of each axis's map


@register_method(
    "colour-ot", title="Colour transport", kind="baseline", sees="pan", training="unpaired",
    tracks=("calibration",), paper="Pitié, Kokaram and Dahyot 2007", doi="10.1016/j.cviu.2006.11.011", year=2007,
)  # fmt: skip
class ColourOT(UnpairedRow):
    """One map of colours for all pixels: linear Monge-Kantorovich, then iterative distribution transfer.

    The linear map, of all that carry the mean and covariance of the source colours to the target's, moves them
    least. What is left is transported along the axes of one rotation of colour space after another, a
    monotone map per axis, drawn through few quantiles: through many, rare colours are torn apart. The last
    rotation is none, and its maps go through many, so that each channel ends with the target's histogram.
    Nothing is drawn at random but the rotations, whose seed is fixed. The result is clamped to [0, peak].
    """

    @dataclass(frozen=True)
    class Config(UnpairedRow.Config):
        """``rotations``: how many follow the linear map, 0 for that alone; ``knots``: quantiles per axis."""

        rotations: int = 32
        knots: int = 64

        def __post_init__(self) -> None:
            if self.rotations < 0 or self.knots < 2:
                raise BenchError(
                    f"options rotations={self.rotations}, knots={self.knots}: at least 0 and 2 are needed"
                )

    config: Config
    matrix: Tensor
    offset: Tensor
    axes: Tensor
    start: Tensor
    step: Tensor
    shift: Tensor

    def __init__(self, sensor: Sensor, config: Config | None = None) -> None:
        super().__init__(sensor, config)
        c, n = sensor.channels, self.config.rotations
        generator = torch.Generator().manual_seed(0)
        axes = torch.linalg.qr(torch.randn(n, c, c, generator=generator, dtype=torch.float64)).Q
        axes[-1:] = torch.eye(c)
        self.register_buffer("matrix", torch.eye(c))
        self.register_buffer("offset", torch.zeros(c, 1))
        self.register_buffer("axes", axes.float())
        self.register_buffer("start", torch.zeros(n, c, 1))
        self.register_buffer("step", torch.ones(n, c, 1))
        self.register_buffer("shift", torch.zeros(n, c, _POINTS))

    def fit(self, data: UnpairedData, trainer: Trainer) -> dict[str, Any]:
        source, target = (sample(x, _SAMPLES) for x in (data.all_source(), data.all_target()))
        matrix = monge(*(deviations(x.double()).cov() for x in (source, target)))
        offset = target.double().mean(1) - matrix @ source.double().mean(1)
        self.matrix.copy_(matrix)
        self.offset.copy_(offset[:, None])
        colours = self._linear(source)
        for turn in range(self.config.rotations):
            knots = _POINTS if turn == self.config.rotations - 1 else self.config.knots
            here, there = (quantiles(self.axes[turn] @ x, knots).double() for x in (colours, target))
            start = here[:, :1]
            step = (here[:, -1:] - start) / (_POINTS - 1)
            grid = start + step * torch.arange(_POINTS, device=start.device)
            self.start[turn] = start
            self.step[turn] = step.where(step > 0, 1)
            self.shift[turn] = transport(grid, here, there) - grid
            colours = self._turned(colours, turn)
        return {"matrix": matrix.tolist(), "offset": offset.tolist()}

    def fuse(self, scene: Scene) -> Tensor:
        n, _, h, _ = scene.pan.shape
        colours = self._linear(rearrange(scene.pan, "n c h w -> c (n h w)"))
        for turn in range(self.config.rotations):
            colours = self._turned(colours, turn)
        return rearrange(colours, "c (n h w) -> n c h w", n=n, h=h).clamp(0, self.sensor.peak)

    def _linear(self, colours: Tensor) -> Tensor:
        return torch.addmm(self.offset, self.matrix, colours)

    def _turned(self, colours: Tensor, turn: int) -> Tensor:
        """Colours (C, K) after the maps along the axes of one rotation; beyond what was seen in training the
        nearest shift holds."""
        last = _POINTS - 1
        place = ((self.axes[turn] @ colours - self.start[turn]) / self.step[turn]).clamp_(0, last)
        lower = place.long().clamp_max_(last - 1)
        shift = torch.lerp(
            self.shift[turn].gather(1, lower), self.shift[turn].gather(1, lower + 1), place - lower
        )
        return torch.addmm(colours, self.axes[turn].T, shift)


def monge(source: Tensor, target: Tensor) -> Tensor:
    """The symmetric matrix T with T S T = D that moves least: S, D covariances (C, C), S of any rank.

    ``T = S^-½ (S^½ D S^½)^½ S^-½`` (the optimal transport between Gaussians); directions in which the source
    does not vary become 0.
    """
    root = _power(source, 0.5)
    inverse = _power(source, -0.5)
    return inverse @ _power(root @ target @ root, 0.5) @ inverse


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric, positive semidefinite matrix; powers of its zero eigenvalues count as 0."""
    values, vectors = torch.linalg.eigh(matrix)
    seen = values > 1e-12 * values[-1]
    return (vectors * torch.where(seen, values.clamp_min(1e-300) ** exponent, 0)) @ vectors.T
