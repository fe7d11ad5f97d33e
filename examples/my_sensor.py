"""My sensor: a sensor, in a file of its own.

bench check --plugin my_sensor.py
bench list my-sensor --plugin my_sensor.py
"""

import pansharp_bench as pb
from pansharp_bench.scene import Sensor

# A dataset names it on its card (sensor="my-sensor"), and pb.fuse and metrics take it by its name.
pb.register_sensor(
    Sensor(
        name="my-sensor",
        title="My sensor",
        bands=("blue", "green", "red", "nir"),  # in the order of the files
        peak=2047,  # the largest DN: 2047 for 11 bits
        # gain of each band's modulation transfer function at the Nyquist frequency of the MS grid, and of PAN's
        mtf=(0.34, 0.32, 0.30, 0.22),
        mtf_pan=0.15,
        rgb=(2, 1, 0),  # the bands of a true-colour picture, from 0 on
        ratio=4,  # PAN pixels on the side of an MS pixel
    ),
    source="Authors: Title. Journal, year",  # where these figures come from
)
