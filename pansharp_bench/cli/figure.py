"""``bench figure``: pictures drawn from records and from trained methods."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pansharp_bench.cli.options import (
    RunOptions,
    check_settable,
    comma_separated,
    plugin_option,
    results_option,
    run_options,
    running,
    set_option,
)
from pansharp_bench.cli.records import read_records
from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    from pansharp_bench.record import Record

_dataset = click.option("--dataset", required=True, help="By the name shown, e.g. qb-sim.")
_PICTURES = (".png", ".pdf", ".svg")


def _picture(ctx: click.Context, param: click.Parameter, path: Path) -> Path:
    if path.suffix.lower() not in _PICTURES:
        raise click.BadParameter(f"{path} is no name of a picture; let it end in {', '.join(_PICTURES)}")
    return path


_out = click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, callback=_picture,
    help="Picture to write (PNG, PDF or SVG).",
)  # fmt: skip


@click.group()
def figure() -> None:
    """Figures: methods side by side, power spectra, quality against cost, the bound of χ²; mosaics."""


@figure.command()
@_dataset
@click.option("--method", "methods", multiple=True, help="Only these; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="Of methods that are trained step by step.")
@click.option("--given-weights", is_flag=True, help="Also records that were made with --weights.")
@_out
@results_option
@plugin_option
def psd(
    dataset: str, methods: tuple[str, ...], seed: int, given_weights: bool, out: Path, results: Path
) -> None:
    """Mean power spectra of source, target and every method's output; the numbers beside it as CSV."""
    from pansharp_bench import figures
    from pansharp_bench.files import atomically

    curves: dict[str, tuple[list[float], list[float]]] = {}
    outputs: list[tuple[Record, dict[str, list[float]]]] = []
    for record in _on_the_same_files(read_records(results, [dataset])):
        spectra = [p["curves"]["psd"] for p in record.protocols.values() if "psd" in p.get("curves", {})]
        chosen = record.method["name"] in methods if methods else True
        if record.spec["weights"]:  # whatever seed these were trained with is not known here
            chosen = chosen and given_weights
        elif record.spec["options"].get("steps"):  # none: in closed form or untrained, of no seed
            chosen = chosen and record.spec["seed"] == seed
        if not spectra or not chosen:
            continue
        outputs.append((record, spectra[0]))
    for label, (_, spectrum) in zip(_labels([r for r, _ in outputs]), outputs, strict=True):
        for role, power in spectrum.items():
            if role != "frequency":
                curves.setdefault(label if role == "output" else role, (spectrum["frequency"], power))
    if not curves:
        raise BenchError(f"no record of {dataset!r} under {results} holds power spectra")
    roles = ("source", "target", "truth")
    curves = {k: curves[k] for k in (*(r for r in roles if r in curves), *sorted(curves.keys() - {*roles}))}
    table = out.with_suffix(".csv")
    with atomically(table) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["cycles_per_pixel", *curves])
        writer.writerows(zip(next(iter(curves.values()))[0], *(p for _, p in curves.values()), strict=True))
    figures.spectra(curves, out, f"{dataset}: mean power spectra")
    click.echo(f"{out}\n{table}")


@figure.command()
@_dataset
@click.option("--protocol", default="reduced", show_default=True)
@click.option("--column", default="ERGAS", show_default=True, help="Quality, by the name of its column.")
@click.option("--ranked/--all", default=True, help="Leave out rows that look at the reference.")
@_out
@results_option
@plugin_option
def cost(dataset: str, protocol: str, column: str, ranked: bool, out: Path, results: Path) -> None:
    """Quality against milliseconds per megapixel, a point for every row that `bench leaderboard --all-runs` has.

    Milliseconds are those of `bench speed`, on the machine that timed most of the methods.
    """
    from pansharp_bench import figures, tables
    from pansharp_bench.timings import read_speeds

    found, points, usual = _on_the_same_files(read_records(results, [dataset])), [], ""
    for table in tables.tables(found, protocols=[protocol], speeds=read_speeds(results)):
        usual, timed = tables.timed_alike(table.rows)
        shown = [r for r in timed if r.ranked or not ranked]
        for row, label in zip(shown, tables.named_apart(shown), strict=True):
            cell = next((c for k, c in row.cells.items() if k.name == column), None)
            if cell and row.cost[0]:
                points.append((label, row.group, row.cost[0], cell.mean))
    if not points:
        raise BenchError(
            f"no record of {dataset!r} under {results} has {column} under protocol {protocol!r} and is of a method "
            "that `bench speed` has timed"
        )
    title = f"{dataset}: {column} against cost, {usual}"
    figures.quality_against_cost(points, out, column, "milliseconds per megapixel", title)
    click.echo(out)


def _read_crop(ctx: click.Context, param: click.Parameter, text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    try:
        left, top, side = (int(x) for x in text.split(","))
    except ValueError:
        raise BenchError(f"--crop {text!r} is not of the form x,y,side, in PAN pixels") from None
    return left, top, side


@figure.command()
@comma_separated("--methods", "names", "Registered names, in the order they are shown.")
@click.option("--dataset", required=True, help="Registered name, e.g. qb.")
@click.option("--split", default="reduced", show_default=True, help="reduced, full, test.")
@click.option("--scene", type=click.IntRange(0), default=0, show_default=True, help="Index in the split.")
@click.option(
    "--crop", callback=_read_crop, metavar="X,Y,SIDE", help="Enlarged in every picture; PAN pixels."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of methods that learn.")
@set_option("Of the runs of methods that are trained step by step; may be repeated.")
@_out
@run_options("devices", "nodes", "pictures", "results")
def compare(
    names: list[str] | None,
    dataset: str,
    split: str,
    scene: int,
    crop: tuple[int, int, int] | None,
    seed: int,
    options: dict[str, str],
    out: Path,
    shared: RunOptions,
) -> None:
    """Methods side by side on one scene, in one stretch, and their errors on one scale.

    Methods that are trained step by step take the weights of their finished runs (in --runs, of this --preset,
    --seed and --set); none is trained for a picture.

    \b
    bench figure compare --methods exp,gsa,mtf-glp-fs --dataset qb-sim --crop 60,80,48 --out fig.pdf
    """
    import torch

    from pansharp_bench import experiment, figures, plan
    from pansharp_bench.registry import TRACKS

    if not names:
        raise BenchError("--methods names none, e.g. --methods exp,gsa")
    check_settable(names, options)
    with running():
        plans = [plan.plan(shared.row(name, dataset, {}, options, seed)) for name in names]
        data = plans[0].dataset
        if split not in data.available():
            raise BenchError(f"{data.name} has no split {split!r}; there are: {', '.join(data.available())}")
        scenes = data.split(split)  # type: ignore[arg-type]
        if scene >= len(scenes):
            raise BenchError(f"--scene {scene}: split {split!r} has scenes 0 to {len(scenes) - 1}")
        shown = scenes[scene]
        height, width = shown.pan.shape[-2:]
        if crop and not (min(crop) >= 0 < crop[2] <= min(width - crop[0], height - crop[1])):
            raise BenchError(
                f"--crop {','.join(map(str, crop))} does not lie in an image of {width} x {height}"
            )
        methods = [experiment.ready(it, shared.runs, progress=shared.progress) for it in plans]
        fused = {}
        for it, method in zip(plans, methods, strict=True):
            with torch.inference_mode():
                fused[it.entry.card.label] = method.fuse(shown.to(it.device).seen_by(method.card, seed=scene))
        track = TRACKS.get(plans[0].identity["track"]).obj
        unit = "DN" if data.sensor.peak > 1 else ""
        title = f"{data.name}, {split} scene {scene}"
        click.echo(figures.compare_methods(shown, fused, out, crop, title, track.source, unit))


@figure.command()
@click.option("--method", required=True)
@click.option("--dataset", required=True, help="Registered name, e.g. junocam2hst.")
@click.option("--weights", type=click.Path(path_type=Path), help="Of a trained method.")
@click.option(
    "--second-stage",
    type=click.Path(path_type=Path),
    help="Weights of a run on junocam2hst-uvm: the outputs get ultraviolet and methane too.",
)
@set_option()
@click.option(
    "--draws",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Stochastic methods: samples of every output; mean and deviation are laid out.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the mosaics."
)
@run_options("devices", "nodes", "pictures", "results")
def mosaic(
    method: str,
    dataset: str,
    weights: Path | None,
    second_stage: Path | None,
    options: dict[str, str],
    draws: int,
    out: Path,
    shared: RunOptions,
) -> None:
    """The test images and a method's outputs, put back on their map: GeoTIFF and PNG, before and after, each with
    its uncertainty.

    A GeoTIFF has the bands and a standard deviation of each; NAME-spread.tif says how much of that is between
    segments that overlap, and how much between the samples of a stochastic method (--draws).

    A method that is trained step by step takes --weights, or those of its finished run (in --runs, of this --preset
    and --set); none is trained for a map.
    """
    from pansharp_bench import experiment, plan
    from pansharp_bench.protocols import mosaic as mosaics

    with running():
        it = plan.plan(shared.spec(method, dataset, options, weights=weights))
        further = mosaics.second_stage(second_stage, it.dataset.sensor, it.device) if second_stage else None
        ready = experiment.ready(it, shared.runs, progress=shared.progress)
        for path in mosaics.mosaic(
            ready, it.dataset, out, it.device, further=further, draws=draws, progress=shared.progress
        ):
            click.echo(path)


@figure.command()
@_dataset
@_out
@results_option
@plugin_option
def bound(dataset: str, out: Path, results: Path) -> None:
    """Distance to the target's histograms against distance to the source, with the bound for all methods.

    χ² is drawn against the PSNR to the source, both over all images together. No output, however made, has a χ²
    below the curve. The floor is what the target itself has in the source's mix of zones. Curve and floor are
    those of the records; the points of the curve are also written beside the picture as CSV.
    """
    import math

    from pansharp_bench import figures
    from pansharp_bench.files import atomically

    found = []
    for record in _on_the_same_files(read_records(results, [dataset])):
        for scored in record.protocols.values():
            if (curve := scored.get("curves", {}).get("bound")) and {"chi2", "PSNR"} <= scored[
                "scores"
            ].keys():
                found.append((record, scored, curve))
    if not found:
        raise BenchError(
            f"no record of {dataset!r} under {results} holds a bound of chi2: run its methods anew"
        )
    _, scored, curve = max(found, key=lambda f: f[0].created)

    def psnr(mse: float) -> float:
        return -10 * math.log10(mse)

    points = []
    for label, (_, own, _) in zip(_labels([f[0] for f in found]), found, strict=True):
        errors = [10 ** (-p / 10) for p in own["scores"]["PSNR"]]  # in units of peak²
        mean = sum(errors) / len(errors)
        if 0 < mean < math.inf:  # not the source itself
            points.append((label, psnr(mean), own["mean"]["chi2"]))
    line = [(psnr(m), c) for m, c in zip(curve["mse"], curve["chi2"], strict=True) if m > 0]
    table = out.with_suffix(".csv")
    with atomically(table) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["psnr_to_source", "least_chi2"])
        writer.writerows(line)
    floor = scored.get("floors", {}).get("chi2")
    figures.bound_by_transport(line, points, floor, out, f"{dataset}: colours reached against structure kept")
    click.echo(f"{out}\n{table}")


@figure.command()
@_dataset
@click.option("--protocol", default="calibration", show_default=True)
@click.option(
    "--column", "columns", multiple=True,
    help="Columns drawn; the table has all. May be repeated.  [default: chi2, SSIM, PSNR]",
)  # fmt: skip
@click.option("--unit", default="block", show_default=True, help="What is resampled, e.g. block or perijove.")
@click.option("--draws", type=click.IntRange(100), default=2000, show_default=True, help="Resamplings.")
@_out
@results_option
@plugin_option
def errors(
    dataset: str, protocol: str, columns: tuple[str, ...], unit: str, draws: int, out: Path, results: Path
) -> None:
    """Scores with their errors: 95 % intervals over resampled blocks of the test set; the numbers beside it as CSV.

    Test images that overlap are not independent; whole blocks (HEALPix cells of one perijove) are resampled. Where
    records of other perijoves held out lie there too (`bench run --each-fold`), the CSV also has each of
    these, their mean and their standard deviation."""
    from pansharp_bench import figures, uncertainty
    from pansharp_bench.files import atomically

    every = read_records(results, [dataset])
    protocols = sorted({name for r in every for name in r.protocols})
    if every and protocol not in protocols:
        raise BenchError(
            f"no record of {dataset!r} was scored under protocol {protocol!r}; there are: {', '.join(protocols)}"
        )
    found = _on_the_same_files(r for r in every if uncertainty.has_origins(r) and protocol in r.protocols)
    if not found:
        raise BenchError(
            f"no record of {dataset!r} under {results} says where its images are from: run its methods anew"
        )
    rows, points = [], []
    for label, record in zip(_labels(found), found, strict=True):
        told = uncertainty.intervals(record, protocol, unit, draws)
        n = uncertainty.count(record, protocol, unit)
        for column, x in told.items():
            rows.append([label, column, f"{n} {unit}s", x.value, x.error, x.low, x.high, x.independent])
        points.append((label, {c: (x.value, x.low, x.high) for c, x in told.items()}))
        rows += [[label, *row] for row in _over_folds(record, protocol, results, dataset)]
    known = {column for _, told in points for column in told}
    columns = columns or tuple(c for c in ("chi2", "SSIM", "PSNR") if c in known)
    if unknown := [c for c in columns if c not in known]:
        raise BenchError(
            f"--column {unknown[0]}: no record tells its error; there are: {', '.join(sorted(known))}"
        )
    table = out.with_suffix(".csv")
    with atomically(table) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["method", "column", "over", "value", "error", "low", "high", "error_if_images_were_independent"]
        )
        writer.writerows(rows)
    figures.intervals(points, columns, out, f"{dataset}: 95 % intervals, {unit}s resampled")
    click.echo(f"{out}\n{table}")


def _over_folds(record: Record, protocol: str, results: Path, dataset: str) -> list[list]:
    """Rows of the CSV for the same run with other parts held out: each by itself, then mean and deviation of
    all."""
    import math
    import statistics

    from pansharp_bench import record as records

    def run(r: Record) -> str:
        apart = ("data", "dataset", "weights", "metrics")
        return records.canonical({k: v for k, v in r.spec.items() if k not in apart})

    others = [
        r for _, r in records.read_all(results)
        if not isinstance(r, BenchError)
        and r.dataset["provenance"].get("fold_of") == dataset and run(r) == run(record) and protocol in r.protocols
    ]  # fmt: skip
    if not others:
        return []
    rows = []
    for column, own in record.protocols[protocol]["mean"].items():
        values = [own]
        for fold in others:
            values.append(fold.protocols[protocol]["mean"][column])
            rows.append([column, f"{fold.dataset['provenance']['held_out']} held out", values[-1], *[""] * 4])
        finite = all(map(math.isfinite, values))  # the source itself has an infinite PSNR
        mean, spread = (statistics.mean(values), statistics.stdev(values)) if finite else (math.nan, math.nan)
        rows.append([column, f"{len(values)} held out in turn", mean, spread, *[""] * 3])
    return rows


def _on_the_same_files(records: Iterable[Record]) -> list[Record]:
    """Those scored on the files that the latest was scored on, of the splits that both were: nothing else compares
    in one picture."""
    found = list(records)
    if not found:
        return []
    known = max(found, key=lambda r: r.created).dataset["test_fingerprint"]
    return [r for r in found if all(known.get(s, h) == h for s, h in r.dataset["test_fingerprint"].items())]


def _labels(records: list[Record]) -> list[str]:
    """A label for each; where several have the same, with what tells them apart: preset, seed, hash of the run."""
    labels = [_label(r) for r in records]
    for further in (
        lambda r: r.spec["preset"],
        lambda r: f"seed {r.spec['seed']}",
        lambda r: r.spec_sha256[:8],
    ):
        told = [further(r) for r in records]
        pairs = set(zip(labels, told, strict=True))
        twins = Counter(label for label, _ in pairs)
        labels = [
            f"{label}, {text}" if twins[label] > 1 else label
            for label, text in zip(labels, told, strict=True)
        ]
    return labels


def _label(record: Record) -> str:
    changed = [f"{k}={record.spec['options'][k]}" for k in record.spec["changed"]]
    given = [f"weights {sha[:8]}"] if (sha := record.spec["weights"].get("file_sha256")) else []
    return ", ".join([record.method["title"] or record.method["name"], *changed, *given])
