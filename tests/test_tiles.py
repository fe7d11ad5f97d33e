"""Scenes fused tile by tile: the tiles leave no trace, nor does what has no data."""

import json
from copy import deepcopy
from dataclasses import replace
from itertools import cycle, islice

import pytest
import torch
from torch import Tensor

import pansharp_bench as pb
from pansharp_bench import tiles
from pansharp_bench.errors import BenchError, ImageError
from pansharp_bench.imaging import decimate, interp23, mtf_filter, statistics
from pansharp_bench.imaging.statistics import (
    Own,
    Survey,
    moments,
    ordered,
    percentile,
    products,
    reduce_tree,
    triangle,
)
from pansharp_bench.method import FunctionMethod, TrainedMethod, build, ready_method, resolve_config
from pansharp_bench.methods._classical import mean
from pansharp_bench.registry import METHODS, MethodCard
from pansharp_bench.scene import Sensor, as_sensor
from pansharp_bench.tiles import REACH, TensorPair, fuse_pair, rounds_of
from pansharp_bench.weights import save_weights

SHIPPED = [
    e
    for e in METHODS
    if e.origin.startswith("pansharp_bench.")
    and "pansharpening" in e.card.tracks
    and e.card.sees != "reference"
]
UNTRAINED = [e.name for e in SHIPPED if e.card.training == "none"]
LOCAL = [
    "pnn",
    "pannet",
    "dicnn",
    "fusionnet",
    "msdcnn",
    "ms-net",
    "pan-affine",
    "pan-mean-spectrum",
    "pan-ot",
]
GRIDS = [(4, None), (4, 0.0), (4, 1.5), (4, 2.0), (2, None), (2, (0.0, 0.63))]
Q = as_sensor("ikonos")  # TV takes a fifth of its steps


def camera(ratio: int = 4, phase: tuple[float, float] | float | None = None) -> Sensor:
    return replace(Q, ratio=ratio, phase=phase)


def pair(sensor: Sensor = Q, height: int = 92, width: int = 108) -> TensorPair:
    """A scene with structure at all scales, an odd number of MS pixels a side at ratio 4."""
    g = torch.Generator().manual_seed(1)
    gt = torch.zeros(1, sensor.channels, height, width, dtype=torch.float64)
    for cells in (3, 12, 40):
        shared, own = (torch.randn(1, n, cells, cells, generator=g) for n in (1, sensor.channels))
        gt += torch.nn.functional.interpolate(shared + 0.4 * own, (height, width), mode="bicubic")
    gt = (60 * gt + 700).clamp(1)
    pan = gt.mean(1, keepdim=True) + 10 * torch.randn(1, 1, height, width, generator=g)
    return TensorPair(pan[0], decimate(mtf_filter(gt, sensor), sensor)[0], sensor)


def whole(method, scene: TensorPair, **options) -> Tensor:
    """The tiles put together; 0 where nothing is valid."""
    fused = torch.full((scene.sensor.channels, *scene.size), torch.nan, dtype=torch.float64)
    for part in fuse_pair(method, scene, **options):
        values = part.fused if part.valid is None else part.fused * part.valid
        fused[:, part.rows, part.cols] = values
    assert not fused.isnan().any()
    return fused


def valid(scene: TensorPair) -> Tensor:
    found = torch.ones(scene.size, dtype=torch.bool)
    for part in fuse_pair("pan-replicate", scene, tile=32):
        assert part.valid is not None
        found[part.rows, part.cols] = part.valid
    return found


@pytest.mark.parametrize(("ratio", "phase"), GRIDS)
@pytest.mark.parametrize("name", UNTRAINED)
def test_tiled_is_untiled(name, ratio, phase):
    scene = pair(camera(ratio, phase))
    apart = whole(name, scene, tile=40) - whole(name, scene, tile=1000)
    assert apart.abs().max() < 1e-9 * scene.sensor.peak


@pytest.mark.parametrize("name", ["gsa", "mtf-glp-fs", "bt-h"])
def test_tiles_of_any_size(name):
    """Tiles that are the scene but for a row or column leave one of a single MS pixel."""
    scene = pair()
    one = whole(name, scene, tile=1000)
    for tile in (33, 64, 88, 107):
        assert (whole(name, scene, tile=tile) - one).abs().max() < 1e-9 * Q.peak


def test_a_round_of_statistics_is_enough():
    """Of the moments of what is linear in the bands none has to wait for the weights."""
    wanted = {"exp": 0, "gsa": 1, "gs": 1, "mtf-glp-fs": 1, "mtf-glp": 1}
    assert {name: rounds_of(ready_method(name, Q), Q) for name in wanted} == wanted


def test_threads_change_nothing():
    scene, name = pair(), "gsa"
    assert torch.equal(whole(name, scene, tile=32, threads=3), whole(name, scene, tile=32))


@pytest.mark.parametrize("ratio", [2, 4])
def test_a_tile_is_seen_with_its_halo_and_no_more(ratio):
    """The expansion takes what it needs beyond; filters of PAN reach twice as many MS pixels at ratio 2."""
    seen = set()
    method = FunctionMethod(MethodCard("seen", halo=2), lambda lms: seen.add((*lms.shape[-2:],)) or lms)
    scene = pair(camera(ratio), 96, 96)
    apart = whole(method, scene, tile=32) - whole("exp", scene)
    assert apart.abs().max() < 1e-13 * Q.peak
    assert (32 + 2 * 8,) * 2 in seen and all(h <= 64 for h, _ in seen)


def test_tv_of_fifty_steps():
    scene = pair(as_sensor("qb"), 48, 64)
    assert (whole("tv", scene, tile=32) - whole("tv", scene, tile=64)).abs().max() < 1e-9 * 2047


def network(name: str) -> TrainedMethod:
    entry = METHODS.get(name)
    torch.manual_seed(0)
    method = build(entry, as_sensor("qb"), resolve_config(entry, "quick"))
    assert isinstance(method, TrainedMethod)
    return method.eval()


@pytest.mark.parametrize("name", LOCAL)
def test_tiled_networks_are_untiled(name):
    scene = pair(replace(as_sensor("qb"), phase=1.5), 60, 76)
    method = network(name)
    apart = whole(method, scene, tile=40) - whole(method, scene, tile=1000)
    assert apart.abs().max() < 1e-5 * 2047


def test_cards_say_what_can_be_tiled():
    assert {e.name for e in SHIPPED if e.card.halo is not None} == {*UNTRAINED, *LOCAL}


class TestMethodsToWhichEveryPixelMatters:
    method = staticmethod(lambda: network("lagnet"))

    def test_see_the_whole_scene_expanded_beyond_its_edges(self):
        scene = pair(as_sensor("qb"), 48, 64)
        fused = whole(self.method(), scene, tile=16)
        lms = whole("exp", scene)
        images = scene.pan[None], scene.ms[None], lms[None]
        with torch.inference_mode():
            expected = self.method().fuse(pb.Scene(scene.sensor, *images))[0]
        assert torch.equal(fused, expected)

    def test_are_refused_where_it_is_too_large(self):
        with pytest.raises(BenchError, match=r"'lagnet' every pixel .* cannot fuse 92 x 108 PAN pixels"):
            fuse_pair(self.method(), pair(as_sensor("qb")), tile=48, whole=1000)

    def test_are_tiled_on_request_and_the_seams_measured(self, monkeypatch):
        monkeypatch.setattr(tiles, "APPROXIMATE", 8)
        scene = pair(as_sensor("qb"), 48, 64)
        how = {"tile": 32, "whole": 1000, "approximate": True}
        fusion = fuse_pair(self.method(), scene, **how)
        assert fusion.seam is None
        parts = iter(fusion)
        list(islice(parts, 3))
        reached = deepcopy(fusion.reached)
        assert len(list(parts)) == 1
        average, largest = fusion.seam
        assert 0 < average < largest < 50
        further = fuse_pair(self.method(), scene, **how, reached=reached)
        assert len(list(further)) == 1 and further.seam == fusion.seam


@pytest.mark.parametrize("name", ["unsb", "sp-i2i"])
def test_noise_is_that_of_the_place_whatever_the_tiles(name):
    """A generator that leaves the state of the bridge as it is: what differs from PAN is noise."""

    class Still(torch.nn.Module):
        noise_width = 1

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, state, index, z, source):
            return state

    entry = METHODS.get(name)
    method = build(entry, as_sensor("qb"), resolve_config(entry, "quick", {"nfe": 3, "ngf": 4})).eval()
    method.generator = Still()
    scene = pair(as_sensor("qb"), 96, 112)
    seen = [whole(method, scene, tile=side, whole=1000, approximate=True) for side in (32, 76)]
    assert torch.equal(*seen) and torch.equal(seen[0], whole(method, scene))
    method.config = replace(method.config, bridge_noise=False)
    assert (seen[0] - whole(method, scene)).std() > 1


class TestBorders:
    def test_the_toolbox_is_followed_on_request(self):
        scene = pair()
        fused = whole("gsa", scene, tile=16, border="toolbox")
        assert torch.equal(fused, pb.fuse("gsa", scene.pan[None], scene.ms[None], sensor=Q)[0])
        with pytest.raises(BenchError, match="need one tile"):
            fuse_pair("gsa", scene, border="toolbox", whole=1000)

    def test_the_far_side_of_the_scene_is_not_seen(self):
        scene = pair()
        slope = torch.linspace(100, 1100, scene.ms.shape[-1], dtype=torch.float64).expand_as(scene.ms)
        scene = replace(scene, ms=slope.contiguous())
        ringing = {
            b: whole("exp", scene, border=b).diff(dim=-1).abs().max().item() for b in ("mirror", "toolbox")
        }
        assert ringing["mirror"] < 20 and ringing["toolbox"] > 100


class TestNodata:
    def masked(self, fill: float = 0.0, sensor: Sensor = Q) -> TensorPair:
        """A quarter without data in both images, a hole in each."""
        scene = pair(sensor, 128, 144)
        (h, w), r = scene.size, sensor.ratio
        in_pan, in_ms = torch.ones(h, w, dtype=torch.bool), torch.ones(h // r, w // r, dtype=torch.bool)
        in_pan[: h // 2, : w // 2] = False
        in_ms[: h // r // 2, : w // r // 2] = False
        in_pan[100, 100] = in_ms[30, 3] = False
        pan, ms = (torch.where(v, x, fill) for v, x in ((in_pan, scene.pan), (in_ms, scene.ms)))
        return replace(scene, pan=pan, ms=ms, valid_pan=in_pan, valid_ms=in_ms)

    def test_the_mask_grows_by_the_reach(self):
        found, r = valid(self.masked()), Q.ratio
        assert not found[: 64 + REACH * r, : 72 + REACH * r].any()
        assert found[64 + REACH * r :, 72 + REACH * r : 90].all()
        for row, col in ((25, 25), (30, 3)):  # MS pixels that a hole is in
            rows, cols = (slice(max(0, r * (i - REACH)), r * (i + REACH + 1)) for i in (row, col))
            assert not found[rows, cols].any()

    @pytest.mark.parametrize(("name", "grid"), list(zip(UNTRAINED, cycle(GRIDS), strict=False)))
    def test_what_stands_there_does_not_matter(self, name, grid):
        sensor = camera(*grid)
        expected = whole(name, self.masked(sensor=sensor), tile=1000)
        for fill in (1e6, torch.nan):
            assert torch.equal(whole(name, self.masked(fill, sensor), tile=1000), expected)
        apart = whole(name, self.masked(torch.nan, sensor), tile=48) - expected
        assert apart.abs().max() < 1e-9 * Q.peak

    def test_statistics_are_of_what_is_valid(self):
        scene = self.masked(torch.nan)
        card = MethodCard("means", halo=12)
        means = FunctionMethod(card, lambda lms: (mean(lms) + 0 * lms) if lms.shape[-1] > 8 else lms)
        lms, seen = whole("exp", scene), valid(scene)
        expected = lms[:, seen].mean(1)[:, None]
        for tile in (1000, 40):
            torch.testing.assert_close(
                whole(means, scene, tile=tile)[:, seen], expected.expand(-1, seen.sum()), rtol=1e-12, atol=0
            )

    def test_far_from_the_collar_it_is_as_if_there_were_data(self):
        """But for the statistics: of a method without any the result is the same to the tails of the kernel."""
        scene = self.masked()
        apart = (whole("exp", scene) - whole("exp", pair(Q, 128, 144))) * valid(scene)
        assert apart.abs().max() < 0.05

    def test_scenes_that_hold_nothing_are_refused(self):
        scene = self.masked()
        for nothing in ({"valid_pan": scene.valid_pan & False}, {"valid_ms": scene.valid_ms & False}):
            with pytest.raises(ImageError, match=r"no pixel of (PAN|MS) is valid"):
                list(fuse_pair("gsa", replace(scene, **nothing)))

    def test_values_that_are_missing_must_be_declared(self):
        scene = pair()
        scene.ms[2, 5, 5] = torch.nan
        with pytest.raises(ImageError, match="ms has values that are NaN"):
            list(fuse_pair("gsa", scene))


def test_integers_are_fused_as_floats():
    scene = pair()
    counts = replace(scene, pan=scene.pan.round(), ms=scene.ms.round())
    sixteen = replace(scene, pan=counts.pan.to(torch.uint16), ms=counts.ms.to(torch.uint16))
    assert torch.equal(whole("gsa", sixteen, tile=40), whole("gsa", counts, tile=40))


def test_progress_and_values_beyond_reason():
    told: list[float] = []
    scene = replace(pair(), sensor=replace(Q, peak=500))
    fusion = fuse_pair("gsa", scene, tile=48, progress=told.append)
    values = torch.cat([part.fused.flatten() for part in fusion])
    assert told == sorted(told) and (told[0], told[-1]) == (0, 1) and len(told) % 6 == 1
    assert fusion.beyond == ((values > 750) | (values < -250)).sum() > 0


def test_what_cannot_be_fused_is_refused():
    scene = pair()
    with pytest.raises(BenchError, match="'oracle-affine' looks at a reference"):
        fuse_pair("oracle-affine", scene)
    with pytest.raises(BenchError, match="'pnn' must be trained first"):
        fuse_pair("pnn", scene)
    with pytest.raises(BenchError, match="is made for calibration"):
        fuse_pair("identity", scene)
    with pytest.raises(ImageError, match="a scene of 91 x 108 PAN pixels cannot be fused"):
        fuse_pair("gsa", replace(scene, pan=scene.pan[:, 1:]))


class TestStatistics:
    """Answers put together from pieces, beside those of the whole."""

    def pieces(self, ask, x: Tensor, cuts: list[int]) -> list[Tensor]:
        survey, found = Survey(), []
        parts = [x[..., a:b] for a, b in zip([0, *cuts], [*cuts, x.shape[-1]], strict=True)]

        def visit(part):
            grids = {tuple(part.shape[-2:]): Own(slice(None), slice(None), None, x[0, 0].numel())}
            return survey.visit(lambda: found.append(ask(part)) or part, grids)[1]

        survey.learn(visit(part) for part in parts)
        found.clear()
        assert not visit(parts[0])
        return found[0]

    def test_answers_do_not_depend_on_the_pieces(self):
        x = torch.randn(1, 3, 7, 400, generator=torch.Generator().manual_seed(0)).double() * 5 + 1e4
        asked = [
            lambda x: torch.cat([v.flatten() for v in moments(x[:, :2], x[:, 2:])]),
            lambda x: products(x).products,
            lambda x: percentile(x, 1),
            lambda x: percentile(x, 50),
            lambda x: percentile(x, 0),
            lambda x: triangle(x).mT @ triangle(x),
            ordered,
        ]
        for ask in asked:
            for cuts in ([1, 3, 200], [399], [50, 100, 150, 200, 250, 300]):
                torch.testing.assert_close(self.pieces(ask, x, cuts), ask(x), rtol=1e-11, atol=0)

    def test_what_is_not_known_yet_is_not_measured(self, monkeypatch):
        measured = []
        plain = statistics._moments_of_piece
        monkeypatch.setattr(
            statistics, "_moments_of_piece", lambda *x: measured.append(x[0].shape[-1]) or plain(*x)
        )
        x, whole = torch.rand(1, 1, 20, 20), slice(None)
        grids = {(20, 20): Own(whole, whole, None, 400)}
        Survey().visit(lambda: moments(x - moments(x).mean[..., None, None]).mean, grids)
        assert measured == [400, 1]

    def test_parts_are_merged_by_pairs(self):
        """In an order that hangs on their number alone, so that a scene's result does on its tiles alone."""
        assert reduce_tree(lambda a, b: f"({a}{b})", "a") == "a"
        assert reduce_tree(lambda a, b: f"({a}{b})", "abcdefg") == "(((ab)(cd))((ef)g))"
        assert reduce_tree(torch.add, torch.full((10**4,), 0.1)).item() == pytest.approx(1000, rel=1e-7)

    def test_percentiles_are_matlabs(self):
        x = torch.tensor([[[[3.0, 1.0, 2.0, 4.0]]]], dtype=torch.float64)
        for percent, expected in ((0, 1), (12.5, 1), (25, 1.5), (50, 2.5), (87.5, 4), (100, 4)):
            assert percentile(x, percent).item() == expected


class TestWeights:
    def saved(self, tmp_path, name="pannet", **told):
        method = network(name)
        path = tmp_path / f"{name}.safetensors"
        about = {"method": name, "sensor": "qb", "options": {}, **told}
        save_weights(method.state_dict(), path, json.dumps(about))
        return method, path

    def test_a_trained_method_is_fused_with_by_name(self, tmp_path):
        method, path = self.saved(tmp_path)
        scene = pair(as_sensor("qb"), 48, 64)
        pan, ms = scene.pan[None].float(), scene.ms[None].float()
        fused = pb.fuse("pannet", pan, ms, sensor="qb", weights=path)
        with torch.inference_mode():
            expected = method.fuse(pb.Scene(as_sensor("qb"), pan, ms, interp23(ms)))
        assert torch.equal(fused, expected) and not fused.requires_grad
        assert torch.equal(whole("pannet", scene, weights=path), whole(method, scene))

    def test_a_network_sees_ms_where_it_lay_in_training(self, tmp_path):
        method, path = self.saved(tmp_path)
        moved = replace(as_sensor("qb"), phase=1.5)
        scene = pair(moved, 48, 64)
        pan, ms = scene.pan[None], scene.ms[None]
        lms = interp23(ms, moved)
        with torch.inference_mode():
            expected = method.fuse(pb.Scene(as_sensor("qb"), pan, decimate(lms, "qb"), lms))
        assert torch.equal(pb.fuse("pannet", pan, ms, sensor=moved, weights=path), expected)

    def test_options_are_those_it_was_trained_with(self, tmp_path):
        entry = METHODS.get("pan-ot")
        method = build(entry, as_sensor("qb"), resolve_config(entry, "quick", {"knots": 7}))
        path = tmp_path / "w.safetensors"
        save_weights(method.state_dict(), path, json.dumps({"method": "pan-ot", "options": {"knots": 7}}))
        scene = pair(as_sensor("qb"), 48, 64)
        assert torch.equal(whole("pan-ot", scene, weights=path), whole(method, scene))

    def test_weights_of_another_method_are_refused(self, tmp_path):
        _, path = self.saved(tmp_path)
        pan, ms = torch.rand(1, 1, 64, 64), torch.rand(1, 4, 16, 16)
        with pytest.raises(BenchError, match="are of method 'pannet', not of 'pnn'"):
            pb.fuse("pnn", pan, ms, sensor="qb", weights=path)
        with pytest.raises(BenchError, match="'gsa' is not trained; leave out the weights"):
            pb.fuse("gsa", pan, ms, sensor="qb", weights=path)
