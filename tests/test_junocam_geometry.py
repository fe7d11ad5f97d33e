"""The camera, and the loop closed by a synthetic one: a known planet seen, projected back, its limb fitted."""

import numpy as np
import pytest
import torch

from pansharp_bench.datasets.jupiter.ellipsoid import RADII
from pansharp_bench.datasets.jupiter.junocam import blend
from pansharp_bench.datasets.jupiter.junocam import project as pj
from pansharp_bench.datasets.jupiter.junocam.camera import JunoCam
from pansharp_bench.datasets.jupiter.junocam.geometry import Poses, Spin, States, poses, subpoint
from pansharp_bench.datasets.jupiter.junocam.limb import (
    find_limb,
    fit_jitter,
    fit_spin,
    limb_distance,
    limb_sun,
)
from pansharp_bench.errors import BenchError, DataError

BANDS = ("blue", "green", "red")
KERNEL_CAMERA = JunoCam(magnification=dict.fromkeys((*BANDS, "methane"), 1.0))
STEP = 0.374


@pytest.mark.parametrize("band", [*BANDS, "methane"])
def test_pixel_to_ray_and_back(band):
    camera = JunoCam()
    x, y = torch.meshgrid(torch.linspace(0, 1648, 200), torch.linspace(0, 128, 40), indexing="ij")
    rays = camera.rays(x, y, band)
    back = camera.pixels(3.7 * rays, band)
    assert (back[0] - x).abs().max() < 1e-6 and (back[1] - y).abs().max() < 1e-6
    assert torch.isnan(camera.pixels(-rays, band)[0]).all()


@pytest.mark.parametrize(
    ("band", "ray", "pixel"),
    [  # from the instrument kernel juno_junocam_v03: boresights (827, 64), corners of the photoactive framelets
        ("blue", (0.00862523, -0.06371477, 0.99793088), (827, 64)),
        ("green", (0.00863288, 0.04084925, 0.99912803), (827, 64)),
        ("red", (0.00857099, 0.14442688, 0.98947835), (827, 64)),
        ("methane", (0.00854687, -0.16805056, 0.98574133), (827, 64)),
        ("blue", (-0.47934991, -0.09577177, 0.87238262), (23.5, 0.5)),
        ("red", (0.48724863, 0.16654879, 0.85723408), (1630.5, 127.5)),
        ("green", (0.49353987, -0.00180175, 0.86972131), (1630.5, 0.5)),
    ],
)
def test_directions_are_the_instrument_kernels(band, ray, pixel):
    x, y = KERNEL_CAMERA.pixels(torch.tensor(ray, dtype=torch.float64), band)
    assert abs(x - pixel[0]) < 1e-4 and abs(y - pixel[1]) < 1e-4


class Flyby:
    """A straight pass with Jupiter turning and the Sun at a quarter: an ephemeris without kernels."""

    def __init__(self, start, velocity, sun=(0.1, -1.0, 0.1)):
        self.start, self.velocity = np.array(start, float), np.array(velocity, float)
        self.sun = np.array(sun) / np.linalg.norm(sun)

    def states(self, et):
        et = np.atleast_1d(et)
        angle = 0.3 + 1.7585e-4 * et
        c, s, o = np.cos(angle), np.sin(angle), np.zeros_like(angle)
        turn = np.stack([c, s, o, -s, c, o, o, o, o + 1], -1).reshape(-1, 3, 3)
        position = self.start + self.velocity * et[:, None]
        return States(
            (turn @ position[..., None])[..., 0],
            turn @ self.sun,
            turn @ (self.velocity / 299792.458),
            turn,
        )


def facing(ephemeris, et, rate=0.2077, off=0.0):
    """A spin whose boresight crosses the planet at et, its axis square to the view."""
    s = ephemeris.states(np.array([et]))
    view = -(s.from_inertial[0].T @ s.position[0])
    view /= np.linalg.norm(view)
    axis = np.cross(view, [0.2, 0.3, 0.9])
    axis /= np.linalg.norm(axis)
    axis = axis * np.cos(off) + view * np.sin(off)
    camera = JunoCam()
    spin = Spin(np.arctan2(axis[1], axis[0]), np.arcsin(axis[2]), 0.0, rate, et, np.array(camera.mount))
    phases = np.linspace(0, 2 * np.pi, 3601)
    looks = [Spin(spin.ra, spin.dec, p, rate, et, spin.mount).rotation(et)[:, 2] @ view for p in phases]
    return Spin(spin.ra, spin.dec, phases[np.argmax(looks)], rate, et, spin.mount)


def see(camera, pose, bands, scene, samples=1):
    """Framelets (frames, bands, 128, 1648) of a scene: points, normals, Sun, look -> brightness; 0 off planet."""
    out = np.zeros((len(pose), len(bands), 128, 1648), np.float32)
    at = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples
    for index, band in enumerate(bands):
        for dy in at:
            for dx in at:
                y, x = torch.meshgrid(
                    torch.arange(128, dtype=torch.float64) + dy,
                    torch.arange(1648, dtype=torch.float64) + dx,
                    indexing="ij",
                )
                rays = camera.rays(x, y, band)
                for f in range(len(pose)):
                    look = rays @ torch.from_numpy(pose.rotation[f]).T
                    look = look - torch.from_numpy(pose.beta[f])
                    points = pj.intersect(torch.from_numpy(pose.position[f]), look)
                    out[f, index] += torch.nan_to_num(scene(points, index, pose, f)).numpy() / samples**2
    out[..., :23] = 0
    out[..., 1631:] = 0
    return out


@pytest.fixture(scope="module")
def near():
    """Four frames from 40,000 km above the clouds, textured the same in all bands."""
    flyby = Flyby((30000, -105000, 25000), (15.0, 20.0, -40.0))
    et = (np.arange(4) - 1.5) * STEP
    return poses(flyby, facing(flyby, 0.0), et)


def texture(points, *_):
    """Waves of 12 raw pixels and more, in all directions."""
    x, y, z = (points / 56.0).unbind(-1)
    fine = torch.sin(x + 0.3 * z) + torch.cos(0.8 * z - 0.4 * y) + torch.sin(0.6 * x - 0.7 * z)
    return 0.5 + 0.05 * fine + 0.1 * torch.sin(x / 20) * torch.cos(z / 17)


def test_the_loop_closes(near):
    """Framelets that hold the surface point's own coordinates give those back where the map looks them up:
    the error is that of the place, to a hundredth of a raw pixel."""
    camera = JunoCam()
    values = see(camera, near, BANDS, lambda points, band, *_: points[..., band] / RADII[0])
    projector = pj.Projector(
        values, near, camera, BANDS, pj.Photometry("none", max_emission=60, max_incidence=90)
    )
    grid = pj.CylindricalGrid(4.0)
    out = np.full((3, grid.height, grid.width), -1.0, np.float32)
    done = []
    pj.project(projector, grid, out, done.append)
    assert sum(done) == len(list(grid.tiles()))
    truth = grid.points(slice(0, grid.height), slice(0, grid.width)).numpy().transpose(2, 0, 1)
    seen = np.isfinite(out).all(0)
    assert seen.sum() > 1000
    error = np.linalg.norm(out * RADII[0] - truth, axis=0)[seen]
    pixel = 40000 / camera.focal  # km, at the least
    assert np.quantile(error, 0.99) < 0.01 * pixel and error.max() < 0.05 * pixel
    # every point that a pixel of each band saw is on the map: none is lost between tiles or frames
    visible = torch.zeros(3, grid.height, grid.width, dtype=torch.bool)
    points = torch.from_numpy(truth.transpose(1, 2, 0)).reshape(-1, 3)
    everything = torch.arange(len(near))
    for index, band in enumerate(BANDS):
        x, y = projector.pixels(points, everything, band)
        away = points - torch.from_numpy(near.position)[:, None]
        mu = -(away * pj.normals(points)).sum(-1) / away.norm(dim=-1)
        mu0 = pj.normals(points) @ torch.from_numpy(near.sun).T
        ok = (x > 23.5) & (x < 1630.5) & (y > 0.5) & (y < 127.5) & (mu > 0.5) & (mu0.T > 0)
        visible[index] = ok.any(0).reshape(grid.height, grid.width)
    assert (visible.all(0).numpy() == seen).all()


def test_bands_are_registered_and_the_map_is_recovered(near):
    camera = JunoCam()
    values = see(camera, near, BANDS, texture)
    projector = pj.Projector(values, near, camera, BANDS, pj.Photometry("none", max_incidence=90))
    middle = near[1:2]
    points = pj.mid_time_points(middle, camera, 384)
    seen = projector.look(points)
    known = torch.isfinite(seen).all(0)
    assert known.sum() > 50_000
    error = (seen - texture(points)).abs()[:, known]
    assert error.max() < 8e-3 and error.mean() < 2e-3  # (2π/12)²/8 of the fine waves: the bilinear reading
    for band in (0, 2):
        shift, _, peak = pj.registration(seen[band], seen[1])
        assert len(shift) > 20 and peak.min() > 0.99
        assert shift.norm(dim=1).median() < 0.01
    # a camera that leaves out the lateral colour is caught
    wrong = pj.Projector(values, near, KERNEL_CAMERA, BANDS, pj.Photometry("none", max_incidence=90)).look(
        points
    )
    assert pj.registration(wrong[2], wrong[1])[0].norm(dim=1).median() > 0.3


def test_backplanes_agree_with_the_projection(near):
    camera = JunoCam()
    values = np.zeros((4, 3, 128, 1648), np.float32)
    projector = pj.Projector(values, near, camera, BANDS)
    planes = pj.backplanes(projector, 2, "red", "planetographic")
    on = torch.isfinite(planes["latitude"])
    assert on.sum() > 10_000 and not on[:, :23].any()
    points = pj.surface(planes["latitude"][on], -planes["longitude"][on], "planetographic")
    x, y = projector.pixels(points, torch.tensor([2]), "red")
    rows, columns = torch.nonzero(on, as_tuple=True)
    assert (x[0] - columns - 0.5).abs().max() < 1e-4 and (y[0] - rows - 0.5).abs().max() < 1e-4
    assert planes["emission"][on].max() <= 90 and planes["emission"][on].min() >= 0


@pytest.mark.parametrize("law", ["minnaert", "lommel-seeliger"])
def test_photometry_takes_out_its_own_law(near, law):
    photometry = pj.Photometry(law, k=0.9, max_incidence=80, max_emission=75)

    def shaded(points, index, pose, f):
        normal = pj.normals(points)
        look = torch.from_numpy(pose.position[f]) - points
        mu = (normal * look).sum(-1) / look.norm(dim=-1)
        mu0 = normal @ torch.from_numpy(pose.sun[f])
        return torch.where(mu0 > 0.01, 0.7 * photometry.shading(mu0.clamp_min(0.01), mu.clamp_min(0.01)), 0)

    values = see(JunoCam(), near, BANDS, shaded)
    flat = pj.Projector(values, near, JunoCam(), BANDS, photometry).look(
        pj.mid_time_points(near[1:2], JunoCam(), 256)
    )
    assert torch.isfinite(flat).sum() > 50_000
    assert (flat[torch.isfinite(flat)] - 0.7).abs().max() < 2e-3


@pytest.fixture(scope="module")
def far():
    """A whole limb from 450,000 km, green only, and the truth behind it."""
    flyby = Flyby((80000, -440000, 160000), (-3.0, 18.0, 9.0), sun=(-1.0, -0.7, 0.1))
    et = (np.arange(6) - 2.5) * STEP
    spin = facing(flyby, 0.0)
    pose = poses(flyby, spin, et)

    def lit(points, index, pose, f):
        mu0 = pj.normals(points) @ torch.from_numpy(pose.sun[f])
        return 300 * mu0.clamp_min(0)

    camera = JunoCam()
    values = see(camera, pose, ("green",), lit, samples=3)
    values += np.random.default_rng(0).normal(0, 1, values.shape).astype(np.float32)
    return flyby, et, spin, find_limb(values, ("green",), camera)


def test_limb_points_lie_on_the_limb_and_not_on_the_terminator(far):
    flyby, et, spin, limb = far
    distance = limb_distance(limb, flyby.states(et), spin.rotation(et))
    bright = limb_sun(limb, flyby.states(et), spin.rotation(et)) > 0.2
    assert bright.sum() > 400
    assert np.median(np.abs(distance[bright])) < 0.1 and np.abs(distance[bright]).max() < 0.6


def test_jitter_is_recovered(far):
    flyby, et, spin, limb = far
    fit = fit_jitter(limb, flyby, spin, et - 0.0173)  # the label is early by 17.3 ms
    assert abs(fit.jitter - 0.0173) < 2e-4  # a fifteenth of a pixel
    assert fit.median < 0.15 and fit.used > 0.97 * fit.found


def test_attitude_is_recovered_from_the_limb(far):
    flyby, et, spin, limb = far
    guess = (spin.ra + 0.05, spin.dec - 0.06)
    (fit,) = fit_spin([limb], [flyby.states(et)], [et], guess, spin.mount)
    assert fit.median < 0.15
    assert abs(fit.spin.rate / spin.rate - 1) < 5e-3
    # where the camera looked: the two rotations differ by under half a pixel but for the roll about the view
    look = spin.rotation(et)[2].T @ fit.spin.rotation(et)[2] @ np.array([0, 0, 1.0])
    assert np.hypot(look[0], look[1]) * JunoCam().focal < 0.5
    roll = np.degrees(
        np.arccos(np.clip((np.trace(spin.rotation(et)[2].T @ fit.spin.rotation(et)[2]) - 1) / 2, -1, 1))
    )
    assert roll < 1.5


def test_no_limb_is_said():
    with pytest.raises(DataError, match="no bright limb"):
        find_limb(np.zeros((2, 1, 128, 1648), np.float32), ("green",), JunoCam())


def test_subpoint_is_the_nearest_point():
    lat, lon = 37.9454, 281.2058
    foot = pj.surface(torch.tensor(lat), torch.tensor(-lon), "planetographic").double()
    position = foot + 133829.7 * pj.normals(foot)
    got = subpoint(position.numpy())
    np.testing.assert_allclose(got, (lat, lon, 133829.7), atol=1e-4, rtol=1e-6)


def test_poses_can_be_cut(near):
    assert isinstance(near[1:3], Poses) and len(near[1:3]) == 2


# ------------------------------------------------------------------------------------ flattening, blending


def wave(height=90, width=180):
    y, x = np.mgrid[:height, :width]
    return (
        0.5 + 0.3 * np.cos(2 * np.pi * (x + 0.5) / width) + 0.01 * np.sin(2.0 * x) * np.sin(2.1 * y)
    ).astype(np.float32)


def test_low_pass_wraps_in_longitude_and_ignores_blanks():
    from scipy.ndimage import gaussian_filter

    image = wave()
    low = blend.MapLowPass(lambda part: image[None, part], 90, 180, 6.0).rows(slice(0, 90))[0]
    dense = gaussian_filter(image, 6.0, mode=("nearest", "wrap"))
    assert np.abs(low - dense)[20:70].max() < 3e-3
    holed = image.copy()
    holed[30:50, 60:64] = np.nan
    part = blend.MapLowPass(lambda p: holed[None, p], 90, 180, 6.0).rows(slice(0, 90))[0]
    assert np.isfinite(part).all() and np.abs(part - dense)[20:70].max() < 0.02


def test_flattening_leaves_colour_and_detail():
    shade = wave() * 2
    colour = np.array([1.2, 1.0, 0.8], np.float32)[:, None, None]
    flat = blend.flattened(lambda part: (colour * shade)[:, part], 90, 180, 5.0)(slice(0, 90))
    np.testing.assert_allclose(flat.mean((1, 2)), 0.5 * colour[:, 0, 0], rtol=0.02)
    assert flat[1].std() < 0.02 < shade.std()


def test_blending_removes_steps_and_keeps_lone_parts():
    image = wave()
    left, right = image.copy(), image * 1.1
    left[:, 120:] = np.nan
    right[:, :60] = np.nan
    both = blend.blended([lambda p: left[None, p], lambda p: right[None, p]], 90, 180, 8.0)(slice(0, 90))[0]
    assert np.isfinite(both).all()
    step = np.abs(np.diff(both, axis=1))[20:70].max()
    assert step < 0.6 * np.abs(np.diff(np.where(np.isfinite(left), left, right), axis=1))[20:70].max()


def test_median_of_a_few():
    stack = np.array([[1.0, 5, np.nan], [3, np.nan, np.nan], [9, 7, np.nan]])[:, None]
    np.testing.assert_equal(blend._median(stack)[0], [3, 6, np.nan])


def test_missing_kernels_are_named(tmp_path):
    pytest.importorskip("spiceypy")
    from pansharp_bench.datasets.jupiter.junocam.geometry import Spice

    with pytest.raises(DataError, match="does not exist"):
        Spice(tmp_path / "none")
    (tmp_path / "naif0012.tls").touch()
    with pytest.raises(BenchError, match=r"no \*\.tf kernel"):
        Spice(tmp_path)


def test_cosines_are_those_of_the_frames(near):
    camera, one = JunoCam(), near[2:3]
    projector = pj.Projector(np.ones((1, 3, 128, 1648), np.float32), one, camera, BANDS)
    planes = pj.backplanes(projector, 0, BANDS[0], "planetographic")
    inside = torch.zeros(128, 1648, dtype=torch.bool)
    inside[2:-2, 30:1620:7] = True
    on = inside & torch.isfinite(planes["latitude"]) & (planes["incidence"] < 80) & (planes["emission"] < 80)
    points = pj.surface(planes["latitude"][on], -planes["longitude"][on], "planetographic")
    mu0, mu = projector.cosines(points)
    assert on.sum() > 1000
    # emission apparent or true differs by the aberration alone
    assert (mu0 - torch.cos(torch.deg2rad(planes["incidence"][on]))).abs().max() < 1e-5
    assert (mu - torch.cos(torch.deg2rad(planes["emission"][on]))).abs().max() < 1e-3


def test_the_plane_of_mid_time_blurs_and_loses(near):
    """A second interpolation of the same image: near the truth, farther than the direct way, and never wider."""
    camera = JunoCam()
    values = see(camera, near, BANDS, texture)
    projector = pj.Projector(values, near, camera, BANDS, pj.Photometry("none", max_incidence=90))
    look = pj.through_plane(projector, near[1:2], 512)
    # a little off the centres of the plane's pixels, where nothing would be interpolated
    points = (
        pj.mid_time_points(near[1:2], camera, 384)[:-1, :-1] * 0.5
        + pj.mid_time_points(near[1:2], camera, 384)[1:, 1:] * 0.5
    )
    points = points[::3, ::3].reshape(-1, 3)
    points = points[points.isfinite().all(1)]
    direct, planar = projector.at(points), look(points)
    both = direct.isfinite().all(0) & planar.isfinite().all(0)
    assert both.sum() > 5000 and not (planar.isfinite().all(0) & direct.isnan().all(0)).any()
    errors = [(x - texture(points)).abs()[:, both].mean().item() for x in (direct, planar)]
    assert errors[0] < 2e-3 and 1.3 * errors[0] < errors[1] < 6e-3
