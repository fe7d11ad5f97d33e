"""Little planets for tests, and the real imagery where it is at hand (never required)."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pansharp_bench.datasets.jupiter.maps import GlobalMap

REAL = Path(os.environ.get("PANSHARP_JUPITER") or Path(__file__).parents[3] / "shared" / "data" / "jupiter")
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="no real imagery of Jupiter: set PANSHARP_JUPITER to its folder"
)


def field(latitude: torch.Tensor, west: torch.Tensor) -> torch.Tensor:
    """(3, ...) a smooth planet, 0..1, of planetographic latitude and west longitude in degrees."""
    a, b = torch.deg2rad(latitude), torch.deg2rad(west)
    waves = 6 * a, 9 * a, a
    return torch.stack(
        [
            0.5 + 0.3 * torch.sin(waves[0]) * torch.cos(5 * b),
            0.5 + 0.2 * torch.cos(waves[1]) + 0 * b,
            0.5 + 0.4 * torch.cos(waves[2]) * torch.sin(7 * b),
        ]
    )


def planet(height: int = 180, latitude: str = "planetocentric", west_left: float = 180.0) -> GlobalMap:
    """The smooth planet as a map."""
    empty = GlobalMap(torch.zeros(1, height, 2 * height), latitude, west_left)
    west = west_left - (torch.arange(2 * height) + 0.5) * empty.degrees_per_pixel
    values = field(empty.latitudes()[:, None], west.double()[None])
    return GlobalMap(values.float(), latitude, west_left)


def save_png(path: Path, values: np.ndarray | torch.Tensor) -> Path:
    """(3, H, W) 0..1 as 8-bit RGB; NaN becomes black."""
    array = np.nan_to_num(np.asarray(values)).transpose(1, 2, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((array * 255).round().astype(np.uint8)).save(path)
    return path
