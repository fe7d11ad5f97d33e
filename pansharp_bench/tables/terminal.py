"""The short table that a run ends with, as plain text."""

from __future__ import annotations

from tabulate import tabulate

from pansharp_bench.record import Record
from pansharp_bench.registry import TRACKS
from pansharp_bench.tables.editions import columns_of
from pansharp_bench.tables.formatting import format_value, heading


def run_table(record: Record) -> str:
    """The short table a run ends with: mean and standard deviation over images."""
    channels = record.dataset["channels"]
    rows = []
    for protocol in TRACKS.get(record.spec["track"]).obj.protocols:
        scored = record.protocols.get(protocol.name, {})
        for column in columns_of(protocol, channels) if scored else ():
            if column.name not in scored["scores"]:
                continue
            mean, std = scored["mean"][column.name], scored["std"][column.name]
            missing = scored["missing"].get(column.name, [])
            note = f"missing for image(s) {', '.join(map(str, missing))}" if missing else ""
            rows.append(
                [
                    protocol.title,
                    heading(column),
                    format_value(mean, column.digits),
                    format_value(std, column.digits),
                    note,
                ]
            )
    headers = ["protocol", "index", "mean", "std", ""]
    return tabulate(
        rows, headers, tablefmt="simple", disable_numparse=True, colalign=("left", "left", "right", "right")
    )
