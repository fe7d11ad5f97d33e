"""Simulated sensors: reproducible, whole, and like the real sensors in statistics and difficulty.

The spans are those of real QuickBird, GaoFen-2 and WorldView-2 scenes (means and correlations on the MS grid, PAN
averaged over it), widened to the darker public test sets whose band means follow from published PSNR and ERGAS.
"""

import itertools

import numpy as np
import pytest
import torch

import pansharp_bench as pb
from pansharp_bench.datasets import _known
from pansharp_bench.datasets.simulated import acquire, generate
from pansharp_bench.files import sha256_of
from pansharp_bench.metrics import ergas, sam
from pansharp_bench.registry import DATASETS
from pansharp_bench.scene import as_sensor

CUT = np.s_[..., 20:-21, 20:-21]  # the protocol's border

# sensor: band means, band deviations, PAN-band correlations, blue-other correlations (low, high)
SPANS = {
    "qb": ((150, 550), (9, 150), (0.65, 0.98), (0.15, 0.99)),
    "gf2": ((120, 340), (30, 65), (0.72, 0.97), (0.5, 0.99)),
    "wv3": ((200, 560), (70, 245), (0.45, 0.98), (0.15, 1.0)),
}
# published mean ERGAS (and SAM) on PanCollection's reduced-resolution tests
PUBLISHED = {
    ("gf2", "exp"): (2.37, None),
    ("gf2", "mtf-glp-fs"): (1.60, None),
    ("gf2", "bt-h"): (1.55, None),
    ("qb", "bdsd-pc"): (7.5, 8.1),
}


def simulated(sensor: str, **options):
    return DATASETS.get(f"{sensor}-sim").obj(root=None, label=None, **options)


@pytest.fixture(scope="module")
def scenes():
    """The default reduced-resolution test of a sensor, as one batch; made once in the cache."""
    made = {}

    def get(sensor):
        if sensor not in made:
            made[sensor] = simulated(sensor).split("reduced")[:]
        return made[sensor]

    return get


def correlation(x: torch.Tensor, y: torch.Tensor) -> float:
    return torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1].item()


@pytest.mark.parametrize("sensor", SPANS)
def test_default_files_are_the_same_as_everywhere(scenes, sensor):
    scenes(sensor)
    assert [f.verified for f in simulated(sensor).files()] == [True] * 4


@pytest.mark.parametrize("sensor", SPANS)
def test_statistics_lie_within_what_real_scenes_span(scenes, sensor):
    scene = scenes(sensor)
    pan = torch.nn.functional.avg_pool2d(scene.pan.double(), 4)[:, 0]
    bands = scene.ms.double().transpose(0, 1)
    means, deviations, with_pan, with_blue = SPANS[sensor]
    blue = scene.sensor.bands.index("blue")
    for i, band in enumerate(bands):
        assert means[0] <= band.mean() <= means[1]
        assert deviations[0] <= band.std() <= deviations[1]
        assert with_pan[0] <= correlation(pan, band) <= with_pan[1]
        if i != blue:
            assert with_blue[0] <= correlation(bands[blue], band) <= with_blue[1]
    # scenes differ a great deal from one another
    per_scene = scene.ms.double().mean((2, 3))
    assert (per_scene.max(0).values > 1.5 * per_scene.min(0).values).any()


@pytest.mark.parametrize(("sensor", "method"), PUBLISHED)
def test_difficulty_is_within_30_percent_of_published_rows(scenes, sensor, method):
    scene = scenes(sensor)
    fused = torch.cat([pb.fuse(method, scene[i].pan, scene[i].ms, sensor) for i in range(len(scene))])
    error, angle = PUBLISHED[sensor, method]
    assert ergas(fused[CUT], scene.gt[CUT]).mean().item() == pytest.approx(error, rel=0.3)
    if angle:
        assert sam(fused[CUT], scene.gt[CUT]).mean().item() == pytest.approx(angle, rel=0.3)


def slope(images: torch.Tensor, low: float, high: float) -> float:
    """Slope of the radially averaged power spectrum against frequency (cycles per pixel), log-log."""
    n = images.shape[-1]
    window = torch.hann_window(n, periodic=False, dtype=torch.float64)
    x = (images.double() - images.double().mean((-2, -1), keepdim=True)) * window * window[:, None]
    power = torch.fft.fft2(x).abs().square().mean(0)
    f = torch.fft.fftfreq(n, dtype=torch.float64)
    radius = (f.square() + f[:, None].square()).sqrt()
    edges = torch.logspace(np.log10(low), np.log10(high), 13, dtype=torch.float64)
    points = [
        (radius[ring].mean().log().item(), power[ring].mean().log().item())
        for a, b in itertools.pairwise(edges)
        if (ring := (radius >= a) & (radius < b)).any()
    ]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0])


@pytest.mark.parametrize("sensor", SPANS)
def test_pan_spectrum_falls_like_that_of_real_scenes(scenes, sensor):
    """Real QuickBird, GaoFen-2 and WorldView-2 scenes fall with slopes of about -1.5 to -3.5 at middle
    frequencies; white noise would give 0, a blurred image much less than -4."""
    assert -4.0 < slope(scenes(sensor).pan[:, 0], 0.03, 0.25) < -1.2


def test_another_seed_gives_other_scenes(tmp_path):
    generate.make(as_sensor("gf2"), 1, generate.SIZES["tiny"], tmp_path / "made", ("full",))
    (path,) = (tmp_path / "made").iterdir()
    known = _known.known()
    assert sha256_of(path) != known["gf2-sim", "tiny", path.name]


def test_files_are_made_once(monkeypatch):
    made = {f.path: f.path.stat().st_mtime_ns for f in simulated("gf2", size="tiny").files()}
    monkeypatch.setattr(generate, "make", None)
    again = simulated("gf2", size="tiny").files()
    assert {f.path: f.path.stat().st_mtime_ns for f in again} == made


def test_the_truth_at_full_resolution_is_sharper_than_the_interpolated_ms():
    scene = simulated("qb", size="tiny").split("full")[:]
    detail = lambda x: (x - torch.nn.functional.avg_pool2d(x, 5, 1, 2)).std().item()  # noqa: E731
    assert detail(scene.gt) > 1.5 * detail(scene.lms)


def test_ms_is_the_truth_filtered_and_decimated_somewhere_near():
    """PAN (and with it the truth) and MS are misregistered by up to a few PAN pixels, as real products are; at the
    best whole-pixel phase the filtered truth is the MS, save noise and what is left of a pixel."""
    from pansharp_bench.imaging import mtf_filter

    scene = simulated("qb", size="tiny").split("full")[:]
    low, inner = mtf_filter(scene.gt.double(), "qb"), np.s_[..., 4:-4, 4:-4]
    ms = scene.ms.double()[inner]
    for k in range(len(scene)):
        found = {}
        for dy, dx in itertools.product(range(-4, 9), repeat=2):
            part = low[k].roll((-dy, -dx), (1, 2))[..., ::4, ::4][inner]
            both = torch.stack((part.flatten(), ms[k].flatten()))
            found[dy, dx] = torch.corrcoef(both)[0, 1].item()
        (dy, dx), best = max(found.items(), key=lambda item: item[1])
        assert best > 0.98 and max(abs(dy - 1.5), abs(dx - 1.5)) <= 4.5


def test_the_reduced_files_follow_walds_protocol():
    from pansharp_bench.imaging import interp23, wald_degrade

    scene = simulated("qb", size="tiny").split("reduced")[0]
    low = wald_degrade(scene.gt.double(), scene.pan.double(), "qb")
    assert (low.ms - scene.ms).abs().max() <= 0.5 + 1e-3
    assert (interp23(scene.ms.double()) - scene.lms).abs().max() <= 0.5 + 1e-3


def test_what_is_darker_or_brighter_than_dn_is_cut_off():
    """And neither wraps round, as 16 bits would."""
    for level, bounds in ((0.0, (0, 30)), (2047.0, (2020, 2047))):
        image = np.full((1, 64, 64), level)
        found = acquire._record(np.random.default_rng(0), image, peak=2047, read=5, shot=0)
        assert found.dtype == np.uint16 and bounds[0] <= found.min() < found.max() <= bounds[1]
        assert (found == level).mean() == pytest.approx(
            0.54, abs=0.03
        )  # half the noise, and what rounds to none
