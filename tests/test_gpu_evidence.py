"""The half hour on a GPU is not spent on a typo: the whole way is gone on the CPU, with tiny sets, in a minute."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pansharp_bench.files import cache_dir

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_evidence.sh"
PIECES = {"tests", "speed", "steps", "paired", "trainings", "jupiter"}


@pytest.mark.slow
def test_the_rehearsal_goes_the_whole_way_without_rasterio_or_an_install(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "rasterio.py").write_text("raise ImportError('not on that machine')")
    env = {
        **os.environ, "REHEARSE": "1", "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path / "site"),
        "PANSHARP_CACHE": str(cache_dir()), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    out = tmp_path / "out"

    def call() -> str:
        done = subprocess.run(["bash", SCRIPT, out], env=env, capture_output=True, text=True, check=False)
        logs = "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in out.glob("logs/*.log"))
        assert done.returncode == 0, done.stdout + done.stderr + logs
        return done.stdout

    call()
    assert {path.stem for path in out.glob("logs/*.done")} == PIECES
    with tarfile.open(out / "evidence.tar.gz") as packed:
        names = packed.getnames()
    records = [
        json.loads((out / n).read_text()) for n in names if n.startswith("results/") and n.endswith(".json")
    ]
    found = {(r["spec"]["method"], r["spec"]["dataset"], r["spec"]["options"].get("levels")) for r in records}
    assert {("sp-i2i", "qb-sim-tiny"), ("pnn", "qb-sim-tiny")} <= {f[:2] for f in found}
    assert {4, 2, 1} == {
        levels for method, name, levels in found if (method, name) == ("sp-i2i", "junocam2hst-sim-tiny")
    }
    for name in ("unpaired_step", "paired"):
        figures = json.loads((out / "bench" / f"{name}.json").read_text())
        assert not [
            x for x in figures.get("figures", figures.get("cases")) if x.get("error") or x.get("not_run")
        ]
    assert "==" not in call()  # what is done is not done again
