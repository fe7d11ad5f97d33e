"""A device that is not there: its memory is the CPU's, and every operation is looked at on its way.

What a GPU refuses is refused (tensors of two devices in one operation, draws by another device's generator), and
so is, where it is watched, what a GPU would make the host wait for. The results are the CPU's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.utils.backend_registration as registration
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from pansharp_bench.training import Learner, Trainer

NAME = "pretend"
if not hasattr(registration, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this PyTorch has no devices made in Python", allow_module_level=True)


class _Module(registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


# kept here, for PyTorch does not keep them
_PARTS = _Module(), registration._DummyPrivateUse1Hook(), registration._DummyDeviceGuard()
registration._setup_privateuseone_for_python_backend(NAME, *_PARTS)
DEVICE = torch.device(NAME, 0)

_aten = torch.ops.aten
_MOVES = {_aten._to_copy.default, _aten.copy_.default}
_WAITS = {  # whose result, or the size of it, the host must know
    _aten._local_scalar_dense.default, _aten.nonzero.default, _aten.masked_select.default, _aten.equal.default,
    _aten._unique2.default, _aten.unique_consecutive.default, _aten.unique_dim.default, _aten.is_nonzero.default,
    _aten.repeat_interleave.Tensor, _aten._linalg_check_errors.default,
    _aten.cumprod.default,  # by its derivative, which looks for zeros
}  # fmt: skip


class Stray(Exception):
    """Not a RuntimeError, which code might catch."""


class _There(Tensor):
    """A tensor on the device; ``here`` is its memory."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> _There:
        made = Tensor._make_wrapper_subclass(
            cls, here.shape, here.stride(), here.storage_offset(), dtype=here.dtype, device=DEVICE
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise Stray(f"{func} on the device after the watch on it ended")

    def __repr__(self, **_: Any) -> str:
        return f"{DEVICE}: {self.here!r}"


class Pretend(TorchDispatchMode):
    """Within, tensors may be on ``DEVICE``. Raises :class:`Stray`."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator()
        """What stands for the device's generator."""
        self.watched = self.sealed = False
        self.seen = 0
        """Operations on the device so far."""

    @contextmanager
    def no_waiting(self, forbidden: bool = True, sealed: bool = False) -> Iterator[None]:
        """Within, the host must not wait for the device (or, not ``forbidden``, may); where it is ``sealed``,
        neither for what is copied to it, unless that is told not to block."""
        before = self.watched, self.sealed
        self.watched, self.sealed = forbidden, forbidden and sealed
        try:
            yield
        finally:
            self.watched, self.sealed = before

    def __enter__(self) -> Pretend:
        self._functions = _Functions(self.generator)
        self._functions.__enter__()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
        self._functions.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in tensors if isinstance(x, _There)]
        device = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
        goes_there = device.type == NAME if device else bool(there)
        self.seen += goes_there or bool(there)
        if there and func not in _MOVES and any(x.ndim for x in tensors if not isinstance(x, _There)):
            raise Stray(f"{func}: tensors on {DEVICE} and on the CPU")
        if func == _aten.copy_.default:
            goes_there = isinstance(args[0], _There)
        if self.watched and there and (func in _WAITS or not goes_there or _masks(func, args)):
            raise Stray(f"{func}: the host waits for the device")
        if self.sealed and goes_there and not there and func in _MOVES and not kwargs.get("non_blocking"):
            raise Stray(f"{func}: the host waits for what it copies to the device")
        if device:
            kwargs = {**kwargs, "device": torch.device("cpu") if goes_there else device}
        out = func(*_here(args), **_here(kwargs))
        if func._schema.is_mutable:  # the same memory, the same tensors
            given = {id(_here(x)): x for x in tensors}
            return tree_map_only(Tensor, lambda x: given.get(id(x), x), out)
        return tree_map_only(Tensor, _There, out) if goes_there else out


def _here(tree: Any) -> Any:
    return tree_map_only(_There, lambda x: x.here, tree)


def _masks(func: Any, args: Any) -> bool:
    """Whether a mask chooses, so that the host must know how many it chose."""
    if func not in (_aten.index.Tensor, _aten.index_put_.default, _aten.index_put.default):
        return False
    return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])


class _Functions(TorchFunctionMode):
    """What is decided before an operation is reached: whose generator draws. Constants and lists are made where no
    mode looks, so they are made here, on the CPU."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if (generator := kwargs.get("generator")) is not None:
            like = next((x for x in args if isinstance(x, Tensor)), None)
            device = torch.device(kwargs.get("device") or (like.device if like is not None else "cpu"))
            if (generator is self.generator) != (device.type == NAME):
                raise Stray(f"{func.__name__} on {device}: a generator of another device")
        if func is Tensor.tolist:
            return func(args[0].cpu())
        if func is Tensor.new_tensor:
            like, *args = args
            kwargs = {"device": like.device, "dtype": like.dtype} | kwargs
            func = torch.tensor
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


class PretendTrainer(Trainer):
    """Trains on the device, in float32; no step may wait for it."""

    def __init__(self, pretend: Pretend) -> None:
        super().__init__(None, "cpu", progress=False)
        self.pretend, self.device = pretend, DEVICE
        self.generator = pretend.generator.manual_seed(self.seed)

    @cached_property
    def fabric(self) -> Any:
        return SimpleNamespace(
            setup_module=lambda x: x, setup_optimizers=lambda x: x, backward=lambda loss: loss.backward()
        )

    def run(self, learner: Learner, *args: Any, **kwargs: Any) -> Any:
        step = learner.step

        def watched(backward: Any) -> dict[str, Tensor]:
            with self.pretend.no_waiting(sealed=True):
                return step(backward)

        learner.step = watched
        return super().run(learner, *args, **kwargs)
