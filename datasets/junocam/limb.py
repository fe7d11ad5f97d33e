"""The limb: found in the framelets, and fitted, which gives the attitude or the start-time jitter.

Only the bright limb is used: the terminator is not where the planet ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pansharp_bench.datasets.junocam.camera import Camera
from pansharp_bench.datasets.junocam.geometry import RADII, SPIN_RATE, Attitude, Ephemeris, Spin, States
from pansharp_bench.datasets.junocam.raw import FIRST, LAST, LINES
from pansharp_bench.errors import DataError

_REACH = 5.0  # pixels inside and outside of an edge at which its two sides are read
_MARGIN = 7  # pixels from a framelet's border where no edge is looked for


@dataclass(frozen=True)
class Limb:
    """Edge points of one image: ``frame`` (n,) and ``band`` (n,) indices, ``x``, ``y`` (n,) pixel coordinates,
    ``rays`` (3, n, 3) camera directions of the point and of its neighbours one pixel right and down."""

    frame: np.ndarray
    band: np.ndarray
    x: np.ndarray
    y: np.ndarray
    rays: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, keep: np.ndarray) -> Limb:
        return Limb(self.frame[keep], self.band[keep], self.x[keep], self.y[keep], self.rays[:, keep])


def find_limb(values: np.ndarray, bands: Sequence[str], camera: Camera, level: float = 0.08) -> Limb:
    """Bright-limb edge points in calibrated framelets (frames, bands, 128, 1648), to a fraction of a pixel.

    An edge is a ridge of the gradient (Gaussian, σ = 1 px), placed by a parabola across it. It is the limb
    where one side is brighter than ``level`` of the band's 99.5th percentile, the other side is dark (under an
    eighth of it), and all of the change is within a few pixels, which it is not at the terminator.
    """
    from scipy import ndimage

    frames, bands_n = values.shape[:2]
    found: list[tuple[np.ndarray, ...]] = []
    lit = values[..., FIRST:LAST]
    bright = np.array([np.percentile(v[v > 0.02 * v.max()], 99.5) if v.max() > 0 else np.inf
                       for v in lit.swapaxes(0, 1)])  # fmt: skip
    for frame in range(frames):
        for band in range(bands_n):
            image = values[frame, band]
            if image.max() < level * bright[band]:
                continue
            smooth = ndimage.gaussian_filter(image, 1.0)
            gy = ndimage.gaussian_filter(image, 1.0, order=(1, 0))
            gx = ndimage.gaussian_filter(image, 1.0, order=(0, 1))
            slope = np.hypot(gx, gy)
            inner = np.zeros_like(slope, bool)
            inner[_MARGIN : LINES - _MARGIN, FIRST + _MARGIN : LAST - _MARGIN] = True
            y, x = np.nonzero(inner & (slope > 0.15 * level * bright[band]))
            if not len(y):
                continue
            s = slope[y, x]
            uy, ux = gy[y, x] / s, gx[y, x] / s

            def at(field: np.ndarray, step: float, y=y, x=x, uy=uy, ux=ux) -> np.ndarray:
                return ndimage.map_coordinates(field, [y + step * uy, x + step * ux], order=1, mode="nearest")

            before, after = at(slope, -1.0), at(slope, 1.0)
            inside, outside = at(smooth, _REACH), at(smooth, -_REACH)
            limb = (s >= before) & (s > after) & (inside > level * bright[band])
            limb &= (outside < inside / 8) & (s > 0.2 * (inside - outside))
            curve = before - 2 * s + after
            offset = np.where(curve < 0, 0.5 * (before - after) / np.where(curve < 0, curve, -1), 0.0)
            limb &= np.abs(offset) <= 0.75
            found.append((
                np.full(limb.sum(), frame), np.full(limb.sum(), band),
                (x + 0.5 + offset * ux)[limb], (y + 0.5 + offset * uy)[limb],
            ))  # fmt: skip
    if not found:
        raise DataError("no bright limb is in the image, so its attitude cannot be found")
    frame, band, x, y = (np.concatenate(part) for part in zip(*found, strict=True))
    return Limb(frame, band, x, y, _rays(band, x, y, bands, camera))


def _rays(band: np.ndarray, x: np.ndarray, y: np.ndarray, bands: Sequence[str], camera: Camera) -> np.ndarray:
    rays = np.empty((3, len(x), 3))
    for index, name in enumerate(bands):
        mine = band == index
        for i, (dx, dy) in enumerate(((0, 0), (1, 0), (0, 1))):
            rays[i, mine] = camera.rays(torch.as_tensor(x[mine] + dx), torch.as_tensor(y[mine] + dy), name)
    return rays


def limb_distance(
    limb: Limb, states: States, attitude: np.ndarray, radii: Sequence[float] = RADII
) -> np.ndarray:
    """Signed distance (n,) in pixels from each edge point to the predicted limb, outward positive.

    In space scaled so that the ellipsoid is the unit sphere, a ray passes its centre at b; b = 1 is the limb.
    The distance is (b − 1) over the size of b's gradient in the image, to first order. ``states`` and
    ``attitude`` (F, 3, 3; camera to J2000) are of the image's frames.
    """
    inverse = 1 / np.asarray(radii)
    turn = (states.from_inertial @ attitude)[limb.frame]
    rays = np.einsum("nij,knj->kni", turn, limb.rays) - states.beta[limb.frame]  # aberration undone
    origin, rays = states.position[limb.frame] * inverse, rays * inverse
    along = (origin * rays).sum(-1) / np.linalg.norm(rays, axis=-1)
    b = np.sqrt((origin**2).sum(-1) - along**2)
    b = np.where(along < 0, b, 2 * np.linalg.norm(origin, axis=-1) - b)  # looking away: ever farther
    return (b[0] - 1) / np.hypot(b[1] - b[0], b[2] - b[0]).clip(1e-9)


@dataclass(frozen=True)
class LimbFit:
    """A fit of n edge points: ``jitter`` in seconds (C-kernel attitude) or ``spin`` (without), the residual
    ``distance`` (n,) in pixels of the points kept, and ``used`` of ``found`` points."""

    distance: np.ndarray
    used: int
    found: int
    jitter: float = 0.0
    spin: Spin | None = None

    @property
    def median(self) -> float:
        """Median absolute distance to the predicted limb, pixels."""
        return float(np.median(np.abs(self.distance)))

    @property
    def rms(self) -> float:
        return float(np.sqrt(np.mean(self.distance**2)))


def _least_squares(residual: Callable[[np.ndarray], np.ndarray], start: np.ndarray, scale: np.ndarray,
                   soft: float) -> np.ndarray:  # fmt: skip
    from scipy.optimize import least_squares

    fit = least_squares(lambda p: residual(start + p * scale), np.zeros(len(start)), loss="soft_l1",
                        f_scale=soft, diff_step=1e-3, x_scale=1.0)  # fmt: skip
    return start + fit.x * scale


def fit_jitter(
    limb: Limb,
    ephemeris: Ephemeris,
    attitude: Attitude,
    times: np.ndarray,
    radii: Sequence[float] = RADII,
    limit: float = 0.1,
) -> LimbFit:
    """Start-time jitter for a known attitude: the offset of all frame times of least robust distance, searched
    in milliseconds over ±``limit`` seconds and then refined."""
    from scipy.optimize import minimize_scalar

    def distance(jitter: float) -> np.ndarray:
        et = times + jitter
        return limb_distance(limb, ephemeris.states(et), attitude.rotation(et), radii)

    def cost(jitter: float) -> float:
        return float(np.minimum(np.abs(distance(jitter)), 20.0).mean())

    steps = np.arange(-limit, limit + 1e-9, 0.004)
    coarse = steps[np.argmin([cost(j) for j in steps])]
    jitter = minimize_scalar(
        cost, bounds=(coarse - 0.004, coarse + 0.004), method="bounded", options={"xatol": 1e-5}
    ).x
    d = distance(jitter)
    keep = _inliers(d)
    return LimbFit(d[keep], int(keep.sum()), len(limb), jitter=float(jitter))


def _inliers(distance: np.ndarray) -> np.ndarray:
    spread = 1.4826 * np.median(np.abs(distance - np.median(distance)))
    return np.abs(distance - np.median(distance)) <= max(4 * spread, 1.0)


def fit_spin(
    limbs: Sequence[Limb],
    ephemeris: Ephemeris,
    times: Sequence[np.ndarray],
    axis: tuple[float, float],
    mount: np.ndarray,
    radii: Sequence[float] = RADII,
) -> list[LimbFit]:
    """Attitude without a C kernel: spin axis and rate, common to the images given, and each image's phase.

    Starts from ``axis`` (right ascension, declination; the Earth's direction is a good guess) and Juno's usual
    rate, with the phase searched over the whole turn. Images of one pass hold each other: one limb alone
    leaves the axis free to trade with the phase. Raises DataError when no phase brings the limb near.
    """
    states = [ephemeris.states(t) for t in times]
    epochs = [float(t.mean()) for t in times]
    count = len(limbs)
    if any(len(limb) < 20 for limb in limbs):
        raise DataError("too little of the bright limb is in the image to find its attitude")

    def spins(p: np.ndarray) -> list[Spin]:
        return [Spin(p[0], p[1], p[3 + i], p[2], epochs[i], mount) for i in range(count)]

    def distances(p: np.ndarray) -> list[np.ndarray]:
        turned = zip(limbs, states, spins(p), times, strict=True)
        return [limb_distance(m, s, spin.rotation(t), radii) for m, s, spin, t in turned]

    start = np.array([*axis, SPIN_RATE, *np.zeros(count)])
    for i in range(count):
        few = limbs[i][:: max(1, len(limbs[i]) // 400)]

        def cost(phase: float, few: Limb = few, i: int = i) -> float:
            spin = Spin(*axis, phase, SPIN_RATE, epochs[i], mount)
            return float(
                np.minimum(np.abs(limb_distance(few, states[i], spin.rotation(times[i]), radii)), 100).mean()
            )

        turn = np.radians(np.arange(0, 360, 1.0))
        start[3 + i] = turn[np.argmin([cost(phase) for phase in turn])]

    scale = np.array([1e-3, 1e-3, 1e-4, *np.full(count, 1e-3)])
    kept = list(limbs)
    best = start
    for soft in (20.0, 2.0, 0.5, 0.5):
        weights = [1 / np.sqrt(len(m)) for m in kept]

        def residual(p: np.ndarray, kept=kept, weights=weights) -> np.ndarray:
            turned = zip(kept, states, spins(p), times, strict=True)
            return np.concatenate([limb_distance(m, s, spin.rotation(t), radii) for m, s, spin, t in turned])

        best = _least_squares(residual, best, scale, soft)
        if soft < 20:
            kept = [m[_inliers(d)] for m, d in zip(limbs, distances(best), strict=True)]
    fits = []
    for limb, d, spin in zip(limbs, distances(best), spins(best), strict=True):
        keep = _inliers(d)
        fits.append(LimbFit(d[keep], int(keep.sum()), len(limb), spin=spin))
    if max(f.median for f in fits) > 10:
        raise DataError("no spin brings the predicted limb within 10 pixels of the one seen")
    return fits
