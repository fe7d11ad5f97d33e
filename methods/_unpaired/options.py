"""What can be chosen of a translation method: groups of options, put together by each method into its ``Config``.

A group checks its own options in ``check``; a method that has no use for a group does not take it in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pansharp_bench.errors import BenchError
from pansharp_bench.methods._unpaired.networks import Head, Skip, TimeMode
from pansharp_bench.training import TrainedMethod
from pansharp_bench.training.samplers import Augment, Pairing, Target

Stretch = Literal["percentile", "moments", "peak"]
Entropy = Literal["released", "bounded", "off"]
Distance = Literal["l1", "gain", "correlation"]


@dataclass(frozen=True)
class TranslationOptions(TrainedMethod.Config):
    """Data, networks, optimisation and selection of all translation methods.

    Training: ``steps`` of ``batch`` samples each; learning rate ``lr`` held for a share ``1 - decay`` of them, then
    falling linearly to zero. ``crop``: side of random crops of the training patches (0: whole patches), which
    are first resized to ``load`` pixels a side (0: left as they are; straight to ``crop`` once the rate falls,
    as CUT and UNSB do). ``pairing`` and ``target`` are what the sampler serves (``target=gt`` shows sharp MS: an
    upper bound, not a result).

    Images: ``stretch`` takes DN to [-1, 1] by the sensor's peak, or by the training PAN and each training MS band:
    their 0.1 and 99.9 percentiles, or mean ± 3 deviations (``moments``: equal values are then what ``pan-affine``
    makes of PAN); always by the peak where source and target are the same bands (a calibration: a map of the
    source's own would be part of the answer).

    Networks: ``ngf``, ``ndf``, ``blocks`` are widths of generator and discriminators, residual blocks; ``skip`` and
    ``head``: see ``Generator``.

    Losses: ``lambda_gan`` weighs the adversarial one; ``lambda_grey`` that of ``grey-net``, the squared error of
    target images coloured from their own grey (where the source is PAN; a calibration has no such loss).

    What is kept: ``ema``: the generator that is scored, kept and used is a running mean of the trained one's
    weights, of which a step leaves this share (0: it is the trained one itself). ``validations``: how often the
    state is scored for selection (0: the last state is kept).
    """

    steps: int = 150_000
    batch: int = 8
    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    decay: float = 0.5
    crop: int = 0
    load: int = 0
    augment: Augment = "dihedral"
    pairing: Pairing = "disjoint"
    target: Target = "lms"
    stretch: Stretch = "percentile"
    ngf: int = 64
    ndf: int = 64
    blocks: int = 9
    skip: Skip = "none"
    head: Head = "conv"
    lambda_gan: float = 1.0
    lambda_grey: float = 0.0
    ema: float = 0.0
    validations: int = 20

    def __post_init__(self) -> None:
        for group in reversed(type(self).__mro__):
            if check := vars(group).get("check"):
                check(self)

    @property
    def constant(self) -> int:
        """Steps before the rate falls."""
        return round(self.steps * (1 - self.decay))

    def check(self) -> None:
        for name in ("steps", "batch", "ngf", "ndf", "blocks"):
            if getattr(self, name) < 1:
                raise BenchError(f"option {name}={getattr(self, name)} must be at least 1")
        if self.load and self.load < self.crop:
            raise BenchError(f"option load={self.load} must not be smaller than crop={self.crop}")
        if not 0 <= self.decay <= 1:
            raise BenchError(f"option decay={self.decay} must lie between 0 and 1")
        if not 0 <= self.ema < 1:
            raise BenchError(f"option ema={self.ema} must be from 0 to below 1")
        for name in ("lr", "lambda_grey"):
            if getattr(self, name) < 0:
                raise BenchError(f"option {name}={getattr(self, name)} must not be negative")


@dataclass(frozen=True)
class ContrastiveOptions(TranslationOptions):
    """The contrastive loss, weighed with ``lambda_nce`` (0: there is none; UNSB's release multiplies by its weight
    twice, here once): between generator features of the image and of its source at ``nce_layers``, ``nce_patches``
    positions each, through heads of ``nce_width``; also of B with its own translation if ``nce_identity``.
    """

    lambda_nce: float = 1.0
    nce_identity: bool = True
    nce_layers: tuple[int, ...] = (0, 4, 8, 12, 16)
    nce_patches: int = 256
    nce_width: int = 256
    nce_temperature: float = 0.07

    def check(self) -> None:
        deepest = 11 + self.blocks
        wrong = [t for t in self.nce_layers if t not in (0, 4, 8) and not 12 <= t <= deepest]
        if self.lambda_nce and wrong:
            raise BenchError(
                f"option nce_layers: layer {wrong[0]} cannot be tapped; with {self.blocks} blocks "
                f"0, 4, 8 and 12 to {deepest} can"
            )


@dataclass(frozen=True)
class BridgeOptions(TranslationOptions):
    """The bridge: ``timesteps`` T and variance ``tau``; ``time_mode`` released, chained or film (see
    ``BridgeGenerator``); ``bridge_noise``: chains are stochastic; ``lambda_sb`` weighs the bridge's loss, whose
    ``entropy`` is estimated as released, with the sample itself in the sum it is compared with (``bounded`` by the
    logarithm of the number of pairs), or left out (``off``: neither energy network nor second chain). At
    inference ``nfe`` generator calls, and the mean of ``samples`` stochastic runs from ``inference_seed`` on.
    """

    timesteps: int = 5
    tau: float = 0.01
    time_mode: TimeMode = "released"
    bridge_noise: bool = True
    lambda_sb: float = 1.0
    entropy: Entropy = "released"
    nfe: int = 5
    samples: int = 1
    inference_seed: int = 0

    def check(self) -> None:
        if self.timesteps < 2:
            raise BenchError(f"option timesteps={self.timesteps} must be at least 2")
        if not 1 <= self.nfe <= self.timesteps:
            raise BenchError(f"option nfe={self.nfe} must lie between 1 and timesteps={self.timesteps}")
        if self.samples < 1:
            raise BenchError(f"option samples={self.samples} must be at least 1")


@dataclass(frozen=True)
class ContrastiveBridgeOptions(BridgeOptions, ContrastiveOptions):
    """What a step of a bridge can be told."""


@dataclass(frozen=True)
class GateOptions(TranslationOptions):
    """SP-I2I's pyramid and the gate on its levels before D.

    ``levels`` entries of the pyramid in all, the low-pass residual among them (``levels_exclude_residual``:
    besides it). ``gating=False`` shows D the whole prediction. ``gate`` is ``free`` (levels independent) or
    ``monotone`` (no finer level weighs more than a coarser one: truly low-pass). ``gate_residual`` learns the
    residual's weight too, which leaves the colour scale unidentified; else it is 1. ``gate_penalty`` weighs the
    mean weight of the bands; ``gate_lr`` is the gate's learning rate in units of ``lr``. ``gate_detached``: the
    gate passes no gradient on through its input. ``filter_real``: D sees B through the same weights.
    """

    levels: int = 4
    levels_exclude_residual: bool = False
    gating: bool = True
    gate: Literal["free", "monotone"] = "free"
    gate_residual: bool = False
    gate_penalty: float = 0.0
    gate_lr: float = 1.0
    gate_detached: bool = True
    filter_real: bool = False

    def check(self) -> None:
        if self.levels < 1:
            raise BenchError(f"option levels={self.levels} must be at least 1")

    @property
    def bands(self) -> int:
        """Band-pass levels of the pyramid."""
        return self.levels if self.levels_exclude_residual else self.levels - 1

    @property
    def gated(self) -> bool:
        """Whether there is a weight to learn."""
        return self.gating and (self.bands > 0 or self.gate_residual)


@dataclass(frozen=True)
class ConsistencyOptions(TranslationOptions):
    """SP-I2I's tie to the source, on the same pyramid: ``lambda_sp`` weighs it; level j counts ``sp_falloff``^j,
    normalised to sum 1; ``sp_include_residual`` ties the residual too (always so where there is no band).
    ``sp_distance``: how far levels are apart, see ``level_distance``.
    ``sp_chroma`` weighs a penalty on each band's detail that is not a multiple of the grey detail. ``grey``: band
    weights, empty for 0.299, 0.587, 0.114 with three bands and equal ones else.
    """

    lambda_sp: float = 10.0
    sp_falloff: float = 0.5
    sp_distance: Distance = "l1"
    sp_include_residual: bool = False
    sp_chroma: float = 0.0
    grey: tuple[float, ...] = ()
