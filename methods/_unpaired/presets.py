"""Training budgets, the same for every translation method so that their rows compare."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # two CPU cores, a run in a minute or two: a small network that corrects what the sources' moments already
    # give (pan-affine), one image a step
    "quick": {
        "steps": 400, "batch": 1, "lr": 1e-3, "decay": 0.5, "ngf": 16, "ndf": 16, "blocks": 5, "nce_width": 64,
        "nce_patches": 128, "skip": "detail", "stretch": "moments", "head": "pixel", "ema": 0.99, "validations": 2,
    },
    # one data-centre GPU, under ten minutes
    "standard": {"steps": 8000, "batch": 16},
    "paper": {},
}  # fmt: skip

# without the entropy, whose estimate has no bound with one image a step
BRIDGE_PRESETS = PRESETS | {"quick": PRESETS["quick"] | {"entropy": "off"}}
