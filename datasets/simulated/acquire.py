"""One acquisition: draw a landscape, light it, see it through a camera, and cut it as the protocols ask."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from pansharp_bench.datasets.simulated.canvas import Canvas, noise
from pansharp_bench.datasets.simulated.landscape import draw
from pansharp_bench.datasets.simulated.spectra import CAMERAS, MATERIALS, light
from pansharp_bench.imaging import decimate, interp23, mtf_filter, resize_bicubic
from pansharp_bench.scene import Sensor

RATIO = 4
MARGIN = 32  # PAN pixels around the image, for blur, crowns and shadows
_GROUND = 0.6 * MATERIALS["soil"] + 0.4 * MATERIALS["meadow"]


class Acquisition(NamedTuple):
    """What the camera delivers (integers, DN) and what an ideal one would: ``truth`` is MS on the PAN grid."""

    pan: np.ndarray  # (1, H, W)
    ms: np.ndarray  # (C, H/4, W/4)
    truth: np.ndarray  # (C, H, W), with PAN's sharpness, without noise


def acquire(sensor: Sensor, rng: np.random.Generator, size: int, kind: str, centre: float) -> Acquisition:
    """An acquisition of ``size``² PAN pixels over a landscape of this kind.

    MS pixel i is centred on PAN coordinate 4i + ``centre``: 1.5 where a quarter of the PAN grid is to
    coincide with the MS grid (Wald's protocol), 2 where the 23-tap expansion is to coincide with PAN.
    """
    camera = CAMERAS[sensor.name]
    elevation = rng.uniform(*camera.sun)
    azimuth = np.radians(rng.uniform(25, 80))
    aerosol = rng.uniform(*camera.haze)
    pixels = size + 2 * MARGIN
    canvas = Canvas(rng, pixels, camera.gsd, azimuth, np.radians(elevation))
    draw(canvas, kind, sensor.name)
    textures = noise(rng, pixels, (2.0, 0.9, 2.4, 1.3))
    image = canvas.render(light(camera, elevation, aerosol, _GROUND), textures)

    bands, pan = image[:-1], image[-1:]
    sharp = _blur(pixels, _sigma(sensor.mtf_pan, 1.0), MARGIN + np.arange(size))
    fine = sharp @ pan @ sharp.T
    truth = sharp @ bands @ sharp.T
    at = MARGIN + RATIO * np.arange(size // RATIO) + centre
    coarse = np.stack([a @ band @ a.T for band, gain in zip(bands, sensor.mtf, strict=True)
                       for a in [_blur(pixels, _sigma(gain, 1 / RATIO), at)]])  # fmt: skip
    return Acquisition(
        _record(rng, fine, sensor.peak, camera.read[1], camera.shot[1]),
        _record(rng, coarse, sensor.peak, camera.read[0], camera.shot[0]),
        truth.clip(0, sensor.peak),
    )


def _sigma(gain: float, scale: float) -> float:
    """Spread (PAN pixels) of the Gaussian that, with the PAN pixel's own area, has this gain at the Nyquist
    frequency of a grid ``scale`` times as fine as PAN's."""
    f = 0.5 * scale
    return float(np.sqrt(-2 * np.log(gain / np.sinc(f))) / (2 * np.pi * f))


def _blur(n: int, sigma: float, centres: np.ndarray) -> np.ndarray:
    """(len(centres), n) Gaussian weights that sample n pixels at these places."""
    w = np.exp(-((np.arange(n)[None] - np.asarray(centres)[:, None]) ** 2) / (2 * sigma**2))
    return (w / w.sum(1, keepdims=True)).astype(np.float32)


def _record(rng: np.random.Generator, image: np.ndarray, peak: float, read: float, shot: float) -> np.ndarray:
    """Noise and quantisation."""
    spread = np.sqrt(read**2 + shot * image.clip(0))
    return np.rint(image + spread * rng.standard_normal(image.shape, dtype=np.float32)).clip(0, peak)


def reduced(sensor: Sensor, rng: np.random.Generator, size: int, kind: str) -> dict[str, np.ndarray]:
    """A reduced-resolution sample after Wald: the acquired MS (``size``²) becomes the reference."""
    shot = acquire(sensor, rng, size * RATIO, kind, centre=1.5)
    gt, pan = torch.from_numpy(shot.ms).double()[None], torch.from_numpy(shot.pan).double()[None]
    ms = decimate(mtf_filter(gt, sensor), RATIO)
    out = {"gt": gt, "lms": interp23(ms), "ms": ms, "pan": resize_bicubic(pan, 1 / RATIO)}
    return {k: v[0].numpy() for k, v in out.items()}


def full(sensor: Sensor, rng: np.random.Generator, size: int, kind: str) -> dict[str, np.ndarray]:
    """A full-resolution sample of ``size``² PAN pixels, with the true MS as ``gt``."""
    shot = acquire(sensor, rng, size, kind, centre=2.0)
    ms = torch.from_numpy(shot.ms).double()
    return {"gt": shot.truth, "lms": interp23(ms).numpy(), "ms": shot.ms, "pan": shot.pan}
