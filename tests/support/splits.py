"""Splits made on the spot."""

import torch

from pansharp_bench.imaging import interp23
from pansharp_bench.scene import Scene, Sensor, Split


class Random(Split):
    """Random images of a sensor, in two groups; those of a calibration at some latitude."""

    def __init__(self, sensor: Sensor, n: int = 4, side: int = 32) -> None:
        self.name, self.sensor, self.groups = "train", sensor, torch.arange(n) % 2
        draws = torch.Generator().manual_seed(n)
        coarse = torch.rand(n, sensor.channels, -(-side // 4), -(-side // 4), generator=draws)
        field = torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")
        gt = (0.1 + 0.5 * field) * sensor.peak
        gt += 0.02 * sensor.peak * torch.rand(gt.shape, generator=draws)
        pan = gt.mean(1, keepdim=True).repeat(1, sensor.source_bands, 1, 1)
        self.keys = ("pan", "gt")
        self.latitude = None if sensor.source == ("pan",) else torch.linspace(-20, 20, n)
        self.all = Scene(sensor, pan=pan, gt=gt, latitude=self.latitude)
        if sensor.source == ("pan",):
            ms = torch.nn.functional.avg_pool2d(gt, sensor.ratio)
            self.keys = ("pan", "ms", "lms", "gt")
            self.all = Scene(sensor, pan=pan, ms=ms, lms=interp23(ms, sensor.ratio), gt=gt)

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, index: int | slice) -> Scene:
        return self.all[index]
