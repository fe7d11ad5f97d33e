"""DCPNet: a dual-task collaborative promotion network for pansharpening (TGRS 2024).

Two streams of four levels, one over PAN and one over MS, meet at every level; a fusion stream gives the
image, and a second head asks of the MS stream alone that it super-resolve the MS. Attribute names are the keys
of the authors' weights, except where :meth:`DCPNetMethod.authors_keys` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from pansharp_bench.errors import BenchError
from pansharp_bench.methods._paired import Batch, PairedConfig, PairedMethod, Perceptron
from pansharp_bench.methods._patches import sum_type
from pansharp_bench.registry import register_method

WINDOW = 8
SLOPE = 0.25


def conv(cin: int, cout: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, size, padding=size // 2)


def activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, SLOPE)


def interleave(a: Tensor, b: Tensor) -> Tensor:
    """Channels a0, b0, a1, b1, …"""
    return torch.stack([a, b], 2).flatten(1, 2)


# -- attention over channels, over windows, and between streams --


class QKV(nn.Module):
    """Query, key and value maps: 1x1, then depthwise 3x3. Each third of the channels stands alone, so a caller
    that needs only some of the three computes only those."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, 3 * width, 1)
        self.deptconv = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width)
        self.width = width

    def forward(self, x: Tensor, first: int = 0, last: int = 3) -> tuple[Tensor, ...]:
        part = slice(first * self.width, last * self.width)
        assert self.conv1.bias is not None and self.deptconv.bias is not None
        x = F.conv2d(x, self.conv1.weight[part], self.conv1.bias[part])
        groups = part.stop - part.start
        x = F.conv2d(x, self.deptconv.weight[part], self.deptconv.bias[part], padding=1, groups=groups)
        return x.chunk(last - first, 1)


class Attention(nn.Module):
    """What the three attentions share."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.dw_conv = QKV(width)
        self.proj_conv = nn.Conv2d(width, width, 1)
        self.heads = heads

    def mix_channels(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention whose tokens are the channels of a head, compared over all pixels. Its unnormalised logits
        grow with the image and are computed in float32."""
        h = q.shape[-2]
        with torch.autocast(q.device.type, enabled=False):
            q, k, v = (
                rearrange(t.to(sum_type(t.dtype)), "b (n d) h w -> b n d (h w)", n=self.heads)
                for t in (q, k, v)
            )
            weights = (q @ k.mT * self.temperature).softmax(-1)
            return self.proj_conv(rearrange(weights @ v, "b n d (h w) -> b (n d) h w", h=h))

    def mix_windows(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention whose tokens are the pixels of an 8x8 window."""
        h, w = q.shape[-2:]
        q, k, v = (rearrange(t, "b c h w -> b h w c") for t in (q, k, v))
        q, k, v = (heads_of(windows(t), self.heads) for t in (q, k, v))
        q = q * self.temperature.to(q.dtype)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        return self.proj_conv(rearrange(joined(merged(mixed), h, w), "b h w c -> b c h w"))


class CrossAttention(Attention):
    """``a`` plus its channels as seen from ``s``: query from s; key and value from a."""

    def forward(self, a: Tensor, s: Tensor) -> Tensor:
        (q,) = self.dw_conv(s, 0, 1)
        k, v = self.dw_conv(a, 1, 3)
        return self.mix_channels(q, k, v) + a


class ChannelAttention(Attention):
    def forward(self, x: Tensor) -> Tensor:
        return self.mix_channels(*self.dw_conv(x)) + x


class WindowAttention(Attention):
    def forward(self, x: Tensor) -> Tensor:
        return self.mix_windows(*self.dw_conv(x)) + x


def windows(x: Tensor) -> Tensor:
    """(B, H, W, C) to (B · windows, 64, C)."""
    return rearrange(x, "b (y i) (x j) c -> (b y x) (i j) c", i=WINDOW, j=WINDOW)


def joined(x: Tensor, h: int, w: int) -> Tensor:
    """The inverse of :func:`windows`."""
    return rearrange(x, "(b y x) (i j) c -> b (y i) (x j) c", y=h // WINDOW, x=w // WINDOW, i=WINDOW)


def heads_of(x: Tensor, heads: int) -> Tensor:
    """(windows, tokens, C) to (windows, heads, tokens, C/heads)."""
    return rearrange(x, "w t (n d) -> w n t d", n=heads)


def merged(x: Tensor) -> Tensor:
    """The inverse of :func:`heads_of`."""
    return rearrange(x, "w n t d -> w t (n d)")


# -- Swin transformer of the MS stream --


class SwinAttention(nn.Module):
    """Window attention with a learned bias for every relative position, windows shifted or not."""

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.heads, self.shift = heads, shift

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C), both sizes multiples of 8."""
        h, w = x.shape[1:3]
        x = x.roll((-self.shift, -self.shift), (1, 2)) if self.shift else x
        q, k, v = (heads_of(t, self.heads) for t in self.qkv(windows(x)).chunk(3, -1))
        bias = self.relative_position_bias_table[relative_positions(x.device)]
        bias = rearrange(bias, "q k n -> 1 n q k")
        if self.shift:
            bias = (bias + shift_mask(h, w, self.shift, x.device)[:, None]).repeat(len(x), 1, 1, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = joined(self.proj(merged(mixed)), h, w)
        return x.roll((self.shift, self.shift), (1, 2)) if self.shift else x


@lru_cache(maxsize=4)
def relative_positions(device: torch.device) -> Tensor:
    """(64, 64) row of the bias table for each pair of a window's pixels."""
    with torch.inference_mode(False):  # it is kept, and may next serve a training step
        at = torch.stack(torch.meshgrid(*2 * [torch.arange(WINDOW)], indexing="ij")).flatten(1)
        dy, dx = at[:, :, None] - at[:, None, :] + WINDOW - 1
        return (dy * (2 * WINDOW - 1) + dx).to(device, non_blocking=True)


@lru_cache(maxsize=16)
def shift_mask(h: int, w: int, shift: int, device: torch.device) -> Tensor:
    """(windows, 64, 64): -100 between pixels that only the roll made neighbours."""

    def region(n: int) -> Tensor:
        at = torch.arange(n)
        return (at >= n - WINDOW).int() + (at >= n - shift).int()

    with torch.inference_mode(False):
        regions = 3 * region(h)[:, None] + region(w)
        regions = rearrange(regions, "(y i) (x j) -> (y x) (i j)", i=WINDOW, j=WINDOW)
        return -100.0 * (regions[:, :, None] != regions[:, None, :]).to(device, non_blocking=True)


class SwinBlock(nn.Module):
    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = SwinAttention(width, heads, shift)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Perceptron(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class SwinPair(nn.Module):
    """A norm, a block on plain windows and one on shifted windows; no skip around the whole."""

    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(SwinBlock(width, heads, s) for s in (0, WINDOW // 2)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.norm(rearrange(x, "b c h w -> b h w c")))
        return rearrange(x, "b h w c -> b c h w")


# -- the streams --


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(activate(self.conv1(x)))


class SqueezeExcite(nn.Module):
    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        narrow = width // reduction
        self.fc = nn.Sequential(
            nn.Conv2d(width, narrow, 1, bias=False), nn.ReLU(), nn.Conv2d(narrow, width, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc(x.mean((2, 3), keepdim=True)))


class Preparation(nn.Module):
    def __init__(self, bands: int, width: int) -> None:
        super().__init__()
        self.conv1 = conv(1, width)
        self.conv2 = conv(bands, 16 * width)
        self.cross = CrossAttention(width)
        self.conv3 = conv(width, width)
        self.CA = SqueezeExcite(width, 8)
        self.conv4 = conv(width, width)

    def forward(self, pan: Tensor, ms: Tensor) -> tuple[Tensor, Tensor]:
        p, m = self.conv1(pan), F.pixel_shuffle(self.conv2(ms), 4)
        return activate(self.conv3(self.cross(p, m))), activate(self.conv4(self.CA(m)))


class PanLevel(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (conv(width, width, size) for size in (3, 5, 7))
        self.conv4 = nn.Conv2d(3 * width, width, 1)
        self.P_PCA1, self.P_PCA2 = CrossAttention(width), CrossAttention(width)

    def forward(self, p: Tensor) -> Tensor:
        o1, o2, o3 = (activate(f(p)) for f in (self.conv1, self.conv2, self.conv3))
        return p + self.conv4(torch.cat([o1, self.P_PCA1(o2, o1), self.P_PCA2(o3, o1)], 1))


class MSLevel(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.st1, self.st2 = SwinPair(width), SwinPair(width)
        self.conv1 = conv(width, width)
        self.cross = CrossAttention(width)

    def forward(self, m: Tensor, p: Tensor) -> Tensor:
        return activate(self.conv1(self.st2(self.st1(m)))) + self.cross(p, m)


class Fusion(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn_hw, self.attn_cc = WindowAttention(width), ChannelAttention(width)
        self.conv = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(interleave(self.attn_hw(x), self.attn_cc(x)))


class GatedConv(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.gate = conv(width, width), conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x)) * self.conv(x)


LEVELS = (1, 2, 3, 4)
BLOCKS = (1, 2, 3, 4, 5)


class DCPNet(nn.Module):
    """(B, 1, H, W) PAN and (B, bands, H/4, W/4) MS, scaled to [0, 1], H and W multiples of 8, to two estimates
    (B, bands, H, W): the fused image, and the MS super-resolved in its own stream."""

    def __init__(self, bands: int, width: int = 32) -> None:
        super().__init__()
        wide = 2 * width
        self.pre_net = Preparation(bands, width)
        self.pan_net = nn.ModuleDict({f"pan_feb{i}": PanLevel(width) for i in LEVELS})
        self.ms_net = nn.ModuleDict(
            {f"ms_feb{i}": MSLevel(width) for i in LEVELS}
            | {f"rb{i}": Residual(width) for i in BLOCKS}
            | {"conv5": nn.Conv2d(width, bands, 1)}
        )
        self.fusion_net = nn.ModuleDict(
            {f"fub{i}": Fusion(wide) for i in LEVELS}
            | {"gate": GatedConv(wide), "convf1": nn.Conv2d(4 * wide, wide, 1)}
            | {f"frb{i}": Residual(wide) for i in BLOCKS}
            | {"reconv": nn.Conv2d(wide, bands, 1)}
        )

    def forward(self, pan: Tensor, ms: Tensor) -> tuple[Tensor, Tensor]:
        streams, fusion = self.ms_net, self.fusion_net
        p, m = self.pre_net(pan, ms)
        gated = []
        for i in LEVELS:
            p = self.pan_net[f"pan_feb{i}"](p)
            m = streams[f"ms_feb{i}"](m, p)
            gated.append(fusion["gate"](fusion[f"fub{i}"](interleave(m, p))))
        x = fusion["convf1"](torch.cat(gated, 1))
        for i in BLOCKS:
            x = fusion[f"frb{i}"](x)
            m = streams[f"rb{i}"](m)
        return fusion["reconv"](x), streams["conv5"](m)


@dataclass(frozen=True)
class DCPNetConfig(PairedConfig):
    """``auxiliary`` weighs the loss of the MS stream's own estimate. ``skip=lms``: both estimates are corrections
    of the expanded MS, and none to begin with; ``none`` as published: interpolation must be learnt first."""

    width: int = 32
    auxiliary: float = 0.5
    skip: Literal["none", "lms"] = "none"


@register_method(
    "dcpnet",
    title="DCPNet",
    kind="deep",
    sees="pan+ms",
    training="paired",
    paper="Dual-Task Collaborative Promotion Network for Pansharpening, IEEE TGRS 62",
    doi="10.1109/TGRS.2024.3377635",
    year=2024,
    licence="MIT (our implementation)",
    smallest=8,
    published="DCPNet",
)
class DCPNetMethod(PairedMethod):
    """Two streams with cross attention, window and channel attention in their fusion, two tasks."""

    Config = DCPNetConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "quick": {
            "steps": 40, "batch": 4, "lr": 1e-3, "schedule": "cosine", "validations": 1, "validate_on": 32,
            "skip": "lms",
        },
        "standard": {"steps": 4000, "batch": 16, "lr": 4e-4, "schedule": "cosine", "clip": 10.0},
        "paper": {"steps": 0, "epochs": 200, "batch": 16, "lr": 2e-4, "clip": 10.0},
    }  # fmt: skip
    config: DCPNetConfig
    divisor = 8

    def network(self) -> DCPNet:
        net = DCPNet(self.sensor.channels, self.config.width)
        if self.config.skip == "lms":
            for last in (net.fusion_net["reconv"], net.ms_net["conv5"]):
                for parameter in last.parameters():
                    nn.init.zeros_(parameter)
        return net

    def estimates(self, net: nn.Module, pan: Tensor, ms: Tensor, lms: Tensor) -> tuple[Tensor, Tensor]:
        """The fused image and the MS stream's own."""
        fused, upsampled = net(pan, ms)
        return (fused + lms, upsampled + lms) if self.config.skip == "lms" else (fused, upsampled)

    def predict(self, net: nn.Module, pan: Tensor, ms: Tensor, lms: Tensor) -> Tensor:
        return self.estimates(net, pan, ms, lms)[0]

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        fused, upsampled = self.estimates(net, batch.pan, batch.ms, batch.lms)
        main, auxiliary = (self.distance(x, batch.gt) for x in (fused, upsampled))
        return {"loss": main + self.config.auxiliary * auxiliary, "fused": main, "upsampled": auxiliary}

    def authors_keys(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Their file lists shared modules under two names and holds constants; ours holds each once.
        Raises BenchError where two names of one tensor disagree."""
        kept: dict[str, Tensor] = {}
        copies: dict[str, Tensor] = {}
        for key, value in state.items():
            key = key.replace(".transformer_body.0.", ".").replace(".patch_embed.norm.", ".norm.")
            if key.endswith((".attn_mask", ".relative_position_index")):
                continue
            original = key
            for copy, name in (("ms_rbs", "rb"), ("f_rbs", "frb"), ("sts", "st")):
                for i in range(5):
                    original = original.replace(f".{copy}.{i}.", f".{name}{i + 1}.")
            (kept if original == key else copies)[original] = value
        for key, value in copies.items():
            if key in kept and not torch.equal(value, kept[key]):
                raise BenchError(f"these weights hold two different tensors for the shared {key}")
        return copies | kept

    def authors_peak(self) -> Tensor:
        """Their shipped configuration divides every sensor by 2047, GaoFen-2 too."""
        return self.peak if self.config.peak else torch.tensor(2047.0)
