"""What methods ask of a whole image: moments, least squares, sorted values.

Usually the image is at hand and is measured. Of a scene that is fused tile by tile there is only a part at a time;
there a :class:`Survey` gathers the answers first. It runs the method on every tile: where an answer is missing, the
tile contributes its part, of the pixels that are its own and valid, and NaN stand for the answer. What is asked of
images that hold such NaN has to wait for the next round; when nothing is missing, the tiles can be fused. So a
method is written once, for an image, and does not know of tiles. It must ask the same questions in the same order
whatever the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.linalg import vecdot

Part = tuple[Tensor, ...]
Measure = Callable[..., Part]
Merge = Callable[[Part, Part], Part]
Parts = dict[int, tuple[Part, Merge]]
"""What a tile contributes, by the number of the question."""
T = TypeVar("T")

_PIECE = 1 << 14  # pixels


class Moments(NamedTuple):
    """Of images x and y of c pixels, over these: means, and sums of products of deviations from them, (N, C)."""

    pixels: Tensor
    mean: Tensor
    mean_y: Tensor
    square: Tensor
    square_y: Tensor
    product: Tensor


def moments(x: Tensor, y: Tensor | None = None) -> Moments:
    """Moments of every band of x (N, C, H, W), and with every band of y (N, C or 1, H, W); y is x by default."""
    return Moments(*_ask((x,) if y is None else (x, y), _moments, _merged_moments))


def _moments(*images: Tensor) -> Part:
    return reduce_tree(_merged_moments, (_moments_of_piece(*piece) for piece in _pieces(images)))


def _moments_of_piece(x: Tensor, y: Tensor | None = None) -> Part:
    count = x.new_tensor(x.shape[-1])
    mean = x.mean(-1)
    away = x - mean[..., None]
    square = vecdot(away, away)
    if y is None:
        return count, mean, mean, square, square, square
    mean_y = y.mean(-1)
    away_y = y - mean_y[..., None]
    return count, mean, mean_y, square, vecdot(away_y, away_y), vecdot(away, away_y)


def _merged_moments(a: Part, b: Part) -> Part:
    """Chan, Golub, LeVeque 1979."""
    one, other = Moments(*a), Moments(*b)
    count = one.pixels + other.pixels
    share = other.pixels / count
    step, step_y = other.mean - one.mean, other.mean_y - one.mean_y
    weight = one.pixels * share
    return (
        count,
        one.mean + step * share,
        one.mean_y + step_y * share,
        one.square + other.square + step * step * weight,
        one.square_y + other.square_y + step_y * step_y * weight,
        one.product + other.product + step * step_y * weight,
    )


class Products(NamedTuple):
    """Of an image of c pixels, over these: means (N, C), sums of products of all bands' deviations (N, C, C)."""

    pixels: Tensor
    mean: Tensor
    products: Tensor


def products(x: Tensor) -> Products:
    """Moments of every band of x (N, C, H, W) with every other."""
    return Products(*_ask((x,), _products, _merged_products))


def _products(x: Tensor) -> Part:
    def measured(piece: Tensor) -> Part:
        mean = piece.mean(-1)
        away = piece - mean[..., None]
        return x.new_tensor(piece.shape[-1]), mean, away @ away.mT

    return reduce_tree(_merged_products, (measured(piece) for (piece,) in _pieces((x,))))


def _merged_products(a: Part, b: Part) -> Part:
    one, other = Products(*a), Products(*b)
    count = one.pixels + other.pixels
    share, step = other.pixels / count, other.mean - one.mean
    between = step[..., None] * step[..., None, :] * (one.pixels * share)
    return count, one.mean + step * share, one.products + other.products + between


def _pieces(images: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """Their pixels, (N, C, k) each, so few at a time that they stay in the processor's cache."""
    rows = max(1, _PIECE // images[0].shape[-1])
    for strips in zip(*(x.split(rows, -2) for x in images), strict=True):
        yield from zip(*(x.flatten(2).split(2 * _PIECE, -1) for x in strips), strict=True)


def reduce_tree(merge: Callable[[T, T], T], parts: Iterable[T]) -> T:
    """All parts, at least one, merged by pairs in their order, then pairs of pairs and so on: a sum's rounding
    errors, and the copies of what is joined, grow with the logarithm of their number; as few are kept at a time."""
    kept: list[tuple[int, T]] = []  # how many parts are in each, ever fewer
    for part in parts:
        size = 1
        while kept and kept[-1][0] == size:
            size, part = 2 * size, merge(kept.pop()[1], part)
        kept.append((size, part))
    _, whole = kept.pop()
    while kept:
        whole = merge(kept.pop()[1], whole)
    return whole


def triangle(x: Tensor) -> Tensor:
    """R of the QR decomposition of the matrix whose columns are the bands: (N, C, H, W) -> (N, C, C)."""

    def upper(rows: Tensor) -> Part:
        rows = F.pad(rows, (0, 0, 0, max(0, rows.shape[2] - rows.shape[1])))  # fewer pixels than bands
        return (torch.linalg.qr(rows, mode="r").R,)

    return _ask((x,), lambda v: upper(v.flatten(2).mT), lambda a, b: upper(torch.cat([a[0], b[0]], 1)))[0]


def percentile(x: Tensor, percent: float) -> Tensor:
    """MATLAB's ``prctile`` of each band, (N, C, H, W) -> (N, C): sorted sample i of n is the percentile
    100 (i - 0.5) / n, linear in between."""
    share = percent / 100
    most = _pixels(x)

    def smallest(values: Tensor) -> Tensor:
        """Of all that may come, no more than these are ever looked at."""
        kept = min(int(share * most + 0.5) + 1, values.shape[-1])
        return values.topk(kept, -1, largest=False).values

    def merged(a: Part, b: Part) -> Part:
        return a[0] + b[0], smallest(torch.cat([a[1], b[1]], -1))

    def measured(v: Tensor) -> Part:
        return v.new_tensor(v[0, 0].numel()), smallest(v.flatten(2))

    count, values = _ask((x,), measured, merged)
    place = (share * count + 0.5).clamp(min=1).minimum(count) - 1
    around = torch.stack([place.floor(), place.ceil()]).nan_to_num().long().clamp(max=values.shape[-1] - 1)
    lower, upper = values.index_select(-1, around).unbind(-1)
    return torch.lerp(lower, upper, place - place.floor())


def ordered(x: Tensor) -> Tensor:
    """All values of each band, sorted: (N, C, H, W) -> (N, C, K). They are kept in memory."""
    (values,) = _ask((x,), lambda v: (v.flatten(2),), lambda a, b: (torch.cat([a[0], b[0]], -1),))
    return values.sort(-1).values


# -- scenes in pieces --


@dataclass(frozen=True)
class Own:
    """The pixels of a tile's image that are the tile's own: rows and columns within the image, of these those that
    are valid (None: all); ``scene`` is the number of pixels of the whole scene's image."""

    rows: slice
    cols: slice
    valid: Tensor | None
    scene: int


Grids = Mapping[tuple[int, int], Own]
"""By the size of a tile's images: those on PAN's grid, and those on the MS grid."""


class _Enough(Exception):
    """This tile has nothing more to contribute in this round."""


@dataclass
class _Visit:
    grids: Grids
    answers: Mapping[int, Part]
    last: int | None
    at_once: bool
    asked: int = 0
    parts: Parts = field(default_factory=dict)
    missing: bool = False


_visit: ContextVar[_Visit | None] = ContextVar("visit", default=None)


class Survey:
    """The answers to what a function asks about a scene, known or to be found.

    ``single``: the one tile is the whole scene, which answers at once. ``answers``: those that are known already,
    by the number of the question; what is learnt is added.
    """

    def __init__(self, single: bool = False, answers: dict[int, Part] | None = None) -> None:
        self.single = single
        self._answers: dict[int, Part] = {} if answers is None else answers
        self._last: int | None = None

    def visit(self, function: Callable[[], Tensor], grids: Grids) -> tuple[Tensor, Parts]:
        """Run the function on a tile: what it gives, if no answer is missing, and what the tile contributes to
        those that are."""
        visit = _Visit(grids, self._answers, self._last, self.single)
        token = _visit.set(visit)
        result = torch.empty(1, 0)
        try:
            result = function()
        except _Enough:
            pass
        except torch.linalg.LinAlgError:
            if not visit.missing:  # else it was the NaN
                raise
        finally:
            _visit.reset(token)
        return result, visit.parts

    def learn(self, contributions: Iterable[Parts]) -> None:
        """One round: what every tile contributes, in the order of tiles. Those without pixels have nothing."""

        def told() -> Iterator[Parts]:
            for parts in contributions:
                self._last = max(parts, default=self._last)
                yield parts

        def merged(a: Parts, b: Parts) -> Parts:
            """What only some could answer waits for the next round."""
            if not a or not b:
                return a or b
            return {n: (merge(a[n][0], part), merge) for n, (part, merge) in b.items() if n in a}

        found = {n: part for n, (part, _) in reduce_tree(merged, told()).items()}
        self._answers |= found
        self._last = None


def _ask(images: tuple[Tensor, ...], measure: Measure, merge: Merge) -> Part:
    visit = _visit.get()
    if visit is None:
        return measure(*images)
    number, visit.asked = visit.asked, visit.asked + 1
    if number in visit.answers:
        return visit.answers[number]
    own = [_own(x, visit.grids) for x in images]
    if visit.missing and any(bool(x.sum().isnan()) for x in own):
        return tuple(x * torch.nan for x in measure(*(x[..., :1, :1].nan_to_num() for x in own)))
    part = measure(*own)
    if visit.at_once:
        return part
    visit.missing = True
    visit.parts[number] = part, merge
    if number == visit.last:
        raise _Enough
    return tuple(x * torch.nan for x in part)


def _own(x: Tensor, grids: Grids) -> Tensor:
    """The tile's own pixels, as an image; what is valid of them, if not all, in one row."""
    own = grids[x.shape[-2], x.shape[-1]]
    x = x[..., own.rows, own.cols]
    return x if own.valid is None else x[..., own.valid].unsqueeze(-2)


def _pixels(x: Tensor) -> int:
    visit = _visit.get()
    size = x.shape[-2], x.shape[-1]
    return size[0] * size[1] if visit is None else visit.grids[size].scene
