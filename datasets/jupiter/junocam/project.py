"""From framelets to a map: every map point is looked up in the frames that saw it.

A frame's pose is exact for all of its pixels, so the map is made backwards: the direction from the camera to
each map point, at each frame's own time, gives the pixel there, and the framelet is read with one bilinear
interpolation. Going through a common image plane at mid-time, as is also done, would interpolate twice, lose
what the plane's perspective hides, and leave the spacecraft's motion (some hundred kilometres per image) as
parallax; the plane is kept for looking at the image and for measuring registration (``mid_time_points``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench.datasets.jupiter.ellipsoid import RADII, Latitude
from pansharp_bench.datasets.jupiter.junocam.camera import JunoCam
from pansharp_bench.datasets.jupiter.junocam.geometry import Poses
from pansharp_bench.datasets.jupiter.junocam.raw import FIRST, LAST, LINES, SAMPLES

TILE = 128


@dataclass(frozen=True)
class Photometry:
    """Correction of brightness for the Sun's and the camera's height, with μ0 and μ the cosines of incidence
    and emission; it is 1 where both are 1.

    - ``minnaert``: I = I0 μ0^k μ^(k-1)
    - ``lommel-seeliger``: I = I0 2 μ0 / (μ0 + μ)
    - ``none``: I = I0

    Points beyond ``max_incidence`` or ``max_emission`` (degrees) are blank: corrections explode there.
    """

    law: Literal["minnaert", "lommel-seeliger", "none"] = "minnaert"
    k: float = 0.95
    max_incidence: float = 88.0
    max_emission: float = 85.0

    def correct(self, values: Tensor, mu0: Tensor, mu: Tensor) -> Tensor:
        """I0 of ``values`` I; NaN where blank."""
        ok = (mu0 > np.cos(np.radians(self.max_incidence))) & (mu > np.cos(np.radians(self.max_emission)))
        return torch.where(ok, values / self.shading(mu0.clamp_min(1e-3), mu.clamp_min(1e-3)), torch.nan)

    def shading(self, mu0: Tensor, mu: Tensor) -> Tensor:
        """I / I0."""
        if self.law == "minnaert":
            return mu0**self.k * mu ** (self.k - 1)
        if self.law == "lommel-seeliger":
            return 2 * mu0 / (mu0 + mu)
        return torch.ones_like(mu0)


@dataclass(frozen=True)
class CylindricalGrid:
    """A simple cylindrical map of the whole planet: row 0 at +90°, column 0 at System III west longitude
    ``west_left``, which decreases to the right (east is right)."""

    pixels_per_degree: float = 25.0
    latitude: Latitude = "planetocentric"
    west_left: float = 180.0

    @property
    def height(self) -> int:
        return round(180 * self.pixels_per_degree)

    @property
    def width(self) -> int:
        return 2 * self.height

    def points(self, rows: slice, columns: slice, radii: Sequence[float] = RADII) -> Tensor:
        """Body-fixed positions (h, w, 3), km, of the pixel centres, float64."""
        lat = 90 - (torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5) * 180 / self.height
        lon = (
            -self.west_left
            + (torch.arange(columns.start, columns.stop, dtype=torch.float64) + 0.5) * 360 / self.width
        )
        return surface(lat[:, None], lon[None], self.latitude, radii)

    def tiles(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of pieces some degrees wide: few frames see one, and it fits in memory."""
        size = min(TILE, max(16, round(5 * self.pixels_per_degree)))
        for top in range(0, self.height, size):
            for left in range(0, self.width, size):
                yield (
                    slice(top, min(top + size, self.height)),
                    slice(left, min(left + size, self.width)),
                )


def surface(latitude: Tensor, east_longitude: Tensor, kind: Latitude = "planetocentric",
            radii: Sequence[float] = RADII) -> Tensor:  # fmt: skip
    """Body-fixed positions (..., 3), km, of points of the ellipsoid; degrees, broadcast."""
    a, c = radii[0], radii[2]
    lat, lon = torch.deg2rad(latitude), torch.deg2rad(east_longitude)
    ratio = 1.0 if kind == "planetocentric" else (c / a) ** 2
    z, rho = ratio * torch.sin(lat), torch.cos(lat)
    size = 1 / torch.sqrt((rho / a) ** 2 + (z / c) ** 2)
    rho, z = rho * size, z * size
    return torch.stack(torch.broadcast_tensors(rho * torch.cos(lon), rho * torch.sin(lon), z), -1)


def latitude_longitude(points: Tensor, kind: Latitude = "planetocentric",
                       radii: Sequence[float] = RADII) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Latitude and System III west longitude (0..360), degrees, of surface points (..., 3)."""
    ratio = 1.0 if kind == "planetocentric" else (radii[0] / radii[2]) ** 2
    latitude = torch.atan2(ratio * points[..., 2], torch.hypot(points[..., 0], points[..., 1]))
    return torch.rad2deg(latitude), torch.rad2deg(-torch.atan2(points[..., 1], points[..., 0])) % 360


def intersect(origin: Tensor, rays: Tensor, radii: Sequence[float] = RADII) -> Tensor:
    """First points (..., 3) of the ellipsoid along rays (..., 3) from outside it; NaN where they miss."""
    size = torch.as_tensor(radii, dtype=rays.dtype, device=rays.device)
    o, d = origin / size, rays / size
    a, b, c = (d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1
    root = b * b - a * c
    t = (-b - torch.sqrt(root.clamp_min(0))) / a
    t = torch.where((root >= 0) & (t > 0), t, torch.nan)
    return origin + t[..., None] * rays


def normals(points: Tensor, radii: Sequence[float] = RADII) -> Tensor:
    """Outward unit normals (..., 3) at surface points."""
    n = points / torch.as_tensor(radii, dtype=points.dtype, device=points.device) ** 2
    return n / n.norm(dim=-1, keepdim=True)


class Projector:
    """One calibrated image ready to be looked up: ``values`` (frames, bands, 128, 1648), its ``poses``, its
    ``camera`` and names of ``bands``. Everything is kept on ``device``."""

    def __init__(
        self,
        values: np.ndarray | Tensor,
        poses: Poses,
        camera: JunoCam,
        bands: Sequence[str],
        photometry: Photometry | None = None,
        radii: Sequence[float] = RADII,
        device: str | torch.device = "cpu",
    ) -> None:
        self.values = torch.as_tensor(values, dtype=torch.float32, device=device)
        if self.values.shape != (len(poses), len(bands), LINES, SAMPLES):
            raise ValueError(
                f"values {tuple(self.values.shape)} for {len(poses)} poses and {len(bands)} bands"
            )

        def put(array: np.ndarray) -> Tensor:
            return torch.as_tensor(array, dtype=torch.float64, device=device)

        self.position, self.sun, self.beta = put(poses.position), put(poses.sun), put(poses.beta)
        self.rotation = put(poses.rotation)
        self.camera, self.bands, self.radii = camera, tuple(bands), tuple(radii)
        self.photometry = photometry or Photometry()
        self.device = torch.device(device)
        # Each framelet's field as a wedge of slopes, y/z and |x/z|, for leaving out frames that cannot see
        x = torch.linspace(FIRST, LAST, 65, dtype=torch.float64, device=device)
        edges = [[camera.rays(x, torch.full_like(x, float(y)), band) for y in (0, LINES)] for band in bands]
        slopes = [[(ray[:, 1] / ray[:, 2]) for ray in pair] for pair in edges]
        self._low = torch.stack([low.min() for low, _ in slopes])
        self._high = torch.stack([high.max() for _, high in slopes])
        self._side = max((ray[:, 0] / ray[:, 2]).abs().max() for pair in edges for ray in pair)

    def at(self, points: Tensor) -> Tensor:
        """Values (bands, n) at surface points (n, 3), km: brightness over the photometric law, averaged over the
        frames that see the point, nearer the middle of the framelet counting more; NaN where none does."""
        return self._averaged(points, range(len(self.bands)))[:, 0]

    def cosines(self, points: Tensor) -> Tensor:
        """μ0 and μ (2, n) at surface points (n, 3): the cosines of incidence and emission, averaged as the first
        band's values are; NaN where it sees nothing."""
        return self._averaged(points, [0])[0, 1:]

    def _averaged(self, points: Tensor, bands: Sequence[int]) -> Tensor:
        """(bands, 3, n) value, μ0 and μ, averaged over the frames that see each point."""
        out = torch.full((len(bands), 3, len(points)), torch.nan, device=self.device)
        points = points.to(self.device, torch.float64)
        normal = normals(points, self.radii)
        faces = (normal @ self.position.T > (normal * points).sum(-1, keepdim=True)).any(-1)
        lit = (normal @ self.sun.T).amax(-1) > np.cos(np.radians(self.photometry.max_incidence))
        index = torch.nonzero(faces & lit).flatten()  # NaN points compare false
        if not len(index):
            return out
        points, normal = points[index], normal[index]
        centre = points.mean(0)
        near = self._may_see(centre, (points - centre).norm(dim=-1).max())
        for row, band in enumerate(bands):
            frames = torch.nonzero(near[:, band]).flatten()
            if len(frames):
                values, weight = self._read(frames, band, self.bands[band], points, normal)
                weight = torch.where(torch.isfinite(values[0]), weight, 0)
                out[row][:, index] = (values.nan_to_num() * weight).sum(1) / weight.sum(
                    0
                )  # 0 / 0 where unseen
        return out

    def look(self, points: Tensor, progress: Callable[[int], object] = lambda tiles: None) -> Tensor:
        """Values (bands, H, W) at surface points (H, W, 3), tile by tile, so that memory stays small."""
        out = torch.full((len(self.bands), *points.shape[:2]), torch.nan)
        for top in range(0, points.shape[0], TILE):
            for left in range(0, points.shape[1], TILE):
                tile = points[top : top + TILE, left : left + TILE]
                values = self.at(tile.reshape(-1, 3)).reshape(-1, *tile.shape[:2])
                out[:, top : top + TILE, left : left + TILE] = values.cpu()
                progress(1)
        return out

    def _may_see(self, centre: Tensor, reach: Tensor) -> Tensor:
        """Whether each frame's framelets, bool (frames, bands), may see part of a sphere."""
        x, y, z = self._towards(self.position.new_tensor(0.0) + centre, slice(None))[0].unbind(-1)
        reach = (
            reach * 1.2 + 1.0
        )  # 1.2: the wedge's planes are not at right angles to the axis; 1 km: aberration
        front = z > -reach
        side = x.abs() <= self._side * z.clamp_min(0) + 2 * reach
        low, high = self._low[None], self._high[None]
        z, y = z[:, None], y[:, None]
        margin = reach + 1e-3 * z.abs()
        return (front & side)[:, None] & (y >= low * z - margin) & (y <= high * z + margin)

    def _towards(self, points: Tensor, frames: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Apparent directions in the camera, of length the distance, and true unit directions in the body frame,
        each (frames, n, 3) or (frames, 3)."""
        if points.dim() == 1:
            away = points - self.position[frames]
            seen = away + away.norm(dim=-1, keepdim=True) * self.beta[frames]
            return (seen[:, None] @ self.rotation[frames])[:, 0], away / away.norm(dim=-1, keepdim=True)
        away = points[None] - self.position[frames][:, None]
        distance = away.norm(dim=-1, keepdim=True)
        seen = away + distance * self.beta[frames][:, None]
        return seen @ self.rotation[frames], away / distance

    def pixels(self, points: Tensor, frames: Tensor, band: str) -> tuple[Tensor, Tensor]:
        """Pixel coordinates x, y (frames, n) of points (n, 3); the far side of the planet is not left out."""
        return self.camera.pixels(self._towards(points, frames)[0], band)

    def _read(
        self, frames: Tensor, band: int, name: str, points: Tensor, normal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(3, frames, n) brightness over the photometric law (NaN outside the framelet), μ0 and μ; (frames, n) how
        much each counts."""
        seen, away = self._towards(points, frames)
        x, y = self.camera.pixels(seen, name)
        mu = -(away * normal).sum(-1)
        mu0 = (self.sun[frames] @ normal.T).clamp(-1, 1)
        inside = (x >= FIRST + 0.5) & (x <= LAST - 0.5) & (y >= 0.5) & (y <= LINES - 0.5) & (mu > 0)
        grid = torch.stack([x * (2 / SAMPLES) - 1, y * (2 / LINES) - 1], -1)
        grid = torch.nan_to_num(grid, nan=2.0).clamp(-2, 2).float()
        pixels = self.values[frames, band][:, None]
        read = F.grid_sample(pixels, grid[:, None], mode="bilinear", align_corners=False)[:, 0, 0]
        read = torch.where(inside, self.photometry.correct(read, mu0.float(), mu.float()), torch.nan)
        weight = torch.minimum(y, LINES - y).clamp_min(1e-3).nan_to_num(nan=0.0).float()
        return torch.stack([read, mu0.float(), mu.float()]), weight


def project(
    projector: Projector,
    grid: CylindricalGrid,
    out: np.ndarray,
    progress: Callable[[int], object] = lambda tiles: None,
    look: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Fill ``out`` (bands, height, width) float32, in memory or a memory map, tile by tile; NaN where a band is
    missing. ``progress`` is called with the number of tiles done since the last call; ``look`` gives (bands, n) of
    surface points (n, 3), ``projector.at`` by default."""
    look = look or projector.at
    for rows, columns in grid.tiles():
        points = grid.points(rows, columns, projector.radii)
        values = look(points.reshape(-1, 3))
        values[:, torch.isnan(values).any(0)] = torch.nan
        out[:, rows, columns] = values.reshape(-1, *points.shape[:2]).cpu().numpy()
        progress(1)


def backplanes(
    projector: Projector, frame: int, band: str, kind: Latitude = "planetocentric"
) -> dict[str, Tensor]:
    """``latitude``, ``longitude`` (west), ``incidence``, ``emission`` in degrees, (128, 1648) each, of every
    pixel of one framelet at its own time; NaN off the planet and in the dark columns."""
    p = projector
    y, x = torch.meshgrid(
        torch.arange(LINES, dtype=torch.float64) + 0.5,
        torch.arange(SAMPLES, dtype=torch.float64) + 0.5,
        indexing="ij",
    )
    x, y = x.to(p.device), y.to(p.device)
    rays = p.camera.rays(x, y, band) @ p.rotation[frame].T
    rays = rays - p.beta[frame]
    rays = rays / rays.norm(dim=-1, keepdim=True)
    points = intersect(p.position[frame], rays, p.radii)
    points[(x < FIRST) | (x > LAST)] = torch.nan
    normal = normals(points, p.radii)
    latitude, longitude = latitude_longitude(points, kind, p.radii)
    return {
        "latitude": latitude,
        "longitude": longitude,
        "incidence": torch.rad2deg(torch.arccos((normal @ p.sun[frame]).clamp(-1, 1))),
        "emission": torch.rad2deg(torch.arccos(-(normal * rays).sum(-1).clamp(-1, 1))),
    }


def mid_time_points(
    pose: Poses, camera: JunoCam, height: int, width: int = SAMPLES, radii: Sequence[float] = RADII
) -> Tensor:
    """Surface points (height, width, 3) behind the pixels of an undistorted pinhole of JunoCam's focal length,
    with the one pose given; NaN off the planet. One of its pixels is one raw pixel at the optical axis."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64) + 0.5 - height / 2,
        torch.arange(width, dtype=torch.float64) + 0.5 - width / 2,
        indexing="ij",
    )
    rays = torch.stack([x, y, torch.full_like(x, camera.focal)], -1)
    rays = rays / rays.norm(dim=-1, keepdim=True)
    rays = rays @ torch.as_tensor(pose.rotation[0]).T - torch.as_tensor(pose.beta[0])
    return intersect(torch.as_tensor(pose.position[0]), rays, radii)


def through_plane(projector: Projector, pose: Poses, height: int = 1800) -> Callable[[Tensor], Tensor]:
    """What the SP-I2I paper's maps go through: the image drawn in the plane of the one pose given, and surface
    points (n, 3) looked up in that, by a second bilinear interpolation; NaN where the plane shows nothing of
    them. Brightness is corrected once, at each frame's own angles."""
    p = projector
    plane = p.look(mid_time_points(pose, p.camera, height, radii=p.radii))
    plane[:, plane.isnan().any(0)] = torch.nan
    position, rotation, beta = (torch.as_tensor(x[0]) for x in (pose.position, pose.rotation, pose.beta))

    def look(points: Tensor) -> Tensor:
        away = points.double().cpu() - position
        x, y, z = ((away + away.norm(dim=-1, keepdim=True) * beta) @ rotation).unbind(-1)
        column, row = p.camera.focal * x / z + SAMPLES / 2, p.camera.focal * y / z + height / 2
        faces = (z > 0) & ((away * normals(points.double().cpu(), p.radii)).sum(-1) < 0)
        inside = faces & (column > 0.5) & (column < SAMPLES - 0.5) & (row > 0.5) & (row < height - 0.5)
        grid = torch.stack([column * (2 / SAMPLES) - 1, row * (2 / height) - 1], -1)
        grid = torch.where(inside[:, None], grid, 0).float()
        read = F.grid_sample(plane[None], grid[None, None], mode="bilinear", align_corners=False)[0, :, 0]
        return torch.where(inside, read, torch.nan)

    return look


def registration(
    moving: Tensor, fixed: Tensor, patch: int = 64, step: int = 32, search: int = 8, least: float = 0.6
) -> tuple[Tensor, Tensor, Tensor]:
    """Local shifts between two images (H, W) of one scene, NaN where blank: ``shift`` (n, 2) in pixels, down and
    right, by which ``moving`` is displaced against ``fixed``; ``centre`` (n, 2) of the patches, and their peak
    correlation (n,).

    Both are high-passed (minus a 9-pixel running mean); in every patch without blanks the normalised
    cross-correlation over ±``search`` pixels is taken at its parabolic peak. Patches whose correlation is
    under ``least``, or whose peak is at the border of the search, say nothing and are left out.
    """
    a, b = (_high_pass(image) for image in (moving, fixed))
    windows = [image.unfold(0, patch, step).unfold(1, patch, step) for image in (a, b)]
    columns = windows[0].shape[1]
    a, b = (w.reshape(-1, patch, patch) for w in windows)
    keep = torch.isfinite(a).all((1, 2)) & torch.isfinite(b).all((1, 2))
    index = torch.nonzero(keep).flatten()
    centre = torch.stack([index // columns, index % columns], -1) * step + patch / 2
    a, b = a[index].double(), b[index].double()
    if not len(index):
        return a.new_zeros((0, 2)), centre, a.new_zeros(0)
    inner = slice(search, patch - search)  # a template of b searched in the whole patch of a
    t = b[:, inner, inner]
    t = t - t.mean((1, 2), keepdim=True)
    size = patch - 2 * search
    energy = F.avg_pool2d(a[:, None] ** 2, size, 1)[:, 0] - F.avg_pool2d(a[:, None], size, 1)[:, 0] ** 2
    cross = F.conv2d(a[None], t[:, None], groups=len(a))[0] / size**2
    score = cross / (energy.clamp_min(1e-30) * t.pow(2).mean((1, 2), keepdim=True).clamp_min(1e-30)).sqrt()
    side = 2 * search + 1
    peak = score.flatten(1).argmax(1)
    r, c = peak // side, peak % side
    n = torch.arange(len(score))
    top = score[n, r, c]
    ok = (r > 0) & (r < side - 1) & (c > 0) & (c < side - 1) & (top >= least)
    n, r, c, top = n[ok], r[ok], c[ok], top[ok]

    def vertex(low: Tensor, mid: Tensor, high: Tensor) -> Tensor:
        return 0.5 * (low - high) / (low - 2 * mid + high)

    down = r + vertex(score[n, r - 1, c], top, score[n, r + 1, c]) - search
    right = c + vertex(score[n, r, c - 1], top, score[n, r, c + 1]) - search
    return torch.stack([down, right], -1), centre[ok], top


def _high_pass(image: Tensor) -> Tensor:
    seen = torch.isfinite(image)
    filled = torch.where(seen, image, 0.0)[None, None]
    mean = F.avg_pool2d(filled, 9, 1, 4) / F.avg_pool2d(seen[None, None].to(image), 9, 1, 4).clamp_min(1e-6)
    return torch.where(seen, image - mean[0, 0], torch.nan)
