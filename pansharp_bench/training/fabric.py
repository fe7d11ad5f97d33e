"""Lightning Fabric as a Trainer uses it: one device of a team, in its precision.

Imported only where steps are taken: it costs a second.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pansharp_bench.errors import BenchError
from pansharp_bench.training.team import ALONE, Team


def fabric(device: torch.device, precision: str, team: Team = ALONE) -> Fabric:
    """What carries out steps on the device; the processes of a team have met already (:mod:`launch
    <pansharp_bench.training.launch>`)."""
    kind, mixed = device.type, precision in ("bf16-mixed", "16-mixed")
    together: dict[str, Any] = {"strategy": Together(), "num_nodes": team.size} if team.size > 1 else {}
    made = Fabric(
        accelerator=kind,
        devices=[device.index] if kind == "cuda" else 1,
        precision=None if mixed else precision,  # type: ignore[arg-type]
        plugins=[Place(team), *([Autocast(precision, kind)] if mixed else [])],  # type: ignore
        **together,
    )
    if together:
        # of layers with one input channel, whose layout in memory has no one name
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        made.launch()
    return made


class Autocast(MixedPrecision):
    """Autocast that leaves a network's inputs as they are: rounded to bf16, images would band, and with them every
    path that hands them on. Each operation takes what precision it needs."""

    def convert_input(self, data: Any) -> Any:
        """As it is."""
        return data


class Place(LightningEnvironment):
    """Where this process is in its team: each counts as a node of one device. Left to look for itself, Fabric would
    start processes, or hold the tasks of Slurm or MPI for its own."""

    creates_processes_externally = True

    def __init__(self, team: Team) -> None:
        super().__init__()
        self.team = team

    def local_rank(self) -> int:
        """Of one."""
        return 0

    def node_rank(self) -> int:
        """The rank of the process."""
        return self.team.rank


class Together(DDPStrategy):
    """Networks of which every process has one, with the mean of all gradients."""

    def setup_module(self, module: nn.Module) -> DistributedDataParallel:
        """The wrapped network; itself where nothing of it is learnt."""
        learnt = _learnt(module)
        wrapped = cast(DistributedDataParallel, module)
        if learnt:
            wrapped = super().setup_module(module)
            # buffers are constants here, and a step may call a network again before it differentiates the first
            # call: writing them anew in between would spoil that
            wrapped.broadcast_buffers = False
        wrapped.register_forward_pre_hook(partial(_expect_gradients, learnt))
        return wrapped


def _learnt(network: nn.Module) -> set[nn.Parameter]:
    return {p for p in network.parameters() if p.requires_grad}


def _expect_gradients(averaged: set[nn.Parameter], network: DistributedDataParallel, _: Any) -> None:
    """None of a network that is frozen for now, as a discriminator is while its generator learns from it."""
    now = _learnt(network)
    if now - averaged:
        raise BenchError(
            "weights learn that were frozen when training began: on several devices their gradients are not "
            "averaged. Freeze them later, in the step"
        )
    network.require_backward_grad_sync = bool(now)
