"""Pictures hold the pixels they are made of, whatever the pixels are."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from pansharp_bench import figures
from pansharp_bench.cli import main
from pansharp_bench.figures import compare_methods, compare_scene, display, panels_of, stretch_limits
from pansharp_bench.scene import Scene, as_sensor

SIDE, GAP, ABOVE = 256, 8, 56


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(1, 4, SIDE, SIDE, generator=generator) * 2047
    ms = torch.nn.functional.avg_pool2d(gt, 4)
    lms = torch.nn.functional.interpolate(ms, scale_factor=4)
    return Scene(as_sensor("qb"), pan=gt.mean(1, keepdim=True), ms=ms, lms=lms, gt=gt)


def panel(picture, index):
    left = GAP + (SIDE + GAP) * index
    return np.asarray(picture)[ABOVE : ABOVE + SIDE, left : left + SIDE]


def test_every_picture_of_a_scene_is_shown_pixel_by_pixel_under_one_stretch(scene, tmp_path):
    path = compare_scene(scene, scene.lms, tmp_path / "scene.png", "Title × λ")
    picture = Image.open(path)
    assert [p.name for p in tmp_path.iterdir()] == ["scene.png"]
    limits = stretch_limits(scene.gt[0, [2, 1, 0]])
    for index, image in ((1, scene.lms), (2, scene.lms), (3, scene.gt)):  # MS is enlarged to the same
        assert (panel(picture, index) == display(image[0, [2, 1, 0]], limits)).all()
    pan = panel(picture, 0)
    assert (pan[..., 0] == pan[..., 2]).all() and pan.std() > 50
    error = (scene.lms - scene.gt).abs().mean(1)[0].numpy()
    light = panel(picture, 4).sum(-1).astype(float)
    assert np.corrcoef(error.ravel(), light.ravel())[0, 1] > 0.95  # dark to light as the error grows
    assert picture.width == GAP + 5 * (SIDE + GAP) + 72


def test_limits_are_percentiles_and_a_flat_band_is_flat():
    ramp = torch.arange(101.0).repeat(2, 3, 1)
    ramp[1] = 7
    low, high = stretch_limits(ramp)
    assert low[0] == 1 and high[0] == 99 and high[1] - low[1] == pytest.approx(0.098)
    assert display(ramp[1:], (low[1:], high[1:])).max() == 0


def test_an_image_of_many_pixels_has_limits():
    big = torch.rand(1, 1, 4500).expand(1, 4500, 4500)  # torch.quantile takes 2^24 values
    low, high = stretch_limits(big)
    assert high > low


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_no_numbers_are_drawn_without_a_warning(scene, tmp_path, value, recwarn):
    holey = scene.lms.clone()
    holey[..., :9, :9] = value
    compare_scene(scene, holey, tmp_path / "holey.png")
    compare_scene(scene, torch.full_like(holey, value), tmp_path / "none.png")
    assert not list(recwarn)


def test_a_long_title_is_not_cut(tmp_path):
    small = Scene(as_sensor("qb"), pan=torch.rand(1, 1, 8, 8))
    short = Image.open(compare_scene(small, torch.rand(1, 4, 8, 8), tmp_path / "a.png", "short"))
    long = Image.open(compare_scene(small, torch.rand(1, 4, 8, 8), tmp_path / "b.png", "long " * 40))
    assert long.width > short.width == GAP + 2 * (SIDE + GAP)


def test_a_loss_keeps_its_name_unless_it_is_one_of_several():
    assert panels_of(["l1", "gate0", "gate1", "2"]) == {"l1": ["l1"], "gate": ["gate0", "gate1"], "2": ["2"]}


def test_methods_share_one_stretch_and_their_errors_one_scale(scene, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "_picture", lambda axis, pixels, crop: drawn.append((pixels, crop)))
    near, far = (scene.gt + torch.linspace(0, top, SIDE) for top in (10.0, 100.0))
    path = compare_methods(scene, {"near": near, "far": far}, tmp_path / "x.pdf", (8, 16, 32), "Two")
    assert path.read_bytes().startswith(b"%PDF")
    limits = stretch_limits(scene.gt[0, [2, 1, 0]])
    pan, ms, near_shown, near_error, far_shown, far_error, reference = (pixels for pixels, _ in drawn)
    assert (reference == display(scene.gt[0, [2, 1, 0]], limits)).all() and pan.shape == ms.shape
    assert (near_shown == display(near[0, [2, 1, 0]], limits)).all() and (far_shown != near_shown).any()
    # an error of 10 looks the same in both: at the right end of one, a tenth of the way in the other
    assert abs(near_error[0, -1].astype(int) - far_error[0, SIDE // 10].astype(int)).max() < 8
    assert near_error.sum() < far_error.sum() / 2 and {crop for _, crop in drawn} == {(8, 16, 32)}


def test_bench_figure_compare_draws_what_is_trained_and_refuses_the_rest(tmp_path, monkeypatch):
    monkeypatch.delenv("PANSHARP_DATA", raising=False)
    tiny = Path(__file__).parent / "plugins" / "tiny.py"
    shared = ("--plugin", tiny, "--dataset", "tiny", "--runs", tmp_path / "runs")

    def bench(*words):
        return CliRunner().invoke(main, [str(w) for w in ("figure", "compare", *words, *shared)])

    done = bench("--methods", "half,exp", "--crop", "8,8,32", "--out", tmp_path / "a.png")
    assert done.exit_code == 0 and Image.open(tmp_path / "a.png").width > 1000, done.output
    assert bench("--methods", "exp", "--split", "full", "--out", tmp_path / "b.svg").exit_code == 0
    for words, said in (
        (("--methods", "gain"), f"gain has no finished run of these settings in {tmp_path / 'runs'}"),
        (
            ("--methods", "gain", "--set", "steps=3", "--seed", "2"),
            "`bench run --method gain --dataset tiny --preset quick --seed 2 --set steps=3` makes one",
        ),
        (("--methods", "exp", "--set", "steps=3"), "none of exp is trained step by step"),
        (("--methods", "exp", "--crop", "100,8,64"), "does not lie in an image of 128 x 128"),
        (("--methods", "exp", "--crop", "1,2"), "not of the form x,y,side"),
        (("--methods", "exp", "--scene", "9"), "has scenes 0 to 2"),
        (("--methods", "exp", "--split", "test"), "no split 'test'; there are: train"),
    ):
        refused = bench(*words, "--out", tmp_path / "c.png")
        assert refused.exit_code == 2 and said in refused.stderr, refused.output
    assert not (tmp_path / "c.png").exists() and not (tmp_path / "runs").exists()
