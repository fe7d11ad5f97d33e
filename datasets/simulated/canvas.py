"""The drawing board: polygons and trees on a fine raster of object numbers, then light and bands.

Every drawn thing is an *object*: a row of numbers (two end-member materials, how they mix, brightness,
texture, height, tilt of a roof face). The raster holds object numbers only; spectra are integrated into
bands per object, not per pixel, and a pixel's value is looked up, mixed and lit.

Processors differ in last bits (vector units, fused products, orders of sums). Everything is float64, so that these
are far too small to move a pixel across an edge: of a polygon, of a shadow, of the final rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from pansharp_bench.datasets.simulated.spectra import NAMES, TABLE, Light

SUPER = 2  # fine cells per PAN pixel, each way
ROWS = 64  # PAN rows rendered at a time, to bound memory
SNAP = 2.0**20  # steps per cell in which corners are placed

# columns of the object table
(
    A,
    B,
    BRIGHT,
    SLOPE,
    MIX,
    MIX_COARSE,
    MIX_FINE,
    MIX_STRIPE,
    COARSE,
    FINE,
    STRIPE,
    KX,
    KY,
    PHASE,
    TILT,
    HEIGHT,
) = range(16)


def noise(rng: np.random.Generator, n: int, exponents: Sequence[float]) -> np.ndarray:
    """Random fields (len(exponents), n, n) of unit variance, power falling as frequency^-exponent.

    White noise in the frequency domain, shaped.
    """
    m = scipy.fft.next_fast_len(n, real=True)
    out = np.empty((len(exponents), n, n))
    for texture, exponent in zip(out, exponents, strict=True):
        white = rng.standard_normal((m, m // 2 + 1, 2)).view(np.complex128)[..., 0]
        white *= _amplitude(m, exponent)
        made = scipy.fft.irfft2(white, (m, m), overwrite_x=True)[:n, :n]
        np.divide(made, made.std(), out=texture)
    return out


@lru_cache(maxsize=8)
def _amplitude(n: int, exponent: float) -> np.ndarray:
    f = np.hypot(scipy.fft.fftfreq(n)[:, None], scipy.fft.rfftfreq(n))
    f[0, 0] = np.inf
    return f ** (-exponent / 2)


@dataclass(frozen=True)
class Mask:
    """A part of the fine raster: ``inside`` says which cells, from row ``top`` and column ``left`` on."""

    top: int
    left: int
    inside: np.ndarray


@dataclass(frozen=True)
class Frame:
    """Local coordinates (m) of a quarter: turned about the scene's centre and gently bent, as streets are."""

    centre: tuple[float, float]
    angle: float
    waves: np.ndarray = field(
        default_factory=lambda: np.zeros((0, 5))
    )  # amplitude (u, v), wave vector, phase

    def __call__(self, uv: np.ndarray) -> np.ndarray:
        uv = np.asarray(uv, dtype=np.float64)
        if len(self.waves):
            phase = uv @ self.waves[:, 2:4].T + self.waves[:, 4]
            uv = uv + np.sin(phase) @ self.waves[:, :2]
        c, s = np.cos(self.angle), np.sin(self.angle)
        return uv @ np.array([[c, s], [-s, c]]) + self.centre

    @classmethod
    def random(
        cls, rng: np.random.Generator, centre: tuple[float, float], angle: float, bend: float
    ) -> Frame:
        k = 3
        length = rng.uniform(350, 900, k)
        heading = rng.uniform(0, 2 * np.pi, k)
        wave = 2 * np.pi / length[:, None] * np.stack([np.cos(heading), np.sin(heading)], 1)
        size = bend * length[:, None] / 600 * rng.normal(0, 1, (k, 2))
        return cls(centre, angle, np.concatenate([size, wave, rng.uniform(0, 2 * np.pi, (k, 1))], 1))


def quads(centres: ArrayLike, sizes: ArrayLike, angles: ArrayLike = 0.0) -> np.ndarray:
    """Rectangles as (n, 4, 2) corners from centres (n, 2), full sizes (n, 2) and turns (n,)."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2 * np.asarray(sizes).reshape(-1, 1, 2)
    angles = np.broadcast_to(angles, len(corners))
    c, s = np.cos(angles)[:, None], np.sin(angles)[:, None]
    turned = np.stack(
        [corners[..., 0] * c - corners[..., 1] * s, corners[..., 0] * s + corners[..., 1] * c], -1
    )
    return turned + np.asarray(centres).reshape(-1, 1, 2)


def rect(u0: float, v0: float, u1: float, v1: float) -> np.ndarray:
    return np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]])


def ribbon(line: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """A closed polygon along a line (k, 2)."""
    line = np.asarray(line, dtype=np.float64)
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    side = np.stack([-along[:, 1], along[:, 0]], 1) * (np.broadcast_to(width, len(line)) / 2)[:, None]
    return np.concatenate([line + side, (line - side)[::-1]])


def offset(line: np.ndarray, distance: float) -> np.ndarray:
    """The line moved sideways."""
    along = np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    return line + np.stack([-along[:, 1], along[:, 0]], 1) * distance


def blob(
    rng: np.random.Generator, centre: ArrayLike, radius: float, rough: float = 0.3, k: int = 40
) -> np.ndarray:
    """An irregular closed outline."""
    t = np.linspace(0, 2 * np.pi, k, endpoint=False)
    order = np.arange(1, 8)
    wave = rng.normal(0, 1, (7, 2))[:, :, None] * np.stack(
        [np.cos(order[:, None] * t), np.sin(order[:, None] * t)], 1
    )
    r = radius * np.exp(rough * (wave.sum(1) / order[:, None] ** 1.2).sum(0) * 0.6)
    stretch = rng.uniform(0.7, 1.3)
    return np.stack([r * np.cos(t) * stretch, r * np.sin(t) / stretch], 1) + np.asarray(centre)


def densify(points: np.ndarray, step: float = 15.0) -> np.ndarray:
    """Extra points on long edges of a closed outline, so that a bent frame bends them too."""
    nxt = np.roll(points, -1, axis=0)
    parts = []
    for p, q in zip(points, nxt, strict=True):
        k = max(1, int(np.hypot(*(q - p)) // step))
        parts.append(p + (q - p) * (np.arange(k) / k)[:, None])
    return np.concatenate(parts)


class Canvas:
    """Fine raster of object numbers over ``size`` metres, with cells of ``cell`` metres."""

    def __init__(
        self, rng: np.random.Generator, pixels: int, gsd: float, azimuth: float, elevation: float
    ) -> None:
        self.rng, self.pixels, self.gsd = rng, pixels, gsd
        self.cell = gsd / SUPER
        self.n = pixels * SUPER
        self.size = self.n * self.cell
        self.azimuth, self.elevation = (
            azimuth,
            elevation,
        )  # radians; azimuth: direction the sun stands in, x to y
        self.rows: list[tuple[float, ...]] = []
        self.image = Image.new("I", (self.n, self.n), 0)
        self._pen = ImageDraw.Draw(self.image)
        self.frame = Frame((0.0, 0.0), 0.0)
        lean, side = np.tan(np.radians(rng.uniform(0, 9))), rng.uniform(0, 2 * np.pi)
        self.view = lean * np.array(
            [np.cos(side), np.sin(side)]
        )  # metres a roof is displaced per metre of height
        self.crown = np.zeros((self.n, self.n))  # height of trees above their ground
        self.leaf = np.zeros((self.n, self.n), np.uint16)  # tree object, 0: none
        self.terrain: np.ndarray | None = None

    # -- objects ---------------------------------------------------------------------------------------

    def new(
        self, a: str, b: str = "", mix: float = 0.0, *, bright: float = 1.0, vary: float = 0.06,
        slope: float = 0.03, tint: float = 0.0,
        coarse: float = 0.05, fine: float = 0.04, mix_coarse: float = 0.0, mix_fine: float = 0.0,
        stripe: float = 0.0, mix_stripe: float = 0.0, period: float = 0.0, along: float = 0.0,
        height: float = 0.0, tilt: float = 1.0,
    ) -> int:  # fmt: skip
        """A new object; returns its number.

        ``a`` and ``b`` are materials, mixed in the share ``mix`` (of b) plus noise; ``vary`` is the spread of
        its brightness (log), ``slope`` of its spectral tilt (around ``tint``); ``coarse`` and
        ``fine`` are amplitudes of texture and ``stripe`` of parallel waves of ``period`` metres, whose
        lines run along the angle ``along``.
        """
        rng = self.rng
        if period:
            k = 2 * np.pi / period
            kx, ky, phase = -np.sin(along) * k * self.gsd, np.cos(along) * k * self.gsd, rng.uniform(0, 6.28)
        else:
            kx = ky = phase = 0.0
        self.rows.append((
            NAMES[a], NAMES[b or a], bright * np.exp(vary * rng.standard_normal()),
            tint + slope * rng.standard_normal(),
            mix, mix_coarse, mix_fine, mix_stripe, coarse, fine, stripe, kx, ky, phase, tilt, height,
        ))  # fmt: skip
        return len(self.rows)

    def facing(self, pitch: float, heading: float) -> float:
        """Brightness of a roof face (relative to level ground) that slopes down towards a heading (radians)."""
        cosine = np.cos(pitch) + np.sin(pitch) * np.cos(heading - self.azimuth) / np.tan(self.elevation)
        return float(np.clip(cosine, 0.12, 1.8))

    def heading(self, angle: float) -> float:
        """An angle of the current frame as an angle of the picture (bends are gentle and left out)."""
        return angle + self.frame.angle

    # -- drawing ---------------------------------------------------------------------------------------

    def seen(self, points: np.ndarray, margin: float = 0.0) -> bool:
        """Whether an outline of the current frame may touch the raster."""
        xy = self.frame(points)
        low, high = xy.min(0), xy.max(0)
        return bool((high > -margin).all() and (low < self.size + margin).all())

    def lift(self, points: np.ndarray, height: float) -> np.ndarray:
        """Points of the current frame, displaced as the oblique view displaces what stands this high."""
        c, s = np.cos(self.frame.angle), np.sin(self.frame.angle)
        return points + height * (np.array([[c, s], [-s, c]]) @ self.view)

    def walls(self, q: np.ndarray, height: float, wall: str = "facade") -> np.ndarray:
        """The sides of a building over a convex outline, as far as they are seen; returns its roof's outline."""
        roof = self.lift(q, height)
        if height * np.hypot(*self.view) > 0.5 * self.cell:
            (ax, ay), (bx, by) = q[1] - q[0], q[2] - q[1]
            turn = 1.0 if ax * by > ay * bx else -1.0
            shift = roof[0] - q[0]
            for i in range(len(q)):
                edge = q[(i + 1) % len(q)] - q[i]
                out = turn * np.array([edge[1], -edge[0]])
                if out @ shift < 0:  # the side turned to the viewer
                    head = self.heading(float(np.arctan2(out[1], out[0])))
                    j = (i + 1) % len(q)
                    sunny = float(np.clip(np.cos(head - self.azimuth) / np.tan(self.elevation), 0.0, 1.6))
                    self.fill(
                        np.array([q[i], q[j], roof[j], roof[i]]),
                        self.new(wall, "glass", 0.25, vary=0.15, fine=0.08, height=0.7 * height, tilt=sunny),
                    )
        return roof

    def cells(self, points: np.ndarray) -> np.ndarray:
        """Raster coordinates (..., 2), whole at a cell's centre, of points of the current frame.

        They are snapped to a fine step: drawing cuts the fraction off, and a corner that lies on a whole number by
        construction must not fall to either side with its last bit.
        """
        xy = self.frame(points.reshape(-1, 2)).reshape(points.shape) / self.cell - 0.5
        return np.rint(xy * SNAP) / SNAP

    def fill(self, outline: np.ndarray, number: int) -> None:
        """Fill a polygon (k, 2) of the current frame."""
        xy = self.cells(outline)
        self._pen.polygon(xy.ravel().tolist(), fill=number)

    def fills(self, outlines: np.ndarray, numbers: Sequence[int] | np.ndarray) -> None:
        """Fill many polygons of equal length: (n, k, 2)."""
        if len(outlines) == 0:
            return
        xy = self.cells(outlines)
        inside = (xy.max(1) > 0).all(1) & (xy.min(1) < self.n).all(1)
        pen = self._pen
        for points, number in zip(xy[inside].reshape(-1, outlines.shape[1] * 2).tolist(),
                                  np.asarray(numbers)[inside].tolist(), strict=True):  # fmt: skip
            pen.polygon(points, fill=number)

    def strip(self, line: np.ndarray, width: float | np.ndarray, number: int) -> None:
        """A ribbon along a line of the current frame."""
        self.fill(ribbon(line, width), number)

    def dashes(self, line: np.ndarray, width: float, dash: float, gap: float, number: int) -> None:
        """Dashes along a line of the current frame."""
        step = np.hypot(*np.diff(line, axis=0).T)
        at = np.concatenate([[0], np.cumsum(step)])
        starts = np.arange(0, at[-1] - dash, dash + gap)
        if len(starts) == 0:
            return
        p = np.stack([np.interp(starts, at, line[:, i]) for i in (0, 1)], 1)
        q = np.stack([np.interp(starts + dash, at, line[:, i]) for i in (0, 1)], 1)
        d = q - p
        self.fills(quads((p + q) / 2, np.stack([np.full(len(p), dash), np.full(len(p), width)], 1),
                         np.arctan2(d[:, 1], d[:, 0])), np.full(len(p), number))  # fmt: skip

    def mask(self, outlines: Iterable[np.ndarray], within: np.ndarray) -> Mask:
        """Boolean fine raster of polygons of the current frame, cut to the polygon ``within``."""
        outer = self.cells(within)
        low = np.maximum(np.floor(outer.min(0)), 0).astype(int)
        high = np.minimum(np.ceil(outer.max(0)) + 1, self.n).astype(int)
        if (high <= low).any():
            return Mask(0, 0, np.zeros((0, 0), bool))
        image, frame = (Image.new("L", tuple(high - low), 0) for _ in range(2))
        pen = ImageDraw.Draw(image)
        for outline in outlines:
            pen.polygon((self.cells(outline) - low).ravel().tolist(), fill=1)
        ImageDraw.Draw(frame).polygon((outer - low).ravel().tolist(), fill=1)
        return Mask(int(low[1]), int(low[0]), (np.asarray(image) & np.asarray(frame)).view(bool))

    # -- trees -----------------------------------------------------------------------------------------

    def trees(self, at: ArrayLike, radius: ArrayLike, species: Sequence[int]) -> None:
        """Single trees at points (n, 2) of the current frame, of these crown radii (m)."""
        at = np.asarray(at, dtype=np.float64).reshape(-1, 2)
        if len(at) == 0:
            return
        radius = np.broadcast_to(radius, len(at))
        xy = self.cells(at) + 0.5
        kinds = np.asarray(species)[self.rng.integers(0, len(species), len(at))]
        turn = self.rng.integers(0, CROWNS, len(at))
        for (x, y), r, kind, which in zip(xy.tolist(), (radius / self.cell).tolist(), kinds.tolist(), turn.tolist(),
                                          strict=True):  # fmt: skip
            size = max(1, min(round(r), 40))
            x0, y0 = int(x) - size, int(y) - size
            side = 2 * size + 1
            if x0 < 0 or y0 < 0 or x0 + side > self.n or y0 + side > self.n:
                continue
            dome = crown(size, which)
            height = self.crown[y0 : y0 + side, x0 : x0 + side]
            h = dome * (1.5 * r * self.cell)
            higher = h > height
            height[higher] = h[higher]
            self.leaf[y0 : y0 + side, x0 : x0 + side][higher] = kind

    def wood(self, area: Mask, radius: float, species: Sequence[int]) -> None:
        """A closed canopy over a mask; crowns of about this radius (m), whole ones only."""
        tile = canopy(CANOPY_RADII[np.abs(np.log(np.array(CANOPY_RADII) * self.cell / radius)).argmin()])
        h, w = area.inside.shape
        if not area.inside.any():
            return
        shift = self.rng.integers(0, tile.height.shape[0], 2)
        grid = np.ix_(
            *((np.arange(k) + s) % tile.height.shape[0] for k, s in zip((h, w), shift, strict=True))
        )
        y = (np.arange(h)[:, None] + tile.dy[grid]).clip(0, h - 1)
        x = (np.arange(w)[None] + tile.dx[grid]).clip(0, w - 1)
        window = np.s_[area.top : area.top + h, area.left : area.left + w]
        height = tile.height[grid] * (1.7 * radius)
        here = area.inside[y, x] & (height > self.crown[window])
        kinds = np.asarray(species, np.uint16)[tile.kind[grid] % len(species)]
        np.copyto(self.crown[window], height, where=here)
        np.copyto(self.leaf[window], kinds, where=here)

    # -- light -----------------------------------------------------------------------------------------

    def objects(self) -> np.ndarray:
        """The finished raster of object numbers (row index into the table), trees on top."""
        raster = np.frombuffer(self.image.tobytes(), np.int32).reshape(self.n, self.n)
        raster = np.where(self.leaf > 0, self.leaf, raster)
        return np.maximum(raster, 1) - 1

    def render(self, light: Light, textures: np.ndarray) -> np.ndarray:
        """DN of every band (C+1, pixels, pixels) on the PAN grid, without blur beyond the pixel's own area."""
        table = np.asarray(self.rows)
        ids = self.objects()
        spectra = self._spectra(table, light)
        height = np.take(table[:, HEIGHT], ids)
        height += self.crown
        lit = self._lit(height)
        del height
        out = np.empty((spectra[0].shape[1], self.pixels, self.pixels))
        for start in range(0, self.pixels, ROWS):
            self._render_rows(slice(start, start + ROWS), table, ids, lit, spectra, light, textures, out)
        return out

    def _render_rows(
        self, rows: slice, table: np.ndarray, ids: np.ndarray, lit: np.ndarray,
        spectra: tuple[np.ndarray, np.ndarray], light: Light, textures: np.ndarray, out: np.ndarray,
    ) -> None:  # fmt: skip
        """Some rows of all bands."""
        cells = slice(rows.start * SUPER, rows.stop * SUPER)
        ids, lit = ids[cells], lit[cells]
        out, textures = out[:, rows], textures[:, rows]

        # shares of the direct beam and of the sky's light that fall on each cell
        tree = self.leaf[cells] > 0
        sky = np.where(tree, 0.62, 0.72) + 0.28 * lit
        direct = np.take(table[:, TILT], ids)
        direct[tree] *= self._dome(cells.start, tree)
        direct *= lit
        if self.terrain is not None:
            direct *= self.terrain[rows].repeat(SUPER, 0).repeat(SUPER, 1)

        # textures on the PAN grid, from the object under each pixel's first cell
        top = np.ascontiguousarray(ids[::SUPER, ::SUPER])

        def column(k: int) -> np.ndarray:
            return np.take(table[:, k], top)

        coarse, grit, mixing, mixing_fine = textures
        y, x = rows.start + np.arange(len(top))[:, None], np.arange(self.pixels)
        stripe, mix_stripe = column(STRIPE), column(MIX_STRIPE)
        wave = np.sin(column(KX) * x + column(KY) * y + column(PHASE) + 0.5 * mixing)
        wave += 0.5 * mixing_fine * (stripe + mix_stripe > 0)
        bright = (1 + column(COARSE) * coarse + column(FINE) * grit + stripe * wave).clip(0.25, 2.5)
        share = (column(MIX) + column(MIX_COARSE) * mixing + column(MIX_FINE) * mixing_fine
                 + mix_stripe * wave).clip(0, 1)  # fmt: skip

        shape = len(top), SUPER, self.pixels, SUPER
        parts = [[a.reshape(shape)[:, i, :, j] for a in (ids, direct, sky)]
                 for i in range(SUPER) for j in range(SUPER)]  # fmt: skip
        mixed = np.any([number != top for number, _, _ in parts], 0)
        mean_direct, mean_sky = (sum(part) / len(parts) for part in list(zip(*parts, strict=True))[1:])
        subs = [[a[mixed] for a in part] for part in parts]
        edge_share, edge_bright = share[mixed], bright[mixed]
        for k, (a, b) in enumerate(zip(*(s.T for s in spectra), strict=True)):
            sun, air, step = light.direct[k], light.sky[k], b - a
            value = (np.take(a, top) + share * np.take(step, top)) * bright
            value *= mean_direct * sun + mean_sky * air
            of_cells = sum((a[i] + edge_share * step[i]) * (d * sun + s * air) for i, d, s in subs)
            value[mixed] = of_cells * edge_bright / len(parts)
            np.add(value, light.haze[k], out=out[k])

    def _spectra(self, table: np.ndarray, light: Light) -> tuple[np.ndarray, np.ndarray]:
        """Band reflectances (objects, bands) of both end members."""
        base = np.einsum("mw,jwb->jmb", TABLE, light.moments)
        slope = table[:, SLOPE, None]
        both = []
        for column in (A, B):
            m = base[:, table[:, column].astype(int)]
            both.append((m[0] + slope * m[1] + slope**2 * m[2]) * table[:, BRIGHT, None])
        return both[0], both[1]

    def _lit(self, height: np.ndarray) -> np.ndarray:
        """1 where the sun is seen, 0 in shadow, by the shadow's upper surface found in doubling steps."""
        drop = np.tan(self.elevation) * self.cell
        towards = np.array([np.sin(self.azimuth), np.cos(self.azimuth)])  # rows, columns, towards the sun
        top = float(height.max())
        if top <= 0:
            return np.ones_like(height)
        surface, moved = np.empty_like(height), np.empty_like(height)
        _move(height, towards, surface)
        surface -= drop
        step = 1
        while step * drop < top:
            _move(surface, towards * step, moved)
            moved -= step * drop
            np.maximum(surface, moved, out=surface)
            step *= 2
        surface -= height
        surface /= -0.35
        surface += 1
        return surface.clip(0, 1, out=surface)

    def _dome(self, first: int, tree: np.ndarray) -> np.ndarray:
        """Lambert's shading of the crowns, at the cells of trees in some rows from ``first`` on."""
        y, x = np.nonzero(tree)
        y += first
        last = self.n - 1

        def soft_slope(high: np.ndarray, low: np.ndarray) -> np.ndarray:
            return ((high - low) / (2 * self.cell)).clip(-2.5, 2.5) * 0.4

        gy = soft_slope(self.crown[np.minimum(y + 1, last), x], self.crown[np.maximum(y - 1, 0), x])
        gx = soft_slope(self.crown[y, np.minimum(x + 1, last)], self.crown[y, np.maximum(x - 1, 0)])
        slope = 1 - (gx * np.cos(self.azimuth) + gy * np.sin(self.azimuth)) / np.tan(self.elevation)
        return (slope / np.sqrt(1 + gx * gx + gy * gy)).clip(0.15, 1.7)


def _move(image: np.ndarray, by: np.ndarray, out: np.ndarray) -> None:
    """The value found ``by`` (rows, columns) away, zero beyond the border."""
    dy, dx = (round(float(v)) for v in by)
    out.fill(0)
    n, m = image.shape
    if abs(dy) < n and abs(dx) < m:
        out[max(0, -dy) : n - max(0, dy), max(0, -dx) : m - max(0, dx)] = (
            image[max(0, dy) : n - max(0, -dy), max(0, dx) : m - max(0, -dx)]
        )  # fmt: skip


CROWNS = 12


@cache
def crown(size: int, which: int) -> np.ndarray:
    """A crown's height, 0..1, on 2·size+1 cells: a lumpy dome, one of CROWNS."""
    rng = np.random.default_rng([77, size, which])
    y, x = np.mgrid[-size : size + 1, -size : size + 1] / (size + 0.35)
    angle = np.arctan2(y, x)
    outline = 1 + sum(rng.normal(0, 0.10 / k) * np.cos(k * angle + rng.uniform(0, 6.28)) for k in range(2, 6))
    r = np.hypot(x, y) / outline
    dome = np.sqrt((1 - r**2).clip(0))
    lumps = sum(
        weight * _lumps(rng, len(dome), size * share) for weight, share in ((0.16, 0.22), (0.10, 0.09))
    )
    return (dome * (1 + lumps)).clip(0)


def _lumps(rng: np.random.Generator, n: int, scale: float) -> np.ndarray:
    """Smooth noise of unit variance, its bumps of about this scale (cells)."""
    field = gaussian_filter(rng.standard_normal((n, n)), max(scale, 0.5), mode="wrap")
    return field / max(field.std(), 1e-6)


@dataclass(frozen=True)
class Canopy:
    height: np.ndarray
    dy: np.ndarray  # towards the crown's centre, cells
    dx: np.ndarray
    kind: np.ndarray


CANOPY_RADII = (3, 4, 6, 8, 11, 15, 20, 28)  # cells


@lru_cache(maxsize=len(CANOPY_RADII))
def canopy(radius: int) -> Canopy:
    """A periodic tile of closed canopy: crowns of about this radius (cells), the highest dome wins."""
    rng = np.random.default_rng([78, radius])
    n = max(320, 36 * radius)
    pitch = 1.45 * radius
    k = max(3, int(n / pitch))
    gy, gx = np.mgrid[:k, :k]
    cy = (gy + 0.5 + rng.uniform(-0.45, 0.45, (k, k))).ravel() * n / k
    cx = (gx + 0.5 * (gy % 2) + 0.5 + rng.uniform(-0.45, 0.45, (k, k))).ravel() * n / k
    r = radius * np.exp(rng.normal(0, 0.22, k * k))
    tall = np.exp(rng.normal(0, 0.18, k * k))
    kind = rng.integers(0, 256, k * k)
    height = np.zeros((n, n))
    dy, dx = np.zeros((n, n), np.int16), np.zeros((n, n), np.int16)
    kinds = np.zeros((n, n), np.uint8)
    for i in range(k * k):
        size = max(1, round(r[i]))
        span = np.arange(-size, size + 1)
        window = ((round(cy[i]) + span) % n)[:, None], ((round(cx[i]) + span) % n)[None]
        h = crown(size, int(kind[i]) % CROWNS) * tall[i]
        higher = h > height[window]
        y, x = (np.broadcast_to(w, higher.shape)[higher] for w in window)
        height[y, x], kinds[y, x] = h[higher], kind[i]
        offsets = np.nonzero(higher)
        dy[y, x], dx[y, x] = size - offsets[0], size - offsets[1]
    return Canopy(height, dy, dx, kinds)
