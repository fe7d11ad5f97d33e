"""The rows in closed form: what they may see, and what they must be equal to."""

from dataclasses import replace

import pytest
import torch
from goldens import real_data

import pansharp_bench as pb
from pansharp_bench import metrics
from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import decimate, interp23
from pansharp_bench.method import build, resolve_config
from pansharp_bench.methods._closed_form import ms_like, transport
from pansharp_bench.protocols.pansharpening import crop_border
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, Split, as_sensor
from pansharp_bench.training import UnpairedData
from pansharp_bench.training.samplers import cut_in_halves

PAN_ROWS = ("pan-mean-spectrum", "pan-affine", "pan-ot", "grey-affine")
SCENE_ROWS = ("scene-affine", "scene-ot")
ORACLES = ("oracle-affine", "oracle-pointwise")
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def scenes(n=3, size=64, sensor="qb", seed=0):
    """Random scenes with integer PAN; the bands follow PAN and differ from each other."""
    sensor = as_sensor(sensor)
    g = torch.Generator().manual_seed(seed)
    c = sensor.channels
    base = interp23(torch.rand(n, 1, size // 4, size // 4, generator=g)) * 600 + 200
    pan = (base + 20 * torch.randn(n, 1, size, size, generator=g)).round()
    slope = torch.linspace(0.4, 1.6, c)[:, None, None]
    gt = slope * base + 40 * slope.flip(0) + 10 * torch.randn(n, c, size, size, generator=g)
    ms = decimate(gt).contiguous()
    return Scene(sensor, pan=pan, ms=ms, lms=interp23(ms), gt=gt)


class Memory(Split):
    def __init__(self, scene):
        self.scene, self.sensor, self.name, self.keys = (
            scene,
            scene.sensor,
            "train",
            ("pan", "ms", "lms", "gt"),
        )

    def __len__(self):
        return len(self.scene)

    def __getitem__(self, index):
        return self.scene[index]


def fitted(name, scene, pairing="disjoint", device="cpu", **options):
    entry = METHODS.get(name)
    method = build(entry, scene.sensor, resolve_config(entry, "quick", {"pairing": pairing, **options}))
    data = UnpairedData.halves(
        scene.sensor, Memory(scene), Memory(scene[:2]), torch.device(device), 0, pairing
    )
    method.to(device).fit(data, None)
    return method, data


def fuse(name, scene):
    entry = METHODS.get(name)
    return build(entry, scene.sensor).fuse(scene.seen_by(entry.card))


def test_cards_say_what_each_row_sees():
    for names, kind, sees, training in (
        (("pan-replicate",), "baseline", "pan", "none"),
        (PAN_ROWS, "baseline", "pan", "unpaired"),
        (SCENE_ROWS, "baseline", "pan+bag", "none"),
        (ORACLES, "oracle", "reference", "none"),
    ):
        for name in names:
            card = METHODS.get(name).card
            assert (card.kind, card.sees, card.training) == (kind, sees, training)
            assert card.summary and card.title


@pytest.mark.parametrize("sensor", ["qb", "wv3"])
def test_pan_replicate(sensor):
    scene = scenes(sensor=sensor)
    fused = fuse("pan-replicate", scene)
    assert fused.shape == scene.gt.shape
    assert (fused == scene.pan).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("sensor", ["qb", "wv3"])
@pytest.mark.parametrize("name", PAN_ROWS)
def test_unpaired_rows_on_their_own_training_images(name, sensor, device):
    """Fed the PAN they were fitted to, they give the statistics they were fitted to."""
    scene = scenes(8, sensor=sensor)
    # whole DN hold many equal values, whose images would blur the quantiles by one step
    scene = replace(
        scene, pan=scene.pan + torch.rand(scene.pan.shape, generator=torch.Generator().manual_seed(5))
    )
    method, data = fitted(name, scene, device=device)
    pan, ms = data.all_source(), data.all_target()
    fused = method.fuse(Scene(scene.sensor, pan=pan))
    assert fused.shape == (len(pan), scene.sensor.channels, *pan.shape[-2:])
    assert fused.dtype == torch.float32 and fused.device.type == device
    dims = (0, 2, 3)
    torch.testing.assert_close(fused.mean(dims), ms.mean(dims), rtol=1e-3, atol=0)
    if name in ("pan-affine", "pan-ot"):
        torch.testing.assert_close(fused.std(dims), ms.std(dims), rtol=2e-3, atol=0)
    if name == "pan-ot":
        for q in (0.01, 0.2, 0.5, 0.9, 0.99):
            ours, wanted = (x.transpose(0, 1).flatten(1).quantile(q, 1) for x in (fused, ms))
            torch.testing.assert_close(ours, wanted, rtol=2e-3, atol=1.0)


@pytest.mark.parametrize("name", PAN_ROWS)
def test_unpaired_rows_keep_everything_in_their_state(name):
    scene = scenes(8)
    method, _ = fitted(name, scene)
    fresh = build(METHODS.get(name), scene.sensor)
    assert not torch.equal(fresh.fuse(scene), method.fuse(scene))
    fresh.load_state_dict(method.state_dict())
    assert torch.equal(fresh.fuse(scene), method.fuse(scene))
    assert not list(method.parameters())


@pytest.mark.parametrize("name", PAN_ROWS)
def test_unpaired_rows_ignore_the_ms_of_their_pan(name):
    """Disjoint halves: changing the MS of the PAN half, or the PAN of the MS half, changes nothing."""
    scene = scenes(8)
    method, _ = fitted(name, scene)
    ms, lms, pan = scene.ms.clone(), scene.lms.clone(), scene.pan.clone()
    serves_pan, serves_ms = cut_in_halves(len(scene), 0)
    lms[serves_pan] += 500
    pan[serves_ms] += 500
    other, _ = fitted(name, Scene(scene.sensor, pan=pan, ms=ms, lms=lms, gt=scene.gt))
    assert torch.equal(method.fuse(scene), other.fuse(scene))


def test_grey_affine_is_the_regression_on_grey_where_pan_is_grey():
    """Smooth PAN that is the bands' mean gives the least-squares colours; detail gets each band's deviation."""
    g = torch.Generator().manual_seed(3)
    coarse = torch.nn.functional.interpolate(torch.rand(4, 4, 4, 4, generator=g), (256, 256), mode="bicubic")
    lms = 300 + 500 * coarse + 100 * torch.arange(4.0)[:, None, None] * coarse[:, :1]
    pan = lms.mean(1, keepdim=True)
    same = Scene(as_sensor("qb"), pan=pan, ms=decimate(lms), lms=lms, gt=lms)
    method, _ = fitted("grey-affine", same, pairing="independent")
    grey, bands = pan.flatten().double(), lms.transpose(0, 1).flatten(1).double()
    design = torch.stack([grey, torch.ones_like(grey)], 1)
    slope, offset = torch.linalg.lstsq(design, bands.T).solution
    flat = Scene(same.sensor, pan=torch.full((1, 1, 32, 32), 400.0))
    expected = (slope * 400 + offset).float()
    torch.testing.assert_close(method.fuse(flat)[0, :, 0, 0], expected, rtol=5e-3, atol=0)
    checked = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 20.0 + 390
    detail = method.fuse(Scene(same.sensor, pan=checked[None, None])) - method.fuse(flat)
    gain = bands.std(1) / grey.std()
    torch.testing.assert_close(detail[0, :, 0, 1], (10 * gain).float(), rtol=1e-3, atol=0)


def test_pan_ot_of_identical_distributions_is_the_identity():
    scene = scenes(4)
    same = Scene(scene.sensor, pan=scene.pan, ms=scene.ms, lms=scene.pan.repeat(1, 4, 1, 1), gt=scene.gt)
    method, _ = fitted("pan-ot", same, pairing="independent")
    torch.testing.assert_close(method.fuse(same), same.lms, rtol=0, atol=1e-3)


def test_pan_ot_refuses_a_single_knot():
    with pytest.raises(BenchError, match="knots=1"):
        resolve_config(METHODS.get("pan-ot"), "quick", {"knots": "1"})


class TestTransport:
    def test_carries_samples_to_samples(self):
        g = torch.Generator().manual_seed(1)
        source, target = (
            torch.rand(3, 50, generator=g, dtype=torch.float64).sort(-1).values for _ in range(2)
        )
        torch.testing.assert_close(transport(source, source, target), target, rtol=0, atol=1e-15)

    def test_identity_also_outside_and_with_ties(self):
        x = torch.tensor([0.0, 1, 1, 1, 3, 3, 8])
        values = torch.tensor([-5.0, 0, 0.25, 1, 2, 3, 8, 20])
        torch.testing.assert_close(transport(values, x, x), values, rtol=0, atol=1e-6)

    def test_equal_samples_go_to_the_middle(self):
        source = torch.tensor([0.0, 1, 1, 2, 2])
        target = torch.tensor([0.0, 10, 30, 40, 60])
        ours = transport(torch.tensor([0.0, 1, 2]), source, target)
        torch.testing.assert_close(ours, torch.tensor([0.0, 20, 50]))

    def test_monotone_and_linear_beyond_the_range(self):
        g = torch.Generator().manual_seed(2)
        source, target = (torch.randn(200, generator=g).sort().values for _ in range(2))
        values = torch.linspace(-9, 9, 2000)
        mapped = transport(values, source, target)
        assert (mapped.diff() >= -1e-5).all()
        ends = mapped.diff()[[0, -1]] / values.diff()[[0, -1]]
        torch.testing.assert_close(ends, (target.std() / source.std()).expand(2), rtol=1e-2, atol=0)

    def test_flat_source(self):
        flat = torch.full((5,), 7.0)
        assert transport(torch.tensor([3.0, 7, 9]), flat, torch.arange(5.0)).tolist() == [2, 2, 2]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SCENE_ROWS)
def test_scene_rows_use_no_positions(name, device):
    """A permuted MS gives the same result, in every image of a batch."""
    scene = scenes().to(device)
    n, c, h, w = scene.ms.shape
    g = torch.Generator().manual_seed(4)
    order = torch.stack([torch.randperm(h * w, generator=g) for _ in range(n)]).to(device)
    bag = scene.ms.flatten(2).gather(2, order[:, None].expand(n, c, -1)).view_as(scene.ms)
    assert not torch.equal(bag, scene.ms)
    method = pb.get_method(name)
    ours = method(scene.pan, scene.ms, sensor="qb")
    assert ours.shape == scene.gt.shape and ours.device.type == device
    torch.testing.assert_close(ours, method(scene.pan, bag, sensor="qb"), rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(ours, fuse(name, scene), rtol=1e-6, atol=1e-4)
    one = torch.cat([method(scene.pan[i : i + 1], bag[i : i + 1], sensor="qb") for i in range(n)])
    torch.testing.assert_close(ours, one, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", SCENE_ROWS)
def test_scene_rows_reach_the_bands_statistics(name):
    """PAN on the MS grid, mapped as PAN is, has the scene's own band statistics."""
    scene = scenes()
    sensor, pan = scene.sensor, scene.pan.double()
    low = ms_like(pan, sensor)
    fused = pb.get_method(name)(pan, scene.ms.double(), sensor=sensor)
    if name == "scene-affine":
        slope = (fused[:, :, 0, 0] - fused[:, :, 0, 1]) / (pan - pan.roll(-1, 3))[:, :, 0, 0]
        torch.testing.assert_close(slope * low.std((2, 3)), scene.ms.double().std((2, 3)), rtol=1e-4, atol=0)
    else:
        twin = transport(
            low.flatten(2), low.flatten(2).sort(-1).values, scene.ms.double().flatten(2).sort(-1).values
        )
        torch.testing.assert_close(
            twin.sort(-1).values, scene.ms.double().flatten(2).sort(-1).values, rtol=1e-9, atol=1e-9
        )


def test_oracles_bound_what_they_say():
    """The affine one beats every other affine map; the pointwise one beats it; both need the reference."""
    scene = scenes()
    affine, pointwise = (fuse(name, scene) for name in ORACLES)

    def error(x):
        return (x.double() - scene.gt.double()).square().mean((2, 3))

    design = torch.stack([scene.pan.flatten(1), torch.ones_like(scene.pan.flatten(1))], 2).double()
    weights = torch.linalg.lstsq(design, scene.gt.flatten(2).mT.double()).solution
    torch.testing.assert_close(affine.double(), (design @ weights).mT.view_as(affine), rtol=1e-6, atol=1e-3)
    assert (error(affine) < error(fuse("scene-affine", scene))).all()
    assert (error(pointwise) < error(affine)).all()
    level = scene.pan[0, 0] == scene.pan[0, 0].median()
    for band in range(4):
        torch.testing.assert_close(pointwise[0, band][level].mean(), scene.gt[0, band][level].mean())
        assert pointwise[0, band][level].unique().numel() == 1
    for name in ORACLES:
        with pytest.raises(BenchError, match=f"{name} is fitted to the reference"):
            pb.get_method(name)(scene.pan, reference=None)


def test_oracles_treat_images_apart():
    scene = scenes()
    for name in ORACLES:
        together = fuse(name, scene)
        apart = torch.cat([fuse(name, scene[i]) for i in range(3)])
        torch.testing.assert_close(together, apart, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", [*SCENE_ROWS, *ORACLES])
def test_flat_scenes_stay_finite(name):
    pan, ms = torch.full((1, 1, 32, 32), 300.0), torch.full((1, 4, 8, 8), 200.0)
    scene = Scene(as_sensor("qb"), pan=pan, ms=ms, gt=ms.repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert (fuse(name, scene) - 200).abs().max() < 2


@pytest.mark.parametrize(
    ("name", "dataset", "ergas", "sam"),
    [
        ("exp", "qb", 1.45, 1.4),
        ("mtf-glp-fs", "qb", 0.74, 1.1),
        ("scene-ot", "qb", 1.26, 2.2),
        ("oracle-affine", "qb", 1.25, 2.2),
        ("exp", "gf2", 2.8, 1.7),
        ("mtf-glp-fs", "gf2", 3.4, 2.1),
        ("oracle-affine", "gf2", 3.4, 3.3),
    ],
)
def test_real_scenes_score_as_independent_trials_did(name, dataset, ergas, sam):
    """Figures of an independent NumPy trial on the same real scenes, to the digits it gave."""
    split = pb.load_dataset(dataset, real_data(), label="mini").split("reduced")
    scene = split[0 : len(split)]
    fused, reference = crop_border(fuse(name, scene)), crop_border(scene.gt)
    assert abs(metrics.ergas(fused, reference, ratio=4).mean().item() - ergas) < 0.05
    assert abs(metrics.sam(fused, reference).mean().item() - sam) < 0.1
