"""The sensors: those of ``sensors.toml``, and the cameras of the calibration track."""

from pathlib import Path

from pansharp_bench.registry import register_sensor
from pansharp_bench.scene import Sensor
from pansharp_bench.sensors import read_sensors

for _sensor, _source in read_sensors(Path(__file__).with_suffix(".toml")):
    register_sensor(_sensor, _source)

_RGB = ("red", "green", "blue")

# I/F, not DN; source and target share one grid, and no camera's blur is modelled
register_sensor(Sensor("junocam2hst", "JunoCam to Hubble", _RGB, 1.0, (1.0,) * 3, 1.0, (0, 1, 2), 1, _RGB))
register_sensor(
    Sensor(
        "junocam2hst-uvm",
        "Hubble, ultraviolet and methane",
        ("F275W", "FQ889N"),
        1.0,
        (1.0,) * 2,
        1.0,
        (0, 1, 1),
        1,
        ("red", "blue"),
    )
)
