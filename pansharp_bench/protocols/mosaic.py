"""A calibration laid out on the map its scenes were cut from, with a second stage's bands where one is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from pansharp_bench.errors import BenchError
from pansharp_bench.method import Method, TrainedMethod, build, resolve_config
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Dataset, Scene, Sensor, as_sensor
from pansharp_bench.weights import described


@dataclass(frozen=True)
class SecondStage:
    """A trained method of the track ``bands``, for images of another sensor."""

    method: TrainedMethod
    source: list[int]

    @property
    def bands(self) -> tuple[str, ...]:
        """Of what it adds."""
        return self.method.sensor.bands

    def extend(self, images: Tensor) -> Tensor:
        """(n, C + further, H, W) of images (n, C, H, W): as they are, and the further bands."""
        further = self.method.fuse(Scene(self.method.sensor, pan=images[:, self.source]))
        return torch.cat([images, further.float()], 1)


def second_stage(weights: Path, sensor: Sensor, device: torch.device) -> SecondStage:
    """The second stage that a run of the track ``bands`` saved, for images of this sensor.

    Raises BenchError for weights that do not say they are a second stage's, or of bands the sensor lacks.
    """
    if not weights.exists():
        raise BenchError(f"--second-stage {weights} does not exist")
    told = described(weights)
    if told.get("track") != "bands":
        raise BenchError(
            f"--second-stage {weights} was not saved by a run of track 'bands'; `bench list` shows its datasets "
            "and methods"
        )
    entry, own = METHODS.get(told["method"]), as_sensor(told["sensor"])
    if missing := [b for b in own.source if b not in sensor.bands]:
        raise BenchError(f"--second-stage {weights} needs bands {', '.join(missing)}, which the outputs lack")
    method = build(entry, own, resolve_config(entry, told["preset"], told["options"]))
    assert isinstance(method, TrainedMethod)
    method.load_weights(weights)
    return SecondStage(method.to(device).eval(), [sensor.bands.index(b) for b in own.source])


def mosaic(
    method: Method,
    dataset: Dataset,
    out: Path,
    device: torch.device,
    *,
    further: SecondStage | None = None,
    draws: int = 1,
    progress: bool = True,
) -> list[Path]:
    """The dataset's test images and a method's outputs on the map they were cut from, under ``out``.

    ``further``: whose bands the outputs get beside their own. ``draws``: of a method that draws noise, how many
    samples of every output, whose mean and deviation are laid out. Raises BenchError where the dataset's images do
    not come from a map, or a method has no noise to draw.
    """
    drawn = _drawn(method, draws)
    split, bands = dataset.split("test"), dataset.sensor.bands

    def outputs() -> Iterator[Tensor]:
        with torch.inference_mode():
            for index in tqdm(range(len(split)), desc="test scenes", disable=not progress):
                scene = split[index].to(device)
                samples = []
                for seed in drawn:
                    if seed is not None:
                        method.config = replace(method.config, inference_seed=seed)  # type: ignore[attr-defined]
                    fused = method.fuse(scene.seen_by(method.card, seed=index)).float()
                    samples.append((further.extend(fused) if further else fused).cpu())
                yield torch.stack(samples, 1) if draws > 1 else samples[0]

    sources = (split.read("pan", i) for i in range(len(split)))
    before = dataset.mosaic(split, sources, out / f"{dataset.name}-source", bands)
    name = f"{dataset.name}-{method.card.name}"
    after = dataset.mosaic(split, outputs(), out / name, (*bands, *(further.bands if further else ())))
    return [*before, *after]


def _drawn(method: Method, draws: int) -> list[int | None]:
    """The seed of the noise of every sample; None leaves the method's own."""
    if draws == 1:
        return [None]
    seed = getattr(getattr(method, "config", None), "inference_seed", None)
    if seed is None:
        raise BenchError(f"method {method.card.name!r} draws no noise at inference: leave out --draws")
    return [*range(seed, seed + draws)]
