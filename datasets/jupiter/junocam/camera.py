"""The JunoCam camera: pixels to directions and back.

Pixel coordinates are of one framelet, x across (0..1648) and y down (0..128), the centre of the first pixel at
(0.5, 0.5). Directions are in the frame JUNO_JUNOCAM: +Z the boresight, +X along the lines, +Y down them. Each
filter is a strip of the one detector, so bands differ in the optical axis' line only. Constants: instrument
kernel juno_junocam_v03 (NAIF, 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

_IDS = {"blue": -61501, "green": -61502, "red": -61503, "methane": -61504}
_AXIS_Y = {"blue": 158.48, "green": 3.48, "red": -151.52, "methane": 315.48}

# Lateral colour: the image is not equally large in all filters, which the kernels leave out. Measured on the bright
# limb of three images of perijove 44, green being 1 (each of the three alone: blue -1.38, -1.38, -1.38, red +1.53,
# +1.53, +1.42 parts in a thousand); without it red and green are a pixel apart at the ends of the lines.
_MAGNIFICATION = {"blue": 1 - 1.37e-3, "green": 1.0, "red": 1 + 1.52e-3, "methane": 1.0}

# JUNO_JUNOCAM -> JUNO_SPACECRAFT, from the frame kernel juno_v12 (fixed offset)
_MOUNT = (
    (0.0022409695777088215, 0.012486301868467477, -0.9999195319229449),
    (-0.0022205576009309636, -0.9999195153067499, -0.012491278263462822),
    (-0.9999950235772639, 0.002248371491505941, -0.0022130626614382315),
)


@dataclass(frozen=True)
class JunoCam:
    """Pinhole with radial distortion: distorted = undistorted × (1 + k1 r² + k2 r⁴), r in pixels, and times the
    band's ``magnification``, which the kernels' own model does not have (1 for every band there).

    >>> import torch
    >>> x, y = torch.tensor([100.0]), torch.tensor([64.0])
    >>> camera = JunoCam()
    >>> back = camera.pixels(camera.rays(x, y, "red"), "red")
    >>> round(back[0].item(), 6), round(back[1].item(), 6)
    (100.0, 64.0)
    """

    focal: float = 10.95637 / 0.0074
    k1: float = -5.9624209455667325e-08
    k2: float = 2.7381910042256151e-14
    x0: float = 814.21
    y0: Mapping[str, float] = field(default_factory=lambda: dict(_AXIS_Y))
    magnification: Mapping[str, float] = field(default_factory=lambda: dict(_MAGNIFICATION))
    start_bias: float = 0.06188  # seconds to add to START_TIME
    interframe_delta: float = 0.001  # seconds to add to INTERFRAME_DELAY
    mount: tuple[tuple[float, ...], ...] = _MOUNT

    @classmethod
    def from_spice(cls, spice: Any) -> JunoCam:
        """The constants as the loaded kernels (IK and FK) have them. ``spice`` is the spiceypy module.

        Raises BenchError's DataError when no JunoCam instrument kernel is loaded.
        """
        from pansharp_bench.errors import DataError

        def value(code: int, name: str) -> float:
            try:
                return float(spice.gdpool(f"INS{code}_{name}", 0, 1)[0])
            except Exception as error:  # spiceypy raises NotFoundError, or its own class of SPICE error
                raise DataError(
                    f"the kernels do not define INS{code}_{name}: the JunoCam instrument kernel "
                    f"(juno_junocam_v03.ti) is missing"
                ) from error

        green = _IDS["green"]
        return cls(
            focal=value(green, "FOCAL_LENGTH") / value(green, "PIXEL_SIZE"),
            k1=value(green, "DISTORTION_K1"),
            k2=value(green, "DISTORTION_K2"),
            x0=value(green, "DISTORTION_X"),
            y0={band: value(code, "DISTORTION_Y") for band, code in _IDS.items()},
            start_bias=value(green, "START_TIME_BIAS"),
            interframe_delta=value(green, "INTERFRAME_DELTA"),
            mount=tuple(map(tuple, spice.pxform("JUNO_JUNOCAM", "JUNO_SPACECRAFT", 0.0).tolist())),
        )

    def rays(self, x: Tensor, y: Tensor, band: str) -> Tensor:
        """Unit directions (..., 3), float64, of pixel coordinates (...)."""
        size = self.magnification[band]
        dx, dy = (x.double() - self.x0) / size, (y.double() - self.y0[band]) / size
        distorted = torch.hypot(dx, dy)
        radius = distorted.clone()
        for _ in range(6):  # Newton; the slope is within 4 % of 1 over the field
            r2 = radius * radius
            excess = radius * (1 + r2 * (self.k1 + self.k2 * r2)) - distorted
            radius = radius - excess / (1 + r2 * (3 * self.k1 + 5 * self.k2 * r2))
        ratio = torch.where(distorted > 0, radius / distorted.clamp_min(1e-12), 1.0)
        ray = torch.stack([dx * ratio, dy * ratio, torch.full_like(dx, self.focal)], -1)
        return ray / ray.norm(dim=-1, keepdim=True)

    def pixels(self, rays: Tensor, band: str) -> tuple[Tensor, Tensor]:
        """Pixel coordinates x, y (...) of directions (..., 3); NaN for those outside the lens' field, where
        the distortion polynomial means nothing."""
        scale = self.focal / rays[..., 2]
        x, y = rays[..., 0] * scale, rays[..., 1] * scale
        r2 = x * x + y * y
        factor = 1 + r2 * (self.k1 + self.k2 * r2)
        factor = torch.where((rays[..., 2] > 0) & (r2 < 1.0e6), factor, torch.nan)
        factor = factor * self.magnification[band]
        return x * factor + self.x0, y * factor + self.y0[band]
