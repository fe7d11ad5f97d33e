"""bf16 autocast, as on a GPU, rehearsed on the CPU: what is learnt is what float32 learns, within stated bounds."""

import pytest
import torch
from splits import Random
from torch import Tensor

from pansharp_bench.method import build, resolve_config
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import as_sensor
from pansharp_bench.training import PairedData, Trainer, UnpairedData

SENSOR = as_sensor("qb")
BRIDGE = {"batch": 2, "ngf": 8, "ndf": 8, "blocks": 5}
NETWORKS = {
    "sp-i2i": BRIDGE, "unsb": BRIDGE, "cut": BRIDGE, "fastcut": BRIDGE, "grey-net": BRIDGE,
    "pnn": {"batch": 4}, "fusionnet": {"batch": 4},
}  # fmt: skip


def trained(name: str, precision: str, steps: int) -> tuple[Tensor, dict[str, float]]:
    """Fused images after so many steps, and the mean losses of these."""
    entry = METHODS.get(name)
    options = NETWORKS[name] | {"steps": steps}
    if entry.card.training == "paired":
        options |= {"validations": 1}
    torch.manual_seed(0)
    method = build(entry, SENSOR, resolve_config(entry, "quick", options))
    trainer = Trainer(None, "cpu", precision, progress=False)
    load = UnpairedData.halves if entry.card.training == "unpaired" else PairedData
    method.fit(load(SENSOR, Random(SENSOR, 8), Random(SENSOR, 4), trainer.device), trainer)
    method.eval()
    assert all(p.dtype == torch.float32 for p in method.parameters())
    return method.fuse(Random(SENSOR, 3, 48)[:].seen_by(entry.card)), trainer.summary.losses


@pytest.mark.parametrize("name", NETWORKS)
def test_bf16_learns_what_float32_learns(name):
    """The first step's losses within 3 %; after 20 steps fused images within .3 % of the peak in the mean, 2 % at
    most. Two adversarial trainings part by themselves; a regression's losses stay within 2 % to the end."""
    (_, first), (_, first_rounded) = (trained(name, precision, 1) for precision in ("32-true", "bf16-mixed"))
    assert first_rounded == pytest.approx(first, rel=0.03, abs=0.003)
    (exact, losses), (rounded, near) = (
        trained(name, precision, 20) for precision in ("32-true", "bf16-mixed")
    )
    assert not torch.equal(exact, rounded)
    assert (exact - rounded).abs().mean() < 0.003 * SENSOR.peak
    assert (exact - rounded).abs().max() < 0.02 * SENSOR.peak
    if "loss" in losses:
        assert near["loss"] == pytest.approx(losses["loss"], rel=0.02)
