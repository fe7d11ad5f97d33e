"""Simulated scenes whose place on the ground is known, in memory and as GeoTIFFs."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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


# -- files that are not what they seem --


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def other_system(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.crs = "EPSG:32634"


def no_value(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.nodata = 9
        file.write(np.full((file.count, *file.shape), 9, "uint16"))


def no_scale(path: Path) -> None:
    with rasterio.open(path, "r+") as file:
        file.scales = (0.0,) * file.count


def colours(path: Path) -> None:
    write(path, torch.zeros(1, 256, 256), 0.6, dtype="uint8", photometric="palette")


def one_pixel(path: Path) -> None:
    write(
        path,
        torch.full((1 if path.name == "pan.tif" else 4, 1, 1), 100),
        0.6 if path.name == "pan.tif" else 2.4,
    )


def huge(path: Path) -> None:
    """A small file that declares terabytes."""
    count, pixel = (1, 0.6) if path.name == "pan.tif" else (4, 2.4)
    side = 800_000 if count == 1 else 200_000
    transform = from_origin(*CORNER, pixel, pixel)
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=count, dtype="uint16", crs="EPSG:32633",
        transform=transform, SPARSE_OK=True, BIGTIFF="YES", tiled=True, blockxsize=4096, blockysize=4096,
    ):  # fmt: skip
        pass


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process grows beyond this many bytes."""
    import resource

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
