"""From records to tables: which records share one, and in what order its rows stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from pansharp_bench.record import Record, apart, spec_hash
from pansharp_bench.registry import TRACKS
from pansharp_bench.tables.editions import Edition, editions_of
from pansharp_bench.tables.measured import measured_rows
from pansharp_bench.tables.model import Choice, Column, Row, Spread, Table, own_rows
from pansharp_bench.tables.published import published_rows
from pansharp_bench.tables.remarks import Remark
from pansharp_bench.timings import Speeds, best_known


def tables(
    records: Iterable[Record],
    *,
    combine: bool = False,
    spread: Spread = "",
    choice: Choice | None = None,
    all_published: bool = False,
    datasets: Sequence[str] | None = None,
    protocols: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    source: str = "",
    varied: Sequence[str] = (),
    remarks: Sequence[Remark] = (),
    speeds: Sequence[Speeds] = (),
) -> list[Table]:
    """One table per dataset and protocol (or, with ``combine``, per dataset with its protocols side by side).

    Records whose test files differ never share a table, whatever name they carry.

    Args:
        spread: what stands behind every mean: ``std`` over images, ``seeds``, or ``ci``, the 95 % bootstrap
            interval of the mean over images, which fewer than 6 images do not have.
        choice: the rows that are shown; all, if it is not given.
        all_published: show every published method, not only those registered.
        datasets, protocols: keep these datasets, by the name shown, and these protocols.
        methods: keep these methods, measured and published, in this order instead of that of their scores.
        columns: keep these quantities, by name or label, in this order; tables that have none are left out.
        source: keep published rows whose source begins so.
        varied: options that are named in every row; rows keep the order of their records.
        remarks: what is known of test files, said below the tables that rest on them.
        speeds: figures of machines, of which each table takes its milliseconds from one; from the runs where
            there are none.
    """
    choice = choice or Choice()
    by_dataset: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        wanted = methods is None or record.method["name"] in methods
        wanted &= datasets is None or record.dataset["name"] in datasets
        if wanted and record.spec["track"] in TRACKS:
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
            absent = [r for r in members if not any(p.name in r.protocols for p in chosen)]
            for edition in editions:
                every_column = edition.columns()
                shown = [c for c in every_column if c.usual]
                if columns is not None:
                    named = (c for name in columns for c in every_column if name in (c.name, c.label))
                    shown = list(dict.fromkeys(named))
                    if not shown:
                        continue
                timed = best_known(speeds, edition.records)
                every = measured_rows(edition, shown, spread == "ci", methods, varied, choice.sort, timed)
                every += published_rows(edition, shown, all_published, methods, source)
                rows = choice.chosen(every)
                others = [e for e in editions if e is not edition]
                notes = [*_left_out(absent, edition, every), *edition.remarks(remarks)]
                if not choice.all_runs and (hidden := len(every) - len(own_rows(every))):
                    notes.append(
                        f"{hidden} row(s) of other options, earlier presets or given weights are not shown: "
                        "`bench leaderboard --all-runs`."
                    )
                table = _table(edition, shown, rows, others, [*_SPREADS[spread], *notes])
                assembled.append(replace(table, spread=spread))
    return assembled


_SPREADS: dict[Spread, tuple[str, ...]] = {
    "": (),
    "std": ("±: standard deviation over images.",),
    "seeds": ("±: standard deviation of the mean over seeds; a row of one seed has none.",),
    "ci": (
        "[ ]: 95 % bootstrap interval of the mean over images, drawn in blocks where they overlap; fewer than 6 "
        "have none.",
    ),
}


def _left_out(absent: list[Record], edition: Edition, rows: list[Row]) -> list[str]:
    """Methods that other protocols of the dataset score and this table does not, with the reason where one is."""
    here = {r.label for r in rows if r.source == "measured"}
    sees = {r.method["title"] or r.method["name"]: r.method["sees"] for r in absent}
    names = sorted(sees.keys() - here)
    blind = [n for n in names if sees[n] == "reference" and not any(p.needs_gt for p in edition.protocols)]
    rest = [n for n in names if n not in blind]
    why = "they look at a reference, and this protocol has none"
    return [
        *([f"Not in this table: {', '.join(blind)} ({why})."] if blind else []),
        *([f"Not scored under this protocol: {', '.join(rest)}."] if rest else []),
    ]


def _table(
    edition: Edition, columns: list[Column], rows: list[Row], others: list[Edition], further: list[str]
) -> Table:
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
        notes=[*notes, *edition.notes(rows), *further],
        starts_from=edition.track.source,
        floors=edition.floors(columns),
    )
