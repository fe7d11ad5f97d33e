"""Processes, each with a device, that train as one.

Every process draws the random numbers of the whole batch, as one alone would, and keeps its share of them;
gradients are averaged before anything looks at them. So what is learnt does not depend on how many share in it, but
for rounding, and any of them holds the whole state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pansharp_bench.environment import check_even
from pansharp_bench.errors import BenchError


class Lost(BenchError):
    """Another process of the team is gone, so that nothing can be done together any more."""


@dataclass(frozen=True)
class Team:
    """This process among ``size``, by ``rank``; ``local`` is its place on its machine, the number of its GPU."""

    rank: int = 0
    size: int = 1
    local: int = 0

    def share(self, x: Tensor, groups: int = 1, dim: int = 0) -> Tensor:
        """This process's samples of a whole batch; of each of ``groups`` batches that follow one another.

        Raises BenchError where they cannot be shared out evenly.

        >>> Team(rank=1, size=2).share(torch.arange(8), groups=2)
        tensor([2, 3, 6, 7])
        """
        if self.size == 1:
            return x
        batch = x.shape[dim] // groups
        check_even(batch, self.size)
        own = batch // self.size
        return x.unflatten(dim, (groups, batch)).narrow(dim + 1, self.rank * own, own).flatten(dim, dim + 1)

    def part(self, n: int, device: torch.device) -> Tensor:
        """Which of n things this process looks at, as many as every other: what is gathered of them begins with
        those of 0 to n - 1, in order.

        >>> [Team(rank, 2).part(5, torch.device("cpu")).tolist() for rank in (0, 1)]
        [[0, 1, 2], [3, 4, 4]]
        """
        own = -(-n // self.size)
        return torch.arange(self.rank * own, (self.rank + 1) * own, device=device).clamp_max(n - 1)

    def gather(self, x: Tensor) -> Tensor:
        """The tensors (n, ...) of all processes, one after another: (size n, ...).

        Where each process takes a loss of the whole, gradients through its own n are so scaled that their average
        over processes is the loss's gradient.
        """
        if self.size == 1:
            return x
        own = x.detach().contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        _together("all_gather", parts, own)
        if x.requires_grad:
            parts[self.rank] = x.detach() + self.size * (x - x.detach())
        return torch.cat(parts)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over processes in the place of each tensor: one message for all of a type."""
        if self.size == 1:
            return
        of_type = defaultdict(list)
        for tensor in tensors:
            of_type[tensor.dtype].append(tensor)
        for alike in of_type.values():
            flat = torch.cat([t.reshape(-1) for t in alike])
            _together("all_reduce", flat)
            parts = (flat / self.size).split([t.numel() for t in alike])
            torch._foreach_copy_(alike, [p.view(t.shape) for p, t in zip(parts, alike, strict=True)])

    def told(self, text: bytes) -> bytes:
        """What the first process says."""
        if self.size == 1:
            return text
        length = torch.tensor(len(text))
        _together("broadcast", length, 0)
        data = torch.empty(int(length), dtype=torch.uint8)
        if self.rank == 0:
            data.copy_(torch.frombuffer(bytearray(text), dtype=torch.uint8))
        _together("broadcast", data, 0)
        return data.numpy().tobytes()


ALONE = Team()


@contextmanager
def put_plainly() -> Iterator[None]:
    """What torch.distributed raises within, beside other work, as what it means: Lost, or a BenchError."""
    try:
        yield
    except RuntimeError as error:
        # of NCCL it has a type of its own, of gloo only the place in its source
        if "gloo" in str(error) or type(error).__module__.startswith("torch.distributed"):
            raise _lost(error) from error
        if "finished reduction in the prior iteration" in str(error):
            raise BenchError(
                "a loss reached only some weights of a network: on several devices it must reach all of them, or "
                "none (requires_grad_(False) freezes what is not to learn)"
            ) from error
        raise


def _together(operation: str, *args: Any) -> None:
    """An operation of torch.distributed. Raises Lost."""
    import torch.distributed as dist

    carry_out: Callable[..., Any] = getattr(dist, operation)
    try:
        carry_out(*args)
    except RuntimeError as error:
        raise _lost(error) from error


def _lost(error: RuntimeError) -> Lost:
    return Lost(f"a process of this training is gone: {error}")
