"""grey-net and ms-net: what they learn from, that no pair is among it, and that they learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pansharp_bench import metrics
from pansharp_bench.errors import BenchError
from pansharp_bench.imaging import LaplacianPyramid, interp23, wald_degrade
from pansharp_bench.method import TrainedMethod, build, resolve_config
from pansharp_bench.methods._unpaired.networks import LowPass
from pansharp_bench.methods.grey_net import detail_share
from pansharp_bench.methods.ms_net import MadePairs, MSNetConfig, SyntheticPan
from pansharp_bench.registry import METHODS
from pansharp_bench.scene import Scene, Split, as_sensor
from pansharp_bench.training import Trainer, UnpairedData
from pansharp_bench.training.samplers import Resident, cut_in_halves

QB = as_sensor("qb")


def scenes(n: int, seed: int = 0) -> Scene:
    """Blocks and noise; the bands are curves of one brightness, which PAN shows with another gain."""
    draws = torch.Generator().manual_seed(seed)
    blocks = [
        F.interpolate(torch.rand(n, 1, 64 // k, 64 // k, generator=draws), (64, 64)) for k in (16, 8, 4, 2)
    ]
    base = torch.stack(blocks).mean(0)
    bands = torch.cat([300 * base, 200 + 400 * base**2, 900 * base.sqrt(), 500 - 300 * base], 1)
    pan = (700 * base + 80 + 6 * torch.randn(base.shape, generator=draws)).round()
    ms = wald_degrade(bands, pan, QB).ms
    return Scene(QB, pan, ms, interp23(ms), bands)


class Memory(Split):
    name, sensor, keys = "train", QB, ("pan", "ms", "lms", "gt")

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def __len__(self) -> int:
        return len(self.scene)

    def __getitem__(self, index: int | slice) -> Scene:
        return self.scene[index]


def fitted(name: str, scene: Scene, **options: Any) -> tuple[TrainedMethod, dict[str, Any]]:
    entry = METHODS.get(name)
    method = build(entry, QB, resolve_config(entry, "quick", options))
    assert isinstance(method, TrainedMethod)
    wanted = method.training_data()
    data = UnpairedData.halves(
        QB, Memory(scene), Memory(scene[:4]), torch.device("cpu"), 0, wanted.pairing, wanted.target
    )
    torch.manual_seed(0)
    return method, method.fit(data, Trainer(None, "cpu", seed=0, progress=False))


SMALL = {"grey-net": {"ngf": 4, "blocks": 1, "steps": 3}, "ms-net": {"steps": 3, "batch": 4}}


@pytest.mark.parametrize("name", SMALL)
def test_no_pair_is_learnt_from(name: str) -> None:
    """Changing the MS of the scenes that serve PAN, and the PAN of those that serve MS, changes nothing."""
    scene = scenes(8)
    serves_pan, serves_ms = cut_in_halves(len(scene), 0)
    pan, lms, gt = scene.pan.clone(), scene.lms.clone(), scene.gt.clone()
    pan[serves_ms] += 500
    lms[serves_pan] += 500
    gt[serves_pan] += 500
    first, _ = fitted(name, scene, **SMALL[name])
    again, _ = fitted(name, Scene(QB, pan, scene.ms, lms, gt), **SMALL[name])
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key


def test_the_made_pan_has_the_brightness_and_the_sharpness_of_pan() -> None:
    pan = scenes(6).pan
    sharp = scenes(6, seed=1).gt
    ms = 3 * (0.5 * sharp + 0.5 * LowPass()(sharp)) + 100  # softer, brighter and of more contrast
    made = SyntheticPan(pan, ms, 3)(ms)
    torch.testing.assert_close(made.mean(), pan.mean(), rtol=1e-3, atol=0)
    pyramid = LaplacianPyramid(3)
    for ours, wanted in zip(pyramid.decompose(made), pyramid.decompose(pan), strict=True):
        torch.testing.assert_close(ours.std(), wanted.std(), rtol=0.1, atol=0)


def test_a_pan_may_be_of_any_bands_and_as_sharp_as_pan_in_each() -> None:
    pan, ms = scenes(6).pan, torch.cat([scenes(6, seed).gt[:, :1] for seed in range(1, 5)], 1)
    pan_of = SyntheticPan(pan, ms, 3)
    for band, weights in enumerate(torch.eye(4)):
        made = pan_of(ms, weights.expand(len(ms), 4))
        flat = torch.stack([LowPass()(made).flatten(), *LowPass()(ms).transpose(0, 1).flatten(1)])
        assert torch.corrcoef(flat)[0, 1:].argmax() == band
        torch.testing.assert_close(made.mean(), pan.mean(), rtol=1e-3, atol=0)
        torch.testing.assert_close(made.std(), pan.std(), rtol=0.1, atol=0)


def test_every_training_image_gets_a_pan_of_its_own() -> None:
    scene = scenes(8)
    data = UnpairedData.halves(QB, Memory(scene), Memory(scene[:4]), torch.device("cpu"), target="gt")
    same = torch.zeros(48, dtype=torch.long)

    def drawn(**options: float) -> Tensor:
        made = MadePairs(data, MSNetConfig(**options))
        made.images = Resident([scene.gt[:1]], 1, torch.device("cpu"))
        return made.batch(same, torch.Generator().manual_seed(0)).pan

    assert (drawn() == drawn()[:1]).all()
    for options in ({"mix": 1.0}, {"jitter": 0.15}):
        pans = drawn(**options)
        assert pans.std(0).mean() > 0.01 * pans.std() and torch.equal(pans, drawn(**options))
    made = MadePairs(data, MSNetConfig(mix=0.5, jitter=0.2))
    weights = made._weights(4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights.sum(1), torch.ones(4000))
    assert weights.min() >= 0.125 and weights.max() > 0.55
    torch.testing.assert_close(weights.mean(0), torch.full((4,), 0.25), atol=0.01, rtol=0)
    gains = made._gains(4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(gains[:, :3].log().std(0), torch.full((3,), 0.2), atol=0.01, rtol=0)
    assert (gains[:, 3] == 1).all()  # brightness and contrast at large are PAN's


def test_made_pairs_are_the_degraded_ms_and_its_pan() -> None:
    scene = scenes(8)
    data = UnpairedData.halves(QB, Memory(scene), Memory(scene[:4]), torch.device("cpu"), target="gt")
    made = MadePairs(data, MSNetConfig())
    index = torch.tensor([2, 0])
    got = made.scenes(index)
    reference = scene.gt[cut_in_halves(8, 0)[1]][index]
    torch.testing.assert_close(got.gt, reference)
    torch.testing.assert_close(got.ms, wald_degrade(reference, scene.pan[:2], QB).ms)
    torch.testing.assert_close(got.lms, interp23(got.ms))
    assert got.pan.shape == (2, 1, 64, 64) and len(made) == 4 and len(made.valid) == 2
    assert (got.pan - reference.mean(1, keepdim=True)).abs().mean() > 1  # not the plain grey


def test_the_share_of_detail_is_told_without_a_reference() -> None:
    scene = scenes(40)
    low = LowPass()

    class Like(Memory):
        """MS whose detail, at its own scale, is this share of what it has of PAN's."""

        def __init__(self, share: float) -> None:
            ms = wald_degrade(scene.pan.expand(-1, 4, -1, -1), scene.pan, QB).ms
            soft = low(ms) + share * (ms - low(ms))
            super().__init__(Scene(QB, scene.pan, soft, interp23(soft), scene.gt))

    def measured(share: float) -> Tensor:
        data = UnpairedData.halves(QB, Like(share), Like(share), torch.device("cpu"))
        return detail_share(data, low)

    whole, half = measured(1.0), measured(0.5)
    torch.testing.assert_close(whole, torch.ones(4), rtol=0.05, atol=0)
    assert (half < 0.9 * whole).all()  # less than by half, for a low-pass keeps detail too
    flat = UnpairedData.halves(QB, Memory(scene), Memory(scene), torch.device("cpu"))
    flat.target.images.zero_()
    assert torch.equal(detail_share(flat, low), torch.ones(4))


def test_grey_net_is_not_trained_without_its_loss() -> None:
    with pytest.raises(BenchError, match="nothing without the loss of its grey"):
        resolve_config(METHODS.get("grey-net"), "quick", {"lambda_grey": "0"})


def test_grey_net_takes_the_share_it_is_given_or_measures_it() -> None:
    scene = scenes(8)
    method, told = fitted("grey-net", scene, **SMALL["grey-net"], kappa=0.5)
    assert told["kappa"] == [0.5] * 4
    _, measured = fitted("grey-net", scene, **SMALL["grey-net"])
    assert measured["kappa"] != [0.5] * 4
    checked = ((torch.arange(32)[:, None] + torch.arange(32)) % 2 * 20.0 + 300).expand(1, 1, 32, 32)
    detail = method.fuse(Scene(QB, pan=checked)).diff(dim=-1).abs().mean((0, 2, 3))
    gain = (method.normaliser.ms_range.diff(dim=1) / method.normaliser.pan_range.diff(dim=1))[:, 0]
    torch.testing.assert_close(detail, 0.5 * 20 * gain, rtol=1e-3, atol=0)


def test_both_learn_what_closed_forms_cannot() -> None:
    train, test = scenes(32), scenes(4, seed=9)
    grey, _ = fitted("grey-net", train, ngf=8, blocks=1, steps=150, batch=8)
    affine, _ = fitted("pan-affine", train)
    errors = [metrics.ergas(m.fuse(Scene(QB, pan=test.pan)), test.gt, ratio=4).mean() for m in (grey, affine)]
    assert errors[0] < 0.95 * errors[1]
    net, _ = fitted("ms-net", train, steps=60, batch=8)
    fused = net.fuse(Scene(QB, test.pan, test.ms, test.lms))
    assert (
        metrics.ergas(fused, test.gt, ratio=4).mean() < 0.8 * metrics.ergas(test.lms, test.gt, ratio=4).mean()
    )
