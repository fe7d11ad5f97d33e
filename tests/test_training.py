"""The training loop: exact resume, interruption, selection, refusal."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pansharp_bench.contract import watched
from pansharp_bench.errors import BenchError
from pansharp_bench.files import RunFolder
from pansharp_bench.training import Interrupted, Learner, Trainer, loop
from pansharp_bench.training.loop import Backward


class Tiny(Learner):
    """Two networks with optimisers of their own, a schedule, draws of all three kinds, and a state."""

    def __init__(self, trainer: Trainer, interrupt_at: int = 0, diverge_at: int = 0) -> None:
        super().__init__()
        self.trainer, self.interrupt_at, self.diverge_at = trainer, interrupt_at, diverge_at
        self.count, self.modes = 0, set[bool]()
        for name in ("a", "b"):
            network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3), nn.Linear(4, 1))
            self.networks[name] = network
            self.optimizers[name] = torch.optim.Adam(network.parameters(), 0.05, fused=True)
            self.schedulers[name] = torch.optim.lr_scheduler.LambdaLR(
                self.optimizers[name], lambda k: 0.97**k
            )
        self.scores: list[float] = []

    def step(self, backward: Backward) -> dict[str, Tensor]:
        self.count += 1
        shift = int(torch.randint(5, (), generator=self.trainer.host_generator))
        losses = {}
        for name in ("a", "b"):
            x = torch.randn(8, 3, generator=self.trainer.generator)
            loss = (self.networks[name](x) - x.sum(1, keepdim=True) - shift).square().mean()
            self.optimizers[name].zero_grad()
            backward(loss)
            if name == "a" and self.count == self.interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)  # arrives between the two updates of one step
            self.optimizers[name].step()
            losses[name] = loss.detach()
        if self.count == self.diverge_at:
            losses["a"] = losses["a"] * math.nan
        return losses

    def validate(self) -> float | None:
        self.modes.add(self.networks["a"].training)
        torch.rand(7)  # must not disturb training
        return self.scores.pop(0) if self.scores else None

    def state(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def trainer(folder: Path | None, **options: Any) -> Trainer:
    return Trainer(folder, "cpu", seed=3, progress=False, **options)


def weights(learner: Learner) -> dict[str, Tensor]:
    return {f"{k}.{n}": v for k, network in learner.networks.items() for n, v in network.state_dict().items()}


def log(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in RunFolder(folder).log.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def run(folder: Path, steps: int = 40, **options: Any) -> Tiny:
    t = trainer(folder, **options)
    learner = Tiny(t)
    t.run(learner, steps, checkpoint_every=15, log_every=7)
    return learner


def assert_same(a: Learner, b: Learner) -> None:
    for name, value in weights(a).items():
        assert torch.equal(value, weights(b)[name]), name


def test_resume_after_interrupt_equals_an_uninterrupted_run(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    t = trainer(tmp_path / "torn")
    with pytest.raises(Interrupted, match="after step 17 of 40"):
        t.run(Tiny(t, interrupt_at=17), 40, checkpoint_every=15, log_every=7)
    resumed = run(tmp_path / "torn", resume=True)
    assert_same(whole, resumed)
    assert log(tmp_path / "torn") == log(tmp_path / "whole")


@pytest.mark.parametrize(("unsaved", "step"), [(300.0, 30), (0.0, 33)])
def test_resume_from_a_periodic_checkpoint_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsaved: float, step: int
) -> None:
    """By steps, and by the time that a kill would cost."""

    class Crash(Exception):
        pass

    class Crashing(Tiny):
        def step(self, backward: Backward) -> dict[str, Tensor]:
            if self.count == 33:
                raise Crash
            return super().step(backward)

    whole = run(tmp_path / "whole")
    t = trainer(tmp_path / "torn")
    monkeypatch.setattr(loop, "_UNSAVED", unsaved)
    with pytest.raises(Crash):
        t.run(Crashing(t), 40, checkpoint_every=15, log_every=7)
    assert torch.load(tmp_path / "torn" / "checkpoint.pt", weights_only=True)["progress"]["step"] == step
    assert log(tmp_path / "torn")[-1]["step"] == 28
    resumed = run(tmp_path / "torn", resume=True)
    assert_same(whole, resumed)
    assert log(tmp_path / "torn") == log(tmp_path / "whole")


def test_the_state_of_best_validation_is_kept(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    learner = Tiny(t)
    learner.scores = [math.nan, 2.0, 1.0, 3.0]
    summary = t.run(learner, 20, validate_every=5)
    assert (summary.best_step, summary.best_score) == (15, 1.0)
    assert learner.modes == {False}
    t = trainer(None)
    other = Tiny(t)
    t.run(other, 15)
    assert_same(learner, other)


def test_without_a_score_the_last_state_is_kept() -> None:
    t = trainer(None)
    summary = t.run(Tiny(t), 6, validate_every=2)
    assert (summary.best_step, summary.best_score) == (6, None)


def test_validation_does_not_change_training(tmp_path: Path) -> None:
    t = trainer(None)
    learner = Tiny(t)
    t.run(learner, 40, validate_every=3)
    assert_same(learner, run(tmp_path))


def test_a_diverged_loss_stops_with_a_clear_error(tmp_path: Path) -> None:
    t = trainer(tmp_path)
    with pytest.raises(BenchError, match=r"diverged at step 10.*learning rate"):
        t.run(Tiny(t, diverge_at=9), 40, log_every=5)


def test_a_foreign_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path, 10, identity="one")
    with pytest.raises(BenchError, match="other settings"):
        run(tmp_path, 10, identity="two", resume=True)


def test_nothing_to_resume_is_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="nothing to resume"):
        run(tmp_path, 10, resume=True)


def test_a_torn_checkpoint_is_refused(tmp_path: Path) -> None:
    run(tmp_path, 10)
    path = RunFolder(tmp_path).checkpoint
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BenchError, match="cannot be resumed"):
        run(tmp_path, 10, resume=True)


def test_a_new_run_forgets_the_old_log(tmp_path: Path) -> None:
    run(tmp_path, 14)
    run(tmp_path, 7)
    assert [line["step"] for line in log(tmp_path)] == [7]


def test_a_step_past_the_prepared_networks_or_the_given_backward_is_seen() -> None:
    class Past(Tiny):
        def step(self, backward: Backward) -> dict[str, Tensor]:
            loss = kept(torch.ones(8, 3)).mean()  # the network itself, not self.networks
            backward(loss)
            for optimizer in self.optimizers.values():
                optimizer.step()
            return {"loss": loss.detach()}

    run = trainer(None)

    class Alone(Tiny):
        def step(self, backward: Backward) -> dict[str, Tensor]:
            return super().step(lambda loss: loss.backward())

    cases = ((Tiny, [], True), (Past, ["Sequential"] * 2, True), (Alone, [], False))
    for kind, found, differentiated in cases:
        learner = kind(run)
        kept = learner.networks["a"]
        with watched(run) as seen:
            run.run(learner, 2)
        assert (seen.steps, seen.strays, seen.differentiated) == (2, found, differentiated)


@pytest.mark.parametrize(
    ("losses", "said"), [(None, "NoneType"), ({"a": 1.5}, "a float"), ({"a": torch.ones(3)}, r"a \(3,\)")]
)
def test_losses_that_are_none_are_named(losses: Any, said: str) -> None:
    class Odd(Tiny):
        def step(self, backward: Backward) -> dict[str, Tensor]:
            return losses

    run = trainer(None)
    with pytest.raises(BenchError, match=rf"Odd\.step gave {said}; expected losses by name"):
        run.run(Odd(run), 2)


def test_a_batch_job_of_several_tasks_is_no_matter_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_JOB_NAME": "job", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"}.items():
        monkeypatch.setenv(name, value)
    assert Trainer(device="cpu", precision="32-true").fabric.world_size == 1


def test_losses_and_scores_may_have_a_graph_and_be_tensors(tmp_path: Path) -> None:
    class Attached(Tiny):
        def step(self, backward: Backward) -> dict[str, Tensor]:
            return {k: v.requires_grad_() for k, v in super().step(backward).items()}

        def validate(self) -> Any:
            return torch.ones(1)

    run = trainer(tmp_path)
    run.run(Attached(run), 2, validate_every=1)
    assert log(tmp_path)[-1] == {"step": 2, "validation": 1.0}
    state = torch.load(RunFolder(tmp_path).checkpoint, weights_only=True)
    assert state["progress"]["best_score"] == 1.0
