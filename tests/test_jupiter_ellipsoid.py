"""Zones, centres, latitudes and the projection, against the paper's counts and against PROJ."""

import numpy as np
import pytest
import torch
from rasterio.warp import transform

from pansharp_bench.datasets.jupiter import ellipsoid
from pansharp_bench.datasets.jupiter.ellipsoid import (
    ZONES,
    centres,
    healpix_rings,
    laea_forward,
    laea_inverse,
)
from pansharp_bench.errors import BenchError, DataError

PAPER = dict(GRS=64, EZ=320, NEB=384, NTB=128, NTrZ=128, SEB=384, STB=64, STrZ=128, NPR=652, SPR=716)
ELLIPSOID = "+a=71492000 +b=66854000 +no_defs"


def test_centres_are_as_many_as_the_paper_counts():
    found = centres(16)
    assert {z: int((found.zone == i).sum()) for i, z in enumerate(ZONES)} == PAPER
    assert 2 * len(found) == 5936  # Hubble's two rotations
    assert found.longitude.min() >= 0 and found.longitude.max() < 360
    for i, (south, north) in enumerate(ZONES.values()):
        latitude = found.latitude[found.zone == i]
        assert south < latitude.min() and latitude.max() <= north


def test_a_zone_may_be_asked_for_alone():
    found = centres(16, ("GRS", "EZ"))
    assert np.bincount(found.zone).tolist() == [64, 320]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((12,), "power of two"),
        ((16, ("EZ", "XYZ")), "unknown zone XYZ"),
        ((8,), "zone STB has no sample centre at nside 8"),
    ],
)
def test_impossible_centres(arguments, said):
    with pytest.raises(BenchError, match=said):
        centres(*arguments)


def test_an_empty_zone_is_a_data_error():
    with pytest.raises(DataError, match="take a larger one"):
        centres(1, ("GRS",))


def test_latitudes_are_the_slope_and_the_angle_at_the_centre():
    # a point of the ellipse x = a cos t, z = c sin t: its angle at the centre, and its normal's
    a, c = ellipsoid.EQUATORIAL_KM, ellipsoid.POLAR_KM
    t = np.radians([-80.0, -22, 0, 12, 45, 89])
    centric = np.degrees(np.arctan2(c * np.sin(t), a * np.cos(t)))
    graphic = np.degrees(np.arctan2(a * np.sin(t), c * np.cos(t)))
    np.testing.assert_allclose(ellipsoid.to_planetocentric(graphic), centric, atol=1e-10)
    np.testing.assert_allclose(ellipsoid.to_planetographic(centric), graphic, atol=1e-10)
    assert torch.allclose(ellipsoid.to_planetocentric(torch.from_numpy(graphic)), torch.from_numpy(centric))
    assert abs(ellipsoid.to_planetocentric(90.0) - 90) < 1e-9


@pytest.mark.parametrize("centre", [0.0, -22.02, 41.8, 66.4, -70.0])
def test_projection_agrees_with_proj(centre):
    generator = torch.Generator().manual_seed(1)
    latitude = centre + 18 * torch.rand(200, generator=generator).double() - 9
    east = (2 * torch.rand(200, generator=generator).double() - 1) * 8 / np.cos(np.radians(centre))
    at = torch.tensor(centre, dtype=torch.float64)
    x, y = laea_forward(latitude, east, at)
    ours = f"+proj=laea +lat_0={centre} +lon_0=0 +units=m {ELLIPSOID}"
    there = transform(f"+proj=longlat {ELLIPSOID}", ours, east.tolist(), latitude.tolist())
    # PROJ's series for the authalic latitude ends at e^6, which on so flat a planet leaves a metre
    np.testing.assert_allclose(x * 1000, there[0], atol=1.5)
    np.testing.assert_allclose(y * 1000, there[1], atol=1.5)
    back = laea_inverse(x, y, at)
    torch.testing.assert_close(back[0], latitude, atol=1e-10, rtol=0)
    torch.testing.assert_close(back[1], east, atol=1e-10, rtol=0)


def test_pixels_have_equal_areas():
    """The area on the ellipsoid of cells of the projection, by the Jacobian, at the centre and in a corner."""
    at = torch.tensor(60.0, dtype=torch.float64)
    x = torch.tensor([0.0, 7900.0, -7900.0, 7900.0], dtype=torch.float64)
    y = torch.tensor([0.0, 7900.0, 7900.0, -7900.0], dtype=torch.float64)
    step, areas = 0.5, []
    lat, _ = laea_inverse(x, y, at)
    right, up = laea_inverse(x + step, y, at), laea_inverse(x, y + step, at)
    left, down = laea_inverse(x - step, y, at), laea_inverse(x, y - step, at)
    dlat = [torch.deg2rad(b[0] - a[0]) / (2 * step) for a, b in ((left, right), (down, up))]
    deast = [torch.deg2rad(b[1] - a[1]) / (2 * step) for a, b in ((left, right), (down, up))]
    e2 = 1 - (ellipsoid.POLAR_KM / ellipsoid.EQUATORIAL_KM) ** 2
    sine, cosine = torch.sin(torch.deg2rad(lat)), torch.cos(torch.deg2rad(lat))
    meridian = ellipsoid.EQUATORIAL_KM * (1 - e2) / (1 - e2 * sine**2) ** 1.5
    parallel = ellipsoid.EQUATORIAL_KM * cosine / (1 - e2 * sine**2).sqrt()
    areas = (deast[0] * dlat[1] - deast[1] * dlat[0]) * meridian * parallel
    torch.testing.assert_close(areas, torch.ones_like(areas), atol=1e-7, rtol=0)


@pytest.mark.parametrize("nside", [1, 4, 16, 32])
def test_centres_are_those_of_healpix(nside):
    healpix = pytest.importorskip("astropy_healpix")
    longitude, latitude = healpix.HEALPix(nside, order="ring").healpix_to_lonlat(np.arange(12 * nside**2))
    ours = healpix_rings(nside)
    np.testing.assert_allclose(ours[0], latitude.deg, atol=1e-9)
    np.testing.assert_allclose((ours[1] + longitude.deg + 180) % 360, 180, atol=1e-9)
