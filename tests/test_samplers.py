"""Training data on the device: lossless, augmented alike, and never paired where it must not be."""

from pathlib import Path

import pytest
import torch

from pansharp_bench.errors import BenchError
from pansharp_bench.registry import load_plugin
from pansharp_bench.scene import Scene, Split, as_sensor
from pansharp_bench.training.samplers import PairedData, Resident, UnpairedData, augment_batch

load_plugin(Path(__file__).parent / "plugins" / "tiny.py")
CPU = torch.device("cpu")


class Tagged(Split):
    """Scene i is constant: PAN has the value i, MS and reference 1000 + i."""

    def __init__(self, n):
        self.n, self.name, self.sensor, self.keys = n, "train", as_sensor("qb"), ("pan", "ms", "lms", "gt")

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        rows = range(self.n)[index] if isinstance(index, slice) else [index]
        tag = torch.tensor(list(rows), dtype=torch.float32)[:, None, None, None]
        ms = (1000 + tag).expand(-1, 4, 8, 8)
        return Scene(self.sensor, tag.expand(-1, 1, 32, 32), ms[..., :8, :8], *(2 * [ms.repeat(1, 1, 4, 4)]))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 2047.0), torch.uint16),
        ((0, 65535.0), torch.uint16),
        ((-3.0, 7.0), torch.float32),
        ((0.5, 9), torch.float32),
        ((9, 0.5), torch.float32),  # the first slice still fits
    ],
)
def test_residents_are_lossless(values, dtype):
    images = torch.tensor(values).reshape(2, 1, 1, 1)
    kept = Resident(images.split(1), 2, CPU)
    assert kept.images.dtype == dtype
    assert torch.equal(kept.take(torch.tensor([1, 0])), images.flip(0))


def test_half_precision_is_on_request_and_within_half_a_dn():
    images = torch.rand(4, 1, 8, 8) * 2047
    kept = Resident([images], 4, CPU, half=True)
    assert kept.images.dtype == torch.float16
    assert (kept.take(torch.arange(4)) - images).abs().max() <= 0.5
    wide = images * 65535.5 / images.max()  # an expansion of 16 bits
    assert torch.equal(Resident([wide], 4, CPU, half=True).take(torch.arange(4)), wide)


def symmetries(x):
    turned = [torch.rot90(x, k, (-2, -1)) for k in range(4)]
    return turned + [t.flip(-1) for t in turned]


@pytest.mark.parametrize(("kind", "count"), [("none", 1), ("mirror", 2), ("flips", 4), ("dihedral", 8)])
def test_arrays_of_a_sample_get_one_symmetry_and_all_occur(kind, count):
    fine = torch.arange(64.0).reshape(1, 1, 8, 8).expand(200, 1, 8, 8)
    coarse = torch.arange(4.0).reshape(1, 1, 2, 2).expand(200, 1, 2, 2)
    out = augment_batch({"pan": fine, "ms": coarse}, kind, torch.Generator().manual_seed(0))
    pairs = list(zip(symmetries(fine[0]), symmetries(coarse[0]), strict=True))
    seen = set()
    for pan, ms in zip(out["pan"], out["ms"], strict=True):
        (which,) = [i for i, (a, b) in enumerate(pairs) if torch.equal(a, pan) and torch.equal(b, ms)]
        seen.add(which)
    assert len(seen) == count


def test_images_that_are_not_square_are_mirrored_too():
    wide = torch.arange(48.0).reshape(1, 1, 6, 8).expand(100, 1, 6, 8)
    out = augment_batch({"x": wide}, "flips", torch.Generator().manual_seed(0))["x"]
    assert out.shape == wide.shape and set(out[:, 0, 0, 0].tolist()) == {0, 7, 40, 47}


def test_paired_batches_stay_registered():
    data = PairedData(as_sensor("qb"), Tagged(20), Tagged(4), CPU)
    batch = data.batch(64, torch.Generator().manual_seed(0), "dihedral")
    tags = batch.pan[:, 0, 0, 0]
    assert torch.equal(batch.gt[:, 0, 0, 0], 1000 + tags) and torch.equal(batch.ms[:, 0, 0, 0], 1000 + tags)
    assert len(tags.unique()) > 10


def test_disjoint_halves_never_share_a_scene():
    data = UnpairedData.halves(as_sensor("qb"), Tagged(21), Tagged(6), CPU, seed=3)
    generator = torch.Generator().manual_seed(0)
    pans = {int(v) for v in data.draw(500, 1, generator)[0][:, 0, 0, 0]}
    ms = {int(v) - 1000 for v in data.draw(1, 500, generator)[1][:, 0, 0, 0]}
    assert len(pans) == 10 and len(ms) == 11 and not pans & ms
    assert {int(v) for v in data.all_source()[:, 0, 0, 0]} == pans
    assert not {int(v) for v in data.valid_source[:, 0, 0, 0]} & {
        int(v) - 1000 for v in data.valid_target[:, 0, 0, 0]
    }
    assert data.describe()["shared_samples"] == 0


def test_nothing_an_unpaired_method_holds_reaches_the_ms_of_its_pan():
    data = UnpairedData.halves(as_sensor("qb"), Tagged(12), Tagged(4), CPU)
    pans = {int(v) for v in data.all_source()[:, 0, 0, 0]}
    reachable = [v for v in vars(data).values() if isinstance(v, torch.Tensor)]
    reachable += [v.images.float() for v in vars(data).values() if isinstance(v, Resident)]
    assert len(reachable) >= 4
    forbidden = {1000 + p for p in pans}
    for tensor in reachable:
        assert not forbidden & {int(v) for v in tensor.flatten().unique()}
    assert not any(isinstance(v, Split) for v in vars(data).values())


def test_halves_depend_on_the_seed_only():
    data = [UnpairedData.halves(as_sensor("qb"), Tagged(30), Tagged(4), CPU, seed=s) for s in (0, 0, 1)]
    halves = [d.all_source()[:, 0, 0, 0].tolist() for d in data]
    assert halves[0] == halves[1] != halves[2]


def test_independent_pairing_says_so():
    data = UnpairedData.halves(as_sensor("qb"), Tagged(8), Tagged(4), CPU, pairing="independent")
    assert data.describe()["shared_samples"] == 8


def test_one_sample_cannot_be_halved():
    with pytest.raises(BenchError, match="disjoint halves"):
        UnpairedData.halves(as_sensor("qb"), Tagged(1), Tagged(4), CPU)


class Grouped(Tagged):
    """Scene i is constant i and of group ``groups[i]``."""

    def __init__(self, groups):
        super().__init__(len(groups))
        self.groups = torch.tensor(groups)


def test_a_target_is_drawn_from_the_group_of_its_source():
    source, target = Grouped([2, 0, 2, 1]), Grouped([0, 1, 1, 2, 0, 2, 2])
    data = UnpairedData.between(as_sensor("qb"), source, target, CPU)
    a, b = data.draw(600, 400, torch.Generator().manual_seed(0))
    a, b = a[:400, 0, 0, 0].long(), b[:, 0, 0, 0].long()
    assert torch.equal(source.groups[a], target.groups[b])
    pairs = {(int(x), int(y)) for x, y in zip(a, b, strict=True)}
    assert len(pairs) == 3 + 2 + 3 + 2  # every target of the group comes up for every source
    assert data.describe()["pairing"] == "same group"


def test_a_group_without_targets_is_refused():
    with pytest.raises(BenchError, match="no target images"):
        UnpairedData.between(as_sensor("qb"), Grouped([0, 3]), Grouped([0, 1]), CPU)


def test_groups_are_passed_over_on_request():
    splits = Grouped([0, 3]), Grouped([0, 1])
    data = UnpairedData.between(as_sensor("qb"), *splits, CPU, pairing="independent")
    assert data.groups is None and data.describe()["pairing"] == "independent"


def test_splits_without_groups_are_drawn_independently():
    data = UnpairedData.between(as_sensor("qb"), Tagged(5), Tagged(200), CPU)
    _, b = data.draw(1, 4000, torch.Generator().manual_seed(0))
    assert len(b.unique()) == 200 and len(data.valid_target) == 64 and len(data.valid_source) == 5
    assert data.describe()["pairing"] == "independent"


def test_an_unknown_symmetry_is_refused():
    with pytest.raises(
        BenchError, match="unknown augment 'rotate'; known are: none, mirror, flips, dihedral"
    ):
        augment_batch({"x": torch.rand(2, 1, 4, 4)}, "rotate", torch.Generator())
