"""The facts of a machine: what a run ran on, and with which versions of what."""

from __future__ import annotations

import contextlib
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "lightning-fabric", "numpy", "scipy", "h5py", "pansharp-bench")
"""Whose versions every record tells."""


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """What the run ran on and with."""
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
        peak["device_bytes"] = torch.cuda.max_memory_allocated(device)
    return peak


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
