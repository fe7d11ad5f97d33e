"""Draws simulated.png and junocam2hst-sim.png: ``python docs/figures/simulated.py``, anew after every change of the
simulators' versions. A minute or two; longer where the default sets are not in the cache."""

from pathlib import Path

import numpy as np
import torch

from pansharp_bench import load_dataset
from pansharp_bench.datasets.junocam2hst.simulated import SIZES, maps, take
from pansharp_bench.figures import display, rgb_bands, stretch_limits

HERE = Path(__file__).parent
SENSORS, SCENES = ("qb-sim", "gf2-sim", "wv3-sim"), (0, 3, 6, 9, 12, 15)
ZONES = ("EZ", "NEB", "GRS", "SEB", "NPR", "SPR")
HIGHEST = 60  # degrees of latitude
INCH = 100  # pixels


def satellites(plt):
    """References of the test scenes, in true colour."""
    figure, axes = plt.subplots(3, 6, figsize=(11.2, 6), layout="constrained")
    for row, name in zip(axes, SENSORS, strict=True):
        split = load_dataset(name).split("reduced")
        for axis, index in zip(row, SCENES, strict=True):
            image = rgb_bands(split[index].gt[0], split.sensor)
            show(axis, display(image, stretch_limits(image)))
        row[0].set_title(name, loc="left", fontsize=9)
    figure.savefig(HERE / "simulated.png", dpi=INCH)


def planet(plt):
    """Both cameras' maps, and of some zones a segment of source, truth and target."""
    figure = plt.figure(figsize=(9.4, 6.9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3, 4))
    size, data = SIZES["default"], load_dataset("junocam2hst-sim")
    axes = above.subplots(1, 2, width_ratios=(1, 3))
    for axis, split, title in zip(
        axes,
        ("test", "target"),
        ("JunoCam, perijove 18", "Hubble, rotation A (another weather)"),
        strict=True,
    ):
        taken = take(next(m for m in maps(size) if m.split == split), size, 0)
        image, latitude = taken.image, taken.grid.latitude[:, None]
        if taken.swath:
            east = (np.arange(image.shape[2]) + 0.5) * size.step - 60
            seen = np.abs(east - taken.swath.track(latitude)) < taken.swath.half_width(latitude)
            image = image * torch.from_numpy(seen)
        image = image[:, np.abs(latitude[:, 0]) < HIGHEST]
        show(axis, display(image[:, ::2, ::2], (torch.zeros(3), torch.ones(3))))
        axis.set_title(title, loc="left", fontsize=9)
    axes = below.subplots(3, 6)
    test, target = data.split("test"), data.split("target")
    for column, zone in zip(axes.T, ZONES, strict=True):
        at, there, limits = (
            boldest(test, zone, "gt"),
            boldest(target, zone, "pan"),
            (torch.zeros(3), torch.ones(3)),
        )
        images = (test[at].pan, test[at].gt, target[there].pan)
        for axis, image in zip(column, images, strict=True):
            show(axis, display(image[0], limits))
        column[0].set_title(zone, loc="left", fontsize=9)
    for axis, name in zip(axes[:, 0], ("source", "truth", "target"), strict=True):
        axis.set_ylabel(name, rotation=0, ha="right", fontsize=9)
    figure.savefig(HERE / "junocam2hst-sim.png", dpi=INCH)


def boldest(split, zone, key):
    """The segment of a zone that has most contrast: by the spot, where there is one."""
    (index,) = np.nonzero(split.column("zone") == split.zones.index(zone))
    return max(index.tolist(), key=lambda i: float(split.read(key, i).float().std()))


def show(axis, pixels):
    """Without ticks."""
    axis.imshow(pixels)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


if __name__ == "__main__":
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    satellites(matplotlib.pyplot)
    planet(matplotlib.pyplot)
