"""A banded, turbulent planet: jets, belts and zones, vortices, plumes, filaments down to the pixel.

The weather is made on a Mercator grid, where isotropic turbulence stays isotropic at every latitude and eddies
shrink towards the poles, as Jupiter's do. Every grid point is followed backward in time through zonal jets,
swirling vortices and eddies of three sizes, each eddy carried along by the larger ones; what the air parcel
was made of at its origin (the band it came from, and noise) gives the clouds. Stretching and folding on the
way back make the filaments.

Equal generators give equal weather on every processor. Processors differ in last bits, and turbulence magnifies
what differs; so origins are brought to a lattice after every step, and float64 leaves next to none that fall to
another of its points.

A pixel has three properties, from which any camera's bands follow (:func:`reflect`): ``cloud``, the brightness of
the cloud deck; ``colour``, the amount of the brown-red absorber; ``clear``, the depth of clear, bluish-grey air.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import scipy.fft
import torch
from torch import Tensor
from torch.nn import functional as F

_AT_ONCE = 1 << 15  # points followed back together: few enough to stay in a processor's cache
TOP = 80.0  # degrees of latitude the map reaches to, north and south
_LATTICE = 256  # origins a pixel, each way
_COARSE = 16  # the grid's size is a multiple of the pixels to one of the coarsest level (_sample_squeezed)

# Latitude (planetographic), cloud, colour, clear; and, between the same latitudes: turbulence of the flow,
# contrast of the clouds, share of filamentary regions.
_CLIMATE = np.array([
    # lat  cloud colour clear  flow  detail filaments
    [-90, 0.54, 0.62, 0.36, 0.60, 0.60, 0.25],
    [-70, 0.58, 0.64, 0.32, 0.95, 0.90, 0.50],
    [-58, 0.64, 0.66, 0.25, 1.00, 1.00, 0.75],
    [-50, 0.72, 0.60, 0.16, 0.80, 0.90, 0.60],
    [-45, 0.76, 0.66, 0.12, 0.60, 0.85, 0.45],
    [-40, 0.77, 0.56, 0.12, 0.75, 0.80, 0.60],
    [-36, 0.82, 0.52, 0.06, 0.50, 0.70, 0.35],
    [-32, 0.80, 0.66, 0.08, 0.60, 0.75, 0.40],
    [-28, 0.80, 0.80, 0.06, 0.50, 0.70, 0.25],
    [-26, 0.85, 0.42, 0.02, 0.30, 0.45, 0.05],
    [-22, 0.87, 0.33, 0.01, 0.25, 0.40, 0.02],
    [-20, 0.82, 0.70, 0.03, 0.60, 0.80, 0.30],
    [-16, 0.78, 0.98, 0.06, 1.00, 1.00, 0.60],
    [-11, 0.76, 1.05, 0.10, 0.80, 0.90, 0.40],
    [-7, 0.80, 0.72, 0.08, 0.40, 0.60, 0.10],
    [-5, 0.86, 0.36, 0.06, 0.35, 0.50, 0.03],
    [0, 0.86, 0.42, 0.08, 0.40, 0.55, 0.03],
    [5, 0.84, 0.45, 0.14, 0.45, 0.70, 0.05],
    [8, 0.78, 0.90, 0.16, 0.70, 0.90, 0.20],
    [12, 0.75, 1.15, 0.08, 0.95, 1.00, 0.50],
    [16, 0.76, 1.10, 0.05, 0.80, 0.90, 0.35],
    [18, 0.82, 0.62, 0.04, 0.45, 0.60, 0.10],
    [22, 0.86, 0.40, 0.03, 0.30, 0.45, 0.05],
    [24, 0.80, 0.90, 0.05, 0.35, 0.60, 0.10],
    [28, 0.79, 0.82, 0.10, 0.60, 0.80, 0.35],
    [31, 0.81, 0.58, 0.10, 0.55, 0.70, 0.35],
    [36, 0.79, 0.60, 0.14, 0.60, 0.75, 0.40],
    [41, 0.75, 0.68, 0.16, 0.80, 0.85, 0.65],
    [46, 0.70, 0.66, 0.22, 0.75, 0.85, 0.55],
    [52, 0.67, 0.66, 0.25, 0.90, 0.95, 0.65],
    [60, 0.62, 0.65, 0.29, 1.00, 1.00, 0.65],
    [70, 0.57, 0.63, 0.33, 0.90, 0.85, 0.45],
    [90, 0.54, 0.62, 0.36, 0.60, 0.60, 0.25],
])  # fmt: skip

# Latitude, zonal wind (m/s eastward): the alternating jets of Jupiter, rounded
_JETS = np.array([
    [-90, 0], [-75, 5], [-70, 18], [-64, 0], [-58, 32], [-54, 4], [-49, -8], [-44, 34], [-40, -8], [-36, 36],
    [-32, -20], [-27, 44], [-20, -58], [-14, 10], [-7, 145], [-3, 90], [0, 80], [3, 85], [7, 108], [12, 10],
    [17, -28], [21, 35], [24, 150], [28, 15], [31, -25], [35, 32], [39, -10], [43, 22], [47, -6], [51, 24],
    [56, 4], [61, 20], [66, 4], [70, 14], [75, 3], [90, 0],
])  # fmt: skip


@dataclass(frozen=True)
class Response:
    """How a camera's bands, usually red, green and blue, see the three properties (see :func:`reflect`)."""

    white: tuple[float, ...]
    colour: tuple[float, ...]
    clear: tuple[float, ...]


def reflect(air: Tensor, response: Response) -> Tensor:
    """(bands, H, W) I/F of air (3, H, W: cloud, colour, clear): white · cloud · exp(-k colour - m clear)."""
    white, k, m = (_column(v) for v in (response.white, response.colour, response.clear))
    return white * air[0] * torch.exp(-k * air[1] - m * air[2])


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None, None]


@dataclass(frozen=True)
class MercatorGrid:
    """A Mercator map between ±80° that spans ``width`` degrees of longitude and closes on itself.

    Column 0 lies at ``west`` (degrees of west longitude, which decrease to the right); row 0 is the northern
    edge. ``step`` is the size of a pixel in degrees of longitude.
    """

    west: float
    width: float
    step: float
    shape: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        across = _COARSE * scipy.fft.next_fast_len(round(self.width / self.step / _COARSE), real=True)
        object.__setattr__(self, "step", self.width / across)
        half = int(np.ceil(np.degrees(_mercator(TOP)) / self.step / _COARSE))
        object.__setattr__(self, "shape", (2 * _COARSE * half, across))

    @property
    def latitude(self) -> np.ndarray:
        """(H,) degrees of the rows' centres."""
        h = self.shape[0]
        y = np.radians(self.step) * ((h - 1) / 2 - np.arange(h))
        return np.degrees(2 * np.arctan(np.exp(y)) - np.pi / 2)

    def pixel(self, latitude, longitude):
        """Fractional row and column of places (degrees; arrays or numbers); the column is within one turn."""
        row = (self.shape[0] - 1) / 2 - np.degrees(_mercator(latitude)) / self.step
        return row, ((self.west - longitude) % 360) / self.step


def _mercator(latitude):
    return np.arctanh(np.sin(np.radians(latitude)))


def wrap(image: Tensor) -> Tensor:
    """An image (C, H, W) with the columns beyond its seam added on both sides, for :func:`sample`."""
    return F.pad(image[None], (2, 3, 0, 0), mode="circular")


def sample(wrapped: Tensor, row: Tensor, column: Tensor, mode: str = "bilinear") -> Tensor:
    """(C, …) values of a wrapped image at places given in the image's rows and columns; columns wrap, rows end."""
    h, w = wrapped.shape[2:]
    x = (torch.remainder(column, w - 5) + 2) * (2 / (w - 1)) - 1
    y = row * (2 / (h - 1)) - 1
    at = torch.stack([x, y], -1).reshape(1, 1, -1, 2)
    out = F.grid_sample(wrapped, at, mode, padding_mode="border", align_corners=True)
    return out.reshape(-1, *row.shape)


class _Noise:
    """Random fields on a grid, closed in longitude, made in the frequency domain."""

    def __init__(self, rng: np.random.Generator, grid: MercatorGrid) -> None:
        self.rng, self.shape = rng, grid.shape
        h, w = grid.shape
        self.padded = scipy.fft.next_fast_len(h + 32, real=True)
        # waves per degree of longitude, so that a field does not depend on the grid's step
        self.ky, self.kx = _waves(self.padded, w, grid.step)

    def __call__(self, gain) -> Tensor:
        """(H, W) of unit variance, where ``gain(kx, ky)`` is the amplitude of each wave."""
        amplitude = gain(self.kx, self.ky)
        amplitude[0, 0] = 0
        white = self.rng.standard_normal((*amplitude.shape, 2)).view(np.complex128)[..., 0]
        white *= amplitude
        field = scipy.fft.irfft2(white, (self.padded, self.shape[1]), overwrite_x=True, workers=1)
        field = field[: self.shape[0]]
        return torch.from_numpy(field / field.std())

    def power_law(self, slope: float, outer: float, stretch: float = 1.0) -> Tensor:
        """Power falls as k^slope (in two dimensions) below ``outer`` degrees; features are ``stretch`` times as
        long in longitude."""
        return self(lambda kx, ky: ((stretch * kx) ** 2 + ky**2 + outer**-2.0) ** (slope / 4))

    def band(self, longest: float, shortest: float, stretch: float) -> Tensor:
        """Waves between these lengths (degrees), with the amplitudes k^-2 of a stream function whose vorticity
        is alike at all of them; eddies are ``stretch`` times as long in longitude."""

        def gain(kx, ky):
            k2 = (stretch * kx) ** 2 + ky**2
            inside = np.exp(-((k2 * shortest**2) ** 2)) * -np.expm1(-((k2 * longest**2) ** 2))
            return inside / (k2 + longest**-2.0)

        return self(gain)


@lru_cache(maxsize=4)
def _waves(h: int, w: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    return scipy.fft.fftfreq(h, step)[:, None], scipy.fft.rfftfreq(w, step)[None]


@dataclass(frozen=True)
class Vortex:
    """An oval: where, half axes (degrees of longitude and of latitude), turns, and what is in it.

    ``air`` is the cloud, colour and clear of its middle, ``collar`` that of the ring around it, ``hold`` how
    completely they replace what was there.
    """

    latitude: float
    longitude: float
    radius: tuple[float, float]
    turns: float
    air: tuple[float, float, float]
    collar: tuple[float, float, float] | None = None
    hold: float = 0.9


def _vortices(rng: np.random.Generator, grid: MercatorGrid, spot: float | None) -> list[Vortex]:
    """The vortices of one weather: kinds and latitudes of the climate, places and sizes of the day."""
    share = grid.width / 360
    out = []

    def add(count, latitude, spread, size, aspect, turns, air, collar=None, hold=0.9, vary=0.3):
        few = round(count * share + rng.uniform(-0.5, 0.5))
        n = max(1, few if count < 10 else rng.poisson(count * share))
        gap = grid.width / n
        start = rng.uniform(0, grid.width)
        for i in range(n):
            at = grid.west - (start + gap * (i + rng.uniform(-0.35, 0.35))) % grid.width
            lat = latitude + rng.normal(0, spread)
            r = size * np.exp(rng.normal(0, vary))
            tint = 1 + rng.normal(0, [0.02, 0.12, 0.2])
            tall = r / np.cos(np.radians(lat))  # in degrees of longitude
            if tall > 2 * grid.step:  # smaller ones could not be drawn
                here = tuple(np.multiply(air, tint))
                out.append(Vortex(lat, at % 360, (tall * aspect, r), turns, here, collar, hold))

    white, brown, dark = (0.90, 0.30, 0.02), (0.66, 1.25, 0.12), (0.66, 0.60, 0.40)
    for band, n in ((-38, 24), (-43, 36), (-50, 50), (-57, 50), (-64, 40), (-71, 26)):
        add(n, band, 2.0, 0.36, 1.25, -0.9, white, dark, 0.55, 0.5)
        add(n, band, 2.0, 0.34, 1.3, 0.9, dark, None, 0.5, 0.5)
    for band, n in ((38, 16), (43, 28), (50, 36), (58, 40), (66, 34), (72, 22)):
        add(n, band, 2.0, 0.34, 1.25, 0.9, white, dark, 0.55, 0.5)
        add(n, band, 2.0, 0.33, 1.3, -0.9, dark, brown, 0.5, 0.5)
    add(7, -33.2, 0.3, 1.25, 1.2, -1.6, (0.91, 0.27, 0.0), (0.76, 0.70, 0.14), 0.95, 0.15)
    add(4, 41.0, 0.4, 1.3, 1.2, 1.4, (0.86, 0.40, 0.02), (0.72, 0.75, 0.2), 0.85, 0.2)
    add(5, 15.6, 0.5, 0.75, 3.6, 0.5, (0.60, 1.75, 0.08), None, 0.9, 0.25)
    add(6, 19.3, 0.3, 0.8, 1.4, 1.2, (0.88, 0.42, 0.0), None, 0.8, 0.25)
    add(8, -27.5, 0.6, 0.5, 1.6, 1.0, brown, None, 0.8, 0.3)
    if spot is not None:
        out.append(Vortex(-22.3, spot, (6.8, 4.5), -1.7, (0.85, 1.62, 0.02), (0.88, 0.46, 0.02), 0.97))
    return out


def weather(rng: np.random.Generator, grid: MercatorGrid, spot: float | None = None) -> Tensor:
    """One day's air, (3, H, W): cloud, colour, clear on a grid. ``spot`` is the great red spot's longitude.

    The climate (bands, jets, kinds of vortices) is the planet's own.
    """
    h, w = grid.shape
    noise = _Noise(rng, grid)
    lat = grid.latitude
    climate = np.stack([np.interp(lat, _CLIMATE[:, 0], c) for c in _CLIMATE.T[1:]])
    profile = torch.from_numpy(climate)[:, :, None]
    vortices = _vortices(rng, grid, spot)

    row = torch.arange(h, dtype=torch.float64)[:, None].expand(h, w).clone()
    column = torch.arange(w, dtype=torch.float64)[None].expand(h, w).clone()
    for v in vortices:
        _swirl(row, column, grid, v)
    _snap(row)
    _snap(column)
    _stir(noise, grid, profile[3], row, column)

    # what the parcel is made of: its band's air, and noise
    tracers = (*TRACERS, (-4.5, 16.0, 2.5))
    bright, tint, ridge, patch = _sample_squeezed(
        torch.stack([noise.power_law(*t) for t in tracers]), row, column
    )
    origin = sample(wrap(profile.expand(-1, -1, 4)), row, torch.zeros_like(row))
    cloud, colour, clear, _, detail, share = origin
    # where the flow has squeezed a thread below a pixel, it is drawn a pixel wide and fainter
    width = 0.16 + 0.9 * _change(ridge)
    threads = (
        (1 - ridge.abs() / width).clamp(0)
        * (0.16 / width).sqrt()
        * torch.sigmoid(4 * (patch - 1.1 + 1.6 * share))
        * (0.3 + share)
    )
    clear = clear + _festoons(rng, grid, row, column)
    air = torch.stack([
        cloud * (1 + detail * (0.030 * bright - 0.012 * tint)) + 0.10 * threads,
        colour * (1 + detail * (0.16 * tint - 0.06 * bright)) * (1 - 0.35 * threads),
        clear * torch.exp(detail * (0.35 * patch - 0.30 * bright)) * (1 - 0.8 * threads),
    ])  # fmt: skip
    for v in vortices:
        _fill(air, row, grid, v, bright, tint)
    return air.clamp_(min=0)


def _stir(noise: _Noise, grid: MercatorGrid, flow: Tensor, row: Tensor, column: Tensor) -> None:
    """Follow the origins back in time: the jets shear, and the eddies stir, the small ones within the large."""
    h = grid.shape[0]
    jets = np.interp(grid.latitude, _JETS[:, 0], _JETS[:, 1]) / np.cos(np.radians(grid.latitude))
    shear_by_row = torch.from_numpy(jets)[:, None] / 100
    calm = torch.exp(0.6 * noise.power_law(-5.0, 14.0, 3.0))
    for longest, shortest, stretch, reach, steps, shear in EDDIES:
        stream = noise.band(longest, shortest, stretch) * (flow * calm)
        v_row = torch.roll(stream, 1, 1) - torch.roll(stream, -1, 1)
        v_column = torch.zeros_like(stream)
        v_column[1:-1] = stream[2:] - stream[:-2]
        speed = torch.stack([v_row, v_column])
        speed *= reach / grid.step / steps / speed.square().mean().sqrt()
        speed[1] += shear / grid.step / steps * shear_by_row
        speed = wrap(speed)
        for r, c in zip(row.view(-1).split(_AT_ONCE), column.view(-1).split(_AT_ONCE), strict=True):
            for _ in range(steps):
                d_row, d_column = sample(speed, r, c)
                _snap(r.sub_(d_row))
                _snap(c.sub_(d_column))
        row.clamp_(0, h - 1)


def _snap(origin: Tensor) -> None:
    origin.mul_(_LATTICE).round_().div_(_LATTICE)


def _sample_squeezed(fields: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Fields at the origins; where neighbouring pixels come from far apart, from the fields at a quarter or a
    sixteenth of their resolution, so that what is too fine to be seen fades instead of breaking into dots."""
    level = torch.maximum(_change(row), _change(column)).clamp_(min=1).log2_() / 2
    out = sample(wrap(fields), row, column)
    for i in (1, 2):
        fields = F.avg_pool2d(fields[None], 4)[0]
        size = 4**i
        centre = (size - 1) / 2
        coarse = sample(wrap(fields), (row - centre) / size, (column - centre) / size)
        out.lerp_(coarse, (level - (i - 1)).clamp(0, 1))
    return out


def _change(x: Tensor) -> Tensor:
    """(H, W) largest difference to a neighbour: to the right or below."""
    right = (x.roll(-1, 1) - x).abs()
    right[:-1] = torch.maximum(right[:-1], (x[1:] - x[:-1]).abs())
    return right


# longest and shortest wave (degrees), stretch in longitude, mean reach of the displacement (degrees), steps,
# and the jets' shear meanwhile (degrees at 100 m/s)
EDDIES = (
    (10.0, 4.0, 1.7, 1.7, 8, 9.0),
    (4.0, 1.6, 1.4, 0.75, 7, 5.0),
    (1.6, 0.7, 1.2, 0.24, 4, 3.0),
)
# slope of power, outer scale (degrees), stretch in longitude
TRACERS = ((-2.5, 6.0, 3.5), (-2.9, 8.0, 3.5), (-3.9, 3.0, 1.5))


def _window(grid: MercatorGrid, v: Vortex, reach: float) -> tuple[slice, Tensor, Tensor, Tensor]:
    """The rows and columns (wrapped) within ``reach`` radii of a vortex, and the offsets there in radii."""
    h, w = grid.shape
    row, column = (float(x) for x in grid.pixel(v.latitude, v.longitude))
    ry = v.radius[1] / np.cos(np.radians(v.latitude)) / grid.step  # Mercator stretches both ways alike
    rx = v.radius[0] / grid.step
    low, high = max(0, int(row - reach * ry)), min(h, int(row + reach * ry) + 2)
    columns = torch.arange(int(column - reach * rx), int(column + reach * rx) + 2)[:w]
    y = (torch.arange(low, high) - row)[:, None].double() / ry
    x = (columns - column)[None].double() / rx
    return slice(low, high), columns % w, y, x


def _swirl(row: Tensor, column: Tensor, grid: MercatorGrid, v: Vortex) -> None:
    """Turn the origins around a vortex, fastest within it."""
    rows, columns, y, x = _window(grid, v, 2.4)
    angle = 2 * np.pi * v.turns * torch.exp(-(((x**2 + y**2) / 1.3) ** 1.2))
    cos, sin = torch.cos(angle) - 1, torch.sin(angle)
    ry = v.radius[1] / np.cos(np.radians(v.latitude)) / grid.step
    rx = v.radius[0] / grid.step
    row[rows, columns] += ry * (cos * y + sin * x)
    column[rows, columns] += rx * (cos * x - sin * y)


def _fill(air: Tensor, row: Tensor, grid: MercatorGrid, v: Vortex, bright: Tensor, tint: Tensor) -> None:
    """Put a vortex's own air into it, streaked by what its swirl wound up."""
    rows, columns, y, x = _window(grid, v, 1.9)
    streak, hue = bright[rows, columns], tint[rows, columns]
    radius = torch.sqrt(x**2 + y**2) * (1 + 0.08 * hue) + 0.04 * streak
    inside = v.hold * torch.sigmoid((1 - radius) / 0.07)
    here = air[:, rows, columns]
    if v.collar:
        ring = 0.75 * v.hold * torch.exp(-(((radius - 1.15) / 0.18) ** 2))
        here = here + ring * (_column(v.collar) - here)
    own = _column(v.air) * torch.stack(
        [1 + 0.018 * streak - 0.02 * (1 - radius), 1 + 0.07 * hue + 0.15 * (0.6 - radius), 1 + 0.2 * hue]
    )
    air[:, rows, columns] = here + inside * (own - here)


def _festoons(rng: np.random.Generator, grid: MercatorGrid, row: Tensor, column: Tensor) -> Tensor:
    """Clear air north of the equator: a wave train of hot spots at 7.4° north, each with a plume to the
    south-west."""
    h, w = grid.shape
    count = max(2, round(11 * grid.width / 360))
    step = np.radians(grid.step)
    south, north = (int(grid.pixel(lat, 0.0)[0]) for lat in (-3, 12))
    rows = slice(north, south)
    lat = torch.rad2deg(2 * torch.atan(torch.exp(step * ((h - 1) / 2 - row[rows]))) - np.pi / 2)
    out = torch.zeros_like(row)
    for i in range(count):
        start = (i + rng.uniform(0.2, 0.8)) * w / count
        lean, strength = rng.uniform(1.6, 3.2), rng.uniform(0.25, 0.9)
        dx = (torch.remainder(column[rows] - start + w / 2, w) - w / 2) * grid.step
        spot = torch.exp(-((dx / 3.0) ** 2) - ((lat - 7.4) / 0.9) ** 2)
        tail = torch.exp(-(((dx + lean * (7.4 - lat)) / 1.6) ** 2)) * torch.sigmoid((7.4 - lat) * 3)
        out[rows] += strength * (1.1 * spot + 0.45 * tail * torch.exp(-(((lat - 7.4) / 3.5) ** 2)))
    return out
