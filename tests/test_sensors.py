"""Sensors of one's own: by code, by an installed package, by a file."""

import re

import pytest

import pansharp_bench as pb
from pansharp_bench import registry
from pansharp_bench.errors import BenchError
from pansharp_bench.registry import SENSORS
from pansharp_bench.sensors import read_sensors, sensor_given, unknown_sensor

FILE = """
[mine]
title = "My camera"
bands = ["blue", "green", "red", "nir"]
peak = 4095
ratio = 2
phase = [0, 0.5]
mtf = [0.31, 0.3, 0.29, 0.28]
mtf_pan = 0.12
rgb = [2, 1, 0]
source.mtf = "data sheet"
source.peak = "12 bits"
"""


@pytest.fixture
def kept():
    SENSORS.discover()
    before = dict(SENSORS._entries)
    yield
    SENSORS._entries = before


def test_a_file_is_a_sensor(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    ((sensor, source),) = read_sensors(path)
    assert sensor == sensor_given(str(path))
    assert sensor == pb.Sensor(
        "mine", "My camera", ("blue", "green", "red", "nir"), 4095, (0.31, 0.3, 0.29, 0.28), 0.12, (2, 1, 0), 2,
        phase=(0, 0.5),
    )  # fmt: skip
    assert source == "mtf: data sheet; peak: 12 bits"


def test_a_registered_sensor_is_known_by_its_name(kept):
    pb.register_sensor(
        pb.Sensor("mine", "My camera", ("a",), 255, (0.3,), 0.15, (0, 0, 0)), source="measured"
    )
    assert sensor_given("mine").title == "My camera" and SENSORS.get("mine").card.source == "measured"
    assert SENSORS.get("mine").origin == __name__  # a record can tell that it is none of the project's
    with pytest.raises(ValueError, match="already registered"):
        pb.register_sensor(sensor_given("qb"))


def test_installed_packages_may_bring_sensors():
    assert SENSORS.entry_points == "pansharp_bench.sensors"
    assert registry.TABLES[3] is SENSORS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("peak = 4095", ""), r"mine\.toml, \[mine\]: missing 1 required.*'peak'"),
        (("mtf = ", "mtfs = "), r"unknown mtfs; known are: bands"),
        (("0.31, ", ""), r"4 bands but 3 MTF gains"),
        (("ratio = 2", "ratio = 3"), r"ratio 3 is no power of two"),
        (("[mine]", ""), r"stands outside a table"),
        (
            ("peak = 4095", 'peak = "a lot"'),
            r"mine\.toml, \[mine\]: sensor mine: peak 'a lot' is not a number",
        ),
        (("ratio = 2", "ratio = 2.0"), r"ratio 2\.0 is not a whole number"),
        (("ratio = 2", "ratio = true"), r"ratio True is not a whole number"),
        (("mtf = ", 'mtf = "0.3" #'), r"mtf '0\.3' is not numbers"),
        (("bands = ", 'bands = "bgrn" #'), r"bands 'bgrn' is not names"),
        (("rgb = [", "rgb = [0, "), r"rgb names 4 bands, not three"),
        ((FILE, ""), r"holds no sensor"),
        (("peak = 4095", "peak = "), r"cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path, change, message):
    path = tmp_path / "mine.toml"
    path.write_text(FILE.replace(*change))
    with pytest.raises(BenchError, match=message):
        sensor_given(str(path))


def test_a_file_that_is_not_there_or_holds_several(tmp_path):
    with pytest.raises(BenchError, match=r"nowhere\.toml cannot be read: No such file"):
        sensor_given("nowhere.toml")
    path = tmp_path / "two.toml"
    path.write_text(FILE + FILE.replace("[mine]", "[other]"))
    with pytest.raises(BenchError, match=r"holds several \(mine, other\)"):
        sensor_given(str(path))


def test_defaults_say_so():
    """Where a gain is the toolbox's default the card does not claim a source for it."""
    for entry in SENSORS.entries():
        if set(entry.obj.mtf) == {0.3}:
            assert re.search(r"default", entry.card.source), entry.name


def test_a_sensor_of_which_little_is_known():
    assert unknown_sensor(("",) * 3, 255, 4).mtf == (0.3, 0.3, 0.3)
    assert unknown_sensor(("",) * 2, 255, 2, (0.25,)).mtf == (0.25, 0.25)
    with pytest.raises(BenchError, match="3 bands but 2 MTF gains"):
        unknown_sensor(("",) * 3, 255, 4, (0.3, 0.2))
