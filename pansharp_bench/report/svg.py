"""Charts as inline SVG, which is HTML, names in it escaped: their colours are those of the page, so they are right
in the dark as well."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from statistics import quantiles

Curve = tuple[Sequence[float], Sequence[float]]
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 12, 8, 34  # margins of a plot with two axes
_COLOURS = 12  # of the style sheet: c0, c1, …
_DOTS = 60  # more than these cover each other
_NAMED = 100  # points beside which there is room for a name


def axis(values: Sequence[float], log: bool, start: float, end: float) -> Callable[[float], float]:
    """Where a value lies between two places; a logarithmic axis takes positive values alone."""
    of: Callable[[float], float] = math.log10 if log else float
    low, high = of(min(values)), of(max(values))
    pad = 0.04 * (high - low) or 0.5
    low, high = low - pad, high + pad
    return lambda value: start + (of(value) - low) / (high - low) * (end - start)


def ticks(low: float, high: float, log: bool) -> list[float]:
    """Round values within a range.

    >>> ticks(0.31, 0.62, log=False)
    [0.4, 0.5, 0.6]
    >>> ticks(3, 4000, log=True)
    [10.0, 100.0, 1000.0]
    """
    if log:
        decades = math.log10(high / low)
        steps: tuple[int, ...] = (1,) if decades > 2 else (1, 2, 5) if decades > 0.7 else tuple(range(1, 10))
        powers = range(
            math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, max(1, round(decades / 6))
        )
        return [s * 10.0**p for p in powers for s in steps if low <= s * 10.0**p <= high]
    rough = (high - low) / 6 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def distribution(values: Sequence[float]) -> str:
    """One quantity's values per image: a box from quartile to quartile with the median, and a dot each.

    Size and colours are left to the style sheet, as thousands of these are drawn.
    """
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) < 2:
        return ""
    at = axis(finite, False, 0, 240)
    places = sorted(round(at(v)) for v in finite)
    steps = " ".join(str(b - a) for a, b in pairwise(places))
    dots = f'<path d="M{places[0]} 14h{steps}"/>' if len(finite) <= _DOTS else ""
    return f'<svg class="strip" aria-hidden="true"><path d="{_box(finite, at, 14)}"/>{dots}</svg>'


def boxes(rows: Sequence[tuple[str, Sequence[float]]], name: str) -> str:
    """A box a row, (label, values per image), on one axis."""
    finite = [(label, [v for v in values if math.isfinite(v)]) for label, values in rows]
    finite = [row for row in finite if len(row[1]) > 1]
    if not finite:
        return ""
    every = [v for _, values in finite for v in values]
    log = min(every) > 0 and max(every) / min(every) > 30
    left, width, step = 210, 720, 20
    foot = step * len(finite) + 6
    at = axis(every, log, left, width - _RIGHT)
    parts = [
        f'<path class="grid" d="M{at(t):.0f} 0V{foot}"/>'
        f'<text x="{at(t):.0f}" y="{foot + 14}" class="mid">{t:g}</text>'
        for t in ticks(min(every), max(every), log)
    ]
    names = (
        f'<text x="{left - 8}" y="{step * i + 14}">{_cut(row[0], 32)}</text>' for i, row in enumerate(finite)
    )
    drawn = (_box(row[1], at, step * i + 10) for i, row in enumerate(finite))
    parts += [f'<g class="end">{"".join(names)}</g><path class="box" d="{"".join(drawn)}"/>']
    return _svg(width, foot + 20, f"{name} per image, a box a row", "".join(parts))


def scatter(points: Sequence[tuple[str, str, str, float, float]], x_name: str, y_name: str) -> str:
    """Points (label, link, group, x, y) on logarithmic axes (y where it is positive and wide), named beside where
    there are few."""
    points = [p for p in points if p[3] > 0 and math.isfinite(p[4])]
    if not points:
        return ""
    xs, ys = [p[3] for p in points], [p[4] for p in points]
    log = min(ys) > 0 and max(ys) / min(ys) > 10
    width, height = 760, 440
    x, y = axis(xs, True, _LEFT, width - 110), axis(ys, log, height - _BOTTOM, _TOP)
    parts = [_frame(xs, ys, (True, log), (x, y), (width, height), (x_name, y_name))]
    groups = list(dict.fromkeys(p[2] for p in points))
    taken: list[tuple[float, ...]] = [(x(p[3]) - 4, y(p[4]) - 4, x(p[3]) + 4, y(p[4]) + 4) for p in points]
    for label, link, group, cost, quality in sorted(points, key=lambda p: p[4]):
        px, py, text = x(cost), y(quality), _cut(label, 26)
        name = ""
        if len(points) <= _NAMED:
            box = _free(px, py, 6.8 * len(text), taken)
            taken.append(box)
            name = f'<text x="{box[0]:.1f}" y="{box[3] - 3:.1f}">{text}</text>'
        colour = f"c{groups.index(group) % _COLOURS}"
        parts.append(
            f'<a href="{escape(link)}"><title>{escape(label)}: {cost:.4g} {escape(x_name)}, {quality:.4g}</title>'
            f'<circle class="{colour}" cx="{px:.1f}" cy="{py:.1f}" r="4"/>{name}</a>'
        )
    return _svg(width, height, f"{y_name} against {x_name}", "".join(parts)) + _legend(groups)


def lines(
    curves: Mapping[str, Curve], x_name: str, y_name: str, log: bool = False, dashed: Sequence[str] = ()
) -> str:
    """Curves on common axes, both logarithmic or none; those ``dashed`` are what the others are held against."""
    kept = {k: _drawable(*curve, log) for k, curve in curves.items()}
    kept = {k: points for k, points in kept.items() if points}
    if not kept:
        return ""
    xs = [x for points in kept.values() for x, _ in points]
    ys = [y for points in kept.values() for _, y in points]
    width, height = 640, 320
    x, y = axis(xs, log, _LEFT, width - _RIGHT), axis(ys, log, height - _BOTTOM, _TOP)
    parts = [_frame(xs, ys, (log, log), (x, y), (width, height), (x_name, y_name))]
    for i, (label, points) in enumerate(kept.items()):
        way = "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points) + ("h0" if len(points) == 1 else "")
        style = f"line c{i % _COLOURS}" + (" dashed" if label in dashed else "")
        parts.append(f'<path class="{style}" d="{way}"><title>{escape(label)}</title></path>')
    return _svg(width, height, f"{y_name} against {x_name}", "".join(parts)) + _legend(kept)


def _drawable(xs: Sequence[float], ys: Sequence[float], log: bool) -> list[tuple[float, float]]:
    pairs = zip(xs, ys, strict=True)
    return [(a, b) for a, b in pairs if math.isfinite(b) and (not log or (a > 0 and b > 0))]


def _box(values: Sequence[float], at: Callable[[float], float], y: int) -> str:
    """A path: from end to end, a box from quartile to quartile, the median."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    least, left, mid, right, most = (f"{at(v):.0f}" for v in (min(values), low, middle, high, max(values)))
    return f"M{least} {y}H{most}M{left} {y - 5}H{right}v10H{left}zM{mid} {y - 5}v10"


def _frame(
    xs: Sequence[float],
    ys: Sequence[float],
    log: tuple[bool, bool],
    at: tuple[Callable[[float], float], Callable[[float], float]],
    size: tuple[int, int],
    names: tuple[str, str],
) -> str:
    """Grid, ticks and names of two axes."""
    (x, y), (width, height) = at, size
    foot, parts = height - _BOTTOM, []
    for t in ticks(min(xs), max(xs), log[0]):
        parts.append(
            f'<path class="grid" d="M{x(t):.1f} {_TOP}V{foot}"/>'
            f'<text x="{x(t):.1f}" y="{foot + 14}" class="mid">{t:g}</text>'
        )
    for t in ticks(min(ys), max(ys), log[1]):
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y(t):.1f}H{width - _RIGHT}"/>'
            f'<text x="{_LEFT - 6}" y="{y(t) + 4:.1f}" class="end">{t:g}</text>'
        )
    middle = (_TOP + foot) / 2
    parts.append(
        f'<text x="{(_LEFT + width - _RIGHT) / 2:.0f}" y="{height - 4}" class="mid">{escape(names[0])}</text>'
        f'<text transform="translate(12 {middle:.0f}) rotate(-90)" class="mid">{escape(names[1])}</text>'
    )
    return "".join(parts)


def _free(x: float, y: float, width: float, taken: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The first place for a name beside a point where it covers no other name or point."""
    box: tuple[float, ...] = ()
    for box in _places(x, y, width):
        if box[0] > _LEFT and not any(
            box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken
        ):
            break
    return box


def _places(x: float, y: float, width: float) -> Iterator[tuple[float, ...]]:
    for shift in range(0, 90, 6):
        for sign in (1, -1):
            for left in (x + 7, x - 7 - width):
                yield left, y + sign * shift - 6, left + width, y + sign * shift + 7


def _cut(label: str, most: int) -> str:
    return escape(label if len(label) <= most else label[: most - 1] + "…")


def _svg(width: float, height: float, name: str, body: str) -> str:
    head = f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(name)}">'
    return f"{head}{body}</svg>"


def _legend(names: Sequence[str] | Mapping[str, object]) -> str:
    entries = (f'<li><i class="c{i % _COLOURS}"></i>{escape(name)}</li>' for i, name in enumerate(names))
    return f'<ul class="legend">{"".join(entries)}</ul>'
