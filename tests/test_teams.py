"""Two processes train as one: the same results, one of them writes, and the failure of one is the end of both."""

import json
from functools import partial
from pathlib import Path

import pytest
import teams
import torch
from click.testing import CliRunner
from goldens import DEVICES
from lightning_fabric import Fabric
from torch.nn.parallel import DistributedDataParallel

from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError, RecordExists
from pansharp_bench.experiment import run
from pansharp_bench.files import RunFolder
from pansharp_bench.plan import RunSpec, plan
from pansharp_bench.registry import load_plugin
from pansharp_bench.training import ALONE, Team, launch
from pansharp_bench.training.fabric import Place, Together
from pansharp_bench.training.launch import Launch, launched

CPU = torch.device("cpu")
load_plugin(Path(__file__).parent / "plugins" / "tiny.py")


def log(folder):
    return [json.loads(line)["loss"] for line in RunFolder(folder).log.read_text().splitlines()]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes learnt and, beside it, where one began what they went on with; then one of them fails."""
    folder = tmp_path_factory.mktemp("line")
    teams.line(folder, 2, resume=False)
    with launch._post(Launch(2)) as post:
        order = partial(teams.work, folder)
        with post.carried_out(order, "cpu") as first:
            done = order(first)
        with post.carried_out(teams.mistaken, "cpu") as first:
            mistakes = teams.mistaken(first)
        with pytest.raises(BenchError) as error, post.carried_out(teams.fail, "cpu") as first:
            teams.fail(first)
    return *done, folder, mistakes, str(error.value)


@pytest.mark.parametrize("name", teams.STEPPED)
def test_what_two_learn_is_what_one_learns(name, both):
    """In float64, for Adam's steps are of one size whatever the gradient's, even where that is rounding alone."""
    (weights, losses, score), (alone, expected, wanted) = both[0][name], teams.trained(name)
    for key, value in weights.items():
        torch.testing.assert_close(value, alone[key], rtol=1e-5, atol=1e-8, msg=lambda m, k=key: f"{k}: {m}")
    assert losses == pytest.approx(expected, rel=1e-5)
    assert score == pytest.approx(wanted, rel=1e-5)


def test_a_training_is_resumed_by_another_number_of_devices(both, tmp_path):
    _, line, folder, *_ = both
    assert line == pytest.approx(teams.line(tmp_path, 4, resume=False), rel=1e-9)
    assert log(folder) == pytest.approx(log(tmp_path), rel=1e-6)  # losses are of float32
    assert teams.line(folder, 6, resume=True) == pytest.approx(teams.line(tmp_path, 6, resume=True), rel=1e-9)
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint.pt", "losses.jsonl"]


def test_what_one_fails_of_is_said_once(both):
    assert both[4] == "process 1 of 2 failed: no such luck"


def test_what_cannot_be_shared_out_is_told(both):
    aside, thawed = both[3]
    assert "reached only some weights" in aside and "frozen when training began" in thawed


def test_a_record_says_how_many_trained_and_is_of_the_same_run(tmp_path):
    def go(devices):
        spec = RunSpec("gain", "tiny", options={"steps": 4}, devices=devices)
        return run(spec, tmp_path / "results", tmp_path / "runs", pictures=0, progress=False)

    record = go(2).record
    assert (record.training["devices"], record.training["nodes"]) == (2, 1)
    with pytest.raises(RecordExists):
        go(1)


@pytest.mark.parametrize("device", DEVICES)
def test_a_wrapped_network_learns_what_it_would_learn_alone(device):
    """In a group of one, so that a single GPU shows that its way of meeting others works."""
    network, x = torch.nn.Conv2d(4, 4, 3).to(device), torch.rand(2, 4, 8, 8, device=device)
    expected = torch.autograd.grad(network(x).square().mean(), list(network.parameters()))
    alone = Team()
    with launch._group(torch.distributed.HashStore(), 0, alone, device):
        together = Fabric(accelerator=device, devices=1, strategy=Together(), plugins=[Place(alone)])
        together.launch()
        wrapped = together.setup_module(network)
        together.backward(wrapped(x).square().mean())
        assert isinstance(wrapped._forward_module, DistributedDataParallel)
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


# -- shares --


def test_shares_make_up_the_whole():
    x = torch.arange(24).reshape(2, 12)
    parts = [Team(rank, 3).share(x, groups=2, dim=1) for rank in range(3)]
    assert parts[1].tolist() == [[2, 3, 8, 9], [14, 15, 20, 21]]
    assert sorted(torch.cat(parts, 1)[0].tolist()) == list(range(12))
    assert ALONE.share(x, groups=2, dim=1) is x


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_parts_begin_with_everything_in_order(n):
    parts = [Team(rank, 3).part(n, CPU) for rank in range(3)]
    assert len({len(p) for p in parts}) == 1
    assert torch.cat(parts)[:n].tolist() == list(range(n))


@pytest.mark.parametrize(("batch", "devices", "instead"), [(1, 2, 2), (4, 3, 3), (7, 2, 6)])
def test_a_batch_that_cannot_be_shared_out_is_refused(batch, devices, instead):
    spec = RunSpec("pnn", "tiny", options={"batch": batch}, devices=devices)
    with pytest.raises(BenchError, match=f"batch of {batch} .* {devices} devices: .*--set batch={instead}$"):
        plan(spec)


def test_what_takes_no_steps_is_not_shared(tmp_path):
    folders = [f"--{name}={tmp_path / name}" for name in ("results", "runs")]
    for method in ("exp", "grey-affine"):
        words = ["run", "--method", method, "--dataset", "tiny", "--devices", "2", *folders]
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2 and f"method '{method}' takes no training steps" in done.stderr


# -- who is who --


def test_nodes_are_told_apart_by_the_environment(monkeypatch):
    for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert launched(2) == Launch(2)
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(BenchError, match="MASTER_ADDR, MASTER_PORT must be set"):
        launched(2, 2)
    monkeypatch.setenv("MASTER_ADDR", "first")
    monkeypatch.setenv("MASTER_PORT", "4000")
    assert launched(2, 2) == Launch(2, 2, rank=2)
    monkeypatch.setenv("NODE_RANK", "2")
    with pytest.raises(BenchError, match=r"NODE_RANK=2 .* 0 to 1"):
        launched(2, 2)


def test_torchrun_says_all(monkeypatch):
    told = {"TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert launched() == launched(2, 2) == Launch(2, 2, rank=3, external=True)
    with pytest.raises(BenchError, match="torchrun started 4 processes, 2 of them here"):
        launched(4)
