"""Reflectance of materials, spectral responses of sensors, and the light between sun, ground and camera.

Everything here lives on one wavelength grid (nm). Reflectances are smooth curves through a few control
points, set by hand from what spectral libraries show of each material: the red edge of leaves, iron
absorption of red soils, the blue lobe and near-infrared rise of painted steel, the fall of water beyond the green.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

NM = np.arange(400.0, 1041.0, 10.0)


def _curve(nodes: dict[float, float]) -> np.ndarray:
    x, y = np.array(sorted(nodes.items()), dtype=np.float64).T
    return PchipInterpolator(x, y, extrapolate=False)(NM.clip(x[0], x[-1]))


def _leaf(green: float, red: float, nir: float, blue: float = 0.0) -> np.ndarray:
    """A leafy surface from its green peak, red trough and near-infrared plateau."""
    blue = blue or 0.75 * red
    edge = red + 0.28 * (nir - red)
    return _curve({
        400: 0.8 * blue, 450: blue, 490: 1.05 * blue, 550: green, 600: 0.5 * (green + red) * 0.95, 650: 1.05 * red,
        675: red, 700: edge * 0.72, 720: edge * 1.25, 740: 0.75 * nir, 760: 0.9 * nir, 800: 0.96 * nir,
        870: nir, 920: 1.01 * nir, 970: 0.96 * nir, 1040: nir,
    })  # fmt: skip


def _flat(level: float, slope: float = 0.0, uv: float = 0.9) -> np.ndarray:
    """A grey surface: its level at 600 nm and its relative rise per 100 nm."""
    return level * (1 + slope * (NM - 600) / 100) * np.interp(NM, [400, 450], [uv, 1])


def _soil(level: float, redness: float) -> np.ndarray:
    """Soil: level is the reflectance at 650 nm; redness bends the curve down in the blue."""
    shape = _curve({400: 0.30, 450: 0.37, 500: 0.48, 550: 0.64, 600: 0.85, 650: 1.0, 700: 1.1, 800: 1.25,
                    900: 1.36, 1040: 1.5})  # fmt: skip
    grey = _curve({400: 0.62, 500: 0.76, 600: 0.94, 650: 1.0, 800: 1.13, 1040: 1.25})
    return level * (redness * shape + (1 - redness) * grey)


MATERIALS: dict[str, np.ndarray] = {
    # leaves
    "lawn": _leaf(0.085, 0.045, 0.45),
    "meadow": _leaf(0.095, 0.065, 0.36),
    "crop": _leaf(0.085, 0.035, 0.50),
    "young-crop": _leaf(0.10, 0.07, 0.33),
    "broadleaf": _leaf(0.060, 0.029, 0.43),
    "broadleaf-light": _leaf(0.085, 0.042, 0.50),
    "broadleaf-dry": _leaf(0.075, 0.062, 0.27),
    "conifer": _leaf(0.040, 0.026, 0.235),
    "shrub": _leaf(0.060, 0.050, 0.25),
    "reed": _leaf(0.075, 0.065, 0.28),
    "turf": _leaf(0.075, 0.045, 0.22),
    "dry-grass": _curve({400: 0.05, 450: 0.07, 500: 0.10, 550: 0.14, 600: 0.18, 650: 0.21, 680: 0.22,
                         700: 0.25, 750: 0.30, 800: 0.34, 900: 0.39, 1040: 0.44}),
    "winter-grass": _curve({400: 0.05, 450: 0.06, 500: 0.075, 550: 0.095, 600: 0.115, 650: 0.13, 700: 0.15,
                            750: 0.18, 800: 0.20, 900: 0.225, 1040: 0.25}),
    "straw": _curve({400: 0.09, 450: 0.13, 500: 0.18, 550: 0.24, 600: 0.29, 650: 0.33, 700: 0.37,
                     800: 0.43, 900: 0.47, 1040: 0.51}),
    "bark": _curve({400: 0.04, 500: 0.06, 600: 0.09, 700: 0.13, 800: 0.19, 1040: 0.26}),
    # ground
    "soil": _soil(0.165, 0.75),
    "soil-dark": _soil(0.085, 0.6),
    "soil-pale": _soil(0.27, 0.65),
    "soil-red": _curve({400: 0.04, 450: 0.05, 500: 0.063, 550: 0.095, 600: 0.18, 650: 0.225, 700: 0.255,
                        800: 0.29, 870: 0.29, 950: 0.31, 1040: 0.35}),
    "soil-grey": _soil(0.14, 0.35),
    "loess": _soil(0.33, 0.8),
    "sand": _soil(0.40, 0.6),
    "gravel": _soil(0.24, 0.25),
    "rock": _soil(0.20, 0.35),
    "coal": _flat(0.035, 0.03),
    # built
    "asphalt": _flat(0.105, 0.06),
    "asphalt-new": _flat(0.055, 0.03),
    "asphalt-old": _flat(0.165, 0.07),
    "concrete": _curve({400: 0.17, 450: 0.22, 500: 0.25, 550: 0.28, 600: 0.30, 650: 0.315, 700: 0.325,
                        800: 0.335, 1040: 0.345}),
    "concrete-dark": _curve({400: 0.10, 450: 0.12, 500: 0.14, 550: 0.155, 600: 0.17, 700: 0.185, 1040: 0.20}),
    "paving": _soil(0.26, 0.45),
    "paint": _flat(0.62, 0.0, 0.6),
    "membrane": _curve({400: 0.25, 430: 0.40, 470: 0.47, 550: 0.50, 700: 0.51, 900: 0.49, 1040: 0.47}),
    "white-roof": _curve({400: 0.32, 430: 0.55, 470: 0.64, 550: 0.67, 700: 0.67, 900: 0.64, 1040: 0.61}),
    "metal": _flat(0.34, 0.015),
    "metal-bright": _flat(0.52, 0.01),
    "metal-dark": _flat(0.16, 0.02),
    "rust": _curve({400: 0.05, 500: 0.06, 550: 0.08, 600: 0.14, 650: 0.18, 700: 0.20, 800: 0.22, 900: 0.23,
                    1040: 0.30}),
    "steel-blue": _curve({400: 0.15, 440: 0.25, 475: 0.29, 500: 0.27, 550: 0.20, 600: 0.125, 650: 0.115,
                          700: 0.16, 760: 0.27, 830: 0.34, 900: 0.36, 1040: 0.37}),
    "steel-cobalt": _curve({400: 0.15, 440: 0.28, 470: 0.29, 500: 0.21, 550: 0.09, 600: 0.06, 650: 0.065,
                            700: 0.12, 760: 0.24, 830: 0.30, 1040: 0.33}),
    "steel-green": _curve({400: 0.05, 450: 0.07, 500: 0.14, 530: 0.17, 580: 0.12, 650: 0.07, 700: 0.09,
                           760: 0.18, 850: 0.25, 1040: 0.28}),
    "steel-red": _curve({400: 0.05, 450: 0.05, 550: 0.055, 590: 0.12, 620: 0.24, 660: 0.31, 750: 0.36,
                         850: 0.38, 1040: 0.42}),
    "tile-red": _curve({400: 0.05, 450: 0.06, 500: 0.07, 550: 0.10, 600: 0.185, 650: 0.235, 700: 0.26,
                        800: 0.29, 900: 0.31, 1040: 0.36}),
    "tile-brown": _curve({400: 0.045, 500: 0.06, 600: 0.105, 700: 0.14, 800: 0.16, 1040: 0.20}),
    "tile-grey": _flat(0.15, 0.02),
    "shingle": _flat(0.085, 0.035),
    "shingle-brown": _soil(0.095, 0.45),
    "shingle-pale": _soil(0.19, 0.2),
    "tar": _flat(0.06, 0.04),
    "gravel-roof": _soil(0.22, 0.2),
    "facade": _soil(0.24, 0.3),
    "glass": _curve({400: 0.10, 500: 0.09, 600: 0.06, 800: 0.05, 1040: 0.05}),
    "tartan": _curve({400: 0.05, 500: 0.055, 550: 0.065, 600: 0.16, 650: 0.215, 700: 0.23, 800: 0.26, 1040: 0.28}),
    "plastic": _curve({400: 0.22, 450: 0.35, 550: 0.42, 700: 0.45, 900: 0.46, 1040: 0.45}),
    "car-white": _flat(0.60, 0.0, 0.7),
    "car-silver": _flat(0.33, 0.0),
    "car-grey": _flat(0.14, 0.0),
    "car-black": _flat(0.035, 0.0),
    "car-red": _curve({400: 0.04, 560: 0.04, 600: 0.16, 640: 0.32, 800: 0.42, 1040: 0.45}),
    "car-blue": _curve({400: 0.10, 460: 0.18, 520: 0.09, 600: 0.04, 700: 0.06, 800: 0.18, 1040: 0.25}),
    # water
    "water": _curve({400: 0.030, 450: 0.030, 500: 0.029, 550: 0.024, 600: 0.013, 650: 0.009, 700: 0.006,
                     750: 0.003, 850: 0.002, 1040: 0.001}),
    "water-green": _curve({400: 0.025, 450: 0.032, 500: 0.046, 550: 0.070, 575: 0.072, 620: 0.050, 670: 0.036,
                           700: 0.034, 740: 0.014, 800: 0.011, 900: 0.006, 1040: 0.002}),
    "water-muddy": _curve({400: 0.045, 450: 0.062, 500: 0.082, 550: 0.115, 600: 0.130, 650: 0.130, 700: 0.105,
                           750: 0.050, 810: 0.045, 900: 0.022, 1040: 0.008}),
    "pool": _curve({400: 0.20, 470: 0.34, 520: 0.30, 570: 0.16, 620: 0.06, 680: 0.04, 750: 0.015, 1040: 0.005}),
}  # fmt: skip
NAMES = {name: index for index, name in enumerate(MATERIALS)}
TABLE = np.stack(list(MATERIALS.values()))

# Sunlight above the atmosphere, W/m²/µm at one astronomical unit
SUN = np.interp(
    NM,
    [400, 425, 450, 475, 500, 525, 550, 575, 600, 625, 650, 675, 700, 725, 750, 775, 800, 850, 900, 950, 1040],
    [1600, 1730, 2050, 2040, 1930, 1870, 1870, 1840, 1770, 1680, 1570, 1510, 1430, 1360, 1270, 1200, 1130, 990,
     920, 810, 680],
)  # fmt: skip


def _band(low: float, high: float, edge: float = 12.0) -> np.ndarray:
    """A filter between its half-power wavelengths, with smooth edges."""
    return 1 / (1 + np.exp(-(NM - low) / (edge / 2.5))) / (1 + np.exp((NM - high) / (edge / 2.5)))


def _pan(nodes: dict[float, float]) -> np.ndarray:
    return _curve({400.0: 0.0, 1040.0: 0.0, **nodes}).clip(0)


@dataclass(frozen=True)
class Camera:
    """A sensor as the simulator sees it.

    ``gsd`` is the PAN pixel (m); ``responses`` (C+1, wavelengths), PAN last; ``radiance_per_dn`` the absolute
    calibration (W/m²/sr/µm per DN) of each, PAN last; ``sun`` and ``haze`` the ranges of sun elevation
    (degrees) and aerosol optical depth at 550 nm; ``mix`` the weights of the kinds of landscape, in
    one of the ``styles``; ``read`` and
    ``shot`` the noise: variance = read² + shot · DN, MS and PAN; ``resample`` the spread (pixels of their own
    grid) of the blur by which MS and PAN were brought to the map; ``shift`` that of the error of their mutual
    registration (PAN pixels); ``pan_offset`` a dark level (DN) taken off PAN.
    """

    gsd: float
    responses: np.ndarray
    radiance_per_dn: tuple[float, ...]
    sun: tuple[float, float]
    haze: tuple[float, float]
    mix: dict[str, float]
    styles: tuple[str, ...]
    read: tuple[float, float] = (1.2, 1.2)
    shot: tuple[float, float] = (0.010, 0.012)
    resample: tuple[float, float] = (0.30, 0.42)
    shift: float = 0.5
    pan_offset: float = 0.0


_QB_PAN = _pan({430: 0.06, 450: 0.26, 500: 0.48, 550: 0.65, 600: 0.80, 650: 0.92, 700: 1.0, 760: 0.92, 800: 0.80,
                850: 0.62, 900: 0.40, 950: 0.21, 1000: 0.08})  # fmt: skip
_GF2_PAN = _pan({430: 0.0, 450: 0.06, 480: 0.18, 520: 0.38, 580: 0.68, 640: 0.92, 700: 1.0, 760: 0.98, 800: 0.88,
                 850: 0.62, 890: 0.36, 920: 0.08})  # fmt: skip
_WV_PAN = _pan({430: 0.03, 450: 0.40, 470: 0.66, 520: 0.76, 580: 0.86, 640: 0.94, 700: 1.0, 750: 0.92, 780: 0.74,
                800: 0.40, 820: 0.08, 840: 0.01})  # fmt: skip

CAMERAS: dict[str, Camera] = {
    "qb": Camera(
        0.65,
        np.stack([_band(450, 520), _band(520, 600), _band(630, 690), _band(760, 900), _QB_PAN]),
        (0.240, 0.170, 0.200, 0.160, 0.185),
        sun=(32, 55), haze=(0.02, 0.08),
        mix={"suburb": 6, "dense": 4, "centre": 2, "industry": 2, "farmland": 1, "river": 2, "hills": 1,
        "campus": 2},
        styles=("west", "west", "west", "east", "south"),
        resample=(0.05, 0.42), shift=1.5,
    ),
    "gf2": Camera(
        0.81,
        np.stack([_band(450, 520), _band(520, 590), _band(630, 690), _band(770, 890), _GF2_PAN]),
        (0.158, 0.198, 0.182, 0.195, 0.132),
        sun=(24, 34), haze=(0.28, 0.50),
        mix={"slabs": 5, "dense": 2.5, "centre": 1.5, "industry": 3, "farmland": 2, "river": 5,
        "campus": 1, "hills": 0.5},
        styles=("winter", "winter", "winter", "winter", "east"),
        resample=(0.46, 0.5), shift=0.35, pan_offset=-76,
    ),
    "wv3": Camera(
        0.31,
        np.stack([_band(400, 450), _band(450, 510), _band(510, 580), _band(585, 625), _band(630, 690),
                  _band(705, 745), _band(770, 895), _band(860, 1040), _WV_PAN]),
        (0.150, 0.225, 0.165, 0.140, 0.160, 0.120, 0.105, 0.092, 0.165),
        sun=(34, 60), haze=(0.03, 0.15),
        mix={"suburb": 7, "dense": 4, "centre": 3, "industry": 1.5, "campus": 2, "river": 2, "arid": 0.5,
        "slabs": 1},
        styles=("west", "west", "west", "west", "west", "south", "east"),
        resample=(0.0, 0.38), shift=1.0,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Light:
    """The scene's light per band, in DN for a white surface: direct beam on level ground, sky, and haze.

    A surface of reflectance r under direct visibility v and tilt factor t gives
    DN = r · (direct · v · t + sky) + haze. ``moments`` (3, wavelengths, bands) integrates a reflectance, and its
    first two derivatives by spectral tilt, into bands.
    """

    direct: np.ndarray
    sky: np.ndarray
    haze: np.ndarray
    moments: np.ndarray


def light(camera: Camera, elevation: float, aerosol: float, ground: np.ndarray) -> Light:
    """Single scattering by air and aerosol, with two-stream diffuse light; ``ground`` is the mean reflectance
    around, which scatters into every pixel (the adjacency effect)."""
    mu = np.sin(np.radians(elevation))
    um = NM / 1000
    rayleigh = 0.00864 * um ** -(3.916 + 0.074 * um + 0.05 / um)
    dust = aerosol * (um / 0.55) ** -1.3
    single, forward = 0.93, 0.62
    beam = np.exp(-(rayleigh + dust) / mu)
    down = 0.5 * (1 - np.exp(-rayleigh / mu)) + 0.82 * single * (1 - np.exp(-dust / mu))
    cosine = -mu  # nadir view: the scattering angle is 180° minus the zenith angle
    phase_air = 0.75 * (1 + cosine**2)
    phase_dust = (1 - forward**2) / (1 + forward**2 - 2 * forward * cosine) ** 1.5
    path = (rayleigh * phase_air + single * dust * phase_dust) / (4 * mu)
    path = path / (1 + rayleigh + dust)  # light scattered out again on its way
    up_beam = np.exp(-(rayleigh + dust))
    up_diffuse = np.exp(-(0.5 * rayleigh + 0.16 * dust)) - up_beam
    gas = np.interp(NM, [400, 680, 720, 755, 762, 770, 890, 930, 960, 1000], [1, 0.98, 0.93, 0.98, 0.80, 0.98, 0.96,
                                                                         0.72, 0.82, 0.97])  # fmt: skip
    flux = SUN * mu * gas / np.pi
    total = flux * (beam + down)
    haze = flux * path + total * up_diffuse * ground
    response = camera.responses / camera.responses.sum(1, keepdims=True)
    per_dn = np.asarray(camera.radiance_per_dn)
    weight = response * (total * up_beam)
    weight = weight / weight.sum(1, keepdims=True)
    log = np.log(NM / 600)
    moments = np.stack([weight.T, (weight * log).T, (weight * log**2 / 2).T])
    return Light(
        direct=response @ (flux * beam * up_beam) / per_dn,
        sky=response @ (flux * down * up_beam) / per_dn,
        haze=response @ haze / per_dn + np.eye(len(per_dn))[-1] * camera.pan_offset,
        moments=moments,
    )
