"""Simulated scenes whose place on the ground is known, in memory and as GeoTIFFs."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from pansharp_bench.datasets.simulated.acquire import Optics, acquire
from pansharp_bench.scene import as_sensor

CORNER = (500000.0, 5000000.0)
CRS = "EPSG:32633"


@cache
def simulated(
    centre: float = 1.5, seed: int = 0, size: int = 256, kind: str = "suburb", sensor: str = "qb"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """pan (1, H, W), ms (C, H/4, W/4) and the truth (C, H, W), float64; MS pixel 0 lies on PAN at ``centre``."""
    camera = as_sensor(sensor)
    optics = Optics(sensor, camera.peak, camera.mtf, camera.mtf_pan)
    got = acquire(optics, np.random.default_rng(seed), size, kind, centre, truth=True, registered=True)
    assert got.truth is not None
    return tuple(torch.from_numpy(x.astype(float)) for x in (got.pan, got.ms, got.truth))  # type: ignore[return-value]


def write(
    path: Path,
    values: torch.Tensor | np.ndarray,
    pixel: float,
    shift: tuple[float, float] = (0.0, 0.0),
    dtype: str = "uint16",
    **profile: Any,
) -> Path:
    """A GeoTIFF whose corner lies ``shift`` metres east and south of CORNER."""
    values = np.asarray(values)
    place: Mapping[str, Any] = {
        "crs": CRS,
        "transform": from_origin(CORNER[0] + shift[0], CORNER[1] - shift[1], pixel, pixel),
    }
    names = profile.pop("names", None)
    with rasterio.open(
        path, "w", driver="GTiff", height=values.shape[1], width=values.shape[2], count=len(values), dtype=dtype,
        **{**place, **profile},
    ) as out:  # fmt: skip
        out.write(values.round().astype(dtype) if np.dtype(dtype).kind in "ui" else values.astype(dtype))
        if names:
            out.descriptions = names
    return path


def write_pair(
    folder: Path, centre: float = 1.5, seed: int = 0, size: int = 256, **more: Any
) -> tuple[Path, Path]:
    """pan.tif and ms.tif of a simulated scene, whose transforms tell the truth."""
    pan, ms, _ = simulated(centre, seed, size)
    metres = 0.6 * (centre - 1.5)
    return (
        write(folder / "pan.tif", pan, 0.6, **more),
        write(folder / "ms.tif", ms, 2.4, (metres, metres), **more),
    )
