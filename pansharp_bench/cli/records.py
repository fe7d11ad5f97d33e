"""Records that commands need: read where they are, made where they are not."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import RunOptions, running, say
from pansharp_bench.errors import BenchError, OptionError

if TYPE_CHECKING:
    from pathlib import Path

    from pansharp_bench.plan import RunSpec
    from pansharp_bench.record import Record


def read_records(results: Path, datasets: Sequence[str] | None = None) -> list[Record]:
    """Every record under a folder, or every one of these datasets; one that is broken is left out, aloud.

    Raises BenchError where there are none, and for a dataset that no record is of.
    """
    from pansharp_bench import record

    with record.uncollected():
        items = [item for _, item in record.read_all(results, datasets)]
        gc.freeze()  # they stay for as long as the command does
    records = []
    for item in items:
        if isinstance(item, BenchError):
            click.secho(f"! left out: {item}", fg="yellow", err=True)
        else:
            records.append(item)
    if not records:
        raise BenchError(f"no records under {results}: `bench run` writes one")
    return records


def ensure(
    specs: Sequence[RunSpec], shared: RunOptions, resume: bool = False, skip: bool = False
) -> list[Record]:
    """The record of every spec: read where it exists, else made now. All are settled before the first runs, and
    what will run is said with the time it took elsewhere. Records that are all there need no data files.

    ``skip``: a spec whose options do not fit the dataset's images is left out, aloud.
    """
    from pansharp_bench import record
    from pansharp_bench.plan import Plan, plan, recorded

    found = []
    with running():
        settled = [recorded(spec, shared.results) or plan(spec) for spec in specs]
        paths = [it.path(shared.results) if isinstance(it, Plan) else it for it in settled]
        missing = {p: spec for p, spec in zip(paths, specs, strict=True) if not record.present(p)}
        _announce(list(missing.values()), len(set(paths)), shared.results)
        for planned, path in zip(settled, paths, strict=True):
            made = path not in missing or record.present(path)  # perhaps by another of these specs
            if made or not isinstance(planned, Plan):
                say(f"reused {path}")
                found.append(record.read(path))
                continue
            if len(missing) > 1:
                _say_progress(list(missing.values()), list(missing).index(path), shared.results)
            from pansharp_bench import experiment

            unfinished = planned.folder(shared.runs).checkpoint
            try:
                outcome = experiment.run(
                    planned,
                    shared.results,
                    shared.runs,
                    resume=resume and unfinished.exists(),
                    pictures=shared.pictures,
                    progress=shared.progress,
                    say=say,
                )
            except OptionError as error:
                if not skip:
                    raise
                say(f"! left out: {planned.identity['method']}: {error}")
                continue
            found.append(outcome.record)
    return found


def survey(specs: Sequence[RunSpec], results: Path) -> list[Path | None]:
    """Where the record of every spec lies, None for one that is still to be made. Nothing is made to find out."""
    from pansharp_bench import record
    from pansharp_bench.plan import plan, recorded
    from pansharp_bench.scene import data_root

    paths = []
    with running():
        for spec in specs:
            path = recorded(spec, results)
            if path is None and data_root(spec.data):
                path = plan(spec).path(results)
            paths.append(path if path and record.present(path) else None)
    return paths


def there(specs: Sequence[RunSpec], results: Path) -> list[Record]:
    """The records that there are, those that are missing aloud. Raises BenchError where there is none."""
    from pansharp_bench import record

    paths = survey(specs, results)
    for spec in (s for s, path in zip(specs, paths, strict=True) if not path):
        say(f"no record: {described(spec)}")
    if not any(paths):
        raise BenchError(f"none of the {len(specs)} runs of this table has a record under {results}")
    return [record.read(path) for path in dict.fromkeys(filter(None, paths))]


def tell(specs: Sequence[RunSpec], results: Path, as_json: bool = False) -> None:
    """Print which records are there, and which runs are missing, with the time that they will take."""
    from pansharp_bench.plan import outline

    paths = survey(specs, results)
    if as_json:
        print_json(
            {
                **in_brief(outline(spec)),
                "record": path and str(path),
                "expected_seconds": None if path else expected_seconds(spec, results),
            }
            for spec, path in zip(specs, paths, strict=True)
        )
        return
    for path in dict.fromkeys(filter(None, paths)):
        click.echo(f"have     {path}")
    for line in costs([s for s, path in zip(specs, paths, strict=True) if not path], results):
        click.echo(f"missing  {line}")


def in_brief(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a run from others, for programs."""
    return {k: identity[k] for k in ("track", "dataset", "method", "preset", "seed", "options")}


def print_json(runs: Iterable[Mapping[str, Any]]) -> None:
    """Print them as a list."""
    from pansharp_bench.record import jsonable

    click.echo(json.dumps(jsonable(list(runs)), indent=1, ensure_ascii=False))


def described(spec: RunSpec) -> str:
    """A run in a line: method, dataset, preset, options that differ, seed."""
    from pansharp_bench.plan import outline

    told = outline(spec)
    changed = [f"{name}={told['options'][name]}" for name in told["changed"]]
    seed = [f"seed {told['seed']}"] if told["options"] else []
    return " · ".join([told["method"], told["dataset"], told["preset"], *changed, *seed])


def expected_seconds(spec: RunSpec, results: Path) -> float | None:
    """What the run will take: as long as another of its method and preset took on such a device, in proportion to
    the steps; the nearest in dataset and options is asked. None where there is no such record."""
    from pansharp_bench import record
    from pansharp_bench.plan import device_type, outline

    told, kind = outline(spec), device_type(spec.device)

    def distance(other: Record) -> tuple[bool, int]:
        ours, theirs = ({k: record.canonical(v) for k, v in s["options"].items()} for s in (told, other.spec))
        return other.spec["dataset"] != told["dataset"], len(ours.items() ^ theirs.items())

    alike = [
        item
        for _, item in record.readable(
            results.glob(f"{told['track']}/*/{told['method']}/{told['preset']}-*.json")
        )
        if item.environment.get("device", "").startswith(kind) and not item.spec["weights"]
    ]
    if not alike:
        return None
    nearest = min(alike, key=distance)
    steps, then = told["options"].get("steps"), nearest.spec["options"].get("steps")
    training = nearest.training.get("seconds") or 0.0
    images = {name: p["images"] for name, p in nearest.protocols.items()}
    fusing = sum(
        timed["seconds_per_image"] * images.get(split, 1) for split, timed in nearest.inference.items()
    )
    return training * (steps / then if steps and then else 1) + fusing


def lasting(seconds: float) -> str:
    """A time in words that promise no more than is known.

    >>> [lasting(s) for s in (3, 75, 400, 9000)]
    ['under a minute', 'about 1 min', 'about 7 min', 'about 2.5 h']
    """
    if seconds < 60:
        return "under a minute"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def costs(specs: Sequence[RunSpec], results: Path) -> list[str]:
    """A line for every run that is to be made, with the time it will take where that is known, and their sum."""
    seconds = {described(spec): expected_seconds(spec, results) for spec in specs}
    unknown = "no such run to tell the time from"
    lines = [f"{what}: {unknown if s is None else lasting(s)}" for what, s in seconds.items()]
    known = [s for s in seconds.values() if s is not None]
    if len(lines) > 1 and known:
        rest = f", and {len(lines) - len(known)} of unknown length" if len(known) < len(lines) else ""
        lines.append(f"in all: {lasting(sum(known))}{rest}")
    return lines


def _announce(missing: Sequence[RunSpec], of: int, results: Path) -> None:
    if missing:
        say(f"{of - len(missing)} of {of} runs have a record; to be made:")
        for line in costs(missing, results):
            say(f"  {line}")


def _say_progress(missing: Sequence[RunSpec], done: int, results: Path) -> None:
    """Which run of how many begins, and how long all that are left will take where that is known."""
    seconds = [expected_seconds(spec, results) for spec in missing[done:]]
    known = [s for s in seconds if s is not None]
    left = f" · {lasting(sum(known))} left" if len(known) == len(seconds) else ""
    say(f"\nrun {done + 1} of {len(missing)}{left}: {described(missing[done])}")
