"""What `bench check` asks of my_metric.py, and what only its author knows."""

from pathlib import Path

import torch

from pansharp_bench.contract import check_plugin

FILE = Path(__file__).with_name("my_metric.py")


def test_it_keeps_to_what_is_asked():
    assert [f"{found.asked}: {found.problem}" for found in check_plugin(FILE) if found.problem] == []


def test_nothing_is_lost_where_images_are_equal_and_a_constant_is_itself():
    from pansharp_bench.registry import METRICS

    metric, image = METRICS.get("my-metric").obj, torch.rand(2, 4, 64, 64) * 2047
    assert metric(image, image).tolist() == [0, 0]
    three = torch.full((2,), 3.0, dtype=torch.float64)
    torch.testing.assert_close(metric(image + 3, image), three, atol=1e-3, rtol=0)
