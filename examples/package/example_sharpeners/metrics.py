"""Imported when metrics are first asked for."""

import pansharp_bench as pb


@pb.register_metric("example-bias", title="Bias", columns=("Bias",), better=("low",), unit="DN", order=210)
def example_bias(fused, reference):
    """Mean over bands of the absolute difference of the bands' means."""
    means = (x.double().mean((2, 3)) for x in (fused, reference))
    return (next(means) - next(means)).abs().mean(1)
