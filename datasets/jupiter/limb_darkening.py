"""``bench data limb``: what brightness of a map still hangs on the Sun's and the camera's height."""

from __future__ import annotations

import csv
from pathlib import Path

import click
import torch
from torch import Tensor

from pansharp_bench.datasets.jupiter.spectra import JupiterMap, check_beside
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import atomically

BINS = 12
_STEP = 900  # rows that are enough


def exponents(brightness: Tensor, mu0: Tensor, mu: Tensor) -> tuple[float, float]:
    """a and b of I = A(latitude) μ0^a μ^b, by least squares of logarithms with a free A in every row.

    All (H, W), NaN where blank; a row is a latitude. Where a law that holds has been taken out both are 0; of
    Minnaert's taken out with a k that is too small by d both are d. NaN where the angles do not tell them apart.
    """
    good = _good(brightness, mu0, mu)
    x = torch.stack([_without_row_means(v.log(), good) for v in (mu0, mu, brightness)])[:, good]
    normal = x[:2] @ x[:2].T
    if not good.any() or torch.linalg.cond(normal) > 1e8:
        return float("nan"), float("nan")
    a, b = torch.linalg.solve(normal, x[:2] @ x[2]).tolist()
    return a, b


def profile(
    brightness: Tensor, mu0: Tensor, mu: Tensor, along: Tensor
) -> list[tuple[float, float, float, int]]:
    """Of bins of equal width of ``along`` (μ0 or μ): their mean of it, mean and standard deviation of the
    brightness relative to its latitude's mean, and pixels."""
    good = _good(brightness, mu0, mu)
    mean = torch.where(good, brightness, 0).sum(1, keepdim=True) / good.sum(1, keepdim=True)
    residual = (brightness / mean - 1)[good]
    at = along[good]
    index = (at * BINS).long().clamp(0, BINS - 1)
    rows = []
    for k in range(BINS):
        own = index == k
        if own.sum() >= 2:
            left = residual[own]
            rows.append((at[own].mean().item(), left.mean().item(), left.std().item(), int(own.sum())))
    return rows


def _good(*values: Tensor) -> Tensor:
    return torch.stack([v > 0 for v in values]).all(0)  # NaN is not


def _without_row_means(values: Tensor, good: Tensor) -> Tensor:
    values = torch.where(good, values, 0)
    return torch.where(good, values - values.sum(1, keepdim=True) / good.sum(1, keepdim=True).clamp_min(1), 0)


@click.command("limb")
@click.argument("source", type=click.Path(path_type=Path), metavar="MAP.tif")
@click.option("--geometry", type=click.Path(path_type=Path), metavar="FILE",
              help="The map's mu0 and mu.  [default: MAP-geometry.tif]")  # fmt: skip
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="CSV to write; a PNG goes beside it."
)
def command(source: Path, geometry: Path | None, out: Path) -> None:
    """Check whether a projected map still depends on the height of Sun and camera: residual against μ0 and μ.

    The map is one of `bench data project --geometry`, best of one image and without --flatten. Brightness is taken
    relative to the mean of its latitude; the remaining exponents of I ~ μ0^a μ^b are printed, 0 and 0 where the
    photometric law was right.

    \b
    bench data project JNCE_1-raw.png --kernels kernels/ --geometry --out one.tif
    bench data limb one.tif --out limb.csv
    """
    from pansharp_bench.figures import residuals

    check_beside(out, source)
    beside = geometry or source.with_name(f"{source.stem}-geometry.tif")
    if not beside.exists():
        raise BenchError(f"{beside} does not exist: project the map with --geometry")
    values, angles, bands = _read(source, beside)
    drawn, rows = {}, []
    for band, brightness in zip(bands, values, strict=True):
        a, b = exponents(brightness, *angles)
        click.echo(f"{band}: what is left is mu0^{a:+.3f} mu^{b:+.3f}")
        lines = {
            name: profile(brightness, angles[0], angles[1], angle)
            for name, angle in zip(("μ0", "μ"), angles, strict=True)
        }
        drawn[band] = {name: [line[:3] for line in own] for name, own in lines.items()}
        for key, own in zip(("mu0", "mu"), lines.values(), strict=True):
            rows += [[band, a, b, key, *line] for line in own]
    with atomically(out) as part, open(part, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "band",
                "left_mu0_exponent",
                "left_mu_exponent",
                "against",
                "at",
                "residual",
                "deviation",
                "pixels",
            ]
        )
        writer.writerows(rows)
    click.echo(out)
    click.echo(residuals(drawn, out.with_suffix(".png"), f"{source.name}: brightness that hangs on the view"))


def _read(source: Path, geometry: Path) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """(C, H, W) brightness and (2, H, W) μ0 and μ, of every so many pixels."""
    with JupiterMap(source) as own, JupiterMap(geometry) as other:
        if other.bands != ("mu0", "mu") or (own.file.shape, own.file.transform) != (
            other.file.shape, other.file.transform,
        ):  # fmt: skip
            raise DataError(f"{geometry}: found no mu0 and mu on the grid of {source}")
        step = max(1, own.file.height // _STEP)
        parts = []
        for row in range(0, own.file.height, step):
            line = slice(row, row + 1)
            parts.append(torch.cat([own.read(line)[0], other.read(line)[0]])[:, :, ::step])
        whole = torch.cat(parts, 1)
    return whole[:-2], whole[-2:], own.bands
