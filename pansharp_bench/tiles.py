"""Scenes of any size, fused tile by tile, with the result that one tile of all would have.

What a method must know of the whole scene is gathered in rounds over all tiles, as
:mod:`~pansharp_bench.imaging.statistics` describes. Then each tile is fused with as many MS pixels around it as its
card says can change it, and more of MS to expand these; beyond the scene's edge the images are mirrored, so that no
filter's own border is ever seen.

Pixels without data, and what lies within :data:`REACH` of them, are no part of the statistics nor of the result.
Under the filters they have the mean of the image.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.errors import BenchError, ImageError
from pansharp_bench.imaging import interp23
from pansharp_bench.imaging.statistics import Own, Part, Parts, Survey, reduce_tree
from pansharp_bench.method import Method, ready_method
from pansharp_bench.scene import Scene, Sensor

REACH = 6
"""MS pixels around one without data that are without data too: no weight of the expansion is above 2e-4 beyond."""
EXPANSION = 12  # MS pixels that the expansion of one depends on, each way
APPROXIMATE = 32  # MS pixels around a tile of a method to which all pixels matter
SEAM = 2  # MS pixels beyond a tile in which it is compared with its neighbour

Border = Literal["mirror", "toolbox"]
Slices = tuple[slice, slice]
Read = tuple[Tensor, Tensor | None]
T_co = TypeVar("T_co", covariant=True)


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


@dataclass(frozen=True)
class _Tile:
    """A part of the scene, in MS pixels: its own rows and columns, how many more around them its method sees, and
    how many of MS are read beyond these for the expansion alone."""

    top: int
    left: int
    height: int
    width: int
    margin: int
    expansion: int

    def own(self, scale: int) -> Slices:
        """Its own rows and columns on the grid that is ``scale`` times as fine."""
        return (
            slice(scale * self.top, scale * (self.top + self.height)),
            slice(scale * self.left, scale * (self.left + self.width)),
        )

    def within(self, scale: int) -> Slices:
        """The same within what is read."""
        return replace(self, top=self.margin, left=self.margin).own(scale)


class _Seen(NamedTuple):
    """A tile as its method sees it: where in this scene its own pixels are, and which of them are valid, on the MS
    and on the PAN grid."""

    scene: Scene
    own_ms: Slices
    own_pan: Slices
    valid_ms: Tensor | None
    valid_pan: Tensor | None


@dataclass
class Reached:
    """How far a fusion has come, in numbers and tensors alone: the means of the images where pixels are masked, the
    ``rounds`` of statistics and their ``answers``, the ``tiles`` that are fused, and what they told."""

    means: tuple[Tensor, Tensor] | None = None
    rounds: int = 0
    answers: dict[int, Part] = field(default_factory=dict)
    tiles: int = 0
    beyond: int = 0
    seams: dict[str, Any] | None = None


class Order(NamedTuple):
    """What is to be done with a tile, given by its number: sums for the ``means`` of images with masked pixels, its
    part of the ``statistics``, or the ``fused`` tile; and what is known of the scene by then."""

    step: Literal["means", "statistics", "fused"]
    tile: int
    means: tuple[Tensor, Tensor] | None
    survey: Survey


CarryOut = Callable[[Iterable[Order]], Iterator[Any]]
"""What :meth:`TiledFusion.carry_out` makes of each order, in their order."""


class TiledFusion:
    """A scene being fused: iterate over it for its tiles, row by row, from where ``reached`` says on.

    Afterwards ``beyond`` is the number of valid values above 1.5 times the sensor's peak or below -0.5 times, and
    ``seam`` the mean and the largest difference in DN of neighbouring tiles where they meet; None where tiles are
    exact.
    """

    def __init__(
        self,
        method: Method,
        pair: Pair,
        tiles: list[_Tile],
        carry_out: CarryOut | int,
        progress: Callable[[float], None],
        reached: Reached,
        surveyed: Callable[[Reached], None],
    ) -> None:
        self.reached = reached
        self.seam: tuple[float, float] | None = None
        self._surveyed = surveyed
        self._method, self._pair, self._tiles = method, pair, tiles
        self._all = (
            partial(_on_threads, self.carry_out, carry_out) if isinstance(carry_out, int) else carry_out
        )
        self._progress = progress
        self._reading = threading.Lock()

    def __len__(self) -> int:
        return len(self._tiles)

    @property
    def beyond(self) -> int:
        """Of the tiles up to now."""
        return self.reached.beyond

    def __iter__(self) -> Iterator[FusedTile]:
        sensor, tiles, reached = self._pair.sensor, self._tiles, self.reached
        survey = Survey(single=len(tiles) == 1, answers=reached.answers)
        rounds = 0 if survey.single else rounds_of(self._method, sensor)
        masked = any(valid is not None for _, valid in self._read(tiles[0]))
        total = (masked + rounds + 1) * len(tiles)
        done = ((reached.means is not None) + reached.rounds) * len(tiles) + reached.tiles
        self._progress(done / total)

        def each(step: Literal["means", "statistics", "fused"], first: int = 0) -> Iterator[Any]:
            nonlocal done
            for made in self._all(Order(step, n, reached.means, survey) for n in range(first, len(tiles))):
                yield made
                done += 1
                self._progress(done / total)

        if masked and reached.means is None:
            reached.means = _means(each("means"))
            if not survey.single:
                self._surveyed(reached)
        while reached.rounds < rounds:
            survey.learn(each("statistics"))
            reached.rounds += 1
            self._surveyed(reached)
        exact = len(tiles) == 1 or self._method.card.halo is not None
        seams = None if exact else _Seams(sensor.ratio, **(reached.seams or {}))
        start = reached.tiles
        for tile, (fused, own_pan, valid) in zip(tiles[start:], each("fused", start), strict=True):
            own = fused[(..., *own_pan)]
            if seams:
                seams.add(tile, fused)
                reached.seams = seams.state()
            low, high = -0.5 * sensor.peak, 1.5 * sensor.peak
            values = own.numpy()  # which finds extremes in a third of the time
            if not low <= values.min() <= values.max() <= high:
                beyond = (own > high) | (own < low)
                reached.beyond += int((beyond if valid is None else beyond & valid).sum())
            reached.tiles += 1
            yield FusedTile(*tile.own(sensor.ratio), own, valid)
        self.seam = seams.found() if seams else None

    def carry_out(self, order: Order) -> Any:
        """Do one step of the work on a tile, on any machine that has the same method, pair and tiles.

        The sums of :func:`_sums`, the tile's Parts of statistics, or its fused window (C, h, w), its own rows and
        columns of that, and which of them are valid.
        """
        tile = self._tiles[order.tile]
        if order.step == "means":
            return _sums(self._read(replace(tile, margin=0, expansion=0)))
        fused, parts, seen = self._visit(order, tile)
        if order.step == "statistics":
            return parts
        if parts:
            raise BenchError(
                f"method {self._method.card.name!r} does not ask the same of every image; it cannot fuse tiles"
            )
        return fused, seen.own_pan, seen.valid_pan

    @torch.inference_mode()
    def _visit(self, order: Order, tile: _Tile) -> tuple[Tensor, Parts, _Seen]:
        """The fused window of a tile, and what it contributes to answers that are missing."""
        card, seen = self._method.card, self._seen(tile, order.means)
        scene, (h, w) = seen.scene, self._pair.size
        if seen.valid_pan is not None and not seen.valid_pan.any():
            return scene.pan.new_zeros(scene.sensor.channels, *scene.pan.shape[-2:]), {}, seen
        r = scene.sensor.ratio
        assert scene.ms is not None
        grids = {
            (scene.ms.shape[-2], scene.ms.shape[-1]): Own(*seen.own_ms, seen.valid_ms, h * w // r**2),
            (scene.pan.shape[-2], scene.pan.shape[-1]): Own(*seen.own_pan, seen.valid_pan, h * w),
        }
        # the order of a bag of pixels tells a method nothing, and is what tells the tile's own from others
        visible = scene if card.sees == "pan+bag" else scene.seen_by(card)
        fused, parts = order.survey.visit(lambda: self._method.fuse(visible), grids)
        return fused[0].double().cpu(), parts, seen

    @torch.inference_mode()
    def _seen(self, tile: _Tile, means: tuple[Tensor, Tensor] | None) -> _Seen:
        sensor, r = self._pair.sensor, self._pair.sensor.ratio
        if means and len(self._tiles) > 1:
            tile = replace(tile, margin=max(tile.margin, REACH))
        images = self._read(tile)
        own_ms, own_pan = tile.within(1), tile.within(r)
        valid_ms: Tensor | None = None
        valid_pan: Tensor | None = None
        (pan, in_pan), (ms, in_ms) = images
        seen = tuple(slice(tile.expansion, n - tile.expansion) for n in ms.shape[-2:])
        if means:
            valid_ms = _reached(in_pan, in_ms if in_ms is None else in_ms[seen], r)[own_ms]
            valid_pan = valid_ms.repeat_interleave(r, 0).repeat_interleave(r, 1)
            pan, ms = (
                x if valid is None else torch.where(valid, x, mean[:, None, None])
                for (x, valid), mean in zip(images, means, strict=True)
            )
        for name, x in (("pan", pan), ("ms", ms)):
            if not x.sum().isfinite():
                raise ImageError(f"{name} has values that are NaN or infinite among those that are valid")
        lms = interp23(ms[None], sensor, margin=tile.expansion)
        origin = r * (tile.top - tile.margin), r * (tile.left - tile.margin)
        scene = Scene(sensor, pan[None], ms[(None, ..., *seen)], lms, origin=origin)
        return _Seen(scene, own_ms, own_pan, valid_ms, valid_pan)

    def _read(self, tile: _Tile) -> tuple[Read, Read]:
        """PAN and MS of a tile and its margins, beyond the scene's edges mirrored (edge pixel repeated)."""
        (h, w), r = self._pair.size, self._pair.sensor.ratio

        def window(read: Callable[[slice, slice], Read], scale: int, margin: int) -> Read:
            rows, cols = (
                mirrored(own.start - margin, own.stop + margin, n * scale // r)
                for own, n in zip(tile.own(scale), (h, w), strict=True)
            )
            top, left = int(rows.min()), int(cols.min())
            with self._reading:
                image, valid = read(slice(top, int(rows.max()) + 1), slice(left, int(cols.max()) + 1))
            if image.shape[-2:] == (len(rows), len(cols)):  # nothing to mirror
                return image, valid
            rows, cols = rows[:, None] - top, cols - left
            return image[:, rows, cols], None if valid is None else valid[rows, cols]

        return (
            window(self._pair.read_pan, r, r * tile.margin),
            window(self._pair.read_ms, 1, tile.margin + tile.expansion),
        )


def fuse_pair(
    method: str | Method,
    pair: Pair,
    *,
    tile: int = 512,
    weights: str | Path | None = None,
    approximate: bool = False,
    border: Border = "mirror",
    whole: int = 1 << 22,
    threads: int = 1,
    progress: Callable[[float], None] = lambda share: None,
    reached: Reached | None = None,
    surveyed: Callable[[Reached], None] = lambda reached: None,
    elsewhere: CarryOut | None = None,
) -> TiledFusion:
    """Fuse a scene tile by tile; the result does not depend on the tiles.

    Args:
        method: a registered name, or a method that is ready.
        pair: the images.
        tile: side of a tile in PAN pixels, rounded up to whole MS pixels.
        weights: of a trained method that is given by name.
        approximate: let a method to which every pixel matters see tiles; their seams are measured.
        border: ``mirror`` the images beyond their edges, or ``toolbox``: each filter's own border, in one tile.
        whole: the most PAN pixels that are fused in one tile where they must be.
        threads: tiles at work at the same time.
        progress: called with the share done, 0 to 1, first before any work.
        reached: where an earlier fusion of the same scene and tiles stood, to be gone on with; it is changed.
        surveyed: called after every round of statistics over several tiles.
        elsewhere: carries out the work on tiles instead of ``threads``: on other machines, say.

    Raises:
        BenchError: the method cannot fuse such a scene, or not by tiles; while iterating, where nothing is valid.

    >>> from pansharp_bench.scene import as_sensor
    >>> pair = TensorPair(torch.rand(1, 96, 64) * 2047, torch.rand(4, 24, 16) * 2047, as_sensor("qb"))
    >>> [tuple(part.fused.shape) for part in fuse_pair("gsa", pair, tile=64)]
    [(4, 64, 64), (4, 32, 64)]
    """
    sensor, (h, w) = pair.sensor, pair.size
    if isinstance(method, str):
        method = ready_method(method, sensor, weights)
    card, r = method.card, sensor.ratio
    if card.sees == "reference":
        raise BenchError(f"method {card.name!r} looks at a reference, and a scene has none")
    if h % r or w % r or min(h, w) < max(card.smallest, r):
        raise ImageError(
            f"a scene of {h} x {w} PAN pixels cannot be fused: method {card.name!r} needs at least "
            f"{max(card.smallest, r)} x {max(card.smallest, r)}, and whole MS pixels of {r}"
        )
    side, expansion = -(-tile // r), EXPANSION if border == "mirror" else 0
    if card.halo is not None and border == "mirror":
        margin = card.halo * max(4 // r, 1)
    elif h * w <= whole:
        side, margin = max(h, w) // r, 0
    elif border == "toolbox":
        raise BenchError(
            f"the toolbox's borders need one tile, and {h} x {w} PAN pixels are more than {whole}"
        )
    elif approximate:
        margin = APPROXIMATE
    else:
        raise BenchError(
            f"to method {card.name!r} every pixel of a scene matters, so it cannot fuse {h} x {w} PAN pixels (more "
            f"than {whole}) by tiles but approximately: ask for that, or for another method"
        )
    tiles = [
        _Tile(top, left, min(side, h // r - top), min(side, w // r - left), margin, expansion)
        for top in range(0, h // r, side)
        for left in range(0, w // r, side)
    ]
    return TiledFusion(method, pair, tiles, elsewhere or threads, progress, reached or Reached(), surveyed)


def rounds_of(method: Method, sensor: Sensor) -> int:
    """How often the tiles must be asked before all is known that the method asks of a scene."""
    if method.card.training != "none":
        return 0
    generator = torch.Generator().manual_seed(0)
    side, r = 16, sensor.ratio
    pan, ms = (
        torch.rand(1, bands, n, n, generator=generator, dtype=torch.float64) * sensor.peak
        for bands, n in ((1, r * side), (sensor.channels, side))
    )
    scene, survey, rounds = Scene(sensor, pan, ms, interp23(ms, sensor)), Survey(), 0
    visible = scene if method.card.sees == "pan+bag" else scene.seen_by(method.card)
    whole = slice(None), slice(None)
    grids = {(n, n): Own(*whole, None, n * n) for n in (side, r * side)}
    with torch.inference_mode():
        while parts := survey.visit(lambda: method.fuse(visible), grids)[1]:
            survey.learn([parts])
            rounds += 1
    return rounds


def mirrored(start: int, stop: int, n: int) -> Tensor:
    """Indices start to stop of n samples, those beyond them folded back."""
    index = torch.arange(start, stop) % (2 * n)
    return torch.minimum(index, 2 * n - 1 - index)


def _reached(valid_pan: Tensor | None, valid_ms: Tensor | None, ratio: int) -> Tensor:
    """Which MS pixels are valid on both images, and none within reach is not."""
    invalid = None if valid_ms is None else (~valid_ms)[None, None].float()
    if valid_pan is not None:
        in_pan = F.max_pool2d((~valid_pan)[None, None].float(), ratio)
        invalid = in_pan if invalid is None else invalid.maximum(in_pan)
    assert invalid is not None
    return F.max_pool2d(invalid, 2 * REACH + 1, 1, REACH)[0, 0] == 0


def _sums(images: tuple[Read, Read]) -> list[Tensor]:
    """Of each band of PAN and of MS, over what is valid, and how many pixels that are."""
    own = [x.flatten(1) if valid is None else x[:, valid] for x, valid in images]
    return [torch.cat([x.sum(1), x.new_tensor([x.shape[1]])]) for x in own]


def _means(parts: Iterable[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Of each band of PAN and MS, from the sums of tiles."""
    sums = reduce_tree(lambda a, b: [x + y for x, y in zip(a, b, strict=True)], parts)
    for name, total in zip(("PAN", "MS"), sums, strict=True):
        if not total[-1]:
            raise ImageError(f"no pixel of {name} is valid")
    pan, ms = (total[:-1] / total[-1] for total in sums)
    return pan, ms


@dataclass
class _Seams:
    """Differences of neighbouring tiles in a strip on the far side of the border between them."""

    ratio: int
    total: float = 0.0
    count: int = 0
    largest: float = 0.0
    above: dict[int, Tensor] = field(default_factory=dict)
    before: Tensor | None = None

    def state(self) -> dict[str, Any]:
        """All but the ratio."""
        return {name: value for name, value in vars(self).items() if name != "ratio"}

    def add(self, tile: _Tile, fused: Tensor) -> None:
        """The next tile of the scene, with its margin."""
        rows, cols = tile.within(self.ratio)
        strip = self.ratio * SEAM
        own = fused[:, rows, cols]
        if tile.left:
            assert self.before is not None
            self._compare(own[..., :strip], self.before)
        if tile.top:
            self._compare(own[:, :strip], self.above[tile.left])
        self.before = fused[:, rows, cols.stop : cols.stop + strip].clone()
        self.above[tile.left] = fused[:, rows.stop : rows.stop + strip, cols].clone()

    def _compare(self, here: Tensor, there: Tensor) -> None:
        h, w = (min(a, b) for a, b in zip(here.shape[-2:], there.shape[-2:], strict=True))
        difference = (here[:, :h, :w] - there[:, :h, :w]).abs()
        self.total += float(difference.sum())
        self.count += difference.numel()
        self.largest = max(self.largest, float(difference.max()))

    def found(self) -> tuple[float, float]:
        """Mean and largest difference."""
        return self.total / self.count, self.largest


class Waiting(Protocol[T_co]):
    """A future of any kind."""

    def result(self) -> T_co:
        """Waits for it."""
        ...


def in_order(
    submit: Callable[[Order], Waiting[T_co]], orders: Iterable[Order], ahead: Callable[[], int]
) -> Iterator[T_co]:
    """What comes of orders, in their order; about ``ahead`` more than the next are given out."""
    waiting: deque[Waiting[T_co]] = deque()
    for order in orders:
        waiting.append(submit(order))
        if len(waiting) > ahead():
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _on_threads(function: Callable[[Order], Any], threads: int, orders: Iterable[Order]) -> Iterator[Any]:
    if threads == 1:
        yield from map(function, orders)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(lambda order: pool.submit(function, order), orders, lambda: threads)


__all__ = [
    "CarryOut", "FusedTile", "Order", "Pair", "Reached", "TensorPair", "TiledFusion", "fuse_pair", "in_order",
    "mirrored", "rounds_of",
]  # fmt: skip
