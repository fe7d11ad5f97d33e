"""Many runs on Dask: each is one task, which any worker carries out, takes up where it was left, or finds done.

Dask holds the queue, places tasks by their resources and notices lost workers. What a run is and whether it is done
is the records' matter: a task looks for its record first, so it may be handed out twice without harm.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import signal
import socket
import threading
import time
import traceback
import uuid
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from pansharp_bench import __version__, experiment
from pansharp_bench.cluster import connect, install
from pansharp_bench.errors import BenchError, DataError, RecordExists, UnderWay
from pansharp_bench.files import check_writable, sha256_of
from pansharp_bench.plan import RunSpec, essential, outline, plan, recorded
from pansharp_bench.record import present, spec_hash
from pansharp_bench.registry import is_stale, load_plugin
from pansharp_bench.scene import data_root
from pansharp_bench.training import stop_asked

try:
    from dask.system import CPU_COUNT
    from dask.utils import parse_bytes
    from distributed import Client, Nanny, Scheduler, SpecCluster, WorkerPlugin, get_worker
    from distributed.comm import get_address_host
    from distributed.core import Status
    from distributed.scheduler import KilledWorker
    from distributed.system import MEMORY_LIMIT
    from distributed.utils import sync
except ImportError as error:
    raise BenchError('sweeps need the extra "sweep": pip install "pansharp-bench[sweep]"') from error

Say = Callable[[str], None]
State = Literal["finished", "skipped", "failed", "stopped", "under way"]
_TICK = 0.5  # seconds between two looks at what became of runs
_POLL = 2.0  # seconds between two tries to take up a run that another process holds
_PATIENCE = 600.0  # seconds a scheduler that was there may be gone


def amount(told: float | str) -> float:
    """How much of a resource: a number, or bytes as people write them. Raises BenchError for anything else.

    >>> amount(1), amount("0.5"), amount("8 GB")
    (1.0, 0.5, 8000000000.0)
    """
    try:
        found = float(told)
    except (TypeError, ValueError):
        try:
            found = float(parse_bytes(told))
        except (AttributeError, TypeError, ValueError):
            found = math.nan
    if isinstance(told, bool) or not 0 < found < math.inf:
        raise BenchError(f"{told!r} is no amount of a resource: give a number above 0, or bytes as in '8 GB'")
    return found


@dataclass(frozen=True)
class Job:
    """A run, and what it takes of a worker that offers it, e.g. ``{"GPU": 1, "memory": 8e9}`` (bytes).

    Raises BenchError for an amount that is none.
    """

    spec: RunSpec
    resources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "resources", {k: amount(v) for k, v in self.resources.items()})


@dataclass(frozen=True)
class Ended:
    """What became of a run: ``skipped`` had a record already, ``stopped`` can be resumed. ``reason`` says why it
    failed, ``log`` (a text file) what it told meanwhile, ``at_fault`` on which host its data files are missing or
    wrong."""

    name: str
    job: Job
    state: State
    log: Path
    reason: str = ""
    record: Path | None = None
    seconds: float = 0.0
    at_fault: str = ""


class SweepStopped(KeyboardInterrupt):
    """A sweep was stopped by the user; what ran is saved. Holds what had ended by then."""

    def __init__(self, ended: list[Ended], of: int) -> None:
        super().__init__(f"stopped with {len(ended)} of {of} runs done")
        self.ended = ended


def sweep(
    jobs: Sequence[Job],
    results: Path = Path("results"),
    runs: Path = Path("runs"),
    *,
    scheduler: str = "",
    workers: int = 0,
    memory: str = "",
    retries: int = 2,
    pictures: int = 0,
    plugins: Sequence[Path] = (),
    patience: float = _PATIENCE,
    progress: bool = False,
    say: Say = lambda text: None,
) -> list[Ended]:
    """Carry out runs on Dask workers, those without a record; what each tells goes to ``runs/logs/NAME.log``.

    A run whose worker dies is carried out again from its checkpoint, up to ``retries`` times, and so is one that
    failed for a reason that may pass. A mistake a user has to mend fails at once; where it lies in a host's data
    files, the run goes to another host, if there is one. Other sweeps may share the folders: a run that one of them
    holds is waited for. A process carries out one run at a time.

    Args:
        jobs: equal ones are carried out once.
        scheduler: address of a running one, ``tcp://host:8786``, whose workers reach the same folders and files.
            Dask itself tries a run again there as often as the scheduler's ``allowed-failures`` say.
        workers: of the cluster that is started here without ``scheduler``: by default one for every GPU or, without
            GPUs, for every processor. Each offers ``memory`` and, with a GPU of its own, ``GPU: 1``.
        memory: each such worker's, ``"8 GB"``; by default its share of the machine. Who takes more is stopped.
        patience: seconds to wait for a scheduler that is gone.

    Raises:
        BenchError: a mistake in any run that shows without its data, before anything runs; no scheduler.
        SweepStopped: on Ctrl-C, after trainings saved their state; a second one leaves at once.
    """
    if os.environ.get("TORCHELASTIC_RUN_ID"):
        raise BenchError(
            "torchrun starts the processes of one training (`bench run`), and a sweep has its own"
        )
    if scheduler and (workers or memory):
        raise BenchError(
            "--workers and --memory are of processes started here; those of a --scheduler have their own: leave "
            "the one or the other out"
        )
    asked = {}
    for job in jobs:
        told = _outlined(job.spec, remote=bool(scheduler))
        asked[_name(job.spec, told)] = replace(job, spec=_anywhere(job.spec, told))
    code = {path.absolute(): sha256_of(path) for path in plugins}
    orders = _Orders(uuid.uuid4().hex[:8], __version__, code, results.absolute(), runs.absolute(), pictures)
    for folder in (orders.results, orders.logs):
        check_writable(folder)
    ended: dict[str, Ended] = {}
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_sigterm_interrupts())
            board = stack.enter_context(_Board(len(asked), progress, say))
            address: str | SpecCluster = scheduler
            if not scheduler:
                address = stack.enter_context(_cluster(workers, memory, retries, list(asked.values())))
            client = connect(address)
            while True:
                with client:
                    _equip(client, orders, local=not scheduler)
                    _warn_of_missing(client, asked.values(), board)
                    left = {name: job for name, job in asked.items() if name not in ended}
                    try:
                        for one in _drive(client, left, orders, retries, board):
                            ended[one.name] = one
                            board.end(one)
                    except KeyboardInterrupt:
                        board.say("stopping after the running steps; Ctrl-C again leaves at once")
                        _stop(client, orders)
                        raise
                if len(ended) == len(asked):
                    return [ended[name] for name in asked]
                board.say(f"the scheduler at {address} is gone; waiting for it")
                client = connect(address, patience)
    except KeyboardInterrupt:
        raise SweepStopped(list(ended.values()), len(asked)) from None


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """What ends jobs of a batch system is heeded like Ctrl-C, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _outlined(spec: RunSpec, remote: bool) -> dict[str, Any]:
    """The outline of a run, as far as it shows here: workers elsewhere have other devices."""
    if spec.nodes > 1:
        raise BenchError("each run of a sweep is one worker's, on one machine: leave nodes at 1")
    told = outline(replace(spec, device="cpu") if remote else spec)
    if remote and told["options"] and not spec.preset:
        raise BenchError(
            f"method {spec.method!r}: name a --preset; without one it depends on a worker's device"
        )
    return told


def _name(spec: RunSpec, told: dict[str, Any]) -> str:
    own = {**essential(told), "device": spec.device, "data": str(spec.data), "faults": spec.accept_faults}
    words = (told["method"], told["dataset"], told["preset"], f"s{told['seed']}", spec_hash(own)[:8])
    return "-".join(words)


def _anywhere(spec: RunSpec, told: dict[str, Any]) -> RunSpec:
    """The same run whatever a worker's folder, environment and device are."""
    root = data_root(spec.data)
    return replace(
        spec,
        preset=told["preset"] if told["options"] else spec.preset,
        data=root and root.absolute(),
        weights=spec.weights and spec.weights.absolute(),
    )


@dataclass(frozen=True)
class _Orders:
    """What all tasks of a sweep are told; ``plugins``: files, and the SHA-256 of what they say."""

    sweep: str
    version: str
    plugins: Mapping[Path, str]
    results: Path
    runs: Path
    pictures: int

    @property
    def logs(self) -> Path:
        return self.runs / "logs"

    @property
    def topic(self) -> str:
        return f"pansharp-bench-{self.sweep}"


# -- where the sweep was called


@contextlib.contextmanager
def _cluster(workers: int, memory: str, retries: int, jobs: Sequence[Job]) -> Iterator[SpecCluster]:
    """Worker processes on this machine, each with one thread for tasks and a GPU of its own, if any."""
    gpus = _gpus() if any(job.spec.device != "cpu" for job in jobs) else []
    count = workers or len(gpus) or CPU_COUNT
    limit = int(amount(memory)) if memory else MEMORY_LIMIT // count
    offered = {"memory": float(limit)} | ({"GPU": 1.0} if gpus else {})
    for job in jobs:
        if short := [k for k, wanted in job.resources.items() if wanted > offered.get(k, 0)]:
            raise BenchError(
                f"a run of {job.spec.method!r} takes {_told(job.resources)}, and a worker here offers "
                f"{_told(offered)}: too little {', '.join(short)}"
            )
    threads = {name: str(max(1, CPU_COUNT // count)) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    specs = {}
    for i in range(count):
        device = {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}
        specs[i] = {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "memory_limit": limit,
                "resources": offered,
                "env": threads | device,
                "silence_logs": logging.ERROR,
            },
        }
    scheduler = {
        "cls": Scheduler,
        "options": {"dashboard_address": ":0", "host": "127.0.0.1", "allowed_failures": retries},
    }
    with SpecCluster(specs, scheduler, name="sweep", silence_logs=logging.ERROR) as cluster:
        yield cluster


def _gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process may use: on a shared machine perhaps 2 and 3."""
    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return (given.split(",") if given else list(map(str, range(count))))[:count]


def _equip(client: Client, orders: _Orders, local: bool) -> None:
    """Prepare the workers. Raises BenchError where one would carry out other code than is here."""
    install(_Guest(local), client)
    found = client.run(unlike, orders, on_error="ignore")
    if said := [f"the worker at {address} {why}" for address, why in found.items() if why]:
        raise BenchError(f"{said[0]}: start it anew, with what is here")


def _drive(
    client: Client, jobs: Mapping[str, Job], orders: _Orders, retries: int, board: _Board
) -> Iterator[Ended]:
    """Hand out runs and give each when it has ended; returns early where the scheduler is gone."""
    client.subscribe_topic(f"{orders.topic}-begin", lambda event: board.begin(**event[1]))
    client.subscribe_topic(f"{orders.topic}-follow", lambda event: board.follow(**event[1]))
    client.subscribe_topic("worker-restart-memory", lambda event: board.starved.add(event[1]["worker"]))

    def submit(name: str, again: int = 0, workers: Collection[str] = ()) -> Any:
        return client.submit(
            carry_out,
            name,
            jobs[name],
            orders,
            key := f"{name}-{orders.sweep}-{again}",
            again > 0,
            key=key,
            workers=list(workers) or None,
            resources=dict(jobs[name].resources),
            retries=retries,
            priority=-again,  # what another process holds is waited for when nothing else is left to do
            pure=False,
        )

    tried: Counter[str] = Counter()
    at_fault: defaultdict[tuple, set[str]] = defaultdict(set)
    """Hosts, by the kind of run they cannot serve."""
    futures: dict[Any, tuple[str, int, set[str]]] = {submit(name): (name, 0, set()) for name in jobs}
    """Name, number of the try, and the workers it is for where some are at fault."""
    while futures and client.status == "running":
        time.sleep(_TICK)  # looking is cheap; to wait for thousands of futures is not
        board.tick()
        waiting = [f for f, (_, _, placed) in futures.items() if placed and f.status == "pending"]
        there = _able(client, {}) if waiting else set()
        for future in [f for f in waiting if not futures[f][2] & there]:  # whoever it was for is gone
            name, again, _ = futures.pop(future)
            future.cancel()
            futures[submit(name, again + 1)] = (name, again + 1, set())
        for future in [f for f in futures if f.status in ("finished", "error")]:
            name, again, placed = futures.pop(future)
            error = future.exception()
            if error is None:
                one = future.result()
                done = one.state not in ("under way", "stopped")  # another process has it, or a worker closed
                if one.at_fault:
                    spec = one.job.spec
                    hosts = at_fault[spec.method, spec.dataset, spec.label, spec.data]
                    new = one.at_fault not in hosts
                    hosts.add(one.at_fault)
                    able = _able(client, one.job.resources)
                    placed = {address for address in able if get_address_host(address) not in hosts}
                    done = not placed
                    if new and placed:
                        what = f"{spec.method} on {spec.dataset}"
                        board.say(
                            f"! {one.at_fault} cannot serve {what}, whose runs go to others: {one.reason}"
                        )
            else:
                # Dask blames a worker's death on all that waited there; here it counts for the run that had begun
                tried[name] += board.begun[future.key]
                done = not isinstance(error, KilledWorker) or tried[name] > retries
                why = board.account_of(error, tried[name])
                one = Ended(name, jobs[name], "failed", orders.logs / f"{name}.log", why)
            if done:
                yield one
            else:
                futures[submit(name, again + 1, placed)] = (name, again + 1, placed)


def _stop(client: Client, orders: _Orders) -> None:
    """Let trainings save their state and everything else of this sweep end, as far as workers can be reached."""
    with contextlib.suppress(KeyboardInterrupt, OSError, ValueError):
        client.run(stop, orders.sweep, on_error="ignore")
        while client.status == "running" and any(
            at_work is True for at_work in client.run(is_at_work, orders.sweep, on_error="ignore").values()
        ):
            time.sleep(_TICK)


def _warn_of_missing(client: Client, jobs: Any, board: _Board) -> None:
    """Say where no worker of a running scheduler has at present what a run takes."""
    if not _able(client, {}):
        board.say("! the scheduler has no worker yet: runs wait for one")
        return
    for wanted in {_told(j.resources): j.resources for j in jobs}.values():
        if not _able(client, wanted):
            board.say(f"! no worker offers {_told(wanted)} yet: runs wait for one that does")


def _able(client: Client, resources: Mapping[str, float]) -> set[str]:
    """Addresses of the workers that offer what a run takes."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return {a for a, w in workers.items() if all(w["resources"].get(k, 0) >= v for k, v in resources.items())}


def _told(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in resources.items())


class _Board:
    """What a user sees: a line for every run that ended, and bars for those under way and for all."""

    def __init__(self, runs: int, progress: bool, say: Say) -> None:
        self.runs, self.progress, self._say = runs, progress, say
        self.ended = 0
        self.begun: Counter[str] = Counter()
        """How often each task was begun, by its key."""
        self.starved: set[str] = set()
        """Addresses of workers that took more memory than they had."""
        self._bars: dict[str, tuple[tqdm, Path]] = {}

    def __enter__(self) -> _Board:
        self._all = tqdm(
            total=self.runs, unit="run", desc="sweep", disable=not self.progress, dynamic_ncols=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        for bar, _path in list(self._bars.values()):
            bar.close()
        self._all.close()

    def say(self, text: str) -> None:
        with tqdm.external_write_mode():
            self._say(text)

    def begin(self, key: str) -> None:
        self.begun[key] += 1

    def follow(self, name: str, log: str, steps: int) -> None:
        if self.progress and steps and name not in self._bars:
            self._bars[name] = (
                tqdm(total=steps, unit="step", desc=name, leave=False, dynamic_ncols=True),
                Path(log),
            )

    def tick(self) -> None:
        """Bring the bars to where the runs' logs of losses are."""
        for bar, log in list(self._bars.values()):
            with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
                bar.n = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["step"]
                bar.refresh()

    def end(self, one: Ended) -> None:
        self.ended += 1
        if bar := self._bars.pop(one.name, None):
            bar[0].close()
        self._all.update()
        about = (
            f" in {one.seconds:.0f} s" if one.state == "finished" else f": {one.reason}" if one.reason else ""
        )
        self.say(f"[{self.ended}/{self.runs}] {one.state} {one.name}{about}")

    def account_of(self, error: BaseException, times: int) -> str:
        """Why a task failed for good, in words for a user."""
        if not isinstance(error, KilledWorker):
            return f"{type(error).__name__}: {error}"
        if error.last_worker.address in self.starved:
            return (
                f"out of memory: its worker took more than it has, {times} time(s); give it more (--memory)"
            )
        return f"its worker died in it {times} time(s): killed from outside, out of memory, or crashed"


# -- within a worker

_turn = threading.Lock()  # one run at a time: seeds are the process's
_current = ""
_over: set[str] = set()


class _Guest(WorkerPlugin):
    """Fits a worker to runs: one that closes (its scheduler is gone, its time is up) saves the training under way
    first, and one whose memory stays nearly full goes on. By default it would take no task any more, for ever where
    a run left something behind; beyond its limit its nanny replaces it anyway."""

    name = "pansharp-bench"

    def __init__(self, local: bool) -> None:
        self.local = local

    def setup(self, worker: Any) -> None:
        worker.memory_manager.memory_pause_fraction = 1.0
        if (
            self.local
        ):  # Ctrl-C reaches all processes of a console; it is for the sweep, which tells its workers
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def teardown(self, worker: Any) -> None:
        # a worker that goes on gets another sweep's guest in this one's place
        if _current and worker.status is not Status.running:
            stop_asked.set()


def unlike(orders: _Orders) -> str:
    """In what this worker's code differs from that of a sweep; empty where it does not."""
    if orders.version != __version__:
        return f"has pansharp-bench {__version__}, not {orders.version}"
    for path, sha256 in orders.plugins.items():
        if not path.is_file():
            return f"does not see the plug-in {path}"
        if sha256_of(path) != sha256 or is_stale(path):
            return f"has another version of the plug-in {path}"
    return ""


def stop(sweep: str) -> None:
    """Ask what this worker does for a sweep to stop where it can be resumed, and do nothing more for it."""
    _over.add(sweep)
    if _current == sweep:
        stop_asked.set()


def is_at_work(sweep: str) -> bool:
    """Whether this worker carries out a run of a sweep."""
    return _current == sweep


def carry_out(name: str, job: Job, orders: _Orders, key: str, patient: bool) -> Ended:
    """The task: one run, unless it has a record; resumed where a checkpoint lies. What another process holds is
    ``under way`` or, for the ``patient``, waited for."""
    log = orders.logs / f"{name}.log"
    with _turn, _logged(log) as write:
        _tell(f"{orders.topic}-begin", key=key)
        while True:
            try:
                return _carry_out(name, job, orders, log, write)
            except UnderWay as error:
                if not patient:
                    return Ended(name, job, "under way", log, str(error))
                time.sleep(_POLL)


def _tell(topic: str, **what: Any) -> None:
    """Let the scheduler know, surely: what a worker's own ``log_event`` leaves for later is lost if it dies now."""
    worker = get_worker()
    sync(worker.loop, worker.scheduler.log_event, topic=topic, msg=what)


def _carry_out(name: str, job: Job, orders: _Orders, log: Path, write: Say) -> Ended:
    global _current
    _current = orders.sweep
    started = time.perf_counter()
    try:
        if orders.sweep in _over:
            return Ended(name, job, "stopped", log)
        write(f"on {socket.gethostname()}")
        if why := unlike(orders):
            raise BenchError(f"the worker on {socket.gethostname()} {why}: start it anew")
        for path in orders.plugins:
            load_plugin(path)
        if found := recorded(job.spec, orders.results):
            return Ended(name, job, "skipped", log, record=found)
        settled = plan(job.spec)
        path, folder = settled.path(orders.results), settled.folder(orders.runs)
        if present(path):
            return Ended(name, job, "skipped", log, record=path)
        steps = settled.identity["options"].get("steps", 0)
        _tell(f"{orders.topic}-follow", name=name, log=str(folder.log), steps=steps)
        resume = folder.checkpoint.exists()
        write(f"{'goes on with' if resume else 'begins'} the run in {folder.path}")
        outcome = experiment.run(
            settled,
            orders.results,
            orders.runs,
            resume=resume,
            pictures=orders.pictures,
            progress=False,
            say=write,
        )
        seconds = time.perf_counter() - started
        write(f"wrote {outcome.path} after {seconds:.0f} s")
        return Ended(name, job, "finished", log, record=outcome.path, seconds=seconds)
    except UnderWay:
        raise
    except RecordExists:  # another sweep wrote it since the look before
        return Ended(name, job, "skipped", log, record=path)
    except KeyboardInterrupt as stopped:
        write(str(stopped))
        return Ended(name, job, "stopped", log, str(stopped))
    except BenchError as error:
        write(traceback.format_exc())
        if isinstance(error.__cause__, (MemoryError, torch.OutOfMemoryError)):
            raise  # a neighbour may have taken it: worth another try
        host = get_address_host(get_worker().address) if isinstance(error, DataError) else ""
        return Ended(name, job, "failed", log, str(error), at_fault=host)
    except Exception:
        write(traceback.format_exc())
        raise
    finally:
        _current = ""
        stop_asked.clear()  # which was of this run, and of none that this process may carry out later


@contextlib.contextmanager
def _logged(path: Path) -> Iterator[Say]:
    """Writes lines to a run's log, warnings among them; a full disk costs lines, and no run."""

    def write(text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError), open(path, "a", encoding="utf-8") as file:
            file.write(f"{now} {text}\n")

    def warned(message: Any, *_: Any, **__: Any) -> None:
        write(f"! {message}")

    with warnings.catch_warnings():
        warnings.showwarning = warned
        warnings.filterwarnings("always", module=r"pansharp_bench\b")
        yield write
