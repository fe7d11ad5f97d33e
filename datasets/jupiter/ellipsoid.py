"""Jupiter's ellipsoid: latitudes, the zones' sample centres, and the segments' projection.

Latitudes are planetographic and longitudes System III **west** unless a name says otherwise, in degrees; lengths
in kilometres. The ellipsoid is that of the OPAL maps, equatorial radius 71,492 km, polar radius 66,854 km.

A segment is drawn in the Lambert azimuthal equal-area projection *of the ellipsoid* about its centre (J. P.
Snyder, Map Projections: A Working Manual, 1987, pp. 187-190), x to the east, y to the north: by way of authalic
latitudes, so that every pixel has the same area on the planet to the last digit. The sphere would be wrong by up
to 6 % in length.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atanh, sqrt
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from pansharp_bench.datasets.jupiter.zones import ZONES
from pansharp_bench.errors import BenchError, DataError

RADII = (71492.0, 71492.0, 66854.0)  # km, 1 bar (pck00010)
EQUATORIAL_KM, _, POLAR_KM = RADII
SEGMENT_KM = 16000.0

_E2 = 1 - (POLAR_KM / EQUATORIAL_KM) ** 2
_E = sqrt(_E2)
_POLE_Q = 1 + (1 - _E2) / _E * atanh(_E)
_AUTHALIC_KM = EQUATORIAL_KM * sqrt(_POLE_Q / 2)
Latitude = Literal["planetocentric", "planetographic"]
Degrees = TypeVar("Degrees", float, np.ndarray, Tensor)


def to_planetocentric(latitude: Degrees) -> Degrees:
    """Planetographic latitude (slope of the surface) as planetocentric (angle at the centre), degrees.

    tan(centric) = (polar / equatorial)^2 tan(graphic)

    >>> round(to_planetocentric(45.0), 4)
    41.1684
    """
    return _rescaled(latitude, (POLAR_KM / EQUATORIAL_KM) ** 2)


def to_planetographic(latitude: Degrees) -> Degrees:
    """The inverse of :func:`to_planetocentric`."""
    return _rescaled(latitude, (EQUATORIAL_KM / POLAR_KM) ** 2)


def _rescaled(latitude: Degrees, factor: float) -> Degrees:
    if isinstance(latitude, Tensor):
        radians = torch.deg2rad(latitude)
        return torch.rad2deg(torch.atan2(factor * torch.sin(radians), torch.cos(radians)))
    radians = np.radians(latitude)
    converted = np.degrees(np.arctan2(factor * np.sin(radians), np.cos(radians)))
    return float(converted) if isinstance(latitude, float | int) else converted


@dataclass(frozen=True)
class Centres:
    """Where segments are cut: (N,) ``zone`` (index into the zones asked for), ``latitude``, ``longitude``."""

    zone: np.ndarray
    latitude: np.ndarray
    longitude: np.ndarray

    def __len__(self) -> int:
        return len(self.zone)


def healpix_rings(nside: int) -> tuple[np.ndarray, np.ndarray]:
    """(12 nside²,) latitude and west longitude (degrees) of HEALPix pixel centres in ring order.

    Equations 2 to 9 of Gorski et al. (2005); the packages that have them are large (astropy) or GPL (healpy).
    """
    latitude, longitude = [], []
    for i in range(1, 4 * nside):
        from_pole = min(i, 4 * nside - i)
        if from_pole < nside:
            n, z, shift = 4 * from_pole, 1 - from_pole**2 / (3 * nside**2), 0.5
        else:
            n, z, shift = 4 * nside, 4 / 3 - 2 * from_pole / (3 * nside), 0.5 * ((i - nside + 1) % 2)
        latitude.append(np.full(n, np.degrees(np.arcsin(z)) * (1 if i <= 2 * nside else -1)))
        longitude.append((np.arange(n) + shift) * 360 / n)
    # a ring lies at 30 degrees exactly, where rounding would decide the zone
    return np.concatenate(latitude).round(9), -np.concatenate(longitude) % 360


def healpix_cell(nside: int, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """(N,) which of the 12 nside² HEALPix pixels, in ring order, holds each point; latitude and west longitude in
    degrees on HEALPix's sphere. The inverse of :func:`healpix_rings` (Gorski et al. 2005, section 5.2).

    >>> healpix_cell(4, *healpix_rings(4)).tolist() == list(range(192))
    True
    """
    z, turn = np.sin(np.radians(latitude)), -np.asarray(longitude) % 360 / 90
    # equatorial belt: how many ascending and descending lines of pixel edges lie below
    up, down = (np.floor(nside * (0.5 + turn + s * 0.75 * z)).astype(int) for s in (-1, 1))
    ring = nside + 1 + up - down
    along = (up + down - nside + 1 + (ring + 1) % 2) // 2 % (4 * nside)
    belt = 2 * nside * (nside - 1) + 4 * nside * (ring - 1) + along
    # polar caps: the same, counted from the pole
    part, reach = turn % 1, nside * np.sqrt(3 * (1 - np.abs(z)))
    ring = np.floor(part * reach).astype(int) + np.floor((1 - part) * reach).astype(int) + 1
    along = np.floor(turn * ring).astype(int) % (4 * ring)
    cap = np.where(z > 0, 2 * ring * (ring - 1), 12 * nside**2 - 2 * ring * (ring + 1)) + along
    return np.where(np.abs(z) <= 2 / 3, belt, cap)


def centres(nside: int, zones: tuple[str, ...] = tuple(ZONES)) -> Centres:
    """HEALPix pixel centres (Gorski et al., 2005) of each zone in turn, north to south and along each ring.

    The latitude of a pixel centre on HEALPix's sphere is read as planetographic, and a zone has the latitudes
    south < latitude <= north; so at nside 16 there are the JunoCam2HST paper's 2,968 centres. A centre of the GRS
    strip occurs twice, once for STrZ.

    Raises BenchError where nside is not a power of two, or a zone is unknown or has no centre.
    """
    if nside < 1 or nside & (nside - 1):
        raise BenchError(f"nside {nside} is not a power of two")
    if unknown := [z for z in zones if z not in ZONES]:
        raise BenchError(f"unknown zone {', '.join(unknown)}; known are: {', '.join(ZONES)}")
    lat, lon = healpix_rings(nside)
    found = []
    for index, name in enumerate(zones):
        south, north = ZONES[name]
        (inside,) = np.nonzero((lat > south) & (lat <= north))
        if not len(inside):
            raise DataError(f"zone {name} has no sample centre at nside {nside}; take a larger one")
        found.append((np.full(len(inside), index), lat[inside], lon[inside]))
    return Centres(*(np.concatenate(part) for part in zip(*found, strict=True)))


def share_of_surface(south: Tensor, north: Tensor) -> Tensor:
    """Share of the ellipsoid's surface between two planetographic latitudes, degrees.

    >>> round(share_of_surface(torch.tensor(0.0).double(), torch.tensor(90.0).double()).item(), 12)
    0.5
    """
    return (_q(torch.sin(torch.deg2rad(north))) - _q(torch.sin(torch.deg2rad(south)))) / (2 * _POLE_Q)


def laea_forward(latitude: Tensor, east: Tensor, latitude0: Tensor) -> tuple[Tensor, Tensor]:
    """Kilometres (x east, y north) from a segment's centre.

    Args:
        latitude: planetographic degrees.
        east: degrees **east** of the centre (west longitude of the centre minus that of the point).
        latitude0: planetographic latitude of the centre. All broadcast together.
    """
    sin_b, cos_b = _authalic(torch.deg2rad(latitude))
    sin_0, cos_0, stretch = _centre(torch.deg2rad(latitude0))
    east = torch.deg2rad(east)
    along = cos_b * torch.cos(east)
    scale = _AUTHALIC_KM * torch.sqrt(2 / (1 + sin_0 * sin_b + cos_0 * along).clamp_min(1e-12))
    return scale * stretch * cos_b * torch.sin(east), scale / stretch * (cos_0 * sin_b - sin_0 * along)


def laea_inverse(x: Tensor, y: Tensor, latitude0: Tensor) -> tuple[Tensor, Tensor]:
    """(latitude, degrees east of the centre) of a point in kilometres: the inverse of :func:`laea_forward`."""
    sin_0, cos_0, stretch = _centre(torch.deg2rad(latitude0))
    u, v = x / stretch, y * stretch
    rho = torch.hypot(u, v)
    angle = 2 * torch.asin((rho / (2 * _AUTHALIC_KM)).clamp(max=1))
    sin_a, cos_a = torch.sin(angle), torch.cos(angle)
    ratio = torch.where(rho > 0, sin_a / rho.clamp_min(1e-30), torch.full_like(rho, 1 / _AUTHALIC_KM))
    sin_b = cos_a * sin_0 + v * ratio * cos_0
    east = torch.atan2(u * ratio, cos_0 * cos_a - v * sin_0 * ratio)
    return torch.rad2deg(_geodetic(sin_b)), torch.rad2deg(east)


def _q(sin_lat: Tensor) -> Tensor:
    return (1 - _E2) * (sin_lat / (1 - _E2 * sin_lat**2) + torch.atanh(_E * sin_lat) / _E)


def _authalic(latitude: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine of the authalic latitude of a planetographic one, radians."""
    sine = (_q(torch.sin(latitude)) / _POLE_Q).clamp(-1, 1)
    return sine, torch.sqrt((1 - sine**2).clamp_min(0))


def _geodetic(sin_authalic: Tensor) -> Tensor:
    """Planetographic latitude (radians) of the sine of an authalic one, by Newton's method on the sine."""
    sine = sin_authalic.clamp(-1, 1)
    wanted = sine * _POLE_Q
    for _ in range(6):  # dq/dsin = 2 (1 - e^2) / (1 - e^2 sin^2)^2
        sine = sine - (_q(sine) - wanted) * (1 - _E2 * sine**2) ** 2 / (2 * (1 - _E2))
        sine = sine.clamp(-1, 1)
    return torch.asin(sine)


def _centre(latitude0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Authalic sine and cosine of the centre, and the factor that makes scale true there in both directions."""
    sin_0, cos_0 = _authalic(latitude0)
    sine, cosine = torch.sin(latitude0), torch.cos(latitude0)
    across = EQUATORIAL_KM * cosine / torch.sqrt(1 - _E2 * sine**2)
    at_pole = cos_0 < 1e-9
    stretch = torch.where(at_pole, torch.ones_like(cos_0), across / (_AUTHALIC_KM * cos_0.clamp_min(1e-12)))
    return sin_0, cos_0, stretch
