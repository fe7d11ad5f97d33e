"""What metrics keep to for any images: bounds, invariants, products. Skipped where Hypothesis is not installed."""

import math

import pytest
import torch
from offered import images

from pansharp_bench import metrics

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st

seeds = st.integers(0, 2**32 - 1)
band_counts = st.integers(1, 8)
quick = settings(max_examples=15, deadline=None)


@quick
@given(seeds, band_counts, st.sampled_from([32, 40, 64]))
def test_identity_is_perfect(seed: int, c: int, side: int) -> None:
    x = images(c=c, side=side, seed=seed)["reference"]
    assert metrics.ergas(x, x).item() == 0 and metrics.sam(x, x).item() == 0
    for metric in (metrics.q_avg, metrics.q2n, metrics.ssim, metrics.ssim_uniform, metrics.scc):
        assert metric(x, x).item() == pytest.approx(1, abs=1e-12)
    assert metrics.psnr(x, x).item() == math.inf


@quick
@given(seeds, band_counts, st.floats(1e-3, 1e3))
def test_sam_ignores_brightness(seed: int, c: int, scale: float) -> None:
    named = images(c=c, seed=seed)
    found = metrics.sam(scale * named["fused"], named["reference"])
    torch.testing.assert_close(found, metrics.sam(named["fused"], named["reference"]), rtol=1e-9, atol=3e-6)


@quick
@given(seeds, band_counts, st.floats(-500, 500), st.sampled_from([1, 2, 4]))
def test_ergas_of_an_offset(seed: int, c: int, offset: float, ratio: int) -> None:
    reference = images(c=c, seed=seed)["reference"]
    relative = offset / reference.mean((2, 3))
    expected = 100 / ratio * relative.square().mean(1).sqrt()
    torch.testing.assert_close(
        metrics.ergas(reference + offset, reference, ratio), expected, rtol=1e-9, atol=1e-9
    )


@quick
@given(seeds, band_counts, st.floats(0, 5000))
def test_bounded_scores(seed: int, c: int, noise: float) -> None:
    named = images(c=c, side=40, seed=seed)
    fused = named["reference"] + noise / 60 * (named["fused"] - named["reference"])
    blockwise = metrics.q2n_map(fused, named["reference"])
    assert blockwise.shape == (1, 2, 2) and (blockwise >= 0).all() and (blockwise <= 1 + 1e-12).all()
    assert 0 <= metrics.scc(fused, named["reference"]) <= 1 + 1e-12
    assert 0 <= metrics.sam(fused, named["reference"]) <= 180
    for metric in (metrics.q_avg, metrics.ssim, metrics.ssim_uniform):
        assert metric(fused, named["reference"]).abs() <= 1 + 1e-12


@quick
@given(seeds, st.sampled_from([("qb", 4), ("gf2", 4), ("wv3", 8)]))
def test_no_reference_scores_are_products(seed: int, camera: tuple[str, int]) -> None:
    sensor, c = camera
    named = images(c=c, seed=seed)
    hybrid = metrics.hqnr(named["fused"], named["ms"], named["pan"], sensor)
    plain = metrics.qnr(named["fused"], named["ms"], named["pan"])
    for score, d_lambda, d_s in (hybrid, plain):
        torch.testing.assert_close(score, (1 - d_lambda) * (1 - d_s), rtol=1e-15, atol=0)
        assert 0 <= d_lambda <= 2 and 0 <= d_s <= 2
    given_lms = metrics.hqnr(named["fused"], named["ms"], named["pan"], sensor, lms=named["lms"])
    torch.testing.assert_close(given_lms, hybrid, rtol=1e-12, atol=1e-12)
