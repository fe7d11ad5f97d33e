"""The imaging room against the toolbox's own outputs, and the properties others rely on."""

import numpy as np
import pytest
import torch
from goldens import GOLDEN, nchw

from pansharp_bench import imaging
from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import LaplacianPyramid
from pansharp_bench.scene import as_sensor

SENSORS = ("qb", "wv3")
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(scope="module", params=SENSORS)
def case(request):
    path = GOLDEN / "metrics" / f"blk_{request.param}.npz"
    return request.param, {k: v for k, v in np.load(path).items()}


def close(ours, golden, device="cpu"):
    """Equal to 1e-9 of the golden array's range."""
    golden = nchw(golden) if isinstance(golden, np.ndarray) else golden
    assert ours.dtype == torch.float64 and ours.device.type == device
    error = (ours.cpu() - golden).abs().max() / golden.abs().max()
    assert ours.shape == golden.shape and error < 1e-9, f"{error:.2e}"


@pytest.mark.parametrize("block", [imaging.interp23, lambda x: imaging.mtf_filter(x, "qb")])
def test_blocks_stand_in_a_compiled_graph_without_a_break(block):
    x = torch.rand(1, 4, 16, 16, dtype=torch.float64)
    assert torch.equal(torch.compile(block, backend="eager", fullgraph=True)(x), block(x))


def test_mtf_kernels(case):
    name, z = case
    sensor = as_sensor(name)
    kernels = torch.stack([imaging.mtf_kernel(g) for g in sensor.mtf])
    golden = torch.from_numpy(z[f"o_genMTF_{name.upper()}"].real).permute(2, 0, 1)
    assert (kernels - golden).abs().max() < 1e-15
    pan = torch.from_numpy(z[f"o_MTFPAN_impulse_{name.upper()}"])
    assert (imaging.mtf_kernel(sensor.mtf_pan) - pan).abs().max() < 1e-15


def test_sensor_without_entry_has_the_default_gains(case):
    _, z = case
    if "o_genMTF_none" not in z:
        pytest.skip("this case holds no kernels of an unknown sensor")
    gf2 = as_sensor("gf2")
    golden = torch.from_numpy(z["o_genMTF_none"].real).permute(2, 0, 1)
    assert (torch.stack([imaging.mtf_kernel(g) for g in gf2.mtf]) - golden).abs().max() < 1e-15
    assert (
        imaging.mtf_kernel(gf2.mtf_pan) - torch.from_numpy(z["o_MTFPAN_impulse_none"])
    ).abs().max() < 1e-15


@pytest.mark.parametrize("device", DEVICES)
def test_filters(case, device):
    name, z = case
    ms, ms2, pan = (nchw(z[k]).to(device) for k in ("ms", "ms2", "pan"))
    close(imaging.mtf_filter(ms, name), z["o_MTF_ms"], device)
    close(imaging.mtf_filter(ms2, as_sensor(name)), z["o_MTF_ms2"], device)
    close(imaging.mtf_filter(ms2, as_sensor(name).mtf), z["o_MTF_ms2"], device)
    close(imaging.mtf_filter_pan(pan, name), z["o_MTFPAN_pan"], device)
    close(imaging.lowpass(pan), z["o_LPfilterGauss"], device)
    close(imaging.atrous(pan), z["o_LPfilter"], device)
    close(imaging.atrous(pan, step=4), z["o_LPfilterPlusDec"], device)
    close(imaging.decimate(imaging.atrous(pan)), z["o_LPfilterPlusDec"], device)


@pytest.mark.parametrize("device", DEVICES)
def test_grids(case, device):
    name, z = case
    ms, ms2, pan, pan2 = (nchw(z[k]).to(device) for k in ("ms", "ms2", "pan", "pan2"))
    close(imaging.interp23(ms[..., :16, :16]), z["o_interp23tap_r4"], device)
    close(imaging.interp23(ms[..., :16, :16], 2), z["o_interp23tap_r2"], device)
    close(imaging.interp23(ms2[..., :8, :12]), z["o_interp23tap_r4_rect"], device)
    close(imaging.resize_bicubic(pan, 1 / 4), z["o_bicubic_quarter"], device)
    close(imaging.resize_bicubic(pan, size=(16, 16)), z["o_bicubic_quarter"], device)
    close(imaging.resize_bicubic(pan[..., :20, :16], 4), z["o_bicubic_up4"], device)
    index = (torch.arange(4096, dtype=torch.float64, device=device).view(1, 1, 64, 64) + 1).mT
    close(imaging.decimate(index), z["o_nearest_quarter_index"], device)
    low = imaging.wald_degrade(ms, pan, name)
    close(low.ms, z["o_resize_ms"], device)
    close(low.pan, z["o_resize_pan"], device)
    low = imaging.wald_degrade(ms2, pan2, name)
    close(low.ms, z["o_resize_ms2"], device)
    close(low.pan, z["o_resize_pan2"], device)


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_decimation_finds_the_expanded_samples_again(ratio):
    x = torch.randn(1, 2, 9, 14, dtype=torch.float64)
    torch.testing.assert_close(imaging.decimate(imaging.interp23(x, ratio), ratio), x, rtol=1e-12, atol=1e-12)


@pytest.fixture(scope="module")
def pyramid_case():
    path = GOLDEN / "unpaired" / "lap_pyramid_L3.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return {k: torch.from_numpy(v) for k, v in np.load(path).items()}


@pytest.mark.parametrize("device", DEVICES)
def test_laplacian_pyramid(pyramid_case, device):
    z = {k: v.to(device) for k, v in pyramid_case.items()}
    pyramid = LaplacianPyramid(3)
    levels = pyramid.decompose(z["x"])
    for j, level in enumerate(levels):
        close(level, z[f"level{j}"].cpu(), device)
    close(pyramid.reconstruct(levels), z["rebuilt"].cpu(), device)
    close(pyramid.gate(z["x"], z["w"]), z["gated"].cpu(), device)


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (5, 1)])
def test_pyramid_rebuilds_exactly_at_every_depth(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    most = imaging.max_bands(*size)
    for bands in range(most + 1):
        levels = imaging.decompose(x, bands)
        assert len(levels) == bands + 1
        assert torch.allclose(imaging.reconstruct(levels), x, rtol=0, atol=1e-14)
    assert levels[-1].shape[-2:] == (1, 1)
    with pytest.raises(BenchError, match=f"0 to {most} bands, not {most + 1}"):
        imaging.decompose(x, most + 1)


def test_pyramid_levels_do_not_mix_images():
    """Each image has its own gate weights."""
    x, w = torch.randn(2, 3, 32, 32, dtype=torch.float64), torch.rand(2, 4, dtype=torch.float64)
    pyramid = LaplacianPyramid(3)
    both = pyramid.gate(x, w)
    for i in range(2):
        assert torch.allclose(both[i : i + 1], pyramid.gate(x[i : i + 1], w[i]), rtol=0, atol=1e-14)


OPERATIONS = {
    "mtf_filter": lambda x: imaging.mtf_filter(x, "qb"),
    "lowpass": imaging.lowpass,
    "atrous": imaging.atrous,
    "interp23": imaging.interp23,
    "bicubic down": lambda x: imaging.resize_bicubic(x, 1 / 4),
    "bicubic up": lambda x: imaging.resize_bicubic(x, 2.5),
    "gate": lambda x: LaplacianPyramid(2).gate(x, torch.tensor([0.2, 0.5, 1.0])),
    "wald": lambda x: imaging.wald_degrade(x, x[:, :1], "qb").ms,
}


@pytest.mark.parametrize("op", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_operations_are_differentiable_and_batched(op):
    x = torch.randn(2, 4, 12, 16, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        op(x.detach())  # what is cached here must serve training afterwards
    # linear maps: <A x, y> differentiated by x is Aᵀ y, and A (Aᵀ y) is symmetric in y
    y = torch.randn_like(op(x))
    (back,) = torch.autograd.grad((op(x) * y).sum(), x)
    assert torch.allclose((op(x) * y).sum(), (back * x).sum(), rtol=1e-10)
    assert torch.allclose(op(x)[1:], op(x[1:]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_float32_stays_float32_and_accurate(op):
    x = torch.rand(1, 4, 16, 24) * 2047
    exact = op(x.double())
    with torch.autocast("cpu", torch.bfloat16):
        ours = op(x)
    assert ours.dtype == torch.float32
    assert (ours - exact).abs().max() < 1e-6 * 2047


def test_one_image_through_every_bands_filter():
    pan = torch.rand(2, 1, 32, 32, dtype=torch.float64)
    bands = imaging.mtf_filter(pan, "wv3")
    assert bands.shape == (2, 8, 32, 32)
    assert torch.allclose(bands, imaging.mtf_filter(pan.expand(-1, 8, -1, -1), "wv3"), rtol=1e-12)


def test_mistakes_are_named():
    with pytest.raises(BenchError, match="8 MTF gains do not fit an image of 4 bands"):
        imaging.mtf_filter(torch.zeros(1, 4, 8, 8), "wv3")
    with pytest.raises(ValueError, match="power of two"):
        imaging.interp23(torch.zeros(1, 1, 8, 8), 3)
    with pytest.raises(ValueError, match="either scale or size"):
        imaging.resize_bicubic(torch.zeros(1, 1, 8, 8))
