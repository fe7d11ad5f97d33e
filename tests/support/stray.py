"""Watches whether a training step reaches its networks as the trainer prepared them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pansharp_bench.training import Trainer


@contextmanager
def strays(trainer: Trainer) -> Iterator[list[str]]:
    """Within, the names of networks that are called with gradient past their prepared form: right on one device,
    and silently without its neighbours' gradients on several. Validation takes no gradient and may do so."""
    found: list[str] = []
    hooks = []
    setup: Callable[..., nn.Module] = trainer.fabric.setup_module

    def prepare(module: nn.Module) -> nn.Module:
        depth = [0]

        def enter(*_: object) -> None:
            depth[0] += 1

        def leave(*_: object) -> None:
            depth[0] -= 1

        def called(*_: object) -> None:
            if not depth[0] and torch.is_grad_enabled():
                found.append(type(module).__name__)

        prepared = setup(module)
        hooks.append(module.register_forward_pre_hook(called))
        hooks.append(prepared.register_forward_pre_hook(enter))
        hooks.append(prepared.register_forward_hook(leave))
        return prepared

    trainer.fabric.setup_module = prepare
    try:
        yield found
    finally:
        trainer.fabric.setup_module = setup
        for hook in hooks:
            hook.remove()
