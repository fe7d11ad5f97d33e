"""Records that commands need: read where they are, made where they are not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pansharp_bench.cli.options import RunOptions, running, say
from pansharp_bench.errors import OptionError

if TYPE_CHECKING:
    from pansharp_bench.plan import RunSpec
    from pansharp_bench.record import Record


def ensure(
    specs: Iterable[RunSpec], shared: RunOptions, resume: bool = False, skip: bool = False
) -> list[Record]:
    """The record of every spec: read where it exists, else made now. All are settled before the first runs.

    ``skip``: a spec whose options do not fit the dataset's images is left out, aloud.
    """
    from pansharp_bench import experiment, record
    from pansharp_bench.plan import plan

    found = []
    with running():
        for planned in [plan(spec) for spec in specs]:
            path = planned.path(shared.results)
            if path.exists():
                say(f"reused {path}")
                found.append(record.read(path))
                continue
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
