"""The training loop: one Trainer drives any Learner, on CPU or GPU, and can be stopped and resumed exactly.

The Learner owns the mathematics (networks, optimisers, one step); the Trainer owns device, precision,
randomness, progress, the log, checkpoints and selection on validation.
"""

from __future__ import annotations

import io
import json
import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from pansharp_bench.environment import choose_precision
from pansharp_bench.errors import BenchError
from pansharp_bench.files import RunFolder, atomically, write_text, written
from pansharp_bench.training.team import ALONE, Team, put_plainly

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Backward = Callable[[Tensor], None]
_UNSAVED = 300.0  # seconds of training that a kill may cost, however few steps they are
ONE_WISH = 1.0  # seconds in which a signal that comes again is the same one: torchrun may pass it on
stop_asked = threading.Event()
"""While set, trainings stop after their step as on Ctrl-C: for those in threads, where no signal arrives."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by the user; the state is saved and can be resumed."""


class Learner(ABC):
    """Networks, their optimisers and one training step.

    ``networks`` and ``optimizers`` share keys where one belongs to the other; the Trainer replaces both by
    their prepared forms, so a step must reach them through these dicts, and call a network itself: only its
    ``forward`` runs under the chosen precision. ``schedulers`` are stepped once per training step.
    """

    networks: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    schedulers: dict[str, LRScheduler]

    def __init__(self) -> None:
        self.networks, self.optimizers, self.schedulers = {}, {}, {}

    @abstractmethod
    def step(self, backward: Backward) -> dict[str, Tensor]:
        """Sample, differentiate with ``backward(loss)``, update; returns detached scalar losses.

        Must not wait for the device: no ``.item()``, no branching on tensor values.
        """

    def validate(self) -> float | None:
        """A score on validation data, lower is better; None keeps the last state instead of the best."""
        return None

    def state(self) -> dict[str, Any]:
        """Further state an exact resume needs, as tensors, numbers, strings, lists and dicts."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:  # noqa: B027 (optional)
        """Take back what ``state`` gave."""


@dataclass(frozen=True)
class TrainingSummary:
    """What a run of the loop did."""

    steps: int
    seconds: float
    steps_per_second: float
    best_step: int
    best_score: float | None  # None where nothing was validated
    losses: dict[str, float]


def choose_device(name: str = "auto", count: int = 1) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as a device; of ``count`` GPUs the first. Raises BenchError where
    it is not there, or not so many are."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise BenchError(f"unknown device {name!r}; known are: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BenchError(f"device {name!r} was asked for, but it is not present; use --device cpu")
    if device.type == "cuda" and count > 1:
        if device.index is not None:
            raise BenchError(f"--device {name} is one device: for {count} give --device cuda")
        if count > (present := torch.cuda.device_count()):
            raise BenchError(
                f"{count} devices were asked for, but {present} are present: --devices {present}"
            )
    return device


class Trainer:
    """Runs learners. One Trainer belongs to one run and one folder.

    Args:
        folder: where ``checkpoint.pt`` and ``losses.jsonl`` go; None writes nothing.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        precision: ``auto`` is bf16 autocast with fp32 weights on CUDA and fp32 on CPU; or a Fabric precision.
        seed: of the weights' initialisation and of every draw.
        resume: continue from the folder's checkpoint, exactly where it stopped.
        progress: show the bar.
        identity: a string that a checkpoint must carry to be resumed (the run's specification hash).
        team: the processes that train together, each with a Trainer of its own. Only the first has a folder.
    """

    def __init__(
        self,
        folder: Path | None = None,
        device: str = "auto",
        precision: str = "auto",
        seed: int = 0,
        resume: bool = False,
        progress: bool = True,
        identity: str = "",
        team: Team = ALONE,
    ) -> None:
        chosen = choose_device(device)
        self.device = torch.device("cuda", chosen.index or 0) if chosen.type == "cuda" else chosen
        self.precision = choose_precision(chosen.type, precision)
        self.folder = RunFolder(folder) if folder else None
        self.seed, self.resume, self.progress = seed, resume, progress
        self.identity, self.team = identity, team
        self.summary: TrainingSummary | None = None
        """What the last :meth:`run` did."""
        torch.manual_seed(seed)
        self.generator = torch.Generator(device=self.device).manual_seed(seed)
        """Draws on the device (samples, noise)."""
        self.host_generator = torch.Generator().manual_seed(seed)
        """Draws on the CPU, for choices the step must know without waiting for the device."""

    @cached_property
    def fabric(self) -> Fabric:
        """What carries out steps on the device, in the precision; loaded only where steps are taken."""
        from pansharp_bench.training.fabric import fabric

        return fabric(self.device, self.precision, self.team)

    def run(
        self,
        learner: Learner,
        steps: int,
        validate_every: int = 0,
        checkpoint_every: int = 1000,
        log_every: int = 50,
    ) -> TrainingSummary:
        """Train for ``steps`` steps; afterwards the learner's networks hold the selected state.

        With ``validate_every`` the state of best validation score is kept (validation at every so many steps
        and at the end); otherwise the last. A checkpoint is written every ``checkpoint_every`` steps and every
        five minutes. Ctrl-C (or SIGTERM) lets the running step end, saves one and raises :class:`Interrupted`; a
        second one stops at once, leaving the checkpoint before.

        Raises BenchError for a negative number of steps.
        """
        if steps < 0:
            raise BenchError(f"a training of {steps} steps cannot be: give 0 or more")
        with put_plainly():
            learner.networks = {k: self.fabric.setup_module(n) for k, n in learner.networks.items()}
        learner.optimizers = {
            k: cast(Optimizer, self.fabric.setup_optimizers(o)) for k, o in learner.optimizers.items()
        }
        at = self._load(learner) if self.resume else _Progress()
        if self.team.rank:  # what networks draw by themselves (dropout) is no other process's
            torch.manual_seed(hash((self.seed, self.team.rank, at.step)) % 2**63)
        if self.folder:
            _truncate_log(self.folder.log, at.step)
        saved = time.perf_counter()
        clock = saved - at.seconds
        bar = tqdm(
            total=steps,
            initial=at.step,
            disable=not self.progress,
            unit="step",
            dynamic_ncols=True,
            desc="training",
        )
        with _StopAsked(heeded=self.team.rank == 0) as stop, bar:
            while at.step < steps:
                with put_plainly():
                    losses = _scalars(learner.step(self.fabric.backward), learner)
                if self.team.size > 1:
                    losses = {k: v.clone() for k, v in losses.items()}
                    self.team.average(list(losses.values()))
                for scheduler in learner.schedulers.values():
                    scheduler.step()
                at.step += 1
                at.counted += 1
                for key, value in losses.items():
                    at.sums[key] = at.sums[key] + value if key in at.sums else value.clone()
                bar.update()
                last = at.step == steps
                if at.step % log_every == 0 or last:
                    at.seconds = time.perf_counter() - clock
                    self._log(at)
                    bar.set_postfix({k: f"{v:.3f}" for k, v in at.losses.items()})
                if validate_every and (at.step % validate_every == 0 or last):
                    self._validate(learner, at)
                due = at.step % checkpoint_every == 0 or time.perf_counter() - saved > _UNSAVED
                if (stop.asked or due) and not last:
                    saved = time.perf_counter()
                    at.seconds = saved - clock
                    self._save(learner, at)
                    if stop.asked:
                        raise Interrupted(f"stopped after step {at.step} of {steps}")
        at.seconds = time.perf_counter() - clock
        if at.best:
            _load_networks(learner, at.best)
        self._save(learner, at)
        score = at.best_score if at.best else None
        self.summary = TrainingSummary(
            steps, at.seconds, steps / max(at.seconds, 1e-9), at.best_step or steps, score, at.losses
        )
        return self.summary

    def _log(self, at: _Progress) -> None:
        at.losses = {k: float(v) / at.counted for k, v in at.sums.items()}
        at.sums, at.counted = {}, 0
        self._write({"step": at.step, "seconds": round(at.seconds, 3), **at.losses})
        if not all(map(math.isfinite, at.losses.values())):
            raise BenchError(
                f"training diverged at step {at.step}: losses {at.losses}; "
                "lower the learning rate or use full precision (--precision 32-true)"
            )

    def _validate(self, learner: Learner, at: _Progress) -> None:
        # validation must not disturb the training's draws, or its frequency would change the result
        rng = self._rng_state()
        for network in learner.networks.values():
            network.eval()
        with torch.no_grad():
            score = learner.validate()
        for network in learner.networks.values():
            network.train()
        self._set_rng_state(rng)
        if score is None:
            return
        score = float(score)  # a tensor too
        self._write({"step": at.step, "validation": score})
        if score < at.best_score:  # never so for NaN
            at.best_step, at.best_score = at.step, score
            at.best = {k: _to_cpu(n.state_dict()) for k, n in learner.networks.items()}

    def _write(self, line: dict[str, Any]) -> None:
        if self.folder:
            with written(self.folder.log), open(self.folder.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def _rng_state(self) -> dict[str, Tensor]:
        state = {
            "torch": torch.get_rng_state(),
            "device": self.generator.get_state(),
            "host": self.host_generator.get_state(),
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def _set_rng_state(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state["torch"])
        self.generator.set_state(state["device"])
        self.host_generator.set_state(state["host"])
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def _save(self, learner: Learner, at: _Progress) -> None:
        if self.folder is None:
            return
        state = {
            "belongs_to": self.identity,
            "progress": {f.name: getattr(at, f.name) for f in fields(at)},
            "networks": {k: n.state_dict() for k, n in learner.networks.items()},
            "optimizers": {k: o.state_dict() for k, o in learner.optimizers.items()},
            "schedulers": {k: s.state_dict() for k, s in learner.schedulers.items()},
            "learner": learner.state(),
            "rng": self._rng_state(),
        }
        with atomically(self.folder.checkpoint) as part, open(part, "wb") as file:
            torch.save(state, file)

    def _load(self, learner: Learner) -> _Progress:
        path = self.folder and self.folder.checkpoint
        if self.team.rank == 0 and not (path and path.exists()):
            raise BenchError(f"nothing to resume: {path} does not exist; run without --resume")
        try:
            data = self.team.told(path.read_bytes() if path else b"")
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            if state["belongs_to"] != self.identity:
                raise BenchError(
                    f"{path} belongs to a run with other settings ({state['belongs_to']}, not {self.identity})"
                )
            _load_networks(learner, state["networks"])
            for kind in ("optimizers", "schedulers"):
                for key, item in getattr(learner, kind).items():
                    item.load_state_dict(state[kind][key])
            learner.load_state(state["learner"])
            at = _Progress(**state["progress"])
            at.sums = {k: v.to(self.device) for k, v in at.sums.items()}
            self._set_rng_state(state["rng"])
            return at
        except BenchError:
            raise
        except Exception as error:
            raise BenchError(f"{path} cannot be resumed: {error}") from error


class _StopAsked:
    """Within, Ctrl-C, SIGTERM and ``stop_asked`` ask to stop, so that no step is torn; twice, it interrupts. Not
    ``heeded``, nothing is changed: a process that assists ends when the first, which saves, has left it alone."""

    def __init__(self, heeded: bool = True) -> None:
        self._signalled, self._heeded = 0.0, heeded
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _StopAsked:
        # in other threads signals do not arrive
        if self._heeded and threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        return self._heeded and (self._signalled > 0 or stop_asked.is_set())

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._signalled and now > self._signalled + ONE_WISH:
            raise KeyboardInterrupt
        self._signalled = self._signalled or now


@dataclass
class _Progress:
    """Where a run stands; all of it is in the checkpoint."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float = math.inf
    best: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    counted: int = 0


def _scalars(losses: Any, learner: Learner) -> dict[str, Tensor]:
    """What a step gave for the log, without its graph. Raises BenchError for anything but numbers by name."""
    fits = isinstance(losses, dict) and all(isinstance(v, Tensor) and v.numel() == 1 for v in losses.values())
    if not fits:
        found = losses if isinstance(losses, dict) else {"": losses}
        kinds = (tuple(v.shape) if isinstance(v, Tensor) else type(v).__name__ for v in found.values())
        told = ", ".join(f"{k} {kind}".strip() for k, kind in zip(found, kinds, strict=True))
        raise BenchError(
            f"{type(learner).__name__}.step gave {told}; expected losses by name, each a tensor of one number, "
            'e.g. {"loss": loss.detach()}'
        )
    return {k: v.detach() for k, v in losses.items()}


def _load_networks(learner: Learner, states: dict[str, dict[str, Tensor]]) -> None:
    for key, network in learner.networks.items():
        network.load_state_dict(states[key])


def _to_cpu(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().to("cpu", copy=True) for k, v in state.items()}


def _truncate_log(path: Path, step: int) -> None:
    """Keep the lines up to this step: an interrupted run may have logged more than its checkpoint knows."""
    kept = []
    if step and path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError):  # a line torn by a kill
                continue
    write_text(path, "".join(line + "\n" for line in kept))
