"""Tables derived from records, never typed: Markdown, CSV and LaTeX, one per dataset and protocol.

Rows are grouped as the field's papers do: with co-registration (the method sees PAN and registered MS) and
without. Within each side the best value is bold, the second best underlined. Published numbers stand in a
block of their own. A mean over a missing (NaN) score is missing; it is never a mean over the rest.
"""

from __future__ import annotations

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
from tabulate import tabulate

from pansharp_bench import record as records
from pansharp_bench.record import Record
from pansharp_bench.registry import DATASETS, METHODS, METRICS, TRACKS, MethodCard

MISSING = "–"
REGISTERED, UNREGISTERED, BOUNDS = (
    "With co-registration",
    "Without co-registration",
    "Bounds that look at the reference (not ranked)",
)
GROUPS = (REGISTERED, UNREGISTERED, BOUNDS)
_SIDE = {"pan+ms": REGISTERED, "pan+bag": UNREGISTERED, "pan": UNREGISTERED, "reference": BOUNDS}
_SEES = {"pan+ms": "PAN + MS", "pan+bag": "PAN + MS pixels", "pan": "PAN", "reference": "reference"}
_DIGITS = {"SAM": 3, "PSNR": 3, "ERGAS": 3}


@dataclass(frozen=True)
class Column:
    """One quantity of one protocol. ``label`` is what the table prints (Q4 or Q8 for Q2n)."""

    protocol: str
    name: str
    label: str
    better: str


@dataclass(frozen=True)
class Cell:
    """Mean over images (over runs first, where there are several seeds); NaN where a score is missing."""

    mean: float
    std: float = math.nan
    images: int = 0
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    group: str
    label: str
    sees: str
    training: str
    variant: str
    cells: dict[Column, Cell]
    source: str = "measured"
    cost: tuple[float | None, int | None] = (None, None)  # ms per megapixel, parameters


@dataclass(frozen=True)
class Table:
    """What the renderers draw."""

    name: str
    title: str
    columns: list[Column]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    def marks(self) -> dict[tuple[int, Column], str]:
        """``best`` and ``second`` of every column among the measured rows of each side."""
        found = {}
        for group in (REGISTERED, UNREGISTERED):
            members = [i for i, r in enumerate(self.rows) if r.group == group and r.source == "measured"]
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


def columns_of(protocol: str, metrics: str, channels: int) -> list[Column]:
    """The columns of a protocol, in the order of its metrics' cards."""
    entries = sorted(METRICS.entries(protocol=metrics, default=True), key=lambda e: (e.card.order, e.name))
    columns = []
    for entry in entries:
        better = entry.card.better
        for i, name in enumerate(entry.card.columns):
            label = f"Q{1 << (channels - 1).bit_length()}" if name == "Q2n" else name
            columns.append(Column(protocol, name, label, better[min(i, len(better) - 1)]))
    return columns


def tables(
    found: Iterable[Record],
    *,
    combine: bool = False,
    intervals: bool = False,
    all_published: bool = False,
    pattern: str | None = None,
    protocols: Sequence[str] | None = None,
) -> list[Table]:
    """One table per dataset and protocol (or, with ``combine``, per dataset with its protocols side by side).

    Records whose test files differ never share a table, whatever name they carry. ``intervals`` adds 95 %
    bootstrap intervals of the mean over images; ``all_published`` shows every published method, not only those
    registered; ``pattern`` keeps one dataset, ``protocols`` these protocols.
    """
    by_dataset: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in found:
        if pattern is None or record.dataset["name"] == pattern:
            by_dataset[record.spec["track"], record.dataset["name"]].append(record)
    made = []
    for (track, dataset), members in sorted(by_dataset.items()):
        served = [
            p
            for p in TRACKS.get(track).obj
            if any(p.name in r.protocols for r in members) and (protocols is None or p.name in protocols)
        ]
        for chosen in [served] if combine else [[p] for p in served]:
            splits = {p.split for p in chosen}
            editions: dict[str, list[Record]] = defaultdict(list)
            for record in members:
                if any(p.name in record.protocols for p in chosen):
                    editions[_content(record, splits)].append(record)
            for content, edition in sorted(editions.items()):
                suffix = f"-{content[:8]}" if len(editions) > 1 else ""
                made.append(_table(track, dataset + suffix, edition, chosen, intervals, all_published))
    return made


def _content(record: Record, splits: set[str]) -> str:
    """What the scores depend on: the SHA-256 of the test files."""
    return records.spec_hash({s: record.dataset["test_fingerprint"].get(s, "") for s in sorted(splits)})


def _table(
    track: str, dataset: str, edition: list[Record], protocols: Sequence, intervals: bool, all_published: bool
) -> Table:
    first = edition[0]
    channels = first.dataset["channels"]
    columns = [c for p in protocols for c in columns_of(p.name, p.metrics, channels)]
    present = {(p, c) for r in edition for p in r.protocols for c in r.protocols[p]["scores"]}
    columns = [c for c in columns if (c.protocol, c.name) in present]
    rows = _measured(edition, columns, intervals)
    published_name = _published_name(first)
    own = first.dataset["name"] == first.dataset["sensor"]
    rows += _published(published_name, columns, rows, own, all_published)
    titles = " and ".join(p.title.lower() for p in protocols)
    name = f"{dataset}-{'-'.join(p.name for p in protocols)}"
    return Table(
        name, f"{dataset}: {titles}", columns, rows, _notes(edition, protocols, published_name, own, rows)
    )


def _published_name(record: Record) -> str:
    """The name of this sensor's public set in published.csv."""
    sensor = record.dataset["sensor"]
    return next((e.card.published for e in DATASETS.entries(sensor=sensor) if e.card.published), "")


def _measured(edition: list[Record], columns: list[Column], intervals: bool) -> list[Row]:
    runs: dict[str, list[Record]] = defaultdict(list)
    for record in edition:
        runs[records.canonical({k: v for k, v in record.spec.items() if k not in ("seed", "data")})].append(
            record
        )
    rows = []
    for members in runs.values():
        first = members[0]
        card = first.method
        cells = {
            column: _cell([r.scores(column.protocol, column.name) for r in members], intervals)
            for column in columns
            if any(r.scores(column.protocol, column.name) for r in members)
        }
        variant = _variant(first) + (f", {len(members)} seeds" if len(members) > 1 else "")
        rows.append(
            Row(
                _SIDE[card["sees"]],
                card["title"] or card["name"],
                card["sees"],
                card["training"],
                variant,
                cells,
                cost=(_speed(first), first.weights.get("parameters")),
            )
        )
    lead = columns[0] if columns else None

    def order(row: Row) -> tuple:
        value = row.cells[lead].mean if lead in row.cells else math.nan
        worst = math.isnan(value)
        return (
            GROUPS.index(row.group),
            worst,
            -value if lead and lead.better == "high" else value,
            row.label,
        )

    return sorted(rows, key=order)


def _variant(record: Record) -> str:
    """Preset, and the options that differ from it."""
    spec = record.spec
    if spec["preset"] == "untrained":
        return ""
    changed = [f"{k}={spec['options'][k]}" for k in spec["changed"]]
    return ", ".join([spec["preset"], *changed, *(["weights from elsewhere"] if spec["weights"] else [])])


def _speed(record: Record) -> float | None:
    timed = record.inference.get("reduced") or next(iter(record.inference.values()), None)
    return timed and timed.get("milliseconds_per_megapixel")


def _cell(runs: list[list[float]], intervals: bool) -> Cell:
    runs = [r for r in runs if r]
    means = [sum(r) / len(r) for r in runs]
    pooled = np.mean(runs, axis=0) if len({len(r) for r in runs}) == 1 else np.concatenate(runs)
    std = float(np.std(pooled, ddof=1)) if len(pooled) > 1 and np.isfinite(pooled).all() else math.nan
    interval = bootstrap_interval(pooled) if intervals else None
    return Cell(float(np.mean(means)), std, len(pooled), interval)


def bootstrap_interval(
    scores: Sequence[float], level: float = 0.95, draws: int = 10_000
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


def _published(name: str, columns: list[Column], rows: list[Row], own: bool, everything: bool) -> list[Row]:
    """Rows of published.csv on this sensor's public set.

    A row is the first source in the file that names the method; values marked there as wrong are left out.
    """
    if not name:
        return []
    protocol_names = {"reduced": "RR", "full": "FR"}
    wanted = {(protocol_names.get(c.protocol), c.name): c for c in columns}
    names = {"Q4": "Q2n", "Q8": "Q2n"}
    cards = _cards_by_published_name()
    gathered: dict[str, dict[Column, Cell]] = defaultdict(dict)
    sources: dict[str, str] = {}
    for line in published_rows():
        method = line["method"]
        column = wanted.get((line["protocol"], names.get(line["metric"], line["metric"])))
        if line["dataset"] != name or column is None or "do not use" in line["source"]:
            continue
        if not everything and _key(method) not in cards:
            continue
        if (
            sources.setdefault(method, line["source"]).partition(" (column")[0]
            != line["source"].partition(" (column")[0]
        ):
            continue
        gathered[method].setdefault(column, Cell(float(line["value"])))
    title = f"Published on PanCollection {name}" + ("" if own else " (other images: for orientation only)")
    made = []
    for method, cells in gathered.items():
        card = cards.get(_key(method))
        seen = (card.sees, card.training) if card else ("", "")
        made.append(Row(title, method, *seen, sources[method], cells, source="published"))
    return sorted(made, key=lambda r: _SIDE.get(r.sees, "") == UNREGISTERED)


def _key(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def _cards_by_published_name() -> dict[str, MethodCard]:
    return {_key(x): e.card for e in METHODS for x in (e.name, e.card.label, e.card.published) if x}


def _notes(
    edition: list[Record], protocols: Sequence, published: str, own: bool, rows: list[Row]
) -> list[str]:
    first = edition[0]
    notes = []
    for protocol in protocols:
        images = max(r.protocols[protocol.name]["images"] for r in edition if protocol.name in r.protocols)
        file = next((f for f in first.dataset["files"] if f["split"] == protocol.split), None)
        if file:
            state = {True: "a known original", False: "not the known original", None: "no known checksum"}
            notes.append(
                f"{protocol.title}: {images} image(s) of {file['path']}, SHA-256 {file['sha256'][:16]}… "
                f"({'simulated' if first.dataset['provenance'] else state[file['verified']]})."
            )
    if first.dataset["provenance"]:
        notes.append("Simulated sensor: not comparable with results on real imagery.")
    elif not own:
        notes.append(
            f"{first.dataset['name']} is not the public PanCollection set; its rows are not PanCollection results."
        )
    if any(math.isnan(c.mean) for r in rows for c in r.cells.values()):
        notes.append(f"{MISSING}: the score is missing (NaN) for at least one image; the record says which.")
    return notes


# --- renderers ------------------------------------------------------------------------------------------------


def format_value(value: float, column: str) -> str:
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:.{_DIGITS.get(column, 4)}f}"


def _cell_text(cell: Cell | None, column: Column) -> str:
    if cell is None:
        return ""
    text = format_value(cell.mean, column.name)
    if cell.interval and not math.isnan(cell.interval[0]):
        low, high = (format_value(x, column.name) for x in cell.interval)
        text += f" [{low}, {high}]"
    return text


def _heading(column: Column) -> str:
    return f"{column.label} {'↑' if column.better == 'high' else '↓'}"


def _several_protocols(table: Table) -> bool:
    return len({c.protocol for c in table.columns}) > 1


def to_markdown(table: Table) -> str:
    """GitHub Markdown; groups as bold lines of their own."""
    marks = table.marks()
    prefix = {"full": "FR ", "reduced": "RR ", "truth": "truth "} if _several_protocols(table) else {}
    headers = [
        "Method",
        "Sees",
        "Training",
        "Variant",
        *(prefix.get(c.protocol, "") + _heading(c) for c in table.columns),
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
        body.append([label, _SEES.get(row.sees, ""), row.training, variant, *values, *_cost(row)])
    text = tabulate(body, headers, tablefmt="github", disable_numparse=True)
    notes = "".join(f"- {n}\n" for n in table.notes)
    return f"## {table.title}\n\n{text}\n\n**best**, <u>second best</u> on each side.\n\n{notes}"


def _cost(row: Row) -> tuple[str, str]:
    speed, parameters = row.cost
    return (
        "" if speed is None else f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}",
        "" if not parameters else f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters:,}",
    )


def to_csv(table: Table) -> str:
    """One line per row and column, full precision: made to be read by programs."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        [
            "table",
            "source",
            "group",
            "method",
            "sees",
            "training",
            "variant",
            "protocol",
            "metric",
            "better",
            "mean",
            "std",
            "images",
            "ci95_low",
            "ci95_high",
        ]
    )
    for row in table.rows:
        for column, cell in row.cells.items():
            low, high = cell.interval or ("", "")
            std = "" if math.isnan(cell.std) else repr(cell.std)
            mean = "" if math.isnan(cell.mean) else repr(cell.mean)
            writer.writerow(
                [
                    table.name,
                    row.source,
                    row.group,
                    row.label,
                    row.sees,
                    row.training,
                    row.variant,
                    column.protocol,
                    column.label,
                    column.better,
                    mean,
                    std,
                    cell.images or "",
                    low,
                    high,
                ]
            )
    return out.getvalue()


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


def _tex(text: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash "),
        ("&", r"\&"),
        ("%", r"\%"),
        ("_", r"\_"),
        ("#", r"\#"),
        ("∞", r"$\infty$"),
        ("–", "--"),
        ("λ", r"$\lambda$"),
    ):
        text = text.replace(plain, escaped)
    return text


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
    heading = " & ".join(["Method", *(f"{_tex(c.label)} {arrows[c.better]}" for c in table.columns)])
    environment = Environment(autoescape=False, keep_trailing_newline=True)
    environment.filters["tex"] = _tex
    return environment.from_string(_LATEX).render(table=table, heading=heading, groups=groups.items())


def run_table(record: Record) -> str:
    """The short table a run ends with: mean and standard deviation over images."""
    channels = record.dataset["channels"]
    rows = []
    for protocol in TRACKS.get(record.spec["track"]).obj:
        scored = record.protocols.get(protocol.name)
        for column in columns_of(protocol.name, protocol.metrics, channels) if scored else ():
            if column.name not in scored["scores"]:
                continue
            mean, std = scored["mean"][column.name], scored["std"][column.name]
            missing = scored["missing"].get(column.name, [])
            note = f"missing for image(s) {', '.join(map(str, missing))}" if missing else ""
            rows.append(
                [
                    protocol.title,
                    _heading(column),
                    format_value(mean, column.name),
                    format_value(std, column.name),
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
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]
