"""Weights on disk: saved, and read without running any code that a file may carry."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pansharp_bench.errors import BenchError
from pansharp_bench.files import atomically


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or a PyTorch checkpoint, on the CPU.

    A checkpoint that holds the state dict among other things (epoch, optimiser) is looked through, and the
    ``module.`` prefix of data-parallel training is dropped.

    Raises:
        BenchError: the file cannot be read, holds pickled objects other than tensors, or no state dict.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BenchError(f"cannot read weights {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise BenchError(
            f"weights {path} hold Python objects besides tensors, which could run code, or are no PyTorch file; "
            "save the plain state dict (torch.save(model.state_dict(), ...)) or use .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise BenchError(f"weights {path} are damaged or of another format: {error}") from error
    state = _state_dict(found)
    if state is None:
        raise BenchError(f"weights {path} hold no state dict (a mapping of names to tensors)")
    return {k.removeprefix("module."): v for k, v in state.items()}


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
    if Path(path).suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {}).get("spec", "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}


def _state_dict(found: Any) -> Mapping[str, Tensor] | None:
    if not isinstance(found, Mapping):
        return None
    if found and all(isinstance(v, Tensor) for v in found.values()):
        return found
    inside = {k: s for k, v in found.items() if (s := _state_dict(v)) is not None}
    usual = [k for k in ("state_dict", "model", "net", "params") if k in inside]
    if usual or len(inside) == 1:
        return inside[(usual or list(inside))[0]]
    return None


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict that must fit the module in every key and shape; raises BenchError saying what does
    not. ``source`` names the weights in the message."""
    wanted = module.state_dict()
    faults = [
        f"{len(names)} {what}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
        for what, names in (
            ("missing", sorted(wanted.keys() - state.keys())),
            ("unexpected", sorted(state.keys() - wanted.keys())),
            ("of another shape", list(_other_shapes(wanted, state))),
        )
        if names
    ]
    if faults:
        raise BenchError(f"{source} do not fit this method, sensor and options; keys {'; '.join(faults)}")
    module.load_state_dict(state)


def _other_shapes(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterable[str]:
    for key in sorted(wanted.keys() & state.keys()):
        if wanted[key].shape != state[key].shape:
            yield f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
