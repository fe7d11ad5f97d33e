"""My metric: a metric, in a file of its own.

bench check --plugin my_metric.py
bench run --plugin my_metric.py --method gsa --dataset qb-sim
"""

import pansharp_bench as pb


# The card. `help(pb.register_metric)` has all its fields. `protocol` says where it is computed: "reduced" (and
# "truth" of simulated sensors) has fused and reference, "full" has fused, ms, pan and lms; both have sensor, ratio
# and peak. A metric asks for what it needs by name.
@pb.register_metric(
    "my-metric",
    title="My metric",
    protocol="reduced",
    columns=("MyMetric",),  # one for every value that it returns: what tables call it
    better=("low",),
    unit="DN",
    digits=2,  # decimals in a table
    order=200,  # its place in a table: behind the project's own
)
def my_metric(fused, reference):
    """Median over pixels of the mean absolute error over bands."""
    # (N, C, H, W) in DN, float32 or float64; one float64 for each image is returned, (N,).
    error = (fused.double() - reference.double()).abs().mean(1)
    return error.flatten(1).median(1).values
