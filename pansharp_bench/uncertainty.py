"""How sure the scores of a record are.

Test samples that overlap are not independent, so the standard deviation of their scores over the root of
their number is too small an error. Whole blocks of samples (a place, a pass of the camera) are resampled
instead, with replacement: the block bootstrap (Künsch 1989). The target's images are held as they are.

A distance between histograms is larger the fewer blocks it is of: the sample's own noise is part of it, and a
resampled set has that noise twice. Percentiles of the resampled values then lie beyond what they are to cover (near
a match nearly always), so what resampling adds is taken off instead (Efron and Tibshirani 1993, chapter 10).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.protocol import Protocol
from pansharp_bench.record import Record
from pansharp_bench.registry import TRACKS

DRAWS = 2000
_NORMAL = 1.96  # standard deviations that hold 95 % of a normal distribution


@dataclass(frozen=True)
class Interval:
    """A score; its standard error over resampled blocks; the 95 % interval of what it would be of ever more such
    blocks, 1.96 standard errors about the score less its bias (what resampling adds to it), and not below 0 for a
    score that no draw has there; the standard error there would be if images were independent (NaN for a score of
    the whole set). A score with a large bias can lie above its interval."""

    value: float
    error: float
    low: float
    high: float
    independent: float


def has_origins(record: Record) -> bool:
    """Whether a record says which of its images have something in common."""
    return any(scored.get("origins") for scored in record.protocols.values())


def intervals(
    record: Record, protocol: str, unit: str = "block", draws: int = DRAWS, seed: int = 0
) -> dict[str, Interval]:
    """Column -> interval, for every column of a protocol that can be computed from resampled images.

    Args:
        record: made where the test samples' origins are known.
        protocol: its name.
        unit: of the origins, what is resampled.
        draws: how many times; the same seed draws the same blocks for every method, so that two records' scores
            may be compared draw by draw.

    Raises:
        BenchError: the record does not say which images are of one unit, or all are of one.
    """
    whole, resampled = _drawn(record, protocol, unit, draws, seed)
    found = {}
    for column, values in resampled.items():
        value, error, low, high = _interval(whole[column], values)
        if values.min() >= 0:
            low, high = max(low, 0.0), max(high, 0.0)
        scores = record.scores(protocol, column)
        independent = (
            record.protocols[protocol]["std"][column] / math.sqrt(len(scores))
            if len(scores) > 1
            else math.nan
        )
        found[column] = Interval(value, error, low, high, independent)
    return found


def differences(
    first: Sequence[Record], second: Sequence[Record], protocol: str, unit: str = "block", draws: int = DRAWS
) -> dict[str, Interval]:
    """Column -> interval of the score of ``first`` less that of ``second``, both of the same drawn blocks, so that
    what makes a set of blocks hard for both is in neither; of several records (seeds) the mean.

    Raises BenchError as :func:`intervals`, and for records whose images are of other blocks.
    """
    origins = [r.protocols.get(protocol, {}).get("origins", {}).get(unit) for r in (*first, *second)]
    if any(o != origins[0] for o in origins):
        raise BenchError(f"the records do not all say that their images are of the same {unit}s")
    means = []
    for records in (first, second):
        each = [_drawn(r, protocol, unit, draws, 0) for r in records]
        shared = set.intersection(*(set(whole) for whole, _ in each))
        means.append({
            c: [torch.stack([part[c] for part in parts]).mean(0) for parts in zip(*each, strict=True)]
            for c in shared
        })  # fmt: skip
    return {
        c: Interval(*_interval(*(a - b for a, b in zip(means[0][c], means[1][c], strict=True))), math.nan)
        for c in means[0].keys() & means[1].keys()
    }


def _drawn(
    record: Record, protocol: str, unit: str, draws: int, seed: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Column -> score as it is (1,), and of resampled units (draws,)."""
    of_unit, units = _units(record, protocol, unit)
    if len(units) < 2:
        raise BenchError(
            f"all images of {record.dataset['name']} are of one {unit}: nothing is known between such"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(units), (draws, len(units)), generator=generator)
    weights = torch.zeros(draws, len(units), dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones_like(drawn, dtype=torch.float64)
    )
    once = torch.ones(1, len(units), dtype=torch.float64)
    return _scores(record, protocol, of_unit, once), _scores(record, protocol, of_unit, weights)


def _interval(whole: Tensor, resampled: Tensor) -> tuple[float, float, float, float]:
    """Value, standard error, and the ends of the 95 % interval."""
    value, error = whole.item(), resampled.std().item()
    middle = 2 * value - resampled.mean().item()
    return value, error, middle - _NORMAL * error, middle + _NORMAL * error


def by_unit(record: Record, protocol: str, unit: str) -> dict[int, dict[str, float]]:
    """Column -> score of the images of each unit alone. Raises BenchError as :func:`intervals`, but not for a
    single unit."""
    of_unit, units = _units(record, protocol, unit)
    alone = _scores(record, protocol, of_unit, torch.eye(len(units), dtype=torch.float64))
    return {u: {column: values[i].item() for column, values in alone.items()} for i, u in enumerate(units)}


def count(record: Record, protocol: str, unit: str = "block") -> int:
    """How many units the images are of."""
    return len(_units(record, protocol, unit)[1])


def _units(record: Record, protocol: str, unit: str) -> tuple[Tensor, list[int]]:
    """(N,) which unit each image is of, and the units."""
    origins = record.protocols.get(protocol, {}).get("origins", {})
    if unit not in origins:
        told = f"it tells {', '.join(origins)}" if origins else "make it anew (`bench run --force`)"
        raise BenchError(
            f"the record of {record.method['name']} does not say which {unit} its images are of; {told}"
        )
    units, of_unit = torch.tensor(origins[unit]).unique(return_inverse=True)
    return of_unit, units.tolist()


def _scores(record: Record, protocol: str, of_unit: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Column -> (R,) scores where the units are counted so often: weights (R, units)."""
    scored = record.protocols[protocol]
    found: dict[str, Tensor] = {}
    units = weights.shape[1]
    for column, scores in scored["scores"].items():
        values = torch.tensor(scores, dtype=torch.float64)
        if len(values) == len(of_unit) and values.isfinite().all():
            sums, counts = (
                torch.zeros(units, dtype=torch.float64).index_add_(0, of_unit, x)
                for x in (values, torch.ones_like(values))
            )
            found[column] = (weights @ sums) / (weights @ counts)
    if blocks := scored["origins"].get("block"):
        known = dict(zip(blocks, of_unit.tolist(), strict=True))  # a unit holds whole blocks
        each = list(known)
        for entry in _protocol(record, protocol).entries("set"):
            if hasattr(entry.obj, "resampled"):
                found |= entry.obj.resampled(scored.get("curves", {}), each, weights[:, list(known.values())])
    return found


def _protocol(record: Record, name: str) -> Protocol:
    protocols: Any = TRACKS.get(record.spec["track"]).obj.protocols
    return next(p for p in protocols if p.name == name)
