"""Simulated files are the same on every processor: their SHA-256 is committed and does not hang on vector units.

Libraries choose among routines by what the processor has. Forbidding them its vector units shows what another
processor would make.
"""

import os
import subprocess
import sys

import pytest
import torch
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
}
WITH_AVX2 = {
    "NPY_DISABLE_CPU_FEATURES": " ".join(f for f in __cpu_dispatch__ if "512" in f or f == "X86_V4"),
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Zen",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
# one scene of each form: cut and degraded, and at full resolution
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


@pytest.mark.parametrize(("dataset", "size"), sorted({key[:2] for key in _known.known()}))
def test_simulated_files_are_the_same_as_everywhere(dataset, size):
    files = DATASETS.get(dataset).obj(root=None, label=None, size=size).files()
    assert {f.path.name: f.sha256 for f in files} == {
        name: sha256 for (d, s, name), sha256 in _known.known().items() if (d, s) == (dataset, size)
    }
    assert all(f.verified for f in files)


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("script", [QUICKBIRD])
def test_simulated_files_do_not_depend_on_vector_units(script, threads, tmp_path):
    limits = WITHOUT_VECTORS if threads == "2" else WITH_AVX2
    env = {**os.environ, **limits, "OMP_NUM_THREADS": threads, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=env, capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines
    for dataset, name, sha256 in lines:
        assert sha256 == _known.known()[dataset, "tiny", name]


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
