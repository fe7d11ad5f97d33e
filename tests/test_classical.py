"""Classical methods against the toolbox's own outputs, and the properties every one of them must have."""

import re

import numpy as np
import pytest
import torch
from goldens import DEVICES, nchw, toolbox_arrays, toolbox_cases, toolbox_kind, toolbox_sensor
from scipy.optimize import nnls

import pansharp_bench as pb
from pansharp_bench.errors import OptionError
from pansharp_bench.imaging import interp23
from pansharp_bench.method import FunctionMethod
from pansharp_bench.methods._classical import nonnegative_regression, regression
from pansharp_bench.methods.bdsd import bdsd_by_blocks
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, Sensor, as_sensor

TOOLBOX_NAMES = {
    "EXP": "exp", "GS": "gs", "GSA": "gsa", "BT_H": "bt-h", "BDSD_PC": "bdsd-pc", "AWLP": "awlp",
    "MTF_GLP": "mtf-glp", "MTF_GLP_FS": "mtf-glp-fs", "MTF_GLP_HPM": "mtf-glp-hpm",
    "MTF_GLP_HPM_R": "mtf-glp-hpm-r", "MTF_GLP_HPM_H": "mtf-glp-hpm-h", "GS2_GLP": "gs2-glp", "BDSD": "bdsd",
    "PRACS": "pracs", "MF_HG": "mf-hg", "TV": "tv",
}  # fmt: skip
METHODS_HERE = [*TOOLBOX_NAMES.values(), "brovey", "sfim"]


def scene(sensor="qb", n=2, size=(16, 20), dtype=torch.float64):
    """A made-up scene whose PAN and MS share their structure."""
    sensor = as_sensor(sensor)
    generator = torch.Generator().manual_seed(3)
    h, w = size
    coarse = (
        torch.rand(n, sensor.channels, h // 4, w // 4, generator=generator, dtype=torch.float64) * 900 + 100
    )
    ms = interp23(coarse) + 60 * torch.rand(
        n, sensor.channels, h, w, generator=generator, dtype=torch.float64
    )
    pan = interp23(ms).mean(1, keepdim=True)
    pan = pan + 50 * torch.randn(pan.shape, generator=generator, dtype=torch.float64)
    return pan.to(dtype), ms.to(dtype), sensor


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("case", "label"), [(case, m) for case in toolbox_kind("FUS") for m in toolbox_cases()[case]["methods"]]
)
def test_equal_to_the_toolbox(case, label, device):
    z, sensor = toolbox_arrays(case), toolbox_sensor(case)
    golden = nchw(z[toolbox_cases()[case]["methods"][label]["array"]])
    pan, ms = nchw(z["pan"]).to(device), nchw(z["ms"]).to(device)
    if blocks := re.fullmatch(r"BDSD_S(\d+)", label):
        fused = bdsd_by_blocks(pan, interp23(ms, sensor.ratio), sensor, (int(blocks[1]),) * 2)
    else:
        fused = pb.fuse(TOOLBOX_NAMES[label], pan, ms, sensor=sensor)
    assert fused.dtype == torch.float64 and fused.device.type == device
    rtol = 1e-5 if label == "BDSD_PC" else 1e-6
    torch.testing.assert_close(fused.cpu(), golden, rtol=rtol, atol=rtol)


def test_bdsd_by_blocks_is_each_block_of_the_right_image():
    pan, ms, sensor = scene(n=2, size=(16, 24))
    lms = interp23(ms)
    whole = bdsd_by_blocks(pan, lms, sensor, (64, 96))
    assert torch.equal(whole, pb.get_method("bdsd")(pan, ms, sensor=sensor))
    tall = bdsd_by_blocks(pan, lms, sensor, (64, 32))
    pan[1, :, :, :32] += 500  # the other image and the last block must not notice
    changed = (bdsd_by_blocks(pan, lms, sensor, (64, 32)) - tall).abs()
    assert changed[0].max() < 1e-6 and changed[1, ..., 64:].max() < 1e-6 and changed[1, ..., :32].max() > 1
    with pytest.raises(OptionError, match="blocks of 32 x 40 do not tile an image of 64 x 96"):
        bdsd_by_blocks(pan, lms, sensor, (32, 40))
    with pytest.raises(OptionError, match="blocks of 2 x 2"):
        bdsd_by_blocks(pan, lms, sensor, (2, 2))


@pytest.mark.parametrize("bands", [3, 5])
def test_other_numbers_of_bands(bands):
    """TV has parameters for four and eight bands; the haze and the nonnegative weights know theirs too."""
    _, ms, _ = scene("wv3")
    ms = ms[:, :bands]
    pan = interp23(ms).mean(1, keepdim=True)
    sensor = Sensor("other", "Other", tuple("abcde")[:bands], 2047, (0.3,) * bands, 0.15, (0, 1, 2))
    for name in METHODS_HERE:
        fused = pb.get_method(name)(pan, ms, sensor=sensor)
        assert (fused - interp23(ms)).abs().mean() < 0.2 * ms.mean(), name


@pytest.mark.parametrize("sensor", ["qb", "wv3"])
@pytest.mark.parametrize("name", METHODS_HERE)
def test_batch_is_its_images_and_lms_may_be_left_out(name, sensor):
    pan, ms, sensor = scene(sensor, n=3)
    method = pb.get_method(name)
    together = method(pan, ms, sensor=sensor)
    assert together.shape == (3, sensor.channels, *pan.shape[-2:])
    apart = torch.cat([method(pan[i : i + 1], ms[i : i + 1], sensor=sensor.name) for i in range(3)])
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-7)
    with_lms = FunctionMethod(METHODS.get(name).card, method).fuse(Scene(sensor, pan, ms, interp23(ms)))
    torch.testing.assert_close(together, with_lms, rtol=0, atol=0)


@pytest.mark.parametrize("name", METHODS_HERE)
def test_float32_in_float32_out(name):
    pan, ms, sensor = scene(dtype=torch.float32)
    method = pb.get_method(name)
    fused = method(pan, ms, sensor=sensor)
    assert fused.dtype == torch.float32
    exact = method(pan.double(), ms.double(), sensor=sensor)
    assert torch.equal(fused, exact.float())  # rounded once, at the end
    assert torch.equal(pb.fuse(name, pan, ms, sensor=sensor), fused)


@pytest.mark.parametrize("name", METHODS_HERE)
def test_other_ratios(name):
    _, ms, _ = scene()
    pan = interp23(ms, 2).mean(1, keepdim=True)
    pan = pan + 20 * torch.randn(pan.shape, generator=torch.Generator().manual_seed(1), dtype=pan.dtype)
    sensor = Sensor(
        "half", "Half", ("b", "g", "r", "nir"), 2047, (0.34, 0.32, 0.30, 0.22), 0.15, (2, 1, 0), ratio=2
    )
    fused = pb.get_method(name)(pan, ms, sensor=sensor)
    assert fused.shape == (2, 4, 32, 40) and fused.isfinite().all()
    assert (fused - interp23(ms, 2)).abs().mean() < 0.2 * ms.mean()


@pytest.mark.parametrize("name", METHODS_HERE)
def test_flat_and_empty_images_stay_finite(name):
    """A tile without data must not become NaN."""
    for value in (0.0, 300.0):
        pan, ms = torch.full((1, 1, 32, 32), value), torch.full((1, 4, 8, 8), value)
        fused = pb.fuse(name, pan, ms, sensor="qb")
        assert (fused - value).abs().max() <= 0.01 * value


@pytest.mark.parametrize(
    "name",
    ["gs", "gsa", "mtf-glp", "mtf-glp-fs", "bdsd-pc", "mtf-glp-hpm-r", "awlp", "mtf-glp-hpm-h", "gs2-glp", "bdsd",
     "pracs", "mf-hg"],
)  # fmt: skip
def test_detail_comes_from_pan(name):
    """Adding structure to PAN changes the result where it was added, and EXP never changes."""
    pan, ms, sensor = scene()
    method = pb.get_method(name)
    more = pan.clone()
    more[..., 40, 40] += 500
    change = (method(more, ms, sensor=sensor) - method(pan, ms, sensor=sensor)).abs().mean((0, 1))
    assert change.argmax() == 40 * pan.shape[-1] + 40
    exp = pb.get_method("exp")
    assert torch.equal(exp(more, ms, sensor=sensor), exp(pan, ms, sensor=sensor))


@pytest.mark.parametrize("n", [5, 9])
def test_nonnegative_least_squares_is_exact(n):
    """Against SciPy's NNLS, on problems whose optimum lies on the boundary."""
    generator = torch.Generator().manual_seed(n)
    a = torch.randn(4, n, 8, 9, generator=generator, dtype=torch.float64)
    a = a + 2 * torch.randn(4, 1, 8, 9, generator=generator, dtype=torch.float64)  # correlated, as bands are
    b = torch.randn(4, 3, 8, 9, generator=generator, dtype=torch.float64)
    ours = nonnegative_regression(a, b)
    active = 0
    for i in range(4):
        for j in range(3):
            theirs, _ = nnls(a[i].flatten(1).T.numpy(), b[i, j].flatten().numpy())
            np.testing.assert_allclose(ours[i, :, j], theirs, rtol=1e-9, atol=1e-12)
            active += (theirs == 0).sum()
    assert 0 < active < 12 * n


def test_nonnegative_least_squares_survives_dependent_bands():
    a = torch.rand(1, 3, 6, 6, dtype=torch.float64)
    a = torch.cat([a, a[:, :1], torch.zeros_like(a[:, :1])], 1)  # a twin and an empty band
    b = (2 * a[:, :1] + a[:, 2:3]).clone()
    weights = nonnegative_regression(a, b)
    assert (weights >= 0).all()
    fit = torch.einsum("bnhw,bnm->bmhw", a, weights)
    torch.testing.assert_close(fit, b, rtol=1e-8, atol=1e-8)
    plain = torch.einsum("bnhw,bnm->bmhw", a, regression(a, b))
    torch.testing.assert_close(plain, b, rtol=1e-8, atol=1e-8)


def test_cards():
    for name in METHODS_HERE:
        card = METHODS.get(name).card
        assert (card.kind, card.sees, card.training) == ("classical", "pan+ms", "none")
        assert card.paper and card.year and card.summary
