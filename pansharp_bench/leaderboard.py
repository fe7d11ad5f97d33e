"""Tables derived from records, never typed: Markdown, CSV and LaTeX, one per dataset and protocol.

Rows are grouped as the field's papers do: with co-registration (the method sees PAN and registered MS) and
without, those that look at the scene's own MS pixels apart. In each group the best value is bold, the second
best underlined. Published numbers stand in blocks of their own. A mean over a missing (NaN) score is missing;
it is never a mean over the rest.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from tabulate import tabulate

from pansharp_bench import record as records
from pansharp_bench.protocols.evaluate import Protocol, Track
from pansharp_bench.record import Record
from pansharp_bench.registry import DATASETS, METHODS, TRACKS, MethodCard, Sees

MISSING = "–"
_SEES = {"pan+ms": "PAN + MS", "pan+bag": "PAN + MS pixels", "reference": "reference"}


@dataclass(frozen=True)
class Column:
    """One quantity of one protocol. ``label`` is what the table prints (Q4 or Q8 for Q2n), ``prefix`` what
    tells it from another protocol's in one table."""

    protocol: str
    name: str
    label: str
    better: str
    digits: int = 4
    prefix: str = ""


@dataclass(frozen=True)
class Cell:
    """Mean over images (over runs first, where there are several seeds); NaN where a score is missing."""

    mean: float
    std: float = math.nan
    images: int = 0
    interval: tuple[float, float] | None = None
    runs: int = 1
    between_runs: float = math.nan


@dataclass(frozen=True)
class Row:
    group: str
    label: str
    sees: str
    training: str
    variant: str
    cells: dict[Column, Cell]
    source: str = "measured"
    ranked: bool = True
    cost: tuple[float | None, int | None] = (None, None)  # ms per megapixel, parameters


@dataclass(frozen=True)
class Table:
    """What the renderers draw."""

    name: str
    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    starts_from: str = "PAN"  # what a method sees that sees no more than the source

    def marks(self) -> dict[tuple[int, Column], str]:
        """``best`` and ``second`` of every column among the measured rows of each ranked group."""
        found = {}
        ranked = [i for i, r in enumerate(self.rows) if r.ranked and r.source == "measured"]
        for group in dict.fromkeys(self.rows[i].group for i in ranked):
            members = [i for i in ranked if self.rows[i].group == group]
            for column in self.columns:
                scored = [
                    (self.rows[i].cells[column].mean, i)
                    for i in members
                    if column in self.rows[i].cells and math.isfinite(self.rows[i].cells[column].mean)
                ]
                ranks = sorted({v for v, _ in scored}, reverse=column.better == "high")[:2]
                for value, i in scored:
                    if len(scored) > 1 and value in ranks:
                        found[i, column] = ("best", "second")[ranks.index(value)]
        return found


def columns_of(protocol: Protocol, channels: int, found: Iterable[Record] = ()) -> list[Column]:
    """The columns of a protocol, in the order of its metrics' cards; then those that only records know of,
    because the metric that made them is not registered here."""
    better = {c: b for e in protocol.entries() for c, b in e.card.directions.items()}
    digits = {c: e.card.digits for e in protocol.entries() for c in e.card.columns}
    for record in found:
        scored = record.protocols.get(protocol.name, {})
        for name in scored.get("scores", {}):
            better.setdefault(name, scored.get("better", {}).get(name, "high"))
    labels = {"Q2n": f"Q{1 << (channels - 1).bit_length()}"}
    return [
        Column(protocol.name, name, labels.get(name, name), b, digits.get(name, 4), protocol.short)
        for name, b in better.items()
    ]


def tables(
    found: Iterable[Record],
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
    for record in found:
        wanted = methods is None or record.method["name"] in methods
        if wanted and dataset in (None, record.dataset["name"]) and record.spec["track"] in TRACKS:
            by_dataset[record.spec["track"], record.dataset["name"]].append(record)
    made = []
    for (track_name, name), members in sorted(by_dataset.items()):
        track = TRACKS.get(track_name).obj
        served = [
            p
            for p in track.protocols
            if any(p.name in r.protocols for r in members) and (protocols is None or p.name in protocols)
        ]
        for chosen in [served] if combine else [[p] for p in served]:
            editions = _editions(members, chosen)
            for files, edition in editions:
                suffix = f"-{records.spec_hash(files)[:8]}" if len(editions) > 1 else ""
                about = _About(edition, chosen, track)
                shown = [c for p in chosen for c in columns_of(p, about.channels, edition)]
                present = {(p, c) for r in edition for p in r.protocols for c in r.protocols[p]["scores"]}
                shown = [c for c in shown if (c.protocol, c.name) in present]
                if columns is not None:
                    kept = [c for c in shown if c.name in columns]
                    shown = sorted(kept, key=lambda c: list(columns).index(c.name))
                rows = _measured(edition, shown, track, intervals, methods, varied)
                rows += _published(about, shown, all_published, methods, source)
                titles = " and ".join(p.title.lower() for p in chosen)
                made.append(
                    Table(
                        name=f"{name}{suffix}-{'-'.join(p.name for p in chosen)}",
                        title=f"{name}{suffix}: {titles}{about.caution}",
                        columns=shown,
                        rows=rows,
                        notes=about.notes(rows),
                        starts_from=track.source,
                    )
                )
    return made


def _editions(members: list[Record], chosen: Sequence[Protocol]) -> list[tuple[dict[str, str], list[Record]]]:
    """Records grouped so that no two in a group were scored on different files of one split."""
    splits = {p.split for p in chosen}
    editions: list[tuple[dict[str, str], list[Record]]] = []
    for record in sorted(members, key=lambda r: -len(r.dataset["test_fingerprint"])):
        if not any(p.name in record.protocols for p in chosen):
            continue
        files = {s: h for s, h in record.dataset["test_fingerprint"].items() if s in splits}
        for known, edition in editions:
            if all(known.get(s, h) == h for s, h in files.items()):
                known.update(files)
                edition.append(record)
                break
        else:
            editions.append((files, [record]))
    order = {id(r): i for i, r in enumerate(members)}
    return [(files, sorted(edition, key=lambda r: order[id(r)])) for files, edition in editions]


class _About:
    """What the records of one table have in common: their sensor and their test files."""

    def __init__(self, edition: list[Record], chosen: Sequence[Protocol], track: Track) -> None:
        self.edition, self.chosen, self.track = edition, chosen, track
        first = edition[0].dataset
        self.name, self.channels = first["name"], first["channels"]
        self.simulated = first.get("simulated", bool(first["provenance"]))
        cards = [e.card for e in DATASETS.entries(sensor=first["sensor"]) if e.card.published]
        self.published = cards[0].published if cards else ""
        splits = {p.split for p in chosen}
        self.files = {f["split"]: f for r in edition for f in r.dataset["files"] if f["split"] in splits}
        plain = self.name == first["sensor"]
        self.own = plain and all(f["verified"] for f in self.files.values())
        self.caution = " (files not verified)" if plain and not self.own else ""

    def notes(self, rows: list[Row]) -> list[str]:
        notes = []
        state = {True: "a known original", False: "not the known original", None: "no known checksum"}
        for protocol in self.chosen:
            counts = [
                r.protocols[protocol.name]["images"] for r in self.edition if protocol.name in r.protocols
            ]
            if counts and (file := self.files.get(protocol.split)):
                what = "simulated" if self.simulated else state[file["verified"]]
                notes.append(
                    f"{protocol.title}: {max(counts)} image(s) of {file['path']}, "
                    f"SHA-256 {file['sha256'][:16]}… ({what})."
                )
        if self.simulated:
            notes.append("Simulated sensor: not comparable with results on real imagery.")
        elif self.published and not self.own:
            collection = self.track.collection
            notes.append(
                f"Not the public {collection} files: no row of {self.name} is a {collection} result."
            )
        devices = Counter(r.environment.get("device_name") or "an unknown device" for r in self.edition)
        where = "; ".join(f"{device} ({n} runs)" for device, n in devices.most_common())
        notes.append(f"ms/MP: milliseconds for a megapixel, image by image, measured on {where}.")
        for source in dict.fromkeys(r.variant for r in rows if r.source == "published"):
            notes.append(f"Published: {source}.")
        if any(math.isnan(c.mean) for r in rows for c in r.cells.values()):
            notes.append(
                f"{MISSING}: the score is missing (NaN) for at least one image; the record says which."
            )
        return notes


def _measured(
    edition: list[Record],
    columns: list[Column],
    track: Track,
    intervals: bool,
    methods: Sequence[str] | None,
    varied: Sequence[str],
) -> list[Row]:
    """A row per specification; runs that differ in the seed alone are one row."""
    runs: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in edition:
        spec = {k: v for k, v in record.spec.items() if k not in ("seed", "data")}
        trained_on = {
            f["split"]: f["sha256"] for f in record.dataset["files"] if f["split"] in ("train", "valid")
        }
        runs[records.canonical([spec, trained_on])][record.spec_sha256] = record
    rows, place = [], {}
    for members in (list(m.values()) for m in runs.values()):
        first = members[0]
        card = first.method
        cells = {
            column: _cell([r.scores(column.protocol, column.name) for r in members], intervals)
            for column in columns
            if any(r.scores(column.protocol, column.name) for r in members)
        }
        peeked = first.training.get("data", {}).get("target") == "gt"  # learnt from sharp references
        sees: Sees = "reference" if peeked else card["sees"]
        row = Row(
            track.groups[sees],
            card["title"] or card["name"],
            card["sees"],
            card["training"],
            _variant(first, len(members), varied),
            cells,
            ranked=sees != "reference" and card["kind"] != "untouched",
            cost=(_speed(first), first.weights.get("parameters")),
        )
        place[id(row)] = (methods or []).index(card["name"]) if methods else 0
        rows.append(row)
    lead = columns[0] if columns else None
    groups = list(track.groups.values())

    def order(row: Row) -> tuple:
        if methods or varied:
            return (groups.index(row.group), place[id(row)])
        value = row.cells[lead].mean if lead in row.cells else math.nan
        signed = -value if lead and lead.better == "high" else value
        return (groups.index(row.group), math.isnan(value), 0 if math.isnan(value) else signed, row.label)

    return sorted(rows, key=order)


def _variant(record: Record, seeds: int, varied: Sequence[str]) -> str:
    """Preset, the options that differ from it (and the varied ones), foreign weights, number of seeds."""
    spec, parts = record.spec, []
    if spec["preset"] != "untrained":
        named = [*varied, *(k for k in spec["changed"] if k not in varied)]
        parts = [spec["preset"], *(f"{k}={spec['options'][k]}" for k in named if k in spec["options"])]
    if spec["weights"]:
        where = "its own training" if record.weights.get("trained_here") else "elsewhere"
        parts.append(f"weights from {where} ({spec['weights']['file_sha256'][:8]})")
    if seeds > 1:
        parts.append(f"{seeds} seeds")
    return ", ".join(parts)


def _speed(record: Record) -> float | None:
    timed = record.inference.get("reduced") or next(iter(record.inference.values()), None)
    return timed and timed.get("milliseconds_per_megapixel")


def _cell(runs: list[list[float]], intervals: bool) -> Cell:
    runs = [r for r in runs if r]
    means = [sum(r) / len(r) for r in runs]
    pooled = np.mean(runs, axis=0) if len({len(r) for r in runs}) == 1 else np.concatenate(runs)
    std = float(np.std(pooled, ddof=1)) if len(pooled) > 1 and np.isfinite(pooled).all() else math.nan
    between = float(np.std(means, ddof=1)) if len(means) > 1 and np.isfinite(means).all() else math.nan
    interval = bootstrap_interval(pooled) if intervals else None
    return Cell(float(np.mean(means)), std, len(pooled), interval, len(runs), between)


def bootstrap_interval(
    scores: Sequence[float] | np.ndarray, level: float = 0.95, draws: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over images; seeded. NaN where a score is missing."""
    values = np.asarray(scores, dtype=float)
    if len(values) < 2 or not np.isfinite(values).all():
        return (math.nan, math.nan)
    index = np.random.default_rng(0).integers(len(values), size=(draws, len(values)))
    low, high = np.quantile(values[index].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@cache
def published_rows() -> tuple[dict[str, str], ...]:
    """published.csv: method, year, dataset, protocol (RR, FR), metric, value, source."""
    text = resources.files("pansharp_bench").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(io.StringIO(text)))


def _published(
    about: _About, columns: list[Column], everything: bool, methods: Sequence[str] | None, source: str
) -> list[Row]:
    """Rows of published.csv on this sensor's public set.

    A row is the first source in the file that names the method; values marked there as wrong are left out.
    """
    if not about.published:
        return []
    protocol_names = {p.name: p.published for p in about.chosen if p.published}
    wanted = {(protocol_names.get(c.protocol), c.name): c for c in columns}
    names = {"Q4": "Q2n", "Q8": "Q2n"}
    cards = _cards_by_published_name()
    gathered: dict[str, dict[Column, Cell]] = defaultdict(dict)
    sources: dict[str, str] = {}
    for line in published_rows():
        card = cards.get(_key(line["method"].partition(", ")[0]))  # "SP-I2I, L=6": a variant
        origin = line["source"].partition(" (column")[0]
        column = wanted.get((line["protocol"], names.get(line["metric"], line["metric"])))
        if line["dataset"] != about.published or column is None or "do not use" in origin:
            continue
        if not origin.startswith(source) or not (card or everything):
            continue
        if methods is not None and (card is None or card.name not in methods):
            continue
        if sources.setdefault(line["method"], origin) == origin:
            gathered[line["method"]].setdefault(column, Cell(float(line["value"])))
    title = f"Published on {' '.join(dict.fromkeys((about.track.collection, about.published)))}"
    title += "" if about.own else " (other images: for orientation only)"
    rows, place = [], {}
    for method, cells in gathered.items():
        card = cards.get(_key(method.partition(", ")[0]))
        side = about.track.groups.get(card.sees, "") if card else ""
        side = side and f", {side[0].lower()}{side[1:]}"
        seen = (card.sees, card.training) if card else ("", "")
        row = Row(title + side, method, *seen, sources[method], cells, source="published")
        listed = methods.index(card.name) if methods is not None and card is not None else 0
        place[id(row)] = (side == "", "without" in side, listed)
        rows.append(row)
    return sorted(rows, key=lambda r: place[id(r)])


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _cards_by_published_name() -> dict[str, MethodCard]:
    return {_key(x): e.card for e in METHODS for x in (e.name, e.card.label, e.card.published) if x}


# --- renderers ------------------------------------------------------------------------------------------------


def format_value(value: float, digits: int) -> str:
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{digits}f}"


def _cell_text(cell: Cell | None, column: Column) -> str:
    if cell is None:
        return ""
    text = format_value(cell.mean, column.digits)
    if cell.interval and not math.isnan(cell.interval[0]):
        low, high = (format_value(x, column.digits) for x in cell.interval)
        text += f" [{low}, {high}]"
    return text


def _heading(column: Column) -> str:
    return f"{column.label} {'↑' if column.better == 'high' else '↓'}"


def _prefix(table: Table, column: Column) -> str:
    """What tells columns of several protocols in one table apart."""
    several = len({c.protocol for c in table.columns}) > 1
    return f"{column.prefix} " if several and column.prefix else ""


def to_markdown(table: Table) -> str:
    """GitHub Markdown; groups as bold lines of their own."""
    marks = table.marks()
    headers = [
        "Method",
        "Sees",
        "Training",
        "Variant",
        *(_prefix(table, c) + _heading(c) for c in table.columns),
        "ms/MP",
        "Params",
    ]
    body, group = [], None
    for i, row in enumerate(table.rows):
        if row.group != group:
            group = row.group
            body.append([f"**{group}**", *[""] * (len(headers) - 1)])
        values = []
        for column in table.columns:
            text = _cell_text(row.cells.get(column), column)
            mark = marks.get((i, column))
            values.append(f"**{text}**" if mark == "best" else f"<u>{text}</u>" if mark == "second" else text)
        label = f"*{row.label}*" if row.source == "published" else row.label
        variant = "published" if row.source == "published" else row.variant
        body.append(
            [
                label,
                _SEES.get(row.sees, table.starts_from if row.sees else ""),
                row.training,
                variant,
                *values,
                *_cost(row),
            ]
        )
    body = [[cell.replace("|", "\\|") for cell in line] for line in body]
    text = tabulate(body, headers, tablefmt="github", disable_numparse=True)
    notes = "".join(f"- {n}\n" for n in table.notes)
    return f"## {table.title}\n\n{text}\n\n**best**, <u>second best</u> of each group.\n\n{notes}"


def _cost(row: Row) -> tuple[str, str]:
    speed, parameters = row.cost
    return (
        "" if speed is None else f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}",
        "" if not parameters else f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters:,}",
    )


def to_csv(table: Table) -> str:
    """One line per row and column, full precision: made to be read by programs."""
    lines = [
        {
            "table": table.name,
            "source": row.source,
            "group": row.group,
            "method": row.label,
            "sees": row.sees,
            "training": row.training,
            "variant": row.variant,
            "protocol": column.protocol,
            "metric": column.label,
            "better": column.better,
            "mean": _number(cell.mean),
            "std_over_images": _number(cell.std),
            "images": cell.images or "",
            "runs": cell.runs if row.source == "measured" else "",
            "std_over_runs": _number(cell.between_runs),
            "ci95_low": _number(cell.interval[0]) if cell.interval else "",
            "ci95_high": _number(cell.interval[1]) if cell.interval else "",
        }
        for row in table.rows
        for column, cell in row.cells.items()
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _number(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


_LATEX = r"""% {{ table.title }} (needs booktabs)
\begin{tabular}{l{{ "c" * table.columns | length }}}
\toprule
{{ heading }} \\
{% for group, lines in groups -%}
\midrule
\multicolumn{ {{- table.columns | length + 1 -}} }{l}{\textit{ {{- group | tex -}} }} \\
{% for line in lines -%}
{{ line }} \\
{% endfor -%}
{% endfor -%}
\bottomrule
\end{tabular}
{% for note in table.notes -%}
% {{ note }}
{% endfor -%}
"""
_MARKED = {"best": r"\textbf{%s}", "second": r"\underline{%s}", None: "%s"}


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{",
        "}": r"\}", "^": r"\^{}", "~": r"\~{}", "∞": r"$\infty$", "–": "--", "λ": r"$\lambda$", "×": r"$\times$",
    }
)  # fmt: skip


def _tex(text: str) -> str:
    return text.translate(_TEX)


def to_latex(table: Table) -> str:
    """A tabular for a paper, in the layout of the SP-I2I paper's Tables 2 and 4."""
    from jinja2 import Environment

    marks = table.marks()
    groups: dict[str, list[str]] = defaultdict(list)
    for i, row in enumerate(table.rows):
        label = f"{row.label} ({row.variant})" if row.variant and row.source == "measured" else row.label
        cells = [_MARKED[marks.get((i, c))] % _tex(_cell_text(row.cells.get(c), c)) for c in table.columns]
        groups[row.group].append(" & ".join([_tex(label), *cells]))
    arrows = {"high": r"$\uparrow$", "low": r"$\downarrow$"}
    names = [_tex(_prefix(table, c) + c.label) for c in table.columns]
    heading = " & ".join(
        ["Method", *(f"{n} {arrows[c.better]}" for n, c in zip(names, table.columns, strict=True))]
    )
    environment = Environment(autoescape=False, keep_trailing_newline=True)
    environment.filters["tex"] = _tex
    return environment.from_string(_LATEX).render(table=table, heading=heading, groups=groups.items())


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
                    _heading(column),
                    format_value(mean, column.digits),
                    format_value(std, column.digits),
                    note,
                ]
            )
    headers = ["protocol", "index", "mean", "std", ""]
    return tabulate(
        rows, headers, tablefmt="simple", disable_numparse=True, colalign=("left", "left", "right", "right")
    )


RENDERERS = {"md": to_markdown, "csv": to_csv, "tex": to_latex}


def write_tables(
    made: list[Table], folder: Path, formats: Sequence[str] = ("md", "csv", "tex"), index: bool = True
) -> list[Path]:
    """Write every table in every format, and (with ``index``) a ``README.md`` of all the Markdown ones."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{t.name}.{kind}": RENDERERS[kind](t) for t in made for kind in formats}
    if index and "md" in formats:
        head = "# Leaderboards\n\nGenerated from the records by `bench leaderboard`; do not edit.\n\n"
        texts["README.md"] = head + "\n".join(to_markdown(t) for t in made)
    for name, text in texts.items():  # whole or not at all: a table half written would pass for a table
        temporary = folder / f".{name}.{os.getpid()}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / name)
    return [folder / name for name in texts]
