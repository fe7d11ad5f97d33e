"""Weights on disk: saved, and read without running any code that a file may carry."""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pansharp_bench.errors import BenchError
from pansharp_bench.files import atomically, looks_like

PREFIXES = ("module.", "model.", "net.")
"""What wrappers (data-parallel, averaged, Lightning) put before every key."""
_COMPILED = "_orig_mod."  # torch.compile puts it into the keys of whatever was compiled
_AVERAGED = "n_averaged"  # torch.optim.swa_utils.AveragedModel keeps it beside module.…
_REBUILDERS = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(1).__reduce__()[0]}
_HARMLESS: list[Any] = [
    argparse.Namespace, np.ndarray, np.dtype,
    *(type(np.dtype(code)) for code in "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]),
    *((f, f"numpy.{core}.multiarray.{name}") for name, f in _REBUILDERS.items() for core in ("core", "_core")),
]  # fmt: skip
"""What training code often keeps beside weights and what runs no code: options, and scores that NumPy computed."""


def located(path: str | Path) -> tuple[Path, str]:
    """``FILE:NAME`` as a weights file and the name of a state dict in it, ``""`` where none is given."""
    file, colon, name = str(path).rpartition(":")
    if not colon or len(file) < 2 or {"/", "\\"} & set(name) or Path(path).exists():
        return Path(path), ""
    return Path(file), name


def read_weights(
    path: str | Path, misfits: Callable[[dict[str, Tensor]], int] = lambda state: 0
) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors`` file or a PyTorch checkpoint, on the CPU.

    It may lie among other things (epoch, optimiser), at any depth, and under :data:`PREFIXES`, of which those are
    dropped that keep it from fitting. Where a file holds several, that one is taken which alone fits, or the one
    that ``FILE:NAME`` asks for.

    Args:
        path: the file, or ``FILE:NAME``, e.g. ``"net.pth:params_ema"``.
        misfits: how many keys of a state dict do not fit, 0 where it is what is wanted.

    Raises:
        BenchError: the file cannot be read, is no such file, holds pickled objects that could run code, no state
            dict, or several of which it is not clear which is meant.
    """
    path, name = located(path)
    found = dict(_state_dicts(_load(path)))
    if not found:
        raise BenchError(f"weights {path} hold no state dict (a mapping of names to tensors)")
    if name:
        found = {name: _named(found, name, path)}
    best = {key: min(_forms(state), key=misfits) for key, state in found.items()}
    fitting = [key for key, state in best.items() if not misfits(state)]
    chosen = fitting if fitting else list(best)
    if len(chosen) > 1:
        fit = "several fit" if fitting else "none fits"
        raise BenchError(
            f"weights {path} hold {_listed(found)}, of which {fit}: say which is meant, as in {path}:{chosen[-1]}"
        )
    return best[chosen[0]]


def _load(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BenchError(f"cannot read weights {path}: {error.strerror or error}") from error
    except (
        pickle.UnpicklingError,
        SafetensorError,
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        with open(path, "rb") as file:
            saved_by_torch = file.read(2) in (b"PK", b"\x80\x02")
        if not saved_by_torch:
            raise BenchError(
                f"weights {path}: found {looks_like(path)}; expected a whole PyTorch or .safetensors file"
            ) from error
        if isinstance(error, pickle.UnpicklingError):
            raise BenchError(
                f"weights {path} hold Python objects besides tensors, which could run code; save the plain state "
                "dict (torch.save(model.state_dict(), ...)) or use .safetensors"
            ) from error
        raise BenchError(
            f"weights {path} are damaged, or an archive of something else than tensors by name (TorchScript, .npz)"
        ) from error


def _state_dicts(found: Any, name: str = "") -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping of names to tensors in a checkpoint, with its place in it. Those of numbers alone, and those
    with other keys than names, belong to optimisers and callbacks."""
    if not isinstance(found, Mapping) or not all(isinstance(k, str) for k in found):
        return
    if found and all(isinstance(v, Tensor) for v in found.values()):
        if any(v.ndim for v in found.values()):
            yield name, dict(found)
        return
    for key, value in found.items():
        yield from _state_dicts(value, f"{name}.{key}" if name else key)


def _named(found: dict[str, dict[str, Tensor]], name: str, path: Path) -> dict[str, Tensor]:
    """The state dict of that name, or those keys of one that begin with the rest of the name."""
    if name in found:
        return found[name]
    for place, state in found.items():
        within = name.removeprefix(f"{place}.") if place else name
        if part := {k.removeprefix(f"{within}."): v for k, v in state.items() if k.startswith(f"{within}.")}:
            return part
    raise BenchError(f"weights {path} hold no state dict {name!r}; there are: {_listed(found)}")


def _listed(found: dict[str, dict[str, Tensor]]) -> str:
    return ", ".join(f"{key or 'one without a name'} ({len(state)} tensors)" for key, state in found.items())


def _forms(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """A state dict as it is, as it was before it was compiled or averaged, and without prefixes of all its keys."""
    yield state
    state = {k.replace(_COMPILED, ""): v for k, v in state.items() if k != _AVERAGED}
    yield state
    while state and (prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in state)), "")):
        state = {k.removeprefix(prefix): v for k, v in state.items()}
        yield state


def save_weights(state: Mapping[str, Tensor], path: Path, spec: str) -> str:
    """Write a state dict as ``.safetensors``; ``spec``, JSON, is what :func:`described` reads back.

    Returns:
        The file's SHA-256.

    Raises:
        BenchError: the file cannot be written.
    """
    own = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    # one entry only: the order of several is not fixed, and equal weights must be equal files
    content = save(own, {"spec": spec})
    with atomically(path) as part:
        part.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def described(path: str | Path) -> dict[str, Any]:
    """What a weights file saved by a run says of itself: the run's specification, and under ``train_files``
    the SHA-256 of what it was trained on. Empty for any other file."""
    path, _ = located(path)
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get("spec", "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}


def misfits(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Keys of a state dict that do not fit a module, by what is wrong with them; empty where all fit."""
    wanted = module.state_dict()
    found = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys()),
        "of another shape": list(_other_shapes(wanted, state)),
    }
    return {what: names for what, names in found.items() if names}


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict that must fit the module in every key and shape; raises BenchError saying what does
    not. ``source`` names the weights in the message."""
    faults = [
        f"{len(names)} {what}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
        for what, names in misfits(module, state).items()
    ]
    if faults:
        raise BenchError(f"{source} do not fit this method, sensor and options; keys {'; '.join(faults)}")
    module.load_state_dict(state)


def _other_shapes(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterable[str]:
    for key in sorted(wanted.keys() & state.keys()):
        if wanted[key].shape != state[key].shape:
            yield f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
