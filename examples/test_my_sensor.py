"""What `bench check` asks of my_sensor.py, and what only its author knows."""

from pathlib import Path

import pansharp_bench as pb
from pansharp_bench.contract import check_plugin

FILE = Path(__file__).with_name("my_sensor.py")


def test_it_keeps_to_what_is_asked():
    assert [f"{found.asked}: {found.problem}" for found in check_plugin(FILE) if found.problem] == []


def test_scenes_of_it_are_fused():
    import torch

    pan, ms = torch.rand(1, 1, 64, 64) * 900 + 100, torch.rand(1, 4, 16, 16) * 900 + 100
    assert pb.fuse("exp", pan, ms, sensor="my-sensor").shape == (1, 4, 64, 64)
