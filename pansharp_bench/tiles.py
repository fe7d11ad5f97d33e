"""Scenes of any size, fused tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import interp23
from pansharp_bench.method import Method, build, is_trained
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, Sensor

Border = Literal["mirror", "toolbox"]
Window = tuple[slice, slice]


class Pair(Protocol):
    """A PAN and an MS image of one ground, read in windows.

    MS pixel i lies where the sensor's ``phase`` puts it on PAN. Windows are within the image, slices of rows and
    columns without step. Validity (True: data) is either given for every window of an image or for none.
    """

    @property
    def sensor(self) -> Sensor:
        """Of the MS bands, with the pair's own ``phase``."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of PAN, multiples of the sensor's ratio; MS is (H/ratio, W/ratio)."""
        ...

    def read_pan(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor | None]:
        """(1, h, w) float64 DN of that window of PAN, and (h, w) bool, which of its pixels are valid."""
        ...

    def read_ms(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor | None]:
        """(C, h, w) float64 DN of that window of MS, and (h, w) bool, which pixels are valid in all bands."""
        ...


@dataclass(frozen=True)
class TensorPair:
    """A pair in memory: pan (1, H, W), ms (C, H/ratio, W/ratio), and which of their pixels are valid."""

    pan: Tensor
    ms: Tensor
    sensor: Sensor
    valid_pan: Tensor | None = None
    valid_ms: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of PAN."""
        return self.pan.shape[-2], self.pan.shape[-1]

    def read_pan(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor | None]:
        """See :class:`Pair`."""
        return _window(self.pan, self.valid_pan, rows, cols)

    def read_ms(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor | None]:
        """See :class:`Pair`."""
        return _window(self.ms, self.valid_ms, rows, cols)


def _window(image: Tensor, valid: Tensor | None, rows: slice, cols: slice) -> tuple[Tensor, Tensor | None]:
    return image[:, rows, cols].double(), None if valid is None else valid[rows, cols]


class FusedTile(NamedTuple):
    """A part of the fused scene: its rows and columns on the PAN grid, (C, h, w) float64 DN, and which of its
    pixels (h, w) are valid; None where all are."""

    rows: slice
    cols: slice
    fused: Tensor
    valid: Tensor | None


class TiledFusion:
    """A scene being fused: iterate over its tiles, in the order of rows, then columns.

    Afterwards

    - ``beyond`` counts valid values above 1.5 times the sensor's peak or below -0.5 of it,
    - ``seam`` is the mean and the largest difference in DN between neighbouring tiles where both have values, None
      where tiles are exact.
    """

    def __init__(self, tiles: Iterator[FusedTile]) -> None:
        self._tiles = tiles
        self.beyond = 0
        self.seam: tuple[float, float] | None = None

    def __iter__(self) -> Iterator[FusedTile]:
        return self._tiles


def fuse_pair(
    method: str | Method,
    pair: Pair,
    *,
    tile: int = 512,
    weights: str | Path | None = None,
    approximate: bool = False,
    border: Border = "mirror",
    threads: int = 1,
    progress: Callable[[float], None] = lambda share: None,
) -> TiledFusion:
    """Fuse a scene tile by tile; the result does not depend on the tiles.

    Args:
        method: a registered name, or a method that is ready.
        pair: the images.
        tile: side of a tile in PAN pixels.
        weights: of a trained method that is given by name.
        approximate: let a method whose every layer sees the whole image see tiles; the seams are measured.
        border: ``mirror`` the images beyond their edges, or ``toolbox``: each filter's own border (one tile only).
        threads: tiles fused at the same time.
        progress: called with the share done, 0 to 1.

    Raises:
        BenchError: the method cannot fuse such a scene.
    """
    (h, w), r = pair.size, pair.sensor.ratio
    if isinstance(method, str):
        entry = METHODS.get(method)
        if is_trained(entry):
            raise BenchError(f"method {method!r} must be trained first: `bench run --method {method}`")
        method = build(entry, pair.sensor)
    fusing = method

    def tiles() -> Iterator[FusedTile]:
        pan, valid = pair.read_pan(slice(0, h), slice(0, w))
        ms, _ = pair.read_ms(slice(0, h // r), slice(0, w // r))
        scene = Scene(pair.sensor, pan[None], ms[None], interp23(ms[None], pair.sensor))
        with torch.inference_mode():
            fused = fusing.fuse(scene.seen_by(fusing.card))[0].double()
        progress(1.0)
        yield FusedTile(slice(0, h), slice(0, w), fused, valid)

    return TiledFusion(tiles())


__all__ = ["FusedTile", "Pair", "TensorPair", "TiledFusion", "fuse_pair"]
