"""How many segments a second are cut from a map: the projection and sampling of ``bench data build junocam2hst``.

    python benchmarks/segments.py [--pixels 256] [--width 9000] [--threads 1 --threads 2] [--seconds 10]

A map of the size of the paper's mosaics is sampled at the centres of all zones at nside 32, in as many threads as
the builder would use. Wall time counts all of the work on segments; the second figure is by processor time, which
a busy machine disturbs less. With ``--store`` the pieces are written to disk as well.
"""

import os
import platform
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import torch

from pansharp_bench.datasets.junocam2hst.store import Writer
from pansharp_bench.datasets.jupiter.ellipsoid import SEGMENT_KM, Centres, centres
from pansharp_bench.datasets.jupiter.maps import GlobalMap
from pansharp_bench.datasets.jupiter.segments import Cutter
from pansharp_bench.datasets.jupiter.zones import ZONES

CHUNK = 64


def measure(
    cutter: Cutter, where: Centres, threads: int, seconds: float, writer: Writer | None
) -> tuple[int, float, float]:
    """Segments cut, wall and processor seconds."""
    starts = [(i * 37 * CHUNK) % (len(where) - CHUNK) for i in range(10_000)]  # all latitudes, mixed

    def piece(number: int) -> int:
        part = slice(starts[number], starts[number] + CHUNK)
        images, kept = cutter(where.latitude[part], where.longitude[part])
        if writer:
            rows = kept.numpy()
            writer.append(
                "train", images, where.zone[part][rows], where.latitude[part][rows],
                where.longitude[part][rows], perijove=16, piece=f"{number % 8}",
            )  # fmt: skip
        return len(images)

    done, number = 0, 0
    with ThreadPoolExecutor(threads) as pool:
        wall, cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - wall < seconds:
            done += sum(pool.map(piece, range(number, number + 2 * threads)))
            number += 2 * threads
        return done, time.perf_counter() - wall, time.process_time() - cpu


@click.command()
@click.option("--pixels", default=256, show_default=True)
@click.option("--width", default=9000, show_default=True, help="Pixels of the map round the planet.")
@click.option("--threads", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--seconds", default=10.0, show_default=True)
@click.option("--store", is_flag=True, help="Write the segments too.")
def main(pixels: int, width: int, threads: tuple[int, ...], seconds: float, store: bool) -> None:
    torch.set_num_threads(1)
    values = torch.rand(3, width // 2, width, generator=torch.Generator().manual_seed(0))
    began = time.perf_counter()
    cutter = Cutter(GlobalMap(values), pixels)
    click.echo(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    )
    click.echo(f"map {width}x{width // 2} made ready in {time.perf_counter() - began:.1f} s (once a map)")
    where = centres(32)
    with tempfile.TemporaryDirectory() as folder:
        for count in threads:
            zones = tuple(ZONES)
            writer = (
                Writer(Path(folder) / "a.h5", ("r", "g", "b"), zones, SEGMENT_KM / pixels, SEGMENT_KM, {})
                if store
                else None
            )
            measure(cutter, where, count, 1, writer)
            done, wall, cpu = measure(cutter, where, count, seconds, writer)
            click.echo(
                f"{count} thread(s): {done / wall:6.0f} segments of {pixels}x{pixels} a second, "
                f"{done / cpu:6.0f} a processor second"
            )


if __name__ == "__main__":
    main()
