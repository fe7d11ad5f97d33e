"""The generators of the public CUT and UNSB by the names their weights have there."""

from __future__ import annotations

import re

from torch import Tensor, nn

from pansharp_bench.methods._unpaired.networks import BridgeGenerator, Generator

# buffers, and what the public conditional generator has without using it
_INERT = re.compile(r".*\.filt|time_embed\..*|model_res\.\d+\.(Dense_time|style)\..*")


def names(generator: Generator) -> dict[str, str]:
    """What every layer of a generator is called in the public code."""
    blocks = range(len(generator.blocks))
    known = {f"conv{k}": f"model.{k}" for k in (1, 4, 8)}
    if isinstance(generator, BridgeGenerator):
        known |= {f"conv{k}": f"model_upsample.{k - 21}" for k in (22, 26, 30)}
        known |= {f"noise_path.{k}": f"z_transform.{k + 1}" for k in range(0, len(generator.noise_path), 2)}
        parts = {"conv1": "conv_block.1", "conv2": "conv_fin.2", "style": "adaptive.style_net"}
        return known | {f"blocks.{b}.{k}": f"model_res.{b}.{v}" for b in blocks for k, v in parts.items()}
    known |= {f"conv{k}": f"model.{k - 9 + len(blocks)}" for k in (22, 26, 30)}
    parts = {"conv1": "conv_block.1", "conv2": "conv_block.5"}
    return known | {f"blocks.{b}.{k}": f"model.{12 + b}.{v}" for b in blocks for k, v in parts.items()}


def own_keys(generator: Generator, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the public code by our names, without those that have no effect. What does not belong to such a
    generator keeps its name."""
    ours = {
        f"{theirs}.{part}": (own, part)
        for own, theirs in names(generator).items()
        for part in ("weight", "bias")
    }
    layers = dict(generator.named_modules())
    kept = {}
    for key, value in state.items():
        own, part = ours.get(key, ("", ""))
        layer = layers.get(own) if own else None
        if not own and not _INERT.fullmatch(key):
            kept[key] = value
        elif isinstance(layer, nn.Conv2d | nn.Linear) and (part == "weight" or layer.bias is not None):
            kept[f"{own}.{part}"] = value
    return kept
