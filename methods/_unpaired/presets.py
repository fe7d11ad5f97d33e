"""Training budgets and design, the same for every translation method so that their rows compare."""

from typing import Any

# a network that corrects what the sources' moments already give (pan-affine), and learns colours from the target's
# own grey
_DESIGN: dict[str, Any] = {
    "decay": 0.5, "skip": "handed", "stretch": "moments", "head": "pixel", "lambda_grey": 10.0,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    # two CPU cores, a run in a minute or two: one image a step, a quarter of the width
    "quick": _DESIGN | {
        "steps": 400, "batch": 1, "lr": 1e-3, "ngf": 16, "ndf": 16, "blocks": 5, "nce_width": 64,
        "nce_patches": 128, "ema": 0.99, "validations": 2,
    },
    # one data-centre GPU, under ten minutes
    "standard": _DESIGN | {"steps": 8000, "batch": 16, "ema": 0.999},
    "paper": {},
}  # fmt: skip

# the released entropy estimate has no bound: with one image a step none is taken, with more a bounded one
BRIDGE_PRESETS = PRESETS | {
    "quick": PRESETS["quick"] | {"entropy": "off"},
    "standard": PRESETS["standard"] | {"entropy": "bounded"},
}
