"""From records to tables: which records share one, and in what order its rows stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from pansharp_bench.record import Record, apart, spec_hash
from pansharp_bench.registry import TRACKS
from pansharp_bench.tables.editions import Edition, editions_of
from pansharp_bench.tables.measured import measured_rows
from pansharp_bench.tables.model import Column, Row, Table
from pansharp_bench.tables.published import published_rows


def tables(
    records: Iterable[Record],
    *,
    combine: bool = False,
    intervals: bool = False,
    all_published: bool = False,
    dataset: str | None = None,
    protocols: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    source: str = "",
    varied: Sequence[str] = (),
) -> list[Table]:
    """One table per dataset and protocol (or, with ``combine``, per dataset with its protocols side by side).

    Records whose test files differ never share a table, whatever name they carry.

    Args:
        intervals: add 95 % bootstrap intervals of the mean over images.
        all_published: show every published method, not only those registered.
        dataset, protocols: keep one dataset by the name shown, and these protocols.
        methods: keep these methods, measured and published, in this order instead of that of their scores.
        columns: keep these quantities, in this order.
        source: keep published rows whose source begins so.
        varied: options that are named in every row; rows keep the order of their records.
    """
    by_dataset: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        wanted = methods is None or record.method["name"] in methods
        if wanted and dataset in (None, record.dataset["name"]) and record.spec["track"] in TRACKS:
            by_dataset[record.spec["track"], record.dataset["name"]].append(record)
    assembled = []
    for (track_name, _), members in sorted(by_dataset.items()):
        track = TRACKS.get(track_name).obj
        served = [
            p
            for p in track.protocols
            if any(p.name in r.protocols for r in members) and (protocols is None or p.name in protocols)
        ]
        for chosen in [served] if combine else [[p] for p in served]:
            editions = editions_of(members, chosen, track)
            for edition in editions:
                shown = edition.columns()
                if columns is not None:
                    shown = sorted(
                        (c for c in shown if c.name in columns), key=lambda c: columns.index(c.name)
                    )
                rows = measured_rows(edition, shown, intervals, methods, varied)
                rows += published_rows(edition, shown, all_published, methods, source)
                assembled.append(_table(edition, shown, rows, [e for e in editions if e is not edition]))
    return assembled


def _table(edition: Edition, columns: list[Column], rows: list[Row], others: list[Edition]) -> Table:
    """Named after its dataset and protocols; where others of that name have other files after its files too, and it
    says so."""
    name = f"{edition.name}-{spec_hash(edition.test_files)[:8]}" if others else edition.name
    notes = []
    for other in others:
        why = apart(edition.records[0].dataset, [other.records[0].dataset])
        notes.append(
            f"{len(other.records)} record(s) of {edition.name} do not compare with these and have a table of their "
            f"own: other {f'files of {why}' if why else 'code, or another sensor'}."
        )
    return Table(
        name=f"{name}-{'-'.join(p.name for p in edition.protocols)}",
        title=f"{name}: {' and '.join(p.title.lower() for p in edition.protocols)}{edition.caution}",
        columns=columns,
        rows=rows,
        notes=[*notes, *edition.notes(rows)],
        starts_from=edition.track.source,
    )
