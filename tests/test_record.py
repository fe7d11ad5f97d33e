"""Records: strict JSON, atomic, refused when they exist, readable after a kill at any moment."""

import json
import math
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from records import make

from pansharp_bench import record
from pansharp_bench.errors import BenchError, RecordExists
from pansharp_bench.record import Record, summarise
from pansharp_bench.workloads import templates


def test_round_trip_with_nan_and_infinity(tmp_path):
    path = record.write(make(SAM=[1.5, math.nan, 2.0], PSNR=[math.inf, 30.0, -math.inf]), tmp_path)
    text = path.read_text()
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not strict JSON"))
    back = record.read(path)
    scores = back.scores("reduced", "SAM")
    assert scores[0] == 1.5 and math.isnan(scores[1])
    assert back.scores("reduced", "PSNR") == [math.inf, 30.0, -math.inf]
    assert back.protocols["reduced"]["missing"] == {"SAM": [1]}
    assert math.isnan(back.protocols["reduced"]["mean"]["SAM"])


def test_summary_is_mean_and_sample_deviation():
    summary = summarise({"SAM": [1.0, 2.0, 4.0]})
    assert summary["mean"]["SAM"] == pytest.approx(7 / 3)
    assert summary["std"]["SAM"] == pytest.approx(1.5275252316519465)  # divided by N-1
    assert summary["images"] == 3 and summary["missing"] == {}
    assert math.isnan(summarise({"SAM": [1.0]})["std"]["SAM"])
    assert math.isnan(summarise({"SAM": []})["mean"]["SAM"])


def test_an_existing_record_is_refused_and_kept(tmp_path):
    path = record.write(make(SAM=[1.0]), tmp_path)
    before = path.read_bytes()
    with pytest.raises(RecordExists, match="--force"):
        record.write(make(SAM=[2.0]), tmp_path)
    assert path.read_bytes() == before
    record.write(make(SAM=[2.0]), tmp_path, force=True)
    assert record.read(path).scores("reduced", "SAM") == [2.0]


def test_two_writers_at_once_cannot_both_win(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "refuse_existing", lambda path: None)  # both looked before either wrote
    path = record.write(make(SAM=[1.0]), tmp_path)
    with pytest.raises(RecordExists, match="--force"):
        record.write(make(SAM=[2.0]), tmp_path)
    assert record.read(path).scores("reduced", "SAM") == [1.0]
    assert list(path.parent.iterdir()) == [path]


def test_numbers_of_other_libraries_are_written(tmp_path):
    import numpy as np
    import torch

    made = replace(make(), training={"a": np.float32(1.5), "b": torch.tensor([1, 2]), "c": np.arange(2)})
    training = record.read(record.write(made, tmp_path)).training
    assert [training[k] for k in "abc"] == [1.5, [1, 2], [0, 1]]


def test_records_of_the_first_schema_are_read_as_those_of_today():
    """Those that are committed: whatever the kind of method, what its training tells has one shape."""
    seen = set()
    for path, found in record.read_all(Path(__file__).resolve().parents[1] / "results"):
        assert isinstance(found, Record), found
        assert found.schema == record.SCHEMA
        assert json.loads(path.read_text())["weights"].items() <= found.weights.items()
        if found.training:
            assert set(found.training) == {"data", "seconds", "summary", "fitted", "devices", "nodes"}
            assert not found.training["summary"] or found.training["summary"]["steps"] > 0
        stepped = bool(found.training.get("summary"))
        seen.add((found.method["training"], stepped))
    assert seen >= {("none", False), ("unpaired", False), ("unpaired", True), ("paired", True)}


def test_the_path_tells_what_it_is(tmp_path):
    path = record.write(make(seed=7), tmp_path)
    assert path.relative_to(tmp_path).parts[:3] == ("pansharpening", "tiny", "exp")
    assert path.name.startswith("untrained-s7-")


def of(files: dict[str, str], **provenance: object) -> dict:
    return {
        "files": [{"split": s, "sha256": digest} for s, digest in files.items()],
        "provenance": provenance,
    }


def test_files_apart_are_named_with_the_reason_where_it_is_known():
    known = [of({"full": "a", "reduced": "b"}, version=1, seed=0), of({"full": "c"}, version=1, seed=0)]
    assert record.apart(of({"full": "a", "reduced": "b"}, version=1, seed=0), known) == ""
    assert record.apart(of({"full": "c", "train": "x"}), known) == ""  # nobody else has files for training
    assert record.apart(of({"full": "x"}, version=1, seed=0), []) == ""
    other = record.apart(of({"full": "x", "reduced": "b"}, version=1, seed=0), known)
    assert other == "full (other files of the same name)"
    assert record.apart(of({"full": "x"}, version=2, seed=0), known) == "full (version 2, not 1)"
    both = record.apart(of({"full": "x", "reduced": "y"}, version=2, seed=3), known)
    assert both == "full, reduced (version 2, not 1; seed 3, not 0)"


def test_the_others_of_a_dataset_are_told_oldest_first(tmp_path):
    found = [replace(make(seed), created=f"2026-01-0{day}") for seed, day in ((0, 3), (1, 2), (2, 1))]
    found.append(replace(found[0], spec=found[0].spec | {"dataset": "another"}))
    for one in found:
        record.write(one, tmp_path)
    assert record.of_dataset(tmp_path, found[1]) == [found[2], found[0]]


def test_hash_ignores_order_and_notices_values():
    assert record.spec_hash({"a": 1, "b": 2}) == record.spec_hash({"b": 2, "a": 1})
    assert record.spec_hash({"a": 1}) != record.spec_hash({"a": 2})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": 99}', "\x00\x01"])
def test_unreadable_records_are_named_not_fatal(tmp_path, text):
    good = record.write(make(), tmp_path)
    bad = good.with_name("bad.json")
    bad.write_text(text)
    found = dict(record.read_all(tmp_path))
    assert isinstance(found[good], Record)
    assert isinstance(found[bad], BenchError) and "bad.json" in str(found[bad])


@pytest.mark.parametrize(
    ("before", "after"), [('"reference"', '"pan+ms"'), ("3.25", "1.25"), ('"seed": 0', '"seed": 1')]
)
def test_a_record_that_was_changed_by_hand_is_none(tmp_path, before, after):
    made = make(SAM=[3.25, 1.0])
    path = record.write(replace(made, method={**made.method, "sees": "reference"}), tmp_path)
    text = path.read_text()
    path.write_text(text.replace("\n", "\r\n"))  # as git may check it out
    assert record.read(path).scores("reduced", "SAM") == [3.25, 1.0]
    path.write_text(text.replace(before, after))
    with pytest.raises(BenchError, match=f"{path} is not as it was written"):
        record.read(path)
    with pytest.warns(UserWarning, match=f"left out: {path}"):
        assert not list(record.readable([path], aloud=True))


def test_of_an_older_record_a_changed_score_is_noticed(tmp_path):
    path = record.write(make(SAM=[3.25, 1.0], PSNR=[math.inf, 30.0], ERGAS=[math.nan, 2.0]), tmp_path)
    first, seal, *rest = path.read_text().splitlines()
    assert "sha256" in seal
    path.write_text("\n".join([first, *rest]))
    assert isinstance(record.read(path), Record)
    path.write_text("\n".join([first, *rest]).replace("3.25", "1.25"))
    with pytest.raises(BenchError, match="SAM of protocol reduced has a mean that is not of its scores"):
        record.read(path)


def test_what_was_read_is_kept_until_its_file_is_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "cache"))
    root, parsed = tmp_path / "results", []
    read = record.read
    monkeypatch.setattr(record, "read", lambda path: parsed.append(path) or read(path))

    def scores():
        return {r.spec["seed"]: r.scores("reduced", "SAM") for _, r in record.read_all(root)}

    first, second = (record.write(make(seed=seed, SAM=[math.inf, seed]), root) for seed in (1, 2))
    assert scores() == scores() == {1: [math.inf, 1], 2: [math.inf, 2]}
    assert parsed == [first, second]
    record.write(make(seed=2, SAM=[5.0]), root, force=True)
    third = record.write(make(seed=3, SAM=[3.0]), root)
    first.unlink()
    assert scores() == scores() == {2: [5.0], 3: [3.0]}
    assert parsed == [first, second, second, third]
    (cache,) = (tmp_path / "cache" / "records").iterdir()
    kept = cache.read_bytes()
    for damaged in (kept[:50], b"", kept.replace(struct.pack("<d", 3.0), struct.pack("<d", 4.0))):
        cache.write_bytes(damaged)
        assert scores() == {2: [5.0], 3: [3.0]}
    third.write_text("{")
    assert isinstance(dict(record.read_all(root))[third], BenchError)


WRITER = """
import sys
from pathlib import Path
from pansharp_bench import record
sys.path.insert(0, sys.argv[2])
from records import make
root = Path(sys.argv[1])
big = [float(i) for i in range(20000)]
record.write(make(SAM=big), root)
print("ready", flush=True)
while True:
    record.write(make(SAM=big), root, force=True)
"""


def test_what_a_killed_process_left_half_written_is_no_record(tmp_path):
    path = record.write(make(SAM=[1.0]), tmp_path)
    left = path.with_name(f".{path.stem}.123-abcdef.json")  # whole, but for its name
    left.write_bytes(path.read_bytes())
    assert (
        [p for p, _ in record.read_all(tmp_path)] == [p for p, _ in record.readable([left, path])] == [path]
    )
    assert templates(tmp_path) == [path]


@pytest.mark.parametrize("delay", [0.0, 0.013, 0.031, 0.057])
def test_sigkill_while_writing_leaves_a_whole_record(tmp_path, delay):
    support = os.path.join(os.path.dirname(__file__), "support")
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), support], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = [item for _, item in record.read_all(tmp_path)]
    assert len(found) == 1
    assert isinstance(found[0], Record)
    assert len(found[0].scores("reduced", "SAM")) == 20000


def test_a_full_disk_leaves_the_old_record(tmp_path, monkeypatch):
    path = record.write(make(SAM=[1.0]), tmp_path)

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(BenchError, match="No space left on device; make room"):
        record.write(make(SAM=[2.0]), tmp_path, force=True)
    monkeypatch.undo()
    assert record.read(path).scores("reduced", "SAM") == [1.0]
    assert list(path.parent.iterdir()) == [path]
