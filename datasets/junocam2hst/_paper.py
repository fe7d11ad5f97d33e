"""What the JunoCam2HST paper used: perijoves, Hubble cycles, and how many segments it counts.

Without imports, so that help texts can show it at once.
"""

from __future__ import annotations

PERIJOVES: dict[str, tuple[int, ...]] = {"train": (16, 17, 19, 20, 21, 22), "test": (18,)}
CYCLES = (26,)
SEGMENTS = {"train": 9421, "target": 5936}
