"""What threads and writing do to the cutting of segments, which `bench speed` times by itself.

    python benchmarks/segments.py [--pixels 256] [--width 9000] [--threads 1 --threads 2] [--seconds 10]

A map of the size of the paper's mosaics is sampled at the centres of all zones at nside 32, in as many threads as
the builder would use. Wall time counts all of the work on segments; the second figure is by processor time, which
a busy machine disturbs less. With ``--store`` the pieces are written to disk as well.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import torch
from torch import Tensor

from pansharp_bench.datasets.junocam2hst.store import Writer
from pansharp_bench.datasets.jupiter.ellipsoid import SEGMENT_KM, Centres
from pansharp_bench.datasets.jupiter.pieces import pieces
from pansharp_bench.datasets.jupiter.zones import ZONES


def measure(
    cut: Callable[[int], tuple[Tensor, Centres]], threads: int, seconds: float, writer: Writer | None
) -> tuple[int, float, float]:
    """Segments cut, wall and processor seconds."""

    def piece(number: int) -> int:
        images, where = cut(number)
        if writer:
            place = where.zone, where.latitude, where.longitude
            writer.append("train", images, *place, perijove=16, piece=f"{number % 8}")
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
    began = time.perf_counter()
    cut = pieces(pixels, width)
    click.echo(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
    )
    click.echo(f"map {width}x{width // 2} made ready in {time.perf_counter() - began:.1f} s (once a map)")
    with tempfile.TemporaryDirectory() as folder:
        for count in threads:
            zones = tuple(ZONES)
            writer = (
                Writer(Path(folder) / "a.h5", ("r", "g", "b"), zones, SEGMENT_KM / pixels, SEGMENT_KM, {})
                if store
                else None
            )
            measure(cut, count, 1, writer)
            done, wall, cpu = measure(cut, count, seconds, writer)
            click.echo(
                f"{count} thread(s): {done / wall:6.0f} segments of {pixels}x{pixels} a second, "
                f"{done / cpu:6.0f} a processor second"
            )


if __name__ == "__main__":
    main()
