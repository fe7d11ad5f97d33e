"""One acquisition: draw a landscape, light it, and see it through a camera."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from pansharp_bench.datasets.simulated.canvas import Canvas, noise
from pansharp_bench.datasets.simulated.landscape import draw
from pansharp_bench.datasets.simulated.spectra import CAMERAS, MATERIALS, light

RATIO = 4
MARGIN = 32  # PAN pixels around the image, for blur, crowns and shadows
_GROUND = 0.6 * MATERIALS["soil"] + 0.4 * MATERIALS["meadow"]


class Optics(NamedTuple):
    """What of a sensor shapes its pixels: the largest DN, and MTF gains at the MS and the PAN Nyquist
    frequency."""

    sensor: str
    peak: float
    mtf: tuple[float, ...]
    mtf_pan: float


class Acquisition(NamedTuple):
    """What the camera delivers (integers, DN) and what an ideal one would: ``truth`` is MS on the PAN grid."""

    pan: np.ndarray  # (1, H, W)
    ms: np.ndarray  # (C, H/4, W/4)
    truth: np.ndarray | None  # (C, H, W), with PAN's sharpness, without noise; where asked for


def acquire(
    optics: Optics,
    rng: np.random.Generator,
    size: int,
    kind: str,
    centre: float,
    truth: bool,
    registered: bool = False,
) -> Acquisition:
    """An acquisition of ``size``² PAN pixels over a landscape of this kind.

    MS pixel i is centred on PAN coordinate 4i + ``centre``: 1.5 where a quarter of the PAN grid is to
    coincide with the MS grid (Wald's protocol), 2 where the 23-tap expansion is to coincide with PAN. It lies off
    that place as the sensor's does, unless ``registered``.
    """
    camera = CAMERAS[optics.sensor]
    elevation = rng.uniform(*camera.sun)
    azimuth = np.radians(rng.uniform(25, 80))
    aerosol = rng.uniform(*camera.haze)
    pixels = size + 2 * MARGIN
    canvas = Canvas(rng, pixels, camera.gsd, azimuth, np.radians(elevation))
    draw(canvas, kind, camera.styles)
    textures = noise(rng, pixels, (2.0, 0.9, 2.4, 1.3))
    image = canvas.render(light(camera, elevation, aerosol, _GROUND), textures)

    bands, pan = image[:-1], image[-1]
    sharp = _blur(pixels, _sigma(optics.mtf_pan, 1, camera.resample[1]), MARGIN + np.arange(size))
    at = MARGIN + RATIO * np.arange(size // RATIO) + centre
    off = rng.normal(0, 0.0 if registered else camera.shift, 2)
    coarse = []
    for band, gain in zip(bands, optics.mtf, strict=True):
        sigma = _sigma(gain, RATIO, camera.resample[0])
        coarse.append(_sampled(band, *(_blur(pixels, sigma, at + d) for d in off)))
    return Acquisition(
        _record(rng, _sampled(pan, sharp, sharp)[None], optics.peak, camera.read[1], camera.shot[1]),
        _record(rng, np.stack(coarse), optics.peak, camera.read[0], camera.shot[0]),
        np.stack([_sampled(b, sharp, sharp) for b in bands]).clip(0, optics.peak) if truth else None,
    )


def _sigma(gain: float, pixel: int, resample: float) -> float:
    """Spread (PAN pixels) of the Gaussian blur of a grid with pixels of ``pixel`` PAN pixels: together with the
    PAN pixel's own area it has this gain at the grid's Nyquist frequency, before it is resampled."""
    f = 0.5 / pixel
    optical = np.sqrt(-2 * np.log(gain / np.sinc(f))) / (2 * np.pi * f)
    return float(np.hypot(optical, resample * pixel))


def _blur(n: int, sigma: float, centres: np.ndarray) -> csr_array:
    """(len(centres), n) Gaussian weights, as far as 6 ``sigma``, that sample n pixels at these places."""
    apart = np.arange(n) - centres[:, None]
    w = np.where(np.abs(apart) <= 6 * sigma, np.exp(-(apart**2) / (2 * sigma**2)), 0)
    return csr_array(w / w.sum(1, keepdims=True))


def _sampled(image: np.ndarray, rows: csr_array, columns: csr_array) -> np.ndarray:
    return (columns @ (rows @ image).T).T


def _record(rng: np.random.Generator, image: np.ndarray, peak: float, read: float, shot: float) -> np.ndarray:
    """Noise and quantisation."""
    spread = np.sqrt(read**2 + shot * image.clip(0))
    noisy = image + spread * rng.standard_normal(image.shape)
    return np.rint(noisy).clip(0, peak).astype(np.uint16)
