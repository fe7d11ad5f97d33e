"""Images that metrics are called with."""

import torch
from torch import Tensor

from pansharp_bench.imaging import interp23


def images(n: int = 1, c: int = 4, side: int = 64, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict:
    """Smooth random DN with a fused image near the reference: everything that a metric may ask for."""
    generator = torch.Generator().manual_seed(seed)

    def field(*shape: int) -> Tensor:
        h, w = shape[-2:]
        coarse = torch.rand(*shape[:-2], h // 8 + 1, w // 8 + 1, generator=generator, dtype=torch.float64)
        coarse = coarse.repeat_interleave(8, -1).repeat_interleave(8, -2)[..., :h, :w]
        fine = torch.rand(*shape, generator=generator, dtype=torch.float64)
        return 150 + 1200 * coarse + 300 * fine

    ms, pan, reference = field(n, c, side // 4, side // 4), field(n, 1, side, side), field(n, c, side, side)
    fused = reference + 60 * torch.randn(reference.shape, generator=generator, dtype=torch.float64)
    named = {"fused": fused, "reference": reference, "ms": ms, "pan": pan, "lms": interp23(ms)}
    return {k: v.to(dtype) for k, v in named.items()} | {"sensor": "qb", "ratio": 4, "peak": 2047.0}
