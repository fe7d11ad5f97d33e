"""Training budgets, the same for every translation method so that their rows compare."""

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # two CPU cores, a whole run in minutes: a small network, one image a step as the methods were published
    "quick": {
        "steps": 800, "batch": 1, "ngf": 16, "ndf": 16, "blocks": 5, "nce_width": 64, "nce_patches": 128,
        "validations": 8,
    },
    # one data-centre GPU, under ten minutes
    "standard": {"steps": 8000, "batch": 16},
    "paper": {},
}  # fmt: skip
