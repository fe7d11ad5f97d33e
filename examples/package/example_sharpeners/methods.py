"""Imported when methods are first asked for."""

import pansharp_bench as pb


@pb.register_method("example-ratio", title="Ratio", kind="classical")
def example_ratio(pan, lms):
    """Every band times PAN over the bands' mean."""
    return lms * pan / lms.mean(1, keepdim=True).clamp_min(1)
