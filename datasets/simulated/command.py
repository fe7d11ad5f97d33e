"""``bench data simulate-scene``: a scene of a simulated sensor as GeoTIFFs, with the truth beside it."""

from __future__ import annotations

from pathlib import Path

import click

from pansharp_bench.finite import Finite

KINDS = ("suburb", "dense", "centre", "industry", "slabs", "farmland", "river", "hills", "campus", "arid")
CRS, CORNER = "EPSG:32633", (500_000.0, 5_000_000.0)


def _command(sensor: str) -> click.Command:
    @click.command(sensor, short_help="A simulated scene as GeoTIFFs: pan, ms and truth.")
    @click.option(
        "--out",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Folder for pan.tif, ms.tif and truth.tif.",
    )
    @click.option(
        "--size", type=click.IntRange(64, 2048), default=512, show_default=True, help="PAN pixels a side."
    )
    @click.option(
        "--kind", type=click.Choice(KINDS), default="suburb", show_default=True, help="Of landscape."
    )
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
    @click.option(
        "--phase",
        type=Finite(),
        default=1.5,
        show_default=True,
        help="PAN row and column where MS pixel 0 is centred: 1.5 is a common corner.",
    )
    @click.option(
        "--misregister", is_flag=True, help="MS lies off that place, as far as with the real sensor."
    )
    def scene(out: Path, size: int, kind: str, seed: int, phase: float, misregister: bool) -> None:
        """Simulate a scene and write it as GeoTIFFs: pan.tif, ms.tif, and truth.tif, which an ideal camera would
        have taken on PAN's grid. The place on the ground is invented, too."""
        write_scene(sensor, out, size, kind, seed, phase, misregister)
        for name in ("pan", "ms", "truth"):
            click.echo(out / f"{name}.tif")

    return scene  # fmt: skip


def write_scene(
    sensor: str, out: Path, size: int, kind: str, seed: int, phase: float, misregister: bool = False
) -> None:
    """pan.tif, ms.tif and truth.tif of a simulated scene; equal arguments give equal pixels.

    Raises BenchError where the size is no multiple of the ratio, MS pixel 0 would be centred beside its own PAN
    pixels, or the folder cannot be written.
    """
    import numpy as np
    from rasterio import Affine

    from pansharp_bench.datasets.simulated.acquire import RATIO, Optics, acquire
    from pansharp_bench.datasets.simulated.spectra import CAMERAS
    from pansharp_bench.errors import BenchError
    from pansharp_bench.files import check_writable
    from pansharp_bench.raster import geotiff
    from pansharp_bench.scene import as_sensor

    if size % RATIO:
        raise BenchError(f"--size {size} is no multiple of {RATIO}")
    if not -1 < phase < RATIO:
        raise BenchError(f"--phase {phase:g} is no number above -1 and below the ratio {RATIO}")
    check_writable(out)
    camera = as_sensor(sensor)
    optics = Optics(sensor, camera.peak, camera.mtf, camera.mtf_pan)
    rng = np.random.default_rng(seed)
    got = acquire(optics, rng, size, kind, phase, truth=True, registered=not misregister)
    assert got.truth is not None
    pixel = CAMERAS[sensor].gsd
    off = pixel * (phase - (RATIO - 1) / 2)
    for name, values, step, start, bands, dtype in (
        ("pan", got.pan, pixel, 0.0, ("pan",), "uint16"),
        ("ms", got.ms, RATIO * pixel, off, camera.bands, "uint16"),
        ("truth", got.truth, pixel, 0.0, camera.bands, "float32"),
    ):
        place = Affine(step, 0, CORNER[0] + start, 0, -step, CORNER[1] - start)
        size_of = (values.shape[1], values.shape[2])
        with geotiff(out / f"{name}.tif", size_of, bands, crs=CRS, transform=place, dtype=dtype) as file:
            file.update_tags(SIMULATED=f"{sensor}-sim, {kind}, seed {seed}")
            file.write(values.astype(dtype))


qb, gf2, wv3 = (_command(sensor) for sensor in ("qb", "gf2", "wv3"))
