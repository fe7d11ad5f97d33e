"""Fused test images in files: ours for others, others' for our tables.

A folder holds a folder a split (``reduced``, ``full``), and that an image a scene, numbered as the scenes of the
dataset are (the last number in a file's name counts, from 0 or from 1): ``reduced/0.npy``, or
``full/output_mulExm_0.mat``. Values are DN as the method made them, axes C,H,W or H,W,C.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.errors import DataError
from pansharp_bench.files import atomically
from pansharp_bench.raster import SUFFIXES, Raster
from pansharp_bench.registry import MethodCard
from pansharp_bench.scene import SPLITS, Dataset, Scene, SplitName

FORMATS = (".npy", ".mat", *SUFFIXES)


def save_image(folder: Path, index: int, fused: Tensor) -> None:
    """Write the fused image (1, C, H, W) of a scene as ``folder/index.npy``: (C, H, W), in its own type."""
    with atomically(folder / f"{index}.npy") as part:
        np.save(part, fused[0].cpu().numpy())


def find_images(folder: Path, dataset: Dataset) -> dict[SplitName, list[Path]]:
    """The files of a folder by split, in the order of the dataset's scenes. Raises DataError where there are none,
    or not one a scene."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    splits = [s for s in SPLITS if (folder / s).is_dir() and s in dataset.available()]
    if not splits:
        raise DataError(
            f"{folder} holds no folder reduced or full: put the image of every scene there by its number, as "
            f"reduced/0.npy, reduced/1.npy, … ({', '.join(FORMATS)})"
        )
    return {s: _in_order(folder / s, len(dataset.split(s))) for s in splits}


def _in_order(folder: Path, wanted: int) -> list[Path]:
    numbered: dict[int, Path] = {}
    for path in sorted(
        p for p in folder.iterdir() if p.suffix.lower() in FORMATS and not p.name.startswith(".")
    ):
        digits = re.findall(r"\d+", path.stem)
        if not digits:
            raise DataError(f"{path} has no number that says which scene it is of")
        if int(digits[-1]) in numbered:
            raise DataError(f"{path} and {numbered[int(digits[-1])].name} have the same number")
        numbered[int(digits[-1])] = path
    first = 0 if 0 in numbered else 1
    missing = [i for i in range(first, first + wanted) if i not in numbered]
    if missing or len(numbered) != wanted:
        told = f"; number {missing[0]} is missing" if missing else ""
        raise DataError(f"{folder} holds {len(numbered)} images for {wanted} scenes{told}")
    return [numbered[i] for i in sorted(numbered)]


@dataclass
class StoredImages:
    """A method that gives images from files, one after the other."""

    card: MethodCard
    paths: Sequence[Path]
    _next: int = field(default=0, init=False)

    def fuse(self, scene: Scene) -> Tensor:
        """The next image, (1, C, H, W), as float32 or float64. Raises DataError where it does not fit the scene, or
        holds no DN."""
        path = self.paths[self._next]
        self._next += 1
        shape = (scene.sensor.channels, *scene.pan.shape[-2:])
        values = _read(path, shape, scene.sensor.bands)
        largest = np.abs(values).max(initial=0)
        if 0 < largest <= 2 < scene.sensor.peak:  # detail overshoots a little
            raise DataError(
                f"{path} holds values up to {largest:.3g}: it looks normalised; digital numbers up to "
                f"{scene.sensor.peak:g} are expected"
            )
        for image in (values, np.moveaxis(values, -1, 0)) if values.ndim == 3 else ():
            if image.shape == shape:
                kind = image.dtype if image.dtype in (np.float32, np.float64) else np.float32
                return torch.from_numpy(np.ascontiguousarray(image, kind))[None].to(scene.pan.device)
        raise _unlike(path, values.shape, shape)


def _unlike(path: Path, found: tuple[int, ...], shape: tuple[int, ...]) -> DataError:
    return DataError(f"{path} holds an array of shape {found}; expected {shape}, or with the bands last")


def _read(path: Path, shape: tuple[int, ...], bands: Sequence[str]) -> np.ndarray:
    if path.suffix.lower() in SUFFIXES:
        with Raster(path, "image") as file:
            height, width = file.grid.size
            if (len(file), height, width) != shape:  # before memory is asked for what a header declares
                raise _unlike(path, (len(file), height, width), shape)
            file.choose_named(bands)
            values, valid = file.read(slice(0, height), slice(0, width))
            if valid is not None and not valid.all():
                raise DataError(f"{path} has pixels without a value, and scores are of whole images")
            return values.numpy()
    try:
        arrays = _arrays(path)
    except Exception as error:  # scipy's own, and whatever a damaged file makes of NumPy's and h5py's readers
        raise DataError(f"{path} cannot be read: {error}") from error
    images = {k: v for k, v in arrays.items() if v.ndim == 3 and v.dtype.kind in "uif"}
    if len(images) != 1:
        told = ", ".join(f"{k} {v.shape}" for k, v in arrays.items())
        raise DataError(
            f"{path} holds {len(images)} arrays that may be an image, not one ({told or 'nothing'})"
        )
    return next(iter(images.values()))


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    if path.suffix.lower() == ".npy":
        with open(path, "rb") as file:  # np.load would take archives and pickles, too
            return {path.stem: np.lib.format.read_array(file, allow_pickle=False)}
    import h5py
    import scipy.io

    if h5py.is_hdf5(path):  # MATLAB 7.3: axes the other way round
        with h5py.File(path) as file:
            return {k: np.asarray(v).T for k, v in file.items() if isinstance(v, h5py.Dataset)}
    found = scipy.io.loadmat(str(path))
    return {k: v for k, v in found.items() if isinstance(v, np.ndarray) and not k.startswith("__")}
