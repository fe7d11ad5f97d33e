"""The offset between PAN and MS is measured where it is known, and nothing is said where nothing can be."""

import pytest
import torch
from scenes import simulated

from pansharp_bench.imaging.registration import Registration, correlate_phases, measure


def windows(image):
    return lambda rows, columns: (image[:, rows, columns], None)


def measured(pan, ms, phase=(1.5, 1.5)):
    return measure(windows(pan), windows(ms), ms.shape[-2:], 4, phase)


@pytest.mark.parametrize("by", [0.0, 0.3, 1.5, 2.0, -3.0])
def test_known_shifts(by):
    pan, ms, _ = simulated(centre=1.5 - by)
    found = measured(pan, ms)
    assert found.judged and found.windows == 9
    assert max(abs(x - by) for x in found.median) < (0.1 if abs(by) <= 2 else 0.2)
    assert max(found.drift) < 0.5
    right = measured(pan, ms, (1.5 - by,) * 2)  # told where it lies
    assert right.size < 0.15


def test_a_drift_is_seen_where_the_median_is_none():
    pan, ms, _ = simulated(size=512)
    rows = torch.arange(128.0)[:, None].expand(128, 128)
    columns = rows.T
    # MS is read at steps of 1.01: what it shows lies too near its middle
    grid = torch.stack([(1.01 * (x - 63.5)) / 64 for x in (columns, rows)], -1)[None].double()
    moved = torch.nn.functional.grid_sample(
        ms[None], grid, mode="bicubic", padding_mode="border", align_corners=False
    )
    found = measured(pan, moved[0])
    assert found.judged and found.size < 0.2
    between = 4 * 0.01 * 64  # the outer windows' centres are 64 MS pixels apart
    assert all(abs(x - between) < 0.4 for x in found.drift)
    assert "drift" in str(found)


@pytest.mark.parametrize("what", ["another scene", "flat", "noise", "tiny", "no value"])
def test_what_cannot_be_judged_is_not(what):
    pan, ms, _ = simulated()
    read_pan = windows(pan)
    if what == "another scene":
        read_pan = windows(simulated(seed=7, kind="dense")[0])
    elif what == "flat":
        ms = torch.full_like(ms, 300)
    elif what == "noise":
        ms = torch.rand(ms.shape, generator=torch.Generator().manual_seed(0)).double()
    elif what == "tiny":
        ms = ms[:, :8, :8]
    else:

        def read_pan(rows, columns):
            return pan[:, rows, columns], torch.zeros(256, 256, dtype=bool)[rows, columns]

    found = measure(read_pan, windows(ms), ms.shape[-2:], 4, (1.5, 1.5))
    assert not found.judged and "cannot be judged" in str(found)
    assert found.facts()["offset"] is found.facts()["drift"] is None


def test_a_third_of_the_windows_must_tell_and_four_make_a_plane():
    def told(n, windows=10):
        corners = torch.tensor([[0.0, 0], [0, 80], [80, 0], [80, 80]]).double()[:n]
        return Registration(0.01 * corners * torch.tensor([1.0, -2.0]).double(), corners, windows)

    assert [told(n).judged for n in (3, 4)] == [False, True]
    assert told(3, 9).judged and told(3).drift == (0, 0)
    assert told(4).drift == pytest.approx((0.8, 1.6)) and ", drift 1.79 over the scene" in str(told(4))


def test_a_batch_is_its_images():
    pan, ms, _ = simulated()
    other = simulated(centre=2.5, seed=3)
    both = correlate_phases(torch.stack([pan, other[0]]), torch.stack([ms, other[1]]), 4, (1.5, 1.5))
    for i, (p, m) in enumerate([(pan, ms), other[:2]]):
        alone = correlate_phases(p[None], m[None], 4, (1.5, 1.5))
        torch.testing.assert_close(both.offset[i], alone.offset[0], atol=2e-3, rtol=0)
    assert both.certain.all()
