"""``bench data project``: raw JunoCam images to one cylindrical map."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from pansharp_bench.datasets.jupiter.junocam import blend
from pansharp_bench.datasets.jupiter.junocam.camera import JunoCam
from pansharp_bench.datasets.jupiter.junocam.geometry import (
    Poses,
    Spice,
    angle,
    frame_times,
    poses,
    trajectory_shift,
)
from pansharp_bench.datasets.jupiter.junocam.limb import Limb, LimbFit, find_limb, fit_jitter, fit_spin
from pansharp_bench.datasets.jupiter.junocam.project import (
    CylindricalGrid,
    Photometry,
    Projector,
    mid_time_points,
    project,
    registration,
    through_plane,
)  # fmt: skip
from pansharp_bench.datasets.jupiter.junocam.raw import (
    Label,
    calibrate,
    find_label,
    read_bad_pixels,
    read_flat,
    read_image,
)  # fmt: skip
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.files import atomically
from pansharp_bench.finite import Finite, FiniteRange
from pansharp_bench.raster import check_name

RESIDUAL = 0.5  # pixels: the median distance of a limb that is met is below
OFF_EARTH = 2.0  # degrees
_ORDER = ("red", "green", "blue", "methane")


@dataclass
class LocatedImage:
    """One image on its way to the map; :func:`locate` finds what is not given."""

    path: Path
    label_path: Path
    label: Label
    limb: Limb
    times: np.ndarray
    spice: Spice
    fit: LimbFit = field(init=False)
    poses: Poses = field(init=False)
    middle: Poses = field(init=False)  # the pose when the camera faced the planet
    off_earth: float | None = None  # degrees between a fitted spin axis and the Earth's direction


class Calibration:
    """Reads an image and calibrates it, with the flat field and bad pixels given (or none)."""

    def __init__(self, flat: Path | None, bad: Path | None) -> None:
        self.flat, self.bad = flat, bad

    def __call__(self, path: Path, label: Path) -> tuple[Label, np.ndarray]:
        image = read_image(path, label)
        bands = image.label.bands
        flat = read_flat(self.flat, bands) if self.flat else None
        bad = read_bad_pixels(self.bad, bands) if self.bad else None
        return image.label, calibrate(image, flat, bad)


def locate(
    paths: Sequence[Path],
    labels: Sequence[Path],
    spice: Spice,
    camera: JunoCam,
    read: Calibration,
    shift: float | None = None,
) -> list[LocatedImage]:
    """Read all images and find where the camera was and looked in each.

    With C kernels the limb gives the jitter of the start time; without, the spin, fitted to all images of a
    perijove together. ``shift`` (seconds) moves the trajectory; None moves it to agree with the label where
    that is more than 0.2 s away, as with predicted trajectories.
    """
    frames = []
    for path, label_path in zip(paths, labels, strict=True):
        label, values = read(path, label_path)
        own = trajectory_shift(spice, label) if shift is None else shift
        moved = spice.moved(own if shift is not None or abs(own) > 0.2 else 0.0)
        try:
            limb = find_limb(values, label.bands, camera)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        times = frame_times(label, spice.time(label.start_utc), camera)
        frames.append(LocatedImage(path, label_path, label, limb, times, moved))
    without = []
    for frame in frames:
        if frame.spice.covers(frame.times):
            frame.fit = fit_jitter(frame.limb, frame.spice, frame.spice, frame.times, spice.radii())
        else:
            without.append(frame)
    for perijove in sorted({f.label.perijove or -1 for f in without}):
        group = [f for f in without if (f.label.perijove or -1) == perijove]
        earth = spice.spin_axis(float(group[0].times[0]))
        try:
            fits = fit_spin(
                [f.limb for f in group],
                [f.spice.states(f.times) for f in group],
                [f.times for f in group],
                earth,
                np.array(camera.mount),
                spice.radii(),
            )
        except DataError as error:
            names = ", ".join(f.path.name for f in group)
            raise DataError(f"{names}: {error}; a C kernel (*.bc) in {spice.folder} would give it") from error
        for frame, fit in zip(group, fits, strict=True):
            frame.fit = fit
            if fit.spin is not None:
                frame.off_earth = angle(earth, (fit.spin.ra, fit.spin.dec))
    for frame in frames:
        attitude = frame.fit.spin or frame.spice
        times = frame.times + frame.fit.jitter
        frame.poses = poses(frame.spice, attitude, times)
        seen = (frame.limb.frame.min() + frame.limb.frame.max()) / 2
        frame.middle = poses(frame.spice, attitude, np.interp([seen], np.arange(len(times)), times))
    return frames


def check_registration(projector: Projector, frame: LocatedImage) -> dict[str, float]:
    """Median length, in raw pixels, of the local shifts of each band against green, in the mid-time plane."""
    seen = projector.look(mid_time_points(frame.middle, projector.camera, 1800, radii=projector.radii))
    green = projector.bands.index("green")
    shifts = {}
    for index, band in enumerate(projector.bands):
        if index != green:
            found = registration(seen[index], seen[green])[0]
            shifts[f"{band}-green"] = float(found.norm(dim=1).median()) if len(found) else float("nan")
    return shifts


@click.command("project")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--label", "--metadata", "labels", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
              help="Label of an image, in the images' order.  [default: found beside it]")  # fmt: skip
@click.option("--kernels", required=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Folder of SPICE kernels.")  # fmt: skip
@click.option("--flat", type=click.Path(path_type=Path), metavar="FILE", help="Flat field, one frame.")
@click.option("--bad-pixels", type=click.Path(path_type=Path), metavar="FILE",
              help="Bad-pixel mask, one frame, 0 where bad.")  # fmt: skip
@click.option("--pixels-per-degree", type=FiniteRange(min=0.1, max=200), default=25.0, show_default=True)
@click.option("--latitude", type=click.Choice(["planetocentric", "planetographic"]), default="planetocentric",
              show_default=True)  # fmt: skip
@click.option("--photometry", type=click.Choice(["minnaert", "lommel-seeliger", "none"]), default="minnaert",
              show_default=True, help="Law whose shading is taken out.")  # fmt: skip
@click.option("--minnaert-k", type=FiniteRange(0, 2), default=0.95, show_default=True)
@click.option("--max-incidence", type=FiniteRange(0, 90), default=86.0, show_default=True, help="Degrees.")
@click.option("--max-emission", type=FiniteRange(0, 90), default=82.0, show_default=True, help="Degrees.")
@click.option("--balance/--no-balance", default=True, show_default=True,
              help="Scale each band to the same bright end (raw blue is dim), or all bands alike.")  # fmt: skip
@click.option("--flatten", is_flag=True, help="Divide by a Gaussian low pass of the luminance.")
@click.option("--sigma", type=FiniteRange(min=0.1), default=8.0, show_default=True,
              help="Its standard deviation, and that of the blending, in degrees of the map.")  # fmt: skip
@click.option("--trajectory-shift", type=Finite(), metavar="S",
              help="Move the trajectory by S seconds.  [default: until it agrees with the label]")  # fmt: skip
@click.option("--plane", is_flag=True,
              help="Go through the image plane of mid-time, as the paper does, and say what differs.")  # fmt: skip
@click.option("--geometry", is_flag=True,
              help="Also write OUT-geometry.tif: cosines of incidence and emission, mu0 and mu.")  # fmt: skip
@click.option("--check", is_flag=True, help="Measure and print the registration of the bands.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:N.")
@click.option("--out", required=True, type=click.Path(path_type=Path),
              help="GeoTIFF to write; a PNG goes beside it.")  # fmt: skip
def command(
    images: tuple[Path, ...],
    labels: tuple[Path, ...],
    kernels: Path,
    flat: Path | None,
    bad_pixels: Path | None,
    pixels_per_degree: float,
    latitude: Any,
    photometry: Any,
    minnaert_k: float,
    max_incidence: float,
    max_emission: float,
    balance: bool,
    flatten: bool,
    sigma: float,
    trajectory_shift: float | None,
    plane: bool,
    geometry: bool,
    check: bool,
    device: str,
    out: Path,
) -> None:
    """Project raw JunoCam images (PNG with metadata JSON, or PDS3 IMG with label) onto one cylindrical map.

    \b
    bench data project JNCE_*-raw.png --kernels kernels/ --flat flat.tiff --flatten --out pj44.tif
    """
    check_name(out)
    _try_device(device)
    if labels and len(labels) != len(images):
        raise BenchError(f"{len(labels)} --label for {len(images)} images: give one each, in order, or none")
    places = [path.resolve() for path in images]
    if twice := next((path for path in places if places.count(path) > 1), None):
        raise BenchError(f"{twice} is given twice, and would count twice where images overlap")
    found = list(labels) or [find_label(_present(path)) for path in images]
    read = Calibration(flat, bad_pixels)
    grid = CylindricalGrid(pixels_per_degree, latitude)
    law = Photometry(photometry, minnaert_k, max_incidence, max_emission)

    with Spice(kernels) as spice:
        camera, radii = spice.camera(), spice.radii()
        frames = locate(images, found, spice, camera, read, trajectory_shift)
    bands = frames[0].label.bands
    for frame in frames[1:]:
        if frame.label.bands != bands:
            raise DataError(
                f"{frame.path} has {', '.join(frame.label.bands)}, {frames[0].path} {', '.join(bands)}: images of "
                f"one map have the same filters"
            )
    for frame in frames:
        click.echo(_found(frame))
        if text := doubt(frame):
            click.echo(text, err=True)

    parts = out.with_name(f"{out.name}.parts")
    parts.mkdir(parents=True, exist_ok=True)
    try:
        maps, angles = [], []
        for frame in frames:
            name = frame.label.product
            stem = f"{name}-{_key(frame, grid, law, read)}"
            direct, planar, seen = (parts / f"{stem}{end}.npy" for end in ("", "-plane", "-geometry"))
            wanted = [direct, *([planar] if plane else []), *([seen] if geometry else [])]
            if check or not all(path.exists() for path in wanted):
                values = read(frame.path, frame.label_path)[1]
                projector = Projector(values, frame.poses, camera, bands, law, radii, device)
                if check:
                    shifts = check_registration(_unshaded(projector), frame).items()
                    click.echo(f"{name}: " + ", ".join(f"{k} {v:.2f} px" for k, v in shifts))
                if not direct.exists():
                    _project(projector, grid, direct, name, len(bands), projector.at)
                if geometry and not seen.exists():
                    _project(projector, grid, seen, f"{name}, angles", 2, projector.cosines)
                if plane and not planar.exists():
                    look = through_plane(projector, frame.middle)
                    _project(projector, grid, planar, f"{name}, plane", len(bands), look)
            maps.append(np.load(planar if plane else direct, mmap_mode="r"))
            if plane:
                click.echo(f"{name}: {apart(np.load(direct, mmap_mode='r'), maps[-1])}")
            if geometry:
                angles.append(np.load(seen, mmap_mode="r"))
        order = sorted(range(len(bands)), key=lambda i: _ORDER.index(bands[i]))
        names, blur = [bands[i] for i in order], sigma * pixels_per_degree
        _write(out, maps, order, names, grid, blur, balance, flatten, frames, law)
        if geometry:
            _write_angles(out.with_name(f"{out.stem}-geometry.tif"), angles, grid)
    except BaseException:
        if any(parts.iterdir()):
            click.echo(f"what is projected so far is kept in {parts} and used again", err=True)
        else:
            parts.rmdir()
        raise
    shutil.rmtree(parts)


def _try_device(name: str) -> None:
    import torch

    try:
        torch.zeros(1, device=name)
    except (AssertionError, RuntimeError) as error:
        raise BenchError(f"--device {name}: {str(error).splitlines()[0]}; use --device cpu") from error


def _present(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} does not exist")
    return path


def _unshaded(projector: Projector) -> Projector:
    """The same image without photometric correction: its noise is not blown up at the terminator."""
    other = copy.copy(projector)
    other.photometry = replace(projector.photometry, law="none", max_incidence=85.0, max_emission=80.0)
    return other


def _found(frame: LocatedImage) -> str:
    fit = frame.fit
    text = f"{frame.label.product}: limb {fit.median:.2f} px (median of {fit.used} points)"
    if fit.spin is not None:
        ra, dec = np.degrees([fit.spin.ra, fit.spin.dec])
        text += (
            f", attitude from the limb: spin {fit.spin.rate * 30 / np.pi:.4f} rpm about {ra:.2f}, {dec:.2f}"
        )
    else:
        text += f", jitter {1000 * fit.jitter:+.1f} ms"
    if frame.spice.shift:
        text += f", trajectory moved {frame.spice.shift:+.1f} s"
    return text


def doubt(frame: LocatedImage) -> str:
    """What speaks against an image's label: a limb that the fit misses; an axis off the Earth does not alone."""
    name, off = frame.label.product, frame.off_earth or 0.0
    axis = f"the spin axis is {off:.1f} degrees from the Earth, where it points in most passes"
    if frame.fit.median > RESIDUAL:
        return (
            f"warning: {name}: the predicted limb is {frame.fit.median:.2f} px from the one seen, {RESIDUAL:g} and "
            f"less are usual{f', and {axis}' if off > OFF_EARTH else ''}: filter and geometry disagree; look at "
            "FILTER_NAME, START_TIME, INTERFRAME_DELAY and whether the kernels are of this pass"
        )
    return f"note: {name}: {axis}; the limb is met" if off > OFF_EARTH else ""


def _key(frame: LocatedImage, grid: CylindricalGrid, law: Photometry, read: Calibration) -> str:
    """What a projected map depends on."""
    digest = hashlib.sha256(repr((grid, law, frame.label)).encode())
    for path in (frame.path, read.flat, read.bad):
        if path is not None:
            digest.update(Path(path).read_bytes())
    for array in (frame.poses.position, frame.poses.rotation, frame.poses.sun):
        digest.update(np.round(array, 9).tobytes())
    return digest.hexdigest()[:16]


def apart(direct: np.ndarray, planar: np.ndarray) -> str:
    """How a map that went through the plane of mid-time differs, in the first band of every so many pixels."""
    step = max(1, direct.shape[1] // 1800)
    a, b = (np.asarray(x[0, ::step, ::step], np.float64) for x in (direct, planar))
    known, both = np.isfinite(a), np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return "the plane of mid-time shows nothing of the map"
    rms = np.sqrt(np.mean((a - b)[both] ** 2)) / np.abs(a[both]).mean()
    return (
        f"the plane of mid-time differs by {rms:.2%} of the brightness (rms) and lacks "
        f"{1 - both.sum() / known.sum():.1%} of what the frames saw"
    )


def _write_angles(out: Path, angles: Sequence[np.ndarray], grid: CylindricalGrid) -> None:
    """μ0 and μ as a map beside the map; of several images their mean."""
    import torch

    from pansharp_bench.datasets.jupiter.mosaic import write_map

    def pieces() -> Iterator[tuple[int, Any]]:
        for part in blend.strips(grid.height):
            yield part.start, torch.from_numpy(np.stack([a[:, part] for a in angles])).nanmean(0)

    bands = ("mu0", "mu")
    for path in write_map(out, pieces(), grid.height, bands, grid.latitude, grid.west_left, shown=bands[:1]):
        click.echo(f"wrote {path}")


def _project(
    projector: Projector, grid: CylindricalGrid, path: Path, name: str, bands: int, look: Callable[[Any], Any]
) -> None:
    """``look``: (bands, n) of surface points (n, 3)."""
    from tqdm import tqdm

    shape = (bands, grid.height, grid.width)
    tiles = sum(1 for _ in grid.tiles())
    with atomically(path) as partial:
        array = np.lib.format.open_memmap(partial, "w+", np.float32, shape)
        with tqdm(total=tiles, desc=name, unit="tile", disable=not sys.stderr.isatty()) as bar:
            project(projector, grid, array, bar.update, look)
        array.flush()


def _write(
    out: Path,
    maps: Sequence[np.ndarray],
    order: Sequence[int],
    bands: Sequence[str],
    grid: CylindricalGrid,
    sigma: float,
    balance: bool,
    flatten: bool,
    frames: Sequence[LocatedImage],
    law: Photometry,
) -> None:
    import torch

    from pansharp_bench.datasets.jupiter.mosaic import write_map

    size = (grid.height, grid.width)
    scale = _scale(maps, balance)

    def rows_of(array: np.ndarray) -> blend.Rows:
        rows: blend.Rows = lambda part: array[:, part] * scale[:, None, None]  # noqa: E731
        return blend.flattened(rows, *size, sigma) if flatten else rows

    rows = blend.blended([rows_of(array) for array in maps], *size, sigma)

    def pieces() -> Iterator[tuple[int, Any]]:
        for part in blend.strips(grid.height):
            yield part.start, torch.from_numpy(np.ascontiguousarray(rows(part)[list(order)]))

    tags = {
        "source": ", ".join(frame.label.product for frame in frames),
        "photometry": f"{law.law}" + (f", k = {law.k:g}" if law.law == "minnaert" else ""),
        "flattened": f"sigma {sigma:g} px" if flatten else "no",
        "value_per_dn_per_ms": json.dumps(
            {b: float(f"{scale[i]:.6g}") for i, b in zip(order, bands, strict=True)}
        ),
        "limb_median_px": json.dumps({f.label.product: round(f.fit.median, 3) for f in frames}),
    }
    for path in write_map(out, pieces(), grid.height, tuple(bands), grid.latitude, grid.west_left, tags):
        click.echo(f"wrote {path}")


def _scale(maps: Sequence[np.ndarray], balance: bool) -> np.ndarray:
    """Factors (bands,) that bring the 99.8th percentile of a thinned-out map, of each band or of all, to 0.95.
    Raises DataError when all is blank."""
    step = max(1, maps[0].shape[1] // 900)
    some = np.concatenate([m[:, ::step, ::step].reshape(len(m), -1) for m in maps], 1)
    some = some[:, np.isfinite(some).all(0)]
    if not some.size or (tops := np.percentile(some, 99.8, axis=1)).min() <= 0:
        raise DataError("no image point lies on the map within --max-incidence and --max-emission")
    return (0.95 / (tops if balance else np.full_like(tops, tops.max()))).astype(np.float32)
