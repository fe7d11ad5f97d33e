"""Reading maps and cutting segments: conventions, blank pixels, damage, and values at known places."""

import numpy as np
import pytest
import rasterio
import torch
from jupiter import REAL, field, needs_real, planet, save_png
from PIL import Image
from rasterio.transform import from_origin
from rasterio.warp import transform
from scipy import ndimage

from pansharp_bench.datasets.jupiter import maps
from pansharp_bench.datasets.jupiter.maps import GlobalMap, read_picture
from pansharp_bench.datasets.jupiter.mosaic import write_map
from pansharp_bench.datasets.jupiter.segments import Cutter, antialiased
from pansharp_bench.errors import BenchError, DataError

README = """Images were navigated. The table lists the I/F factor.
Rotation 1 (Nov. 19 19:24:48 to Nov. 20 03:41:22)
{between}
Filter\tMinnaert k\tI/F scale factor (FITS files)
FQ889N\t1.000\t\t.00083
F631N\t0.999\t\t.00364
F502N\t0.950\t\t.00366
F395N\tn/a\t\t.00346
{after}
"""


def test_pictures_lie_as_told(tmp_path):
    whole = planet(90)
    path = save_png(tmp_path / "a.png", whole.values)
    read = read_picture(path)
    assert torch.allclose(read.values, whole.values, atol=0.51 / 255)
    mirrored = save_png(tmp_path / "b.png", whole.values.flip(1, 2))
    turned = read_picture(mirrored, east_right=False, north_up=False)
    torch.testing.assert_close(turned.values, read.values)


def test_blank_is_transparent_or_black_even_where_black_is_1_of_255(tmp_path):
    pixels = np.random.default_rng(0).integers(90, 150, (20, 40, 4), np.uint8)
    pixels[0, 0, :3] = 0
    pixels[0, 1, :3] = 1
    pixels[0, 2] = (90, 90, 90, 0)
    pixels[0, 3] = (0, 0, 9, 255)
    Image.fromarray(pixels).save(tmp_path / "PJ18.png")
    values = read_picture(tmp_path / "PJ18.png").values
    assert values.isnan().all(0).nonzero().tolist() == [[0, 0], [0, 1], [0, 2]]
    assert values[2, 0, 3].item() == pytest.approx(9 / 255)


def test_a_geotiff_is_not_read_against_what_it_says(tmp_path):
    bands = ("red", "green", "blue")
    for kind, left in (("planetocentric", 180.0), ("planetographic", 360.0)):
        whole = planet(78, kind, left)
        path, _ = write_map(tmp_path / "map.tif", [(0, whole.values)], 78, bands, kind, left)
        read = read_picture(path, kind, left)
        torch.testing.assert_close(read.values, whole.values)
        with pytest.raises(DataError, match=f"left edge lies at {left % 360:g} W, but it is read as 90 W"):
            read_picture(path, kind, 90.0)
        other = {"planetocentric": "planetographic", "planetographic": "planetocentric"}[kind]
        with pytest.raises(DataError, match=f"its latitudes are {kind}, but it is read as {other}"):
            read_picture(path, other, left)
    size = {"width": 40, "height": 20, "count": 3, "dtype": "float32", "crs": "IAU_2015:59900"}
    with rasterio.open(tmp_path / "part.tif", "w", transform=from_origin(-90, 0, 1, 1), **size) as file:
        file.write(np.random.default_rng(0).random((3, 20, 40), np.float32))
    with pytest.raises(
        DataError, match="from -90 to -50 E and -20 to 0 N; expected a map of the whole planet"
    ):
        read_picture(tmp_path / "part.tif")


def test_values_that_are_no_brightness_are_not_cut_at_one(tmp_path):
    path, _ = write_map(tmp_path / "map.tif", [(0, planet(90).values * 255)], 90, ("red", "green", "blue"))
    with pytest.raises(DataError, match=r"values up to 229\.\d+, 100% of them above 1; expected I/F"):
        read_picture(path)
    (source,) = maps.find_hst([write_fits(tmp_path / "opal")], scales=dict.fromkeys(maps.RGB_FILTERS, 0.01))
    with pytest.raises(DataError, match="is the I/F scale another map's"):
        source.read()


FILL = (126, 120, 101)


def filled(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The map with grey-green fill beyond 80 degrees north and at 42 % of the longitudes between 65 and 71, in two
    areas, one of them across the edge; and where that is."""
    height, width = values.shape[1:]
    lat = 90 - (torch.arange(height) + 0.5) * 180 / height
    fill = (lat > 80)[:, None].expand(height, width).clone()
    ring = ((lat > 65) & (lat < 71))[:, None]
    column = torch.arange(width) / width
    fill |= ring & ((column < 0.1) | (column >= 0.9) | ((column > 0.4) & (column < 0.62)))
    return torch.where(fill, torch.tensor(FILL)[:, None, None] / 255, values), fill


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_fill_is_blank_and_no_cloud(tmp_path, suffix):
    rng = torch.Generator().manual_seed(0)
    clouds = planet(540, "planetographic", 360.0).values
    clouds = clouds * 0.8 + 0.1 + 0.02 * torch.randn(clouds.shape, generator=rng)
    values, fill = filled(clouds)
    path = tmp_path / f"opal_2017a.{suffix}"
    pixels = (values * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path, **({"quality": 95} if suffix == "jpg" else {}))
    read = read_picture(path, "planetographic", 360.0)
    blank = read.values.isnan()
    assert (blank == blank[:1]).all()
    assert not blank[0][~fill].any()
    if suffix == "jpg":  # blocks of 16 pixels that hold an edge are not of one colour
        assert blank[0, :16].all()
        return
    assert blank[0][fill].all()
    found = read.blank({"ring": (65, 71), "north": (80, 90), "NTB": (25, 30)})
    assert found == {"ring": pytest.approx(0.42, abs=0.005), "north": 1, "NTB": 0}


def test_fill_of_fits_is_blank_too(tmp_path):
    """A value of its own over an area, though of floating point; integers by the header's BLANK."""
    fits = pytest.importorskip("astropy.io.fits")
    rng = np.random.default_rng(0)
    paths = {}
    for i, name in enumerate(maps.RGB_FILTERS):
        data = rng.uniform(100, 200, (60, 120)).astype(np.float32)
        data[:20, 30:60] = 77.7
        if i == 1:
            data = data.astype(np.int16)
            data[50, 7] = -32768
        paths[name] = tmp_path / f"{name}.fits"
        fits.writeto(paths[name], data, fits.Header({"BLANK": -32768} if i == 1 else {}))
    blank = maps.read_opal_fits(paths, dict.fromkeys(maps.RGB_FILTERS, 0.004)).values.isnan()
    expected = torch.zeros(60, 120, dtype=torch.bool)
    expected[:20, 30:60] = expected[50, 7] = True
    assert (blank == expected).all()


@needs_real
def test_fill_of_the_real_opal_picture_is_found_and_none_in_mosaics():
    """Beyond 77 degrees north and 81 south its rows are of one colour all round; haze up to 71 is image."""
    opal = read_picture(next((REAL / "opal").glob("*.jpg")), "planetographic", 360.0)
    found = opal.blank({"north": (77, 90), "south": (-90, -81), "haze": (60, 71), "south haze": (-75, -60),
                        "rest": (-60, 60)})  # fmt: skip
    assert found["north"] > 0.999 and found["south"] == 1
    assert found["haze"] < 0.01 and found["south haze"] == 0 and found["rest"] == 0
    with Image.open(REAL / "mosaics" / "PJ18.png") as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    unseen = (pixels[..., :3] <= 0.01 * 255).all(2) | (pixels[..., 3] == 0)
    mosaic = read_picture(REAL / "mosaics" / "PJ18.png")
    assert (mosaic.values[0].isnan().numpy() == unseen).all()


def test_damaged_pictures_get_one_clear_error(tmp_path):
    whole = save_png(tmp_path / "whole.png", np.random.default_rng(0).random((3, 60, 120)))
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"cut\.png: found a truncated or damaged picture"):
        read_picture(cut)
    page = tmp_path / "page.png"
    page.write_text("<html>not found</html>")
    with pytest.raises(DataError, match="no picture"):
        read_picture(page)
    with pytest.raises(DataError, match="100 x 60 pixels; expected a map of the whole planet"):
        read_picture(save_png(tmp_path / "part.png", np.full((3, 60, 100), 0.5)))
    with pytest.raises(DataError, match="every pixel is blank"):
        read_picture(save_png(tmp_path / "black.png", np.zeros((3, 60, 120))))
    Image.new("L", (120, 60), 9).save(tmp_path / "grey.png")
    with pytest.raises(DataError, match="1 channel"):
        read_picture(tmp_path / "grey.png")
    with pytest.raises(DataError, match="does not exist"):
        read_picture(tmp_path / "nowhere.png")


def write_fits(folder, name="2019a", filters=maps.RGB_FILTERS, value=200.0):
    fits = pytest.importorskip("astropy.io.fits")
    folder.mkdir(exist_ok=True)
    for i, f in enumerate(filters):
        data = np.full((20, 40), value + i, np.float32) + (np.arange(40) + 1) % 2
        data[0] += 50  # the north
        stem = f"hlsp_opal_hst_wfc3-uvis_jupiter-{name}_{f.lower()}_v1_globalmap.fits"
        fits.writeto(folder / stem, data, overwrite=True)
    return folder


@pytest.mark.parametrize("both", [True, False])
def test_scales_of_a_readme(tmp_path, both):
    second = "Rotation 2 (Nov. 20 06:21:29 to 14:43:21)"
    own = f"{second}\nF631N\t0.999\t\t.005\n"
    path = tmp_path / "readme.txt"
    path.write_text(README.format(between=second if both else "", after="" if both else own))
    scales = maps.read_opal_scales(path)
    assert scales["A"] == {"FQ889N": 0.00083, "F631N": 0.00364, "F502N": 0.00366, "F395N": 0.00346}
    assert scales["B"] == (scales["A"] if both else {"F631N": 0.005})
    path.write_text("nothing here")
    with pytest.raises(DataError, match="no I/F scale factor"):
        maps.read_opal_scales(path)


def test_opal_fits_become_i_over_f(tmp_path):
    folder = write_fits(tmp_path / "opal", filters=("FQ889N", *maps.RGB_FILTERS))
    with pytest.raises(DataError, match="found none beside it"):
        maps.find_hst([folder])
    (folder / "hlsp_opal_hst_wfc3-uvis_jupiter-2019_all_v1_readme.txt").write_text(
        README.format(between="", after="")
    )
    (source,) = maps.find_hst([folder], (26,))
    assert (source.number, source.rotation) == (26, "A")
    read = source.read()
    assert (read.latitude, read.west_left) == ("planetographic", 360)
    assert read.values[:, 5, 5].tolist() == pytest.approx([201 * 0.00364, 202 * 0.00366, 203 * 0.00346])
    assert read.values[0, 0, 0] > read.values[0, 5, 0]
    (given,) = maps.find_hst([folder], scales=dict.fromkeys(maps.RGB_FILTERS, 0.001))
    assert given.read().values[0, 5, 5].item() == pytest.approx(0.201)
    with pytest.raises(DataError, match="cycle 25; found cycle 26 A"):
        maps.find_hst([folder], (25,))
    for other in folder.glob("*jupiter*.fits"):  # OPAL's release has four planets
        other.with_name(other.name.replace("jupiter", "saturn")).write_bytes(b"")
    (source,) = maps.find_hst([folder], (26,), latitude="planetocentric", west_left=90.0, east_right=False)
    turned = source.read()
    assert (turned.latitude, turned.west_left) == ("planetocentric", 90)
    torch.testing.assert_close(turned.values, read.values.flip(2))


def test_maps_without_values_or_filters(tmp_path):
    scales = dict.fromkeys(maps.RGB_FILTERS, 0.001)
    (source,) = maps.find_hst([write_fits(tmp_path / "nan", value=np.nan)], scales=scales)
    with pytest.raises(DataError, match="every pixel is blank or NaN"):
        source.read()
    (source,) = maps.find_hst([write_fits(tmp_path / "inf", value=np.inf)], scales=scales)
    with pytest.raises(DataError, match="infinite"):
        source.read()
    with pytest.raises(DataError, match="found filters F631N; expected F631N, F502N, F395N"):
        maps.find_hst([write_fits(tmp_path / "one", filters=("F631N",))], scales=scales)
    broken = write_fits(tmp_path / "broken")
    next(broken.iterdir()).write_bytes(b"not FITS")
    (source,) = maps.find_hst([broken], scales=scales)
    with pytest.raises(DataError, match="no readable FITS"):
        source.read()


def test_mosaics_are_found_by_perijove(tmp_path):
    for name in ("PJ16.png", "PJ18/globe_mosaic.png", "PJ18/globe_mosaic_highres.png"):
        save_png(tmp_path / name, np.full((3, 4, 8), 0.5))
    found = maps.find_junocam([tmp_path], (18, 16))
    assert [(s.name, s.paths[0].name) for s in found] == [
        ("PJ16", "PJ16.png"),
        ("PJ18", "globe_mosaic_highres.png"),
    ]
    with pytest.raises(DataError, match="no mosaic of PJ17; found PJ16, PJ18"):
        maps.find_junocam([tmp_path], (16, 17))
    save_png(tmp_path / "again" / "PJ16.png", np.full((3, 4, 8), 0.5))
    with pytest.raises(DataError, match="several mosaics could be PJ16"):
        maps.find_junocam([tmp_path], (16,))


@pytest.mark.parametrize(("kind", "left"), [("planetocentric", 180.0), ("planetographic", 360.0)])
@pytest.mark.parametrize("centre", [(0.0, 179.9), (-22.0, 0.3), (66.4, 241.0)])
def test_segments_hold_the_planet_where_proj_says(kind, left, centre):
    """Every pixel against the field at the place PROJ gives it, across both edges of the map too."""
    latitude, west = centre
    (segment,), kept = Cutter(planet(360, kind, left), 32)([latitude], [west])
    assert kept.tolist() == [0]
    line = (np.arange(32) + 0.5) * 500e3 - 8000e3
    x, y = (a.ravel().tolist() for a in np.meshgrid(line, -line))
    ellipsoid = "+a=71492000 +b=66854000 +no_defs"
    projected = f"+proj=laea +lat_0={latitude} +lon_0={-west} +units=m {ellipsoid}"
    east, lat = transform(projected, f"+proj=longlat {ellipsoid}", x, y)
    expected = field(torch.tensor(lat), -torch.tensor(east)).reshape(3, 32, 32).float()
    torch.testing.assert_close(segment, expected, atol=1.5e-3, rtol=0)


def test_blank_pixels_up_to_five_are_kept_as_zeros():
    source = planet(180, "planetographic")
    cut = Cutter(source, 64)
    (whole,), _ = cut([0.0], [100.0])
    row, column = (
        int(v.round()) for v in (source.row(torch.tensor(0.0)), source.column(torch.tensor(100.0)))
    )

    def with_blank(height, width):
        values = source.values.clone()
        values[:, row : row + height, column : column + width] = torch.nan
        return Cutter(GlobalMap(values, "planetographic"), 64)([0.0], [100.0], blank_limit=1000)[0]

    blank = (with_blank(1, 1) == 0).all(1).sum().item()
    assert 36 <= blank <= 121  # one pixel of 1,248 km and the half of its neighbours, in pixels of 250 km
    assert not (whole == 0).any()
    values = source.values.clone()
    values[:, row, column] = torch.nan
    holed = Cutter(GlobalMap(values, "planetographic"), 64)
    assert len(holed([0.0], [100.0], blank_limit=blank)[0]) == 1
    images, kept = holed([0.0, 0.0, 40.0], [100.0, 200.0, 100.0], blank_limit=blank - 1)
    assert kept.tolist() == [1, 2] and len(images) == 2


def test_the_coarse_look_drops_nothing_that_the_close_one_keeps():
    values = planet(180).values.clone()
    values[:, :, 90:120] = torch.nan
    cut = Cutter(GlobalMap(values), 64)
    west = np.linspace(0, 359, 120)
    _, kept = cut(np.zeros(120), west)
    every = cut._sample(0.0, west, slice(None))
    assert kept.tolist() == (every[:, 0].isnan().flatten(1).sum(1) <= 5).nonzero().flatten().tolist()
    assert 20 < len(kept) < 110


def test_a_finer_map_is_blurred_along_rows_as_much_as_latitude_asks():
    noise = torch.rand(1, 360, 720, generator=torch.Generator().manual_seed(0))
    blurred = antialiased(GlobalMap(noise, "planetocentric"), 1000.0).values[0]
    across = blurred.diff(dim=1).square().mean(1) / noise[0].diff(dim=1).square().mean(1)
    down = blurred.diff(dim=0).square().mean()
    assert down < 0.3 * noise[0].diff(dim=0).square().mean()
    assert across[60:70].mean() < 0.5 * across[175:185].mean()  # 58 degrees north against the equator
    assert blurred.mean().item() == pytest.approx(noise.mean().item(), abs=1e-3)
    coarse = GlobalMap(noise)
    assert antialiased(coarse, 40.0) is coarse


def test_blank_lends_nothing_to_its_neighbours_when_blurred():
    values = torch.full((3, 180, 360), 0.5)
    values[:, 40:80, 100:200] = torch.nan
    blurred = antialiased(GlobalMap(values), 4000.0).values
    assert torch.equal(blurred.isnan(), values.isnan())
    torch.testing.assert_close(blurred.nan_to_num(0.5), torch.full_like(values, 0.5), atol=2e-4, rtol=0)


def test_degrading_averages_areas():
    whole = planet(180)
    half = whole.degraded(2.0)
    assert half.values.shape == (3, 90, 180)
    torch.testing.assert_close(half.values[:, 0, 0], whole.values[:, :2, :2].mean((1, 2)))
    assert whole.degraded(0.63 * 180 / 90).values.shape == (3, 143, 286)
    with pytest.raises(BenchError, match=r"has no 0\.5 to give"):
        whole.degraded(0.5)


def red_spot(found: GlobalMap) -> tuple[float, float]:
    """(planetographic latitude, west longitude) of the Great Red Spot: the largest red area at 12 to 32 south."""
    d = found.degrees_per_pixel
    redness = (found.values[0] - found.values[2]).nan_to_num(-1).numpy()
    redness = ndimage.gaussian_filter(redness, 1 / d)[int(102 / d) : int(122 / d)]
    areas, _ = ndimage.label(redness > 0.6 * redness.max())
    rows, columns = np.nonzero(areas == areas[np.unravel_index(redness.argmax(), redness.shape)])
    row = int(102 / d) + (rows.min() + rows.max()) / 2
    return found.latitudes()[round(row)].item(), (
        found.west_left - ((columns.min() + columns.max()) / 2 + 0.5) * d
    ) % 360


@needs_real
def test_conventions_of_the_real_maps_agree_on_the_great_red_spot():
    """One latitude in all maps; a steady drift in System III from April 2017 to July 2019."""
    days = {"opal": 0, 17: 627, 18: 680, 21: 839}  # since 3 April 2017
    (opal,) = maps.find_hst([REAL / "opal"])
    spots = {"opal": red_spot(opal.read())}
    for mosaic in maps.find_junocam([REAL / "mosaics"], (17, 18, 21)):
        spots[mosaic.number] = red_spot(mosaic.read())
    assert all(abs(latitude + 22) < 0.7 for latitude, _ in spots.values()), spots
    start = spots["opal"][1]
    for key, (_, west) in spots.items():
        drifted = (start + 0.32 * days[key] - west + 180) % 360 - 180
        assert abs(drifted) < 8, (key, spots)
