"""The closed-form rows of a calibration: what they reach on what they were fitted to, and on other images."""

import pytest
import torch
from torch import Tensor

from pansharp_bench import metrics
from pansharp_bench.errors import BenchError
from pansharp_bench.method import build, is_trained, resolve_config
from pansharp_bench.methods._closed_form import quantiles, sample
from pansharp_bench.methods.colour_ot import monge
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, Sensor, Split
from pansharp_bench.training import UnpairedData

RGB = ("red", "green", "blue")
SENSOR = Sensor("three", "Three bands", RGB, 1.0, (1.0,) * 3, 1.0, (0, 1, 2), ratio=1, source=RGB)
MATCHED = ("channel-affine", "histogram-matching", "colour-ot")
FITTED = (*MATCHED, "minimal-ot")
ROWS = ("identity", *FITTED)
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def fields(n: int, seed: int, side: int = 64) -> Tensor:
    """(n, 3, side, side): smooth structure and noise, channels independent."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.nn.functional.interpolate(
        torch.randn(n, 3, 8, 8, generator=g), (side, side), mode="bicubic"
    )
    return coarse + 0.3 * torch.randn(n, 3, side, side, generator=g)


def mixed(x: Tensor, matrix: list[list[float]]) -> Tensor:
    return torch.einsum("ij,njhw->nihw", torch.tensor(matrix), x)


def sources(n: int = 24, seed: int = 0) -> Tensor:
    """Positively correlated channels about 0.5."""
    return (0.5 + 0.1 * mixed(fields(n, seed), [[1, 0.5, 0.2], [0, 1, 0.3], [0.2, 0, 1]])).clamp(0, 1)


def targets(n: int = 20, seed: int = 1) -> Tensor:
    """Darker, flatter, curved and rotated: no map of each channel alone reaches these colours."""
    x = fields(n, seed)
    x[:, 1] = 0.5 * x[:, 0] ** 2 + 0.5 * x[:, 1]
    return (0.4 + 0.06 * mixed(x, [[1, -0.5, 0.2], [0.5, 1, 0.3], [-0.2, 0.4, 1]])).clamp(0, 1)


class Unpaired:
    """What a closed-form row asks of unpaired training data."""

    def __init__(self, source: Tensor, target: Tensor) -> None:
        self.source, self.target = source, target

    def all_source(self) -> Tensor:
        return self.source

    def all_target(self) -> Tensor:
        return self.target


def ready(name: str, source: Tensor, target: Tensor, sensor: Sensor = SENSOR, **options):
    entry = METHODS.get(name)
    method = build(entry, sensor, resolve_config(entry, "quick", options))
    if is_trained(entry):
        method.to(source.device).fit(Unpaired(source, target), None)
    return method


def fuse(method, source: Tensor) -> Tensor:
    scene = Scene(method.sensor if hasattr(method, "sensor") else SENSOR, pan=source)
    return method.fuse(scene.seen_by(method.card))


def sliced_distance(x: Tensor, y: Tensor) -> float:
    """Mean earth mover's distance along 50 random directions of colour space; sets of one size, every second
    row and column of them."""
    directions = torch.randn(50, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    directions /= directions.norm(dim=1, keepdim=True)
    x, y = (
        (directions @ v[..., ::2, ::2].double().transpose(0, 1).flatten(1)).sort(1).values for v in (x, y)
    )
    return (x - y).abs().mean().item()


def test_cards():
    for name in ROWS:
        card = METHODS.get(name).card
        assert card.kind == ("untouched" if name == "identity" else "baseline")
        assert (card.sees, card.tracks) == ("pan", ("calibration",))
        assert card.training == ("none" if name == "identity" else "unpaired")
        assert card.title and card.summary


def test_identity_is_the_source_and_a_copy():
    source = sources(2)
    fused = fuse(ready("identity", source, source), source)
    assert torch.equal(fused, source) and fused.data_ptr() != source.data_ptr()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", FITTED)
def test_shape_type_device_and_range(name, device):
    source, target = sources(6).to(device), targets(6).to(device)
    method = ready(name, source, target)
    for images in (source[:2], source[:1, :, :40, :24], 3 * source[:1] - 1):
        fused = fuse(method, images)
        assert fused.shape == images.shape and fused.dtype == torch.float32 and fused.device.type == device
        assert fused.min() >= 0 and fused.max() <= 1 and fused.isfinite().all()


@pytest.mark.parametrize("name", FITTED)
def test_a_batch_is_its_images_and_inputs_stay(name):
    source = sources(5)
    method, before = ready(name, source, targets(6)), source.clone()
    both = fuse(method, source)
    alone = torch.cat([fuse(method, source[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(both, alone, rtol=0, atol=2e-6)
    assert torch.equal(source, before)


@pytest.mark.parametrize("name", FITTED)
def test_everything_is_in_the_state_and_fitting_is_repeatable(name):
    source, target = sources(6), targets(6)
    method = ready(name, source, target)
    torch.manual_seed(99)
    again, fresh = ready(name, source, target), build(METHODS.get(name), SENSOR)
    assert torch.equal(fuse(again, source), fuse(method, source))
    assert not torch.equal(fuse(fresh, source), fuse(method, source))
    fresh.load_state_dict(method.state_dict())
    assert torch.equal(fuse(fresh, source), fuse(method, source))
    assert not list(method.parameters())


@pytest.mark.parametrize("name", FITTED)
def test_of_one_distribution_nothing_is_changed(name):
    source = sources(6)
    fused = fuse(ready(name, source, source.flip(0)), source)
    # quantiles lie between the samples; the linear interpolation of a tail is its largest error
    tolerance = 1e-6 if name == "channel-affine" else 2e-3
    assert (fused - source).abs().max() < tolerance


def test_channel_affine_reaches_mean_and_deviation():
    source, target = sources(), targets()
    assert source.std((0, 2, 3)).min() > 1.3 * target.std((0, 2, 3)).min()
    method = ready("channel-affine", source, target)
    fused = fuse(method, source)
    assert fused.min() > 0 and fused.max() < 1  # nothing was clamped
    torch.testing.assert_close(fused.mean((0, 2, 3)), target.mean((0, 2, 3)), rtol=1e-5, atol=0)
    torch.testing.assert_close(fused.std((0, 2, 3)), target.std((0, 2, 3)), rtol=1e-5, atol=0)
    line = torch.stack([torch.full((3, 1, 1), v) for v in (0.3, 0.4, 0.5)])
    steps = fuse(method, line).diff(dim=0).flatten(1)
    wanted = 0.1 * target.std((0, 2, 3)) / source.std((0, 2, 3))
    torch.testing.assert_close(steps, wanted.expand(2, 3), rtol=1e-4, atol=0)


def test_channel_affine_of_a_flat_channel_is_the_targets_mean():
    source, target = sources(4), targets(4)
    source[:, 1] = 0.3
    fused = fuse(ready("channel-affine", source, target), source)
    torch.testing.assert_close(fused[:, 1], target[:, 1].mean().expand_as(fused[:, 1]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["histogram-matching", "colour-ot"])
def test_histograms_are_reached(name):
    source, target = sources(12), targets(10)
    method = ready(name, source, target)
    fused = fuse(method, source)
    assert metrics.chi2_histogram(source, target) > 0.2
    assert metrics.chi2_histogram(fused, target) < 1e-4
    assert metrics.chi2_histogram(fused, target, 256) < 3e-3
    assert metrics.earth_movers_distance(fused, target) < 3e-4
    # images that were not learnt from are as near as two sets of targets are to each other
    unseen = fuse(method, sources(12, seed=5))
    chance = metrics.chi2_histogram(targets(12, seed=6), target)
    assert metrics.chi2_histogram(unseen, target) < 3 * chance


def test_histogram_matching_is_one_rising_curve_per_channel():
    source, target = sources(), targets()
    fused = fuse(ready("histogram-matching", source, target), source)
    for c in range(3):
        order = source[:, c].flatten().argsort()
        assert (fused[:, c].flatten()[order].diff() >= -1e-6).all()
    for q in (0.01, 0.25, 0.5, 0.9, 0.99):
        ours, wanted = (x.transpose(0, 1).flatten(1).double().quantile(q, 1) for x in (fused, target))
        torch.testing.assert_close(ours, wanted, rtol=0, atol=2e-4)


def test_colour_ot_reaches_the_joint_distribution_and_channels_alone_do_not():
    source, target = sources(20), targets(20)
    methods = {name: ready(name, source, target) for name in ROWS}
    methods["linear"] = ready("colour-ot", source, target, rotations="0")
    fused = {name: fuse(method, source) for name, method in methods.items()}
    apart = {name: sliced_distance(x, target) for name, x in fused.items()}
    assert apart["identity"] > apart["channel-affine"] > apart["histogram-matching"]
    assert apart["colour-ot"] < apart["histogram-matching"] / 5
    assert apart["colour-ot"] < apart["linear"] / 5
    correlations = {
        name: x.transpose(0, 1).flatten(1).double().corrcoef()
        for name, x in {**fused, "target": target}.items()
    }
    wrong = {name: (c - correlations["target"]).abs().max() for name, c in correlations.items()}
    assert wrong["colour-ot"] < wrong["histogram-matching"] / 10
    # on images that were not learnt from, as near as another set of targets
    unseen = fuse(methods["colour-ot"], sources(20, seed=5))
    assert sliced_distance(unseen, target) < 2 * sliced_distance(targets(20, seed=6), target)


def test_colour_ot_undoes_a_mixture_of_gaussian_channels():
    """Between Gaussians it is the linear map alone, which is known: T S T = D, and T is symmetric."""
    g = torch.Generator().manual_seed(11)
    source = 0.5 + 0.05 * torch.randn(16, 3, 64, 64, generator=g)
    mix = torch.tensor([[1.0, 0.5, 0.2], [0.5, 1.2, 0.1], [0.2, 0.1, 0.8]])  # symmetric and positive
    target = 0.5 + torch.einsum("ij,njhw->nihw", mix, source - 0.5)
    method = ready("colour-ot", source[:8], target[8:])
    inside = source[8:]
    error = fuse(method, inside) - target[8:]
    assert error.square().mean().sqrt() < 0.05 * (target - 0.5).square().mean().sqrt()
    torch.testing.assert_close(method.matrix, mix, rtol=0, atol=0.02)


def test_monge_between_covariances():
    g = torch.Generator().manual_seed(12)
    a, b = (torch.randn(4, 4, generator=g, dtype=torch.float64) for _ in range(2))
    source, target = a @ a.T, b @ b.T
    matrix = monge(source, target)
    torch.testing.assert_close(matrix @ source @ matrix, target)
    torch.testing.assert_close(matrix, matrix.T)
    assert (torch.linalg.eigvalsh(matrix) > 0).all()
    scales = torch.tensor([4.0, 9.0]).double().diag()
    torch.testing.assert_close(
        monge(scales, torch.eye(2).double()), torch.tensor([1 / 2, 1 / 3]).double().diag()
    )
    assert not monge(torch.zeros(3, 3).double(), torch.eye(3).double()).any()


def test_colour_ot_does_not_tear_rare_colours_apart():
    """A smooth ramp through a colour that one pixel in a hundred has stays a ramp."""
    source, target = sources(), targets()
    rare = torch.tensor([0.9, 0.35, 0.2])[:, None, None]
    source[:, :, :6, :6] = rare + 0.02 * (source[:, :, :6, :6] - 0.5)
    method = ready("colour-ot", source, target)
    ramp = rare + torch.tensor([0.05, 0.05, 0.05])[:, None, None] * torch.linspace(-1, 1, 201)
    steps = fuse(method, ramp[None]).diff(dim=3).norm(dim=1)
    assert steps.max() < 0.02  # the source's own steps are 0.00087


@pytest.mark.parametrize("name", MATCHED)
def test_flat_sources_and_flat_targets(name):
    flat = torch.full((2, 3, 16, 16), 0.3)
    fused = fuse(ready(name, flat, targets(4)), flat)
    low, high = (getattr(targets(4).transpose(0, 1).flatten(1), k)(1).values for k in ("min", "max"))
    assert ((fused >= low[:, None, None]) & (fused <= high[:, None, None])).all()
    fused = fuse(ready(name, sources(4), flat), sources(4))
    torch.testing.assert_close(
        fused, flat[:1].repeat_interleave(4, 2).repeat_interleave(4, 3).repeat(4, 1, 1, 1)
    )


@pytest.mark.parametrize("name", MATCHED)
def test_the_unit_is_the_sensors(name):
    """1000 times the values under a peak of 1000: 1000 times the result."""
    source, target = sources(4), targets(4)
    thousand = Sensor(
        "kilo",
        "Kilo",
        SENSOR.bands,
        1000.0,
        (1.0,) * 3,
        1.0,
        (0, 1, 2),
        ratio=1,
        source=("red", "green", "blue"),
    )
    ours = fuse(ready(name, 1000 * source, 1000 * target, thousand), 1000 * source) / 1000
    torch.testing.assert_close(ours, fuse(ready(name, source, target), source), rtol=0, atol=5e-4)


def test_options_are_checked():
    entry = METHODS.get("colour-ot")
    for options in ({"knots": "1"}, {"rotations": "-1"}):
        with pytest.raises(BenchError, match=f"{next(iter(options))}={next(iter(options.values()))}"):
            resolve_config(entry, "quick", options)
    with pytest.raises(BenchError, match="knots=1"):
        resolve_config(METHODS.get("histogram-matching"), "quick", {"knots": "1"})


def test_samples_and_quantiles_are_spread_evenly():
    images = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    everything = sample(images, 32)
    assert torch.equal(everything, images.transpose(0, 1).flatten(1))
    assert torch.equal(sample(images, 10), everything[:, ::3])
    assert quantiles(everything.flip(1), 3)[0].tolist() == [0, 48, 63]


class TestMinimalTransport:
    def test_its_price_is_a_dial_between_the_source_and_the_match(self):
        source, target = sources(), targets()
        far, near = [], []
        for price in (0.1, 5, 20, 80, 1e5):
            fused = fuse(ready("minimal-ot", source, target, price=price), source)
            far.append((fused - source).square().mean().item())
            near.append(metrics.chi2_histogram(fused, target).item())
        assert far == sorted(far, reverse=True) and near == sorted(near)
        within = 1 / 31**2 / 12  # a value moved anywhere in its bin
        assert near[0] < 0.002 and far[-1] < within
        kept = fuse(ready("minimal-ot", source, target, price=1e5, spread=0), source)
        assert (kept - source).square().mean().item() < 1e-6  # a map of 8193 points
        assert near[-1] > 0.9 * metrics.chi2_histogram(source, target)

    def test_no_shorter_way_to_its_histogram_is_known(self):
        """A share of the way to the matched colours is farther from the source and no nearer to the target."""
        source, target = sources(), targets()
        least = fuse(ready("minimal-ot", source, target, price=20.0), source)
        matched = fuse(ready("histogram-matching", source, target), source)
        moved = (least - source).square().mean().sqrt() / (matched - source).square().mean().sqrt()
        straight = torch.lerp(source, matched, moved.item())
        assert metrics.chi2_histogram(least, target) < 0.9 * metrics.chi2_histogram(straight, target)

    def test_spread_costs_transport_and_spares_grey_levels(self):
        source, target = sources(), targets()
        edge, even = (fuse(ready("minimal-ot", source, target, spread=x), source) for x in (0.0, 1.0))
        assert (edge - source).square().mean() < (even - source).square().mean()
        coarse, fine = ([metrics.chi2_histogram(x, target, n) for x in (edge, even)] for n in (31, 256))
        assert abs(coarse[0] - coarse[1]) < 0.005 and fine[0] > 3 * fine[1]

    @pytest.mark.parametrize("wrong", [{"price": 0}, {"bins": 1}, {"spread": 1.5}])
    def test_options_that_mean_nothing_are_refused(self, wrong):
        with pytest.raises(BenchError, match="are needed"):
            ready("minimal-ot", sources(2), targets(2), **wrong)


class Places(Split):
    """Images of two zones, about 20 degrees north and south, whose colours are each other's in the target."""

    sensor, keys = SENSOR, ("pan",)

    def __init__(self, name: str, known: bool = True) -> None:
        g = torch.Generator().manual_seed(len(name))
        self.name, self.groups = name, torch.arange(12) % 2
        self.latitude = 40.0 * self.groups - 20 + torch.rand(12, generator=g) if known else None
        level = torch.where((self.groups == 1) == (name == "target"), 0.6, 0.4)
        self.images = level[:, None, None, None] + 0.02 * torch.randn(12, 3, 16, 16, generator=g)

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index):
        index = slice(index, index + 1) if isinstance(index, int) else index
        return Scene(
            SENSOR, self.images[index], latitude=None if self.latitude is None else self.latitude[index]
        )


class TestZoneTransport:
    @staticmethod
    def fitted():
        method = build(METHODS.get("zone-ot"), SENSOR, resolve_config(METHODS.get("zone-ot"), "quick", {}))
        cpu = torch.device("cpu")
        return method, method.fit(UnpairedData.between(SENSOR, Places("train"), Places("target"), cpu), None)

    def test_colours_hang_on_the_latitude_which_values_alone_cannot_tell(self):
        method, told = self.fitted()
        test, target = Places("train"), Places("target")
        fused = torch.cat([method.fuse(s.seen_by(method.card)) for s in test])
        for zone in (0, 1):
            chosen = test.groups == zone
            assert metrics.chi2_histogram(fused[chosen], target.images[chosen]) < 0.05
            assert metrics.chi2_histogram(test.images[chosen], target.images[chosen]) > 0.9
        assert {20.0, -20.0} <= {*told["latitudes"]}

    def test_maps_are_blended_between_the_middles_of_bands(self):
        method, _ = self.fitted()
        pan = Places("train").images[:1]
        steps = [
            method.fuse(Scene(SENSOR, pan, latitude=torch.tensor([x]))) for x in (-90.0, -20.0, 0.0, 1.0, 2.5)
        ]
        assert torch.equal(steps[0], steps[1])  # beyond what was seen the nearest map holds
        torch.testing.assert_close(torch.lerp(steps[2], method.fuse(
            Scene(SENSOR, pan, latitude=torch.tensor([5.0]))), 0.5), steps[4], rtol=0, atol=1e-5)  # fmt: skip

    def test_a_method_that_sees_the_source_alone_is_not_told_where_it_is(self):
        scene = Places("train")[0]
        assert scene.latitude is not None and scene.to("cpu").clone()[0].latitude == scene.latitude
        assert scene.seen_by(METHODS.get("histogram-matching").card).latitude is None
        assert scene.seen_by(METHODS.get("zone-ot").card).latitude == scene.latitude
        with pytest.raises(BenchError, match="expected 1 latitudes"):
            Scene(SENSOR, scene.pan, latitude=torch.zeros(2))

    def test_images_of_nowhere_are_refused(self):
        method, _ = self.fitted()
        with pytest.raises(BenchError, match="latitude"):
            method.fuse(Places("train", known=False)[0])
        data = UnpairedData.between(
            SENSOR, Places("train", known=False), Places("target"), torch.device("cpu")
        )
        with pytest.raises(BenchError, match="latitudes of the training images"):
            method.fit(data, None)
