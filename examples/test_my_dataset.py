"""What `bench check` asks of my_dataset.py, and what only its author knows."""

from pathlib import Path

import pansharp_bench as pb
from pansharp_bench.contract import check_plugin

FILE = Path(__file__).with_name("my_dataset.py")


def test_it_keeps_to_what_is_asked():
    assert [f"{found.asked}: {found.problem}" for found in check_plugin(FILE) if found.problem] == []


def test_its_scenes_are_as_many_as_it_says():
    dataset = pb.load_dataset("my-dataset")
    assert {name: len(dataset.split(name)) for name in dataset.available()} == {
        "train": 16,
        "valid": 4,
        "reduced": 6,
        "full": 6,
    }
