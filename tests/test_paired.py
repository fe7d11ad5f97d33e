"""What every paired method must do, and the parts that no golden reaches."""

import math
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from partitions import partitions
from scipy.cluster.vq import kmeans2
from torch import Tensor

from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import interp23
from pansharp_bench.method import build, resolve_config
from pansharp_bench.methods import _patches
from pansharp_bench.methods._paired import PairedLearner, PairedMethod, factor
from pansharp_bench.methods.canconv import CachingLearner, layer, renews
from pansharp_bench.methods.canconv.kmeans import kmeans, plus_plus
from pansharp_bench.methods.canconv.network import CANNet
from pansharp_bench.methods.lagnet import LAGConv
from pansharp_bench.methods.pancrafter import magnified
from pansharp_bench.methods.pancrafter.network import PaperPANCrafter, ReleasePANCrafter, low_pan
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, Sensor, Split, as_sensor
from pansharp_bench.training import Interrupted, PairedData, Trainer

SMALL = {
    "canconv": {"width": 8, "clusters": 4},
    "dcpnet": {"width": 8},
    "pancrafter": {"width": 32, "heads": 4},
    "pancrafter-release": {"width": 32, "heads": 4, "variant": "release"},
}
CASES = ["pnn", "pannet", "dicnn", "msdcnn", "fusionnet", "lagnet", *SMALL]
PARAMETERS = {  # 4 and 8 bands, as published or counted by running the authors' code
    "pnn": (80_420, 104_360),
    "pannet": (77_640, 83_024),
    "dicnn": (42_180, 46_792),
    "msdcnn": (189_852, 228_556),
    "fusionnet": (76_324, 78_632),
    "lagnet": (148_457, 151_397),
    "canconv": (785_118, 787_426),
    "dcpnet": (1_395_228, 1_414_052),
    "pancrafter": (7_129_476, 7_207_816),
}


def make(case: str, sensor: str = "qb", **options) -> PairedMethod:
    torch.manual_seed(0)
    entry = METHODS.get(case.partition("-")[0])
    method = build(entry, as_sensor(sensor), resolve_config(entry, "quick", SMALL.get(case, {}) | options))
    for parameter in method.parameters():  # what starts at zero would hide what follows it
        if not parameter.abs().max():
            torch.nn.init.normal_(parameter, std=0.02)
    return method


def scene(sensor: str = "qb", n: int = 2, h: int = 52, w: int = 76, seed: int = 0) -> Scene:
    """Smooth random fields with a random share of noise, in the sensor's range; gt as well."""
    s = as_sensor(sensor)
    g = torch.Generator().manual_seed(seed)
    field = F.interpolate(
        torch.rand(n, s.channels + 1, h // 8 + 2, w // 8 + 2, generator=g), (h, w), mode="bicubic"
    )
    image = ((0.1 + 0.6 * field + 0.05 * torch.rand(field.shape, generator=g)) * s.peak).round()
    pan, gt = image[:, :1], image[:, 1:]
    ms = F.avg_pool2d(gt, 4)
    return Scene(s, pan=pan, ms=ms, lms=interp23(ms), gt=gt)


class InMemory(Split):
    name, keys = "train", ("pan", "ms", "lms", "gt")

    def __init__(self, images: Scene) -> None:
        self.images, self.sensor = images, images.sensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | slice) -> Scene:
        return self.images[index]


def paired(sensor: str = "qb", n: int = 6, size: int = 32) -> PairedData:
    train, valid = (InMemory(scene(sensor, k, size, size, seed)) for k, seed in ((n, 1), (3, 2)))
    return PairedData(as_sensor(sensor), train, valid, torch.device("cpu"))


def trainer(folder: Path | None = None, resume: bool = False, precision: str = "32-true") -> Trainer:
    return Trainer(folder, "cpu", precision, seed=3, resume=resume, progress=False)


# -- every method --


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    entry = METHODS.get(name)
    for sensor, expected in zip(("qb", "wv3"), PARAMETERS[name], strict=True):
        with torch.device("meta"):  # nothing is stored
            method = build(entry, as_sensor(sensor), resolve_config(entry, "standard"))
        assert sum(p.numel() for p in method.parameters()) == expected


@pytest.mark.parametrize("case", CASES)
def test_every_preset_has_a_configuration(case):
    entry = METHODS.get(case.partition("-")[0])
    assert set(entry.obj.presets) >= {"quick", "standard", "paper"}
    for preset in entry.obj.presets:
        config = resolve_config(entry, preset)
        assert (config.steps > 0) != (config.epochs > 0)


@pytest.mark.parametrize("sensor", ["qb", "wv3"])
@pytest.mark.parametrize("case", CASES)
def test_fuses_any_size_alone_as_in_a_batch_and_the_same_again(case, sensor):
    method = make(case, sensor)
    batch = scene(sensor)
    seen = batch.seen_by(method.card)
    with partitions() as labels:
        fused = method.fuse(seen)
    assert fused.shape == batch.gt.shape
    assert fused.dtype == torch.float32
    assert fused.isfinite().all()
    assert not fused.requires_grad
    assert torch.equal(fused, method.fuse(seen))
    for i in range(len(seen)):
        with partitions([of_all[i : i + 1] for of_all in labels]):
            alone = method.fuse(seen[i])
        assert (alone[0] - fused[i]).abs().max() < 2e-5 * as_sensor(sensor).peak


@pytest.mark.parametrize("case", CASES)
def test_images_are_measured_by_the_peak(case):
    """Twice the DN under twice the peak is the same image."""
    one, two = make(case, peak=500.0), make(case, peak=1000.0)
    images = scene(n=1, h=24, w=32)
    doubled = Scene(images.sensor, *(2 * x for x in (images.pan, images.ms, images.lms)))
    assert torch.allclose(two.fuse(doubled), 2 * one.fuse(images), atol=0.5, rtol=0)
    assert not torch.allclose(one.fuse(doubled), 2 * one.fuse(images), atol=0.5, rtol=0)


@pytest.mark.parametrize("case", ["dcpnet", "pancrafter-release"])
def test_what_is_padded_is_cropped_at_the_same_place(case):
    """A network that gives back the expanded MS must do so at any size."""
    method = make(case)
    assert method.divisor == 8
    method.predict = lambda net, pan, ms, lms: (
        lms + 0 * (pan + ms.repeat_interleave(4, 2).repeat_interleave(4, 3))
    )
    for size in ((48, 40), (52, 76), (12, 20)):
        images = scene(h=size[0], w=size[1])
        assert torch.allclose(method.fuse(images), images.lms, atol=1e-2)


@pytest.mark.parametrize("case", CASES)
def test_learns(case, tmp_path):
    """A few steps on six patches bring the error down, and the state of least validation error is kept."""
    data = paired(size=32 if case == "pnn" else 16)
    plain = {"skip": "none"} if case == "dcpnet" else {}  # from interpolation on there is less to win
    method = make(case, steps=12, batch=4, validations=4, lr=2e-3, schedule="constant", warmup=0, **plain)
    before = method.learner(data, trainer(), 1).validate()
    run = trainer(tmp_path)
    told = method.fit(data, run)
    after = method.learner(data, trainer(), 1).validate()
    assert after == pytest.approx(run.summary.best_score, rel=1e-4)
    assert after < 0.9 * before
    assert told["epochs"] == 6


def test_dcpnet_may_start_from_interpolation():
    entry, given = METHODS.get("dcpnet"), scene(h=48, w=64)
    method = build(entry, as_sensor("qb"), resolve_config(entry, "quick", SMALL.get("dcpnet", {})))
    torch.testing.assert_close(method.fuse(given), given.lms)
    told = method.losses(method.net, method.learner(paired(size=16), trainer(), 1).next_batch())
    torch.testing.assert_close(told["fused"], told["upsampled"])
    told["loss"].backward()
    assert method.net.fusion_net["reconv"].weight.grad.norm() > 0


@pytest.mark.parametrize("case", ["dicnn", "canconv"])
def test_resumed_training_is_the_uninterrupted_one(case, tmp_path, monkeypatch):
    data = paired(size=16)
    options = {"batch": 4, "schedule": "cosine", "validations": 1, "lr": 1e-3, "steps": 7}
    straight = make(case, **options)
    straight.fit(data, trainer())

    def interrupted(learner: PairedLearner, backward):
        if learner.at == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(learner, backward)

    step = PairedLearner.step
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(PairedLearner, "step", interrupted)
        make(case, **options).fit(data, trainer(tmp_path))
    resumed = make(case, **options)
    with torch.no_grad():
        for parameter in resumed.parameters():
            parameter.zero_()  # all of it must come from the checkpoint
    resumed.fit(data, trainer(tmp_path, resume=True))
    for key, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize("case", CASES)
def test_bf16_autocast_gives_nearly_the_same_gradients(case):
    # 32 pixels: 2x2 at the release's coarsest scale would be all that each of its norms sees, a channel a group
    data, gradients = paired(size=32), []
    for precision in ("32-true", "bf16-mixed"):
        run = trainer(precision=precision)
        method = make(case, batch=4, **({"dropout": 0.0} if "pancrafter" in case else {}))
        learner = method.learner(data, run, 1)
        if case == "canconv":  # the same partitions, for theirs may differ
            labels = tuple(
                torch.randint(4, (6, 1024 >> 2 * i), generator=torch.Generator().manual_seed(i))
                for i in range(3)
            )
            learner.known, learner.at = [t.to(torch.uint8) for t in labels], 20
        with run.fabric.autocast():
            loss = learner.losses(learner.next_batch())["loss"]
        run.fabric.backward(loss)
        gradients.append(torch.cat([p.grad.flatten() for p in method.net.parameters() if p.grad is not None]))
    exact, rounded = gradients
    assert rounded.isfinite().all()
    assert F.cosine_similarity(exact, rounded, dim=0) > 0.99


def test_every_sample_comes_once_per_epoch():
    data = paired(n=6)
    learner = make("dicnn", batch=4).learner(data, trainer(), 9)
    epochs = [[learner.next_batch() for _ in range(2)] for _ in range(3)]
    for number, batches in enumerate(epochs, 1):
        index = torch.cat([b.samples for b in batches]).tolist()
        assert sorted(set(index)) == list(range(6))
        assert all(b.epoch == number and len(b.samples) == 4 for b in batches)
    assert epochs[0][0].samples.tolist() != epochs[1][0].samples.tolist()


def test_schedules():
    assert [factor("constant", i, 100) for i in (0, 50, 99)] == [1, 1, 1]
    assert [factor("step", i, 100) for i in (0, 49, 50, 99)] == [1, 1, 0.1, 0.1]
    assert [factor("cosine", i, 110, 10) for i in (0, 9)] == [0.1, 1.0]
    assert factor("cosine", 60, 110, 10) == pytest.approx(0.5)
    assert factor("cosine", 110, 110, 10) == pytest.approx(0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pnn", {"steps": "0"}, "steps"),
        ("pnn", {"epochs": "3"}, "epochs=3"),
        ("pnn", {"schedule": "poly"}, "known are: constant, step, cosine"),
        ("pnn", {"loss": "l3"}, "known are: l1, mse"),
        ("canconv", {"augment": "flips"}, "cache=false"),
        ("canconv", {"clusters": "300"}, "1 to 255"),
        ("pancrafter", {"variant": "draft"}, "paper, release"),
        ("pancrafter", {"width": "100"}, "multiple of 32"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, message):
    with pytest.raises(BenchError, match=message):
        resolve_config(METHODS.get(name), "quick", options)


def test_a_sensor_of_another_ratio_is_refused():
    odd = Sensor("odd", "Odd", ("a", "b"), 255, (0.3, 0.3), 0.15, (0, 1, 0), ratio=2)
    with pytest.raises(BenchError, match="ratio 4"):
        build(METHODS.get("pnn"), odd)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_cuda
@pytest.mark.parametrize("case", CASES)
def test_cuda_fuses_as_the_cpu_does(case):
    images = scene(h=64, w=64)
    method = make(case)
    with partitions() as labels:
        on_cpu = method.fuse(images)
    with partitions(labels):
        on_cuda = method.cuda().fuse(images.to("cuda"))
    assert on_cuda.is_cuda
    assert (on_cuda.cpu() - on_cpu).abs().max() < 1e-3 * images.sensor.peak


@needs_cuda
@pytest.mark.parametrize("case", CASES)
def test_cuda_trains(case, tmp_path):
    cpu = paired(size=64)
    data = PairedData(cpu.sensor, cpu.train, cpu.valid, torch.device("cuda:0"))
    method = make(case, steps=12, batch=4, validations=4, lr=2e-3, schedule="constant", warmup=0).cuda()
    run = Trainer(tmp_path, "cuda:0", seed=3, progress=False)
    before = method.learner(data, run, 1).validate()
    method.fit(data, run)
    assert run.summary.best_score < before


# -- weights of others --


def test_weights_travel_with_their_scale(tmp_path):
    trained, other = make("fusionnet", peak=700.0), make("fusionnet")
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in trained.state_dict().items()}}, path)
    other.load_weights(path)
    assert torch.equal(other.fuse(scene()), trained.fuse(scene()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"body.0.weight": torch.zeros(1)}, "missing"),
        ({"net.body.0.weight": torch.zeros(32, 8, 3, 3)}, r"of another shape: net\.body\.0\.weight"),
        ({"epoch": 3}, "no state dict"),
        (Path("a pickled object"), "could run code"),
    ],
)
def test_weights_that_do_not_fit_are_refused(content, message, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(BenchError, match=message):
        make("fusionnet").load_weights(path)


def test_missing_or_damaged_weights_are_named(tmp_path):
    method = make("fusionnet")
    with pytest.raises(BenchError, match="cannot read weights"):
        method.load_weights(tmp_path / "nothing.pth")
    for name in ("torn.pth", "torn.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(BenchError, match=name):
            method.load_weights(tmp_path / name)


# -- k-means --


def blobs(b: int = 3, n: int = 400, d: int = 5, k: int = 6) -> Tensor:
    g = torch.Generator().manual_seed(4)
    centres = 6 * torch.rand(b, k, d, generator=g)
    which = torch.randint(k, (b, n), generator=g)
    return centres.gather(1, which[..., None].expand(b, n, d)) + torch.randn(b, n, d, generator=g)


def test_lloyd_steps_are_those_of_scipy():
    points, k = blobs().double(), 6
    start = kmeans(points, k, iterations=1)
    ours = kmeans(points, k, start, tolerance=0, iterations=4)
    for p, s, labels in zip(points, start, ours, strict=True):
        means = torch.stack([p[s == i].mean(0) for i in range(k)])
        _, theirs = kmeans2(p.numpy(), means.numpy(), iter=4, minit="matrix")
        assert (labels.numpy() == theirs).all()


def test_seeding_draws_by_squared_distance():
    """Of two far groups and a near one the second centre falls in proportion to distance squared."""
    points = torch.tensor([[[0.0], [1.0], [2.0]]])
    chosen = [plus_plus(points, 2, seed).flatten().tolist() for seed in range(1500)]
    after_zero = [b for a, b in chosen if a == 0]
    share = after_zero.count(2.0) / len(after_zero)
    assert abs(share - 0.8) < 4 * math.sqrt(0.8 * 0.2 / len(after_zero))
    first = [a for a, _ in chosen]
    assert abs(first.count(0.0) / len(first) - 1 / 3) < 4 * math.sqrt(2 / 9 / len(first))


def test_an_image_is_clustered_alike_in_any_batch():
    points = blobs(b=5)
    assert torch.equal(kmeans(points, 6), torch.cat([kmeans(p[None], 6) for p in points]))


def moved(a: Tensor, b: Tensor) -> Tensor:
    """Share of the points of each image that have another label."""
    return (a != b).double().mean(1)


def test_few_points_move_few_labels():
    """A perturbed handful of pixels must not draw other centres for all: with draws looked up in cumulated
    distances half of the labels change."""
    g = torch.Generator().manual_seed(0)
    images = F.interpolate(torch.randn(32, 8, 8, 8, generator=g), scale_factor=4, mode="bicubic")
    points = (images + 0.2 * torch.randn(images.shape, generator=g)).flatten(2).mT
    other = points.clone()
    other[:, :3] += 0.3 * torch.randn(32, 3, 8, generator=g)
    assert moved(kmeans(points, 16)[:, 3:], kmeans(other, 16)[:, 3:]).mean() < 0.15


def test_labels_found_alone_are_nearly_those_found_in_a_batch():
    """Convolutions of another batch size move features by their last bits, and with them a pixel near a tie."""
    net, images = make("canconv", clusters=32).net, scene(n=12, h=48, w=48, seed=3)
    pan, lms = images.pan / 2047, images.lms / 2047
    with torch.no_grad():
        together = net(pan, lms)[1]
        alone = zip(*(net(pan[i : i + 1], lms[i : i + 1])[1] for i in range(12)), strict=True)
    for level, (a, b) in enumerate(zip(together, alone, strict=True)):
        assert moved(a, torch.cat(b)).mean() <= 0.01, level


def test_more_clusters_than_distinct_points():
    points = torch.tensor([0.0, 0.0, 3.0, 3.0]).view(1, 4, 1)
    labels = kmeans(points, 4)[0]
    assert labels[0] == labels[1] != labels[2] == labels[3]


# -- content-adaptive convolution --


def test_pieces_change_nothing(monkeypatch):
    torch.manual_seed(0)
    conv, lag = layer.CANConv(4, 6, clusters=5, threshold=0.05), LAGConv(4, 6)
    x = torch.randn(3, 4, 10, 12)
    labels = torch.randint(5, (3, 120))
    whole = conv(x, labels), lag(x)
    gradients = [
        torch.autograd.grad(w.square().sum(), list(m.parameters()))
        for w, m in zip(whole, (conv, lag), strict=True)
    ]

    def small(padded: Tensor):
        for i in range(len(padded)):
            for r in range(0, padded.shape[1] - 2, 4):
                yield slice(i, i + 1), slice(r, min(r + 4, padded.shape[1] - 2))

    monkeypatch.setattr(layer, "pieces", small)
    monkeypatch.setattr(sys.modules[LAGConv.__module__], "pieces", small)
    for module, args, before, grads in zip((conv, lag), ((x, labels), (x,)), whole, gradients, strict=True):
        after = module(*args)
        assert torch.allclose(after, before, atol=1e-5)
        for a, b in zip(
            torch.autograd.grad(after.square().sum(), list(module.parameters())), grads, strict=True
        ):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_pieces_cover_an_image_within_the_budget():
    padded = torch.empty(2, 514, 514, 32)
    covered = torch.zeros(2, 512)
    for images, rows in _patches.pieces(padded):
        covered[images, rows] += 1
        assert (rows.stop - rows.start) * (images.stop - images.start) * 512 * 288 <= 1 << 20
    assert (covered == 1).all()


def test_derivatives_of_the_adaptive_convolutions():
    torch.manual_seed(0)
    labels = torch.randint(3, (2, 12))
    conv = layer.CANConv(2, 3, clusters=3, threshold=0.2, hidden=4).double()
    x = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: conv(x, labels), (x,), atol=1e-6)
    theta = conv.kernels.detach().clone().requires_grad_()

    def of_theta(theta: Tensor) -> Tensor:
        return torch.func.functional_call(conv, {"kernels": theta}, (x.detach(), labels))

    assert torch.autograd.gradcheck(of_theta, (theta,), atol=1e-6)
    lag = LAGConv(2, 3).double()
    assert torch.autograd.gradcheck(lag, (x,), atol=1e-6)


def test_lagconv_is_the_written_out_sum():
    torch.manual_seed(0)
    lag, x = LAGConv(5, 7).double(), torch.randn(2, 5, 6, 9, dtype=torch.float64)
    patches = F.unfold(x, 3, padding=1).unflatten(1, (5, 9))
    weighed = (patches * lag.taps(x).flatten(2)[:, None]).flatten(1, 2)
    expected = (lag.weight.flatten(1) @ weighed).unflatten(2, (6, 9)) + lag.bias(x.mean((2, 3), keepdim=True))
    assert torch.allclose(lag(x), expected)


def test_the_straightforward_formulation_gives_the_same(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import copy

    from _plain_canconv import _padded, plain

    torch.manual_seed(0)
    fast = CANNet(4, 8, 6)
    slow = plain(copy.deepcopy(fast))
    pan, lms = torch.rand(2, 1, 16, 20), torch.rand(2, 4, 16, 20)
    ours, labels = fast(pan, lms)
    for multiply in (None, _padded):
        if multiply:
            monkeypatch.setattr("_plain_canconv._one_by_one", multiply)
        theirs, their_labels = slow(pan, lms)
        assert all(map(torch.equal, labels, their_labels))
        assert torch.allclose(ours, theirs, atol=1e-5)
        fast.zero_grad(), slow.zero_grad()
        fast(pan, lms, labels)[0].sum().backward()
        slow(pan, lms, labels)[0].sum().backward()
        for p, q in zip(fast.parameters(), slow.parameters(), strict=True):
            assert torch.allclose(p.grad, q.grad, rtol=1e-3, atol=1e-4)


def test_partitions_are_kept_from_epoch_to_epoch(monkeypatch):
    calls = []

    def counted(points, k, start=None, **rest):
        calls.append("start" if start is not None else "scratch")
        return kmeans(points, k, start, **rest)

    monkeypatch.setattr(layer, "kmeans", counted)
    data = paired(n=4)
    learner = make("canconv", batch=4).learner(data, trainer(), 99)
    assert isinstance(learner, CachingLearner)
    for epoch in range(1, 13):
        calls.clear()
        batch = learner.next_batch()
        assert batch.epoch == epoch
        before = [t.clone() for t in learner.known or []]
        learner.losses(batch)
        expected = "scratch" if epoch == 1 else "start" if epoch <= 10 else None
        assert calls == ([expected] * 3 if expected else []), epoch
        if expected is None:
            assert all(map(torch.equal, before, learner.known))
    assert [t.shape for t in learner.known] == [(4, 1024), (4, 256), (4, 64)]
    calls.clear()
    learner.validate()
    assert set(calls) == {"scratch"}  # evaluation never looks at what was kept


def test_when_partitions_are_renewed():
    def renewed(start: int, stop: int) -> list[int]:
        return [e for e in range(start, stop) if renews(e)]

    assert renewed(2, 11) == list(range(2, 11))
    assert renewed(11, 101) == list(range(20, 101, 10))
    assert renewed(101, 301) == list(range(120, 301, 20))
    assert renewed(301, 501) == [350, 400, 450, 500]


def test_canconv_takes_the_authors_rate_for_the_sensor():
    assert make("canconv", lr=0.0).rate() == (5e-4, "constant")
    assert make("canconv", "wv3", lr=0.0).rate() == (1e-3, "step")
    assert make("canconv", lr=3e-4, schedule="cosine").rate() == (3e-4, "cosine")


# -- PAN-Crafter --


def test_low_pan_samples_a_ramp_where_it_says():
    ramp = torch.arange(128.0).expand(1, 1, 128, 128)
    low = low_pan(ramp)
    assert low.shape == (1, 1, 32, 32)
    inner = slice(6, -6)
    assert torch.allclose(low[0, 0, 8, inner], torch.arange(2.0, 128.0, 4)[inner], atol=1e-3)
    assert torch.allclose(low.mT[0, 0, inner, 8], torch.arange(2.0, 128.0, 4)[inner], atol=1e-3)


def test_low_pan_is_the_gaussian():
    impulse = torch.zeros(1, 1, 64, 64)
    impulse[..., 30, 34] = 1

    def taps(offset: Tensor) -> Tensor:
        return torch.exp(-(offset**2) / (2 * 1.98**2)) * (offset.abs() <= 20)

    centres, total = torch.arange(2.0, 64, 4), taps(torch.arange(-20.0, 21)).sum()
    expected = torch.outer(taps(centres - 30), taps(centres - 34)) / total**2
    assert torch.allclose(low_pan(impulse)[0, 0], expected, atol=1e-8)


@pytest.mark.parametrize("network", [ReleasePANCrafter, PaperPANCrafter])
def test_each_mode_starts_from_its_own_image(network):
    """Fresh networks end in zeros: MS mode gives the interpolated MS, PAN mode the low-pass PAN in each band."""
    torch.manual_seed(0)
    net = network(4, 32, 4).eval()
    pan, ms = torch.rand(2, 1, 32, 32), torch.rand(2, 4, 8, 8)
    out = net(pan, ms, torch.tensor([0, 1]))
    up = F.interpolate(low_pan(pan), scale_factor=4, mode="bicubic")
    assert torch.allclose(out[0], up[0].expand(4, -1, -1), atol=1e-6)
    assert torch.allclose(out[1], F.interpolate(ms, scale_factor=4, mode="bicubic")[1], atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"key_fix": True}, {"shift_kernels": True}])
def test_the_releases_slips_can_be_mended(options):
    torch.manual_seed(0)
    net = ReleasePANCrafter(4, 32, 4, **options)
    names = [k for k, _ in net.named_parameters()]
    assert any("dep_conv" in k for k in names) != bool(options.get("shift_kernels"))
    for parameter in net.parameters():
        if not parameter.abs().max():
            torch.nn.init.normal_(parameter, std=0.1)
    net(torch.rand(2, 1, 16, 16), torch.rand(2, 4, 4, 4), torch.tensor([0, 1])).square().sum().backward()
    used = net.cond4.attn.k_pan.weight.grad is not None
    assert used == bool(options.get("key_fix"))
    assert all(
        (p.grad is not None) == p.requires_grad for p in net.parameters()
    )  # several devices wait for all


def test_magnified_windows_agree_between_the_images():
    torch.manual_seed(0)
    x = (torch.arange(64.0) + 0.5) / 64
    pan = (x[:, None] + 10 * x).expand(5, 1, 64, 64)
    ms = F.avg_pool2d(pan, 4)
    drawn = torch.rand(3, 5)
    whole = magnified((pan, ms), 1.0, drawn)
    assert torch.allclose(whole[0], pan, atol=1e-4)
    assert torch.allclose(whole[1], ms, atol=1e-4)
    big, small = magnified((pan, ms), 0.75, drawn)
    inner = slice(2, -2)  # this cubic kernel bends a ramp by up to 6 % of the step between MS pixels, 0.6
    assert torch.allclose(F.avg_pool2d(big, 4)[..., inner, inner], small[..., inner, inner], atol=0.05)
    slopes = (big[:, 0, 8:-8, 40] - big[:, 0, 8:-8, 30]).mean(1) / (100 / 64)
    assert ((slopes > 0.74) & (slopes < 1.01)).all()
    assert slopes.unique().numel() == 5
