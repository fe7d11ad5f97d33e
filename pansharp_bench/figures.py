"""Pictures: true colour, PAN and error maps side by side, written by Pillow; curves, drawn by matplotlib, which is
loaded on first use, without a display."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from torch import Tensor

from pansharp_bench.files import atomically
from pansharp_bench.scene import Scene, Sensor

LOW, HIGH = 1.0, 99.0  # percentiles of the display stretch
_SIDES = (256, 512)  # pixels of a picture's longer side: an image between them is shown as it is
_GAP = 8
_LAYOUT = "panels"  # a PNG's text that says where its pictures lie
_ENOUGH = 1 << 20  # pixels that a percentile is taken from
_MAGMA = (
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 cf4070 e55064 f4695c fb8761 fea571 fec287 "
    "fde0a1 fcfdbf"
)  # every sixteenth colour of matplotlib's map


def stretch_limits(image: Tensor) -> tuple[Tensor, Tensor]:
    """Per-channel display limits of a (C, H, W) image: its 1st and 99th percentile."""
    flat = image.flatten(1)
    some = flat[:, :: max(1, flat.shape[1] // _ENOUGH)].double().numpy()
    low, high = torch.from_numpy(np.percentile(some, (LOW, HIGH), axis=1))
    spread = (high - low).max().clamp_min(torch.finfo(torch.float32).tiny)
    return low, torch.maximum(high, low + 1e-3 * spread)  # a flat band is shown flat, not as noise


def display(image: Tensor, limits: tuple[Tensor, Tensor]) -> np.ndarray:
    """A (C, H, W) image as H,W,3 bytes under these limits; NaN is black."""
    low, high = (x[:, None, None].float() for x in limits)
    shown = ((image.float() - low) / (high - low)).nan_to_num(0).clamp(0, 1) * 255
    return shown.round().byte().expand(3, -1, -1).permute(1, 2, 0).numpy()


def rgb_bands(image: Tensor, sensor: Sensor) -> Tensor:
    """The true-colour bands of a (C, H, W) image, red first."""
    return image[list(sensor.rgb)]


def compare_scene(scene: Scene, fused: Tensor, path: Path, title: str = "", source: str = "PAN") -> Path:
    """One row of pictures: the source (PAN), MS where there is one, fused and, with a reference, reference and
    error map.

    All pictures in the sensor's bands share one stretch, that of the reference (or else of the MS, or of the
    source). The
    error map is the mean absolute error over bands; its scale ends at the 99th percentile and is printed beside
    it.
    """
    sensor = scene.sensor
    fused = fused[0].cpu()
    base = next(x for x in (scene.gt, scene.lms, scene.pan) if x is not None)[0]
    limits = stretch_limits(
        rgb_bands(base, sensor) if len(base) == sensor.channels else rgb_bands(fused, sensor)
    )
    seen = rgb_bands(scene.pan[0], sensor) if sensor.source_bands > 1 else scene.pan[0]
    panels = [(source, display(seen, limits if sensor.source == sensor.bands else stretch_limits(seen)))]
    if scene.ms is not None:
        panels.append(("MS", display(rgb_bands(scene.ms[0], sensor), limits)))
    panels.append(("fused" if scene.ms is not None else "output", display(rgb_bands(fused, sensor), limits)))
    top = None
    if scene.gt is not None:
        panels.append(("reference", display(rgb_bands(scene.gt[0], sensor), limits)))
        error = (fused.float() - scene.gt[0].float()).abs().mean(0).numpy()
        finite = error[np.isfinite(error)]
        top = max(float(np.percentile(finite, HIGH)), 1e-6) if finite.size else 1.0
        panels.append(("mean |error| over bands", _magma(error / top)))
    whole, layout = _side_by_side(panels, title, top)
    told = PngImagePlugin.PngInfo()
    told.add_text(_LAYOUT, json.dumps(layout))
    with atomically(path) as part:
        whole.save(part, compress_level=4, pnginfo=told)
    return path


def read_panels(path: Path) -> tuple[dict[str, Image.Image], float | None]:
    """The pictures of a row that :func:`compare_scene` wrote, by name, no larger than what they show, and where the
    colours of the error end. Nothing of a file that does not say where they lie."""
    with Image.open(path) as whole:
        layout = json.loads(whole.info.get(_LAYOUT, "{}"))
        found = {}
        for name, (left, above, width, height), pixels in layout.get("panels", ()):
            picture = whole.crop((left, above, left + width, above + height)).convert("RGB")
            size = (min(width, pixels[0]), min(height, pixels[1]))
            found[name] = picture.resize(size, Image.Resampling.NEAREST)
    return found, layout.get("top")


_ACROSS = 6  # pictures in a row, where there are many

Crop = tuple[int, int, int]
"""Left, top and side of a square, in PAN pixels."""


def compare_methods(
    scene: Scene,
    fused: Mapping[str, Tensor],
    path: Path,
    crop: Crop | None = None,
    title: str = "",
    source: str = "PAN",
    unit: str = "DN",
) -> Path:
    """Source, MS, every method's image and, where there is one, the reference, side by side as papers show them: in
    one stretch, that of the reference (or else of the MS). Below each image its error (mean over bands of the
    absolute difference), all on one scale, which ends at the 99th percentile of all of them.

    ``fused``: label -> (1, C, H, W). ``crop`` is outlined and shown enlarged in every picture. The suffix of
    ``path`` decides the format: PNG, PDF, SVG.
    """
    sensor, images = scene.sensor, {k: x[0].cpu().float() for k, x in fused.items()}
    base = next(x for x in (scene.gt, scene.lms, next(iter(fused.values()))) if x is not None)[0].cpu()
    limits = stretch_limits(rgb_bands(base, sensor))
    seen = rgb_bands(scene.pan[0], sensor) if sensor.source_bands > 1 else scene.pan[0]
    panels = [(source, display(seen, limits if sensor.source == sensor.bands else stretch_limits(seen)))]
    if scene.ms is not None:
        times = scene.pan.shape[-1] // scene.ms.shape[-1]
        small = display(rgb_bands(scene.ms[0], sensor), limits)
        panels.append(("MS", small.repeat(times, 0).repeat(times, 1)))
    panels += [(label, display(rgb_bands(image, sensor), limits)) for label, image in images.items()]
    errors: dict[str, np.ndarray] = {}
    if scene.gt is not None:
        truth = scene.gt[0].cpu().float()
        panels.append(("reference", display(rgb_bands(truth, sensor), limits)))
        errors = {label: (image - truth).abs().mean(0).numpy() for label, image in images.items()}
    finite = np.concatenate([e[np.isfinite(e)] for e in errors.values()]) if errors else np.ones(1)
    top = max(float(np.percentile(finite, HIGH)), 1e-6) if finite.size else 1.0

    plt = _pyplot()
    across, below = min(len(panels), _ACROSS), 2 if errors else 1
    rows = -(-len(panels) // across) * below
    height, width = scene.pan.shape[-2:]
    figure, axes = plt.subplots(
        rows,
        across,
        squeeze=False,
        layout="constrained",
        figsize=(2.1 * across + 0.6, 2.1 * rows * height / width + 0.5),
    )
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (label, pixels) in enumerate(panels):
        row, column = i // across * below, i % across
        axes[row, column].set_title(label, fontsize=9)
        _picture(axes[row, column], pixels, crop)
        if label in errors:
            _picture(axes[row + 1, column], _magma(errors[label] / top), crop)
    if errors:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(0, top), "magma")
        bar = figure.colorbar(scale, ax=axes[1::2, :], shrink=0.9, aspect=30, extend="max")
        bar.set_label(f"mean |error| over bands{f', {unit}' if unit else ''}", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10)
    return _save(plt, figure, path, dpi=200)


def _picture(axis: Any, pixels: np.ndarray, crop: Crop | None) -> None:
    """Pixels as they are; with a crop, its outline, and the crop enlarged in the lower right corner."""
    axis.imshow(pixels, interpolation="none")
    if crop is None:
        return
    from matplotlib.patches import Rectangle

    left, top, side = crop
    axis.add_patch(Rectangle((left - 0.5, top - 0.5), side, side, fill=False, ec="yellow", lw=0.8))
    inset = axis.inset_axes((0.5, 0.0, 0.5, 0.5))
    inset.imshow(pixels[top : top + side, left : left + side], interpolation="none")
    inset.set(xticks=[], yticks=[])
    inset.spines[:].set(color="yellow", linewidth=0.8)


def _side_by_side(
    panels: Sequence[tuple[str, np.ndarray]], title: str, top: float | None
) -> tuple[Image.Image, dict[str, Any]]:
    """Named H,W,3 pictures in a row, all as large as the first, under a title; the last one's colours end at the
    value ``top``. And where each lies: name, box (left, above, width, height), the pixels that it shows."""
    shape = panels[0][1].shape[1::-1]
    scale = min(max(1.0, _SIDES[0] / max(shape)), _SIDES[1] / max(shape))
    size = (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)))
    left, above = _GAP, 3 * _GAP + 32
    bar = 0 if top is None else 72
    width = max(left + (size[0] + _GAP) * len(panels) + bar, round(_font(15).getlength(title)) + 2 * _GAP)
    whole = Image.new("RGB", (width, above + size[1] + _GAP), "white")
    draw = ImageDraw.Draw(whole)
    draw.text((whole.width / 2, _GAP), title, "black", _font(15), anchor="ma")
    places = []
    for name, pixels in panels:
        places.append((name, (left, above, *size), pixels.shape[1::-1]))
        picture = Image.fromarray(pixels)
        grows = picture.width <= size[0]
        shown = picture.resize(size, Image.Resampling.NEAREST if grows else Image.Resampling.BOX)
        whole.paste(shown, (left, above))
        draw.text((left + size[0] / 2, above - 4), name, "black", _font(13), anchor="md")
        left += size[0] + _GAP
    if top is not None:
        ramp = _magma(np.linspace(1, 0, size[1])[:, None].repeat(12, 1))
        whole.paste(Image.fromarray(ramp), (left, above))
        draw.text((left + 16, above), f"{top:.4g}", "black", _font(12), anchor="la")
        draw.text((left + 16, above + size[1]), "0", "black", _font(12), anchor="ld")
    return whole, {"panels": places, "top": top}


def _magma(values: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] as H,W,3 bytes, dark to light; NaN is the lightest."""
    stops = np.array([list(bytes.fromhex(c)) for c in _MAGMA.split()], dtype=float)
    index = np.nan_to_num(values, nan=1.0, posinf=1.0).clip(0, 1)
    steps = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(index, steps, channel) for channel in stops.T], -1).round().astype(np.uint8)


@cache
def _font(size: int) -> Any:
    """matplotlib's, which has Greek letters and signs, without loading matplotlib; Pillow's own in its absence."""
    package = find_spec("matplotlib")
    try:
        assert package is not None and package.origin is not None
        return ImageFont.truetype(
            str(Path(package.origin).with_name("mpl-data") / "fonts/ttf/DejaVuSans.ttf"), size
        )
    except (AssertionError, OSError):
        return ImageFont.load_default(size)


def training_curves(log: Path, path: Path, title: str = "") -> Path | None:
    """Losses against steps from a log of JSON lines; None where the log holds none.

    Numbered quantities of one name (``gate0``, ``gate1``, …) share a panel, all others have their own.
    """
    curves = read_losses(log)
    panels = panels_of(curves)
    if not panels:
        return None
    plt = _pyplot()
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.4 * columns, 2.4 * rows), layout="constrained", squeeze=False
    )
    for axis, (name, labels) in zip(axes.flat, panels.items(), strict=False):
        for label in labels:
            points = curves[label]
            axis.plot(
                *zip(*points, strict=True), lw=1.2, label=label, marker="." if len(points) < 2 else None
            )
        axis.set_title(name, fontsize=10)
        axis.tick_params(labelsize=8)
        if len(labels) > 1:
            axis.legend(fontsize=7)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(f"{title} · means between log entries, against steps", fontsize=11)
    return _save(plt, figure, path)


def read_losses(log: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of every quantity of a log of JSON lines; empty where there is no log."""
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in map(json.loads, text.splitlines()):
        for name, value in line.items():
            if name not in ("step", "seconds"):
                curves.setdefault(name, []).append((line["step"], value))
    return curves


def panels_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Panels by title: several numbered quantities of one name share one, any other has its own.

    >>> panels_of(["gate0", "gate1", "l1", "validation"])
    {'gate': ['gate0', 'gate1'], 'l1': ['l1'], 'validation': ['validation']}
    """
    stems = {name: name.rstrip("0123456789") or name for name in names}
    shared = Counter(stems.values())
    panels: dict[str, list[str]] = {}
    for name, stem in stems.items():
        panels.setdefault(stem if shared[stem] > 1 else name, []).append(name)
    return panels


def spectra(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path, title: str = ""
) -> Path:
    """Power spectra on logarithmic axes. ``curves``: label -> (frequency in cycles per pixel, power)."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    domains = {"source": "black", "target": "tab:gray", "truth": "tab:olive"}
    rest = [label for label in curves if label not in domains]
    colours = (
        dict(zip(rest, plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(rest))), strict=True)) | domains
    )
    for label, (frequency, power) in curves.items():
        style = {"lw": 2.4, "ls": "--"} if label in domains else {"lw": 1.3}
        axis.plot(frequency, power, color=colours[label], label=label, **style)
    axis.set(xscale="log", yscale="log", xlabel="cycles per pixel (to half the sampling rate)")
    axis.set(ylabel="normalised power", title=title)
    lowest = min(f[0] for f, _ in curves.values())
    ticks = [f for f in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if f >= 0.8 * lowest]
    axis.set_xticks(ticks, [f"{f:g}" for f in ticks])
    axis.set_xticks([], minor=True)
    axis.grid(alpha=0.3, which="both", lw=0.4)
    figure.legend(fontsize=8, loc="outside right upper")
    return _save(plt, figure, path)


def quality_against_cost(
    points: Sequence[tuple[str, str, float, float]], path: Path, quality: str, cost: str, title: str = ""
) -> Path:
    """``points``: (label, group, cost, quality); cost on a logarithmic axis, a colour for each group."""
    plt = _pyplot()
    from matplotlib.ticker import LogLocator, NullLocator

    figure, axis = plt.subplots(figsize=(8.4, 5.2), layout="constrained")
    for group in dict.fromkeys(p[1] for p in points):
        chosen = [p for p in points if p[1] == group]
        axis.scatter([p[2] for p in chosen], [p[3] for p in chosen], s=28, label=group)
    axis.set(xscale="log", yscale="log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(NullLocator())
    axis.set(xlabel=cost, ylabel=quality, title=title)
    axis.grid(alpha=0.3, lw=0.4)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    _label_points(axis, points)
    return _save(plt, figure, path)


def bound_by_transport(
    line: Sequence[tuple[float, float]],
    points: Sequence[tuple[str, float, float]],
    floor: float | None,
    path: Path,
    title: str = "",
) -> Path:
    """``line``: (PSNR to the source in dB, least χ²), below which nothing lies; ``points``: (label, PSNR, χ²)."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(8.4, 5.2), layout="constrained")
    curve = sorted(line)
    axis.plot(
        *zip(*curve, strict=True), color="black", lw=1.6, label="least χ² of all that is so near the source"
    )
    axis.fill_between(*zip(*curve, strict=True), color="black", alpha=0.08, lw=0)
    if floor is not None:
        axis.axhline(floor, color="grey", lw=1, ls="--", label="target in the source's mix of zones")
    axis.scatter([p[1] for p in points], [p[2] for p in points], s=28)
    known = [p[1] for p in points] or [20.0, 30.0]
    axis.set_xlim(min(known) - 3, max(known) + 5)
    axis.set_ylim(0, 1.1 * max([p[2] for p in points] or [curve[-1][1]]))
    axis.set(
        xlabel="PSNR to the source, dB, of all images together",
        ylabel="χ² to the target, 31 bins",
        title=title,
    )
    axis.grid(alpha=0.3, lw=0.4)
    axis.legend(fontsize=8, loc="lower right")  # where no point can be
    _label_points(axis, [(label, "", x, y) for label, x, y in points])
    return _save(plt, figure, path)


def reflectances(
    spectra: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    regions: Mapping[str, Sequence[tuple[float, float, float]]],
    path: Path,
    title: str = "",
) -> Path:
    """Reference ``spectra``: label -> (nm, I/F); ``regions``: label -> (nm, mean I/F, its uncertainty or NaN) of
    each band."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(8, 4.8), layout="constrained")
    for (label, line), grey in zip(spectra.items(), np.linspace(0, 0.6, len(spectra)), strict=True):
        axis.plot(*line, color=str(grey), lw=1, label=label)
    colours = plt.get_cmap("turbo")(np.linspace(0.05, 0.95, len(regions)))
    for (label, points), colour in zip(regions.items(), colours, strict=True):
        at, value, error = np.array(points).T
        axis.errorbar(at, value, np.nan_to_num(error), fmt="o-", ms=4, lw=0.6, color=colour, label=label)
    bands = np.array([p for points in regions.values() for p in points])
    axis.set_xlim(bands[:, 0].min() - 60, bands[:, 0].max() + 60)
    axis.set_ylim(0, 1.15 * max(np.nanmax(bands[:, 1]), 0.1))
    axis.set(xlabel="wavelength, nm", ylabel="I/F", title=title)
    axis.grid(alpha=0.3, lw=0.4)
    figure.legend(fontsize=8, loc="outside right upper")
    return _save(plt, figure, path)


def residuals(
    bands: Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]], path: Path, title: str = ""
) -> Path:
    """A panel for each quantity (μ0, μ): band -> quantity -> (its value, mean relative residual, deviation)."""
    plt = _pyplot()
    names = list(next(iter(bands.values())))
    figure, axes = plt.subplots(
        1, len(names), figsize=(4.6 * len(names), 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    known = {"red": "tab:red", "green": "tab:green", "blue": "tab:blue"}
    for axis, name in zip(axes[0], names, strict=True):
        for band, lines in bands.items():
            if lines[name]:
                at, mean, spread = np.array(lines[name]).T
                axis.plot(at, mean, "o-", ms=3, color=known.get(band), label=band)
                axis.fill_between(at, mean - spread, mean + spread, alpha=0.12, lw=0, color=known.get(band))
        axis.axhline(0, color="black", lw=0.8)
        axis.set(xlabel=name)
        axis.grid(alpha=0.3, lw=0.4)
    axes[0, 0].set_ylabel("relative to the mean of its latitude")
    axes[0, 0].legend(fontsize=8)
    figure.suptitle(title)
    return _save(plt, figure, path)


def intervals(
    rows: Sequence[tuple[str, Mapping[str, tuple[float, float, float]]]],
    columns: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """A panel a column, a line a row: value with its interval. ``rows``: (label, column -> (value, low, high))."""
    plt = _pyplot()
    figure, axes = plt.subplots(
        1, len(columns), figsize=(2.2 + 3 * len(columns), 1.4 + 0.32 * len(rows)), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axis, column in zip(axes[0], columns, strict=True):
        for y, (_, cells) in enumerate(rows):
            if column in cells:
                value, low, high = cells[column]
                axis.plot([low, high], [y, y], color="tab:blue", lw=2)
                axis.plot([value], [y], "o", color="black", ms=4)
        axis.set(xlabel=column)
        axis.grid(alpha=0.3, lw=0.4)
    axes[0, 0].set_yticks(range(len(rows)), [label for label, _ in rows])
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    figure.suptitle(title)
    return _save(plt, figure, path)


def _label_points(axis: Any, points: Sequence[tuple[str, str, float, float]]) -> None:
    """Names beside their points, each at the first of some places where it covers no other name or point."""
    figure = axis.figure
    axis.margins(0.1)
    figure.canvas.draw()
    figure.set_layout_engine("none")  # from here on nothing moves
    taken = [
        (x - 3, y - 3, x + 3, y + 3) for x, y in axis.transData.transform([(p[2], p[3]) for p in points])
    ]
    turns = [(dx, step * sign) for step in range(0, 120, 6) for sign in (1, -1) for dx in (6, -6)]
    for label, _, cost, quality in sorted(points, key=lambda p: p[3]):
        x, y = axis.transData.transform((cost, quality))
        width, height = 5.3 * len(label), 10
        for dx, dy in turns:
            left = x + dx if dx > 0 else x + dx - width
            box = (left, y + dy - height / 2, left + width, y + dy + height / 2)
            if not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
                break
        taken.append(box)
        line = {"arrowstyle": "-", "lw": 0.4, "color": "grey"} if abs(dy) > 6 else None
        axis.annotate(
            label, (x, y), (box[0], box[1] + 2), xycoords="figure pixels", textcoords="figure pixels",
            fontsize=7, arrowprops=line,
        )  # fmt: skip


def _save(plt: Any, figure: Any, path: Path, dpi: int = 100) -> Path:
    with atomically(path) as part:
        figure.savefig(part, dpi=dpi, format=path.suffix[1:] or "png")
    plt.close(figure)
    return path


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
