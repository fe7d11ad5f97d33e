"""Bringing a team together: helpers started here, on every node by the same command, or all of it by ``torchrun``.

The first process is the one that carries out the run; the others wait for orders (a function each, which they carry
out with their place in the team), so everything but training happens once. Orders go through a store of
``torch.distributed``; each has a process group of its own. Who is gone, failed or was asked to stop is heard
through :mod:`lines <pansharp_bench.training.lines>`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import torch

from pansharp_bench.errors import BenchError
from pansharp_bench.training.lines import Line, Lines
from pansharp_bench.training.team import ALONE, Lost, Team

Order = Callable[[Team], Any]
_PATIENCE = 1800.0  # seconds, of those that wait for another
_LONGEST = timedelta(days=30)  # between two orders
_GONE = 75  # exit code of a helper that another one left alone
_DEADLOCK = 20.0  # seconds for one to notice by itself that another is gone; on a GPU it may never do so


@dataclass(frozen=True)
class Launch:
    """How many train: so many ``devices`` on each of ``nodes``, this process one of them; ``external``: others were
    started as it was, by ``torchrun``."""

    devices: int = 1
    nodes: int = 1
    rank: int = 0
    external: bool = False

    @property
    def size(self) -> int:
        """Processes in all."""
        return self.devices * self.nodes

    @property
    def standing(self) -> bool:
        """Whether some of the others were not started by this process."""
        return self.external or self.nodes > 1


def _threads(launch: Launch) -> int:
    """Of each process: together they have those of one."""
    return max(1, torch.get_num_threads() // (1 if launch.external else launch.devices))


def launched(devices: int = 1, nodes: int = 1) -> Launch:
    """What was asked for and what the environment says: under ``torchrun`` all of it; on several nodes which of
    them this is (``NODE_RANK``, from 0 on) and where the first is found (``MASTER_ADDR``, ``MASTER_PORT``).

    Raises BenchError where that is lacking, or says something else.
    """
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        rank, size, here = (int(os.environ[k]) for k in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        if (devices, nodes) not in ((1, 1), (here, size // here)):
            raise BenchError(
                f"torchrun started {size} processes, {here} of them here, which is not --devices {devices} --nodes "
                f"{nodes}: leave these out"
            )
        return Launch(here, size // here, rank, external=True)
    if nodes == 1:
        return Launch(devices)
    if lacking := [k for k in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(k)]:
        raise BenchError(
            f"--nodes {nodes}: {', '.join(lacking)} must be set on every node (its number from 0 on, host and a "
            "free port of the first), or let torchrun start all processes"
        )
    node = os.environ["NODE_RANK"]
    if node not in map(str, range(nodes)):
        raise BenchError(f"NODE_RANK={node} is not the number of one of {nodes} nodes: 0 to {nodes - 1}")
    return Launch(devices, nodes, int(node) * devices)


@contextlib.contextmanager
def team(launch: Launch, device: torch.device, order: Order) -> Iterator[Team]:
    """Within, this process is the first of a team of which the others carry out ``order``, which can be pickled.

    Raises BenchError where another one failed, with what it said.
    """
    if launch.size == 1:
        yield ALONE
        return
    if launch.rank:
        raise BenchError(f"process {launch.rank} of {launch.size} carries out no runs of its own: it assists")
    threads = torch.get_num_threads()
    torch.set_num_threads(_threads(launch))
    try:
        with _post(launch) as post, post.carried_out(order, device.type) as first:
            yield first
    finally:
        torch.set_num_threads(threads)


def assist(launch: Launch) -> None:
    """What all processes but the first do: carry out orders until there are no more.

    Signals are passed on to the first, which saves the state; who is left alone by it ends.
    """
    local = int(os.environ.get("LOCAL_RANK", 0)) if launch.external else 0
    with _local(launch) as (store, _):
        _obey(store, os.environ["MASTER_ADDR"], Team(launch.rank, launch.size, local), heeds_signals=True)


def _obey(store: Any, first: str, place: Team, heeds_signals: bool = False) -> None:
    line = Line(first, int(store.get("line")), place.rank, _DEADLOCK, _GONE)
    if heeds_signals:
        line.pass_signals_on()
    store.set_timeout(_LONGEST)
    number = 0
    while True:
        try:
            order = store.get(f"order {number}")
        except RuntimeError:  # the first is gone, and nothing was under way
            return
        if not order:
            return
        kind, function = pickle.loads(order)
        store.set(f"{place.rank} has order {number}", b"")
        with _group(store, number, place, kind):
            try:
                function(place)
            except Lost:
                sys.stderr.write(f"this training has ended; its first process, on {first}, says why\n")
                raise SystemExit(_GONE) from None
            except Exception as error:
                line.failed(error)
                raise
            number += 1
            with contextlib.suppress(RuntimeError):
                store.wait([f"order {number}"])  # till then others may still have to hear from this one


@contextlib.contextmanager
def _group(store: Any, number: int, place: Team, kind: str) -> Iterator[None]:
    import torch.distributed as dist

    if kind == "cuda":
        torch.cuda.set_device(place.local)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo", store=dist.PrefixStore(str(number), store),
        rank=place.rank, world_size=place.size, timeout=timedelta(seconds=_PATIENCE),
    )  # fmt: skip
    try:
        yield
    finally:
        dist.destroy_process_group()


class _Post:
    """Where the first process leaves its orders."""

    def __init__(self, store: Any, size: int, helpers: list[_Helper]) -> None:
        self.store, self.size, self.helpers, self.number = store, size, helpers, 0
        self.lines = Lines(size)
        store.set("line", str(self.lines.port))

    @contextlib.contextmanager
    def carried_out(self, order: Order, kind: str) -> Iterator[Team]:
        first, number = Team(0, self.size), self.number
        self.store.set(f"order {number}", pickle.dumps((kind, order)))
        self.number += 1
        try:
            self._assemble(number)
            with self._watched(), _group(self.store, number, first, kind):
                yield first
        except Lost as error:
            raise BenchError(self._cause() or str(error)) from error

    def _assemble(self, number: int) -> None:
        """Wait until all have the order: who fails before that is noticed here."""
        expected, until = (
            [f"{r} has order {number}" for r in range(1, self.size)],
            time.monotonic() + _PATIENCE,
        )
        while not self.store.check(expected):
            if self._broken or time.monotonic() > until:
                raise Lost(f"the {self.size} processes of this training did not come together")
            time.sleep(0.05)

    @property
    def _broken(self) -> bool:
        """Whether not all others are there any more."""
        return any(h.failed for h in self.helpers) or bool(self.lines.lost)

    def _cause(self, patience: float = 5.0) -> str:
        """What made one fail, which may need a moment to do so; else who is gone."""
        until = time.monotonic() + patience
        while True:
            for cause in (*(helper.cause() for helper in self.helpers), self.lines.cause()):
                if cause:
                    return cause
            if time.monotonic() > until:
                return next(iter(self.lines.lost.values()), "")
            time.sleep(0.05)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Ends this process where it waits for one that is gone, and cannot be told: what waits on a GPU, or for a
        machine that is silent."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.5):
                if self._broken and not over.wait(_DEADLOCK):
                    sys.stderr.write(f"Error: {self._cause()}; --resume goes on from the last checkpoint\n")
                    sys.stderr.flush()
                    os._exit(1)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def close(self) -> None:
        with contextlib.suppress(RuntimeError):
            self.store.set(f"order {self.number}", b"")
        self.lines.close()


@contextlib.contextmanager
def _post(launch: Launch) -> Iterator[_Post]:
    """The post of a team whose helpers end with it, or that of :func:`stand_by`."""
    if launch.standing:
        yield stand_by(launch)
        return
    with _local(launch) as (store, helpers):
        post = _Post(store, launch.size, helpers)
        yield post
        post.close()
        for helper in helpers:
            helper.process.wait()


@cache
def stand_by(launch: Launch) -> _Post:
    """The post of those who were not started here. It is open until this process ends and tells them to end, so it
    has to be opened even where there will be no training."""
    import atexit

    stack = contextlib.ExitStack()
    store, helpers = stack.enter_context(_local(launch))
    post = _Post(store, launch.size, helpers)
    atexit.register(stack.close)
    atexit.register(post.close)  # the last is called first
    return post


@contextlib.contextmanager
def _local(launch: Launch) -> Iterator[tuple[Any, list[_Helper]]]:
    """The store, and the helpers that this process has to start; leaving on an error ends these."""
    import torch.distributed as dist

    try:
        if launch.external:
            store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=_PATIENCE)))
            host, port = "", 0
        else:
            host, port = "127.0.0.1", 0
            if launch.nodes > 1:
                host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            store = dist.TCPStore(
                host,
                port,
                is_master=launch.rank == 0,
                timeout=timedelta(seconds=_PATIENCE),
                wait_for_workers=False,
            )
            port = store.port
    except (RuntimeError, ValueError) as error:
        raise BenchError(f"the processes of this training do not find each other: {error}") from error
    with contextlib.ExitStack() as stack:
        helpers = []
        for local in range(1, 1 if launch.external else launch.devices):
            place = Team(launch.rank + local, launch.size, local)
            helpers.append(stack.enter_context(_Helper(place, host, port, _threads(launch))))
        yield store, helpers


class _Helper:
    """A process that was started here. It ends when this one does, and is ended when its context is left."""

    def __init__(self, place: Team, host: str, port: int, threads: int) -> None:
        self.place, self.said = place, tempfile.TemporaryFile()  # noqa: SIM115 (closed with it)
        arguments = f"{host!r}, {port}, {place.rank}, {place.size}, {place.local}"
        code = f"from pansharp_bench.training.launch import _serve; _serve({arguments})"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            start_new_session=True,  # Ctrl-C is for the first
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
                "OMP_NUM_THREADS": str(threads),
            },
        )

    def __enter__(self) -> _Helper:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.said.close()

    @property
    def failed(self) -> bool:
        return self.process.poll() not in (None, 0)

    def cause(self) -> str:
        """What it failed of; empty where another one left it alone, or it did not fail."""
        code = self.process.poll()
        if code in (None, 0, _GONE):
            return ""
        who = f"process {self.place.rank} of {self.place.size} failed"
        if code < 0:
            return f"{who}: it was ended by signal {-code}; of lack of memory, perhaps"
        self.said.seek(0)
        said = self.said.read().decode(errors="replace").strip()
        return f"{who}: {said if code == 2 else said.rpartition(chr(10))[2]}"


def _serve(host: str, port: int, rank: int, size: int, local: int) -> None:
    """The life of a helper."""
    import torch.distributed as dist

    def end_with_parent() -> None:
        os.read(0, 1)  # not sys.stdin, whose lock a thread would hold while Python ends
        os._exit(_GONE)

    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        _obey(
            dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=_PATIENCE)),
            host,
            Team(rank, size, local),
        )
    except BenchError as error:
        sys.stderr.write(str(error))
        raise SystemExit(2) from None


__all__ = ["Launch", "Order", "assist", "launched", "stand_by", "team"]
