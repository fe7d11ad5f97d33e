"""What was timed on a machine, beside the least that it could take: one file a machine, below the records.

Tables take milliseconds per megapixel from there, of one machine a table: those of runs were taken on any, beside
whatever else was running.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from pansharp_bench.errors import BenchError
from pansharp_bench.files import whole, write_text
from pansharp_bench.record import Record, canonical

SCHEMA = 1
Kind = Literal["inference", "step", "metric", "segments", "scenes", "records"]
KINDS: tuple[Kind, ...] = get_args(Kind)
COMMANDS: tuple[Kind, ...] = ("scenes", "records")
"""Timed in a process of their own, once."""
COMPANY = 0.2
"""Cores that other processes may have kept busy for a figure to count."""


@dataclass(frozen=True)
class Rates:
    """What a machine does in a second: operations of matrix products (a multiplication and an addition are two),
    and bytes moved by copying, read and written ones."""

    operations: float
    bytes: float

    def floor(self, operations: int, moved: int) -> float:
        """The seconds that so much takes at least.

        >>> Rates(operations=2e9, bytes=1e9).floor(4_000_000_000, 500_000_000)
        2.0
        """
        return max(operations / self.operations, moved / self.bytes)


@dataclass(frozen=True)
class Figure:
    """One thing that was timed: median ``seconds``, on the CPU the processor's too (other load disturbs it less).

    ``operations`` are those of convolutions and matrix products, ``moved`` the bytes of inputs, weights and
    results, ``floor`` the seconds which these take at least. ``pixels``: of PAN; ``options``: of a trained method,
    ``apart``: those of them that are not at their defaults, ``changed``: those set beside the preset, ``levels=6``.
    ``mib``: at the most, of a command; ``batch``: also of records, which have no pixels. ``others``: how many cores
    other processes kept busy meanwhile, None where the system does not tell. ``failed`` says why there is no time.
    """

    kind: Kind
    name: str
    channels: int
    pixels: int
    batch: int = 1
    preset: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    apart: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    seconds: float = 0.0
    processor_seconds: float | None = None
    operations: int = 0
    moved: int = 0
    floor: float = 0.0
    parameters: int = 0
    mib: float = 0.0
    others: float | None = None
    failed: str = ""

    @property
    def milliseconds_per_megapixel(self) -> float:
        """Of PAN."""
        return self.seconds * 1e9 / (self.batch * self.pixels)

    @property
    def alone(self) -> bool:
        """Whether nothing else was at work, as far as the system tells."""
        return self.others is None or self.others <= COMPANY

    def fits(self, record: Record) -> bool:
        """Whether a run of this method had these options. What the method learnt to be told since the run was at
        its default then."""
        options = record.spec["options"]
        return all(_equal(self.options.get(k), v) for k, v in options.items()) and all(
            k in options for k in self.apart
        )


@dataclass(frozen=True)
class Speeds:
    """What was measured on one machine, and under which conditions."""

    created: str
    environment: dict[str, Any]
    conditions: dict[str, Any]
    rates: Rates
    figures: list[Figure]
    schema: int = SCHEMA

    @property
    def machine(self) -> str:
        """The card, or the processor and its threads."""
        return machine_of(self.environment)

    def path(self, results: Path) -> Path:
        """Where it lies below the records."""
        return results / "speed" / f"{re.sub('[^a-z0-9]+', '-', self.machine.lower()).strip('-')}.json"

    @cached_property
    def fused(self) -> dict[tuple[str, int], list[Figure]]:
        """By method and number of bands, what was timed of fusing images; nothing that was timed beside others."""
        found: dict[tuple[str, int], list[Figure]] = defaultdict(list)
        for figure in self.figures:
            if figure.kind == "inference" and figure.alone and not figure.failed:
                found[figure.name, figure.channels].append(figure)
        return dict(found)

    def of(self, record: Record) -> float | None:
        """Milliseconds per megapixel of a run's method on such images, wherever it ran."""
        known = self.fused.get((record.spec["method"], record.dataset["channels"]), ())
        return next((f.milliseconds_per_megapixel for f in known if f.fits(record)), None)


def best_known(speeds: Iterable[Speeds], records: Iterable[Record]) -> Speeds | None:
    """The machine on which most of these runs' methods were timed, the newest of several; None where none was."""
    methods = {(r.spec["method"], r.dataset["channels"]) for r in records}
    known = [(len(methods & s.fused.keys()), s.created, s) for s in speeds]
    count, _, best = max(known, key=lambda k: k[:2], default=(0, "", None))
    return best if count else None


def _equal(a: Any, b: Any) -> bool:
    return a == b or canonical(a) == canonical(b)


def machine_of(environment: dict[str, Any]) -> str:
    """What a speed is of: a card, or a processor with so many threads; empty where an old record does not say."""
    if environment.get("device", "").startswith("cuda"):
        return environment.get("device_name", "")
    processor = environment.get("processor", "")
    return processor and f"{processor}, {environment['threads']} threads"


def read_speeds(results: Path) -> list[Speeds]:
    """The figures of every machine below a folder of records. Raises BenchError for a file that holds none."""
    found = []
    for path in whole((Path(results) / "speed").glob("*.json")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            if told["schema"] != SCHEMA:
                raise ValueError(f"it has schema {told['schema']}, this version reads {SCHEMA}")
            told["rates"] = Rates(**told["rates"])
            told["figures"] = [Figure(**f) for f in told["figures"]]
            found.append(Speeds(**told))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{path} holds no speeds of a machine: {error}; delete it") from error
    return found


def write(speeds: Speeds, results: Path) -> Path:
    """Write them below the records. What was not measured this time, but before, stays; so does what was measured
    alone before, and beside others this time."""

    def thing(figure: Figure) -> tuple[Kind, str, int, tuple[str, ...]]:
        return figure.kind, figure.name, figure.channels, tuple(figure.changed)

    path = speeds.path(results)
    before = [f for s in read_speeds(results) if s.path(results) == path for f in s.figures]
    alone = {thing(f) for f in before if f.alone}
    new = [f for f in speeds.figures if f.alone or thing(f) not in alone]
    replaced = set(map(thing, new))
    told = asdict(replace(speeds, figures=[*(f for f in before if thing(f) not in replaced), *new]))
    write_text(path, json.dumps(told, indent=1, allow_nan=False) + "\n")
    return path
