"""Pictures: true colour, PAN, error maps, curves. matplotlib is loaded on first use, without a display."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.files import atomically
from pansharp_bench.scene import Scene, Sensor

LOW, HIGH = 1.0, 99.0  # percentiles of the display stretch


def stretch_limits(image: Tensor) -> tuple[Tensor, Tensor]:
    """Per-channel display limits of a (C, H, W) image: its 1st and 99th percentile."""
    flat = image.double().flatten(1)
    low = torch.quantile(flat, LOW / 100, dim=1)
    high = torch.quantile(flat, HIGH / 100, dim=1)
    spread = (high - low).max().clamp_min(torch.finfo(torch.float32).tiny)
    return low, torch.maximum(high, low + 1e-3 * spread)  # a flat band is shown flat, not as noise


def display(image: Tensor, limits: tuple[Tensor, Tensor]) -> np.ndarray:
    """A (C, H, W) image as H,W,C (H,W for one channel) in [0, 1] under these limits."""
    low, high = (x[:, None, None] for x in limits)
    shown = ((image.double() - low) / (high - low)).clamp(0, 1)
    return (shown[0] if shown.shape[0] == 1 else shown.permute(1, 2, 0)).numpy()


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
    plt = _pyplot()
    sensor = scene.sensor
    fused = fused[0].cpu()
    base = next(x for x in (scene.gt, scene.lms, scene.pan) if x is not None)[0]
    limits = stretch_limits(rgb_bands(base, sensor) if len(base) == sensor.channels else fused)
    seen = rgb_bands(scene.pan[0], sensor) if sensor.source_bands > 1 else scene.pan[0]
    panels = [(source, display(seen, limits if sensor.source == sensor.bands else stretch_limits(seen)))]
    if scene.ms is not None:
        panels.append(("MS", display(rgb_bands(scene.ms[0], sensor), limits)))
    panels.append(("fused" if scene.ms is not None else "output", display(rgb_bands(fused, sensor), limits)))
    if scene.gt is not None:
        panels.append(("reference", display(rgb_bands(scene.gt[0], sensor), limits)))
    count = len(panels) + (scene.gt is not None)
    figure, axes = plt.subplots(1, count, figsize=(3.1 * count, 3.6), layout="constrained", squeeze=False)
    axes = axes[0]
    for axis, (name, picture) in zip(axes, panels, strict=False):
        axis.imshow(
            picture, cmap="gray" if picture.ndim == 2 else None, interpolation="nearest", vmin=0, vmax=1
        )
        axis.set_title(name, fontsize=10)
    if scene.gt is not None:
        error = (fused.double() - scene.gt[0].double()).abs().mean(0).numpy()
        top = max(float(np.nanpercentile(error, HIGH)), 1e-6)
        shown = axes[-1].imshow(error, cmap="magma", vmin=0, vmax=top, interpolation="nearest")
        axes[-1].set_title("mean |error| over bands", fontsize=10)
        figure.colorbar(shown, ax=axes[-1], shrink=0.8)
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(title, fontsize=11)
    return _save(plt, figure, path)


def training_curves(log: Path, path: Path, title: str = "") -> Path | None:
    """Losses against steps from a log of JSON lines; None where the log holds none.

    Numbered quantities of one name (``gate0``, ``gate1``, …) share a panel, all others have their own.
    """
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in ("step", "seconds"):
                panel = panels.setdefault(name.rstrip("0123456789") or name, {})
                panel.setdefault(name, []).append((line["step"], value))
    if not panels:
        return None
    plt = _pyplot()
    columns = min(len(panels), 4)
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.4 * columns, 2.4 * rows), layout="constrained", squeeze=False
    )
    for axis, (name, curves) in zip(axes.flat, panels.items(), strict=False):
        for label, points in curves.items():
            axis.plot(
                *zip(*points, strict=True), lw=1.2, label=label, marker="." if len(points) < 2 else None
            )
        axis.set_title(name, fontsize=10)
        axis.tick_params(labelsize=8)
        if len(curves) > 1:
            axis.legend(fontsize=7)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(f"{title} · means between log entries, against steps", fontsize=11)
    return _save(plt, figure, path)


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


def _save(plt: Any, figure: Any, path: Path) -> Path:
    with atomically(path) as part:
        figure.savefig(part, dpi=100)
    plt.close(figure)
    return path


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
