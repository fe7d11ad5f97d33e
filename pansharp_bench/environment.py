"""The facts of a machine: what a run ran on, and with which versions of what."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import platform
import runpy
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pansharp_bench.errors import BenchError

if TYPE_CHECKING:
    import torch

PACKAGES = ("torch", "lightning-fabric", "numpy", "scipy", "h5py", "pansharp-bench")
"""Whose versions every record tells."""
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "64-true")


@cache
def no_cuda() -> bool:
    """Whether it is certain, without an import of torch, that torch finds no CUDA device: it was built for none, or
    the system has no driver."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    built = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    if built.get("hip"):  # ROCm has drivers of its own
        return False
    if not built.get("cuda"):
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return True
    return False


def choose_precision(device_type: str, precision: str = "auto") -> str:
    """``auto`` is bf16 autocast with fp32 weights on CUDA, fp32 on CPU; raises BenchError on unknown names."""
    if precision == "auto":
        return "bf16-mixed" if device_type == "cuda" else "32-true"
    if precision not in PRECISIONS:
        raise BenchError(f"unknown precision {precision!r}; known are: auto, {', '.join(PRECISIONS)}")
    return precision


def check_even(batch: int, size: int) -> None:
    """Raises BenchError where a batch cannot be shared out evenly: means over shares would not be its mean."""
    if batch % size:
        nearest = max(size, batch - batch % size)
        raise BenchError(
            f"a batch of {batch} cannot be shared out evenly over {size} devices: make it a multiple of {size}, "
            f"e.g. --set batch={nearest}"
        )


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """What the run ran on and with."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {p: _version(p) for p in PACKAGES},
        "git": git_state(Path(__file__).resolve().parent),
        "device": str(device),
        "device_name": device_name(device),
        "processor": processor(),
        "precision": precision,
        "threads": torch.get_num_threads(),
    }


def git_state(folder: Path) -> dict[str, Any]:
    """Commit of the checkout the package runs from, and whether its code differs from it; empty when
    installed elsewhere."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if not git("ls-files", Path(__file__).name):
            return {}  # installed below some other repository
        commit = git("rev-parse", "HEAD")
        # records are what runs add; they do not make the code another one
        changed = git("status", "--porcelain", "--", ":/", ":(top,exclude)results", ":(top,exclude)docs")
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return {"commit": commit, "dirty": bool(changed)} if commit else {}


def device_name(device: torch.device) -> str:
    """What the device calls itself, and how many threads where it is the CPU."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def processor() -> str:
    """What the processor calls itself, or its kind."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def peak_memory(device: torch.device) -> dict[str, int]:
    """Peak bytes so far: resident memory of the process, where the system tells it, and allocated memory of a CUDA
    device."""
    peak = {}
    with contextlib.suppress(ImportError):  # Windows
        import resource

        scale = 1 if sys.platform == "darwin" else 1024
        peak["process_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    if device.type == "cuda":
        import torch

        peak["device_bytes"] = torch.cuda.max_memory_allocated(device)
    return peak


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
