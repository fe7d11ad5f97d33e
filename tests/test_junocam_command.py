"""``bench data project`` on the real raw images of perijove 44, where they are (PANSHARP_JUPITER)."""

import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pansharp_bench.datasets.jupiter.junocam.command import Calibration, command, doubt, locate
from pansharp_bench.datasets.jupiter.junocam.project import (
    Photometry,
    Projector,
    mid_time_points,
    registration,
    surface,
)
from pansharp_bench.datasets.jupiter.junocam.raw import find_label
from pansharp_bench.errors import BenchError

ROOT = Path(os.environ.get("PANSHARP_JUPITER", Path(__file__).resolve().parents[2] / "shared/data/jupiter"))
IMAGES = sorted((ROOT / "raw").glob("JNCE_2022229_44C000*-raw.png"))
real = pytest.mark.skipif(
    len(IMAGES) < 3 or not (ROOT / "kernels").is_dir(), reason=f"no JunoCam images in {ROOT}"
)
FLAT, BAD = ROOT / "calib/flatFieldsSmooth12to16.tiff", ROOT / "calib/BAD_PIXEL_MASK_cosmas.png"


@pytest.fixture(scope="module")
def located():
    pytest.importorskip("spiceypy")
    from pansharp_bench.datasets.jupiter.junocam.geometry import Spice

    with Spice(ROOT / "kernels") as spice:
        camera = spice.camera()
        frames = locate(IMAGES, [find_label(p) for p in IMAGES], spice, camera, Calibration(FLAT, BAD))
        yield frames, camera, spice


@real
def test_the_limb_is_met(located):
    """Without a C kernel the predicted limb lies on the one seen to a fraction of a pixel in all three."""
    frames, _, _ = located
    for frame in frames:
        assert frame.fit.found > 4000 and frame.fit.used > 0.99 * frame.fit.found
        assert frame.fit.median < 0.2 and frame.fit.rms < 0.3
        assert 8 < frame.spice.shift < 11  # the trajectory is a prediction, late by so many seconds
    assert abs(frames[0].fit.spin.rate * 30 / np.pi - 1.985) < 0.002  # turns a minute


@real
def test_a_filter_that_disagrees_with_the_geometry_is_doubted(located, tmp_path):
    """The green framelets of an image, labelled as methane's, which lie 312 lines away on the detector."""
    frames, camera, spice = located
    assert all("warning" not in doubt(frame) for frame in frames)
    assert "degrees from the Earth" in doubt(frames[0])  # as it flew, says the limb
    pixels = np.asarray(Image.open(IMAGES[1])).reshape(-1, 3, 128, 1648)[:, 1].reshape(-1, 1648)
    path = tmp_path / IMAGES[1].name
    Image.fromarray(pixels).save(path)
    keys = json.loads(find_label(IMAGES[1]).read_text(encoding="utf-8"))
    label = tmp_path / "label.json"
    label.write_text(json.dumps(keys | {"FILTER_NAME": ["METHANE"], "LINES": len(pixels)}))
    (frame,) = locate([path], [label], spice, camera, Calibration(None, None))
    assert frame.off_earth - frames[1].off_earth > 3
    said = doubt(frame)
    assert said.startswith("warning: JNCE_2022229_44C00030_V01: the predicted limb is 1.")
    assert "degrees from the Earth" in said and "FILTER_NAME" in said


@pytest.mark.parametrize(
    ("median", "off", "expected"),
    [
        (0.4, 1.9, ""),
        (0.4, 2.1, r"note: .*2\.1 degrees.*"),
        (0.6, 1.9, r"warning: .*0\.60 px.*usual: filter.*"),
        (0.6, 2.1, r"warning: .*0\.60 px.*2\.1 degrees.*"),
        (0.6, None, r"warning: .*usual: filter.*"),
    ],
)
def test_limits_of_doubt(median, off, expected):
    label, fit = SimpleNamespace(product="JNCE"), SimpleNamespace(median=median)
    assert re.fullmatch(expected, doubt(SimpleNamespace(label=label, fit=fit, off_earth=off)))


@real
def test_the_trajectory_agrees_with_the_labels(located):
    from pansharp_bench.datasets.jupiter.junocam.geometry import subpoint

    frames, _, spice = located
    for frame in frames:
        start = np.array([spice.time(frame.label.start_utc)])
        latitude, longitude, altitude = subpoint(frame.spice.states(start).position[0])
        assert abs(altitude - frame.label.altitude_km) < 2
        assert abs(latitude - frame.label.latitude) < 0.005 and abs(longitude - frame.label.longitude) < 0.06


@real
def test_the_bands_are_registered(located):
    """Red, green and blue, which see a place half a second apart through other parts of the lens, meet to under
    half a pixel, though nothing was fitted to the texture."""
    frames, camera, _ = located
    frame = frames[1]
    label, values = Calibration(FLAT, BAD)(frame.path, frame.label_path)
    law = Photometry("none", max_incidence=85, max_emission=80)
    points = mid_time_points(frame.middle, camera, 1000)[100:500, 200:700]
    blue, green, red = Projector(values, frame.poses, camera, label.bands, law).look(points)
    for moving, least, most in ((red, 30, 0.3), (blue, 3, 0.5)):  # blue is dim and noisy: few patches tell
        shift, _, _ = registration(moving, green)
        assert len(shift) >= least and shift.norm(dim=1).median() < most


def vertical_perspective(latitude, west, distance, rows, columns, size=1600):
    """Surface points behind the pixels of a picture whose limb is its inscribed circle: the vertical perspective
    of the sphere (Snyder, 1987, p. 173) from ``distance`` radii, with planetographic latitudes, north up."""
    y, x = torch.meshgrid(
        size / 2 - 0.5 - torch.arange(*rows, dtype=torch.float64),
        torch.arange(*columns, dtype=torch.float64) + 0.5 - size / 2,
        indexing="ij",
    )
    x, y = (c / (size / 2) * np.sqrt((distance - 1) / (distance + 1)) for c in (x, y))
    rho = torch.hypot(x, y)
    root = torch.sqrt(1 - rho**2 * (distance + 1) / (distance - 1))
    sin = (distance - root) / ((distance - 1) / rho + rho / (distance - 1))
    cos, middle = torch.sqrt(1 - sin**2), np.radians(latitude)
    lat = torch.arcsin(cos * np.sin(middle) + y * sin * np.cos(middle) / rho)
    lon = torch.atan2(x * sin, rho * np.cos(middle) * cos - y * np.sin(middle) * sin)
    return surface(torch.rad2deg(lat), torch.rad2deg(lon) - west, "planetographic")


@real
def test_the_public_picture_shows_the_same_places(located):
    """The instrument team's own projection of the same image, made with the reconstructed attitude: one shift of
    some pixels (their start time is not corrected by the limb), and no more than a third of a pixel beside it."""
    frames, camera, _ = located
    frame, picture = frames[1], ROOT / "raw/JNCE_2022229_44C00030_V01-mapprojected.png"
    label, values = Calibration(FLAT, BAD)(frame.path, frame.label_path)
    rows, columns = (400, 1000), (150, 650)
    points = vertical_perspective(
        label.latitude, label.longitude, 1 + label.altitude_km / 71492, rows, columns
    )
    ours = Projector(values, frame.poses, camera, label.bands, Photometry()).look(points)[1]
    theirs = torch.from_numpy(
        np.asarray(Image.open(picture))[slice(*rows), slice(*columns), 1].astype(np.float32)
    )
    shift, _, peak = registration(ours, theirs, patch=128, step=48, search=20, least=0.5)
    typical = shift.median(0).values
    assert len(shift) > 40 and peak.median() > 0.7
    assert (shift - typical).norm(dim=1).median() < 0.35
    assert -10 < typical[0] < -7 and abs(typical[1]) < 1  # along the spin; across it nothing


@real
def test_attitude_and_jitter_from_a_c_kernel(located, tmp_path):
    """A C kernel written from the spin, late by 12 ms: the same poses come back, and the jitter is found."""
    spiceypy = pytest.importorskip("spiceypy")
    from pansharp_bench.datasets.jupiter.junocam.geometry import Spice

    frames, camera, _ = located
    frame = frames[1]
    for kernel in (ROOT / "kernels").iterdir():
        (tmp_path / kernel.name).symlink_to(kernel)
    et = np.linspace(frame.times[0] - 2, frame.times[-1] + 2, 400)
    mount = np.array(camera.mount)
    ticks = np.array([spiceypy.sce2c(-61, t) for t in et])
    turns = frame.fit.spin.rotation(et - 0.012) @ mount.T  # spacecraft to J2000
    quaternions = np.array([spiceypy.m2q(np.ascontiguousarray(r.T)) for r in turns])
    handle = spiceypy.ckopn(str(tmp_path / "spin.bc"), "spin", 0)
    spiceypy.ckw03(
        handle, ticks[0], ticks[-1], -61000, "J2000", False, "spin", len(ticks), ticks, quaternions,
        np.zeros((len(ticks), 3)), 1, ticks[:1],
    )  # fmt: skip
    spiceypy.ckcls(handle)
    with Spice(tmp_path) as kernels:
        (again,) = locate([frame.path], [frame.label_path], kernels, camera, Calibration(FLAT, BAD))
    assert again.fit.spin is None
    assert abs(again.fit.jitter - 0.012) < 5e-4
    assert again.fit.median < 0.2
    pixels = (
        np.linalg.norm(again.poses.rotation[:, :, 2] - frame.poses.rotation[:, :, 2], axis=1) * camera.focal
    )
    assert pixels.max() < 0.3


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments])


@real
def test_a_map_is_written_and_a_bad_image_loses_nothing(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from pansharp_bench.datasets.jupiter.maps import read_picture

    out = tmp_path / "map.tif"
    options = ("--kernels", ROOT / "kernels", "--pixels-per-degree", 2, "--out", out)
    result = run(*IMAGES[:2], "--flatten", *options)
    assert result.exit_code == 0, result.output
    with rasterio.open(out) as file:
        assert file.descriptions == ("red", "green", "blue") and file.shape == (360, 720)
        assert "44C00030" in file.tags()["source"] and file.tags()["latitude"] == "planetocentric"
        seen = np.isfinite(file.read(2))
        values = file.read(2)[seen]
    rows = np.nonzero(seen)[0]
    # lit and in view: from the far north to the equator, about the sub-spacecraft longitude
    assert 0.05 < seen.mean() < 0.2 and rows.max() < 230
    assert 0.4 < values.mean() < 0.6
    assert read_picture(out).values.isfinite().all(0).sum() == seen.sum()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.png", "map.tif"]

    before = out.read_bytes()
    truncated = tmp_path / IMAGES[0].name
    truncated.write_bytes(IMAGES[0].read_bytes()[:100000])
    label = find_label(IMAGES[0])
    result = run(truncated, "--label", label, *options)
    assert isinstance(result.exception, BenchError) and "truncated" in str(result.exception)
    assert out.read_bytes() == before


@real
def test_what_was_projected_is_used_again(tmp_path, monkeypatch):
    pytest.importorskip("spiceypy")
    from pansharp_bench.datasets.jupiter.junocam import command as module

    def fails(*_):
        raise BenchError("disk full")

    out = tmp_path / "map.tif"
    options = ("--kernels", ROOT / "kernels", "--pixels-per-degree", 1, "--out", out)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", fails)
        result = run(IMAGES[1], *options)
    assert "kept in" in result.output and "disk full" in str(result.exception)
    assert [p.suffix for p in (tmp_path / "map.tif.parts").iterdir()] == [".npy"]
    monkeypatch.setattr(module, "_project", fails)
    assert run(IMAGES[1], *options).exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["map.png", "map.tif"]


@real
def test_kernels_of_another_time_are_refused(tmp_path):
    pytest.importorskip("spiceypy")
    keys = json.loads(find_label(IMAGES[0]).read_text())
    label = tmp_path / "label.json"
    for start, message in (("2018-02-07T13:16:09", "do not say where Juno is"), ("soon", "is no time")):
        label.write_text(json.dumps(keys | {"START_TIME": start}))
        result = run(IMAGES[0], "--label", label, "--kernels", ROOT / "kernels", "--out", tmp_path / "m.tif")
        assert isinstance(result.exception, BenchError) and message in str(result.exception)
    label.write_text(json.dumps(keys | {"SPACECRAFT_ALTITUDE": "5000 <km>"}))
    result = run(IMAGES[0], "--label", label, "--kernels", ROOT / "kernels", "--out", tmp_path / "m.tif")
    assert "do not belong to this image" in str(result.exception)


def test_mistakes_are_named(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((384, 1648), np.uint8)).save(path)
    for arguments, message in (
        ((path, "--out", "map.jpg"), "let it end in .tif"),
        ((path, "--out", "map.tif"), "no label beside it"),
        ((tmp_path / "none.png", "--out", "map.tif"), "does not exist"),
        ((path, path, "--label", path, "--out", "map.tif"), "1 --label for 2 images"),
        ((path, tmp_path / "." / "a.png", "--out", "map.tif"), "a.png is given twice"),
        ((path, "--out", "map.tif", "--device", "nowhere"), "use --device cpu"),
    ):
        result = run(*arguments, "--kernels", tmp_path)
        assert isinstance(result.exception, BenchError) and message in str(result.exception)
