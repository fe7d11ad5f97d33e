"""The imaging room against the toolbox's own outputs, and the properties others rely on."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from goldens import DEVICES, nchw, toolbox_arrays, toolbox_cases, toolbox_kind, toolbox_sensor
from torch import Tensor

from pansharp_bench import imaging
from pansharp_bench.errors import BenchError, ImageError
from pansharp_bench.imaging import LaplacianPyramid, linear
from pansharp_bench.scene import Sensor, as_sensor


class Blocks:
    """A case's images, on a device."""

    def __init__(self, case: str, device: str) -> None:
        self.case, self.device = case, device
        self.sensor = toolbox_sensor(case)
        self.ratio = self.sensor.ratio

    def tagged(self, tag: str) -> Sensor:
        return toolbox_sensor(self.case, tag)

    def __getitem__(self, name: str) -> Tensor:
        return nchw(toolbox_arrays(self.case)[name]).to(self.device)

    def corner(self, name: str, output: str, times: int) -> Tensor:
        """As much of an image as becomes ``output`` when it is enlarged ``times``."""
        h, w = (n // times for n in toolbox_arrays(self.case)[output].shape[:2])
        return self[name][..., :h, :w]

    def index(self) -> Tensor:
        """Each pixel's number in a column-major image, from 1."""
        h, w = self["pan"].shape[-2:]
        return (torch.arange(h * w, dtype=torch.float64, device=self.device).view(1, 1, w, h) + 1).mT


def kernels(sensor: Sensor) -> Tensor:
    return torch.stack([imaging.mtf_kernel(g, sensor.ratio) for g in sensor.mtf])[None]


MADE: dict[str, Callable[[Blocks, re.Match], Tensor]] = {
    r"o_genMTF_(\w+)": lambda z, name: kernels(z.tagged(name[1])),
    r"o_MTFPAN_impulse_(\w+)": lambda z, name: imaging.mtf_kernel(z.tagged(name[1]).mtf_pan, z.ratio)[None, None],
    r"o_MTF_(ms2?)": lambda z, name: imaging.mtf_filter(z[name[1]], z.sensor),
    r"o_MTFPAN_(pan2?)": lambda z, name: imaging.mtf_filter_pan(z[name[1]], z.sensor),
    r"o_LPfilterGauss": lambda z, name: imaging.lowpass(z["pan"], z.ratio),
    r"o_LPfilter": lambda z, name: imaging.atrous(z["pan"], int(math.log2(z.ratio))),
    r"o_LPfilterPlusDec": lambda z, name: imaging.atrous(z["pan"], int(math.log2(z.ratio)), step=z.ratio),
    r"o_interp23tap_r(\d+)": lambda z, name: imaging.interp23(z.corner("ms", name[0], int(name[1])), int(name[1])),
    r"o_interp23tap_r(\d+)_rect": lambda z, name: imaging.interp23(
        z.corner("ms2", name[0], int(name[1])), int(name[1])
    ),
    r"o_resize_ms(2?)": lambda z, name: imaging.wald_degrade(z["ms" + name[1]], z["pan" + name[1]], z.sensor).ms,
    r"o_resize_pan(2?)": lambda z, name: imaging.wald_degrade(z["ms" + name[1]], z["pan" + name[1]], z.sensor).pan,
    r"o_bicubic_quarter": lambda z, name: imaging.resize_bicubic(z["pan"], 1 / 4),
    r"o_bicubic_up(\d+)": lambda z, name: imaging.resize_bicubic(
        z.corner("pan", name[0], int(name[1])), int(name[1])
    ),
    r"o_nearest_quarter_index": lambda z, name: imaging.decimate(z.index()),
}  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("case", "output"),
    [(c, name) for c in toolbox_kind("BLK") for name in toolbox_cases()[c]["outputs"]],
)
def test_equal_to_the_toolbox(case, output, device):
    made = {pattern: name for pattern in MADE if (name := re.fullmatch(pattern, output))}
    assert len(made) == 1, f"what is {output}?"
    (pattern, name), golden = *made.items(), toolbox_arrays(case)[output]
    ours = MADE[pattern](Blocks(case, device), name)
    assert ours.dtype == torch.float64
    if "impulse" not in pattern and "genMTF" not in pattern:
        assert ours.device.type == device
    golden = nchw(golden.real)
    error = (ours.cpu() - golden).abs().max() / golden.abs().max()
    assert ours.shape == golden.shape and error < 1e-13, f"{error:.2e}"


@pytest.mark.parametrize("block", [imaging.interp23, lambda x: imaging.mtf_filter(x, "qb")])
def test_blocks_stand_in_a_compiled_graph_without_a_break(block):
    x = torch.rand(1, 4, 16, 16, dtype=torch.float64)
    assert torch.equal(torch.compile(block, backend="eager", fullgraph=True)(x), block(x))


@pytest.mark.parametrize("phase", [None, 1.5, (0.0, 2.7)])
def test_mtf_and_decimation_in_one(phase):
    """Of PAN by every band's filter, and band by band; many blocks of rows and columns, all borders."""
    sensor = replace(as_sensor("qb"), phase=phase)
    pan = torch.rand(2, 1, 300, 84, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    apart = imaging.decimate(imaging.mtf_filter(pan, sensor), sensor)
    for x in (pan, pan.expand(-1, 4, -1, -1)):
        torch.testing.assert_close(imaging.mtf_reduce(x, sensor), apart, rtol=0, atol=1e-12)
    two = pan.view(1, 2, 300, 84)
    apart = imaging.decimate(imaging.mtf_filter_pan(two, sensor), sensor)
    torch.testing.assert_close(imaging.mtf_reduce_pan(two, sensor), apart, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [3, 64, 65, 200])
def test_blocks_of_an_operator_are_its_matrix(size):
    rng = np.random.default_rng(0)
    matrix = np.where(rng.random((size, 90)) < 0.1, rng.random((size, 90)), 0)
    blocks = linear.operator(torch.device("cpu"), lambda _: matrix, size)
    x = torch.from_numpy(rng.random((2, 90, 90)))
    expected = torch.from_numpy(matrix) @ x @ torch.from_numpy(matrix).mT
    torch.testing.assert_close(linear.separable(x, blocks, blocks), expected)


def test_other_ways_to_say_the_same():
    pan, ms = torch.rand(1, 1, 64, 48, dtype=torch.float64), torch.rand(1, 8, 64, 48, dtype=torch.float64)
    sensor = as_sensor("wv3")
    for other in (sensor, sensor.mtf):
        assert torch.equal(imaging.mtf_filter(ms, "wv3"), imaging.mtf_filter(ms, other))
    assert torch.equal(imaging.mtf_filter_pan(pan, "wv3"), imaging.mtf_filter_pan(pan, sensor))
    torch.testing.assert_close(imaging.atrous(pan, step=4), imaging.decimate(imaging.atrous(pan)))
    by_size = imaging.resize_bicubic(pan, size=(16, 12))
    torch.testing.assert_close(imaging.resize_bicubic(pan, 1 / 4), by_size)


def test_gf2_has_the_gains_of_a_sensor_without_entry():
    gf2 = as_sensor("gf2")
    assert gf2.mtf == (0.3,) * 4 and gf2.mtf_pan == 0.15


@pytest.mark.parametrize("ratio", [2, 4, 8])
def test_decimation_finds_the_expanded_samples_again(ratio):
    x = torch.randn(1, 2, 9, 14, dtype=torch.float64)
    torch.testing.assert_close(imaging.decimate(imaging.interp23(x, ratio), ratio), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("phase", [None, 1.5])
def test_a_margin_serves_the_expansion_and_is_not_expanded(phase):
    x = torch.rand(1, 2, 20, 24, dtype=torch.float64)
    within = imaging.interp23(x, 4, phase)[..., 20:-20, 20:-20]
    torch.testing.assert_close(imaging.interp23(x, 4, phase, margin=5), within, rtol=1e-13, atol=0)


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
    "mtf_reduce": lambda x: imaging.mtf_reduce(x, "qb"),
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
    with pytest.raises(BenchError, match="8 MTF gains do not fit an image of 4 bands"):
        imaging.mtf_reduce(torch.zeros(1, 4, 8, 8), "wv3")
    with pytest.raises(ValueError, match="power of two"):
        imaging.interp23(torch.zeros(1, 1, 8, 8), 3)
    with pytest.raises(ImageError, match=r"pan \(1, 1, 66, 64\) .* multiples of 4"):
        imaging.wald_degrade(torch.ones(1, 4, 16, 16), torch.ones(1, 1, 66, 64), "qb")
    with pytest.raises(ValueError, match="either scale or size"):
        imaging.resize_bicubic(torch.zeros(1, 1, 8, 8))
