"""Where MS lies on PAN: a sensor's phase, and all that keeps to it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import pansharp_bench as pb
from pansharp_bench import imaging, metrics
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Sensor, as_sensor

PHASES = (0.0, 1.5, 2.0, 1.37, (0.25, 2.9))


def sensor(phase, ratio: int = 4) -> Sensor:
    if phase is not None and ratio == 2:
        phase = tuple(p / 2 for p in phase) if isinstance(phase, tuple) else phase / 2
    return replace(as_sensor("qb"), ratio=ratio, phase=phase)


def axes(n: int, m: int, phase: float, ratio: int) -> tuple[Tensor, Tensor]:
    """Places of n samples of MS and m of PAN, in MS pixels from the middle."""
    ms = torch.arange(n, dtype=torch.float64) - n / 2
    return ms, (torch.arange(m, dtype=torch.float64) - phase) / ratio - n / 2


def truth(camera: Sensor, function, n: int = 40) -> tuple[Tensor, Tensor]:
    """A function of the place in rows and columns, sampled on the MS and on the PAN grid."""
    r = camera.ratio
    (ms_rows, pan_rows), (ms_cols, pan_cols) = (axes(n, r * n, p, r) for p in camera.placed(r // 2))
    grids = ((ms_rows, ms_cols), (pan_rows, pan_cols))
    ms, pan = (function(rows[:, None], cols[None])[None, None] for rows, cols in grids)
    return ms, pan


def inner(x: Tensor, edge: int) -> Tensor:
    return x[..., edge:-edge, edge:-edge]


@pytest.mark.parametrize("ratio", [2, 4])
@pytest.mark.parametrize("phase", PHASES)
class TestGrids:
    def test_polynomials_of_degree_eleven_are_expanded_exactly(self, phase, ratio):
        camera = sensor(phase, ratio)
        ms, pan = truth(camera, lambda y, x: (y / 20) ** 11 + 0.3 * (x / 20) ** 10 - (y * x) / 400)
        error = inner(imaging.interp23(ms, camera) - pan, 12 * ratio).abs().max()
        assert error < (1e-9 if phase == 2.0 else 1e-13)  # the toolbox's taps are rounded to 12 digits

    def test_a_wave_of_eight_pixels_keeps_its_place(self, phase, ratio):
        camera = sensor(phase, ratio)
        ms, pan = truth(
            camera, lambda y, x: torch.sin(2 * torch.pi * y / 8) + torch.cos(2 * torch.pi * x / 8)
        )
        assert inner(imaging.interp23(ms, camera) - pan, 12 * ratio).abs().max() < 1e-5

    def test_what_is_reduced_lies_where_it_is_expanded_from(self, phase, ratio):
        """A slope, which no symmetric filter moves, shows the place of every sample."""
        camera = sensor(phase, ratio)
        ms, pan = truth(camera, lambda y, x: 3 * y + 2 * x)
        reduced = {
            "decimate": imaging.decimate(pan, camera),
            "atrous": imaging.atrous(pan, step=camera),
            "bicubic": imaging.reduce_bicubic(pan, camera),
        }
        for name, found in reduced.items():
            assert inner(found - ms, 12).abs().max() < 1e-9, name

    def test_wald_keeps_the_phase(self, phase, ratio):
        camera = sensor(phase, ratio)
        ms, pan = truth(camera, lambda y, x: 3 * y + 2 * x, n=24 * ratio)
        low = imaging.wald_degrade(ms.expand(-1, 4, -1, -1), pan, camera)
        assert inner(low.pan - ms, 12).abs().max() < 1e-9
        gain = imaging.mtf_filter(torch.ones_like(ms), camera)
        right = imaging.decimate(ms * gain, camera)
        assert inner(low.ms - right, 11).abs().max() < 1e-6

    def test_expansion_and_decimation_undo_each_other_on_smooth_images(self, phase, ratio):
        camera = sensor(phase, ratio)
        ms, _ = truth(camera, lambda y, x: torch.sin(2 * torch.pi * (y + 0.5 * x) / 8))
        again = imaging.decimate(imaging.interp23(ms, camera), camera)
        assert inner(again - ms, 12).abs().max() < 1e-4


def test_between_samples_the_expansion_is_that_of_more_steps():
    x = torch.randn(1, 2, 24, 20, dtype=torch.float64)
    fine = imaging.interp23(x, 8)
    torch.testing.assert_close(imaging.interp23(x, 4, 1.5), fine[..., 1::2, 1::2], rtol=0, atol=1e-8)
    torch.testing.assert_close(imaging.interp23(x, 2, (0.5, 1)), fine[..., 2::4, ::4], rtol=0, atol=1e-8)
    torch.testing.assert_close(imaging.interp23(x, 4, 2 + 1e-12), imaging.interp23(x), rtol=0, atol=1e-8)


def test_without_a_phase_all_is_the_toolbox():
    camera = as_sensor("qb")
    x = torch.rand(1, 4, 48, 64, dtype=torch.float64)
    assert camera.phase is None and "phase" not in camera.facts()
    assert torch.equal(imaging.reduce_bicubic(x, camera), imaging.resize_bicubic(x, 1 / 4))
    assert torch.equal(imaging.decimate(x, camera), x[..., 2::4, 2::4])
    assert torch.equal(imaging.interp23(x, camera), imaging.interp23(x, 4, 2))
    assert torch.equal(imaging.atrous(x, step=camera), imaging.atrous(x)[..., 2::4, 2::4])


def test_a_phase_is_part_of_what_enters_a_score():
    camera = replace(as_sensor("qb"), phase=1.5)
    assert camera.phase == (1.5, 1.5) and camera.facts()["phase"] == (1.5, 1.5)


@pytest.mark.parametrize("phase", [-1, 4, (0, 4.5), float("nan"), (1.0, 2.0, 3.0)])
def test_a_phase_off_the_first_pixel_is_refused(phase):
    with pytest.raises(ValueError, match=r"sensor qb: phase .* is no number above -1 and below the ratio 4"):
        replace(as_sensor("qb"), phase=phase)


def simulated(camera: Sensor, size: int = 192, island: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """(pan, ms, truth): MS is the truth through the MTF, where the sensor's phase puts its pixels. An island
    lies in a flat sea, so that borders see nothing."""
    g = torch.Generator().manual_seed(0)
    up = lambda x: torch.nn.functional.interpolate(x, (size, size), mode="bicubic")  # noqa: E731
    gt = sum(
        up(torch.randn(1, 1, n, n, generator=g) + 0.4 * torch.randn(1, 4, n, n, generator=g))
        for n in (8, 24, 64, 96)
    )
    gt = 60 * gt.double()
    if island:
        shore = (torch.hann_window(size - 48, False, dtype=torch.float64) * 4).clamp(max=1)
        shore = torch.nn.functional.pad(shore, (24, 24))
        gt = gt * shore * shore[:, None]
    gt = (gt + 600).clamp(1)
    pan = (gt * torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)[:, None, None]).sum(1, keepdim=True)
    return pan, imaging.decimate(imaging.mtf_filter(gt, camera), camera), gt


def ergas(name: str, pan: Tensor, ms: Tensor, gt: Tensor, camera: Sensor) -> float:
    fused = pb.fuse(name, pan, ms, sensor=camera)
    return metrics.ergas(inner(fused, 24), inner(gt, 24), ratio=camera.ratio).item()


@pytest.mark.parametrize(("phase", "ratio", "share"), [(0.0, 2, 0.6), (0.0, 4, 0.7), (1.5, 4, 0.97)])
def test_a_place_that_is_known_is_worth_something(phase, ratio, share):
    """Half a pixel costs MTF-GLP-FS some per cent, the toolbox's whole one at ratio 2 doubles the error."""
    camera = replace(as_sensor("qb"), ratio=ratio, phase=phase)
    scene = simulated(camera)
    right, wrong = (ergas("mtf-glp-fs", *scene, c) for c in (camera, replace(camera, phase=None)))
    assert right < share * wrong
    usual = replace(camera, phase=float(ratio // 2))
    assert right == pytest.approx(ergas("mtf-glp-fs", *simulated(usual), usual), rel=0.02)


# the low passes of these two go by way of every fourth pixel of PAN, wherever MS lies
OWN_LATTICE = ("mf-hg", "pracs")
USING_MS = [
    e.name
    for e in METHODS.entries(sees="pan+ms", training="none")
    if e.origin.startswith("pansharp_bench.")
    and "pansharpening" in e.card.tracks
    and e.name not in OWN_LATTICE
]


@pytest.mark.parametrize(("phase", "ratio"), [(1.0, 2), (2.5, 4)])
@pytest.mark.parametrize("name", USING_MS)
def test_no_part_of_a_method_stays_behind(name, phase, ratio):
    """PAN and the phase moved by one pixel: so is the image, but for borders."""
    camera = replace(as_sensor("qb"), ratio=ratio, phase=phase)
    moved = replace(camera, phase=phase - 1)
    pan, ms, _ = simulated(camera, 128, island=True)
    expected = pb.fuse(name, pan, ms, sensor=camera).roll((-1, -1), (-2, -1))
    right, wrong = (
        inner(pb.fuse(name, pan.roll((-1, -1), (-2, -1)), ms, sensor=c) - expected, 32).std()
        for c in (moved, camera)
    )
    assert right < 0.05 * wrong
