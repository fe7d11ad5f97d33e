"""What stands on the ground: quarters of streets and blocks, fields, woods, water, drawn on a Canvas.

A landscape is laid out from the coarse to the fine: large curves first (river, arterial road), which part
the scene into quarters, each with its own street direction and gentle bend; streets split a quarter into blocks
again and again; a block's use follows a smooth zoning field; each use has a recipe that fills the block.
All lengths are metres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pansharp_bench.datasets.simulated.canvas import (
    Canvas,
    Frame,
    blob,
    densify,
    offset,
    quads,
    rect,
)

Block = tuple[float, float, float, float]


@dataclass(frozen=True)
class Style:
    """What a scene has in common: its soils, plants, roofs and roads."""

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


_WEST = Style(
    ("soil", "soil-dark"), ("lawn", "dry-grass", 0.25), ("broadleaf", "broadleaf", "broadleaf-light", "conifer"),
    ("membrane", "gravel-roof", "tar", "concrete-dark", "metal"),
    ("shingle", "shingle", "shingle-brown", "shingle-pale", "tile-brown"),
    ("membrane", "metal", "metal-bright", "gravel-roof", "tar", "steel-green"),
    {"crop": 3, "young": 2, "ploughed": 2, "stubble": 1, "fallow": 1},
    leafy=1.0, crown=4.2, pitched=1.0, tidy=0.9,
)  # fmt: skip
_EAST = Style(
    ("soil", "soil-pale"), ("meadow", "dry-grass", 0.5), ("broadleaf", "broadleaf-dry", "conifer"),
    ("concrete", "concrete-dark", "concrete-dark", "gravel-roof", "tar", "tile-grey", "steel-blue"),
    ("tile-grey", "tile-grey", "tile-red", "tile-brown", "concrete-dark"),
    ("steel-blue", "steel-blue", "steel-cobalt", "metal", "metal-bright", "metal-dark", "steel-red", "concrete-dark"),
    {"crop": 2, "young": 3, "ploughed": 4, "stubble": 2, "fallow": 2, "greenhouse": 1, "orchard": 1.5},
    leafy=0.45, crown=2.4, pitched=0.35, tidy=0.45,
)  # fmt: skip
_SOUTH = Style(
    ("soil-red", "soil"), ("meadow", "dry-grass", 0.2), ("broadleaf", "broadleaf-light", "broadleaf"),
    ("concrete", "concrete-dark", "tile-red", "metal", "rust", "tar", "tile-brown", "metal-dark"),
    ("tile-red", "tile-red", "tile-brown", "metal"),
    ("metal", "metal-bright", "steel-blue", "rust", "membrane", "metal-dark"),
    {"crop": 3, "young": 2, "ploughed": 2, "orchard": 2, "fallow": 2, "paddy": 1},
    leafy=0.9, crown=3.4, pitched=0.4, tidy=0.5,
)  # fmt: skip
_DRY = Style(
    ("loess", "soil-pale", "sand"), ("dry-grass", "loess", 0.55), ("broadleaf-dry", "shrub", "broadleaf"),
    ("concrete", "loess", "concrete-dark", "paving", "gravel-roof", "membrane"),
    ("tile-brown", "concrete"), ("metal", "metal-bright", "concrete", "rust", "steel-blue"),
    {"ploughed": 4, "young": 1.5, "crop": 1, "fallow": 3, "orchard": 2},
    leafy=0.3, crown=2.2, pitched=0.05, tidy=0.4,
)  # fmt: skip


class Land:
    """Draws one scene. Recipes take a block (u0, v0, u1, v1) of the canvas's current frame."""

    def __init__(self, canvas: Canvas, style: Style, density: float = 1.0) -> None:
        self.c, self.rng, self.style, self.density = canvas, canvas.rng, style, density
        rng = self.rng
        self.soil = str(rng.choice(style.soils))
        self.soil2 = str(rng.choice(style.soils))
        green, dry, share = style.grass
        share = float(np.clip(share + rng.normal(0, 0.15), 0.02, 0.9))
        self.grass = (green, dry, share)
        self.species = [
            canvas.new(str(rng.choice(style.trees)), "bark", 0.04, bright=rng.uniform(0.8, 1.15), vary=0.16,
                       slope=0.12, fine=0.16, coarse=0.06, mix_fine=0.05)
            for _ in range(14)
        ]  # fmt: skip
        self.asphalt = str(rng.choice(["asphalt", "asphalt-old", "asphalt"]))
        self.fine = canvas.gsd < 0.5
        self.zone = rng.uniform(0, 2 * np.pi, 4)

    # -- surfaces --------------------------------------------------------------------------------------

    def lawn(self, tidy: float = 0.6) -> int:
        green, dry, share = self.grass
        return self.c.new(green, dry, share * (1.3 - tidy), vary=0.08, coarse=0.05, fine=0.07 * (1.3 - tidy),
                          mix_coarse=0.12, mix_fine=0.10 * (1.3 - tidy))  # fmt: skip

    def weeds(self) -> int:
        green, _, share = self.grass
        return self.c.new(self.soil, green, self.rng.uniform(0.15, 0.6) * (1 - 0.5 * share), mix_coarse=0.18,
                          mix_fine=0.16, coarse=0.10, fine=0.08, vary=0.1)  # fmt: skip

    def bare(self) -> int:
        return self.c.new(self.soil, self.soil2, 0.4, vary=0.10, mix_coarse=0.25, coarse=0.10, fine=0.06)

    def road(self, kind: str = "") -> int:
        return self.c.new(kind or self.asphalt, "concrete-dark", self.rng.uniform(0.05, 0.35), vary=0.08,
                          coarse=0.05, fine=0.03, mix_coarse=0.08)  # fmt: skip

    def pavement(self) -> int:
        kind = str(self.rng.choice(["concrete", "concrete-dark", "paving", "asphalt-old"]))
        return self.c.new(kind, self.soil, 0.15 + 0.3 * (1 - self.style.tidy) * self.rng.random(), vary=0.12,
                          coarse=0.08, fine=0.06, mix_coarse=0.12, mix_fine=0.05)  # fmt: skip

    def canopy(self, area: np.ndarray, radius: float = 0.0) -> None:
        self.c.wood(area, radius or self.style.crown * self.rng.uniform(0.75, 1.2), self.species)

    def scatter(self, b: Block, spacing: float, radius: float = 0.0, clump: float = 0.0) -> None:
        """Trees strewn over a block, about ``spacing`` apart; ``clump`` > 0 draws them together."""
        u0, v0, u1, v1 = b
        n = self.rng.poisson(max(0.0, (u1 - u0) * (v1 - v0)) / spacing**2)
        if n == 0:
            return
        at = self.rng.uniform((u0, v0), (u1, v1), (n, 2))
        if clump:
            seeds = at[: max(1, n // 6)]
            near = self.rng.integers(0, len(seeds), n)
            at = np.where(self.rng.random((n, 1)) < clump, seeds[near] + self.rng.normal(0, 1.2 * spacing / 2, (n, 2)),
                          at).clip((u0, v0), (u1, v1))  # fmt: skip
        r = (radius or self.style.crown) * np.exp(self.rng.normal(-0.1, 0.3, n))
        self.c.trees(at, r, self.species)

    def hedge(self, line: np.ndarray, radius: float, gaps: float = 0.2) -> None:
        """A row of trees along a line."""
        step = np.hypot(*np.diff(line, axis=0).T)
        at = np.concatenate([[0], np.cumsum(step)])
        where = np.arange(0, at[-1], radius * self.rng.uniform(1.5, 2.4))
        where = where[self.rng.random(len(where)) > gaps]
        p = np.stack([np.interp(where, at, line[:, i]) for i in (0, 1)], 1)
        p = p + self.rng.normal(0, 0.25 * radius, p.shape)
        self.c.trees(p, radius * np.exp(self.rng.normal(0, 0.22, len(p))), self.species)

    # -- small things ----------------------------------------------------------------------------------

    def cars(self, at: np.ndarray, angle: np.ndarray | float, truck: float = 0.05) -> None:
        n = len(at)
        if n == 0:
            return
        rng = self.rng
        if not hasattr(self, "_paint"):
            kinds = (
                ["car-white"] * 5
                + ["car-silver"] * 5
                + ["car-grey"] * 4
                + ["car-black"] * 5
                + ["car-red"] * 2
            )
            kinds += ["car-blue"]
            self._paint = [self.c.new(k, vary=0.25, coarse=0, fine=0, height=1.4) for k in kinds]
            self._glass = self.c.new("glass", height=1.4, coarse=0, fine=0)
            self._box = [
                self.c.new(k, vary=0.2, height=3.2) for k in ("car-white", "metal", "steel-blue", "rust")
            ]
        big = rng.random(n) < truck
        length = np.where(big, rng.uniform(8, 13, n), rng.uniform(4.0, 5.0, n))
        width = np.where(big, 2.5, 1.8)
        ids = np.where(big, rng.choice(self._box, n), rng.choice(self._paint, n))
        angle = np.broadcast_to(angle, n)
        self.c.fills(quads(at, np.stack([length, width], 1), angle), ids)
        if self.fine:  # windscreens
            ahead = np.stack([np.cos(angle), np.sin(angle)], 1) * 0.9
            self.c.fills(quads(at + ahead, np.stack([np.full(n, 0.8), width * 0.8], 1), angle)[~big],
                         np.full((~big).sum(), self._glass))  # fmt: skip

    def clutter(self, b: Block, density: float, height: float = 1.5, size: float = 2.5) -> None:
        """Boxes, stacks and sheds of no name; ``density`` per 100 m²."""
        u0, v0, u1, v1 = b
        n = self.rng.poisson(max(0.0, density * (u1 - u0) * (v1 - v0) / 100))
        if n == 0:
            return
        if not hasattr(self, "_junk"):
            kinds = ("concrete", "metal", "membrane", "rust", "metal-dark", "tar", "steel-blue", "bark", "soil-dark",
                     "tile-red", "concrete-dark", "paint")  # fmt: skip
            self._junk = [
                self.c.new(k, vary=0.3, slope=0.1, height=h * height) for k in kinds for h in (0.5, 1, 2)
            ]
        at = self.rng.uniform((u0, v0), (u1, v1), (n, 2))
        s = size * np.exp(self.rng.normal(-0.2, 0.5, (n, 2)))
        self.c.fills(quads(at, s, self.rng.normal(0, 0.1, n)), self.rng.choice(self._junk, n))

    # -- buildings -------------------------------------------------------------------------------------

    def flat(self, q: np.ndarray, kind: str, height: float, detail: float = 1.0) -> None:
        """A flat-roofed building over a quadrilateral (4, 2), with parapet and boxes on the roof."""
        c, rng = self.c, self.rng
        roof = c.new(kind, str(rng.choice(["tar", "concrete", "soil", "rust"])), rng.uniform(0, 0.25), vary=0.18,
                     slope=0.06, coarse=0.07, fine=0.05, mix_coarse=0.10, height=height)  # fmt: skip
        if c.gsd < 1.2 and rng.random() < 0.5:
            rim = c.new(
                str(rng.choice(["concrete", "concrete-dark", "membrane"])), vary=0.15, height=height + 0.6
            )
            c.fill(q, rim)
            mid = q.mean(0)
            edge = np.hypot(*(q[1] - q[0])), np.hypot(*(q[3] - q[0]))
            shrink = 1 - 1.0 / max(2.5, min(edge))
            c.fill(mid + (q - mid) * shrink, roof)
        else:
            c.fill(q, roof)
        mid, e0, e1 = q.mean(0), q[1] - q[0], q[3] - q[0]
        area = np.hypot(*e0) * np.hypot(*e1)
        n = rng.poisson(detail * area / 90)
        if n:
            ab = rng.uniform(-0.38, 0.38, (n, 2))
            at = mid + ab[:, :1] * e0 + ab[:, 1:] * e1
            size = np.exp(rng.normal(0.5, 0.45, (n, 2))).clip(
                0.8, 0.3 * min(np.hypot(*e0), np.hypot(*e1)) + 0.5
            )
            ids = [c.new(k, vary=0.3, height=height + h) for k, h in zip(
                rng.choice(["metal", "concrete", "membrane", "tar", "metal-dark", "steel-blue"], n),
                rng.uniform(0.8, 2.8, n), strict=True)]  # fmt: skip
            c.fills(quads(at, size, np.arctan2(e0[1], e0[0])), ids)

    def gable(self, q: np.ndarray, kind: str, height: float, pitch: float = 0.45, hip: bool = False,
              worn: float = 0.1) -> None:  # fmt: skip
        """A pitched roof over a quadrilateral whose first edge runs along the ridge."""
        c = self.c
        along = q[1] - q[0]
        angle = np.arctan2(along[1], along[0])
        head = c.heading(angle)
        bright = float(np.exp(self.rng.normal(0, 0.16)))
        second = "rust" if kind.startswith(("metal", "steel")) else "tar"
        kw = dict(bright=bright, vary=0.02, slope=0.05, coarse=0.05, fine=0.05, mix_coarse=0.08)
        low, high = (q[0] + q[3]) / 2, (q[1] + q[2]) / 2
        if hip:
            depth = np.hypot(*(q[3] - q[0])) / 2 / max(np.hypot(*along), 1e-6)
            depth = min(depth, 0.45)
            low, high = low + along * depth, high - along * depth
        side = -np.pi / 2  # the first edge lies on the side of smaller v
        for points, turn in (
            (np.array([q[0], q[1], high, low]), side),
            (np.array([low, high, q[2], q[3]]), -side),
            *(((np.array([q[0], low, q[3]]), np.pi), (np.array([q[1], high, q[2]]), 0.0)) if hip else ()),
        ):
            c.fill(points, c.new(kind, second, worn, height=height, tilt=c.facing(pitch, head + turn), **kw))

    def hall(self, q: np.ndarray, kind: str, height: float) -> None:
        """An industrial hall: parallel shallow gables with ridges, skylights and stains."""
        c, rng = self.c, self.rng
        e0, e1 = q[1] - q[0], q[3] - q[0]
        if np.hypot(*e1) > np.hypot(*e0) * 1.0 and rng.random() < 0.6:
            q, e0, e1 = np.roll(q, -1, axis=0), e1, q[0] - q[1]
        length, depth = np.hypot(*e0), np.hypot(*e1)
        spans = max(1, round(depth / rng.uniform(14, 28)))
        angle = np.arctan2(e0[1], e0[0])
        head, pitch = c.heading(angle), rng.uniform(0.06, 0.14)
        bright, slope = float(np.exp(rng.normal(0, 0.18))), 0.05 * rng.standard_normal()
        period = rng.choice([3.0, 6.0, 9.0])
        turn = 1.0 if e0[0] * e1[1] - e0[1] * e1[0] > 0 else -1.0
        worn = rng.uniform(0, 0.25)
        sky = c.new("plastic", vary=0.1, height=height)
        vent = c.new("metal-dark", vary=0.2, height=height + 1.5)
        lights = rng.random() < 0.45
        for i in range(spans):
            p = q[0] + e1 * (i / spans)
            half = e1 / spans / 2
            for j, t in ((0, -turn), (1, turn)):
                roof = c.new(kind, "rust" if rng.random() < 0.5 else "metal-dark", worn, bright=bright, vary=0.04,
                             slope=0.0, coarse=0.03, fine=0.025, mix_coarse=0.06, stripe=0.018, period=period,
                             along=head + np.pi / 2, height=height,
                             tilt=c.facing(pitch, head + t * np.pi / 2))  # fmt: skip
                c.rows[-1] = (*c.rows[-1][:3], slope, *c.rows[-1][4:])
                a = p + half * j
                c.fill(np.array([a, a + e0, a + e0 + half, a + half]), roof)
                if lights:
                    n = int(length / 12)
                    at = a + e0 * ((np.arange(n) + 0.5) / max(n, 1))[:, None] + half * 0.5
                    c.fills(quads(at, (1.2, 0.6 * np.hypot(*half)), angle), np.full(n, sky))
            if length > 25 and rng.random() < 0.5:
                c.fill(
                    quads((p + half + e0 * 0.5)[None], (length * rng.uniform(0.5, 0.85), 1.6), angle)[0], vent
                )

    def house(self, mid: np.ndarray, size: tuple[float, float], angle: float) -> None:
        rng = self.rng
        kind = str(rng.choice(self.style.pitched_roofs))
        height = rng.uniform(3.2, 6.5)
        hip = rng.random() < 0.45
        wing = rng.random() < 0.5
        if wing:
            s = rng.choice([-1, 1])
            w = (size[0] * 0.45, size[1] * 0.85)
            at = np.asarray(mid) + quads([[s * size[0] * 0.25, rng.choice([-1, 1]) * size[1] * 0.45]], [0, 0], 0)[0, 0] @ \
                np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # fmt: skip
            self.gable(np.roll(quads(at[None], w, angle)[0], -1, 0), kind, height * 0.95, 0.5, hip)
        self.gable(quads(np.asarray(mid)[None], size, angle)[0], kind, height, rng.uniform(0.35, 0.6), hip)

    # -- recipes: one block each -----------------------------------------------------------------------

    def suburb(self, b: Block) -> None:
        """Detached houses on lots along the street, with lawns, drives and garden trees."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        turned = (u1 - u0) < (v1 - v0)
        if turned:  # lots line the long sides: draw in swapped axes
            u0, v0, u1, v1 = v0, u0, v1, u1

        def place(q: np.ndarray) -> np.ndarray:
            return q[..., ::-1] if turned else q

        c.fill(densify(place(rect(u0, v0, u1, v1))), self.lawn())
        depth = v1 - v0
        rows = [(v0, 1.0), (v1, -1.0)] if depth > 42 else [(v0, 1.0)]
        lot = rng.uniform(15, 24)
        for edge, d in rows:
            deep = depth / len(rows)
            edges = np.cumsum(
                np.concatenate([[u0], lot * np.exp(rng.normal(0, 0.12, int((u1 - u0) / lot) + 1))])
            )
            edges = edges[edges < u1 - 0.6 * lot]
            for a, z in zip(edges, np.append(edges[1:], u1), strict=True):
                w = z - a
                c.fill(densify(place(rect(a, edge, z, edge + d * deep))), self.lawn(rng.uniform(0, 1)))
                if rng.random() < 0.05:
                    continue
                setback = rng.uniform(6, 9)
                size = (w * rng.uniform(0.55, 0.72), min(deep * 0.4, rng.uniform(8, 12)))
                mid = np.array([(a + z) / 2 + rng.normal(0, 0.6), edge + d * (setback + size[1] / 2)])
                drive = a + w * rng.choice([0.14, 0.84])
                c.fill(place(rect(drive - 1.6, edge, drive + 1.6, edge + d * (setback + 3))), self.pavement())
                if turned:
                    self.house(mid[::-1], size, np.pi / 2)
                else:
                    self.house(mid, size, 0.0)
                if rng.random() < 0.5:
                    at = place(np.array([[drive, edge + d * rng.uniform(2, setback)]]))
                    self.cars(at, 0.0 if turned else np.pi / 2, 0.0)
                back = np.sort([edge + d * (setback + size[1] + 1), edge + d * deep])
                if rng.random() < 0.35:
                    at = place(
                        np.array(
                            [
                                [
                                    rng.uniform(a + 2, z - 2),
                                    rng.uniform(back[0] + 2, max(back[1] - 2, back[0] + 2.1)),
                                ]
                            ]
                        )
                    )
                    self.gable(
                        quads(at, rng.uniform(2.5, 5, 2), 0)[0],
                        str(rng.choice(self.style.pitched_roofs)),
                        2.4,
                    )
                if rng.random() < 0.06 and back[1] - back[0] > 12:
                    at = place(np.array([[(a + z) / 2, back.mean()]]))
                    c.fill(quads(at, (9, 6), 0)[0], c.new("concrete", vary=0.1))
                    c.fill(quads(at, (7.5, 4), 0)[0], c.new("pool", vary=0.1, coarse=0.02))
                n = rng.poisson(2.6 * self.style.leafy * w * (back[1] - back[0]) / 350)
                at = rng.uniform((a, back[0]), (z, back[1]), (n, 2))
                c.trees(place(at), self.style.crown * np.exp(rng.normal(-0.1, 0.32, n)), self.species)
                if rng.random() < 0.55 * self.style.leafy:
                    at = np.array([[rng.uniform(a + 1, z - 1), edge + d * rng.uniform(1.0, 4.0)]])
                    c.trees(place(at), self.style.crown * rng.uniform(0.7, 1.4), self.species)

    def dense(self, b: Block) -> None:
        """Low houses wall to wall: rows, alleys and courtyards."""
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.pavement())
        self.clutter(b, 0.5 * (1.3 - st.tidy), 1.5, 2.0)
        depth = rng.uniform(9, 15)
        pitched = rng.random() < st.pitched
        alley = rng.uniform(0.8, 3.5)
        floors = rng.uniform(1.2, 3.2)
        palette = list(rng.choice(st.flat_roofs, 4)) + list(st.flat_roofs[:2])
        v = v0 + rng.uniform(0, 1)
        while v + 5 < v1:
            deep = min(depth * np.exp(rng.normal(0, 0.15)), v1 - v)
            u = u0 + rng.uniform(0, 2)
            while u + 4 < u1:
                w = min(float(np.exp(rng.normal(2.15, 0.33))), u1 - u)
                if w < 3.5:
                    break
                if rng.random() < 0.88:
                    d = deep * rng.uniform(0.6, 1.0)
                    at = np.array([[u + w / 2, v + (d / 2 if rng.random() < 0.5 else deep - d / 2)]])
                    size = (w - rng.choice([0.0, 0.3, 1.0]), d)
                    height = 3.0 * max(1, round(floors + rng.normal(0, 0.6)))
                    q = quads(at, size, rng.normal(0, 0.025))[0]
                    if pitched and rng.random() < 0.85:
                        kind = str(rng.choice(st.pitched_roofs))
                        q = q if w > d else np.roll(q, -1, 0)
                        self.gable(q, kind, height, 0.42, worn=0.15)
                    else:
                        self.flat(q, str(rng.choice(palette)), height, 0.8)
                elif rng.random() < 0.5:
                    self.scatter((u, v, u + w, v + deep), 6 / max(st.leafy, 0.2))
                u += w + (rng.uniform(1, 4) if rng.random() < 0.12 else 0.0)
            v += deep + alley * rng.uniform(0.5, 2.0)

    def slabs(self, b: Block) -> None:
        """Rows of apartment blocks that cast long shadows, gardens between them."""
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.pavement() if rng.random() < 0.45 else self.weeds())
        height = float(rng.choice([18, 18, 21, 33, 50, 75]))
        deep = rng.uniform(11, 14) if height < 40 else rng.uniform(15, 22)
        pitch = deep + height * rng.uniform(0.75, 1.15)
        length = rng.uniform(34, 70) if height < 40 else rng.uniform(22, 45)
        gap = rng.uniform(6, 14) if height < 40 else rng.uniform(14, 30)
        roof = str(rng.choice(["concrete-dark", "gravel-roof", "tile-grey", "tar", "concrete", "tile-red"]))
        modules = max(2, round(length / rng.uniform(11, 16)))
        v = v0 + 6
        shift = rng.uniform(0, 10)
        while v + deep < v1 - 2:
            u = u0 + 4 + shift
            while u + length * 0.6 < u1 - 3:
                w = min(length, u1 - 3 - u)
                h = height * (1 + rng.normal(0, 0.03))
                bright = 1.0
                mid = np.array([u + w / 2, v + deep / 2])
                k = max(2, round(w / length * modules))
                stagger = 1.2 if rng.random() < 0.6 else 0.0
                base = c.new(
                    roof, "tar", 0.15, bright=bright, vary=0.10, height=h, mix_coarse=0.08, fine=0.05
                )
                rim = c.new("concrete", vary=0.12, height=h + 0.8)
                ids = np.full(k, rim)
                centre = np.stack(
                    [
                        u + (np.arange(k) + 0.5) * w / k,
                        np.full(k, mid[1]) + stagger * (np.arange(k) % 2 - 0.5),
                    ],
                    1,
                )
                c.fills(quads(centre, (w / k + 0.1, deep)), ids)
                c.fills(quads(centre, (w / k - 0.7, deep - 1.2)), np.full(k, base))
                # stair heads and lift rooms, evenly along the roof
                top = c.new(str(rng.choice(["concrete", "membrane", "metal"])), vary=0.12, height=h + 2.8)
                c.fills(
                    quads(centre + [0, rng.uniform(-2, 2)], (rng.uniform(3, 5), rng.uniform(3.5, 6))),
                    np.full(k, top),
                )
                dark = c.new("tar", vary=0.2, height=h + 2.8)
                c.fills(quads(centre + [0.3, rng.uniform(-1, 1)], (1.8, 2.0)), np.full(k, dark))
                u += w + gap
            # garden strip and path between the rows
            g0, g1 = v + deep + 1.5, min(v + pitch - 1.5, v1)
            if g1 - g0 > 4:
                c.fill(densify(rect(u0 + 3, g0, u1 - 3, g1)), self.weeds())
                w = rng.uniform(2.5, 4.5)
                c.fill(densify(rect(u0, g0, u1, g0 + w)), self.pavement())
                n = rng.poisson((u1 - u0) / 14)
                self.cars(
                    np.stack([rng.uniform(u0, u1, n), np.full(n, g0 + w + 1)], 1),
                    rng.choice([0, np.pi / 2]),
                    0,
                )
                self.scatter((u0 + 3, g0 + w + 1, u1 - 3, g1), 7 / max(st.leafy, 0.15), st.crown * 0.9)
            v += pitch

    def industry(self, b: Block) -> None:
        """Halls in yards, with stores, lorries and parked cars."""
        c, rng, st = self.c, self.rng, self.style
        c.fill(densify(rect(*b)), self.bare() if rng.random() > st.tidy + 0.3 else self.pavement())
        self._halls(b, 0)
        u0, v0, u1, v1 = b
        if rng.random() < 0.6:  # wall or green strip
            line = np.array(
                [[u0 + 1, v0 + 1], [u1 - 1, v0 + 1], [u1 - 1, v1 - 1], [u0 + 1, v1 - 1], [u0 + 1, v0 + 1]]
            )
            self.hedge(densify(line), st.crown * 0.6, 0.45)

    def _halls(self, b: Block, level: int) -> None:
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        w, h = u1 - u0, v1 - v0
        if min(w, h) < 14:
            return
        if max(w, h) > rng.uniform(55, 130) and level < 5:
            f = rng.uniform(0.35, 0.65)
            if w > h:
                self._halls((u0, v0, u0 + f * w, v1), level + 1)
                self._halls((u0 + f * w, v0, u1, v1), level + 1)
            else:
                self._halls((u0, v0, u1, v0 + f * h), level + 1)
                self._halls((u0, v0 + f * h, u1, v1), level + 1)
            return
        what = rng.random()
        m = rng.uniform(2.5, 7)
        if what < 0.68:
            q = rect(u0 + m, v0 + m, u1 - m * rng.uniform(0.5, 1), v1 - m * rng.uniform(0.5, 1.6))
            kind = str(rng.choice(st.halls))
            if kind in ("membrane", "gravel-roof", "tar", "concrete", "concrete-dark"):
                self.flat(q, kind, rng.uniform(5, 11), 0.6)
            else:
                self.hall(q, kind, rng.uniform(5, 11))
        elif what < 0.80:
            self.parking((u0 + 2, v0 + 2, u1 - 2, v1 - 2))
        elif what < 0.9:
            c.fill(blob(rng, ((u0 + u1) / 2, (v0 + v1) / 2), 0.4 * min(w, h)), self.heap())
            self.clutter(b, 0.5, 1.5, 3)
        else:
            self.clutter(b, 1.2, 2.0, 3.0)
            n = rng.poisson(w * h / 500)
            self.cars(rng.uniform((u0, v0), (u1, v1), (n, 2)), rng.choice([0, np.pi / 2]), 0.6)

    def heap(self) -> int:
        kind = str(self.rng.choice(["coal", "gravel", "sand", self.soil, "concrete-dark"]))
        return self.c.new(kind, self.soil, 0.15, vary=0.1, coarse=0.22, fine=0.12, mix_coarse=0.12)

    def parking(self, b: Block) -> None:
        """Rows of stalls."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        if u1 - u0 < 12 or v1 - v0 < 10:
            return
        c.fill(
            densify(rect(*b)),
            self.road(str(rng.choice(["asphalt", "asphalt-new", "asphalt-old", "concrete-dark"]))),
        )
        busy = rng.uniform(0.15, 0.85)
        line = c.new("paint", "asphalt", 0.4, vary=0.1)
        v = v0 + 3
        while v + 5 < v1:
            u = np.arange(u0 + 2, u1 - 2, 2.6)
            for dv in (0.0, 5.2):
                if v + dv + 5 > v1:
                    continue
                if self.fine:
                    c.fills(
                        quads(np.stack([u, np.full(len(u), v + dv + 2.5)], 1), (0.15, 4.8)),
                        np.full(len(u), line),
                    )
                full = rng.random(len(u)) < busy
                at = np.stack([u + 1.3, v + dv + 2.5 + rng.normal(0, 0.25, len(u))], 1)[full]
                self.cars(at, np.pi / 2, 0.0)
            if rng.random() < 0.4 * self.style.leafy:
                self.hedge(np.array([[u0 + 2, v + 5.1], [u1 - 2, v + 5.1]]), 1.8, 0.5)
            v += rng.uniform(16, 18)

    def commercial(self, b: Block) -> None:
        """A large flat roof in its car park."""
        rng = self.rng
        u0, v0, u1, v1 = b
        self.c.fill(densify(rect(*b)), self.pavement())
        f = rng.uniform(0.4, 0.7)
        if (u1 - u0) > (v1 - v0):
            store, lot = (
                (u0 + 4, v0 + 4, u0 + f * (u1 - u0), v1 - 4),
                (u0 + f * (u1 - u0) + 5, v0 + 3, u1 - 3, v1 - 3),
            )
        else:
            store, lot = (
                (u0 + 4, v0 + 4, u1 - 4, v0 + f * (v1 - v0)),
                (u0 + 3, v0 + f * (v1 - v0) + 5, u1 - 3, v1 - 3),
            )
        self.flat(
            rect(*store),
            str(rng.choice(["membrane", "gravel-roof", "metal", "tar", "concrete"])),
            rng.uniform(6, 16),
        )
        self.parking(lot)
        self.hedge(
            densify(np.vstack([rect(u0 + 1, v0 + 1, u1 - 1, v1 - 1), [[u0 + 1, v0 + 1]]])),
            self.style.crown * 0.7,
            0.5,
        )

    def office(self, b: Block) -> None:
        """Mid and high rises with courts and planted yards."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.pavement())
        self.scatter(b, 11 / max(self.style.leafy, 0.3))
        w, h = u1 - u0, v1 - v0
        n, m = max(1, int(w / 55)), max(1, int(h / 55))
        for i in range(n):
            for j in range(m):
                x0, y0 = u0 + i * w / n + rng.uniform(5, 10), v0 + j * h / m + rng.uniform(5, 10)
                x1, y1 = u0 + (i + 1) * w / n - rng.uniform(4, 10), v0 + (j + 1) * h / m - rng.uniform(4, 10)
                if x1 - x0 < 10 or y1 - y0 < 10:
                    continue
                kind = str(
                    rng.choice(["concrete", "gravel-roof", "membrane", "tar", "concrete-dark", "tile-grey"])
                )
                tall = rng.uniform(8, 24) if rng.random() < 0.7 else rng.uniform(30, 80)
                if rng.random() < 0.4:  # around a court
                    t = min(14.0, 0.3 * min(x1 - x0, y1 - y0))
                    for q in (rect(x0, y0, x1, y0 + t), rect(x0, y1 - t, x1, y1), rect(x0, y0 + t, x0 + t, y1 - t),
                              rect(x1 - t, y0 + t, x1, y1 - t)):  # fmt: skip
                        self.flat(q, kind, tall, 0.7)
                else:
                    self.flat(rect(x0, y0, x1, y1), kind, 0.5 * tall)
                    s = rng.uniform(0.35, 0.8)
                    mid = np.array([[(x0 + x1) / 2, (y0 + y1) / 2]])
                    self.flat(quads(mid, ((x1 - x0) * s, (y1 - y0) * s))[0], kind, tall)

    def park(self, b: Block) -> None:
        """Lawns, winding paths, clumps of trees, perhaps a pond or a sports ground."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        w, h = u1 - u0, v1 - v0
        c.fill(densify(rect(*b)), self.lawn(0.3))
        for _ in range(rng.poisson(w * h / 2500)):
            c.fill(blob(rng, rng.uniform((u0, v0), (u1, v1)), rng.uniform(8, 25)), self.lawn(rng.random()))
        if min(w, h) > 75 and rng.random() < 0.5:
            self.sports(
                ((u0 + u1) / 2, (v0 + v1) / 2), 0.0 if w > h else np.pi / 2, min(1.0, min(w, h) / 110)
            )
        elif min(w, h) > 50 and rng.random() < 0.4:
            self.pond(rng.uniform((u0 + 15, v0 + 15), (u1 - 15, v1 - 15)), 0.25 * min(w, h))
        for _ in range(2 + rng.poisson(w * h / 6000)):
            p = rng.uniform((u0, v0), (u1, v1), (4, 2))
            c.strip(curve(p, 40), rng.uniform(1.5, 3.5), self.pavement())
        clumps = [blob(rng, rng.uniform((u0, v0), (u1, v1)), rng.uniform(6, 0.22 * min(w, h) + 7), 0.45)
                  for _ in range(rng.poisson(w * h / 2200))]  # fmt: skip
        if clumps:
            area = c.mask(clumps) & c.mask([densify(rect(*b))])
            self.canopy(area)
        self.scatter(b, 14, clump=0.4)

    def sports(self, at: tuple[float, float], angle: float, scale: float = 1.0) -> None:
        """A running track with its pitch, or courts."""
        c, rng = self.c, self.rng
        at = np.asarray(at)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        if scale > 0.75 and rng.random() < 0.6:
            t = np.linspace(-np.pi / 2, np.pi / 2, 16)

            def oval(r: float) -> np.ndarray:
                right = np.stack([42 + r * np.cos(t), r * np.sin(t)], 1)
                return np.concatenate([right, -right]) * scale @ turn + at

            c.fill(oval(46), c.new("tartan", "asphalt", rng.choice([0.0, 0.1, 0.9]), vary=0.1, coarse=0.03))
            c.fill(oval(36.5), self.lawn(0.9))
            c.fill(rect(-50, -32, 50, 32) * scale @ turn + at,
                   c.new("turf" if rng.random() < 0.5 else "lawn", "lawn", 0.3, vary=0.1, stripe=0.06, period=11,
                         along=c.heading(angle) + np.pi / 2))  # fmt: skip
            if self.fine:
                line = c.new("paint", "lawn", 0.3)
                for a in (-50, 0, 50):
                    c.fill((rect(a - 0.1, -32, a + 0.1, 32) * scale) @ turn + at, line)
                for b in (-32, 32):
                    c.fill((rect(-50, b - 0.1, 50, b + 0.1) * scale) @ turn + at, line)
        else:
            n = int(rng.integers(2, 5))
            for i in range(n):
                mid = at + np.array([(i - n / 2) * 20 * scale, 0]) @ turn
                c.fill(
                    quads(mid[None], (18 * scale, 36 * scale), angle)[0],
                    c.new(str(rng.choice(["tartan", "steel-green"])), vary=0.15),
                )
                c.fill(quads(mid[None], (11 * scale, 24 * scale), angle)[0],
                       c.new(str(rng.choice(["steel-green", "steel-blue", "tartan"])), vary=0.15))  # fmt: skip

    def pond(self, at: np.ndarray, radius: float) -> None:
        rng = self.rng
        outline = blob(rng, at, radius, 0.35, 60)
        mid = outline.mean(0)
        self.c.fill(
            mid + (outline - mid) * (1 + 4 / radius), self.bare() if rng.random() < 0.5 else self.weeds()
        )
        self.c.fill(outline, self.water())

    def water(self) -> int:
        kind = str(self.rng.choice(["water", "water-green", "water-green", "water-muddy"]))
        return self.c.new(kind, "water-green", self.rng.uniform(0, 0.3), vary=0.1, slope=0.1, coarse=0.02, fine=0.012,
                          mix_coarse=0.06)  # fmt: skip

    def bareland(self, b: Block) -> None:
        """A building site or waste ground: earth in many tones, tracks, heaps, some sheds."""
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.bare())
        for _ in range(3 + rng.poisson((u1 - u0) * (v1 - v0) / 900)):
            at = rng.uniform((u0, v0), (u1, v1))
            r = min(rng.uniform(4, 22), 0.3 * min(u1 - u0, v1 - v0))
            at = at.clip((u0 + r, v0 + r), (u1 - r, v1 - r))
            c.fill(blob(rng, at, r, 0.5), self.bare() if rng.random() < 0.6 else self.weeds())
        track = c.new(self.soil, "concrete", 0.3, bright=1.2, vary=0.1)
        for _ in range(1 + rng.poisson(1.5)):
            c.strip(curve(rng.uniform((u0, v0), (u1, v1), (4, 2)), 30), rng.uniform(2.5, 4.5), track)
        if rng.random() < 0.5:
            r = 0.12 * min(u1 - u0, v1 - v0)
            c.fill(blob(rng, rng.uniform((u0 + r, v0 + r), (u1 - r, v1 - r)), r, 0.5), self.heap())
        if rng.random() < 0.4:
            self.clutter(b, 0.12, 2.0, 4.0)
        self.scatter(b, 26, self.style.crown * 0.6, 0.5)

    def wood(self, b: Block) -> None:
        c = self.c
        c.fill(densify(rect(*b)), self.weeds())
        u0, v0, u1, v1 = b
        m = 0.42 * min(u1 - u0, v1 - v0)
        outlines = [blob(self.rng, self.rng.uniform((u0, v0), (u1, v1)), m * self.rng.uniform(0.4, 1.1), 0.4)
                    for _ in range(5)]  # fmt: skip
        area = c.mask(outlines) & c.mask([densify(rect(*b))])
        self.canopy(area)
        self.scatter(b, 12)

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
                self.parcel(tuple(part[i] for i in (1, 0, 3, 2)) if turned else part, crop, turned)
                v += d + rng.choice([0.0, 0.0, 1.5])
            u += w + rng.choice([0.0, 0.0, 0.0, 1.0, 3.0])
        for _ in range(rng.poisson(0.5)):
            a = rng.uniform(u0, u1)
            line = densify(np.array([[a, v0], [a, v1]]))[: int((v1 - v0) // 15) + 1]
            self.hedge(line[:, ::-1] if turned else line, st.crown * rng.uniform(0.6, 1.0), 0.3)

    def parcel(self, b: Block, crop: str, turned: bool) -> None:
        c, rng, st = self.c, self.rng, self.style
        u0, v0, u1, v1 = b
        if u1 - u0 < 1 or v1 - v0 < 1:
            return
        along = c.heading(0.0 if turned else np.pi / 2)
        green, dry, _ = self.grass
        period = rng.uniform(1.5, 4.0) if c.gsd > 0.5 else rng.uniform(0.7, 2.5)
        outline = densify(rect(*b))
        tone = float(np.exp(rng.normal(0, 0.10)))
        if crop == "ploughed":
            number = c.new(self.soil, "soil-dark", rng.uniform(0.0, 0.5), bright=tone, mix_coarse=0.16, mix_fine=0.05,
                           coarse=0.06, fine=0.05, stripe=0.05, period=period, along=along)  # fmt: skip
        elif crop == "young":
            number = c.new(self.soil, "young-crop", rng.uniform(0.15, 0.6), bright=tone, mix_coarse=0.12, mix_fine=0.07,
                           mix_stripe=0.12, stripe=0.03, period=period, along=along)  # fmt: skip
        elif crop == "crop":
            number = c.new("crop", self.soil, rng.uniform(0.02, 0.25), bright=tone * rng.uniform(0.8, 1.1), slope=0.1,
                           mix_coarse=0.09, mix_fine=0.03, stripe=0.03, period=period, along=along)  # fmt: skip
        elif crop == "stubble":
            number = c.new("straw", self.soil, rng.uniform(0.2, 0.6), bright=tone, mix_coarse=0.14, mix_fine=0.05,
                           stripe=0.04, period=period * 1.5, along=along)  # fmt: skip
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
        c.fill(outline, number)
        if crop == "orchard":
            s = rng.uniform(3.5, 6.0)
            gu, gv = np.meshgrid(np.arange(u0 + s / 2, u1, s), np.arange(v0 + s / 2, v1, s))
            at = np.stack([gu.ravel(), gv.ravel()], 1)
            at = at[rng.random(len(at)) > 0.06] if len(at) < 4000 else at[:0]
            c.trees(at + rng.normal(0, 0.25, at.shape), s * rng.uniform(0.26, 0.44) * np.exp(rng.normal(0, 0.15, len(at))),
                    self.species)  # fmt: skip

    def greenhouses(self, b: Block, turned: bool) -> None:
        c, rng = self.c, self.rng
        u0, v0, u1, v1 = b
        c.fill(densify(rect(*b)), self.bare())
        w = rng.uniform(7, 10)
        lo, hi = (v0, v1) if turned else (u0, u1)
        head = c.heading(0.0 if turned else np.pi / 2)
        x = lo + 1
        while x + w < hi:
            for part, turn in ((0, -np.pi / 2), (1, np.pi / 2)):
                roof = c.new("plastic", "crop", rng.uniform(0.1, 0.5), vary=0.12, fine=0.05, stripe=0.04, period=4,
                             along=head + np.pi / 2, height=2.5, tilt=c.facing(0.35, head + turn))  # fmt: skip
                a = x + part * w / 2
                c.fill(densify(rect(u0, a, u1, a + w / 2) if turned else rect(a, v0, a + w / 2, v1)), roof)
            x += w + rng.uniform(1, 2.5)

    # -- streets ---------------------------------------------------------------------------------------

    def street(self, line: np.ndarray, width: float, level: int, rural: bool) -> None:
        """A road along a line; level 0 is the greatest."""
        c, rng, st = self.c, self.rng, self.style
        if rural and level >= 2:
            c.strip(
                line,
                width,
                c.new(
                    self.soil, "concrete-dark", rng.uniform(0, 0.5), bright=rng.uniform(1.05, 1.35), vary=0.05
                ),
            )
            return
        if not rural:
            c.strip(line, width + (4.5 if level < 2 else 3.0), self.pavement())
        c.strip(line, width, self.road())
        if width >= 16:
            c.strip(line, rng.uniform(1.5, 4), self.lawn() if rng.random() < 0.6 else self.pavement())
        lanes = max(2, int(width // 3.6))
        paint = c.new("paint", self.asphalt, 0.35 if self.fine else 0.6, vary=0.1)
        if c.gsd < 0.8 and width > 6.5:
            wide = 0.18 if self.fine else 0.3
            for i in range(1, lanes):
                d = (i / lanes - 0.5) * width
                if abs(d) > 0.4 or width < 12:
                    c.dashes(offset(line, d), wide, 3.5 if width > 8 else 6, 6.0, paint)
            if width > 9:
                for d in (-width / 2 + 0.5, width / 2 - 0.5):
                    c.strip(offset(line, d), wide, paint)
        length = np.hypot(*np.diff(line, axis=0).T).sum()
        n = rng.poisson(length * lanes / (30 if level == 0 else 60 if level == 1 else 130))
        self.traffic(line, width, lanes, n)
        if not rural or rng.random() < 0.3:
            for d in (-1, 1):
                if rng.random() < 0.25 + 0.5 * st.leafy:
                    self.hedge(offset(line, d * (width / 2 + 1.8)), st.crown * rng.uniform(0.6, 0.95), 0.35)
            if level >= 2 and c.gsd < 1.1:  # parked along the kerb
                n = rng.poisson(length / 18)
                self.traffic(line, 2 * width - 4.2, 2, n)

    def traffic(self, line: np.ndarray, width: float, lanes: int, n: int) -> None:
        if n == 0:
            return
        rng = self.rng
        step = np.hypot(*np.diff(line, axis=0).T)
        at = np.concatenate([[0], np.cumsum(step)])
        s = rng.uniform(0, at[-1], n)
        p = np.stack([np.interp(s, at, line[:, i]) for i in (0, 1)], 1)
        q = np.stack([np.interp(s + 1, at, line[:, i]) for i in (0, 1)], 1)
        d = q - p
        d = np.where(np.hypot(d[:, 0], d[:, 1])[:, None] < 1e-6, line[-1] - line[-2], d)
        d /= np.hypot(d[:, 0], d[:, 1])[:, None]
        lane = ((rng.integers(0, lanes, n) + 0.5) / lanes - 0.5) * width
        self.cars(p + np.stack([-d[:, 1], d[:, 0]], 1) * lane[:, None], np.arctan2(d[:, 1], d[:, 0]), 0.1)

    def quarter(
        self, frame: Frame, half: float, block: float, uses: dict[str, float], *, rural: bool = False,
        inside: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> None:  # fmt: skip
        """Streets and blocks over ±half metres of a frame; only where ``inside`` holds at a block's corners."""
        c, rng = self.c, self.rng
        c.frame = frame
        widths = (
            [rng.uniform(9, 14), 6, 4, 3.5]
            if rural
            else [rng.uniform(18, 28), rng.uniform(11, 15), rng.uniform(7, 9), 6.5]
        )
        roads: list[tuple[np.ndarray, float, int]] = []
        todo: list[Block] = []
        names, weights = list(uses), np.array(list(uses.values()), float)

        def keep(b: Block) -> bool:
            corners = rect(*b)
            return c.seen(corners) and (inside is None or bool(inside(frame(corners)).all()))

        def split(b: Block, level: int) -> None:
            u0, v0, u1, v1 = b
            w, h = u1 - u0, v1 - v0
            corners = densify(rect(*b), 40)
            if not c.seen(corners, 30):
                return
            if inside is not None and not inside(frame(corners)).any():
                return
            limit = block * (1.15 if level % 2 else 0.9) * np.exp(rng.normal(0, 0.18))
            if max(w, h) < limit * 1.6 and min(w, h) < limit * 1.1:
                todo.append(b)
                return
            f = rng.uniform(0.36, 0.64)
            depth = int(np.log2(max(w, h) / limit))
            rank = 0 if depth >= 3 else 1 if depth >= 2 else 2 if depth >= 1 else 3
            road = widths[min(rank, 3)]
            if w > h * 1.0:
                m = u0 + f * w
                line = np.stack([np.full(40, m), np.linspace(v0, v1, 40)], 1)
                parts = [(u0, v0, m - road / 2, v1), (m + road / 2, v0, u1, v1)]
            else:
                m = v0 + f * h
                line = np.stack([np.linspace(u0, u1, 40), np.full(40, m)], 1)
                parts = [(u0, v0, u1, m - road / 2), (u0, m + road / 2, u1, v1)]
            roads.append((line, road, rank))
            for part in parts:
                split(part, level + 1)

        split((-half, -half, half, half), 0)
        verge = 0.6 if rural else 2.2
        for line, width, rank in sorted(roads, key=lambda r: -r[2]):
            if inside is not None:
                ok = inside(frame(line))
                if not ok.any():
                    continue
                line = line[np.flatnonzero(ok)[0] : np.flatnonzero(ok)[-1] + 1]
                if len(line) < 3:
                    continue
            self.street(line, width, rank, rural)
        for b in todo:
            b = (b[0] + verge, b[1] + verge, b[2] - verge, b[3] - verge)
            if b[2] - b[0] < 8 or b[3] - b[1] < 8:
                continue
            if not keep(b):
                self._pieces(b, keep, 0)
                continue
            getattr(self, self.use(frame, b, names, weights))(b)

    def _pieces(self, b: Block, keep: Callable[[Block], bool], level: int) -> None:
        """What is left of a block cut by a river or great road: smaller green or bare pieces."""
        u0, v0, u1, v1 = b
        if not self.c.seen(rect(*b)):
            return
        if keep(b):
            (
                self.bareland
                if self.rng.random() < 0.35
                else self.wood
                if self.rng.random() < 0.3
                else self.park
            )(b)
            return
        if level < 4 and max(u1 - u0, v1 - v0) > 24:
            m, n = (u0 + u1) / 2, (v0 + v1) / 2
            halves = (
                [(u0, v0, m, v1), (m, v0, u1, v1)]
                if u1 - u0 > v1 - v0
                else [(u0, v0, u1, n), (u0, n, u1, v1)]
            )
            for part in halves:
                self._pieces(part, keep, level + 1)

    def use(self, frame: Frame, b: Block, names: list[str], weights: np.ndarray) -> str:
        """A block's use: its weights, swayed by a smooth field so that like stands by like."""
        mid = frame(np.array([[(b[0] + b[2]) / 2, (b[1] + b[3]) / 2]]))[0]
        k = np.arange(len(names))
        sway = np.sin(mid[0] / 170 + self.zone[0] + 2.4 * k) + np.sin(mid[1] / 150 + self.zone[1] + 1.7 * k)
        p = weights * np.exp(1.3 * sway)
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
        water = self.water()
        c.strip(line, wide, water)
        for _ in range(rng.poisson(0.6) if not built else 0):
            i = rng.integers(5, len(line) - 5)
            c.fill(blob(rng, line[i], 0.18 * width, 0.4), self.bare())
        for d in (-1, 1):
            if rng.random() < 0.7:
                self.hedge(offset(line, d * (width / 2 + 10)), self.style.crown, 0.3)
        if built:
            for d in (-1, 1):
                self.street(offset(line, d * (width / 2 + 20)), rng.uniform(7, 14), 1, False)

    def highway(self, line: np.ndarray, width: float) -> None:
        c, rng = self.c, self.rng
        c.strip(line, width + 14, self.weeds())
        c.strip(line, width + 4, self.bare() if rng.random() < 0.4 else self.lawn())
        self.street(line, width, 0, True)
        for d in (-1, 1):
            if rng.random() < 0.6:
                self.hedge(offset(line, d * (width / 2 + 5)), self.style.crown * 0.7, 0.3)

    def railway(self, line: np.ndarray) -> None:
        c = self.c
        c.strip(line, 12, c.new("gravel", self.soil, 0.3, vary=0.1, bright=0.8))
        for d in (-2.2, 2.2):
            c.strip(offset(line, d), 2.6, c.new("gravel", "rust", 0.5, bright=0.7, vary=0.05))
            if self.fine:
                for r in (-0.75, 0.75):
                    c.strip(offset(line, d + r), 0.16, c.new("metal", vary=0.05))


def curve(points: np.ndarray, k: int) -> np.ndarray:
    """A smooth line (k, 2) through points."""
    from scipy.interpolate import CubicSpline

    points = np.asarray(points, float)
    t = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T) + 1e-6)])
    return CubicSpline(t / t[-1], points, axis=0)(np.linspace(0, 1, k))


def crossing(rng: np.random.Generator, size: float, wiggle: float) -> np.ndarray:
    """A curve that crosses a square of this size, its bends of about ``wiggle`` metres."""
    angle = rng.uniform(0, np.pi)
    d = np.array([np.cos(angle), np.sin(angle)])
    side = np.array([-d[1], d[0]])
    k = 7
    s = np.linspace(-0.85, 0.85, k) * size
    points = (
        size / 2
        + side * rng.uniform(-0.22, 0.22) * size
        + s[:, None] * d
        + rng.normal(0, wiggle, (k, 1)) * side
    )
    return curve(points, 160)


_TOWN = {
    "suburb": {"suburb": 10, "park": 1.2, "wood": 0.8, "commercial": 0.8, "office": 0.4},
    "dense": {"dense": 10, "slabs": 1, "industry": 1.0, "park": 0.8, "bareland": 1, "office": 0.8},
    "slabs": {"slabs": 10, "dense": 2, "office": 1.5, "park": 1, "bareland": 1, "industry": 1},
    "industry": {
        "industry": 10,
        "bareland": 1.5,
        "commercial": 1.0,
        "dense": 1.5,
        "fields": 0.8,
        "wood": 0.3,
    },
    "campus": {"park": 4, "office": 4, "commercial": 1.5, "wood": 1.5, "slabs": 1, "bareland": 0.5},
}
_BLOCK = {"suburb": 85, "dense": 75, "slabs": 150, "industry": 150, "campus": 120}


def draw(canvas: Canvas, kind: str, sensor: str) -> None:
    """Draw a whole landscape of this kind."""
    rng, size = canvas.rng, canvas.size
    styles = {
        "qb": [_WEST, _WEST, _EAST, _SOUTH],
        "gf2": [_EAST, _EAST, _SOUTH],
        "wv3": [_WEST, _SOUTH, _DRY, _EAST],
    }
    style = styles[sensor][rng.integers(0, len(styles[sensor]))]
    if kind == "suburb":
        style = _WEST if sensor != "gf2" else _SOUTH
    if kind == "arid":
        style = _DRY
    land = Land(canvas, style)
    canvas.fill(rect(-5, -5, size + 5, size + 5), land.weeds() if rng.random() < 0.6 else land.bare())
    centre = (size / 2, size / 2)
    half = 0.8 * size
    angle = rng.uniform(-0.6, 0.6) if rng.random() < 0.7 else rng.uniform(0, np.pi)
    bend = {"hills": 25, "farmland": 12, "arid": 15}.get(kind, rng.choice([0, 2, 6]))

    line, gap, other = None, 0.0, kind
    if kind == "river" or rng.random() < 0.55:
        line = crossing(rng, size, 0.07 * size if kind in ("river", "hills") else 0.025 * size)
        if kind == "river":
            width = min(rng.uniform(25, 160), 0.3 * size)
            gap = width / 2 + 26
        else:
            width = rng.uniform(14, 30)
            gap = width / 2 + 8
        if rng.random() < 0.7:
            other = str(rng.choice(["suburb", "dense", "industry", "farmland", "campus"]))
    if kind == "river":
        kind = str(rng.choice(["suburb", "dense", "industry", "farmland", "campus", "slabs"]))
        river = True
    else:
        river = False

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

    for sign, what in ((1, kind), (-1, other if line is not None else "")):
        if not what:
            continue
        turn = angle + (rng.normal(0, 0.35) if sign < 0 else 0)
        frame = Frame.random(rng, centre, turn, bend)
        if what in _TOWN:
            land.quarter(frame, half, _BLOCK[what] * rng.uniform(0.85, 1.25), _TOWN[what], inside=side(sign))
        elif what == "farmland":
            uses = {"fields": 10, "wood": 1.0, "dense": 0.7, "bareland": 0.5, "industry": 0.4}
            land.quarter(frame, half, rng.uniform(130, 260), uses, rural=True, inside=side(sign))
        elif what == "arid":
            uses = {"bareland": 4, "fields": 2, "dense": 2, "industry": 0.5}
            land.quarter(frame, half, rng.uniform(120, 200), uses, rural=True, inside=side(sign))
        else:
            uses = {"wood": 4, "bareland": 1.5, "fields": 3, "park": 0.5}
            land.quarter(frame, half, rng.uniform(120, 220), uses, rural=True, inside=side(sign))
    canvas.frame = lambda p: p
    if line is not None:
        if river:
            land.river(line, width, kind not in ("farmland", "hills"))
        elif rng.random() < 0.2:
            land.railway(line)
        else:
            land.highway(line, width)
