"""My method: a method that learns nothing, in a file of its own.

bench check --plugin my_method.py
bench run --plugin my_method.py --method my-method --dataset qb-sim
"""

import pansharp_bench as pb
from pansharp_bench.imaging import interp23, mtf_filter


# The card. `help(pb.register_method)` has all its fields, and what they mean. `sees` is enforced: a method that
# says "pan" gets no MS at all.
@pb.register_method(
    "my-method",
    title="My method",  # what tables call it
    kind="classical",
    sees="pan+ms",
    # paper="Authors: Title. Journal", doi="10.1109/…", year=2026, licence="MIT",
)
def my_method(pan, ms, *, sensor):
    """Add to every band the detail that the sensor's MTF removes from PAN."""
    # Arguments are asked for by their names, in any order: pan (N, 1, H, W), ms (N, C, h, w), lms, which is ms on
    # the grid of PAN (N, C, H, W), and sensor (bands, peak, ratio, MTF). All images are float32 digital numbers
    # (DN), on any device, and so is what is given back: (N, C, H, W).
    return interp23(ms, sensor.ratio) + pan - mtf_filter(pan, sensor)
