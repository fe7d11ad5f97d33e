"""Fusing scenes beside GDAL's and Orfeo's pansharpening: quality against a known truth, speed and memory.

    python benchmarks/scenes.py [--weights fusionnet.safetensors] [--out results/speed/scenes.json]

Prints Markdown tables. Quality is the mean over simulated scenes (``--size``, one a ``--kind``); time and memory
are those of one command, start of the program included, on the first of them, repeated by mirroring (``--times``).
All write uint16 without compression, in one thread. Peers that are not installed (Debian: gdal-bin, python3-gdal,
otb-bin) are left out, and so is fusionnet without weights (``bench run --method fusionnet --dataset qb-sim``).
"""

import json
import os
import platform
import shutil
import subprocess
import tempfile
import warnings
from pathlib import Path

import click
import numpy as np
import rasterio
from tabulate import tabulate

import pansharp_bench as pb
from pansharp_bench.assess import assess_files
from pansharp_bench.datasets.simulated.command import write_scene
from pansharp_bench.environment import processor
from pansharp_bench.workloads import fusing, mirrored, spent

SENSOR = "qb"
OURS = ("exp", "brovey", "gsa", "mtf-glp-fs", "bdsd-pc", "fusionnet")
ORFEO = ("rcs", "lmvm", "bayes")
INDICES = ("ERGAS", "SAM", "Q2n", "HQNR")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "GDAL_NUM_THREADS": "1"}


def commands(folder: Path, out: Path, weights: Path | None) -> dict[str, list[str]]:
    """By name, what fuses pan.tif and ms.tif of a folder into ``out``; of what is installed."""
    pan, ms = str(folder / "pan.tif"), str(folder / "ms.tif")
    found = {}
    for name in OURS:
        if name != "fusionnet" or weights:
            learnt = ["--weights", str(weights)] if name == "fusionnet" else []
            found[name] = [*fusing(name, SENSOR, folder, out), *learnt]
    if gdal := shutil.which("gdal_pansharpen.py"):
        plain = [gdal, "-q", "-co", "TILED=YES", pan, ms, str(out)]
        fitted = [option for w in fitted_weights(folder) for option in ("-w", f"{w:.6f}")]
        found |= {"GDAL, equal weights": plain, "GDAL, fitted weights": [plain[0], *fitted, *plain[1:]]}
    if orfeo := shutil.which("otbcli_BundleToPerfectSensor"):
        for name in ORFEO:
            found[f"Orfeo, {name.upper()}"] = [
                orfeo, "-inp", pan, "-inxs", ms, "-out", f"{out}?&gdal:co:TILED=YES", "uint16", "-method", name
            ]  # fmt: skip
    return found


def fitted_weights(folder: Path) -> np.ndarray:
    """Of the bands in PAN, by least squares on PAN's means over MS pixels."""
    with rasterio.open(folder / "pan.tif") as pan, rasterio.open(folder / "ms.tif") as ms:
        bands = ms.read().reshape(ms.count, -1).astype(float)
        ratio = pan.height // ms.height
        means = pan.read(1).astype(float).reshape(ms.height, ratio, ms.width, ratio).mean((1, 3))
    return np.linalg.lstsq(bands.T, means.ravel(), rcond=None)[0]


def quality(folder: Path, fused: Path) -> dict[str, float]:
    with rasterio.open(fused, "r+") as file:
        file.nodata = None  # Orfeo's zeros are dark pixels
    files = (folder / "pan.tif", folder / "ms.tif")
    found = assess_files(fused, *files, sensor=SENSOR, reference=folder / "truth.tif")
    return {name: value for name, value in {**found.full, **found.truth}.items() if name in INDICES}


def conditions() -> dict[str, object]:
    peers = {"GDAL": ["gdalinfo", "--version"], "Orfeo": ["dpkg-query", "-W", "-f=${Version}", "otb-bin"]}
    told = {
        name: subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        for name, command in peers.items()
        if shutil.which(command[0])
    }
    return {
        "cpu": processor(), "cores": os.cpu_count(), "load": os.getloadavg()[0],
        "python": platform.python_version(), "pansharp-bench": pb.__version__, **told,
    }  # fmt: skip


@click.command(help=__doc__.partition("\n")[0])
@click.option("--size", default=1024, show_default=True, help="PAN pixels a side of a simulated scene.")
@click.option("--kind", "kinds", multiple=True, default=("suburb", "centre", "farmland"), show_default=True)
@click.option(
    "--times", default=4, show_default=True, help="How often the timed scene repeats the first, a side."
)
@click.option("--weights", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="Of fusionnet.")
@click.option("--memory", multiple=True, type=int, help="Also time gsa and mtf-glp-fs at this many times.")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Where scenes are made, and kept."
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write all as JSON.")
def main(
    size: int, kinds: tuple[str, ...], times: int, weights: Path | None, memory: tuple[int, ...],
    folder: Path | None, out: Path | None,
) -> None:  # fmt: skip
    warnings.simplefilter("ignore")
    stated, figures, growth = conditions(), [], []
    with tempfile.TemporaryDirectory() as temporary:
        root = folder or Path(temporary)
        fused = root / "fused.tif"
        scenes = [root / f"{kind}-{size}" for kind in kinds]
        for seed, (kind, scene) in enumerate(zip(kinds, scenes, strict=True)):
            if not (scene / "truth.tif").exists():
                write_scene(SENSOR, scene, size, kind, seed, 1.5)
        repeated = root / f"repeated-{times}"
        mirrored(scenes[0], repeated, times)
        megapixels = (times * size) ** 2 / 1e6
        for name in commands(scenes[0], fused, weights):
            scores = []
            for scene in scenes:
                spent(commands(scene, fused, weights)[name], **ONE_THREAD)
                scores.append(quality(scene, fused))
            taken = vars(spent(commands(repeated, fused, weights)[name], **ONE_THREAD))
            mean = {index: float(np.mean([s[index] for s in scores])) for index in INDICES}
            figures.append({"name": name, **mean, "megapixels": megapixels, **taken})
            click.echo(f"{name}: {figures[-1]}", err=True)
        for count in memory:
            large = root / f"repeated-{count}"
            mirrored(scenes[0], large, count)
            for name in ("gsa", "mtf-glp-fs"):
                side = count * size
                taken = vars(spent(commands(large, fused, weights)[name], **ONE_THREAD))
                growth.append({"name": name, "side": side, **taken})
    print(", ".join(f"{k}: {v}" for k, v in stated.items()), end="\n\n")
    rows = [
        [
            f["name"],
            *(f"{f[i]:.{3 if i in ('ERGAS', 'SAM') else 4}f}" for i in INDICES),
            *speed(f, f["megapixels"]),
        ]
        for f in figures
    ]
    print(tabulate(rows, ["", *INDICES, *SPEED], tablefmt="github", disable_numparse=True))
    if growth:
        rows = [[f["name"], f["side"], *speed(f, f["side"] ** 2 / 1e6)] for f in growth]
        print("\n" + tabulate(rows, ["", "side", *SPEED], tablefmt="github", disable_numparse=True))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        record = {"conditions": stated, "figures": figures, "growth": growth}
        out.write_text(json.dumps(record, indent=1) + "\n")


SPEED = ("MP/s", "MP per processor second", "MiB")


def speed(figure: dict, megapixels: float) -> list[str]:
    rates = (megapixels / figure["seconds"], megapixels / figure["processor_seconds"])
    return [*(f"{rate:.2f}" for rate in rates), f"{figure['mib']:.0f}"]


if __name__ == "__main__":
    main()
