"""What the records of one table have in common: their test files and sensor, the columns and the notes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pansharp_bench.protocol import Protocol, Track
from pansharp_bench.record import Record, canonical, spec_hash
from pansharp_bench.registry import DATASETS, METRICS
from pansharp_bench.tables.formatting import MISSING, format_value
from pansharp_bench.tables.model import Column, Row
from pansharp_bench.tables.remarks import Remark


def columns_of(protocol: Protocol, channels: int, records: Iterable[Record] = ()) -> list[Column]:
    """The columns of a protocol, in the order of its metrics' cards; then those that only records know of,
    because they were asked for or the metric that made them is not registered here."""
    better = {c: b for e in protocol.entries() for c, b in e.card.directions.items()}
    cards = {c: e.card for e in METRICS.entries(protocol=protocol.metrics) for c in e.card.columns}
    for record in records:
        scored = record.protocols.get(protocol.name, {})
        for name in scored.get("scores", {}):
            better.setdefault(name, scored.get("better", {}).get(name, "high"))
    labels = {"Q2n": f"Q{1 << (channels - 1).bit_length()}"}

    def column(name: str, good: str) -> Column:
        base, bracket, settings = name.partition(" [")
        card = cards.get(base)
        label, digits = labels.get(base, base) + bracket + settings, card.digits if card else 4
        usual = not bracket and (card is None or card.default)
        return Column(protocol.name, name, label, good, digits, protocol.short, usual)

    return [column(name, good) for name, good in better.items()]


class Edition:
    """Records of one dataset, scored under these protocols on the same files, as of the same sensor."""

    def __init__(
        self, records: list[Record], files: dict[str, str], protocols: Sequence[Protocol], track: Track
    ) -> None:
        self.records, self.test_files, self.protocols, self.track = records, files, protocols, track
        first = records[0].dataset
        self.name, self.channels = first["name"], first["channels"]
        self.simulated = first.get("simulated", bool(first["provenance"]))
        self.published = _published(records[0])
        splits = {p.split for p in protocols}
        self.files = {f["split"]: f for r in records for f in r.dataset["files"] if f["split"] in splits}
        plain = self.name == first["sensor"]
        self.own = plain and all(f["verified"] for f in self.files.values())
        self.caution = " (files not verified)" if plain and not self.own else ""

    def columns(self) -> list[Column]:
        """What at least one of the records was scored by."""
        present = {(p, c) for r in self.records for p in r.protocols for c in r.protocols[p]["scores"]}
        columns = [c for p in self.protocols for c in columns_of(p, self.channels, self.records)]
        return [c for c in columns if (c.protocol, c.name) in present]

    def notes(self, rows: list[Row]) -> list[str]:
        """What must be said below the table: files, comparability, devices, sources, missing scores."""
        notes = []
        state = {True: "a known original", False: "not the known original", None: "no known checksum"}
        for protocol in self.protocols:
            counts = [
                r.protocols[protocol.name]["images"] for r in self.records if protocol.name in r.protocols
            ]
            if counts and (file := self.files.get(protocol.split)):
                what = "simulated" if self.simulated else state[file["verified"]]
                notes.append(
                    f"{protocol.title}: {max(counts)} image(s) of {file['path']}, "
                    f"SHA-256 {file['sha256'][:16]}… ({what})."
                )
            if counts and max(counts) == 1:
                notes.append(f"{protocol.title}: these are ranks of one image; another may rank otherwise.")
        if self.simulated:
            notes.append("Simulated sensor: not comparable with results on real imagery.")
        elif self.published and not self.own:
            collection = self.track.collection
            notes.append(
                f"Not the public {collection} files: no row of {self.name} is a {collection} result."
            )
        notes += self._told_floors(rows)
        notes += self._timed(rows)
        for source in dict.fromkeys(r.variant for r in rows if r.source == "published"):
            notes.append(f"Published: {source}.")
        faults = (f for r in self.records for f in r.dataset.get("accepted_faults", ()))
        notes += [f"Fault of the files that was accepted: {fault}." for fault in dict.fromkeys(faults)]
        for metric in self._metrics_that_changed():
            notes.append(
                f"Metric {metric} changed between these runs: its values of different runs do not compare."
            )
        if any(math.isnan(c.mean) for r in rows for c in r.cells.values()):
            notes.append(
                f"{MISSING}: the score is missing (NaN) for at least one image; the record says which."
            )
        return notes

    @staticmethod
    def _timed(rows: list[Row]) -> list[str]:
        """What the milliseconds are of."""
        machines = sorted({r.timed_on for r in rows if r.timed_on})
        if not machines:
            return []
        return [
            "ms/MP: milliseconds for a megapixel, image by image, measured by `bench speed` with nothing beside "
            f"it, on {', '.join(machines)}."
        ]

    def floors(self, columns: Iterable[Column]) -> dict[Column, float]:
        """What the target itself would score in the source's mix of groups, of the columns that have that."""
        found: dict[str, dict[str, float]] = {}
        for protocol in self.protocols:
            scored = (r.protocols.get(protocol.name, {}).get("floors", {}) for r in self.records)
            found[protocol.name] = next((f for f in scored if f), {})
        return {c: found[c.protocol][c.name] for c in columns if c.name in found.get(c.protocol, {})}

    def _told_floors(self, rows: list[Row]) -> list[str]:
        floors = self.floors(dict.fromkeys(c for r in rows for c in r.cells))
        told = ", ".join(f"{c.label} {format_value(v, c.digits)}" for c, v in floors.items())
        text = (
            f"Floor: {told} is what the target's own images score once their zones are mixed as the source's are. "
            "What is nearer to the target has a wrong mix: it is no better, and counts as equal to the floor."
        )
        return [text] if told else []

    def remarks(self, known: Sequence[Remark]) -> list[str]:
        """Those on its dataset, protocols and test files."""
        files = {p.name: self.test_files.get(p.split) for p in self.protocols}
        return [r.text for r in known if r.dataset == self.name and files.get(r.protocol, "") == r.file]

    def _metrics_that_changed(self) -> list[str]:
        """Plug-in metrics whose code is not the same in all the records that have them."""
        codes: dict[str, set[str]] = {}
        for record in self.records:
            for part, source in record.spec.get("source", {}).items():
                codes.setdefault(part, set()).add(canonical(source))
        return sorted(
            p.removeprefix("metric ") for p, c in codes.items() if p.startswith("metric ") and len(c) > 1
        )


def _published(record: Record) -> str:
    """What published.csv calls the dataset that a record is of, labelled or not; empty for one that it does not
    know, as any from outside whose name happens to begin like one of ours."""
    name, foreign = record.dataset["name"], "dataset" in record.spec.get("source", {})
    ours = __name__.partition(".")[0]
    known = [
        e
        for e in DATASETS
        if f"{name}-".startswith(f"{e.name}-") and (e.origin.partition(".")[0] != ours) == foreign
    ]
    return max(known, key=lambda e: len(e.name)).card.published if known else ""


def _scored_by(record: Record) -> dict[str, str]:
    """What besides the files decides scores and is not the project's own."""
    source = record.spec.get("source", {})
    parts = {"sensor": record.spec.get("sensor"), **{k: source.get(k) for k in ("dataset", "track")}}
    return {k: spec_hash(v) for k, v in parts.items() if v}


def editions_of(records: list[Record], protocols: Sequence[Protocol], track: Track) -> list[Edition]:
    """Records grouped so that no two in a group were scored on different files of one split, as of another sensor,
    or as another plug-in reads them."""
    splits = {p.split for p in protocols}
    groups: list[tuple[dict[str, str], list[Record]]] = []
    for record in sorted(records, key=lambda r: -len(r.dataset["test_fingerprint"])):
        if not any(p.name in record.protocols for p in protocols):
            continue
        files = {s: h for s, h in record.dataset["test_fingerprint"].items() if s in splits}
        foreign = _scored_by(record)
        files |= foreign
        for known, members in groups:
            same = _scored_by(members[0]) == foreign
            if same and all(known.get(s, h) == h for s, h in files.items()):
                known.update(files)
                members.append(record)
                break
        else:
            groups.append((files, [record]))
    order = {id(r): i for i, r in enumerate(records)}
    return [
        Edition(sorted(members, key=lambda r: order[id(r)]), files, protocols, track)
        for files, members in groups
    ]
