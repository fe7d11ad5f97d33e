"""The simulated calibration track: unpaired, its truth aligned, its cameras as described, reproducible."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pansharp_bench.datasets.junocam2hst import simulated
from pansharp_bench.datasets.junocam2hst.simulated import Amount, Map, Segments
from pansharp_bench.datasets.jupiter.ellipsoid import centres
from pansharp_bench.datasets.jupiter.maps import read_picture
from pansharp_bench.datasets.jupiter.segments import Cutter
from pansharp_bench.datasets.jupiter.zones import ZONES
from pansharp_bench.errors import BenchError
from pansharp_bench.registry import DATASETS

# the default's segments, on a map of half its resolution
SIZE = Amount(pixels=64, step=0.28, perijoves=1, train=96, target=192, test=96)


def dataset(**options):
    return DATASETS.get("junocam2hst-sim").obj(root=None, label=None, **options)


@pytest.fixture(scope="module")
def made() -> dict[str, Segments]:
    def read(split: str, index: int) -> Segments:
        drawn = simulated.segments(Map(split, index, 96), SIZE, 0)
        truth = None if drawn.truth is None else drawn.truth.float()
        return replace(drawn, images=drawn.images.float(), truth=truth)

    return {"train": read("train", 16), "target": read("target", 0), "test": read("test", 18)}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PANSHARP_CACHE", str(cache))
        data = dataset(size="tiny")
        assert data.path.is_file()
    return data


def detail(images: torch.Tensor, sigma: float = 4.0) -> torch.Tensor:
    """Grey images less a Gaussian low pass and less the mean along each row: bands removed."""
    grey = images.mean(1, keepdim=True)
    reach = int(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = (kernel / kernel.sum())[None, None, None]
    low = F.pad(grey, (reach,) * 4, mode="reflect")
    low = F.conv2d(F.conv2d(low, kernel), kernel.transpose(2, 3))
    fine = (grey - low)[:, 0]
    return fine - fine.mean(2, keepdim=True)


def correlation(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(N,) of pairs of images (N, H, W)."""
    x, y = (v.flatten(1) - v.flatten(1).mean(1, keepdim=True) for v in (x, y))
    return (x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1))


def spectrum(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (cycles per pixel) and the mean power of the images' grey at each, in rings."""
    grey = images.double().mean(1)
    n = grey.shape[-1]
    window = torch.hann_window(n, periodic=False, dtype=torch.float64)
    x = (grey - grey.mean((1, 2), keepdim=True)) * window * window[:, None]
    power = torch.fft.fft2(x).abs().square().mean(0)
    f = torch.fft.fftfreq(n, dtype=torch.float64)
    ring = (torch.hypot(f, f[:, None]) * n).round().long().flatten()
    mean = torch.bincount(ring, power.flatten()) / torch.bincount(ring)
    return np.arange(1, n // 2) / n, mean[1 : n // 2].numpy()


def slope(images: torch.Tensor) -> float:
    f, power = spectrum(images)
    middle = (f > 0.04) & (f < 0.35)
    return float(np.polyfit(np.log(f[middle]), np.log(power[middle]), 1)[0])


def test_registered_as_a_simulated_calibration_set():
    card = DATASETS.get("junocam2hst-sim").card
    assert card.tracks == ("calibration",) and card.simulated and card.sensor == "junocam2hst"
    assert DATASETS.get("junocam2hst").card.stand_in == card.name


def test_splits_hold_what_they_should(tiny):
    assert tiny.available() == ("train", "target", "test")
    for name, count in tiny.summary()["splits"].items():
        split = tiny.split(name)
        assert len(split) == count == simulated.SIZES["tiny"].samples()[name]
        assert split.keys == (("pan", "gt") if name == "test" else ("pan",))
        scene = split[:]
        assert scene.pan.shape == (count, 3, 32, 32) and scene.pan.dtype == torch.float32
        assert scene.pan.min() >= 0 and scene.pan.max() <= 1
        assert torch.equal(split.groups.unique(), torch.arange(len(ZONES)))
        lat = tiny.store.column(name, "latitude")
        bounds = np.array(list(ZONES.values()))[split.groups.numpy()]
        assert ((lat > bounds[:, 0]) & (lat <= bounds[:, 1])).all()
    assert tiny.store.segment_km == 16000 and tiny.store.km_per_pixel == 500
    assert tiny.store.provenance == tiny.provenance()
    assert not [text for level, text in tiny.check() if level in ("error", "warning")]


def test_default_has_every_zone_in_every_split():
    for m in simulated.maps(simulated.SIZES["default"]):
        rng = np.random.default_rng(0)
        grid = simulated.MercatorGrid(0.0, 360.0 if m.split == "target" else 120.0, 1.0)
        seen = None if m.split == "target" else simulated.Pass(0.0, 8.0, 21.0, 42.0)  # the narrowest
        picked = simulated.choose(rng, m, seen, grid)
        assert len(picked.zone) == m.count and (np.bincount(picked.zone, minlength=len(ZONES)) >= 2).all()


def test_no_weather_is_shared(made):
    """Detail of segments of one latitude in different maps is uncorrelated, also when shifted along it (but for
    the odd pair of look-alike ovals); segments shifted by an eighth are found by the same measure."""

    def best_shift(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """For pairs of images (N, C, H, W): the largest correlation at any shift in longitude."""
        x, y = (F.pad(detail(v), (0, 64)) for v in (x, y))
        cross = torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(y).conj(), x.shape[-1]).sum(1)
        return cross.amax(1) / (x.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1))

    def of_one_latitude(a: Segments, b: Segments) -> torch.Tensor:
        """A partner in b for each segment of a poleward of 30°, where there is one."""
        i, j = np.nonzero((a.latitude[:, None] == b.latitude) & (abs(a.latitude[:, None]) > 30))
        first = np.concatenate([[True], np.diff(i) > 0])
        return best_shift(a.images[i[first]], b.images[j[first]])

    pairs = (("train", "target"), ("test", "target"), ("train", "test"))
    strangers = torch.cat([of_one_latitude(made[a], made[b]) for a, b in pairs])
    polar = made["train"].images[torch.from_numpy(abs(made["train"].latitude) > 30)]
    relatives = best_shift(polar[..., 8:], polar[..., :-8])
    assert len(strangers) > 40 and strangers.mean() < 0.15 and strangers.quantile(0.9) < 0.25
    assert strangers.max() < 0.5 < relatives.min()


def test_truth_is_what_the_source_shows(made):
    test = made["test"]
    assert correlation(detail(test.images), detail(test.truth)).min() > 0.9
    assert correlation(detail(test.images), detail(test.truth.flip(0))).abs().mean() < 0.1


def test_an_affine_map_of_colour_helps_and_does_not_suffice(made):
    source, truth = (
        x.double().transpose(0, 1).flatten(1).T for x in (made["test"].images, made["test"].truth)
    )
    with_one = torch.cat([source, torch.ones(len(source), 1)], 1)
    fitted = with_one @ torch.linalg.lstsq(with_one, truth).solution
    identity, affine = ((x - truth).square().mean().sqrt().item() for x in (source, fitted))
    assert affine < identity / 3
    assert affine > 0.02  # seams, flattening and the tone curve remain; noise alone would be a tenth of it


def test_hubble_is_two_and_a_half_times_coarser(made):
    """The ratio of the spectra is that of two Gaussian transfer functions whose widths are 1 : 2.5."""
    f, fine = spectrum(made["test"].truth)
    _, coarse = spectrum(made["target"].images)
    low = f < 0.26  # beyond, what is left of Hubble's spectrum is the window's leakage
    # log of the ratio = constant - 4 pi² f² (spread_hubble² - spread_junocam²)
    fitted = -np.polyfit(f[low] ** 2, np.log(coarse / fine)[low], 1)[0] / (4 * np.pi**2)
    ratio = np.sqrt(fitted + simulated.BLUR**2) / simulated.BLUR
    assert ratio == pytest.approx(simulated.COARSER, rel=0.06)


def test_power_falls_like_that_of_the_real_maps(made):
    """Hubble's OPAL maps fall with slopes of -2.8 to -3.3 and JunoCam's mosaics, which are sharpened, of -1.6 to
    -2.7; blobs would fall much faster, noise not at all."""
    truth, source = slope(made["test"].truth), slope(made["test"].images)
    assert -3.5 < truth < -2.5 and truth < source < -1.6


def test_climate_is_shared(made):
    """Both cameras see the same belts and zones: the mean colour of a zone, of those with segments enough for a
    mean, is alike in truth and target."""
    counts = [np.bincount(made[s].zone, minlength=len(ZONES)) for s in ("test", "target")]
    large = np.flatnonzero(np.minimum(*counts) >= 8)
    assert [list(ZONES)[z] for z in large] == ["EZ", "NEB", "NPR", "SEB", "SPR"]
    for z in large:
        truth, target = (
            x[torch.from_numpy(s.zone == z)].mean((0, 2, 3))
            for x, s in ((made["test"].truth, made["test"]), (made["target"].images, made["target"]))
        )
        assert (truth - target).abs().max() < 0.05, list(ZONES)[z]
    belt, zone = (made["target"].images[torch.from_numpy(made["target"].zone == z)] for z in (1, 0))
    assert belt.mean((0, 2, 3))[2] < zone.mean((0, 2, 3))[2] - 0.06  # belts are browner


def test_equal_seeds_give_equal_files_in_any_process(tiny, tmp_path, monkeypatch):
    """Whatever the number of cores and threads, and the order of Python's sets."""
    code = (
        "import os, torch; os.sched_getaffinity = lambda pid: {0}; torch.set_num_threads(3); "
        "from pansharp_bench.datasets.junocam2hst.simulated import ready; print(ready(0, 'tiny'))"
    )
    env = {**os.environ, "PANSHARP_CACHE": str(tmp_path / "b"), "OMP_NUM_THREADS": "3", "PYTHONHASHSEED": "7"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    again = Path(ran.stdout.strip())
    assert again.read_bytes() == tiny.path.read_bytes()
    assert sorted(p.name for p in again.parents[1].iterdir()) == [
        again.parent.name,
        f"{again.parent.name}.lock",
    ]
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "c"))
    other = dataset(size="tiny", seed=1)
    assert not torch.equal(other.split("test").read("pan", 0), tiny.split("test").read("pan", 0))


def test_mistakes_are_named(tmp_path, monkeypatch):
    with pytest.raises(BenchError, match=r"unknown size 'huge'.+default, tiny, full"):
        dataset(size="huge")
    with pytest.raises(BenchError, match="seed -1"):
        dataset(seed=-1)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PANSHARP_CACHE", str(tmp_path / "file"))
    with pytest.raises(BenchError, match="PANSHARP_CACHE"):
        _ = dataset(size="tiny").path


MOSAICS = (
    Path(os.environ.get("PANSHARP_JUPITER", Path(__file__).parents[2] / "shared/data/jupiter")) / "mosaics"
)


@pytest.mark.skipif(not MOSAICS.is_dir(), reason="needs real mosaics (PANSHARP_JUPITER)")
def test_source_resembles_real_mosaics(made):
    """Mean, contrast and colour correlation of segments as in the real perijove mosaics (0.25° a pixel)."""
    where = centres(16)
    maps = (read_picture(path) for path in sorted(MOSAICS.glob("PJ*.png")))
    real = torch.cat([Cutter(m, 51)(where.latitude, where.longitude)[0] for m in maps])
    ours = torch.cat([made["train"].images, made["test"].images])
    torch.testing.assert_close(ours.mean((0, 2, 3)), real.mean((0, 2, 3)), atol=0.06, rtol=0)
    ratio = ours.std((2, 3)).mean(0) / real.std((2, 3)).mean(0)
    assert ((ratio > 0.7) & (ratio < 1.35)).all(), ratio
    ours, real = (torch.corrcoef(x.transpose(0, 1).flatten(1))[0, 1:] for x in (ours, real))
    assert (ours - real).abs().max() < 0.25, (ours, real)
