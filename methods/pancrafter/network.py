"""PAN-Crafter's network, as released and as the paper describes it.

One U-shaped network has two modes: in MS mode it sharpens the MS image, in PAN mode it gives back PAN. Both
images condition an attention between each pixel and its 3x3 neighbourhood in the other modality.

The two variants share this skeleton. The release's attribute names are the keys of its checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from pansharp_bench.methods._paired import Perceptron

PAN, MS = 0, 1
TAPS = 9


class Condition(NamedTuple):
    """The images at one scale: ms (B, bands, H, W), lpan and pan (B, 1, H, W); mode (B,), 0 PAN or 1 MS."""

    ms: Tensor
    lpan: Tensor
    pan: Tensor
    mode: Tensor


def resize(x: Tensor, height: int, width: int) -> Tensor:
    """PyTorch's bicubic interpolation without antialiasing."""
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, (height, width), mode="bicubic", align_corners=False)


def low_pan(pan: Tensor) -> Tensor:
    """PAN on the MS grid, (B, 1, H/4, W/4): 41 taps of a Gaussian of 1.98 pixels, replicated border, samples 2,
    6, 10, …"""
    at = torch.arange(-20, 21, dtype=pan.dtype, device=pan.device)
    taps = torch.softmax(-(at**2) / (2 * 1.98**2), 0)
    padded = F.pad(pan, (18, 20, 18, 20), mode="replicate")
    with torch.autocast(pan.device.type, enabled=False):  # 8 bits of mantissa are too few for an image
        rows = F.conv2d(padded, taps.view(1, 1, -1, 1), stride=(4, 1))
        return F.conv2d(rows, taps.view(1, 1, 1, -1), stride=(1, 4))


def norm_channels(x: Tensor) -> Tensor:
    """Layer normalisation over the channels of each pixel, without gain or bias."""
    x = F.layer_norm(rearrange(x, "b c h w -> b h w c"), x.shape[1:2], eps=1e-6)
    return rearrange(x, "b h w c -> b c h w")


class ChannelNorm(nn.Module):
    """The same with gain and bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[1:2]
        x = F.layer_norm(rearrange(x, "b c h w -> b h w c"), shape, self.weight, self.bias, 1e-6)
        return rearrange(x, "b h w c -> b c h w")


def zeroed(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


# -- local attention between the modalities --


class LocalAttention(nn.Module):
    """What the two variants share: each pixel's query against nine neighbours' keys, per head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.head = heads, width // heads
        self.proj_pan = nn.Conv2d(width, width, 1)
        self.proj_ms = nn.Conv2d(width, width, 1)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """q (B, width, H, W); keys and values (B, heads, head, 9, H, W)."""
        q = rearrange(q, "b (n d) h w -> b n d 1 h w", n=self.heads) * self.head**-0.5
        weights = (q * keys).sum(2, keepdim=True).softmax(3)
        return rearrange((weights * values).sum(3), "b n d h w -> b (n d) h w")

    def shifted(self, x: Tensor) -> Tensor:
        """(B, heads, head, 9, H, W): the 3x3 neighbours, zeros outside."""
        h = x.shape[-2]
        x = F.unfold(x, 3, padding=1)
        return rearrange(x, "b (n d t) (h w) -> b n d t h w", n=self.heads, t=TAPS, h=h)


class ReleaseAttention(LocalAttention):
    """The attention the public code computes.

    Two of its traits look like slips but are part of the function: the keys of PAN come from MS (and those of
    MS from a reordered copy), so ``k_pan`` has no effect and is not learnt; and the neighbours are gathered by a
    trained convolution. ``key_fix`` and ``shift_kernels`` mend them.
    """

    def __init__(self, width: int, bands: int, heads: int, size: int, key_fix: bool, shift: bool) -> None:
        super().__init__(width, heads)

        def conv(extra: int, out: int) -> nn.Conv2d:
            return nn.Conv2d(width + extra, out, size, padding=size // 2)

        self.q = conv(bands, width)
        self.k_pan, self.v_pan = conv(1, width).requires_grad_(key_fix), conv(3, width)
        self.kv_ms = conv(bands, 2 * width)
        self.key_fix = key_fix
        if not shift:
            self.dep_conv = nn.Conv2d(self.head, TAPS * self.head, 3, padding=1, groups=self.head)
        self.shift = shift

    def forward(self, x: Tensor, at: Condition) -> tuple[Tensor, Tensor]:
        in_ms = (at.mode == MS)[:, None, None, None]
        q = self.q(torch.cat([x, torch.where(in_ms, at.ms, at.lpan)], 1))
        k_ms, v_ms = self.kv_ms(torch.cat([x, at.ms], 1)).chunk(2, 1)
        v_pan = self.v_pan(torch.cat([x, at.lpan, at.pan, at.pan - at.lpan], 1))
        if self.key_fix:
            key_pan, key_ms = self.gather(self.k_pan(torch.cat([x, at.lpan], 1))), self.gather(k_ms)
        else:
            key_pan, key_ms = self.gather(k_ms), self.gather(self.reordered(k_ms))
        pan = self.attend(q, key_pan, self.gather(v_pan))
        ms = self.attend(q, key_ms, self.gather(v_ms))
        return self.proj_pan(pan), self.proj_ms(ms)

    def gather(self, x: Tensor) -> Tensor:
        if self.shift:
            return self.shifted(x)
        x = self.dep_conv(rearrange(x, "b (n d) h w -> (b n) d h w", n=self.heads))
        return rearrange(x, "(b n) (d t) h w -> b n d t h w", n=self.heads, t=TAPS)

    def reordered(self, k: Tensor) -> Tensor:
        """Width moved before the head's channels, and the memory read as if it had not been."""
        return rearrange(k, "b (n d) h w -> b n w d h", n=self.heads).reshape(k.shape)


class PaperAttention(LocalAttention):
    """The attention of the paper's equations: keys and values of each modality from that modality."""

    def __init__(self, width: int, bands: int, heads: int) -> None:
        super().__init__(width, heads)
        self.q = nn.Conv2d(width + bands, width, 3, padding=1, bias=False)
        self.kv_ms = nn.Conv2d(width + bands, 2 * width, 3, padding=1, bias=False)
        self.kv_pan = nn.Conv2d(width + bands, 2 * width, 3, padding=1, bias=False)

    def forward(self, x: Tensor, at: Condition) -> tuple[Tensor, Tensor]:
        pan = at.pan.expand_as(at.ms)
        in_ms = (at.mode == MS)[:, None, None, None]
        q = self.q(torch.cat([x, torch.where(in_ms, at.ms, pan)], 1))
        from_pan, from_ms = (
            self.attend(q, *map(self.shifted, conv(torch.cat([x, image], 1)).chunk(2, 1)))
            for conv, image in ((self.kv_pan, pan), (self.kv_ms, at.ms))
        )
        return self.proj_pan(from_pan), self.proj_ms(from_ms)


# -- blocks: ``modulation`` turns what tells the mode into a gain and an offset per channel --


class ResBlock(nn.Module):
    def __init__(
        self,
        cin: int,
        width: int,
        norm: Callable[[int], nn.Module],
        modulation: nn.Module,
        dropout: float,
    ) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(norm(cin), nn.SiLU(), nn.Conv2d(cin, width, 3, padding=1))
        self.emb_layers = modulation
        self.out_layers = nn.Sequential(
            norm(width), nn.SiLU(), nn.Dropout(dropout), zeroed(nn.Conv2d(width, width, 3, padding=1))
        )
        self.skip_connection = nn.Identity() if cin == width else nn.Conv2d(cin, width, 1)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        gain, offset = self.emb_layers(told)[:, :, None, None].chunk(2, 1)
        norm, *rest = self.out_layers
        t = norm(self.in_layers(x)) * (1 + gain) + offset
        for layer in rest:
            t = layer(t)
        return t + self.skip_connection(x)


class AttentionBlock(nn.Module):
    def __init__(self, width: int, attention: nn.Module, modulation: nn.Module) -> None:
        super().__init__()
        self.attn = attention
        self.mlp = Perceptron(width, 4 * width, gelu="tanh")
        self.adaLN_modulation = modulation

    def forward(self, x: Tensor, at: Condition, told: Tensor) -> Tensor:
        of_ms, of_pan = self.adaLN_modulation(told)[:, :, None, None].chunk(2, 1)
        pan, ms = self.attn(norm_channels(x), at)
        x = x + of_ms * ms + of_pan * pan
        t = self.mlp(rearrange(norm_channels(x), "b c h w -> b h w c"))
        return x + rearrange(t, "b h w c -> b c h w")


# -- the network --


class PANCrafter(nn.Module):
    """The skeleton: a scale for each number in ``depth``, so many residual blocks on the way down and as many on
    the way up; the last is the bottleneck. Attention at all scales but the first.

    ``forward`` takes pan (B, 1, H, W) and ms (B, bands, H/4, W/4) scaled to [-1, 1] with H and W multiples of
    ``divisor``, and mode (B,); it gives the MS image (B, bands, H, W), or PAN in each band.
    """

    depth: Sequence[int]

    def __init__(self, bands: int, width: int = 128, heads: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        self.bands, self.width, self.heads, self.dropout = bands, width, heads, dropout
        self.input = nn.Conv2d(self.inputs(), width, 3, padding=1)
        *depths, middle = self.depth
        for i, depth in enumerate(depths, 1):
            self.add_module(f"encoder{i}", nn.ModuleList(self.block(width) for _ in range(depth)))
            down, up = nn.Conv2d(width, width, 3, 2, 1), nn.ConvTranspose2d(width, width, 2, 2)
            self.add_module(f"down{i}", nn.ModuleDict({"conv": down}))
            self.add_module(f"up{i}", nn.ModuleDict({"conv": up}))
            self.add_module(
                f"decoder{i}", nn.ModuleList(self.block(n * width) for n in [2] + [1] * (depth - 1))
            )
            if i > 1:
                self.add_module(f"cond{i}_e", self.attention())
                self.add_module(f"cond{i}_d", self.attention())
        self.middle = nn.ModuleList(self.block(width) for _ in range(middle))
        self.add_module(f"cond{self.levels + 1}", self.attention(bottleneck=True))
        out = zeroed(nn.Conv2d(width, bands, 3, padding=1))
        self.output = nn.Sequential(self.norm(width), nn.SiLU(), out)

    @property
    def levels(self) -> int:
        """Scales above the bottleneck."""
        return len(self.depth) - 1

    @property
    def divisor(self) -> int:
        return 2**self.levels

    # what a variant decides

    def inputs(self) -> int:
        """Channels of :meth:`stem`."""
        raise NotImplementedError

    def stem(self, at: Condition) -> Tensor:
        """The network's input from the images at full size."""
        raise NotImplementedError

    @staticmethod
    def norm(width: int) -> nn.Module:
        raise NotImplementedError

    def modulation(self) -> nn.Module:
        """From what :meth:`tell` gives to (B, 2·width)."""
        raise NotImplementedError

    def tell(self, mode: Tensor) -> Tensor:
        raise NotImplementedError

    def local_attention(self, bottleneck: bool) -> nn.Module:
        raise NotImplementedError

    # what they share

    def block(self, cin: int) -> ResBlock:
        return ResBlock(cin, self.width, self.norm, self.modulation(), self.dropout)

    def attention(self, bottleneck: bool = False) -> AttentionBlock:
        return AttentionBlock(self.width, self.local_attention(bottleneck), self.modulation())

    def forward(self, pan: Tensor, ms: Tensor, mode: Tensor) -> Tensor:
        lpan = low_pan(pan)
        h, w = pan.shape[-2:]
        base = torch.where((mode == MS)[:, None, None, None], resize(ms, h, w), resize(lpan, h, w))
        return base + self.residual(pan, ms, lpan, mode)

    def residual(self, pan: Tensor, ms: Tensor, lpan: Tensor, mode: Tensor) -> Tensor:
        h, w = pan.shape[-2:]
        at = []
        for i in range(self.levels + 1):
            scaled = [resize(x, h >> i, w >> i) for x in (ms, lpan, pan)]
            at.append(Condition(scaled[0], scaled[1], scaled[2], mode))
        told = self.tell(mode)

        def run(blocks: nn.ModuleList, x: Tensor) -> Tensor:
            for block in blocks:
                x = block(x, told)
            return x

        x = self.input(self.stem(at[0]))
        skips = []
        for i in range(1, self.levels + 1):
            x = run(getattr(self, f"encoder{i}"), x)
            if i > 1:
                x = getattr(self, f"cond{i}_e")(x, at[i - 1], told)
            skips.append(x)
            x = getattr(self, f"down{i}").conv(x)
        x = run(self.middle, x)
        x = getattr(self, f"cond{self.levels + 1}")(x, at[-1], told)
        for i in range(self.levels, 0, -1):
            x = torch.cat([getattr(self, f"up{i}").conv(x), skips[i - 1]], 1)
            x = run(getattr(self, f"decoder{i}"), x)
            if i > 1:
                x = getattr(self, f"cond{i}_d")(x, at[i - 1], told)
        return self.output(x)


class ReleasePANCrafter(PANCrafter):
    """The public code's network: four scales, group normalisation, the mode as an embedded token."""

    def __init__(
        self, bands: int, width: int = 128, heads: int = 8, dropout: float = 0.2, key_fix: bool = False,
        shift_kernels: bool = False, depth: Sequence[int] = (2, 2, 2, 2),
    ) -> None:  # fmt: skip
        self.depth = depth
        self.key_fix, self.shift_kernels = key_fix, shift_kernels
        super().__init__(bands, width, heads, dropout)
        self.s_token = nn.Parameter(torch.randn(2, width) * 0.02)

    def inputs(self) -> int:
        return 3 + self.bands

    def stem(self, at: Condition) -> Tensor:
        return torch.cat([at.pan, at.ms, at.lpan, at.pan - at.lpan], 1)

    @staticmethod
    def norm(width: int) -> nn.Module:
        return nn.GroupNorm(32, width)

    def modulation(self) -> nn.Module:
        return nn.Sequential(nn.SiLU(), zeroed(nn.Linear(self.width, 2 * self.width)))

    def tell(self, mode: Tensor) -> Tensor:
        return self.s_token[mode]

    def local_attention(self, bottleneck: bool) -> nn.Module:
        size = 1 if bottleneck else 3
        return ReleaseAttention(self.width, self.bands, self.heads, size, self.key_fix, self.shift_kernels)


class PaperPANCrafter(PANCrafter):
    """The network of the paper's equations and figures: three scales, layer normalisation over channels, a
    learned gain and offset per mode."""

    depth = (2, 2, 4)
    norm = ChannelNorm

    def inputs(self) -> int:
        return 1 + self.bands

    def stem(self, at: Condition) -> Tensor:
        return torch.cat([at.pan, at.ms], 1)

    def modulation(self) -> nn.Module:
        return zeroed(nn.Embedding(2, 2 * self.width))

    def tell(self, mode: Tensor) -> Tensor:
        return mode

    def local_attention(self, bottleneck: bool) -> nn.Module:
        return PaperAttention(self.width, self.bands, self.heads)
