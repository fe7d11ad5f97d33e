"""The short table that a run ends with, as plain text."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from pansharp_bench.record import Record
from pansharp_bench.registry import TRACKS
from pansharp_bench.tables.editions import columns_of
from pansharp_bench.tables.formatting import MISSING, format_value, heading


def run_table(record: Record, beside: Sequence[Record] = ()) -> str:
    """Mean and standard deviation over images, and the means of the records ``beside``, of the same scenes."""
    rows, notes = [], []
    for protocol in TRACKS.get(record.spec["track"]).obj.protocols:
        scored = record.protocols.get(protocol.name, {})
        for column in columns_of(protocol, record.dataset["channels"], [record]) if scored else ():
            if column.name not in scored["scores"]:
                continue
            means = [r.protocols.get(protocol.name, {}).get("mean", {}) for r in (record, *beside)]
            own, *others = (
                format_value(m[column.name], column.digits) if column.name in m else MISSING for m in means
            )
            std = format_value(scored["std"][column.name], column.digits)
            rows.append([protocol.title, heading(column), own, std, *others])
            missing = scored["missing"].get(column.name, [])
            floor = scored.get("floors", {}).get(column.name)
            said = [f"missing for image(s) {', '.join(map(str, missing))}"] if missing else []
            said += [f"floor {format_value(floor, column.digits)}"] if floor is not None else []
            notes.append("; ".join(said))
    titles = [r.method["title"] or r.method["name"] for r in (record, *beside)]
    headers = ["protocol", "index", titles[0] if beside else "mean", "std", *titles[1:]]
    alignment = ["left", "left"] + ["right"] * (len(headers) - 2)
    if any(notes):
        rows = [[*row, note] for row, note in zip(rows, notes, strict=True)]
        headers, alignment = [*headers, "note"], [*alignment, "left"]
    return tabulate(rows, headers, tablefmt="simple", disable_numparse=True, colalign=alignment)
