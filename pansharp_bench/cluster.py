"""Dask clusters: finding a scheduler, and the tiles of a scene on its workers.

Each worker process opens the same fusion for itself, once, and reads its own windows of the files. Dask gives the
tiles of a worker that is lost to another.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from pansharp_bench.errors import BenchError
from pansharp_bench.tiles import CarryOut, Order, TiledFusion, in_order

try:
    from distributed import CancelledError, Client, Future, SpecCluster, WorkerPlugin, get_worker
    from distributed.scheduler import KilledWorker
except ImportError as error:
    raise BenchError('Dask comes with the extra "sweep": pip install "pansharp-bench[sweep]"') from error

_CONNECT = 10.0  # seconds that a scheduler has to answer
_TICK = 1.0  # seconds between two tries to find it


def connect(address: str | SpecCluster, patience: float = 0.0) -> Client:
    """A client of the scheduler, which is waited for as many seconds as ``patience`` says. Raises BenchError.

    Who calls tells of a scheduler that is gone, for which a client writes a traceback.
    """
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
    until = time.monotonic() + patience
    while True:
        try:
            return Client(address, timeout=_CONNECT)
        except (OSError, ValueError) as error:
            if time.monotonic() < until:
                time.sleep(_TICK)
                continue
            raise BenchError(
                f"no Dask scheduler answers at {address} ({error}); `dask scheduler` starts one"
            ) from error


def install(plugin: WorkerPlugin, client: Client) -> None:
    """Put a plug-in on all workers. Raises BenchError where one cannot even read it."""
    try:
        client.register_plugin(plugin)
    except OSError:
        raise
    except Exception as error:  # Dask makes of a worker's what it can
        raise BenchError(
            f"a worker lacks what it needs, this package with its extra 'sweep': {error}"
        ) from error


Opened = Callable[[], AbstractContextManager[TiledFusion]]


@contextmanager
def on_workers(address: str, opened: Opened) -> Iterator[CarryOut]:
    """Carries out the orders of a fusion on the workers of a scheduler, each in the fusion that it has ``opened``
    (to be pickled) for itself. Raises BenchError: no scheduler; while at work, what a worker raised, and where
    the scheduler is gone or a tile lost as many workers as the scheduler allows.
    """
    with connect(address) as client:
        site = _Site(opened)
        install(site, client)
        if not client.nthreads():
            warnings.warn(f"the scheduler at {address} has no worker yet: waiting for one", stacklevel=3)

        def submit(order: Order) -> Future:
            return client.submit(_carry_out, site.name, order, pure=False)

        def carry_out(orders: Iterable[Order]) -> Iterator[Any]:
            try:
                yield from in_order(submit, orders, lambda: 2 * sum(client.nthreads().values()))
            except KilledWorker as error:
                raise BenchError(
                    f"a tile lost its worker again and again, last {error.last_worker.address}: killed from "
                    "outside, or out of memory? --memory is of each thread of a worker"
                ) from error
            except (CancelledError, OSError) as error:
                if client.status == "running":
                    raise
                raise BenchError(f"the scheduler at {address} is gone") from error

        try:
            yield carry_out
        finally:
            if client.status == "running":
                client.unregister_worker_plugin(site.name)


class _Site(WorkerPlugin):
    """On a worker: the fusion, from the first order on until the work is done or given up."""

    def __init__(self, opened: Opened) -> None:
        self.name = f"pansharp-bench-{uuid.uuid4().hex[:8]}"
        self._opened = opened

    def setup(self, worker: Any) -> None:
        self._lock, self._stack = threading.Lock(), ExitStack()
        self._fusion: TiledFusion | None = None

    def fusion(self) -> TiledFusion:
        """Opened once."""
        with self._lock:
            if self._fusion is None:
                self._fusion = self._stack.enter_context(self._opened())
            return self._fusion

    def teardown(self, worker: Any) -> None:
        self._stack.close()


def _carry_out(name: str, order: Order) -> Any:
    site: Any = get_worker().plugins[name]
    return site.fusion().carry_out(order)
