"""The record of a run: one JSON document, versioned, written atomically, never silently replaced.

A record holds everything a table or a doubt needs: scores per image, the specification and its hash, versions,
commit, device, seed, data files with SHA-256, weights SHA-256, times and memory. NaN and infinities are kept
as the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``, so that the file is strict JSON. Its ``sha256`` is that
of all the rest, and each mean that of its scores: a file in which somebody changed something is no record.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import json
import marshal
import math
import statistics
import sys
import warnings
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pansharp_bench.errors import BenchError, RecordExists
from pansharp_bench.files import atomically, cache_dir, stamp, whole, write_text

SCHEMA = 2
_NEEDED = {
    "spec": ("track", "dataset", "method", "preset", "options", "changed", "seed", "weights"),
    "method": ("name", "title", "sees", "training"),
    "dataset": ("name", "sensor", "channels", "files", "test_fingerprint", "provenance"),
}
_SCORED = ("images", "scores", "missing", "mean", "std")
_NUMBERS = {int, float}
_FOREIGN = ("source", "sensor")  # in a specification only where something foreign takes part
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True)
class Record:
    """One run. ``protocols`` maps a protocol's name to ``{"images", "scores": {column: [per image]},
    "missing": {column: [indices of NaN]}, "mean", "std"}``. ``training`` is empty, or ``{"data": what was served,
    "seconds", "summary": what the loop did (empty where nothing was stepped), "fitted": what the method told}``.
    """

    schema: int
    created: str
    spec: dict[str, Any]
    spec_sha256: str
    method: dict[str, Any]
    dataset: dict[str, Any]
    protocols: dict[str, dict[str, Any]]
    training: dict[str, Any] = field(default_factory=dict)
    inference: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def path(self, root: Path) -> Path:
        """Where it lies under a folder of records."""
        return record_path(root, self.spec, self.spec_sha256)

    @property
    def simulated(self) -> bool:
        """Whether its scenes were never on Earth (or Jupiter). The oldest records do not say; what they tell of a
        simulator does."""
        return self.dataset.get("simulated", bool(self.dataset["provenance"]))

    def scores(self, protocol: str, column: str) -> list[float]:
        """Per image; empty where the run did not compute it."""
        return self.protocols.get(protocol, {}).get("scores", {}).get(column, [])


def blocks_of(records: Iterable[Record], protocol: str) -> list[int]:
    """Of each test image the block whose images overlap, so are not independent, as the first of these records of
    the same test files that knows tells; empty where none does."""
    origins = (r.protocols.get(protocol, {}).get("origins", {}) for r in records)
    return next((o["block"] for o in origins if "block" in o), [])


def canonical(value: Any) -> str:
    """Canonical JSON: equal values give equal text."""
    return json.dumps(jsonable(value), sort_keys=True, separators=(",", ":"))


def spec_hash(spec: dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a specification."""
    return hashlib.sha256(canonical(spec).encode()).hexdigest()


def short_hash(record: Record) -> str:
    """What names a run in tables and in the name of its file: the first 8 digits of its specification's hash."""
    return record.spec_sha256[:8]


def record_path(root: Path, spec: dict[str, Any], sha256: str) -> Path:
    """``root/<track>/<dataset>/<method>/<preset>-s<seed>-<hash>.json``."""
    name = f"{spec['preset']}-s{spec['seed']}-{sha256[:8]}.json"
    return Path(root, spec["track"], spec["dataset"], spec["method"], name)


def summarise(scores: dict[str, list[float]]) -> dict[str, Any]:
    """Mean and standard deviation (N-1) per column. A NaN image makes its column's mean NaN and is listed
    in ``missing``: it never vanishes from a mean."""
    missing = {k: [i for i, x in enumerate(v) if math.isnan(x)] for k, v in scores.items()}
    return {
        "images": max((len(v) for v in scores.values()), default=0),
        "scores": scores,
        "missing": {k: v for k, v in missing.items() if v},
        "mean": {k: _mean(v) for k, v in scores.items()},
        "std": {k: _std(v) for k, v in scores.items()},
    }


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _equal(a: float, b: float) -> bool:
    """But for what versions of Python sum differently."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))


def _std(values: list[float]) -> float:
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values)


def write(record: Record, root: Path, force: bool = False) -> Path:
    """Write a record, whole or not at all: a kill at any moment leaves whole files only.

    Raises RecordExists unless ``force``.
    """
    path = record.path(root)
    if not force:
        refuse_existing(path)
    text = _sealed(json.dumps(jsonable(asdict(record)), indent=1, allow_nan=False) + "\n")
    try:
        write_text(path, text, replace=force)
    except FileExistsError:  # written since the look before
        raise _taken(path) from None
    return path


def _sealed(text: str) -> str:
    """The text of a record with its own SHA-256 in the first line: of the text, as to write out what was read takes
    longer than to read it."""
    return text.replace("{", f'{{\n "sha256": "{hashlib.sha256(text.encode()).hexdigest()}",', 1)


def refuse_existing(path: Path) -> None:
    """Raises RecordExists where a record lies at this path, BenchError where something else does."""
    if present(path):
        raise _taken(path)


def present(path: Path) -> bool:
    """Whether a record lies at this path. Raises BenchError where something lies there that is none."""
    if not path.exists():
        return False
    try:
        read(path)
    except BenchError as error:
        raise BenchError(f"{error}; move it away, or make its run anew with `bench run --force`") from error
    return True


def _taken(path: Path) -> RecordExists:
    return RecordExists(f"a record of this run exists: {path}; use --force to replace it")


def read(path: Path) -> Record:
    """Raises BenchError, naming the file, when it is not a record of a known schema, or was changed by hand; where
    it has no ``sha256``, as older ones, a change of its scores or means alone is noticed."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        data = json.loads(text)
        schema = data["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} is not a readable record: {error}") from error
    if schema not in (1, SCHEMA):
        raise BenchError(
            f"{path} has schema {schema}; this version reads 1 to {SCHEMA}: update pansharp-bench"
        )
    own = data.get("sha256")
    if own and _sealed(text.replace(f'\n "sha256": "{own}",', "", 1)) != text:
        raise BenchError(f"{path} is not as it was written: somebody changed something in it")
    try:
        data = _from_schema_1(data) if schema == 1 else data
        if training := data.get("training"):  # once there was one process only, which nobody had to tell
            data["training"] = {"devices": 1, "nodes": 1} | training
        known = {f.name for f in fields(Record)}
        record = Record(**{k: _unplain(v) for k, v in data.items() if k in known})
        for part, keys in _NEEDED.items():
            if missing := [k for k in keys if k not in getattr(record, part)]:
                raise KeyError(f"{part} lacks {', '.join(missing)}")
        for name, scored in record.protocols.items():
            if missing := [k for k in _SCORED if k not in scored]:
                raise KeyError(f"protocol {name} lacks {', '.join(missing)}")
            for column, scores in scored["scores"].items():
                if not _NUMBERS.issuperset(map(type, scores)):
                    raise TypeError(f"{column} of protocol {name} is not a list of numbers")
                if not _equal(scored["mean"][column], _mean(scores)):
                    raise ValueError(f"{column} of protocol {name} has a mean that is not of its scores")
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise BenchError(f"{path} is not a whole record: {error}") from error
    return record


_SUMMARY = ("steps", "steps_per_second", "best_step", "best_score", "losses")


def _from_schema_1(data: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 had the loop's summary of paired networks beside what they told, and a weights file's name in the
    training that did not take place."""
    told = dict(data.get("training") or {})
    weights = dict(data.get("weights") or {})
    if "weights_from" in told:
        weights["file"] = told.pop("weights_from")
    training = {}
    if told:
        summary = told.pop("summary", None) or {k: told.pop(k) for k in _SUMMARY if k in told}
        seconds = told.pop("seconds", summary.get("seconds"))
        training = {"data": told.pop("data", {}), "seconds": seconds, "summary": summary, "fitted": told}
    return data | {"schema": SCHEMA, "training": training, "weights": weights}


def read_all(
    root: Path, datasets: Collection[str] | None = None
) -> Iterator[tuple[Path, Record | BenchError]]:
    """Every record under a folder, or every one of these datasets, in path order; an unreadable one is given as its
    error. Raises BenchError for a dataset that no record is of.

    What was read of files that have not been touched since is kept in the cache, a file for each dataset.
    """
    paths = sorted(whole(Path(root).glob("*/*/*/*.json")), key=lambda p: p.parts)
    known = {path.parents[1].name for path in paths}
    if unknown := [name for name in datasets or () if name not in known]:
        raise BenchError(
            f"no records of dataset {', '.join(map(repr, unknown))} under {root}; there are: "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    for folder, members in itertools.groupby(paths, key=lambda p: p.parents[1]):
        if datasets is None or folder.name in datasets:
            yield from _read_dataset(folder, list(members))


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Around the reading of many records: they have no cycles, and to look for some again and again, as Python does
    where objects become many, takes longer than reading them."""
    at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if at_work:
            gc.enable()


def _read_dataset(folder: Path, paths: list[Path]) -> Iterator[tuple[Path, Record | BenchError]]:
    """The cache is marshalled: plain values come from it four times as fast as from JSON. Before them stands their
    checksum, as damaged ones may pass for others."""
    reader = (sys.version, stamp(Path(__file__)))  # whose notion of a whole record it is
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()
    cache = cache_dir() / "records" / f"{name}.marshal"
    try:
        data = memoryview(cache.read_bytes())  # from an open file: five times slower
        intact = data[:4] == zlib.crc32(data[4:]).to_bytes(4, "big")
        made_by, kept = marshal.loads(data[4:]) if intact else (None, {})
    except (OSError, ValueError, EOFError, TypeError):
        made_by, kept = None, {}
    known = kept if made_by == reader else {}
    found = {}
    for path in paths:
        key = f"{path.parent.name}/{path.name}"
        try:
            at = stamp(path)
            then, values = known.get(key, (None, ()))
            record = Record(*values) if then == at else read(path)
            found[key] = at, tuple(vars(record).values())
            yield path, record
        except OSError as error:
            yield path, BenchError(f"{path} is not a readable record: {error}")
        except BenchError as error:
            yield path, error
    if {k: at for k, (at, _) in found.items()} != {k: at for k, (at, _) in known.items()}:
        with contextlib.suppress(BenchError), atomically(cache) as part:
            fresh = marshal.dumps((reader, found))
            part.write_bytes(zlib.crc32(fresh).to_bytes(4, "big") + fresh)


def foreign_changes(
    path: Path, spec: dict[str, Any], essential: Callable[[dict[str, Any]], dict[str, Any]]
) -> tuple[Path, list[str]] | None:
    """The newest record beside ``path`` of a run that differs from this specification in foreign code or a foreign
    sensor alone, and the parts that differ (``method``, ``metric NAME``, ``sensor``, ...). ``essential`` gives what
    of a specification tells runs apart."""

    def own(spec: dict[str, Any]) -> str:
        return canonical({k: v for k, v in essential(spec).items() if k not in _FOREIGN})

    def parts(spec: dict[str, Any]) -> dict[str, str]:
        found = spec.get("source", {}) | {k: v for k, v in spec.items() if k == "sensor"}
        return {k: canonical(v) for k, v in found.items()}

    alike = [(p, r) for p, r in readable(path.parent.glob("*.json")) if own(r.spec) == own(spec)]
    changed = [(p, r) for p, r in alike if parts(r.spec) != parts(spec)]
    if not changed or len(changed) < len(alike):  # the very run is there: nothing is new
        return None
    newest, record = max(changed, key=lambda found: found[1].created)
    then, now = parts(record.spec), parts(spec)
    return newest, sorted(k for k in then.keys() | now.keys() if then.get(k) != now.get(k))


def apart(dataset: dict[str, Any], others: Sequence[dict[str, Any]]) -> str:
    """Which splits of a record's dataset have other files than every record of these (their datasets), and why if
    that is known. Empty where none has."""
    known: dict[str, set[str]] = {}
    for file in (f for other in others for f in other["files"]):
        known.setdefault(file["split"], set()).add(file["sha256"])
    own = {f["split"]: f["sha256"] for f in dataset["files"]}
    splits = [s for s, digest in own.items() if s in known and digest not in known[s]]
    if not splits:
        return ""
    then, now = others[-1]["provenance"], dataset["provenance"]
    why = [
        f"{k} {now[k]}, not {then[k]}" for k in now if k in then and canonical(now[k]) != canonical(then[k])
    ]
    return f"{', '.join(splits)} ({'; '.join(why) or 'other files of the same name'})"


def of_dataset(root: Path, record: Record) -> list[Record]:
    """The other records of a record's dataset under a folder of records, oldest first."""
    own = record.path(root)
    paths = own.parents[1].glob("*/*.json")
    return sorted((r for p, r in readable(paths) if p != own), key=lambda r: r.created)


def readable(paths: Iterable[Path], aloud: bool = False) -> Iterator[tuple[Path, Record]]:
    """Those of these files that are records, in order; of the others it warns where ``aloud``."""
    for path in whole(paths):
        try:
            yield path, read(path)
        except BenchError as error:
            if aloud:
                warnings.warn(f"left out: {error}", stacklevel=2)


def jsonable(value: Any) -> Any:
    """As strict JSON can hold it: NaN and infinities by their names, arrays as lists, what is left as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy and torch
        return jsonable(value.tolist())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [jsonable(v) for v in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _unplain(value: Any) -> Any:
    if isinstance(value, list) and _NUMBERS.issuperset(map(type, value)):
        return value  # most of a record is lists of scores
    if isinstance(value, str):
        return _WORDS.get(value, value)
    if isinstance(value, dict):
        return {k: _unplain(v) for k, v in value.items()}
    return [_unplain(v) for v in value] if isinstance(value, list) else value
