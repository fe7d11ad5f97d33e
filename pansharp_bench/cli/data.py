"""``bench data``: which datasets are here, what is in their files, and are they the right ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.cli.options import plugin_option
from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    from pansharp_bench.scene import Dataset

COLOURS = {"ok": "green", "note": None, "warning": "yellow", "error": "red"}


def _shared(command: Callable) -> Callable:
    for option in (
        plugin_option,
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "--data", "root", envvar="PANSHARP_DATA", type=click.Path(path_type=Path), metavar="DIR",
            help="Folder of the data files (or PANSHARP_DATA).",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


_label = click.option("--label", help="Name for files that are not the known originals.")


class ByDataset(click.Group):
    """One command for several datasets, which is told by the name of one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Says which datasets there are where another is named."""
        if args[0] not in self.commands:
            raise BenchError(f"no dataset {args[0]!r} for {self.name}; there are: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)


class DataCommands(click.Group):
    """Commands for any dataset, and those that datasets bring along."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Own commands, then those that datasets bring."""
        return [*super().list_commands(ctx), *sorted({verb for _, verb in _brought()})]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Also ``bench data build NAME …``, where only one dataset has such a command."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in self.commands or isinstance(command, click.Group):  # own: no dataset need be imported
            return name, command, rest
        # `bench data build NAME …` reads well, and the name is not needed where only one dataset can
        alone = rest and (rest[0], name) in _brought()
        return name, command, rest[1:] if alone else rest

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """An own command, or the one that a dataset brings; several that have it make a group."""
        if own := super().get_command(ctx, name):
            return own
        offers = {dataset: where for (dataset, verb), where in _brought().items() if verb == name}
        if not offers:
            return None
        if len(offers) > 1:
            return ByDataset(
                name, {d: _load(w) for d, w in offers.items()}, help=f"What {name} makes, by dataset."
            )
        return _load(next(iter(offers.values())))


def _brought() -> dict[tuple[str, str], str]:
    """(dataset, command) -> where its click command is."""
    from pansharp_bench.registry import DATASETS

    return {(e.name, verb): w for e in DATASETS for verb, w in e.facts.get("commands", {}).items()}


def _load(where: str) -> click.Command:
    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)


@click.group(cls=DataCommands)
def data() -> None:
    """Find, describe, check and build data files."""


@data.command("list")
@_shared
def list_command(root: Path | None, as_json: bool) -> None:
    """Every dataset: its sensor, where its files are, and the samples of each split."""
    from tabulate import tabulate

    rows = summaries(root)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return

    def samples(row: dict[str, Any]) -> str:
        return ", ".join(f"{split} {'?' if n is None else n}" for split, n in row["splits"].items())

    absent = "no data root" if root is None else "not found"
    table = [[r["name"], r["sensor"], samples(r), r["where"] or (r["missing"] and absent)] for r in rows]
    click.echo(tabulate(table, ["name", "sensor", "samples", "where"], disable_numparse=True))
    if root is None:
        click.echo("\nGive the folder of real files with --data DIR or PANSHARP_DATA.")
    for row in rows if root else ():
        if row["missing"]:
            click.echo(f"\n{row['name']}: {row['missing']}")


def summaries(root: Path | None) -> list[dict[str, Any]]:
    """Of every dataset ``name``, ``sensor``, ``where`` its files are and the samples of its ``splits`` (None where
    they cannot be read), or why it is ``missing``."""
    from pansharp_bench.registry import DATASETS

    rows: list[dict[str, Any]] = []
    for entry in DATASETS:
        row = {"name": entry.name, "sensor": entry.card.sensor, "where": "", "splits": {}, "missing": ""}
        try:
            row |= entry.obj(root=root, label=None).summary()
        except BenchError as error:
            row["missing"] = str(error)
        rows.append(row)
    return rows


@data.command()
@click.argument("dataset")
@_label
@_shared
def info(dataset: str, root: Path | None, label: str | None, as_json: bool) -> None:
    """What the files of DATASET hold: shapes, DN ranges, band statistics, checksums."""
    opened = _open(dataset, root, label)
    if as_json:
        about = {"name": opened.name, "sensor": opened.sensor.name, "provenance": opened.provenance()}
        click.echo(json.dumps(about | {"files": list(opened.info())}, indent=2))
        return
    sensor = opened.sensor
    unit = "DN" if sensor.peak > 1 else "I/F"
    click.echo(f"{opened.name}: {sensor.title}, {sensor.channels} bands, {unit} 0 to {sensor.peak:g}")
    for key, value in opened.provenance().items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        for part, told in parts:
            click.echo(f"{key}{part and f', {part}'}: {told}")
    for file in opened.info():
        _print_file(file, sensor.bands)


@data.command()
@click.argument("dataset")
@_label
@_shared
@click.pass_context
def check(ctx: click.Context, dataset: str, root: Path | None, label: str | None, as_json: bool) -> None:
    """Look for defects in the files of DATASET; exit code 1 where one is an error.

    Checksums against the known originals, value ranges, the decimation phase of ms, registration of PAN and
    MS, samples that repeat or that occur in training and test. Nothing is changed.
    """
    opened = _open(dataset, root, label)
    findings = []
    if not as_json:
        click.echo(f"{opened.name}: {opened.sensor.title}")
    for level, text in opened.check():
        findings.append({"level": level, "text": text})
        if not as_json:
            click.echo(f"{click.style(f'{level:8}', fg=COLOURS.get(level))} {text}")
    if as_json:
        click.echo(json.dumps({"name": opened.name, "findings": findings}, indent=2))
    if any(f["level"] == "error" for f in findings):
        ctx.exit(1)


def _open(name: str, root: Path | None, label: str | None) -> Dataset:
    from pansharp_bench.registry import DATASETS

    return DATASETS.get(name).obj(root=root, label=label)


def _print_file(file: dict[str, Any], bands: tuple[str, ...]) -> None:
    from tabulate import tabulate

    known = {True: "the known original", False: "not the known original", None: "no checksum is known"}
    click.echo(f"\n{click.style(file['split'], bold=True)}  {file['samples']} samples")
    click.echo(f"{file['path']}  {file['size'] / 2**20:.1f} MiB")
    click.echo(f"sha256 {file['sha256']}  ({known[file['verified']]})")
    arrays = [
        [key, "x".join(map(str, a["shape"])), a["dtype"], f"{a['min']:.6g}", f"{a['max']:.6g}"]
        for key, a in file["arrays"].items()
    ]
    click.echo(tabulate(arrays, ["key", "N x C x H x W", "stored as", "min", "max"], disable_numparse=True))
    if "tables" in file:  # a track of its own says what is worth knowing
        for table in file["tables"]:
            click.echo(f"\n{table['title']}")
            click.echo(tabulate(table["rows"], table["headers"], disable_numparse=True))
        return
    statistics = [("pan", file["pan_mean"], file["pan_std"], None)]
    statistics += zip(bands, file["band_mean"], file["band_std"], file["pan_band_correlation"], strict=True)
    rows = [[n, f"{m:.1f}", f"{s:.1f}", "" if c is None else f"{c:.3f}"] for n, m, s, c in statistics]
    headers = ["DN of pan and ms", "mean", "std", "correlation with PAN"]
    click.echo(tabulate(rows, headers, disable_numparse=True, colalign=("left", "right", "right", "right")))
