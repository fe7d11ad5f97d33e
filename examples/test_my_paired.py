"""What `bench check` asks of my_paired.py, and what only its author knows."""

from pathlib import Path

import torch

import pansharp_bench as pb
from pansharp_bench.contract import check_plugin

FILE = Path(__file__).with_name("my_paired.py")


def test_it_keeps_to_what_is_asked():
    assert [f"{found.asked}: {found.problem}" for found in check_plugin(FILE) if found.problem] == []


def test_a_fresh_one_is_close_to_what_it_starts_from():
    from pansharp_bench.scene import as_sensor

    method = pb.get_method("my-paired")(as_sensor("qb"))
    assert sum(p.numel() for p in method.parameters()) < 100_000
    assert {"quick", "standard", "paper"} == set(method.presets)
    assert torch.isfinite(torch.cat([p.flatten() for p in method.parameters()])).all()
