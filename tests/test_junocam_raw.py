"""Raw JunoCam images: decompanding, the two forms of file, calibration, and bad input."""

import json

import numpy as np
import pytest
from PIL import Image

from pansharp_bench.datasets.jupiter.junocam import pds3, raw
from pansharp_bench.errors import DataError

KEYS = {
    "FILE_NAME": "JNCE_2022229_44C00030_V01-raw.png",
    "PRODUCT_ID": "JNCE_2022229_44C00030_V01",
    "START_TIME": "2022-08-17T13:25:44.834",
    "INTERFRAME_DELAY": "0.373 <s>",
    "EXPOSURE_DURATION": "3.200000 <ms>",
    "FILTER_NAME": ["BLUE", "GREEN", "RED"],
    "LINES": 768,
    "LINE_SAMPLES": 1648,
    "SAMPLE_BITS": 8,
    "SAMPLE_BIT_MODE_ID": "SQROOT",
    "SAMPLE_TYPE": "UNSIGNED_INTEGER",
    "JNO:TDI_STAGES_COUNT": 1,
    "SPACECRAFT_ALTITUDE": "118043.7 <km>",
    "SUB_SPACECRAFT_LATITUDE": "41.7481",
    "SUB_SPACECRAFT_LONGITUDE": "287.6978",
    "SOLAR_DISTANCE": "7.4172e+08 <km>",
    "PJ": "44",
}


@pytest.fixture
def codes():
    return np.random.default_rng(1).integers(0, 256, (768, 1648), dtype=np.uint8)


def write_png(folder, codes, **changes):
    keys = KEYS | changes
    path = folder / KEYS["FILE_NAME"]
    Image.fromarray(codes).save(path)
    label = folder / "13542-Metadata.json"
    label.write_text(json.dumps({k: v for k, v in keys.items() if v is not None}))
    return path


def write_img(folder, codes, attached=False, **changes):
    keys = KEYS | {"RECORD_BYTES": 1648} | changes
    path = folder / "JNCE_2022229_44C00030_V01.IMG"
    quoted = {"FILE_NAME", "PRODUCT_ID"}

    def text(key, value):
        if isinstance(value, list):
            return "(" + ",\r\n    ".join(f'"{v}"' for v in value) + ")"
        return f'"{value}"' if key in quoted else str(value)

    pointer = 3 if attached else f'"{path.name}"'
    lines = ["PDS_VERSION_ID = PDS3", "/* a comment = 3 */", f"^IMAGE = {pointer}"]
    lines += [f"{key:30s} = {text(key, value)}" for key, value in keys.items() if not key.startswith("LINE")]
    lines += ['RATIONALE_DESC = "Jupiter\r\n  LINES = 5"', "OBJECT = IMAGE"]
    lines += [f"  {key} = {value}" for key, value in keys.items() if key.startswith("LINE")]
    label = ("\r\n".join([*lines, "END_OBJECT = IMAGE", "END"]) + "\r\n").encode()
    if attached:
        path.write_bytes(label.ljust(2 * 1648) + codes.tobytes())
    else:
        path.with_suffix(".LBL").write_bytes(label)
        path.write_bytes(codes.tobytes())
    return path


def test_decompanding_is_monotone_and_ends_at_2879():
    table = raw.decompanding_table("SQROOT")
    steps = np.diff(table)
    assert table[0] == 0 and table[255] == 2879
    assert (np.diff(steps) >= 0).all() and set(steps) == {1, 2, 4, 8, 16, 32}
    assert table[23 + 20 + 46] == 23 + 40 + 184


@pytest.mark.parametrize(("mode", "factor"), [("LIN1", 1), ("LIN8", 8), ("LIN16", 16)])
def test_linear_modes_multiply(mode, factor):
    assert (raw.decompanding_table(mode) == np.arange(256) * factor).all()


def test_png_and_img_give_the_same_framelets(tmp_path, codes):
    png = raw.read_image(write_png(tmp_path, codes))
    assert png.dn.shape == (2, 3, 128, 1648)
    # frame 1, green, line 5 of the strip
    assert (png.dn[1, 1, 5] == raw.decompanding_table("SQROOT")[codes[384 + 128 + 5]]).all()
    for attached in (False, True):
        folder = tmp_path / str(attached)
        folder.mkdir()
        img = raw.read_image(write_img(folder, codes, attached))
        assert (img.dn == png.dn).all()
        for name in (
            "start_utc",
            "bands",
            "interframe_s",
            "exposure_ms",
            "altitude_km",
            "latitude",
            "perijove",
        ):
            assert getattr(img.label, name) == getattr(png.label, name), name


def test_sixteen_bits_are_linear_already(tmp_path):
    codes = np.random.default_rng(2).integers(0, 2**16, (768, 1648)).astype(">u2")
    path = write_img(tmp_path, codes, SAMPLE_BITS=16, SAMPLE_TYPE="MSB_UNSIGNED_INTEGER", RECORD_BYTES=3296)
    assert (raw.read_image(path).dn.ravel() == codes.ravel()).all()


def test_truncated_png_is_refused(tmp_path, codes):
    path = write_png(tmp_path, codes)
    path.write_bytes(path.read_bytes()[:200000])
    with pytest.raises(DataError, match=r"JNCE_2022229_44C00030_V01-raw\.png .*truncated"):
        raw.read_image(path)


def test_truncated_img_is_refused(tmp_path, codes):
    path = write_img(tmp_path, codes[:700])
    with pytest.raises(DataError, match="truncated"):
        raw.read_image(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"LINES": 1152}, "1648 × 768, its label .* says 1648 × 1152"),
        ({"LINES": 770}, "no whole number of frames"),
        ({"FILTER_NAME": ["METHANE", "GREEN"], "LINES": 512}, "says 1648 × 512"),
        ({"FILTER_NAME": ["BLUE", "ULTRAVIOLET", "RED"]}, "ULTRAVIOLET"),
        ({"SAMPLE_BIT_MODE_ID": "CUBEROOT"}, "CUBEROOT.* SQROOT, LIN1, LIN8, LIN16"),
        ({"LINE_SAMPLES": 824}, "LINE_SAMPLES is 824"),
        ({"SAMPLING_FACTOR": 2}, "summed"),
        ({"INTERFRAME_DELAY": "soon"}, "INTERFRAME_DELAY is 'soon'"),
        ({"START_TIME": None}, "no START_TIME"),
        ({"PRODUCT_ID": "JNCE_2022229_44C00032_V01"}, "label of JNCE_2022229_44C00032"),
        ({"FILE_NAME": "another.png"}, "no label beside it"),
    ],
)
def test_a_label_that_disagrees_is_named(tmp_path, codes, changes, message):
    path = write_png(tmp_path, codes, **changes)
    with pytest.raises(DataError, match=message):
        raw.read_image(path)


def test_a_colour_picture_is_no_raw_image(tmp_path, codes):
    path = write_png(tmp_path, codes)
    Image.fromarray(np.stack([codes] * 3, -1)).save(path)
    with pytest.raises(DataError, match="one grey channel"):
        raw.read_image(path)


def test_calibration_undoes_flat_exposure_and_bad_pixels(tmp_path):
    y, x = np.mgrid[:384, :1648]
    flat = (0.2 + 0.1 * np.cos((x - 800) / 900) + 0.02 * np.sin(y / 50)).astype(np.float32)
    Image.fromarray(flat).save(tmp_path / "flat.tiff")
    bad = np.full((384, 1648), 255, np.uint8)
    bad[200, 700:702] = bad[0, 23] = 0
    Image.fromarray(bad).save(tmp_path / "bad.png")
    label = raw.read_label(
        write_png(tmp_path, np.zeros((768, 1648), np.uint8)).parent / "13542-Metadata.json"
    )
    gain = raw.read_flat(tmp_path / "flat.tiff", label.bands)
    mask = raw.read_bad_pixels(tmp_path / "bad.png", label.bands)
    dn = np.broadcast_to(320 * gain, (2, 3, 128, 1648)).copy()
    dn[:, mask] = 4000
    values = raw.calibrate(raw.RawImage(label, dn), gain, mask)
    expected = 320 / 3.2 * (7.4172e8 / (5.2 * 149597870.7)) ** 2
    np.testing.assert_allclose(values[..., raw.FIRST : raw.LAST], expected, rtol=1e-5)
    assert (values[..., : raw.FIRST] == 0).all()
    with pytest.raises(DataError, match="blue, green and red"):
        Image.fromarray(bad[:100]).save(tmp_path / "small.png")
        raw.read_bad_pixels(tmp_path / "small.png", label.bands)


def relabel(path, old, new):
    """Change the text of a label that was written beside an IMG."""
    label = path.with_suffix(".LBL")
    text = label.read_bytes().decode()
    assert text.count(old) == 1
    label.write_bytes(text.replace(old, new).encode())
    return path


def test_a_key_without_value_does_not_swallow_the_next(tmp_path, codes):
    path = write_img(tmp_path, codes)
    text = path.with_suffix(".LBL").read_text().splitlines()
    (at,) = (i for i, line in enumerate(text) if line.startswith("INTERFRAME_DELAY"))
    path.with_suffix(".LBL").write_text("\r\n".join([*text[:at], "TOKEN_ID = ", *text[at:]]))
    label = raw.read_image(path).label
    assert label.interframe_s == 0.373
    relabel(path, "LINE_SAMPLES = 1648", "LINE_SAMPLES =")
    with pytest.raises(DataError, match="has no LINE_SAMPLES"):
        raw.read_image(path)


def test_a_value_may_stand_below_its_key_and_text_may_hold_anything(tmp_path, codes):
    path = write_img(tmp_path, codes)
    text = '"above\r\nEND\r\nLINES = 1152\r\nOBJECT = IMAGE\r\nbelow"'
    relabel(
        path, "PDS_VERSION_ID = PDS3", f"PDS_VERSION_ID = PDS3\r\nNOTE =\r\n    {text}\r\nN = 2#1# /* END */"
    )
    label = raw.read_image(path).label
    assert (label.lines, label.exposure_ms) == (768, 3.2)
    keys = pds3.parse(path.with_suffix(".LBL").read_bytes().decode(), path)
    assert keys["NOTE"] == "above END LINES = 1152 OBJECT = IMAGE below" and keys["N"] == "2#1#"
    assert keys["INTERFRAME_DELAY"] == "0.373 <s>" and keys["FILTER_NAME"] == ["BLUE", "GREEN", "RED"]


def test_keys_of_other_objects_are_not_the_images(tmp_path, codes):
    path = write_img(tmp_path, codes)
    image = "OBJECT = IMAGE\r\n  LINES"
    relabel(path, image, f"OBJECT = TABLE\r\n  LINES = 5\r\nEND_OBJECT\r\n{image}")
    assert raw.read_image(path).label.lines == 768


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\r\nEND\r\n", "\r\n", "no whole label: it has no END"),
        ('"Jupiter\r\n  LINES = 5"', '"Jupiter\r\n  LINES = 5', "cannot be read"),
        ("PDS_VERSION_ID = PDS3", "VERSION = 3", "not a PDS3 label"),
        ('"RED")', '"RED"', "a list is not closed"),
        ("OBJECT = IMAGE\r\n", "OBJECT IMAGE\r\n", "cannot be read at 'OBJECT'"),
    ],
)
def test_damaged_labels_are_one_clear_error(tmp_path, codes, old, new, message):
    path = write_img(tmp_path, codes)
    text = path.with_suffix(".LBL").read_bytes().decode()
    path.with_suffix(".LBL").write_bytes(text.replace(old, new, 1).encode())
    with pytest.raises(DataError, match=message):
        raw.read_image(path)


def test_what_says_how_samples_are_kept_is_required(tmp_path, codes):
    with pytest.raises(DataError, match="has no SAMPLE_BITS"):
        raw.read_image(write_img(tmp_path, codes, SAMPLE_BITS="N/A"))
    linear = np.zeros((768, 1648), ">u2")
    for changes, message in (
        ({"SAMPLE_TYPE": "N/A"}, "no SAMPLE_TYPE"),
        ({"SAMPLE_TYPE": "PC_REAL"}, "PC_REAL'; unsigned"),
        ({"LINE_PREFIX_BYTES": 8}, "LINE_PREFIX_BYTES 8"),
    ):
        with pytest.raises(DataError, match=message):
            raw.read_image(write_img(tmp_path, linear, SAMPLE_BITS=16, RECORD_BYTES=3296, **changes))
    path = write_img(tmp_path, codes, attached=True, RECORD_BYTES="N/A")
    path.with_suffix(".LBL").unlink()
    with pytest.raises(DataError, match="no RECORD_BYTES"):
        raw.read_image(path)
    path.write_bytes(path.read_bytes().replace(b"^IMAGE", b"^TABLE"))
    with pytest.raises(DataError, match=r"no \^IMAGE"):
        raw.read_image(path)


@pytest.mark.parametrize("kind", ["LSB", "PC", "VAX", "MSB", "SUN"])
def test_bytes_come_in_the_order_of_the_sample_type(tmp_path, kind):
    linear = np.arange(768 * 1648).reshape(768, 1648) % 2000
    stored = linear.astype("<u2" if kind in ("LSB", "PC", "VAX") else ">u2")
    path = write_img(
        tmp_path, stored, SAMPLE_BITS=16, SAMPLE_TYPE=f"{kind}_UNSIGNED_INTEGER", RECORD_BYTES=3296
    )
    assert (raw.read_image(path).dn.ravel() == linear.ravel()).all()


def test_an_image_longer_than_its_label_says_is_refused(tmp_path, codes):
    path = write_img(tmp_path, codes)
    path.write_bytes(path.read_bytes() + bytes(100))  # the last record filled up
    raw.read_image(path)
    with pytest.raises(
        DataError, match=r"longer than its label says: 2531328 bytes .* 8 bits = 1265664 bytes"
    ):
        raw.read_image(write_img(tmp_path, np.concatenate([codes, codes])))


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        ("INTERFRAME_DELAY", "373 <ms>", "interframe_s", 0.373),
        ("INTERFRAME_DELAY", "0.373", "interframe_s", 0.373),
        ("EXPOSURE_DURATION", "0.0032 <s>", "exposure_ms", 3.2),
        ("EXPOSURE_DURATION", "3.2 <Milliseconds>", "exposure_ms", 3.2),
        ("SPACECRAFT_ALTITUDE", "118043700 <m>", "altitude_km", 118043.7),
        ("SOLAR_DISTANCE", "5 <AU>", "solar_distance_km", 5 * 149597870.7),
        ("SUB_SPACECRAFT_LATITUDE", "41.7 <deg>", "latitude", 41.7),
    ],
)
def test_units_of_a_label_are_read(tmp_path, codes, key, text, field, value):
    label = raw.read_image(write_png(tmp_path, codes, **{key: text})).label
    assert getattr(label, field) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("key", "text"), [("INTERFRAME_DELAY", "0.4 <min>"), ("LINES", "768 <km>"), ("SOLAR_DISTANCE", "7 <s>")]
)
def test_a_unit_that_does_not_belong_is_refused(tmp_path, codes, key, text):
    with pytest.raises(DataError, match=f"{key} is .* unit that is not known"):
        raw.read_image(write_png(tmp_path, codes, **{key: text}))


@pytest.mark.parametrize("silence", ["N/A", "UNK", "", "N/A <km>", "'n/a'", [], ["N/A"], None])
def test_optional_keys_may_be_missing_or_say_nothing(tmp_path, codes, silence):
    optional = (
        "JNO:TDI_STAGES_COUNT", "SPACECRAFT_ALTITUDE", "SUB_SPACECRAFT_LATITUDE", "SUB_SPACECRAFT_LONGITUDE",
        "SOLAR_DISTANCE", "PJ", "SAMPLE_TYPE", "SAMPLING_FACTOR", "RECORD_BYTES",
    )  # fmt: skip
    label = raw.read_image(write_png(tmp_path, codes, **dict.fromkeys(optional, silence))).label
    assert (label.altitude_km, label.latitude, label.solar_distance_km, label.perijove) == (None,) * 4


@pytest.mark.parametrize("silence", [None, "N/A", ""])
@pytest.mark.parametrize(
    "key",
    ["PRODUCT_ID", "START_TIME", "INTERFRAME_DELAY", "EXPOSURE_DURATION", "FILTER_NAME", "LINES", "LINE_SAMPLES",
     "SAMPLE_BITS", "SAMPLE_BIT_MODE_ID"],
)  # fmt: skip
def test_every_required_key_is_named_where_it_is_missing(tmp_path, codes, key, silence):
    with pytest.raises(DataError, match=f"has no {key}"):
        raw.read_image(write_png(tmp_path, codes, **{key: silence}))


@pytest.mark.parametrize("factor", [1, 256, 257])
def test_8_bit_codes_in_a_picture_of_16_bits_are_codes(tmp_path, codes, factor):
    expected = raw.read_image(write_png(tmp_path, codes)).dn
    assert (raw.read_image(write_png(tmp_path, codes.astype(np.uint16) * factor)).dn == expected).all()


def test_samples_that_cannot_be_what_the_label_says_are_refused(tmp_path, codes):
    linear = codes.astype(np.uint16) * 11
    with pytest.raises(DataError, match=r"samples up to 2805, its label .* says SAMPLE_BITS 8"):
        raw.read_image(write_png(tmp_path, linear))
    assert (raw.read_image(write_png(tmp_path, linear, SAMPLE_BITS=16)).dn.ravel() == linear.ravel()).all()
    with pytest.raises(DataError, match=r"samples of 8 bits, its label .* says SAMPLE_BITS 16"):
        raw.read_image(write_png(tmp_path, codes, SAMPLE_BITS=16))


@pytest.mark.parametrize(("images", "data"), [("ImageSet", "DataSet"), ("13542-ImageSet", "13542-DataSet")])
def test_labels_are_found_as_downloads_unpack(tmp_path, codes, images, data):
    """Metadata in a folder of its own; that of another image's download is not taken for it."""
    for name in (images, data, "99999-DataSet"):
        (tmp_path / name).mkdir()
    path = write_png(tmp_path / images, codes)
    label = path.with_name("13542-Metadata.json")
    label.rename(tmp_path / "99999-DataSet" / label.name)
    with pytest.raises(DataError, match=f"no label beside it, nor in .*{data}"):
        raw.find_label(path)
    (tmp_path / "99999-DataSet" / label.name).rename(tmp_path / data / label.name)
    assert raw.find_label(path) == tmp_path / data / label.name
    assert raw.read_image(path).dn.shape == (2, 3, 128, 1648)
