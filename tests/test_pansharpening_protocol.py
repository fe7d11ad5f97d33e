"""The protocols of pansharpening: what the indices are given."""

import pytest
import torch
from h5files import samples

from pansharp_bench import metrics
from pansharp_bench.protocols.pansharpening import FULL
from pansharp_bench.scene import Scene, as_sensor


@pytest.mark.parametrize("stored", [lambda x: x, torch.round, torch.zeros_like, lambda x: None])
def test_indices_at_full_resolution_do_not_hang_on_the_stored_expansion(stored):
    made = samples(n=1, size=96)
    pan, ms, lms = (made[k].float() for k in ("pan", "ms", "lms"))
    scene = Scene(as_sensor("qb"), pan=pan, ms=ms, lms=stored(lms))
    found = FULL.score(lms, scene)
    assert found["HQNR"].item() == pytest.approx(metrics.hqnr(lms, ms, pan, "qb").hqnr.item(), abs=1e-12)
    rounded = metrics.hqnr(lms, ms, pan, "qb", lms.round()).hqnr.item()
    assert found["HQNR"].item() != pytest.approx(rounded, abs=1e-6)
