"""The least that is a record."""

from pansharp_bench import record
from pansharp_bench.record import Record, summarise


def make(seed: int = 0, **scores: list[float]) -> Record:
    spec = {
        "track": "pansharpening",
        "dataset": "tiny",
        "method": "exp",
        "preset": "untrained",
        "options": {},
        "changed": [],
        "seed": seed,
        "weights": {},
    }
    return Record(
        schema=record.SCHEMA,
        created="2026-01-01T00:00:00+00:00",
        spec=spec,
        spec_sha256=record.spec_hash(spec),
        method={"name": "exp", "title": "EXP", "sees": "pan+ms", "training": "none"},
        dataset={
            "name": "tiny",
            "sensor": "qb",
            "channels": 4,
            "files": [],
            "test_fingerprint": {},
            "provenance": {},
        },
        protocols={"reduced": summarise(scores or {"SAM": [1.0]})},
    )
