"""What the splits of a calibration data set hold, counted, and what may be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.datasets.junocam2hst._paper import SEGMENTS
from pansharp_bench.datasets.junocam2hst.store import Store
from pansharp_bench.datasets.jupiter.ellipsoid import centres
from pansharp_bench.datasets.jupiter.segments import BLANK_LIMIT, SegmentSplit
from pansharp_bench.datasets.jupiter.zones import ZONES
from pansharp_bench.errors import DataError
from pansharp_bench.scene import Dataset, Split

_LOOK = 256  # segments whose pixels are looked at
TITLES = {"train": "JunoCam, for training", "target": "Hubble, the target", "test": "JunoCam, held out"}


def describe(split: SegmentSplit) -> dict[str, Any]:
    """JSON-able: ``samples``, ``size``, ``arrays``, and ``tables`` (title, headers, rows) of counts by zone and
    perijove or cycle, and of the values of at most 256 evenly spread segments."""
    looked = _spread(split)
    images = {k: torch.cat([split.read(k, i) for i in looked]) for k in split.keys}
    arrays = {
        k: {
            "shape": [len(split), *x.shape[1:]],
            "dtype": split.stored_as,
            "min": x.min().item(),
            "max": x.max().item(),
        }
        for k, x in images.items()
    }
    return {
        "samples": len(split),
        "arrays": arrays,
        "tables": [_counts(split), _values(split, images, len(looked))],
    }


def inspect(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Findings (level, text): what is missing, held out badly, labelled wrongly, blank or of another size."""
    if store := getattr(dataset, "store", None):
        if "made_by" in store.provenance and "builder_version" not in store.provenance:
            yield "warning", "built before fill was told from cloud on Hubble's maps; build it again"
        for text in blank_zones(store):
            yield "note", text
    splits: dict[str, Any] = {}
    for name in dataset.available():
        try:
            splits[name] = dataset.split(name)
        except DataError as error:
            yield "error", str(error)
    if "train" in splits and "test" in splits:
        both = set(splits["train"].column("perijove").tolist()) & set(
            splits["test"].column("perijove").tolist()
        )
        if both:
            yield "error", f"perijove {', '.join(map(str, sorted(both)))} is in train and in test"
        else:
            yield "ok", "no perijove is in train and in test"
    if "train" in splits and "target" in splits:
        zones = {n: set(s.column("zone").tolist()) for n, s in splits.items()}
        lacking = [splits["train"].zones[z] for z in sorted(zones["train"] - zones["target"])]
        if lacking:
            yield "error", f"zone {', '.join(lacking)} has JunoCam segments but none of Hubble"
        else:
            yield "ok", "every zone of train has segments in target"
    sizes = set()
    for label, split in splits.items():
        yield from _misplaced(split)
        try:
            images = torch.cat([split.read("pan", i) for i in _spread(split)])
        except DataError as error:
            yield "error", f"{label}: {error}"
            continue
        sizes.add(tuple(images.shape[-2:]))
        blank = ((images == 0).all(1).flatten(1).sum(1) > BLANK_LIMIT).sum().item()
        if blank:
            text = f"{blank} of {len(images)} segments looked at have more than {BLANK_LIMIT} blank pixels"
            yield "warning", f"{label}: {text}"
        if label in SEGMENTS and dataset.name == "junocam2hst" and len(split) != SEGMENTS[label]:
            yield "note", f"{label}: {len(split)} segments; the paper has {SEGMENTS[label]}"
    if len(sizes) > 1:
        yield "error", f"the splits differ in size: {', '.join(f'{h}x{w}' for h, w in sorted(sizes))}"


def blank_zones(store: Store) -> Iterator[str]:
    """What each of Hubble's maps lacks, by zone: the share that is blank, and the segments lost to it."""
    if not store.blank:
        return
    zone, cycle, rotation = (store.column("target", name) for name in ("zone", "cycle", "rotation"))
    held = [f"cycle {c} {'AB'[r]}" for c, r in zip(cycle, rotation, strict=True)]
    all_of = np.bincount(centres(store.provenance["recipe"]["nside_hst"], store.zones).zone)
    for name, shares in store.blank.items():
        kept = np.bincount(zone[np.array(held) == name], minlength=len(all_of))
        lacking = [
            f"{z} {shares[z]:.2%} blank, {lost} of {n} segments lost"
            for z, n, lost in zip(store.zones, all_of, all_of - kept, strict=True)
            if shares[z] or lost
        ]
        if lacking:
            yield f"{name}: {'; '.join(lacking)}"


def _misplaced(split: SegmentSplit) -> Iterator[tuple[str, str]]:
    latitude, zone = split.column("latitude"), split.column("zone")
    if latitude is None or zone is None:
        yield "note", f"{split.name}: no latitudes and longitudes are known, so no mosaic can be made"
        return
    if unknown := int(np.isnan(latitude).sum()):
        text = f"the metadata tell no centre of {unknown} of {len(split)} segments, so no mosaic can be made"
        yield "warning", f"{split.name}: {text}"
    bounds = np.array([ZONES.get(z, (-90, 90)) for z in split.zones])
    slack = 0.26  # the release rounds its latitudes to a table of quarter degrees
    outside = (latitude < bounds[zone, 0] - slack) | (latitude > bounds[zone, 1] + slack)
    if outside.any():
        first = int(np.argmax(outside))
        yield (
            "error",
            f"{split.name}: {outside.sum()} segments lie outside the zone they are labelled with, the first is "
            f"sample {first}, {split.zones[zone[first]]} at latitude {latitude[first]:.2f}",
        )
    elif not unknown:
        yield "ok", f"{split.name}: every segment lies in its zone"


def _spread(split: Split) -> list[int]:
    n = len(split)
    return np.unique(np.linspace(0, n - 1, min(n, _LOOK)).round().astype(int)).tolist()


def _counts(split: Any) -> dict[str, Any]:
    zone = split.column("zone")
    if (cycle := split.column("cycle")) is not None:
        labels = [f"{c} {'AB'[r]}" for c, r in zip(cycle, split.column("rotation"), strict=True)]
        what = "cycle"
    else:
        labels, what = [f"PJ{p}" for p in split.column("perijove")], "perijove"
    names, column = np.unique(np.array(labels), return_inverse=True)
    table = np.zeros((len(split.zones), len(names)), int)
    np.add.at(table, (zone, column), 1)
    rows = [[z, *map(int, t), int(t.sum())] for z, t in zip(split.zones, table, strict=True)]
    rows.append(["all", *map(int, table.sum(0)), int(table.sum())])
    return {
        "title": f"segments by zone and {what}",
        "headers": ["zone", *names.tolist(), "all"],
        "rows": rows,
    }


def _values(split: Split, images: dict[str, Tensor], n: int) -> dict[str, Any]:
    rows = []
    for key, x in images.items():
        flat = x.transpose(0, 1).flatten(1)
        names = split.sensor.source if key == "pan" else split.sensor.bands
        for band, values in zip(names, flat, strict=True):
            rows.append([key, band, f"{values.mean():.4f}", f"{values.std():.4f}"])
    return {
        "title": f"values of {n} of the segments",
        "headers": ["key", "band", "mean", "std"],
        "rows": rows,
    }
