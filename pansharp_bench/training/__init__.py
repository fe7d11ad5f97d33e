"""Training: one loop for every learner, data that lives on the device, and what a trained method is."""

from pansharp_bench.method import TrainedMethod
from pansharp_bench.training.loop import Backward, Interrupted, Learner, Trainer, TrainingSummary, stop_asked
from pansharp_bench.training.samplers import PairedData, UnpairedData, augment_batch
from pansharp_bench.training.team import ALONE, Team

__all__ = [
    "ALONE",
    "Backward",
    "Interrupted",
    "Learner",
    "PairedData",
    "Team",
    "TrainedMethod",
    "Trainer",
    "TrainingSummary",
    "UnpairedData",
    "augment_batch",
    "stop_asked",
]
