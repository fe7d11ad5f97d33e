"""How long every metric takes: milliseconds per image by size, on 1 and 2 threads and on CUDA where there is one.

    python benchmarks/metrics.py [--threads 1 --threads 2] [--repeat 15] [--out metrics.json]

Prints a Markdown table. The first figure of a cell is the median wall time; on the CPU the second is the median
CPU time of the process, which a busy machine disturbs less. Last come two whole tasks: the reduced-resolution
set on twenty 256 x 256 x 4 images, and HQNR of one 512 x 512 x 4 image.
"""

import inspect
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import torch
from tabulate import tabulate

from pansharp_bench.imaging import interp23
from pansharp_bench.registry import METRICS

SIZES = ((256, 4), (256, 8), (512, 4))
REDUCED_SET = ("ergas", "sam", "scc", "q_avg", "q2n", "psnr", "ssim")


def images(n: int, side: int, bands: int, device: str) -> dict:
    """Float32 DN under the names that metrics ask for."""
    generator = torch.Generator().manual_seed(0)
    ms = 200 + 1500 * torch.rand(n, bands, side // 4, side // 4, generator=generator)
    lms = interp23(ms)
    reference = lms + 50 * torch.randn(lms.shape, generator=generator)
    fused = reference + 50 * torch.randn(lms.shape, generator=generator)
    named = {"fused": fused, "reference": reference, "ms": ms, "lms": lms, "pan": reference.mean(1, True)}
    sensor = {4: "qb", 8: "wv3"}[bands]
    return {k: v.to(device) for k, v in named.items()} | {"sensor": sensor, "ratio": 4, "peak": 2047.0}


def call(name: str, named: dict) -> Callable[[], object]:
    function = METRICS.get(name).obj
    wanted = inspect.signature(function).parameters
    arguments = {k: v for k, v in named.items() if k in wanted}
    return lambda: function(**arguments)


def measure(work: Callable[[], object], repeat: int, cuda: bool) -> dict[str, float]:
    """Median wall and CPU milliseconds, after two runs that do not count."""
    wall, cpu = [], []
    for _ in range(2 + repeat):
        clocks = time.perf_counter(), time.process_time()
        work()
        if cuda:
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - clocks[0])
        cpu.append(time.process_time() - clocks[1])
    return {"wall_target": 1e3 * statistics.median(wall[2:]), "cpu_ms": 1e3 * statistics.median(cpu[2:])}


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def conditions(repeat: int) -> dict:
    return {
        "cpu": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0], "repeat": repeat,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__, "python": platform.python_version(), "dtype of images": "float32",
    }  # fmt: skip


@click.command(help=__doc__.partition("\n")[0])
@click.option("--threads", type=int, multiple=True, default=(1, 2), show_default=True)
@click.option("--repeat", default=15, show_default=True, help="Runs that the median is taken of.")
@click.option("--side", type=int, help="Of all images, instead of those of the tables.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write figures and conditions as JSON."
)
def main(threads: tuple[int, ...], repeat: int, side: int | None, out: Path | None) -> None:
    settings = [(f"{n} thread{'s' if n > 1 else ''}", n, "cpu") for n in threads]
    if torch.cuda.is_available():
        settings.append(("CUDA", max(threads), "cuda"))
    names = [*METRICS.names(protocol="reduced"), *METRICS.names(protocol="full")]
    stated = conditions(repeat)
    figures = []
    for setting, count, device in settings:
        torch.set_num_threads(count)

        def note(task: str, size: str, work: Callable[[], object], setting=setting, device=device) -> None:
            taken = measure(work, repeat, device == "cuda")
            figures.append({"task": task, "size": size, "setting": setting, **taken})

        for usual, bands in SIZES:
            size = side or usual
            named = images(1, size, bands, device)
            for name in names:
                note(name, f"{size} x {size} x {bands}", call(name, named))
        size = side or 256
        twenty = images(20, size, 4, device)
        work = [call(name, twenty) for name in REDUCED_SET]
        note("reduced set, 20 images", f"{size} x {size} x 4", lambda work=work: [w() for w in work])
        size = side or 512
        note("hqnr, 1 image", f"{size} x {size} x 4", call("hqnr", images(1, size, 4, device)))

    cells = {(f["task"], f["size"], f["setting"]): f for f in figures}
    rows = [
        [task, size, *(cell(cells[task, size, s], device) for s, _, device in settings)]
        for task, size in dict.fromkeys((f["task"], f["size"]) for f in figures)
    ]
    print(", ".join(f"{k}: {v}" for k, v in stated.items()), end="\n\n")
    print(tabulate(rows, ["metric", "size", *(s for s, _, _ in settings)], tablefmt="github"))
    print("\nms; wall / CPU time, medians")
    if out:
        out.write_text(json.dumps({"conditions": stated, "figures": figures}, indent=1) + "\n")


def cell(figure: dict, device: str) -> str:
    wall = f"{figure['wall_target']:.2f}"
    return wall if device == "cuda" else f"{wall} / {figure['cpu_ms']:.2f}"


if __name__ == "__main__":
    main()
