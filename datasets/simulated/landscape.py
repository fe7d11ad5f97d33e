"""What stands on the ground: quarters of streets and blocks, fields, woods, water, drawn on a Canvas.

A landscape is laid out from the coarse to the fine: large curves first (river, main road), which part the
scene into quarters, each with its own street direction and gentle bend; streets split a quarter into blocks
again and again; a block's use follows a smooth zoning field; each use has a recipe that fills the block.
All lengths are metres.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline

from pansharp_bench.datasets.simulated.canvas import (
    Canvas,
    Frame,
    Mask,
    blob,
    densify,
    noise,
    offset,
    quads,
    rect,
)

Block = tuple[float, float, float, float]


@dataclass(frozen=True)
class Style:
    """What a scene has in common: its soils, plants, roofs and habits."""

    soils: tuple[str, ...]
    grass: tuple[str, str, float]  # green, dry, share of dry
    trees: tuple[str, ...]
    flat_roofs: tuple[str, ...]
    pitched_roofs: tuple[str, ...]
    halls: tuple[str, ...]
    crops: dict[str, float]
    leafy: float  # how many trees stand in gardens and streets
    crown: float  # usual crown radius
    pitched: float  # share of pitched roofs among small houses
    tidy: float  # 1: clean yards; 0: cluttered ones
    contrast: float = 0.4  # spread of the brightness of small roofs (log)
    bare_twigs: float = 0.0  # share of leafless branches in the crowns


WEST = Style(
    ("soil", "soil-dark"), ("lawn", "dry-grass", 0.25),
    ("broadleaf", "broadleaf", "broadleaf-light", "conifer"),
    ("gravel-roof", "tar", "white-roof", "concrete-dark", "metal", "metal-dark", "tar", "membrane"),
    ("shingle", "shingle", "shingle-brown", "shingle-pale", "gravel-roof", "metal", "shingle-pale", "membrane"),
    ("membrane", "metal", "metal", "gravel-roof", "tar", "metal-dark", "concrete-dark"),
    {"crop": 3, "young": 2, "ploughed": 2, "stubble": 1, "fallow": 1},
    leafy=1.9, crown=3.8, pitched=1.0, tidy=0.9,
)  # fmt: skip
EAST = Style(
    ("soil", "soil-pale"), ("meadow", "dry-grass", 0.5), ("broadleaf", "broadleaf-dry", "conifer"),
    ("concrete", "concrete-dark", "concrete-dark", "gravel-roof", "tar", "tile-grey", "steel-blue"),
    ("tile-grey", "tile-grey", "tile-red", "tile-brown", "concrete-dark"),
    ("steel-blue", "steel-blue", "steel-cobalt", "metal", "metal-bright", "metal-dark", "steel-red",
     "concrete-dark", "concrete"),
    {"crop": 2, "young": 3, "ploughed": 4, "stubble": 2, "fallow": 2, "greenhouse": 0.6, "orchard": 1.5},
    leafy=0.45, crown=2.4, pitched=0.35, tidy=0.45, contrast=0.28,
)  # fmt: skip
WINTER = replace(
    EAST, soils=("soil-grey", "soil-pale", "soil", "soil-dark", "soil-pale"), grass=("reed", "winter-grass", 0.85),
    flat_roofs=("concrete", "concrete-dark", "concrete-dark", "gravel-roof", "tar", "tile-grey", "tile-grey",
                "metal-dark"),
    halls=("steel-blue", "metal", "metal", "metal-dark", "concrete-dark", "concrete", "gravel-roof", "metal"),
    trees=("broadleaf-dry", "conifer", "broadleaf-dry", "shrub"),
    crops={"crop": 0.7, "young": 2, "ploughed": 5, "stubble": 3, "fallow": 3, "greenhouse": 0.5, "orchard": 1},
    leafy=0.4, bare_twigs=0.7, contrast=0.22,
)  # fmt: skip
SOUTH = Style(
    ("soil-red", "soil"), ("meadow", "dry-grass", 0.2), ("broadleaf", "broadleaf-light", "broadleaf"),
    ("concrete", "concrete-dark", "tile-red", "metal", "rust", "tar", "tile-brown", "metal-dark"),
    ("tile-red", "tile-red", "tile-brown", "metal"),
    ("metal", "metal-bright", "steel-blue", "rust", "membrane", "metal-dark"),
    {"crop": 3, "young": 2, "ploughed": 2, "orchard": 2, "fallow": 2, "paddy": 1},
    leafy=0.9, crown=3.4, pitched=0.4, tidy=0.5,
)  # fmt: skip
DRY = Style(
    ("loess", "soil-pale", "sand"), ("dry-grass", "loess", 0.55), ("broadleaf-dry", "shrub", "broadleaf"),
    ("concrete", "loess", "concrete-dark", "paving", "gravel-roof", "membrane"),
    ("tile-brown", "concrete"), ("metal", "metal-bright", "concrete", "rust", "steel-blue"),
    {"ploughed": 4, "young": 1.5, "crop": 1, "fallow": 3, "orchard": 2},
    leafy=0.3, crown=2.2, pitched=0.05, tidy=0.4,
)  # fmt: skip
STYLES = {"west": WEST, "east": EAST, "winter": WINTER, "south": SOUTH, "dry": DRY}


class Land:
    """Draws one scene. Recipes take a block (u0, v0, u1, v1) of the canvas's current frame."""

    def __init__(self, canvas: Canvas, style: Style) -> None:
        self.c, self.rng, self.style = canvas, canvas.rng, style
        rng = self.rng
        self.soil, self.soil2 = (str(rng.choice(style.soils)) for _ in range(2))
        green, dry, share = style.grass
        self.grass = (green, dry, float(np.clip(share + rng.normal(0, 0.15), 0.02, 0.9)))
        twigs = style.bare_twigs * rng.uniform(0.5, 1.3)
        self.species = [
            canvas.new(str(rng.choice(style.trees)), "bark", min(rng.uniform(0,
                       0.35) + twigs * rng.uniform(0, 1.4), 0.95),
                       bright=rng.uniform(0.8, 1.2), vary=0.25, slope=0.2, fine=0.16, coarse=0.06,
                       mix_fine=0.08 + 0.1 * twigs)
            for _ in range(24)
        ]  # fmt: skip
        self.asphalt = str(rng.choice(["asphalt", "asphalt-old", "asphalt", "concrete-dark"]))
        self.fine = canvas.gsd < 0.5
        self.zone = rng.uniform(0, 2 * np.pi, 4)
        kinds = (
            ["car-white"] * 4 + ["car-silver"] * 5 + ["car-grey"] * 5 + ["car-black"] * 6 + ["car-red"] * 2
        )
        self.paints = [
            canvas.new(k, vary=0.35, slope=0.1, coarse=0, fine=0, height=1.4) for k in [*kinds, "car-blue"]
        ]
        self.glass = canvas.new("glass", height=1.4, coarse=0, fine=0)
        self.lorries = [
            canvas.new(k, vary=0.2, height=3.2) for k in ("car-white", "metal", "steel-blue", "rust")
        ]
        junk = ("concrete", "metal", "membrane", "rust", "metal-dark", "tar", "steel-blue", "bark", "soil-dark",
                "tile-red", "concrete-dark", "metal-dark", "tile-grey")  # fmt: skip
        self.junk = [canvas.new(k, vary=0.4, slope=0.2, height=h) for k in junk for h in (0.6, 1.5, 2.8)]
        self.shrubs = [
            canvas.new("shrub", self.soil, rng.uniform(0, 0.35), vary=0.2, slope=0.1, fine=0.1)
            for _ in range(6)
        ]

    def pick(self, kinds: Sequence[str]) -> str:
        return str(kinds[int(self.rng.integers(len(kinds)))])

    # -- surfaces --------------------------------------------------------------------------------------

    def lawn(self, tidy: float = 0.6) -> int:
        green, dry, share = self.grass
        rough = 1.3 - tidy
        return self.c.new(green, dry, share * rough, vary=0.08, coarse=0.05, fine=0.07 * rough, mix_coarse=0.14,
                          mix_fine=0.10 * rough)  # fmt: skip

    def weeds(self) -> int:
        green, dry, share = self.grass
        plant = green if self.rng.random() > share else dry
        return self.c.new(self.soil, plant, self.rng.uniform(0.2, 0.7), mix_coarse=0.2, mix_fine=0.16, coarse=0.10,
                          fine=0.08, vary=0.1)  # fmt: skip

    def bare(self) -> int:
        return self.c.new(self.soil, self.soil2, 0.4, vary=0.12, mix_coarse=0.28, coarse=0.10, fine=0.06)

    def road(self, kind: str = "") -> int:
        return self.c.new(kind or self.asphalt, "concrete-dark", self.rng.uniform(0.05, 0.35), vary=0.08,
                          coarse=0.05, fine=0.03, mix_coarse=0.08)  # fmt: skip

    def pavement(self) -> int:
        kind = self.pick(["concrete", "concrete-dark", "paving", "asphalt-old", "concrete-dark"])
        return self.c.new(kind, self.soil, 0.1 + 0.4 * (1 - self.style.tidy) * self.rng.random(), vary=0.22,
                          slope=0.08, coarse=0.08, fine=0.07, mix_coarse=0.12, mix_fine=0.08)  # fmt: skip

    def dirt(self) -> int:
        """A trodden or driven way."""
        return self.c.new(self.soil, self.pick(["concrete-dark", "gravel", self.soil2]), self.rng.uniform(0, 0.5),
                          bright=self.rng.uniform(1.1, 1.35), vary=0.05, fine=0.06)  # fmt: skip

    def heap(self) -> int:
        kind = self.pick(["coal", "gravel", "sand", self.soil, "concrete-dark"])
        return self.c.new(kind, self.soil, 0.15, vary=0.1, coarse=0.22, fine=0.12, mix_coarse=0.12)

    def water(self) -> int:
        kind = self.pick(["water", "water-green", "water-green", "water-muddy"])
        return self.c.new(kind, "water-green", self.rng.uniform(0, 0.3), vary=0.1, slope=0.1,
                          coarse=0.03, fine=0.015,
                          mix_coarse=0.10)  # fmt: skip

    # -- plants ----------------------------------------------------------------------------------------

    def canopy(self, area: Mask, radius: float = 0.0) -> None:
        self.c.wood(area, radius or self.style.crown * self.rng.uniform(0.75, 1.2), self.species)

    def scatter(
        self, b: Block, spacing: float, radius: float = 0.0, clump: float = 0.0, shrubs: bool = False
    ) -> None:
        """Trees strewn over a block, about ``spacing`` apart; ``clump`` > 0 draws them together."""
        u0, v0, u1, v1 = b
        n = min(6000, self.rng.poisson(max(0.0, (u1 - u0) * (v1 - v0)) / spacing**2))
        if n == 0:
            return
        at = self.rng.uniform((u0, v0), (u1, v1), (n, 2))
        if clump:
            near = at[self.rng.integers(0, max(1, n // 7), n)] + self.rng.normal(0, 0.7 * spacing, (n, 2))
            at = np.where(self.rng.random((n, 1)) < clump, near, at).clip((u0, v0), (u1, v1))
        r = (radius or self.style.crown) * np.exp(self.rng.normal(-0.15, 0.35, n))
        self.c.trees(at, r, self.shrubs if shrubs else self.species)

    def hedge(self, line: np.ndarray, radius: float, gaps: float = 0.2) -> None:
        """A row of trees along a line."""
        step = np.hypot(*np.diff(line, axis=0).T)
        at = np.concatenate([[0], np.cumsum(step)])
        where = np.arange(0, at[-1], radius * self.rng.uniform(1.5, 2.4))
        where = where[self.rng.random(len(where)) > gaps]
        p = np.stack([np.interp(where, at, line[:, i]) for i in (0, 1)], 1)
        p = p + self.rng.normal(0, 0.25 * radius, p.shape)
        self.c.trees(p, radius * np.exp(self.rng.normal(0, 0.22, len(p))), self.species)

    def clumps(self, b: Block, area: float, largest: float) -> None:
        """Groups of trees, one for about every ``area`` m²."""
        u0, v0, u1, v1 = b
        n = self.rng.poisson((u1 - u0) * (v1 - v0) / area)
        if n:
            size = largest * self.rng.power(1.2, n)
            outlines = [blob(self.rng, self.rng.uniform((u0, v0), (u1, v1)), 5 + r, 0.5) for r in size]
            self.canopy(self.c.mask(outlines, within=densify(rect(*b))))

    # -- small things ----------------------------------------------------------------------------------

    def cars(self, at: np.ndarray, angle: np.ndarray | float, truck: float = 0.05) -> None:
        n, rng = len(at), self.rng
        if n == 0:
            return
        big = rng.random(n) < truck
        length = np.where(big, rng.uniform(8, 13, n), rng.uniform(4.0, 5.0, n))
        width = np.where(big, 2.5, 1.8)
        ids = np.where(big, rng.choice(self.lorries, n), rng.choice(self.paints, n))
        angle = np.broadcast_to(angle, n)
        self.c.fills(quads(at, np.stack([length, width], 1), angle), ids)
        if self.fine:  # windscreens
            ahead = np.stack([np.cos(angle), np.sin(angle)], 1) * 0.9
            glass = quads(at + ahead, np.stack([np.full(n, 0.8), width * 0.8], 1), angle)[~big]
            self.c.fills(glass, np.full(len(glass), self.glass))

    def clutter(self, b: Block, density: float, size: float = 2.5) -> None:
        """Boxes, stacks and sheds of no name; ``density`` per 100 m²."""
        u0, v0, u1, v1 = b
        n = self.rng.poisson(max(0.0, density * (u1 - u0) * (v1 - v0) / 100))
        if n:
            at = self.rng.uniform((u0, v0), (u1, v1), (n, 2))
            sizes = size * np.exp(self.rng.normal(-0.2, 0.5, (n, 2)))
            self.c.fills(quads(at, sizes, self.rng.normal(0, 0.1, n)), self.rng.choice(self.junk, n))

    def way(self, b: Block, width: float, number: int) -> None:
        """A path across a block, from side to side, gently bent."""
        u0, v0, u1, v1 = b
        rng = self.rng
        lo, hi = np.array([u0, v0]), np.array([u1, v1])
        axis = rng.integers(2)
        p, q = rng.uniform(lo, hi), rng.uniform(lo, hi)
        p[axis], q[axis] = lo[axis], hi[axis]
        length = np.hypot(*(q - p))
        side = np.array([-(q - p)[1], (q - p)[0]]) / max(length, 1e-6)
        t = np.linspace(0, 1, 5)
        bend = np.cumsum(rng.normal(0, 0.06, 5))
        bend = (bend - bend[0] - t * (bend[-1] - bend[0])) * length
        self.c.strip(curve((p + t[:, None] * (q - p) + bend[:, None] * side).clip(lo, hi), 24), width, number)

    # -- buildings -------------------------------------------------------------------------------------

    def flat(self, q: np.ndarray, kind: str, height: float, detail: float = 1.0) -> None:
        """A flat-roofed building over a quadrilateral (4, 2), with walls, parapet and boxes on the roof."""
        c, rng = self.c, self.rng
        q = c.walls(q, height) if height > 4 else q
        mid, e0, e1 = q.mean(0), q[1] - q[0], q[3] - q[0]
        long, deep = np.hypot(*e0), np.hypot(*e1)
        roof = c.new(kind, self.pick(["tar", "concrete", "soil", "rust", "concrete-dark"]), rng.uniform(0, 0.3),
                     bright=min(1.0, (900 / (long * deep)) ** 0.2), vary=self.style.contrast, slope=0.16,
                     coarse=0.08, fine=0.06, mix_coarse=0.14, mix_fine=0.05,
                     height=height)  # fmt: skip
        if rng.random() < 0.5:
            rim = c.new(
                self.pick(["concrete", "concrete-dark", "gravel-roof"]), vary=0.15, height=height + 0.7
            )
            c.fill(q, rim)
            c.fill(mid + (q - mid) * (1 - 0.8 / max(2.5, min(long, deep))), roof)
        else:
            c.fill(q, roof)
        if long * deep > 500 and rng.random() < 0.6:  # roofs of large buildings are patched and parted
            for _ in range(rng.integers(1, 4)):
                a, b = np.sort(rng.uniform(0, 1, (2, 2)), axis=0)
                part = np.array([[a[0], a[1]], [b[0], a[1]], [b[0], b[1]], [a[0], b[1]]])
                c.fill(q[0] + part[:, :1] * e0 + part[:, 1:] * e1,
                       c.new(kind, "tar", rng.uniform(0, 0.4), vary=0.15, mix_coarse=0.12,
                             height=height))  # fmt: skip
        n = rng.poisson(detail * (long * deep) ** 0.72 / 12)
        if n:
            at = rng.uniform(-0.4, 0.4, (n, 2))
            at = mid + at[:, :1] * e0 + at[:, 1:] * e1
            size = np.exp(rng.normal(0.45, 0.5, (n, 2))).clip(0.7, 0.3 * min(long, deep) + 0.5)
            kinds = ("metal", "concrete", "concrete-dark", "tar", "metal-dark", "gravel-roof", "steel-blue")
            ids = [c.new(self.pick(kinds), vary=0.3, height=height + h) for h in rng.uniform(0.8, 2.8, n)]
            c.fills(quads(at, size, np.arctan2(e0[1], e0[0])), ids)

    def gable(
        self,
        q: np.ndarray,
        kind: str,
        height: float,
        pitch: float = 0.45,
        hip: bool = False,
        worn: float = 0.1,
    ) -> None:
        """A pitched roof over a quadrilateral whose first edge runs along the ridge."""
        c = self.c
        along = q[1] - q[0]
        angle = np.arctan2(along[1], along[0])
        head = c.heading(float(angle))
        bright, second = (
            float(np.exp(self.rng.normal(0, self.style.contrast))),
            "rust" if kind.startswith(("metal", "steel")) else "tar",
        )
        tint = 0.16 * self.rng.standard_normal()
        low, high = (q[0] + q[3]) / 2, (q[1] + q[2]) / 2
        faces = []
        if hip:
            depth = min(np.hypot(*(q[3] - q[0])) / 2 / max(np.hypot(*along), 1e-6), 0.45)
            low, high = low + along * depth, high - along * depth
            faces = [(np.array([q[0], low, q[3]]), np.pi), (np.array([q[1], high, q[2]]), 0.0)]
        turn = 1.0 if along[0] * (q[3] - q[0])[1] > along[1] * (q[3] - q[0])[0] else -1.0
        faces += [(np.array([q[0], q[1], high, low]), -turn * np.pi / 2),
                  (np.array([low, high, q[2], q[3]]), turn * np.pi / 2)]  # fmt: skip
        for points, side in faces:
            c.fill(points, c.new(kind, second, worn, bright=bright, vary=0.02, slope=0.0, tint=tint, coarse=0.06,
                                 fine=0.06, mix_coarse=0.10, height=height, tilt=c.facing(pitch,
                                 head + side)))  # fmt: skip

    def hall(self, q: np.ndarray, kind: str, height: float) -> None:
        """An industrial hall: parallel shallow gables with ridges, skylights and stains."""
        c, rng = self.c, self.rng
        q = c.walls(q, height, "metal")
        if np.hypot(*(q[3] - q[0])) > np.hypot(*(q[1] - q[0])) and rng.random() < 0.6:
            q = np.roll(q, -1, axis=0)
        e0, e1 = q[1] - q[0], q[3] - q[0]
        length, depth = np.hypot(*e0), np.hypot(*e1)
        spans = max(1, round(depth / rng.uniform(14, 30)))
        angle = float(np.arctan2(e0[1], e0[0]))
        head, pitch = c.heading(angle), rng.uniform(0.06, 0.16)
        turn = 1.0 if e0[0] * e1[1] > e0[1] * e1[0] else -1.0
        bright, second = float(np.exp(rng.normal(0, 0.2))), self.pick(["rust", "metal-dark", "metal"])
        tint, worn, period = (
            0.12 * rng.standard_normal(),
            rng.uniform(0, 0.3),
            float(rng.choice([3.0, 6.0, 9.0])),
        )
        sky, vent = (
            c.new("plastic", vary=0.1, height=height),
            c.new("metal-dark", vary=0.2, height=height + 1.5),
        )
        lights = rng.random() < 0.4
        bays = max(1, round(length / rng.uniform(40, 90))) if rng.random() < 0.5 else 1
        for i in range(spans):
            p, half = q[0] + e1 * (i / spans), e1 / spans / 2
            for j, side in ((0, -turn), (1, turn)):
                for k in range(bays):
                    roof = c.new(kind, second, worn, bright=bright, vary=0.05, slope=0.0, tint=tint, coarse=0.04,
                                 fine=0.03, mix_coarse=0.09, stripe=0.02, period=period, along=head + np.pi / 2,
                                 height=height, tilt=c.facing(pitch, head + side * np.pi / 2))  # fmt: skip
                    a, e = p + half * j + e0 * (k / bays), e0 / bays
                    c.fill(np.array([a, a + e, a + e + half, a + half]), roof)
                if lights:
                    n = int(length / 12)
                    at = p + half * j + e0 * ((np.arange(n) + 0.5) / max(n, 1))[:, None] + half * 0.5
                    c.fills(quads(at, (1.2, 0.6 * np.hypot(*half)), angle), np.full(n, sky))
            if length > 25 and rng.random() < 0.5:
                c.fill(
                    quads((p + half + e0 * 0.5)[None], (length * rng.uniform(0.5, 0.85), 1.6), angle)[0], vent
                )

    def house(self, mid: np.ndarray, size: tuple[float, float], angle: float) -> None:
        """A detached house with a gable or hip roof, perhaps with a wing."""
        rng = self.rng
        kind, height, hip = self.pick(self.style.pitched_roofs), rng.uniform(3.2, 6.5), rng.random() < 0.45
        if rng.random() < 0.5:
            c, s = np.cos(angle), np.sin(angle)
            out = np.array([rng.choice([-1, 1]) * size[0] * 0.25, rng.choice([-1, 1]) * size[1] * 0.45])
            wing = quads([mid + out @ np.array([[c, s], [-s, c]])], (size[0] * 0.45, size[1] * 0.85), angle)[
                0
            ]
            self.gable(np.roll(wing, -1, 0), kind, height * 0.95, 0.5, hip)
        self.gable(quads([mid], size, angle)[0], kind, height, rng.uniform(0.35, 0.6), hip)

    # -- recipes: one block each -----------------------------------------------------------------------

    def suburb(self, b: Block) -> None:
        """Detached houses on lots along the street, with lawns, drives and garden trees."""
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        turned = (u1 - u0) < (v1 - v0)
        if turned:  # lots line the long sides: draw in swapped axes
            u0, v0, u1, v1 = v0, u0, v1, u1

        def place(q: ArrayLike) -> np.ndarray:
            return np.asarray(q)[..., ::-1] if turned else np.asarray(q)

        c.fill(densify(rect(*b)), self.lawn())
        depth, lot = v1 - v0, rng.uniform(12, 21)
        rows = [(v0, 1.0), (v1, -1.0)] if depth > 42 else [(v0, 1.0)]
        for edge, d in rows:
            deep = depth / len(rows)
            edges = np.cumsum(
                np.concatenate([[u0], lot * np.exp(rng.normal(0, 0.12, int((u1 - u0) / lot) + 1))])
            )
            edges = edges[edges < u1 - 0.6 * lot]
            for a, z in zip(edges, np.append(edges[1:], u1), strict=True):
                w = z - a
                c.fill(place(rect(a, edge, z, edge + d * deep)), self.lawn(rng.uniform(0, 1)))
                if rng.random() < 0.05:
                    continue
                setback = rng.uniform(6, 9)
                size = (w * rng.uniform(0.55, 0.72), min(deep * 0.4, rng.uniform(8, 12)))
                mid = np.array([(a + z) / 2 + rng.normal(0, 0.6), edge + d * (setback + size[1] / 2)])
                drive = a + w * rng.choice([0.14, 0.84])
                c.fill(place(rect(drive - 1.6, edge, drive + 1.6, edge + d * (setback + 3))), self.pavement())
                if rng.random() < 0.4:
                    c.fill(
                        quads([place(mid + np.array([0, d * size[1] * 0.7]))], rng.uniform(3, 6, 2))[0],
                        self.pavement(),
                    )
                self.house(place(mid), size, np.pi / 2 if turned else 0.0)
                if rng.random() < 0.4:
                    self.cars(
                        place([[drive, edge + d * rng.uniform(2, setback)]]),
                        0.0 if turned else np.pi / 2,
                        0.0,
                    )
                back = np.sort([edge + d * (setback + size[1] + 1), edge + d * deep])
                yard = back[1] - back[0]
                if rng.random() < 0.35 and yard > 6:
                    shed = place([[rng.uniform(a + 2, z - 2), rng.uniform(back[0] + 2, back[1] - 2)]])
                    self.gable(quads(shed, rng.uniform(2.5, 5, 2))[0], self.pick(st.pitched_roofs), 2.4)
                if rng.random() < 0.05 and yard > 12:
                    pool = place([[(a + z) / 2, back.mean()]])
                    c.fill(quads(pool, (9, 6))[0], c.new("concrete", vary=0.1))
                    c.fill(quads(pool, (7.5, 4))[0], c.new("pool", vary=0.1, coarse=0.02))
                n = rng.poisson(2.6 * st.leafy * w * yard / 350)
                at = rng.uniform((a, back[0]), (z, back[1]), (n, 2))
                c.trees(place(at), st.crown * np.exp(rng.normal(-0.1, 0.32, n)), self.species)
                if rng.random() < 0.55 * st.leafy:
                    front = [[rng.uniform(a + 1, z - 1), edge + d * rng.uniform(1.0, 4.0)]]
                    c.trees(place(front), st.crown * rng.uniform(0.7, 1.4), self.species)

    def dense(self, b: Block) -> None:
        """Low houses wall to wall: rows, alleys and courtyards."""
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.pavement())
        self.clutter(b, 0.9 * (1.3 - st.tidy), 2.0)
        depth, alley, floors = rng.uniform(9, 15), rng.uniform(0.8, 3.5), rng.uniform(1.2, 3.2)
        pitched = rng.random() < st.pitched
        palette = [self.pick(st.flat_roofs) for _ in range(4)] + list(st.flat_roofs[:2])
        wide = rng.uniform(1.85, 2.3)
        v = v0 + rng.uniform(0, 1)
        while v + 5 < v1:
            deep = min(depth * np.exp(rng.normal(0, 0.15)), v1 - v)
            u = u0 + rng.uniform(0, 2)
            while u + 4 < u1:
                w = min(float(np.exp(rng.normal(wide, 0.33))), u1 - u)
                if w < 3.5:
                    break
                if rng.random() < 0.88:
                    d = deep * rng.uniform(0.6, 1.0)
                    at = [u + w / 2, v + (d / 2 if rng.random() < 0.5 else deep - d / 2)]
                    q = quads([at], (w - rng.choice([0.0, 0.3, 1.0]), d), rng.normal(0, 0.02))[0]
                    height = 3.0 * max(1, round(floors + rng.normal(0, 0.6)))
                    if pitched and rng.random() < 0.85:
                        self.gable(q if w > d else np.roll(q, -1, 0), self.pick(st.pitched_roofs), height, 0.42,
                                   worn=0.15)  # fmt: skip
                    else:
                        self.flat(q, self.pick(palette), height, 0.8)
                        if deep - d > 3:  # the court behind
                            self.clutter((u, v, u + w, v + deep), 0.6, 1.8)
                elif rng.random() < 0.5:
                    self.scatter((u, v, u + w, v + deep), 6 / max(st.leafy, 0.2))
                u += w + (rng.uniform(1, 4) if rng.random() < 0.12 else 0.0)
            v += deep + alley * rng.uniform(0.5, 2.0)
        self.scatter(b, 22 / max(st.leafy, 0.2), 0.8 * st.crown)

    def slabs(self, b: Block) -> None:
        """Rows of apartment blocks that cast long shadows, gardens between them."""
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.pavement() if rng.random() < 0.45 else self.weeds())
        height = float(rng.choice([18, 18, 24, 33, 54, 80]))
        deep = rng.uniform(11, 14) if height < 40 else rng.uniform(15, 22)
        pitch = deep + height * rng.uniform(0.75, 1.15)
        length = rng.uniform(34, 70) if height < 40 else rng.uniform(22, 45)
        gap = rng.uniform(6, 14) if height < 40 else rng.uniform(14, 30)
        roof = self.pick(["concrete-dark", "gravel-roof", "tile-grey", "tar", "concrete", "tile-red"])
        wall = self.pick(["facade", "concrete", "tile-red", "concrete-dark"])
        modules = max(2, round(length / rng.uniform(11, 16)))
        stagger = 1.2 if rng.random() < 0.6 else 0.0
        v, shift = v0 + 6, rng.uniform(0, 10)
        while v + deep < v1 - 2:
            u = u0 + 4 + shift
            while u + length * 0.6 < u1 - 3:
                w = min(length, u1 - 3 - u)
                h = height * (1 + rng.normal(0, 0.03))
                if rng.random() < 0.04:  # a gap in the row: a garden, or a lower house
                    self.flat(rect(u + 4, v, u + 0.6 * w, v + deep), self.pick(st.flat_roofs), 6.0)
                    u += w + gap
                    continue
                top = c.walls(rect(u, v, u + w, v + deep), h, wall)[0]
                k = max(2, round(w / length * modules))
                base = c.new(
                    roof, "tar", 0.15, vary=0.10, height=h, mix_coarse=0.10, mix_fine=0.06, fine=0.06
                )
                rim = c.new("concrete", vary=0.12, height=h + 0.8)
                stairs = c.new(self.pick(["concrete", "gravel-roof", "metal"]), vary=0.12, height=h + 2.8)
                dark = c.new("tar", vary=0.2, height=h + 1.0)
                at = top + np.stack(
                    [(np.arange(k) + 0.5) * w / k, deep / 2 + stagger * (np.arange(k) % 2 - 0.5)], 1
                )
                c.fills(quads(at, (w / k + 0.1, deep)), np.full(k, rim))
                c.fills(quads(at, (w / k - 0.7, deep - 1.2)), np.full(k, base))
                size = rng.uniform(3, 5), rng.uniform(3.5, 6)
                c.fills(quads(at + np.array([0, rng.uniform(-2, 2)]), size), np.full(k, stairs))
                c.fills(quads(at + np.array([2.8, rng.uniform(-2, 2)]), (1.8, 2.2)), np.full(k, dark))
                u += w + gap
            g0, g1 = v + deep + 1.5, min(v + pitch - 1.5, v1)
            if g1 - g0 > 4:  # garden strip and path between the rows
                c.fill(
                    densify(rect(u0 + 3, g0, u1 - 3, g1)), self.weeds() if rng.random() < 0.7 else self.lawn()
                )
                w = rng.uniform(2.5, 4.5)
                c.fill(densify(rect(u0, g0, u1, g0 + w)), self.pavement())
                n = rng.poisson((u1 - u0) / 12)
                at = np.stack([rng.uniform(u0, u1, n), np.full(n, g0 + w + 1)], 1)
                self.cars(at, float(rng.choice([0, np.pi / 2])), 0)
                for x in np.arange(u0 + 10, u1 - 10, rng.uniform(25, 60)):
                    c.fill(rect(x, g0, x + 2, g1), self.pavement())
                self.scatter((u0 + 3, g0 + w + 1, u1 - 3, g1), 7 / max(st.leafy, 0.15), st.crown * 0.9)
                self.clutter((u0 + 3, g0 + w + 1, u1 - 3, g1), 0.15, 3.0)
            v += pitch

    def industry(self, b: Block) -> None:
        """Halls in yards, with stores, lorries and parked cars."""
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.bare() if rng.random() > st.tidy + 0.3 else self.pavement())
        self.clutter(b, 0.12 * (1.2 - st.tidy), 3.0)
        self._halls(b, 0)
        if rng.random() < 0.6:
            edge = rect(u0 + 1, v0 + 1, u1 - 1, v1 - 1)
            self.hedge(densify(np.vstack([edge, edge[:1]])), st.crown * 0.6, 0.45)

    def _halls(self, b: Block, level: int) -> None:
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        w, h = u1 - u0, v1 - v0
        if min(w, h) < 14:
            return
        if max(w, h) > rng.uniform(55, 130) and level < 5:
            f = rng.uniform(0.35, 0.65)
            for part in halves(b, f):
                self._halls(part, level + 1)
            return
        what, m = rng.random(), rng.uniform(2.5, 7)
        if what < 0.66:
            q = rect(u0 + m, v0 + m, u1 - m * rng.uniform(0.5, 1), v1 - m * rng.uniform(0.5, 1.6))
            kind = self.pick(st.halls)
            if kind in ("membrane", "gravel-roof", "tar", "concrete", "concrete-dark"):
                self.flat(q, kind, rng.uniform(5, 11), 0.6)
            else:
                self.hall(q, kind, rng.uniform(5, 11))
        elif what < 0.76:
            self.parking((u0 + 2, v0 + 2, u1 - 2, v1 - 2))
        elif what < 0.86:
            for _ in range(rng.integers(1, 4)):
                at = rng.uniform((u0 + 6, v0 + 6), (u1 - 6, v1 - 6))
                c.fill(blob(rng, at, rng.uniform(4, 0.3 * min(w, h) + 4.1), 0.5), self.heap())
            self.clutter(b, 0.5, 3)
        else:
            self.clutter(b, 1.2, 3.0)
            self.cars(
                rng.uniform((u0, v0), (u1, v1), (rng.poisson(w * h / 500), 2)),
                float(rng.choice([0, np.pi / 2])),
                0.6,
            )

    def parking(self, b: Block) -> None:
        """Rows of stalls."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        if u1 - u0 < 12 or v1 - v0 < 10:
            return
        c.fill(
            densify(rect(*b)),
            self.road(self.pick(["asphalt", "asphalt-new", "asphalt-old", "concrete-dark"])),
        )
        busy = rng.uniform(0.2, 0.95)
        line = c.new("paint", "asphalt", 0.5, vary=0.1)
        v = v0 + 3
        while v + 5 < v1:
            u = np.arange(u0 + 2, u1 - 2, 2.6)
            near = (
                rng.uniform(0.4, 1.4)
                * busy
                * np.exp(-0.5 * ((u - rng.uniform(u0, u1)) / (0.6 * (u1 - u0))) ** 2)
            )
            for dv in (0.0, 5.2):
                if v + dv + 5 > v1:
                    continue
                if self.fine:
                    c.fills(
                        quads(np.stack([u, np.full(len(u), v + dv + 2.5)], 1), (0.15, 4.8)),
                        np.full(len(u), line),
                    )
                full = rng.random(len(u)) < near
                self.cars(
                    np.stack([u + 1.3, v + dv + 2.5 + rng.normal(0, 0.25, len(u))], 1)[full], np.pi / 2, 0.0
                )
            if rng.random() < 0.4 * self.style.leafy:
                self.hedge(np.array([[u0 + 2, v + 5.1], [u1 - 2, v + 5.1]]), 1.8, 0.5)
            v += rng.uniform(16, 18)

    def commercial(self, b: Block) -> None:
        """A large flat roof in its car park."""
        rng = self.rng
        u0, v0, u1, v1 = b
        self.c.fill(densify(rect(*b)), self.pavement())
        store, lot = halves(b, rng.uniform(0.4, 0.7))
        self.parking(inset(lot, 3))
        store = inset(store, 4)
        if rng.random() < 0.5:
            self.flat(rect(*store), self.pick(self.style.flat_roofs), rng.uniform(6, 16))
        else:  # a row of stores under roofs of their own
            a, z = store[:2], store[2:]
            n, axis = rng.integers(2, 5), int(store[2] - store[0] < store[3] - store[1])
            cuts = np.sort(np.concatenate([[a[axis], z[axis]], rng.uniform(a[axis], z[axis], n - 1)]))
            for p, q in itertools.pairwise(cuts):
                part = rect(p, a[1], q, z[1]) if axis == 0 else rect(a[0], p, z[0], q)
                self.flat(part, self.pick(self.style.flat_roofs), rng.uniform(5, 12))
        edge = rect(u0 + 1, v0 + 1, u1 - 1, v1 - 1)
        self.hedge(densify(np.vstack([edge, edge[:1]])), self.style.crown * 0.7, 0.5)

    def office(self, b: Block) -> None:
        """Mid and high rises with courts and planted yards."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.pavement())
        for _ in range(rng.poisson((u1 - u0) * (v1 - v0) / 1500)):
            at = rng.uniform((u0, v0), (u1, v1))
            c.fill(quads([at], rng.uniform(6, 18, 2))[0], self.lawn())
        self.scatter(b, 11 / max(self.style.leafy, 0.3))
        w, h = u1 - u0, v1 - v0
        n, m = max(1, int(w / 55)), max(1, int(h / 55))
        for i in range(n):
            for j in range(m):
                x0, y0 = u0 + i * w / n + rng.uniform(5, 10), v0 + j * h / m + rng.uniform(5, 10)
                x1, y1 = u0 + (i + 1) * w / n - rng.uniform(4, 10), v0 + (j + 1) * h / m - rng.uniform(4, 10)
                if x1 - x0 < 10 or y1 - y0 < 10:
                    continue
                kind, low = self.pick(self.style.flat_roofs), rng.random()
                tall = rng.uniform(8, 24) if rng.random() < 0.75 else rng.uniform(30, 70)
                if low < 0.15:
                    self.parking((x0, y0, x1, y1))
                elif low < 0.5:  # around a court, or in wings
                    t = min(14.0, 0.3 * min(x1 - x0, y1 - y0))
                    wings = [rect(x0, y0, x1, y0 + t), rect(x0, y1 - t, x1, y1), rect(x0, y0 + t, x0 + t, y1 - t),
                             rect(x1 - t, y0 + t, x1, y1 - t)]  # fmt: skip
                    for k in rng.permutation(4)[: rng.integers(2, 5)]:
                        self.flat(wings[k], kind, tall, 0.7)
                else:
                    self.flat(rect(x0, y0, x1, y1), kind, 0.5 * tall)
                    s, mid = rng.uniform(0.35, 0.8), [(x0 + x1) / 2, (y0 + y1) / 2]
                    self.flat(c.lift(quads([mid], ((x1 - x0) * s, (y1 - y0) * s))[0], 0), kind, tall)

    def park(self, b: Block) -> None:
        """Lawns, paths, clumps of trees, perhaps a pond or a sports ground."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        w, h = u1 - u0, v1 - v0
        c.fill(densify(rect(*b)), self.lawn(0.3))
        for _ in range(rng.poisson(w * h / 2500)):
            c.fill(blob(rng, rng.uniform((u0, v0), (u1, v1)), rng.uniform(8, 25)), self.lawn(rng.random()))
        if min(w, h) > 75 and rng.random() < 0.5:
            self.sports(
                np.array([(u0 + u1) / 2, (v0 + v1) / 2]),
                0.0 if w > h else np.pi / 2,
                min(1.0, min(w, h) / 110),
            )
        elif min(w, h) > 50 and rng.random() < 0.4:
            self.pond(rng.uniform((u0 + 15, v0 + 15), (u1 - 15, v1 - 15)), 0.2 * min(w, h))
        path = self.pavement()
        if min(w, h) > 40 and rng.random() < 0.6:
            ring = blob(rng, ((u0 + u1) / 2, (v0 + v1) / 2), 0.3 * min(w, h), 0.25)
            c.strip(np.vstack([ring, ring[:2]]), rng.uniform(1.5, 3), path)
        for _ in range(1 + rng.poisson(w * h / 12000)):
            self.way(b, rng.uniform(1.3, 3.0), path)
        self.clumps(b, 1800, 0.18 * min(w, h))
        self.scatter(b, 13, clump=0.5)

    def sports(self, at: np.ndarray, angle: float, scale: float = 1.0) -> None:
        """A running track with its pitch, or courts."""
        c, rng = self.c, self.rng
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * scale
        if scale > 0.75 and rng.random() < 0.6:
            t = np.linspace(-np.pi / 2, np.pi / 2, 16)

            def oval(r: float) -> np.ndarray:
                right = np.stack([42 + r * np.cos(t), r * np.sin(t)], 1)
                return np.concatenate([right, -right]) @ turn + at

            c.fill(oval(46), c.new("tartan", "asphalt", rng.choice([0.0, 0.1, 0.9]), vary=0.1, coarse=0.03))
            c.fill(oval(36.5), self.lawn(0.9))
            pitch = c.new(self.pick(["turf", "lawn"]), "lawn", 0.3, vary=0.1, stripe=0.06, period=11,
                          along=c.heading(angle) + np.pi / 2)  # fmt: skip
            c.fill(rect(-50, -32, 50, 32) @ turn + at, pitch)
            if self.fine:
                line = c.new("paint", "lawn", 0.3)
                for a in (-50, 0, 50):
                    c.fill(rect(a - 0.1, -32, a + 0.1, 32) @ turn + at, line)
                for b in (-32, 32):
                    c.fill(rect(-50, b - 0.1, 50, b + 0.1) @ turn + at, line)
        else:
            n = int(rng.integers(2, 5))
            for i in range(n):
                mid = at + np.array([(i - n / 2) * 20, 0]) @ turn
                c.fill(quads([mid], (18 * scale, 36 * scale), angle)[0],
                       c.new(self.pick(["tartan", "steel-green", "asphalt"]), vary=0.15))  # fmt: skip
                c.fill(quads([mid], (11 * scale, 24 * scale), angle)[0],
                       c.new(self.pick(["steel-green", "steel-blue", "tartan"]), vary=0.15))  # fmt: skip

    def pond(self, at: np.ndarray, radius: float) -> None:
        outline = blob(self.rng, at, radius, 0.35, 60)
        mid = outline.mean(0)
        self.c.fill(
            mid + (outline - mid) * (1 + 4 / radius), self.bare() if self.rng.random() < 0.5 else self.weeds()
        )
        self.c.fill(outline, self.water())

    def bareland(self, b: Block) -> None:
        """A building site or waste ground: earth in many tones, tracks, heaps, some sheds."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        w, h = u1 - u0, v1 - v0
        c.fill(densify(rect(*b)), self.bare())
        for _ in range(3 + rng.poisson(w * h / 700)):
            r = min(rng.uniform(3, 20), 0.25 * min(w, h))
            at = rng.uniform((u0 + 1.3 * r, v0 + 1.3 * r), (u1 - 1.3 * r, v1 - 1.3 * r))
            c.fill(blob(rng, at, r, 0.6), self.bare() if rng.random() < 0.5 else self.weeds())
        if rng.random() < 0.35 and min(w, h) > 40:  # foundations, a pit
            q = inset(b, 0.25 * min(w, h))
            c.fill(rect(*q), self.bare())
            for part in halves(q, rng.uniform(0.3, 0.7)):
                c.fill(rect(*inset(part, 2)), self.pavement() if rng.random() < 0.5 else self.bare())
            self.clutter(q, 0.8, 3.0)
        for _ in range(1 + rng.poisson(0.8)):
            self.way(b, rng.uniform(2.5, 4), self.dirt())
        if rng.random() < 0.5:
            r = 0.1 * min(w, h)
            c.fill(blob(rng, rng.uniform((u0 + r, v0 + r), (u1 - r, v1 - r)), r, 0.5), self.heap())
        if rng.random() < 0.4:
            self.clutter(b, 0.12, 4.0)
        self.scatter(b, 9, 1.0, 0.7, shrubs=True)
        self.scatter(b, 26, self.style.crown * 0.6, 0.5)

    def scrub(self, b: Block) -> None:
        """Rough ground: bushes, bare patches, a worn path."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.weeds())
        for _ in range(rng.poisson((u1 - u0) * (v1 - v0) / 1200)):
            c.fill(blob(rng, rng.uniform((u0, v0), (u1, v1)), rng.uniform(4, 22), 0.6),
                   self.weeds() if rng.random() < 0.7 else self.bare())  # fmt: skip
        for _ in range(rng.poisson(1.0)):
            self.way(b, rng.uniform(1.0, 2.5), self.dirt())
        self.scatter(b, rng.uniform(4, 9), rng.uniform(0.9, 1.7), 0.5, shrubs=True)
        self.clumps(b, 6000, 14)

    def wood(self, b: Block) -> None:
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.weeds())
        size = max(u1 - u0, v1 - v0)
        outlines = [blob(rng, rng.uniform((u0, v0), (u1, v1)), 0.33 * size * rng.uniform(0.4, 1.1), 0.4, 60)
                    for _ in range(5)]  # fmt: skip
        self.canopy(c.mask(outlines, within=densify(rect(*b))))
        self.scatter(b, 11)

    def fields(self, b: Block) -> None:
        """Strips of land under different crops, with balks, ditches and a row of trees."""
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.weeds())
        turned = rng.random() < 0.5
        if turned:
            u0, v0, u1, v1 = v0, u0, v1, u1
        names, weights = list(st.crops), np.array(list(st.crops.values()))
        wide = float(np.exp(rng.normal(3.2, 0.55)))
        u = u0 + 0.5
        crop = str(rng.choice(names, p=weights / weights.sum()))
        while u < u1 - 3:
            w = min(wide * float(np.exp(rng.normal(0, 0.3))), u1 - u)
            v = v0 + 0.5
            while v < v1 - 3:
                d = v1 - v if rng.random() < 0.6 else min(rng.uniform(40, 150), v1 - v)
                if rng.random() < 0.65:
                    crop = str(rng.choice(names, p=weights / weights.sum()))
                m = rng.uniform(0.2, 0.6)
                part = (u + m, v + m, u + w - m, v + d - m)
                self.parcel((part[1], part[0], part[3], part[2]) if turned else part, crop, turned)
                v += d + rng.choice([0.0, 0.0, 1.5])
            u += w + rng.choice([0.0, 0.0, 0.0, 1.0, 3.0])
        for _ in range(rng.poisson(0.5)):
            a = rng.uniform(u0, u1)
            line = np.stack([np.full(30, a), np.linspace(v0, v1, 30)], 1)
            self.hedge(line[:, ::-1] if turned else line, st.crown * rng.uniform(0.6, 1.0), 0.3)
        self.scatter(b, 45, 0.8 * st.crown)

    def parcel(self, b: Block, crop: str, turned: bool) -> None:
        """One strip under one crop; its lines run along the strip."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        if u1 - u0 < 1 or v1 - v0 < 1:
            return
        green, dry, _ = self.grass
        lines = {"period": rng.uniform(1.5, 4.0) if c.gsd > 0.5 else rng.uniform(0.7, 2.5),
                 "along": c.heading(0.0 if turned else np.pi / 2)}  # fmt: skip
        tone = float(np.exp(rng.normal(0, 0.10)))
        if crop == "ploughed":
            number = c.new(self.soil, "soil-dark", rng.uniform(0.0, 0.5), bright=tone, mix_coarse=0.16,
                           mix_fine=0.05,
                           coarse=0.06, fine=0.05, stripe=0.05, **lines)  # fmt: skip
        elif crop == "young":
            number = c.new(self.soil, "young-crop", rng.uniform(0.15, 0.6), bright=tone, mix_coarse=0.12,
                           mix_fine=0.07, mix_stripe=0.12, stripe=0.03, **lines)  # fmt: skip
        elif crop == "crop":
            number = c.new("crop", self.soil, rng.uniform(0.02, 0.25), bright=tone * rng.uniform(0.8,
                           1.1), slope=0.1,
                           mix_coarse=0.09, mix_fine=0.03, stripe=0.03, **lines)  # fmt: skip
        elif crop == "stubble":
            number = c.new("straw", self.soil, rng.uniform(0.3, 0.7), bright=tone, mix_coarse=0.14, mix_fine=0.05,
                           stripe=0.04, **lines)  # fmt: skip
        elif crop == "paddy":
            number = c.new(
                "water-muddy", "young-crop", rng.uniform(0.1, 0.8), mix_coarse=0.12, mix_fine=0.03, fine=0.02
            )
        elif crop == "greenhouse":
            self.greenhouses(b, turned)
            return
        else:
            number = c.new(
                dry, green, rng.uniform(0.15, 0.7), mix_coarse=0.2, mix_fine=0.14, coarse=0.06, fine=0.06
            )
        c.fill(densify(rect(*b)), number)
        if crop in ("ploughed", "young", "crop", "stubble") and min(u1 - u0, v1 - v0) > 18 and c.gsd < 0.9:
            step = rng.uniform(9, 24)  # wheel tracks
            rut = c.new(self.soil, "soil-dark", 0.3, bright=tone, vary=0.05, mix_fine=0.1)
            a, z = (v0, v1) if turned else (u0, u1)
            for x in np.arange(a + step / 2, z, step):
                c.fill(
                    densify(rect(u0, x - 0.2, u1, x + 0.2) if turned else rect(x - 0.2, v0, x + 0.2, v1)), rut
                )
        if crop == "orchard":
            s = rng.uniform(3.5, 6.0)
            gu, gv = np.meshgrid(np.arange(u0 + s / 2, u1, s), np.arange(v0 + s / 2, v1, s))
            at = np.stack([gu.ravel(), gv.ravel()], 1)
            at = at[rng.random(len(at)) > 0.06][:5000]
            r = s * rng.uniform(0.26, 0.44) * np.exp(rng.normal(0, 0.15, len(at)))
            c.trees(at + rng.normal(0, 0.25, at.shape), r, self.species)

    def greenhouses(self, b: Block, turned: bool) -> None:
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.bare())
        w, head = rng.uniform(7, 10), c.heading(0.0 if turned else np.pi / 2)
        lo, hi = (v0, v1) if turned else (u0, u1)
        cover, shade = rng.uniform(0.75, 1.1), rng.uniform(0.1, 0.6)
        x = lo + 1
        while x + w < hi:
            for part, turn in ((0, -np.pi / 2), (1, np.pi / 2)):
                roof = c.new("plastic", "crop", shade, bright=cover, vary=0.12, fine=0.05, stripe=0.04, period=4,
                             along=head + np.pi / 2, height=2.5, tilt=c.facing(0.3, head + turn))  # fmt: skip
                a = x + part * w / 2
                c.fill(densify(rect(u0, a, u1, a + w / 2) if turned else rect(a, v0, a + w / 2, v1)), roof)
            x += w + rng.uniform(1, 2.5)

    # -- streets ---------------------------------------------------------------------------------------

    def street(self, line: np.ndarray, width: float, level: int, rural: bool) -> None:
        """A road along a line; level 0 is the greatest."""
        c, rng, st = self.c, self.rng, self.style
        if rural and level >= 2:
            c.strip(line, width, self.dirt())
            return
        if not rural:
            c.strip(line, width + (4.5 if level < 2 else 3.0), self.pavement())
        c.strip(line, width, self.road())
        if width >= 16:
            c.strip(line, rng.uniform(1.5, 4), self.lawn() if rng.random() < 0.6 else self.pavement())
        lanes = max(2, int(width // 3.6))
        if c.gsd < 0.8 and width > 6.5:
            paint = c.new("paint", self.asphalt, 0.45 if self.fine else 0.7, vary=0.1)
            wide = 0.18 if self.fine else 0.3
            for i in range(1, lanes):
                d = (i / lanes - 0.5) * width
                if abs(d) > 0.4 or width < 12:
                    c.dashes(offset(line, d), wide, 3.5 if width > 8 else 6, 6.0, paint)
            if width > 9:
                for d in (-width / 2 + 0.5, width / 2 - 0.5):
                    c.strip(offset(line, d), wide, paint)
        length = np.hypot(*np.diff(line, axis=0).T).sum()
        self.traffic(
            line,
            width,
            lanes,
            rng.poisson(length * lanes / (55 if level == 0 else 90 if level == 1 else 200)),
        )
        if not rural or rng.random() < 0.3:
            for d in (-1, 1):
                if rng.random() < 0.2 + 0.5 * st.leafy:
                    self.hedge(
                        offset(line, d * (width / 2 + 1.8)),
                        st.crown * rng.uniform(0.6, 0.95),
                        rng.uniform(0.2, 0.7),
                    )
            if level >= 2:  # parked along the kerb
                self.traffic(line, 2 * width - 4.2, 2, rng.poisson(length / 22))

    def traffic(self, line: np.ndarray, width: float, lanes: int, n: int) -> None:
        if n == 0:
            return
        rng = self.rng
        at = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        s = rng.uniform(0, at[-1] - 1, n)
        p, q = (np.stack([np.interp(x, at, line[:, i]) for i in (0, 1)], 1) for x in (s, s + 1))
        d = (q - p) / np.maximum(np.hypot(*(q - p).T)[:, None], 1e-9)
        lane = ((rng.integers(0, lanes, n) + 0.5) / lanes - 0.5) * width
        self.cars(p + np.stack([-d[:, 1], d[:, 0]], 1) * lane[:, None], np.arctan2(d[:, 1], d[:, 0]), 0.12)

    def quarter(
        self, frame: Frame, half: float, block: float, uses: dict[str, float], *, rural: bool = False,
        inside: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        """Streets and blocks over ±half metres of a frame; only where ``inside`` holds at a block's corners."""
        c, rng = self.c, self.rng
        c.frame = frame
        town = [rng.uniform(16, 26), rng.uniform(10, 14), rng.uniform(6.5, 9), 6.5]
        widths = [rng.uniform(9, 13), 6, 4, 3.0] if rural else town
        roads: list[tuple[np.ndarray, float, int]] = []
        todo: list[Block] = []
        names, weights = list(uses), np.array(list(uses.values()), float)

        def keep(b: Block) -> bool:
            return inside is None or bool(inside(frame(densify(rect(*b), 30))).all())

        whole: list[tuple[Block, int]] = [((-half, -half, half, half), 0)]
        while whole:  # split by a street, or kept as a block
            b, level = whole.pop()
            u0, v0, u1, v1 = b
            w, h = u1 - u0, v1 - v0
            corners = densify(rect(*b), 40)
            if not c.seen(corners, 30) or (inside is not None and not inside(frame(corners)).any()):
                continue
            limit = block * (1.15 if level % 2 else 0.9) * np.exp(rng.normal(0, 0.25))
            if max(w, h) < limit * 1.6 and min(w, h) < limit * 1.1:
                todo.append(b)
                continue
            depth = int(np.log2(max(w, h) / limit))
            rank = 3 - min(3, max(0, depth))
            f, road = rng.uniform(0.36, 0.64), widths[rank]
            if w > h:
                m = u0 + f * w
                line = np.stack([np.full(40, m), np.linspace(v0, v1, 40)], 1)
                parts = (u0, v0, m - road / 2, v1), (m + road / 2, v0, u1, v1)
            else:
                m = v0 + f * h
                line = np.stack([np.linspace(u0, u1, 40), np.full(40, m)], 1)
                parts = (u0, v0, u1, m - road / 2), (u0, m + road / 2, u1, v1)
            roads.append((line, road, rank))
            whole += [(part, level + 1) for part in reversed(parts)]

        for line, width, rank in sorted(roads, key=lambda r: -r[2]):
            if inside is not None:
                ok = np.flatnonzero(inside(frame(line)))
                if len(ok) < 3:
                    continue
                line = line[ok[0] : ok[-1] + 1]
            self.street(line, width, rank, rural)
        for b in todo:
            b = inset(b, 0.6 if rural else 2.2)
            if min(b[2] - b[0], b[3] - b[1]) < 8 or not c.seen(rect(*b), 20):
                continue
            if keep(b):
                getattr(self, self.use(frame, b, names, weights))(b)
            else:
                self._pieces(b, keep, 0, names, weights)

    def _pieces(
        self, b: Block, keep: Callable[[Block], bool], level: int, names: list[str], weights: np.ndarray
    ) -> None:
        """What is left of a block cut by a river or great road: smaller blocks, green or bare corners."""
        if not self.c.seen(rect(*b)):
            return
        size = min(b[2] - b[0], b[3] - b[1])
        if keep(b):
            small = [
                n
                for n in names
                if n in ("suburb", "dense", "industry", "fields", "park", "scrub", "commercial")
            ]
            use = self.pick(small) if size > 28 and small and self.rng.random() < 0.7 else ""
            getattr(
                self,
                use or self.pick(["scrub", "park", "wood", "bareland"] if size > 14 else ["scrub", "wood"]),
            )(b)
        elif level < 6 and max(b[2] - b[0], b[3] - b[1]) > 12:
            for part in halves(b, 0.5):
                self._pieces(part, keep, level + 1, names, weights)

    def use(self, frame: Frame, b: Block, names: list[str], weights: np.ndarray) -> str:
        """A block's use: its weights, swayed by a smooth field so that like stands by like."""
        x, y = frame(np.array([[(b[0] + b[2]) / 2, (b[1] + b[3]) / 2]]))[0]
        k = np.arange(len(names))
        sway = np.sin(x / 170 + self.zone[0] + 2.4 * k) + np.sin(y / 150 + self.zone[1] + 1.7 * k)
        p = weights * np.exp(1.1 * sway)
        return str(self.rng.choice(names, p=p / p.sum()))

    # -- great curves ----------------------------------------------------------------------------------

    def river(self, line: np.ndarray, width: float, built: bool) -> None:
        c, rng = self.c, self.rng
        wide = width * (1 + 0.15 * np.sin(np.linspace(0, rng.uniform(3, 9), len(line)) + rng.uniform(0, 6)))
        c.strip(line, wide + (26 if built else 14), self.weeds())
        if built:
            c.strip(line, wide + 15, self.pavement())
            c.strip(line, wide + 9, self.lawn())
            c.strip(line, wide + 4.5, c.new("concrete", vary=0.1, fine=0.06))
        else:
            c.strip(line, wide + 6, self.bare())
        c.strip(line, wide, self.water())
        for _ in range(0 if built else rng.poisson(0.6)):
            c.fill(blob(rng, line[rng.integers(5, len(line) - 5)], 0.18 * width, 0.4), self.bare())
        for d in (-1, 1):
            if rng.random() < 0.7:
                self.hedge(offset(line, d * (width / 2 + 10)), self.style.crown, 0.3)
            if built:
                self.street(offset(line, d * (width / 2 + 20)), rng.uniform(7, 12), 1, False)

    def highway(self, line: np.ndarray, width: float) -> None:
        c, rng = self.c, self.rng
        c.strip(line, width + 14, self.weeds())
        c.strip(line, width + 4, self.bare() if rng.random() < 0.4 else self.lawn())
        self.street(line, width, 0, True)
        for d in (-1, 1):
            if rng.random() < 0.6:
                self.hedge(offset(line, d * (width / 2 + 5)), self.style.crown * 0.7, 0.4)

    def railway(self, line: np.ndarray) -> None:
        c = self.c
        c.strip(line, 16, self.weeds())
        c.strip(line, 11, c.new("gravel", self.soil, 0.3, vary=0.1, bright=0.8))
        for d in (-2.2, 2.2):
            c.strip(offset(line, d), 2.6, c.new("gravel", "rust", 0.5, bright=0.7, vary=0.05))
            if self.fine:
                for r in (-0.75, 0.75):
                    c.strip(offset(line, d + r), 0.16, c.new("metal", vary=0.05))

    def relief(self, amplitude: float) -> None:
        """Sun and shade on the slopes: the terrain's slope towards the sun, of this spread."""
        c, rng = self.c, self.rng
        height = noise(rng, c.pixels, (3.3, 4.0))
        gy, gx = np.gradient(height[0] + height[1] * 3)
        slope = gx * np.cos(c.azimuth) + gy * np.sin(c.azimuth)
        c.terrain = (1 - amplitude * slope / slope.std()).clip(0.4, 1.6)


def inset(b: Block, m: float) -> Block:
    return (b[0] + m, b[1] + m, b[2] - m, b[3] - m)


def halves(b: Block, f: float) -> list[Block]:
    """A block cut across its longer side."""
    u0, v0, u1, v1 = b
    if u1 - u0 > v1 - v0:
        m = u0 + f * (u1 - u0)
        return [(u0, v0, m, v1), (m, v0, u1, v1)]
    m = v0 + f * (v1 - v0)
    return [(u0, v0, u1, m), (u0, m, u1, v1)]


def curve(points: np.ndarray, k: int) -> np.ndarray:
    """A smooth line (k, 2) through points."""
    t = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T) + 1e-6)])
    return CubicSpline(t / t[-1], points, axis=0)(np.linspace(0, 1, k))


def crossing(rng: np.random.Generator, size: float, wiggle: float) -> np.ndarray:
    """A curve that crosses a square of this size, its bends of about ``wiggle`` metres."""
    angle = rng.uniform(0, np.pi)
    d = np.array([np.cos(angle), np.sin(angle)])
    side = np.array([-d[1], d[0]])
    s = np.linspace(-0.85, 0.85, 7) * size
    points = (
        size / 2
        + side * rng.uniform(-0.3, 0.3) * size
        + s[:, None] * d
        + rng.normal(0, wiggle, (7, 1)) * side
    )
    return curve(points, 160)


@dataclass(frozen=True)
class Area:
    """A kind of quarter: block length, uses of blocks, and how much its streets bend."""

    block: tuple[float, float]
    uses: dict[str, float]
    rural: bool = False
    bend: float = 3.0
    relief: float = 0.015


PLANS = {
    "suburb": Area((70, 110), {"suburb": 10, "park": 1.0, "wood": 0.6, "commercial": 0.8, "office": 0.4}, bend=5),
    "dense": Area((60, 100), {"dense": 10, "slabs": 1, "industry": 1.0, "park": 0.6, "bareland": 0.7,
                  "office": 0.8}),
    "slabs": Area((120, 190), {"slabs": 10, "dense": 2, "office": 1.5, "park": 1, "bareland": 0.8, "industry": 1}),
    "industry": Area((110, 190), {"industry": 10, "bareland": 1.2, "commercial": 1.0, "dense": 1.5, "scrub": 0.6}),
    "centre": Area((80, 130), {"office": 6, "commercial": 3, "dense": 3, "park": 1, "slabs": 1}),
    "campus": Area((90, 140), {"park": 3, "office": 4, "commercial": 1.5, "wood": 1, "slabs": 1, "bareland": 0.5}),
    "farmland": Area((130, 260), {"fields": 10, "wood": 1.0, "dense": 0.8, "bareland": 0.3, "industry": 0.4,
                                  "scrub": 0.5}, rural=True, bend=12),
    "arid": Area((120, 200), {"scrub": 3, "bareland": 2, "fields": 2, "dense": 2.5, "industry": 0.5}, rural=True,
                 bend=15, relief=0.04),
    "hills": Area((120, 220), {"scrub": 6, "wood": 3, "fields": 3, "bareland": 0.5}, rural=True, bend=25,
                  relief=0.13),
}  # fmt: skip


def draw(canvas: Canvas, kind: str, styles: Sequence[str]) -> None:
    """Draw a whole landscape of this kind in one of these styles."""
    rng, size = canvas.rng, canvas.size
    name = "dry" if kind == "arid" else str(rng.choice(styles))
    land = Land(canvas, STYLES[name])
    canvas.fill(rect(-5, -5, size + 5, size + 5), land.weeds() if rng.random() < 0.6 else land.bare())

    river = kind == "river"
    if river:
        kind = str(rng.choice(["suburb", "dense", "industry", "farmland", "campus", "slabs"]))
    line, gap, width = None, 0.0, 0.0
    if river:
        width = min(rng.uniform(25, 160), 0.3 * size)
        line, gap = crossing(rng, size, 0.07 * size), width / 2 + 26
    elif rng.random() < 0.45:
        width = rng.uniform(13, 26)
        line, gap = crossing(rng, size, (0.07 if kind == "hills" else 0.02) * size), width / 2 + 7
    across = str(rng.choice(list(PLANS))) if rng.random() < 0.6 else kind
    if kind not in ("arid", "hills") and across in ("arid", "hills"):
        across = kind

    def side(sign: int) -> Callable[[np.ndarray], np.ndarray] | None:
        if line is None:
            return None
        along = np.gradient(line, axis=0)

        def inside(p: np.ndarray) -> np.ndarray:
            d2 = ((p[:, None] - line[None]) ** 2).sum(-1)
            i = d2.argmin(1)
            cross = along[i, 0] * (p[:, 1] - line[i, 1]) - along[i, 1] * (p[:, 0] - line[i, 0])
            return (np.sign(cross) == sign) & (d2[np.arange(len(p)), i] > gap**2)

        return inside

    angle = rng.uniform(-0.6, 0.6) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    for sign, what in ((1, kind), (-1, across)) if line is not None else ((1, kind),):
        plan = PLANS[what]
        turn = angle + (rng.normal(0, 0.35) if sign < 0 else 0)
        frame = Frame.random(rng, (size / 2, size / 2), turn, plan.bend * rng.uniform(0, 1.5))
        land.quarter(
            frame, 0.8 * size, rng.uniform(*plan.block), plan.uses, rural=plan.rural, inside=side(sign)
        )
    canvas.frame = Frame((0.0, 0.0), 0.0)
    if line is not None:
        if river:
            land.river(line, width, not PLANS[kind].rural)
        elif rng.random() < 0.2:
            land.railway(line)
        else:
            land.highway(line, width)
    land.relief(PLANS[kind].relief * rng.uniform(0.6, 1.4))
