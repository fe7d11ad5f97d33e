"""What `bench check` asks of my_method.py, and what only its author knows."""

from pathlib import Path

import torch

import pansharp_bench as pb
from pansharp_bench.contract import check_plugin

FILE = Path(__file__).with_name("my_method.py")


def test_it_keeps_to_what_is_asked():
    assert [f"{found.asked}: {found.problem}" for found in check_plugin(FILE) if found.problem] == []


def test_a_flat_scene_stays_flat():
    pan, ms = torch.full((1, 1, 64, 64), 500.0), torch.full((1, 4, 16, 16), 300.0)
    fused = pb.fuse("my-method", pan, ms, sensor="qb")
    torch.testing.assert_close(fused, torch.full((1, 4, 64, 64), 300.0), rtol=5e-3, atol=0)
