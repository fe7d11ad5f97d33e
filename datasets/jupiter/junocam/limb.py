"""The limb: found in the framelets, and fitted, which gives the attitude or the start-time jitter.

Only the bright limb is used: the terminator is not where the planet ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from pansharp_bench.datasets.jupiter.ellipsoid import RADII
from pansharp_bench.datasets.jupiter.junocam.camera import JunoCam
from pansharp_bench.datasets.jupiter.junocam.geometry import SPIN_RATE, Attitude, Ephemeris, Spin, States
from pansharp_bench.datasets.jupiter.junocam.raw import FIRST, LAST, LINES
from pansharp_bench.errors import DataError

_REACH = 5.0  # pixels inside and outside of an edge at which its two sides are read
_LIT = 0.2  # least cosine of incidence: near the cusps the limb fades, and its edge moves inward
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

    def __getitem__(self, keep: np.ndarray | slice) -> Limb:
        return Limb(self.frame[keep], self.band[keep], self.x[keep], self.y[keep], self.rays[:, keep])


def find_limb(values: np.ndarray, bands: Sequence[str], camera: JunoCam, level: float = 0.08) -> Limb:
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
    of_frame, of_band, x, y = (np.concatenate(part) for part in zip(*found, strict=True))
    return Limb(of_frame, of_band, x, y, _rays(of_band, x, y, bands, camera))


def _rays(
    band: np.ndarray, x: np.ndarray, y: np.ndarray, bands: Sequence[str], camera: JunoCam
) -> np.ndarray:
    rays = np.empty((3, len(x), 3))
    for index, name in enumerate(bands):
        mine = band == index
        for i, (dx, dy) in enumerate(((0, 0), (1, 0), (0, 1))):
            rays[i, mine] = camera.rays(torch.as_tensor(x[mine] + dx), torch.as_tensor(y[mine] + dy), name)
    return rays


def limb_distance(
    limb: Limb, states: States, attitude: np.ndarray, radii: Sequence[float] = RADII, altitude: float = 0.0
) -> np.ndarray:
    """Signed distance (n,) in pixels from each edge point to the predicted limb, outward positive.

    In space scaled so that the ellipsoid is the unit sphere, a ray passes its centre at b; b = 1 is the limb.
    The distance is (b − 1) over the size of b's gradient in the image, to first order. ``states`` and
    ``attitude`` (F, 3, 3; camera to J2000) are of the image's frames; ``altitude`` (km) of the limb above the
    ellipsoid, as haze is seen above the clouds.
    """
    origin, rays = _scaled(limb, states, attitude, np.asarray(radii) + altitude)
    along = (origin * rays).sum(-1) / np.linalg.norm(rays, axis=-1)
    b = np.sqrt((origin**2).sum(-1) - along**2)
    b = np.where(along < 0, b, 2 * np.linalg.norm(origin, axis=-1) - b)  # looking away: ever farther
    return (b[0] - 1) / np.hypot(b[1] - b[0], b[2] - b[0]).clip(1e-9)


def limb_sun(limb: Limb, states: States, attitude: np.ndarray, radii: Sequence[float] = RADII) -> np.ndarray:
    """Cosine of the Sun's incidence (n,) where each edge point's ray comes nearest to the ellipsoid."""
    origin, rays = _scaled(limb, states, attitude, np.asarray(radii))
    ray = rays[0] / np.linalg.norm(rays[0], axis=-1, keepdims=True)
    nearest = origin - (origin * ray).sum(-1, keepdims=True) * ray
    normal = nearest / np.asarray(radii)
    return (normal * states.sun[limb.frame]).sum(-1) / np.linalg.norm(normal, axis=-1)


def _scaled(
    limb: Limb, states: States, attitude: np.ndarray, radii: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Camera positions (n, 3) and rays (3, n, 3) in the body frame, in units of the ellipsoid's axes."""
    turn = (states.from_inertial @ attitude)[limb.frame]
    rays = np.einsum("nij,knj->kni", turn, limb.rays) - states.beta[limb.frame]  # aberration undone
    return states.position[limb.frame] / radii, rays / radii


@dataclass(frozen=True)
class LimbFit:
    """A fit of n edge points: ``jitter`` in seconds (C-kernel attitude) or ``spin`` (without), the limb's
    ``altitude`` in km, the residual ``distance`` (n,) in pixels of the points kept, and ``used`` of ``found``."""

    distance: np.ndarray
    used: int
    found: int
    altitude: float
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
    """Start-time jitter for a known attitude, and the limb's altitude: all frame times moved alike within
    ±``limit`` seconds, searched in steps of 4 ms (1.2 pixels) and then refined by robust least squares."""

    def distance(points: Limb, jitter: float, altitude: float = 0.0) -> np.ndarray:
        et = times + jitter
        return limb_distance(points, ephemeris.states(et), attitude.rotation(et), radii, altitude)

    steps = np.arange(-limit, limit + 1e-9, 0.004)
    coarse = steps[np.argmin([np.minimum(np.abs(distance(limb, j)), 20.0).mean() for j in steps])]
    et = times + coarse
    bright = limb[limb_sun(limb, ephemeris.states(et), attitude.rotation(et), radii) > _LIT]
    if len(bright) < 20:
        raise DataError("too little of the bright limb is in the image to find its start-time jitter")
    start, scale = np.array([coarse, 0.0]), np.array([1e-4, 10.0])
    jitter, altitude = _least_squares(lambda p: distance(bright, *p), start, scale, 0.3)
    d = distance(bright, jitter, altitude)
    keep = _inliers(d)
    return LimbFit(d[keep], int(keep.sum()), len(bright), float(altitude), jitter=float(jitter))


def _inliers(distance: np.ndarray) -> np.ndarray:
    spread = 1.4826 * np.median(np.abs(distance - np.median(distance)))
    return np.abs(distance - np.median(distance)) <= max(4 * spread, 1.0)


def fit_spin(
    limbs: Sequence[Limb],
    states: Sequence[States],
    times: Sequence[np.ndarray],
    axis: tuple[float, float],
    mount: np.ndarray,
    radii: Sequence[float] = RADII,
) -> list[LimbFit]:
    """Attitude without a C kernel: spin axis, rate and the limb's altitude, common to the images given, and each
    image's phase.

    Starts from ``axis`` (right ascension, declination; the Earth's direction is a good guess) and Juno's usual
    rate, with the phase searched over the whole turn. Images of one pass hold each other: on one limb alone a
    roll about the line of sight is told only by the planet's flattening. Raises DataError when no phase brings
    the limb near.
    """
    epochs = [float(t.mean()) for t in times]
    if any(len(limb) < 20 for limb in limbs):
        raise DataError("too little of the bright limb is in the image to find its attitude")

    def spins(p: np.ndarray) -> list[Spin]:
        return [
            Spin(p[0], p[1], phase, p[2], epoch, mount) for phase, epoch in zip(p[4:], epochs, strict=True)
        ]

    def distances(p: np.ndarray, points: Sequence[Limb]) -> list[np.ndarray]:
        return [
            limb_distance(limb, state, spin.rotation(t), radii, p[3])
            for limb, state, spin, t in zip(points, states, spins(p), times, strict=True)
        ]

    def residuals(p: np.ndarray, points: Sequence[Limb]) -> np.ndarray:
        return np.concatenate(distances(p, points))

    few = [limb[:: max(1, len(limb) // 400)] for limb in limbs]
    turn = np.radians(np.arange(0, 360, 1.0))
    costs = [
        [
            np.minimum(np.abs(d), 100).mean()
            for d in distances(np.array([*axis, SPIN_RATE, 0, *[angle] * len(limbs)]), few)
        ]
        for angle in turn
    ]
    best = np.array([*axis, SPIN_RATE, 0.0, *turn[np.argmin(costs, axis=0)]])
    scale = np.array([1e-3, 1e-3, 1e-4, 10.0, *[1e-3] * len(limbs)])
    bright = kept = list(limbs)
    for soft in (20.0, 2.0, 0.3, 0.3):
        best = _least_squares(partial(residuals, points=kept), best, scale, soft)
        turned = zip(limbs, states, spins(best), times, strict=True)
        bright = [m[limb_sun(m, state, spin.rotation(t), radii) > _LIT] for m, state, spin, t in turned]
        if any(len(m) < 20 for m in bright):
            raise DataError("no spin brings the predicted bright limb near the one seen")
        kept = [m[_inliers(d)] for m, d in zip(bright, distances(best, bright), strict=True)]
    fits = []
    for limb, d, spin in zip(bright, distances(best, bright), spins(best), strict=True):
        keep = _inliers(d)
        fits.append(LimbFit(d[keep], int(keep.sum()), len(limb), float(best[3]), spin=spin))
    if max(fit.median for fit in fits) > 10:
        raise DataError("no spin brings the predicted limb within 10 pixels of the one seen")
    return fits
