"""Everything registered on a device that is not there: nothing stays behind on the CPU, no training step waits.

A GPU shows both too, but only where there is one. Stepped around, because it is meant so: k-means asks now and then
which images have settled (CANConv's partitions, when they are renewed).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields

import pytest
import torch
from pretend import DEVICE, Pretend, PretendTrainer, Stray
from splits import Random
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pansharp_bench import imaging
from pansharp_bench.method import TrainedMethod, build, call_by_name, is_trained, resolve_config
from pansharp_bench.methods.canconv.layer import CANConv
from pansharp_bench.registry import DATASETS, METHODS, METRICS
from pansharp_bench.scene import as_sensor
from pansharp_bench.training import Backward, Learner, PairedData, Trainer, UnpairedData

SMALL = {
    "steps": 2, "batch": 2, "validations": 1, "validate_on": 2, "ngf": 8, "ndf": 8, "blocks": 5, "width": 8,
    "clusters": 4,
}  # fmt: skip
LEAST = {"pancrafter": {"width": 32, "heads": 4}}  # where 8 channels do not go
SHIPPED = [e for e in METHODS if e.origin.startswith("pansharp_bench.")]
SENSOR_OF = {"pansharpening": "qb"} | {
    e.card.tracks[0]: e.card.sensor for e in DATASETS if e.card.sensor != "qb"
}


@pytest.fixture
def pretend() -> Iterator[Pretend]:
    with Pretend() as device:
        yield device


def carried_out(name: str, trainer: Trainer) -> tuple[Tensor, dict[str, float]]:
    """What a method gives on the trainer's device after two steps, and their losses."""
    entry = METHODS.get(name)
    sensor = as_sensor(SENSOR_OF[entry.card.tracks[0]])
    config = None
    if is_trained(entry):
        known = {f.name for f in fields(entry.obj.configure("quick"))}
        options = {k: v for k, v in (SMALL | LEAST.get(name, {})).items() if k in known}
        config = resolve_config(entry, "quick", options)
    torch.manual_seed(0)
    method, device = build(entry, sensor, config), trainer.device
    if isinstance(method, TrainedMethod):
        train, valid = Random(sensor, 4), Random(sensor, 2)
        if entry.card.training == "paired":
            data = PairedData(sensor, train, valid, device)
        elif sensor.source == ("pan",):
            data = UnpairedData.halves(sensor, train, valid, device)
        else:
            data = UnpairedData.between(sensor, train, train, device)
        method.to(device).train()
        method.fit(data, trainer)
        method.to(device).eval()
    scene = Random(sensor, 2, 48)[:].to(device).seen_by(entry.card)
    with (
        torch.no_grad(),
        watched(trainer, entry.card.sees != "reference"),
    ):  # bounds size tables by the reference
        fused = method.fuse(scene)
    assert fused.device == device
    return fused.cpu(), trainer.summary.losses if trainer.summary else {}


def watched(trainer: Trainer, forbidden: bool = True) -> AbstractContextManager[None]:
    return trainer.pretend.no_waiting(forbidden) if isinstance(trainer, PretendTrainer) else nullcontext()


@pytest.fixture
def k_means_may_wait(pretend: Pretend, monkeypatch: pytest.MonkeyPatch) -> None:
    search = CANConv.partition

    def partition(*args: object) -> Tensor:
        with pretend.no_waiting(forbidden=False):
            return search(*args)

    monkeypatch.setattr(CANConv, "partition", partition)


@pytest.mark.usefixtures("k_means_may_wait")
@pytest.mark.parametrize("name", [e.name for e in SHIPPED])
def test_methods_leave_nothing_behind_and_no_step_waits(name, pretend):
    fused, losses = carried_out(name, PretendTrainer(pretend))
    assert pretend.seen and fused.isfinite().all()
    assert all(map(math.isfinite, losses.values()))


@pytest.mark.parametrize("name", METRICS.names(scope="image"))
def test_metrics_give_on_the_device_what_they_give_on_the_cpu(name, pretend):
    def scored(device: torch.device | str) -> list[Tensor]:
        scene = Random(as_sensor("qb"), 2, 64)[:].to(device)
        named = {
            "fused": scene.lms, "reference": scene.gt, "ms": scene.ms, "pan": scene.pan, "lms": scene.lms,
            "sensor": scene.sensor, "ratio": 4, "peak": scene.sensor.peak,
        }  # fmt: skip
        found = call_by_name(METRICS.get(name).obj, named, name)
        return [found] if isinstance(found, Tensor) else list(found)

    with pretend.no_waiting():
        there = scored(DEVICE)
    for a, b in zip(there, scored("cpu"), strict=True):
        assert a.device == DEVICE
        torch.testing.assert_close(a.cpu(), b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", METRICS.names(scope="set"))
def test_metrics_of_sets_give_on_the_device_what_they_give_on_the_cpu(name, pretend):
    entry = METRICS.get(name)
    sensor = as_sensor(SENSOR_OF[entry.card.tracks[0]])

    def scored(device: torch.device | str) -> tuple[float, ...]:
        metric, scene = entry.obj(sensor), Random(sensor, 2, 32)[:].to(device)
        for role, images in (
            ("target", scene.gt),
            ("output", scene.gt * 0.9),
            ("source", scene.pan),
            ("truth", scene.gt),
        ):
            metric.add(role, images)
        return tuple(map(float, metric.scores()))

    assert scored(DEVICE) == pytest.approx(scored("cpu"), rel=1e-9, nan_ok=True)


CALLS: dict[str, Callable[[Tensor], object]] = {
    "atrous": imaging.atrous,
    "decimate": imaging.decimate,
    "decompose": lambda x: imaging.decompose(x, 2),
    "interp23": imaging.interp23,
    "lowpass": imaging.lowpass,
    "mtf_filter": lambda x: imaging.mtf_filter(x, "qb"),
    "mtf_filter_pan": lambda x: imaging.mtf_filter_pan(x[:, :1], "qb"),
    "mtf_reduce": lambda x: imaging.mtf_reduce(x, "qb"),
    "mtf_reduce_pan": lambda x: imaging.mtf_reduce_pan(x[:, :1], "qb"),
    "pyramid_down": imaging.pyramid_down,
    "pyramid_up": lambda x: imaging.pyramid_up(x, (64, 63)),
    "reconstruct": lambda x: imaging.reconstruct(imaging.decompose(x, 2)),
    "reduce_bicubic": imaging.reduce_bicubic,
    "resize_bicubic": lambda x: imaging.resize_bicubic(x, 1 / 4),
    "wald_degrade": lambda x: imaging.wald_degrade(x, x[:, :1], as_sensor("qb")),
    "LaplacianPyramid": lambda x: imaging.LaplacianPyramid(2).gate(x, x.new_ones(len(x), 3)),
}
OF_NO_IMAGE = {"Degraded", "LeastTransport", "least_transport", "max_bands", "mtf_kernel"}


@pytest.mark.parametrize("name", sorted(set(imaging.__all__) - OF_NO_IMAGE))
def test_imaging_stays_on_the_device_of_its_input(name, pretend):
    images = Random(as_sensor("qb"), 2)[:].gt
    with pretend.no_waiting():
        there = tree_leaves(CALLS[name](images.to(DEVICE)))
    for a, b in zip(there, tree_leaves(CALLS[name](images)), strict=True):
        assert a.device == DEVICE
        torch.testing.assert_close(a.cpu(), b)


# -- what a step may not do is found --


class OneWeight(TrainedMethod):
    """A method whose step does one thing more."""

    def __init__(self, fault: Callable[[Tensor, Learner], Tensor]) -> None:
        super().__init__(as_sensor("qb"))
        self.net, self.fault = nn.Conv2d(4, 4, 1), fault

    def fit(self, data: PairedData, trainer: Trainer) -> None:
        trainer.run(OneWeightLearner(self, data, trainer), 2)


class OneWeightLearner(Learner):
    def __init__(self, method: OneWeight, data: PairedData, trainer: Trainer) -> None:
        super().__init__()
        self.method, self.data, self.trainer = method, data, trainer
        self.weights = torch.ones(4)  # left behind
        self.networks["net"] = method.net
        self.optimizers["net"] = torch.optim.Adam(method.net.parameters())

    def step(self, backward: Backward) -> dict[str, Tensor]:
        scene = self.data.batch(2, self.trainer.generator)
        loss = self.method.fault((self.networks["net"](scene.lms) - scene.gt).abs().mean((0, 2, 3)), self)
        self.optimizers["net"].zero_grad()
        backward(loss.mean())
        self.optimizers["net"].step()
        return {"loss": loss.mean().detach()}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param(lambda x, learner: x, None, id="none"),
        pytest.param(lambda x, learner: x * torch.ones(4), "on the CPU", id="constant"),
        pytest.param(lambda x, learner: x * learner.weights, "on the CPU", id="constant of the learner"),
        pytest.param(lambda x, learner: nn.Linear(4, 1)(x), "on the CPU", id="layer"),
        pytest.param(lambda x, learner: x.cpu(), "waits", id="copy"),
        pytest.param(lambda x, learner: x * x.new_tensor([1.0, 2.0, 3.0, 4.0]), "waits", id="list"),
        pytest.param(lambda x, learner: x.cumprod(0), "waits", id="running product"),
        pytest.param(lambda x, learner: x / x.max().item(), "waits", id="number"),
        pytest.param(lambda x, learner: x if x.max() > 0 else -x, "waits", id="question"),
        pytest.param(lambda x, learner: x[x > 0], "waits", id="mask"),
        pytest.param(lambda x, learner: x * len(x.nonzero()), "waits", id="count"),
        pytest.param(
            lambda x, learner: x * torch.rand(4, generator=learner.trainer.host_generator, device=x.device),
            "another device", id="draw",
        ),
    ],
)  # fmt: skip
def test_a_fault_in_a_step_is_found(fault, said, pretend):
    sensor = as_sensor("qb")
    method, trainer = OneWeight(fault).to(DEVICE), PretendTrainer(pretend)
    data = PairedData(sensor, Random(sensor), Random(sensor), DEVICE)
    with pytest.raises(Stray, match=said) if said else nullcontext():
        method.fit(data, trainer)
