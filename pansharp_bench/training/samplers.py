"""Training data that lives on the device: sampled, flipped and cropped there, never copied in the step.

:class:`PairedData` serves registered samples; :class:`UnpairedData` serves PAN and MS images that are
unpaired by construction. A method gets the one its card declares, so it cannot see more than it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from pansharp_bench.errors import BenchError
from pansharp_bench.method import Pairing, Target
from pansharp_bench.scene import Scene, Sensor, Split
from pansharp_bench.training.team import ALONE, Team

Augment = Literal["none", "mirror", "flips", "dihedral"]
_SYMMETRIES = {"mirror": 2, "flips": 4, "dihedral": 8}
_SLICE = 128  # samples read at a time
_SELECTION = 64  # images of each domain that selection looks at, where no split is kept for it


class Resident:
    """One array of n images on the device: uint16 where that is lossless, else float32 (or float16 on request,
    where it reaches so far: a sensor of 16 bits goes beyond 65504).

    ``slices`` give the images one after another, (., C, H, W) float32 DN, so that never all of them are held as
    float32 where uint16 will do. ``index`` is (N,) on the device; ``take`` gives float32 DN.
    """

    def __init__(self, slices: Iterable[Tensor], n: int, device: torch.device, half: bool = False) -> None:
        images, at = torch.empty(0, dtype=torch.uint16), 0
        for part in slices:
            if not at:
                images = torch.empty((n, *part.shape[1:]), dtype=torch.uint16)
            if images.dtype == torch.uint16 and not torch.equal(part.clamp(0, 65535).round_(), part):
                exact = torch.empty(images.shape)
                exact[:at] = images[:at]
                images = exact
            images[at : at + len(part)] = part
            at += len(part)
        if half and images.dtype == torch.float32 and images.abs().max() <= torch.finfo(torch.float16).max:
            images = images.half()
        self.images = images.to(device)

    def __len__(self) -> int:
        return self.images.shape[0]

    def take(self, index: Tensor) -> Tensor:
        """Images of these indices, (n, C, H, W) float32 DN."""
        # uint16 has no indexing kernel on every device; int16 has the same bits
        if self.images.dtype == torch.uint16:
            return (self.images.view(torch.int16)[index].to(torch.int32) & 0xFFFF).float()
        return self.images[index].float()

    def all(self) -> Tensor:
        """Every image, (N, C, H, W) float32 DN."""
        return self.take(torch.arange(len(self), device=self.images.device))


def slices_of(
    split: Split, key: str, index: Tensor | None = None, progress: bool = False
) -> Iterator[Tensor]:
    """One array of a split, or of the samples of an ascending index, slice by slice, (., C, H, W) float32 DN."""
    starts = range(0, len(split), _SLICE)
    # a bar only where it takes its time
    for start in tqdm(starts, f"loading {split.name} {key}", disable=not progress, leave=False, delay=2):
        chunk = split.read(key, slice(start, start + _SLICE))
        yield chunk if index is None else chunk[index[(index >= start) & (index < start + _SLICE)] - start]


def load_resident(
    split: Split, keys: tuple[str, ...], device: torch.device, half: bool = False, progress: bool = False
) -> dict[str, Resident]:
    """These arrays of a whole split, on the device."""
    return {k: Resident(slices_of(split, k, progress=progress), len(split), device, half) for k in keys}


def _draw(n: int, high: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randint(high, (n,), generator=generator, device=device)


def augment_batch(
    arrays: dict[str, Tensor], kind: Augment, generator: torch.Generator, team: Team = ALONE, groups: int = 1
) -> dict[str, Tensor]:
    """The same random symmetry for all arrays of a batch; per sample, without a loop over samples.

    ``mirror``: left and right change places; ``flips``: so do top and bottom; ``dihedral``: those and 90-degree
    turns (nadir imagery has no up). The arrays are the ``team``'s share of ``groups`` batches. Raises BenchError
    for another kind.
    """
    if kind not in get_args(Augment):
        raise BenchError(f"unknown augment {kind!r}; known are: {', '.join(get_args(Augment))}")
    if kind == "none":
        return arrays
    first = next(iter(arrays.values()))
    n, device = first.shape[0], first.device
    code = _draw(n * team.size, _SYMMETRIES[kind], generator, device)
    code = team.share(code, groups)[:, None, None, None]
    horizontal, vertical, transpose = (code & 1).bool(), (code & 2).bool(), (code & 4).bool()
    out = {}
    for key, x in arrays.items():
        x = torch.where(horizontal, x.flip(-1), x)
        x = torch.where(vertical, x.flip(-2), x)
        if kind == "dihedral":
            x = torch.where(transpose, x.transpose(-1, -2), x)
        out[key] = x
    return out


@dataclass
class PairedData:
    """Registered training samples of a sensor. ``batch`` draws on the device; ``valid`` is for selection.

    Of a ``team``, each gets its share of a batch, of which n samples are the whole.
    """

    sensor: Sensor
    train: Split
    valid: Split
    device: torch.device
    half: bool = False
    team: Team = ALONE
    progress: bool = False

    def __post_init__(self) -> None:
        self._arrays = load_resident(self.train, self.train.keys, self.device, self.half, self.progress)

    def __len__(self) -> int:
        return len(self.train)

    def batch(self, n: int | Tensor, generator: torch.Generator, augment: Augment = "none") -> Scene:
        """Draw n samples with replacement, or take those of the indices n ((N,) on the device), with all that the
        split stores (pan, ms, lms and gt)."""
        index = n if isinstance(n, Tensor) else _draw(n, len(self), generator, self.device)
        arrays = self._take(self.team.share(index))
        return Scene(self.sensor, **augment_batch(arrays, augment, generator, self.team))

    def scenes(self, index: Tensor) -> Scene:
        """The samples of these indices ((N,) on the device), as they are, to every process."""
        return Scene(self.sensor, **self._take(index))

    def _take(self, index: Tensor) -> dict[str, Tensor]:
        return {key: array.take(index) for key, array in self._arrays.items()}

    def describe(self) -> dict[str, Any]:
        """What a record says of it."""
        return {"kind": "paired", "train_samples": len(self), "valid_samples": len(self.valid)}


@dataclass
class UnpairedData:
    """Images of two domains that are never seen together: PAN and MS, or source and target of a calibration.

    :meth:`halves` takes them out of registered samples, :meth:`between` from two splits that are unpaired from
    the start. The object holds the images and nothing else: no code that gets it can reach the MS of a PAN it
    saw. ``source`` and ``target`` (on the PAN grid too) are for training, ``valid_source`` and ``valid_target``,
    float32 DN, for selection; ``about`` says how they were chosen. ``source_latitude`` and ``target_latitude``:
    (N,) degrees, where all training images come from a map. Of a ``team``, each draws its share of a batch.
    """

    sensor: Sensor
    device: torch.device
    source: Resident
    target: Resident
    valid_source: Tensor
    valid_target: Tensor
    about: dict[str, Any]
    groups: _Groups | None = None
    source_latitude: Tensor | None = None
    target_latitude: Tensor | None = None
    team: Team = ALONE

    @classmethod
    def halves(
        cls,
        sensor: Sensor,
        train: Split,
        valid: Split,
        device: torch.device,
        seed: int = 0,
        pairing: Pairing = "disjoint",
        target: Target = "lms",
        half: bool = False,
        team: Team = ALONE,
        progress: bool = False,
    ) -> UnpairedData:
        """PAN of some registered samples and MS of others, by :func:`cut_in_halves`; ``half``: see Resident.

        Raises:
            BenchError: too few samples for disjoint halves.
        """
        pan, ms = cut_in_halves(len(train), seed, pairing)
        valid_source, valid_target = cut_in_halves(len(valid), seed, pairing)
        shared = len(set(pan.tolist()) & set(ms.tolist()))

        def gather(split: Split, key: str, index: Tensor, half: bool = half) -> Resident:
            return Resident(slices_of(split, key, index, progress), len(index), device, half)

        return cls(
            sensor,
            device,
            gather(train, "pan", pan),
            gather(train, target, ms),
            gather(valid, "pan", valid_source, half=False).all(),
            gather(valid, target, valid_target, half=False).all(),
            {"pairing": pairing, "target": target, "seed": seed, "shared_samples": shared},
            team=team,
        )

    @classmethod
    def between(
        cls,
        sensor: Sensor,
        source: Split,
        target: Split,
        device: torch.device,
        half: bool = False,
        team: Team = ALONE,
        pairing: Pairing = "disjoint",
        progress: bool = False,
    ) -> UnpairedData:
        """Two splits of the same image size, each with its images under ``pan``.

        Where both say which group a sample belongs to, a target is drawn from the group of its source, unless the
        ``pairing`` is independent. For selection serve up to 64 evenly spread images of each.

        Raises:
            BenchError: a group of sources has no targets.
        """
        groups = None
        if pairing != "independent" and source.groups is not None and target.groups is not None:
            groups = _Groups(source.groups, target.groups, device)
        pan, ms = (
            load_resident(split, ("pan",), device, half, progress)["pan"] for split in (source, target)
        )
        valid_source, valid_target = (
            x.take(torch.linspace(0, len(x) - 1, min(len(x), _SELECTION), device=device).round().long())
            for x in (pan, ms)
        )
        about = {"pairing": "same group" if groups else "independent", "target": target.name}
        latitudes = (None if s.latitude is None else s.latitude.to(device) for s in (source, target))
        of_source, of_target = latitudes
        return cls(
            sensor, device, pan, ms, valid_source, valid_target, about, groups, of_source, of_target, team
        )

    @property
    def patch_size(self) -> tuple[int, int]:
        """(H, W) of the training images, on the PAN grid."""
        h, w = self.source.images.shape[-2:]
        return h, w

    def draw(
        self, sources: int, targets: int, generator: torch.Generator, augment: Augment = "dihedral"
    ) -> tuple[Tensor, Tensor]:
        """Source images (sources, 1, H, W) and target images (targets, C, H, W) on the PAN grid, DN.

        Drawn and mirrored independently; where samples have groups, target k is of the group of source k. Of a team
        each draws its share; sources that are a multiple of the targets are so many batches, each shared out.
        """
        batches = max(1, sources // max(1, targets))

        def drawn(images: Resident, index: Tensor, batches: int) -> Tensor:
            own = images.take(self.team.share(index, batches))
            return augment_batch({"x": own}, augment, generator, self.team, batches)["x"]

        index = _draw(sources, len(self.source), generator, self.device)
        source = drawn(self.source, index, batches)
        if self.groups is None:
            index = _draw(targets, len(self.target), generator, self.device)
        else:
            index = self.groups.draw(index[:targets], generator)
        return source, drawn(self.target, index, 1)

    def all_source(self) -> Tensor:
        """Every source image: (N, 1, H, W) float32 DN. For statistics in closed form."""
        return self.source.all()

    def all_target(self) -> Tensor:
        """Every target image: (N, C, H, W) float32 DN. For statistics in closed form."""
        return self.target.all()

    def describe(self) -> dict[str, Any]:
        """What a record says of it."""
        return {
            "kind": "unpaired", **self.about, "source_samples": len(self.source), "target_samples": len(self.target)
        }  # fmt: skip


def cut_in_halves(n: int, seed: int, pairing: Pairing = "disjoint") -> tuple[Tensor, Tensor]:
    """Which of n registered samples give PAN and which MS, as ascending indices.

    ``disjoint``: two seeded halves, so that no scene gives both; ``independent``: all give both.

    Raises:
        BenchError: fewer than two samples cannot be disjoint.
    """
    if pairing == "independent":
        return torch.arange(n), torch.arange(n)
    if n < 2:
        raise BenchError(f"{n} sample(s) cannot be cut into disjoint halves; use pairing=independent")
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[: n // 2].sort().values, order[n // 2 :].sort().values


class _Groups:
    """Which targets are of the group of a source; draws on the device, without a loop."""

    def __init__(self, source: Tensor, target: Tensor, device: torch.device) -> None:
        kinds = int(torch.cat((source, target)).max()) + 1
        counts = torch.bincount(target, minlength=kinds)
        if lonely := sorted({g for g in source.tolist() if counts[g] == 0}):
            raise BenchError(
                f"{len(lonely)} group(s) of source images have no target images: {lonely}; pairing=independent "
                "draws from all"
            )
        self.group = source.to(device)
        self.members = target.argsort(stable=True).to(device)
        self.counts = counts.to(device)
        self.starts = (counts.cumsum(0) - counts).to(device)

    def draw(self, sources: Tensor, generator: torch.Generator) -> Tensor:
        """One target index for each of these source indices, (n,)."""
        group = self.group[sources]
        count = self.counts[group]
        chance = torch.rand(len(sources), generator=generator, device=sources.device)
        return self.members[self.starts[group] + (chance * count).long().clamp_max(count - 1)]
