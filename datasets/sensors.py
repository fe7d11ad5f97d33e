"""The sensors: bands, peak DN, MTF gains at the Nyquist frequency of the MS grid.

Gains are those of the field's MATLAB toolbox; GaoFen-2 has no entry there, so its default of 0.3 (PAN 0.15)
applies. Peak is 2^bits - 1.
"""

from pansharp_bench.registry import SENSORS
from pansharp_bench.scene import Sensor

_RGB = ("red", "green", "blue")
_BGRN = ("blue", "green", "red", "nir")
_WV = ("coastal", "blue", "green", "yellow", "red", "red-edge", "nir1", "nir2")
_WV3_GAINS = (0.325, 0.355, 0.360, 0.350, 0.365, 0.360, 0.335, 0.315)

for _sensor in (
    Sensor("qb", "QuickBird", _BGRN, 2047, (0.34, 0.32, 0.30, 0.22), 0.15, (2, 1, 0)),
    Sensor("gf2", "GaoFen-2", _BGRN, 1023, (0.3,) * 4, 0.15, (2, 1, 0)),
    Sensor("ikonos", "IKONOS", _BGRN, 2047, (0.26, 0.28, 0.29, 0.28), 0.17, (2, 1, 0)),
    Sensor("ge1", "GeoEye-1", _BGRN, 2047, (0.23,) * 4, 0.16, (2, 1, 0)),
    Sensor("wv4", "WorldView-4", _BGRN, 2047, (0.23,) * 4, 0.16, (2, 1, 0)),
    Sensor("wv2", "WorldView-2", _WV, 2047, (0.35,) * 7 + (0.27,), 0.11, (4, 2, 1)),
    Sensor("wv3", "WorldView-3", _WV, 2047, _WV3_GAINS, 0.14, (4, 2, 1)),
    # I/F, not DN; source and target share one grid, and no camera's blur is modelled
    Sensor("junocam2hst", "JunoCam to Hubble", _RGB, 1.0, (1.0,) * 3, 1.0, (0, 1, 2), 1, _RGB),
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
    ),
):
    SENSORS.add(_sensor, name=_sensor.name, title=_sensor.title, summary=f"{_sensor.channels} bands")
