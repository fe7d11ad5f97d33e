"""The pages of the site, from records and tables."""

from __future__ import annotations

import inspect
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pansharp_bench import cards
from pansharp_bench.errors import BenchError
from pansharp_bench.figures import panels_of, read_losses
from pansharp_bench.files import RunFolder, written
from pansharp_bench.record import Record, short_hash
from pansharp_bench.registry import DATASETS, METHODS, SENSORS, TRACKS, Entry
from pansharp_bench.report import svg
from pansharp_bench.report.pictures import Drawn, Pictures
from pansharp_bench.tables import Cell, Column, Row, Table, columns_of, named_apart, read_remarks, tables
from pansharp_bench.tables.formatting import cost_text, format_value, heading
from pansharp_bench.tables.html import coded
from pansharp_bench.tables.model import own_rows, timed_alike
from pansharp_bench.timings import read_speeds

_MARK = '<meta name="generator" content="bench report">'  # a folder with such a page is ours to replace
_ASSETS = ("style.css", "site.js")
_DRAWN = 100  # rows of a board, from the best on: charts of more can be scrolled, not read
_ROLES = ("source", "target", "truth")  # of curves: what an output is held against


def write_site(
    records: Sequence[Record],
    out: Path,
    results: Path = Path("results"),
    runs: Path = Path("runs"),
    pictures: int = 1,
    progress: bool = False,
) -> Path:
    """Write the site of these records as a folder, whole or not at all, and give its first page.

    Args:
        records: what is shown.
        out: the folder; one that an earlier report made is replaced.
        results: where remarks on test files lie.
        runs: where pictures and logs of runs lie; without them the pages go without.
        pictures: so many scenes of each split, where they may be shown.
        progress: draw a bar.

    Raises BenchError where there are no records, and where ``out`` is a folder of something else.
    """
    if not records:
        raise BenchError(f"no records under {results}: `bench run` writes one")
    first = out / "index.html"
    if (
        out.exists()
        and any(out.iterdir())
        and not (first.exists() and _MARK in first.read_text(encoding="utf-8"))
    ):
        raise BenchError(f"{out} holds something else than a report; name another folder with --out")
    files = Site(records, results, runs, pictures).files()
    bar = tqdm(files.items(), desc="pages", disable=not progress, dynamic_ncols=True)
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with written(out):
            for name, made in bar:
                path, content = part / name, made()
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
            shutil.rmtree(out, ignore_errors=True)
            os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return first


class Site:
    """What the pages are made of."""

    def __init__(self, records: Sequence[Record], results: Path, runs: Path, pictures: int) -> None:
        self.records = sorted(records, key=lambda r: r.path(Path()))
        self.boards = tables(self.records, remarks=read_remarks(results), speeds=read_speeds(results))
        self.runs, self.pictures = runs, Pictures(runs, pictures)
        self.scenes = {id(r): self.pictures.of(r) for r in self.records}

    def files(self) -> dict[str, Callable[[], str | bytes]]:
        """Every file of the site by its path, and what makes it: a page for each of many runs is not kept."""
        methods, sets = _by(self.records, "method"), _by(self.records, "dataset")
        page = partial(partial, self._page)
        return {
            "index.html": page("index.html", "", lambda: {"overview": self._overview()}),
            **{board_page(b): page("board.html", "../", partial(self._board, b)) for b in self.boards},
            **{method_page(n): page("method.html", "../", partial(self._method, n, r)) for n, r in methods.items()},
            "methods/index.html": page("methods.html", "../", lambda: {"methods": methods, "known": METHODS}),
            **{dataset_page(n): page("dataset.html", "../", partial(self._dataset, n, r)) for n, r in sets.items()},
            **{run_page(r): page("run.html", "../", partial(self._run, r)) for r in self.records},
            **{name: partial(self._asset, name) for name in _ASSETS},
            **{name: partial(bytes, content) for name, content in self.pictures.files.items()},
        }  # fmt: skip

    def _asset(self, name: str) -> str:
        return self._loader.get_source(self._templates, name)[0]

    @cached_property
    def _loader(self) -> Any:
        from jinja2 import PackageLoader

        return PackageLoader("pansharp_bench.report")

    @cached_property
    def _templates(self) -> Any:
        from jinja2 import Environment, StrictUndefined

        made = Environment(
            loader=self._loader,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made.globals |= {
            "board_page": board_page,
            "method_page": method_page,
            "dataset_page": dataset_page,
            "run_page": run_page,
            "short": short_hash,
            "heading": heading,
            "cost": cost_text,
            "number": format_value,
            "difference": _signed,
            "text": cards.text,
            "svg": svg,
            "mark": _MARK,
            "newest": max(r.created for r in self.records),
        }
        made.filters |= {"key": id, "flowing": _flowing, "coded": coded}
        made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
        return made

    def _page(self, template: str, root: str, content: Callable[[], dict[str, Any]]) -> str:
        return self._templates.get_template(template).render(root=root, site=self, **content())

    def _overview(self) -> list[dict[str, Any]]:
        """Per dataset: its card, its tables, the first row of each ranked group of each."""
        listed = []
        for name, records in _by(self.records, "dataset").items():
            boards = self.boards_of(name)
            listed.append(
                {
                    "name": name,
                    "entry": _dataset_entry(records[0]),
                    "records": records,
                    "boards": [(b, _leaders(b)) for b in boards],
                }
            )
        return listed

    def boards_of(self, dataset: str) -> list[Table]:
        """The tables whose rows are of this dataset."""
        return [
            b
            for b in self.boards
            if any(r.records and r.records[0].dataset["name"] == dataset for r in b.rows)
        ]

    @cached_property
    def _boards_of_run(self) -> dict[int, list[Table]]:
        """By the identity of a record; once for all, as every run has a page."""
        found: dict[int, list[Table]] = defaultdict(list)
        for board in self.boards:
            for run in {id(x) for row in board.rows for x in row.records}:
                found[run].append(board)
        return found

    @cached_property
    def _rows_of_method(self) -> dict[str, list[tuple[Table, list[Row]]]]:
        """By the name of a method: the tables which it is in, and its rows."""
        found: dict[str, list[tuple[Table, list[Row]]]] = defaultdict(list)
        for board in self.boards:
            rows = defaultdict(list)
            for row in board.rows:
                rows[row.method.get("name", "")].append(row)
            for name, own in rows.items():
                found[name].append((board, own))
        return found

    def _board(self, board: Table) -> dict[str, Any]:
        measured = [r for r in board.rows if r.source == "measured"]
        own = own_rows(measured)
        labels = dict(zip(map(id, own), named_apart(own), strict=True))
        links = {id(r): f"../{run_page(r.records[0])}" for r in measured}
        boxes, drawn = {}, own[:_DRAWN]
        for column in board.columns:
            rows = [(labels[id(r)], _scores(r, column)) for r in drawn]
            boxes[column] = svg.boxes(rows, column.label)
        usual, timed = timed_alike(own)
        lead = board.columns[0]
        points = [
            (labels[id(r)], links[id(r)], r.group, r.cost[0], r.cells[lead].mean)
            for r in timed
            if r.ranked and r.cost[0] and lead in r.cells
        ]
        shown = {labels[id(r)]: r.records[0].protocols[lead.protocol].get("curves", {}) for r in drawn}
        return {
            "board": board,
            "groups": _grouped(board.rows),
            "marks": _marks(board),
            "trials": {id(r) for r in measured} - labels.keys(),
            "published": _published(board),
            "kinds": _choices(board.rows, lambda r: r.method.get("kind", "")),
            "sees": _choices(board.rows, lambda r: r.sees),
            "trainings": _choices(board.rows, lambda r: r.training),
            "presets": _choices(board.rows, lambda r: r.preset),
            "boxes": {c: b for c, b in boxes.items() if b},
            "drawn": len(drawn) if len(drawn) < len(own) else 0,
            "cost_chart": svg.scatter(points, "milliseconds per megapixel", heading(lead)),
            "device": usual,
            "curves": _curves(shown, _bands(measured[0].records[0])),
            "dataset": measured[0].records[0].dataset["name"],
        }

    def _method(self, name: str, records: list[Record]) -> dict[str, Any]:
        entry = METHODS.get(name) if name in METHODS else None
        return {
            "name": name,
            "card": records[-1].method,
            "entry": entry,
            "prose": cards.prose(entry) if entry else records[-1].method.get("summary", ""),
            "facts": list(cards.facts(entry.card)) if entry else [],
            "details": list(cards.details(entry)) if entry else [],
            "boards": [found for found in self._rows_of_method[name] if any(r.records for r in found[1])],
            "records": records,
            "trained": self._trained(records),
            "scenes": [
                scene | {"name": f"{dataset}, {scene['name']}"}
                for dataset, of in _by(records, "dataset").items()
                for scene in self._compared(of)
            ],
        }

    def _trained(self, records: list[Record]) -> list[tuple[Record, list[tuple[str, Any]]]]:
        """Of every dataset the newest training that left a log, and its curves."""
        found = {}
        for record in sorted(records, key=lambda r: r.created):
            if curves := _losses(RunFolder(record.path(self.runs).with_suffix(""))):
                found[record.dataset["name"]] = record, curves
        return list(found.values())

    def _dataset(self, name: str, records: list[Record]) -> dict[str, Any]:
        entry = _dataset_entry(records[0])
        files = {f["sha256"] + f["split"]: f for r in records for f in r.dataset["files"]}
        faults = dict.fromkeys(f for r in records for f in r.dataset.get("accepted_faults", ()))
        return {
            "name": name,
            "entry": entry,
            "about": inspect.getdoc(inspect.getmodule(entry.obj)) if entry else "",
            "facts": list(cards.facts(entry.card)) if entry else [],
            "details": list(cards.details(entry)) if entry else [],
            "first": records[0],
            "boards": self.boards_of(name),
            "files": sorted(files.values(), key=lambda f: (f["split"], f["path"], f["sha256"])),
            "faults": list(faults),
            "remarks": list(dict.fromkeys(n for b in self.boards_of(name) for n in b.notes)),
            "records": records,
            "scenes": self._compared(records),
        }

    def _compared(self, records: list[Record]) -> list[dict[str, Any]]:
        """Per scene what every run shows of it: the same inputs once, an output and an error a run."""
        names = [r.method["title"] or r.method["name"] for r in records]
        counts = Counter(names)
        labels = [
            f"{n} ({short_hash(r)})" if counts[n] > 1 else n for n, r in zip(names, records, strict=True)
        ]
        found: dict[tuple[str, ...], dict[str, Any]] = {}
        for record, label in zip(records, labels, strict=True):
            for scene in self.scenes[id(record)]:
                inputs = _inputs(scene)
                shown = found.setdefault(
                    (scene.name, *inputs.values()), {"name": scene.name, "inputs": inputs, "runs": []}
                )
                outputs = {n: p for n, p in scene.panels if n not in inputs}
                shown["runs"].append({"label": label, "panels": outputs, "top": scene.top})
        return list(found.values())

    def _run(self, record: Record) -> dict[str, Any]:
        track = TRACKS.get(record.spec["track"]).obj if record.spec["track"] in TRACKS else None
        protocols = {p.name: p for p in track.protocols} if track else {}
        shown = []
        for name, scored in record.protocols.items():
            columns = columns_of(protocols[name], record.dataset["channels"], [record]) if name in protocols else [
                Column(name, c, c, "high") for c in scored["scores"]
            ]  # fmt: skip
            own = [c for c in columns if c.name in scored["scores"]]
            shown.append((name, protocols[name].title if name in protocols else name, scored, own))
        label = record.method["title"] or record.method["name"]
        curves: dict[str, dict[str, Any]] = {
            label: next((p["curves"] for p in record.protocols.values() if "curves" in p), {})
        }
        return {
            "record": record,
            "label": label,
            "path": record.path(Path("results")).as_posix(),
            "protocols": shown,
            "rows": {name: [_row(scored, c) for c in columns] for name, _, scored, columns in shown},
            "per_image": {name: _per_image(scored, columns) for name, _, scored, columns in shown},
            "curves": _curves(curves, _bands(record)),
            "losses": _losses(RunFolder(record.path(self.runs).with_suffix(""))),
            "scenes": self._compared([record]),
            "boards": self._boards_of_run[id(record)],
            "sections": {
                "Environment": _flat(record.environment),
                "Training": _flat(record.training),
                "Weights": _flat(record.weights),
                "Inference": _flat(record.inference),
                "Data provenance": _flat(record.dataset["provenance"]),
            },
        }


def board_page(board: Table) -> str:
    """Where a table has its page."""
    return f"boards/{board.name}.html"


def method_page(name: str) -> str:
    """Where a method has its page."""
    return f"methods/{name}.html"


def dataset_page(name: str) -> str:
    """Where a dataset has its page."""
    return f"datasets/{name}.html"


def run_page(record: Record) -> str:
    """Where a record has its page."""
    return f"runs/{record.spec['method']}-{short_hash(record)}.html"


def _row(scored: dict[str, Any], column: Column) -> tuple[str, str, str, str, str]:
    """A quantity: name, mean, deviation, a drawing of all values, least and largest with what is missing."""
    values = scored["scores"][column.name]
    mean, std = (format_value(scored[k][column.name], column.digits) for k in ("mean", "std"))
    missing = len(scored["missing"].get(column.name, ()))
    each, told = "", []
    if len(values) > 1:
        each = svg.distribution(values)
        told = [" to ".join(format_value(f(values), column.digits) for f in (min, max))]
    told += [f"{missing} missing"] if missing else []
    return heading(column), mean, std, each, " ".join(told)


def _per_image(scored: dict[str, Any], columns: Sequence[Column]) -> str:
    """A line per image, a column per quantity that has a value of each; empty for one image or more than 100."""
    several = [c for c in columns if 1 < len(scored["scores"][c.name]) == scored["images"] <= 100]
    if not several:
        return ""
    values = ([format_value(v, c.digits) for v in scored["scores"][c.name]] for c in several)
    lines = ([c.label for c in several], *zip(*values, strict=True))
    return "\n".join("\t".join(line) for line in lines)


def _by(records: Sequence[Record], what: str) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record.method["name"] if what == "method" else record.dataset["name"]].append(record)
    return dict(sorted(found.items()))


def _dataset_entry(record: Record) -> Entry[Any] | None:
    """The registered dataset of a record; of one that goes by a label, that of its sensor."""
    name, sensor = record.dataset["name"], record.dataset["sensor"]
    if name in DATASETS:
        return DATASETS.get(name)
    return next(iter(DATASETS.entries(sensor=sensor, simulated=record.simulated)), None)


def _grouped(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.group].append(row)
    return dict(found)


def _leaders(board: Table) -> list[tuple[Row, Cell]]:
    """The first row of each ranked group by the first column."""
    lead = board.columns[0]
    ranked = [r for r in own_rows(board.rows) if r.ranked and r.source == "measured" and lead in r.cells]
    return [(rows[0], rows[0].cells[lead]) for rows in _grouped(ranked).values()]


def _marks(board: Table) -> dict[tuple[int, Column], str]:
    """Best and second of each group among the rows shown at first, by the row itself."""
    chosen = board.selection()
    return {(id(chosen.rows[i]), column): mark for (i, column), mark in chosen.marks().items()}


def _published(board: Table) -> dict[int, Row]:
    """What papers print of the same method, by the measured row: the row that bears its very name, or the only one.
    Of several variants none is taken for it."""
    found: dict[int, Row] = {}
    printed = [r for r in board.rows if r.source == "published" and r.method]
    for row in board.rows:
        same = [p for p in printed if row.source == "measured" and p.method["name"] == row.method["name"]]
        named = [p for p in same if p.label in (row.label, row.method.get("published"))]
        if named or len(same) == 1:
            found[id(row)] = (named or same)[0]
    return found


def _choices(rows: Sequence[Row], of: Any) -> list[str]:
    return sorted({of(r) for r in rows} - {""})


def _scores(row: Row, column: Column) -> list[float]:
    """Per image, the mean over seeds."""
    runs = [s for r in row.records if (s := r.scores(column.protocol, column.name))]
    return [sum(values) / len(values) for values in zip(*runs, strict=False)]


def _bands(record: Record) -> Sequence[str]:
    """Of its images; numbers where its sensor is not known here."""
    sensor, count = record.dataset["sensor"], record.dataset["channels"]
    bands = SENSORS.get(sensor).obj.bands if sensor in SENSORS else ()
    return bands if len(bands) == count else [f"channel {i + 1} of {count}" for i in range(count)]


def _curves(shown: Mapping[str, dict[str, Any]], bands: Sequence[str]) -> list[tuple[str, Any]]:
    """Charts of spectra and histograms, of several rows or of one: (title, SVG)."""
    charts = []
    spectra = {k: c["psd"] for k, c in shown.items() if "psd" in c}
    if spectra:
        curves = _held_against(spectra, "frequency", lambda values: values)
        charts.append(
            ("Power spectra", svg.lines(curves, "cycles per pixel", "normalised power", True, _ROLES))
        )
    histograms = {k: c["histogram"] for k, c in shown.items() if "histogram" in c}
    for channel, band in enumerate(bands if histograms else ()):
        curves = _held_against(histograms, "value", lambda values, at=channel: values[at])
        chart = svg.lines(curves, "value", "share of pixels", False, _ROLES)
        charts.append((f"Histogram, {band}", chart))
    return charts


def _held_against(found: Mapping[str, dict[str, Any]], along: str, of: Any) -> dict[str, svg.Curve]:
    """The roles that all rows share, once, then every row's output."""
    first = next(iter(found.values()))
    curves = {role: (first[along], of(first[role])) for role in _ROLES if role in first}
    return curves | {label: (c[along], of(c["output"])) for label, c in found.items()}


def _unzipped(points: Sequence[tuple[int, float]]) -> svg.Curve:
    return [x for x, _ in points], [y for _, y in points]


def _losses(folder: RunFolder) -> list[tuple[str, Any]]:
    curves = read_losses(folder.log)
    return [
        (name, svg.lines({x: _unzipped(curves[x]) for x in names}, "step", name))
        for name, names in panels_of(curves).items()
    ]


def _flowing(doc: str) -> str:
    """A docstring's paragraphs, each on one line, without the marks of code."""
    return "\n\n".join(" ".join(part.split()) for part in doc.replace("``", "").split("\n\n"))


def _signed(difference: float, digits: int) -> str:
    return f"{difference:+.{digits}f}".replace("-", "−")


def _inputs(scene: Drawn) -> dict[str, str]:
    return {n: p for n, p in scene.panels if n not in ("fused", "output") and "error" not in n}


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Names and values of nested dictionaries, a line each."""
    if isinstance(value, dict) and value:
        return [line for k, v in value.items() for line in _flat(v, f"{prefix} · {k}" if prefix else str(k))]
    return [(prefix, cards.text(value))] if prefix else []
