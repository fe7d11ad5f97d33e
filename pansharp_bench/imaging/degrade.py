"""Wald's protocol: the reduced-resolution simulation of a scene."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from pansharp_bench.errors import ImageError
from pansharp_bench.imaging.interpolation import decimate, reduce_bicubic
from pansharp_bench.imaging.mtf import mtf_filter
from pansharp_bench.scene import Sensor, as_float, as_sensor


class Degraded(NamedTuple):
    """A scene one resolution ratio coarser."""

    ms: Tensor
    pan: Tensor


def wald_degrade(ms: Tensor, pan: Tensor, sensor: str | Sensor) -> Degraded:
    """Degrade MS and PAN by the sensor's ratio, as the field's toolbox does.

    MS: the bands' MTF filters, then ``decimate``. PAN: antialiased bicubic. What ``ms`` was is then the
    reference of the degraded pair; ``interp23`` expands the degraded MS to its grid. Where the sensor has a
    phase, the degraded pair has it too.

    Args:
        ms: (N, C, H, W), the reference, or the true MS of a simulation.
        pan: (N, 1, H', W'); need not be on the grid of ``ms``.
        sensor: a sensor or its registered name.

    Returns:
        Degraded(ms (N, C, H/ratio, W/ratio), pan (N, 1, H'/ratio, W'/ratio)), in the inputs' dtypes
        (float32 for integers).

    Raises:
        ImageError: an input is no tensor of real numbers, or a side of it no multiple of the ratio.
        BenchError: the sensor has another number of bands.

    >>> import torch
    >>> low = wald_degrade(torch.rand(1, 4, 64, 64), torch.rand(1, 1, 256, 256), "qb")
    >>> tuple(low.ms.shape), tuple(low.pan.shape)
    ((1, 4, 16, 16), (1, 1, 64, 64))
    """
    sensor, ms, pan = as_sensor(sensor), as_float(ms, "ms"), as_float(pan, "pan")
    for name, image in (("ms", ms), ("pan", pan)):
        if any(side % sensor.ratio for side in image.shape[-2:]):
            raise ImageError(
                f"{name} {tuple(image.shape)} cannot be degraded: cut its sides to multiples of {sensor.ratio}"
            )
    low = decimate(mtf_filter(ms, sensor), sensor)
    return Degraded(low.contiguous(), reduce_bicubic(pan, sensor))
