"""The ten zones. Without imports, so that help texts can show them at once."""

from __future__ import annotations

ZONES: dict[str, tuple[float, float]] = {
    "EZ": (-7, 7),
    "NEB": (7, 21),
    "NTrZ": (21, 25),
    "NTB": (25, 30),
    "NPR": (30, 70),
    "SEB": (-21, -7),
    "STrZ": (-25, -21),
    "STB": (-30, -25),
    "SPR": (-70, -30),
    "GRS": (-23, -21),
}
"""Name -> (southern, northern) latitude. GRS is the strip of the Great Red Spot at all longitudes, within STrZ."""
