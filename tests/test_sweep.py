"""Sweeps on real worker processes that are killed, starved, stopped and cut off: every run ends, and runs once."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from workers import LocalCluster, Scheduler, SpecCluster, Status, Worker, get_address_host, get_worker

from pansharp_bench import sweep as sweeps
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError, DataError
from pansharp_bench.plan import RunSpec
from pansharp_bench.registry import load_plugin
from pansharp_bench.sweep import Job, SweepStopped, sweep
from pansharp_bench.training import stop_asked

PLUGINS = [Path(__file__).parent / "plugins" / name for name in ("tiny.py", "trials.py")]
for plugin in PLUGINS:
    load_plugin(plugin)


def job(method="sleeper", seed=0, **options):
    return Job(RunSpec(method, "tiny", seed=seed, device="cpu", options=options))


@pytest.fixture
def go(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def go(*jobs, **more):
        local = {"workers": 1} if "scheduler" not in more else {}
        return sweep(jobs, tmp_path / "results", tmp_path / "runs", plugins=PLUGINS, **local, **more)

    return go


def losses(folder):
    """Of the only sleeper there: its steps in the order they were logged."""
    (log,) = folder.glob("runs/*/tiny/sleeper/*/losses.jsonl")
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


def wait_for(condition, seconds=300):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


def bench(folder, *words):
    flags = [word for path in PLUGINS for word in ("--plugin", str(path))]
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pansharp_bench",
            "sweep",
            *flags,
            "--dataset",
            "tiny",
            "--workers",
            "1",
            *words,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,  # a console of its own, where Ctrl-C reaches the workers too
    )


def test_a_killed_worker_loses_its_own_run_alone_which_is_resumed(go, tmp_path):
    other, killed = go(job("half"), job(die_at=25))
    assert (other.state, killed.state) == ("finished", "finished")
    assert losses(tmp_path) == list(range(1, 41))
    told = killed.log.read_text()
    assert "begins the run" in told and "goes on with the run" in told
    assert other.log.read_text().count("begins the run") == 1
    again, _ = go(job("half"), job(die_at=25))
    assert again.state == "skipped" and again.record == other.record


def test_what_fails_says_why_and_where_and_keeps_nobody(go):
    exploding = job("gain", explode_at=6)
    ended = go(job("hungry"), exploding, job("half"), memory="2 GB", retries=0)
    assert [one.state for one in ended] == ["failed", "failed", "finished"]
    hungry, exploded, _ = ended
    assert "out of memory" in hungry.reason and "--memory" in hungry.reason and hungry.log.exists()
    assert "training diverged" in exploded.reason and "Traceback" in exploded.log.read_text()


def test_two_sweeps_on_one_folder_share_the_work(tmp_path):
    words = ("--method", "sleeper", "--seeds", "0,1", "--set", "steps=60")
    both = [bench(tmp_path, *words) for _ in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    logs = "".join(path.read_text() for path in (tmp_path / "runs" / "logs").iterdir())
    assert logs.count("wrote ") == 2 == len(list(tmp_path.glob("results/*/*/*/*.json")))


def test_ctrl_c_saves_what_runs_and_the_same_command_goes_on(tmp_path):
    words = ("--method", "sleeper", "--set", "steps=150")
    process = bench(tmp_path, *words)
    wait_for(lambda: list(tmp_path.glob("runs/*/tiny/sleeper/*/checkpoint.pt")))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130 and "the same command goes on" in err, out + err
    (log,) = (tmp_path / "runs" / "logs").iterdir()
    reached = losses(tmp_path)[-1]
    assert f"stopped after step {reached} of 150" in log.read_text()
    go_on = bench(tmp_path, *words)
    out, err = go_on.communicate(timeout=240)
    assert go_on.returncode == 0 and "1 finished" in out, out + err
    assert losses(tmp_path) == list(range(1, 151))


def test_a_scheduler_that_is_gone_is_waited_for(go, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, processes = f"tcp://127.0.0.1:{port}", []

    def start():
        serve = ("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        work = ("worker", address, "--nthreads", "1", "--nworkers", "1", "--no-dashboard")
        for words in (serve, work):
            command = [sys.executable, "-m", "dask", *words]
            processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path))

    def restart():
        wait_for(lambda: list(tmp_path.glob("runs/*/tiny/sleeper/*/checkpoint.pt")))
        processes[0].kill()
        processes[0].wait()
        start()

    start()
    said = []
    try:
        wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        thread = threading.Thread(target=restart)
        thread.start()
        spec = job(steps=100).spec
        (ended,) = go(Job(RunSpec(**{**vars(spec), "preset": "quick"})), scheduler=address, say=said.append)
        thread.join()
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    assert any("is gone; waiting for it" in line for line in said)
    assert ended.state in ("finished", "skipped")
    assert losses(tmp_path) == list(range(1, 101))
    assert "goes on with the run" in ended.log.read_text()


def test_mistakes_show_before_anything_starts(go, monkeypatch):
    monkeypatch.setattr("pansharp_bench.cluster._CONNECT", 0.5)
    for mistaken, words in (
        (Job(RunSpec("half", "tiny"), {"GPU": 100}), "takes GPU 100, and a worker here offers memory"),
        (job("gain", height=3), "height"),
        (job("gian"), "did you mean gain"),
    ):
        with pytest.raises(BenchError, match=words):
            go(job("half"), mistaken)
    with pytest.raises(BenchError, match="those of a --scheduler have their own"):
        go(job("half"), scheduler="tcp://127.0.0.1:1", memory="1 GB")
    with pytest.raises(BenchError, match="name a --preset"):
        go(job("gain"), scheduler="tcp://127.0.0.1:1")
    with pytest.raises(BenchError, match="no Dask scheduler answers at tcp:"):
        go(job("half"), scheduler="tcp://127.0.0.1:1")


def test_a_run_is_one_machine_s(go, monkeypatch):
    with pytest.raises(BenchError, match="leave nodes at 1"):
        go(Job(RunSpec("gain", "tiny", nodes=2)))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(BenchError, match="torchrun"):
        go(job("half"))


@pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf"), True, "much", [1]])
def test_an_amount_that_is_none_is_refused(amount):
    with pytest.raises(BenchError, match="is no amount"):
        Job(RunSpec("half", "tiny"), {"GPU": amount})


def test_workers_take_the_gpus_that_are_given(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert sweeps._gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert sweeps._gpus() == ["3", "5"]


def test_ctrl_c_while_a_scheduler_is_looked_for_is_summed_up(go, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps, "connect", interrupted)
    with pytest.raises(SweepStopped, match="0 of 1 runs"):
        go(job("half"), scheduler="tcp://127.0.0.1:1")


def test_a_worker_that_closes_stops_its_training_and_another_sweep_does_not(monkeypatch):
    memory = SimpleNamespace(memory_pause_fraction=0.8)
    worker, guest = SimpleNamespace(status=Status.running, memory_manager=memory), sweeps._Guest(local=False)
    guest.setup(worker)
    assert memory.memory_pause_fraction == 1.0  # else a run that leaves 0.8 behind is a worker's last
    with monkeypatch.context() as under_way:
        under_way.setattr(sweeps, "_current", "a sweep")
        guest.teardown(worker)
        assert not stop_asked.is_set()
        worker.status = Status.closing
        guest.teardown(worker)
        assert stop_asked.is_set()
    stop_asked.clear()
    guest.teardown(worker)
    assert not stop_asked.is_set()  # a training elsewhere in this process is none of a worker's


@pytest.fixture
def near():
    """A cluster within this process."""
    with LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        yield cluster


def told_at_once():
    sweeps._tell("began", key="x")
    own = get_worker().scheduler.addr
    (scheduler,) = (s for s in Scheduler._instances if s.address == own)
    return [what["key"] for _, what in scheduler.get_events("began")]


def test_what_a_run_tells_is_known_before_it_goes_on(near):
    """Or deaths of one that dies at once would never count."""
    with near.get_client() as client:
        assert client.submit(told_at_once).result() == ["x"]


def test_a_worker_of_other_code_is_refused(go, near, tmp_path, monkeypatch):
    own = tmp_path / "own.py"
    own.write_text("import pansharp_bench as pb\npb.register_sensor\n")
    with pytest.warns(UserWarning, match="registers nothing"):
        load_plugin(own)
    monkeypatch.setattr(sys.modules[__name__], "PLUGINS", [*PLUGINS, own])
    own.write_text("import pansharp_bench as pb\n")
    with pytest.raises(BenchError, match=rf"the worker at .* has another version of the plug-in {own}"):
        go(job("half"), scheduler=near.scheduler_address)


def test_a_host_that_lacks_the_data_fails_no_run(go, monkeypatch):
    """Unless there is no other; fast as failing is, it would fail one after another."""
    workers = {
        i: {"cls": Worker, "options": {"host": f"127.0.0.{i}", "nthreads": 1, "dashboard": False}}
        for i in (1, 2)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False}}
    blind, asked, said = Counter({"127.0.0.2": 99}), [], []

    def planned(spec):
        asked.append(host := get_address_host(get_worker().address))
        if blind[host]:
            blind[host] -= 1
            raise DataError("no files")
        return SimpleNamespace(path=lambda folder: folder / "there.json", folder=lambda folder: None)

    monkeypatch.setattr(sweeps, "_TICK", 0.05)
    monkeypatch.setattr(sweeps, "plan", planned)
    monkeypatch.setattr(sweeps, "present", lambda path: True)
    jobs = [Job(RunSpec("gain", "tiny", "quick", seed=seed)) for seed in range(6)]
    with SpecCluster(workers, scheduler, silence_logs=logging.ERROR) as cluster:
        more = {"scheduler": cluster.scheduler_address, "say": said.append}
        assert {one.state for one in go(*jobs, **more)} == {"skipped"}
        assert set(asked) == {"127.0.0.1", "127.0.0.2"} and asked.count("127.0.0.1") == 6
        assert [line for line in said if line.startswith("!")] == [
            "! 127.0.0.2 cannot serve gain on tiny, whose runs go to others: no files"
        ]
        blind["127.0.0.1"] = 99
        assert {(one.state, one.reason) for one in go(*jobs, **more)} == {("failed", "no files")}

        def close(line):  # the host that a run is to wait for
            if line.startswith("! 127.0.0.2"):
                cluster.sync(cluster.workers[1].close)

        blind.update({"127.0.0.1": -blind["127.0.0.1"], "127.0.0.2": 1 - blind["127.0.0.2"]})
        assert {one.state for one in go(*jobs, **more | {"say": close})} == {"skipped"}
        assert cluster.workers[1].status is Status.closed


FILE = """
datasets = ["tiny"]
seeds = [0, 1]

[[runs]]
methods = ["gain"]
options = {steps = [5, 7], lr = 0.1}

[[runs]]
methods = ["half", "exp"]
"""


def test_a_file_crosses_what_it_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sweep.toml").write_text(FILE)
    words = ["sweep", "sweep.toml", "--plugin", str(PLUGINS[0]), "--dry-run", "--preset", "quick"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    gains = [line for line in done.output.splitlines() if "gain" in line]
    assert len(gains) == 4 and sum("steps=7" in line and "lr=0.1" in line for line in gains) == 2
    assert "missing  half · tiny" in done.output and "missing  exp · tiny" in done.output


def test_flags_go_before_a_file_and_blocks_before_what_stands_above(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sweep.toml").write_text('preset = "paper"\noptions = {select = false, lr = 0.3}\n' + FILE)
    flags = ["--seeds", "7", "--set", "lr=0.2", "--preset", "quick"]
    words = ["sweep", "sweep.toml", "--plugin", str(PLUGINS[0]), "--dry-run", *flags]
    done = CliRunner().invoke(main, words)
    gains = [line.partition(":")[0] for line in done.output.splitlines() if "gain" in line]
    assert gains == [
        f"missing  gain · tiny · quick · lr=0.2 · select=False · steps={steps} · seed 7" for steps in (5, 7)
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method = ['gain']", "unknown key 'method'"),
        ("methods = 'gain'", "methods = 'gain' is not a list"),
        ("methods = ['gain']", "no datasets to run"),
        ("methods = [", "is not TOML"),
        ("methods = [['gain']]", "is not a list of names"),
        ("seeds = [0.5]", "is not a list of whole numbers"),
        ("seeds = [true]\nmethods = ['exp']\ndatasets = ['qb']", "seed True is no whole number"),
        ("[runs]\nmethods = ['gain']", "write [[runs]] above each"),
        ("runs = []", "write [[runs]] above each"),
        ("options = {steps = []}", "option steps has no value"),
        ("methods = ['exp']\ndatasets = ['qb']\noptions = {steps = 1}", "there is nothing to --set"),
        ("methods = ['exp']\ndatasets = ['qb']\nresources = {GPU = nan}", "nan is no amount"),
    ],
)
def test_a_file_that_says_nothing_of_use_is_refused(tmp_path, text, words):
    (tmp_path / "sweep.toml").write_text(text)
    done = CliRunner().invoke(main, ["sweep", str(tmp_path / "sweep.toml")])
    assert done.exit_code == 2 and words in done.output
