"""Where the reference implementations' outputs lie, and how to read them.

``PANSHARP_GOLDEN`` names a folder with subfolders ``metrics``, ``unpaired``, ``paired``; the default is the
committed copies beside the tests. Real imagery for local tests is looked up in ``PANSHARP_DATA``, or in
``shared/data`` beside the checkout; tests that need it skip, saying so, where it is absent.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

TESTS = Path(__file__).resolve().parents[1]
GOLDEN = Path(os.environ.get("PANSHARP_GOLDEN") or TESTS / "golden")


def nchw(array: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """An H,W[,C] array as a (1, C, H, W) tensor."""
    return torch.as_tensor(array).to(dtype).reshape(*array.shape[:2], -1).permute(2, 0, 1)[None].contiguous()


def real_data(*parts: str) -> Path:
    """A path below the folder of real PanCollection-format imagery; skips the test where it is absent."""
    beside = TESTS.parents[1] / "shared" / "data" / "pancollection-mini"
    path = Path(os.environ.get("PANSHARP_DATA") or beside).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real imagery is not here ({path}); set PANSHARP_DATA to test with it")
    return path


def real_weights(*parts: str) -> Path:
    """A path below the folder of authors' released weights; skips the test where it is absent."""
    beside = TESTS.parents[1] / "shared" / "data" / "weights"
    path = Path(os.environ.get("PANSHARP_WEIGHTS") or beside).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"released weights are not here ({path}); set PANSHARP_WEIGHTS to test with them")
    return path
