"""How tables and a DataFrame grow with the records: what `bench speed` times of 1,000, of as many as are asked for.

    python benchmarks/records.py [--records 1000 --records 10000] [--folder DIR] [--out FILE]

Records are made from those of results/, and kept in DIR; a folder's second turn reads them from the cache.
"""

import json
import os
import platform
import tempfile
from pathlib import Path

import click

from pansharp_bench.workloads import on_records, spent, synthesise

ROOT = Path(__file__).resolve().parents[1]


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
                synthesise(ROOT / "results", root, count)
            for name, command in on_records(root, Path(temporary) / f"boards-{count}").items():
                found.append({"records": count, "what": name, **vars(spent(command))})
                row = "{records:>7} {what:13} {seconds:6.1f} s, processor {processor_seconds:6.1f} s, {mib:6.0f}"
                click.echo(f"{row} MiB".format(**found[-1]))
    if out:
        machine = {
            "processor": platform.processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        out.write_text(json.dumps({"conditions": machine, "figures": found}) + "\n")


if __name__ == "__main__":
    main()
