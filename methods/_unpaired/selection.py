"""The score by which a state of training is kept: what unpaired validation images can say of a translation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def selection_score(fused: Tensor, pan: Tensor, ms: Tensor) -> float:
    """How far fused images are from what unpaired images can ask of them; lower is better.

    Distance of the spectra plus loss of structure. Spectra: pixels of ``fused`` and of ``ms`` (other scenes)
    are standardised by the bands of ``ms`` and projected on 32 fixed directions (and each band), and the mean
    1-D Wasserstein distance of the projections is taken. Structure: 1 - mean correlation of the Laplacians
    of PAN (or of the source bands' mean) and of the fused bands' mean.

    Args:
        fused: (N, C, H, W) DN.
        pan: (N, 1, H, W) DN, the images ``fused`` was made from.
        ms: (M, C, H, W) DN, of other scenes.
    """
    channels = ms.shape[1]
    target, got = (x.transpose(0, 1).flatten(1).T for x in (ms, fused))
    mean, deviation = target.mean(0), target.std(0).clamp_min(1e-6)
    directions = torch.randn(channels, 32, generator=torch.Generator().manual_seed(0)).to(ms)
    directions = torch.cat((directions / directions.norm(dim=0), torch.eye(channels).to(ms)), 1)
    levels = torch.linspace(0, 1, 513, device=ms.device, dtype=ms.dtype)
    quantiles = []
    for pixels in (target, got):
        projected = ((pixels - mean) / deviation @ directions).sort(0).values
        place = levels * (len(projected) - 1)
        below, share = place.floor().long(), (place % 1)[:, None]
        above = (below + 1).clamp_max(len(projected) - 1)
        quantiles.append(projected[below].lerp(projected[above], share))
    spectral = (quantiles[0] - quantiles[1]).abs().mean()
    laplacian = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).to(ms)[None, None]
    edges = [F.conv2d(x.mean(1, keepdim=True), laplacian).flatten(1) for x in (pan, fused)]
    before, after = (e - e.mean(1, keepdim=True) for e in edges)
    structure = F.cosine_similarity(before, after, dim=1).mean()
    return float(spectral + 1 - structure)
