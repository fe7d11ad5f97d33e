"""The tiles of a scene on real worker processes: the bytes of one machine, also where a worker is killed."""

import json
import os
import signal

import pytest
import torch
from click.testing import CliRunner
from scenes import write_pair
from workers import LocalCluster

from pansharp_bench import cluster, tiles
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError
from pansharp_bench.method import build, resolve_config
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import as_sensor
from pansharp_bench.scenes import fuse_files
from pansharp_bench.tiles import fuse_pair
from pansharp_bench.weights import save_weights


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address=None) as workers,
        cluster.connect(workers) as client,
    ):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as Dask's workers have: sums depend on it in their last bits
        yield client
        torch.set_num_threads(threads)


def test_scenes_on_workers_have_the_bytes_of_one_machine(client, tmp_path, monkeypatch):
    monkeypatch.setitem(fuse_pair.__kwdefaults__, "whole", 1000)
    monkeypatch.setattr(tiles, "APPROXIMATE", tiles.SEAM)
    client.run(lambda: fuse_pair.__kwdefaults__.update(whole=1000))  # a function has no module there
    client.run(lambda: setattr(tiles, "APPROXIMATE", tiles.SEAM))
    entry = METHODS.get("lagnet")
    network = build(entry, as_sensor("qb"), resolve_config(entry, "quick"))
    weights = tmp_path / "lagnet.safetensors"
    save_weights(network.state_dict(), weights, json.dumps({"method": "lagnet", "sensor": "qb"}))
    files, alive = write_pair(tmp_path), dict(client.run(os.getpid))

    def kill_one(share):
        if len(alive) == 2 and share > 0.5:  # of four rounds over nine tiles
            os.kill(alive.popitem()[1], signal.SIGKILL)

    def bytes_of(method, **more):
        out = tmp_path / "fused.tif"
        done = fuse_files(*files, out, method, sensor="qb", tile=96, dtype="float32", **more)
        return out.read_bytes(), done.seam

    address = client.scheduler.address
    with pytest.warns(UserWarning, match="neighbouring tiles differ"):
        network = {"method": "lagnet", "weights": weights, "approximate": True}
        assert bytes_of(**network, scheduler=address) == bytes_of(**network)
    assert bytes_of("gsa", scheduler=address, progress=kill_one) == bytes_of("gsa")
    assert len(alive) == 1


def test_a_mistake_is_one_message(client, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_CONNECT", 0.5)
    pan, ms = write_pair(tmp_path)
    words = ["fuse", "--method", "exp", "--sensor", "qb", "--pan", str(pan), "--ms", str(ms), "-o"]
    words += [str(tmp_path / "fused.tif"), "--scheduler"]
    for more, told in (
        (["tcp://127.0.0.1:1"], "no Dask scheduler answers at tcp://127.0.0.1:1"),
        ([client.scheduler.address, "--threads", "2"], "--threads are of this machine"),
    ):
        done = CliRunner().invoke(main, [*words, *more])
        assert done.exit_code == 2 and done.output.count("rror: ") == 1 and told in done.output, done.output
    monkeypatch.setattr("pansharp_bench.__version__", "0.0")
    with pytest.raises(
        BenchError, match=r"a worker on .* would make other tiles: pansharp-bench is .*, not 0\.0"
    ):
        fuse_files(pan, ms, tmp_path / "fused.tif", "exp", sensor="qb", scheduler=client.scheduler.address)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ms.tif", "pan.tif"]
