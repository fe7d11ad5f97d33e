"""Tiny files in PanCollection's form, made on the spot."""

from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F

from pansharp_bench.imaging import interp23, mtf_filter
from pansharp_bench.scene import as_sensor


def landscape(n: int, bands: int, size: int, seed: int = 0) -> torch.Tensor:
    """(n, bands, size, size) integer DN with structure at several scales, bands alike but not equal."""
    g = torch.Generator().manual_seed(seed)
    image = torch.zeros(n, bands, size, size)
    for cells in (4, 8, 16, size // 2):
        shared = torch.randn(n, 1, cells, cells, generator=g)
        own = torch.randn(n, bands, cells, cells, generator=g) * 0.3
        image += F.interpolate(shared + own, size=(size, size), mode="bicubic", align_corners=False)
    return (400 + 60 * image).round().clamp(0, 2047)


def samples(sensor: str = "qb", n: int = 3, size: int = 64, seed: int = 0, phase: tuple[int, int] = (2, 2)):
    """A dict of arrays as the reduced-resolution recipe makes them."""
    camera = as_sensor(sensor)
    gt = landscape(n, camera.channels, size, seed)
    ms = mtf_filter(gt, camera)[..., phase[0] :: 4, phase[1] :: 4]
    return {"gt": gt, "ms": ms, "lms": interp23(ms), "pan": gt.mean(1, keepdim=True)}


def noise(sensor: str = "qb", n: int = 2, size: int = 16, full: bool = False, seed: int = 0):
    """A dict of arrays of the right shapes; what is in them does not matter."""
    g, c = np.random.default_rng(seed), as_sensor(sensor).channels
    shapes = {"gt": (n, c, size, size), "lms": (n, c, size, size), "ms": (n, c, size // 4, size // 4)}
    shapes["pan"] = (n, 1, size, size)
    if full:
        del shapes["gt"]
    return {k: g.integers(1, 2000, s).astype(np.float64) for k, s in shapes.items()}


def write(path: Path, arrays, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, value in arrays.items():
            values = value if isinstance(value, np.ndarray) else value.double().numpy()
            file.create_dataset(key, data=values, **options)
    return path


def write_set(folder: Path, sensor: str = "qb", n: int = 4, test_size: int = 64) -> Path:
    """A whole sound dataset: train, valid, reduced and full, of different ground."""
    write(folder / f"train_{sensor}.h5", samples(sensor, n, 64, 1))
    write(folder / f"valid_{sensor}.h5", samples(sensor, 2, 64, 2))
    write(folder / f"test_{sensor}_multiExm1.h5", samples(sensor, 1, test_size, 3))
    raw = samples(sensor, 1, test_size, 4)
    del raw["gt"]
    write(folder / f"test_{sensor}_OrigScale_multiExm1.h5", raw)
    return folder
