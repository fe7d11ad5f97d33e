"""Simulated files are the same on every processor: their SHA-256 is committed and does not hang on vector units.

Libraries choose among routines by what the processor has. Forbidding them its vector units shows what another
processor would make.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from jupiter import save_png
from numpy._core._multiarray_umath import __cpu_dispatch__

from pansharp_bench.datasets import _known
from pansharp_bench.datasets.simulated.generate import quantised
from pansharp_bench.registry import DATASETS

WITHOUT_VECTORS = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__),
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F,-AVX512VL",
    "OMP_NUM_THREADS": "2",
}
WITH_AVX2 = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(f for f in __cpu_dispatch__ if "512" in f or f == "X86_V4"),
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Zen",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OMP_NUM_THREADS": "1",
}
# of the simulated sensors one scene of each form: cut and degraded, and at full resolution
QUICKBIRD = """
import hashlib, pathlib, sys
from pansharp_bench.datasets.simulated.generate import SIZES, file_name, make
from pansharp_bench.scene import as_sensor
folder, splits = pathlib.Path(sys.argv[1]), ("valid", "full")
make(as_sensor("qb"), 0, SIZES["tiny"], folder / "made", splits)
for split in splits:
    path = folder / "made" / file_name(as_sensor("qb"), split)
    print("qb-sim", path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""
JUPITER = """
import hashlib, pathlib, sys
from pansharp_bench.datasets.junocam2hst.simulated import make
path = pathlib.Path(sys.argv[1]) / "junocam2hst.h5"
make(path, 0, "tiny", extra=True)
print("junocam2hst-uvm-sim", path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""
BUILD = """
import hashlib, pathlib, sys
from pansharp_bench.datasets.junocam2hst.build import build
maps, out = map(pathlib.Path, sys.argv[1:])
made = build(out / "junocam2hst.h5", [maps / "juno"], [maps / "opal"], train=(16,), test=(18,), segment_pixels=24,
             nside_junocam=16, hst_resolution=1.1, zones=("EZ", "NPR"), progress=False)
print(hashlib.sha256(made.read_bytes()).hexdigest())
"""


@pytest.mark.parametrize(("dataset", "size"), sorted({key[:2] for key in _known.known()}))
def test_simulated_files_are_the_same_as_everywhere(dataset, size):
    simulated = DATASETS.get(dataset).obj(root=None, label=None, size=size)
    if size != "tiny" and simulated.summary()["where"] == "made on first use":
        pytest.skip("takes minutes to make; looked at where it is in the cache")
    files = simulated.files()
    assert {f.path.name: f.sha256 for f in files} == {
        name: sha256 for (d, s, name), sha256 in _known.known().items() if (d, s) == (dataset, size)
    }
    assert all(f.verified for f in files)


def run_limited(script: str, limits: dict[str, str], *arguments: object) -> list[list[str]]:
    """The words of every line that a script prints where the processor's vector units are limited."""
    env = {**os.environ, **limits, "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("limits", [WITHOUT_VECTORS, WITH_AVX2], ids=["scalar", "avx2"])
@pytest.mark.parametrize("script", [QUICKBIRD, JUPITER], ids=["qb-sim", "junocam2hst-uvm-sim"])
def test_simulated_files_do_not_depend_on_vector_units(script, limits, tmp_path):
    lines = run_limited(script, limits, tmp_path)
    assert lines
    for dataset, name, sha256 in lines:
        assert sha256 == _known.known()[dataset, "tiny", name]


def test_built_segments_do_not_depend_on_vector_units(tmp_path):
    """Maps of noise with a blank part, one blurred, one degraded."""
    rng = np.random.default_rng(0)
    for name in ("juno/PJ16", "juno/PJ18", "opal/opal_2019a"):
        pixels = rng.random((3, 180, 360))
        pixels[:, 20:90, 200:300] = 0
        save_png(tmp_path / f"{name}.png", pixels)
    made = []
    for i, limits in enumerate(({}, WITHOUT_VECTORS, WITH_AVX2)):
        (tmp_path / str(i)).mkdir()
        made += run_limited(BUILD, limits, tmp_path, tmp_path / str(i))
    assert made[0] and made == made[:1] * 3


def test_quantised_values_do_not_hang_on_last_bits():
    """Values exactly between two steps, such as PAN's bicubic means, a little off either way."""
    step = 1 / 64
    ties = (torch.arange(0, 2**17, dtype=torch.float64) + 0.5) * step
    assert ties.max() > 2047
    exact = quantised(ties)
    assert torch.equal(exact, exact.float().double()) and (exact - ties).abs().max() == step / 2
    for off in (-4e-12, 4e-12):
        assert torch.equal(quantised(ties + off), exact)
    x = torch.linspace(0, 2047, 10001, dtype=torch.float64)
    assert (quantised(x) - x).abs().max() <= step / 2
    assert torch.equal(quantised(quantised(x)), quantised(x))
