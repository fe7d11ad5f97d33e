"""How long tables and a DataFrame take from many records, and how that grows.

    python benchmarks/records.py [--records 1000 --records 10000] [--folder DIR] [--out FILE]

The records are made from those of results/: five seeds of each, then of further methods on the same datasets;
scores differ a little. Each measurement is a process of its own, and memory its largest.
"""

import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from pansharp_bench.record import SCHEMA, canonical, record_path, spec_hash

ROOT = Path(__file__).resolve().parents[1]
SEEDS = 5
WORK = {
    "load_results": "import pansharp_bench as pb; print(len(pb.load_results({root!r})))",
    "leaderboard": "from pansharp_bench.cli import main; "
    "main(['leaderboard', '--results', {root!r}, '--out', {out!r}], standalone_mode=False)",
}


def synthesise(root: Path, count: int) -> None:
    """So many records under a folder."""
    templates = [json.loads(p.read_text()) for p in sorted((ROOT / "results").glob("*/*/*/*.json"))]
    templates = [t for t in templates if t["schema"] == SCHEMA]
    draw = random.Random(0)
    for i in range(count):
        made = json.loads(json.dumps(templates[i % len(templates)]))
        turn, seed = divmod(i // len(templates), SEEDS)
        spec = made["spec"]
        spec["seed"] = seed
        if turn:
            spec["method"] = made["method"]["name"] = f"{spec['method']}-{turn}"
            made["method"]["title"] = f"{made['method']['title']} {turn}"
        for scored in made["protocols"].values():
            for column, values in scored["scores"].items():
                scored["scores"][column] = [
                    v if isinstance(v, str) else v * draw.uniform(0.99, 1.01) for v in values
                ]
        made["spec_sha256"] = spec_hash(spec)
        path = record_path(root, spec, made["spec_sha256"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made))


def measure(code: str) -> dict[str, float]:
    """Wall and processor seconds, and MiB, of a program."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    peak = "import resource, sys; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{peak}"],
        check=True,
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall = time.perf_counter() - started
    return {"wall": wall, "processor": processor, "mib": int(done.stderr.splitlines()[-1]) / 1024}


@click.command()
@click.option("--records", "counts", multiple=True, type=int, default=(1000, 10_000), show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the records are made, and kept.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON with conditions and figures.")
def main(counts: tuple[int, ...], folder: Path | None, out: Path | None) -> None:
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for count in counts:
            root = (folder or Path(temporary)) / str(count)
            if not root.exists():
                synthesise(root, count)
            for name, code in WORK.items():
                told = code.format(root=str(root), out=str(Path(temporary) / f"boards-{count}"))
                found.append({"records": count, "what": name, **measure(told)})
                row = "{records:>7} {what:13} {wall:6.1f} s, processor {processor:6.1f} s, {mib:6.0f} MiB"
                click.echo(row.format(**found[-1]))
    if out:
        machine = {
            "processor": platform.processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        out.write_text(canonical({"conditions": machine, "figures": found}) + "\n")


if __name__ == "__main__":
    main()
