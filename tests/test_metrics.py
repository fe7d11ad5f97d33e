"""What every metric keeps to, whatever its values: shapes, batches, dtypes, missing data, invariants.

The values themselves are held against the MATLAB toolbox in test_metrics_golden.py.
"""

import doctest
import inspect
import math
from collections.abc import Callable

import pytest
import torch
from offered import images
from torch import Tensor

from pansharp_bench import metrics
from pansharp_bench.metrics.q2n import cayley_dickson
from pansharp_bench.registry import METRICS
from pansharp_bench.settings import settings_of

REDUCED = METRICS.names(protocol="reduced")
FULL = METRICS.names(protocol="full")
OWN = [n for n in (*REDUCED, *FULL) if METRICS.get(n).origin.startswith("pansharp_bench.metrics.")]
OFFERED = {"fused", "reference", "ms", "pan", "lms", "sensor", "ratio", "peak"}


def scores(name: str, named: dict) -> Tensor:
    """(columns, N) of a registered metric, called as the protocols call it."""
    entry = METRICS.get(name)
    wanted = inspect.signature(entry.obj).parameters
    found = entry.obj(**{k: v for k, v in named.items() if k in wanted})
    return torch.stack((found,) if isinstance(found, Tensor) else tuple(found))


def mapped(named: dict, change: Callable[[Tensor], Tensor]) -> dict:
    return {k: change(v) if isinstance(v, Tensor) else v for k, v in named.items()}


def test_all_of_the_table_are_registered() -> None:
    assert {"ergas", "scc", "sam", "q2n", "psnr", "ssim", "q_avg"} <= set(REDUCED)
    assert {"hqnr", "qnr"} <= set(FULL)
    by_order = sorted(METRICS.entries(protocol="reduced", default=True), key=lambda e: e.card.order)
    columns = [column for entry in by_order for column in entry.card.columns]
    assert columns == ["ERGAS", "SCC", "SAM", "Q2n", "PSNR", "SSIM", "Q"]
    assert METRICS.get("hqnr").card.columns == ("HQNR", "D_s", "D_lambda")


@pytest.mark.parametrize("name", OWN)
def test_one_float64_score_per_image_and_column(name: str) -> None:
    entry = METRICS.get(name)
    assert set(inspect.signature(entry.obj).parameters) <= OFFERED | settings_of(entry).keys()
    found = scores(name, images(n=3, dtype=torch.float32))
    assert found.shape == (len(entry.card.columns), 3) and found.dtype == torch.float64
    assert found.isfinite().all()
    assert len(entry.card.better) in (1, len(entry.card.columns))
    assert entry.card.columns and entry.card.title and entry.card.summary


@pytest.mark.parametrize("name", OWN)
def test_batch_equals_single_images(name: str) -> None:
    named = images(n=20, side=128)  # worked through in several pieces
    alone = [scores(name, mapped(named, lambda x, i=i: x[i : i + 1])) for i in range(20)]
    torch.testing.assert_close(scores(name, named), torch.cat(alone, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OWN)
def test_float32_images_score_as_their_float64_copies(name: str) -> None:
    named = images(n=2, dtype=torch.float32)
    assert torch.equal(scores(name, named), scores(name, mapped(named, torch.Tensor.double)))
    precise = images(n=2)
    torch.testing.assert_close(scores(name, named), scores(name, precise), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", OWN)
def test_cut_images_and_other_memory_layouts(name: str) -> None:
    named = images(n=2)
    reversed_in_memory = mapped(named, lambda x: x.flip(-1).contiguous().flip(-1))
    framed = mapped(named, lambda x: torch.nn.functional.pad(x, (3, 2, 1, 4))[..., 1:-4, 3:-2])
    channels_last = mapped(named, lambda x: x.to(memory_format=torch.channels_last))
    for other in (reversed_in_memory, framed, channels_last):
        torch.testing.assert_close(scores(name, other), scores(name, named), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OWN)
def test_images_are_left_as_they_were(name: str) -> None:
    named = images(n=2)
    before = mapped(named, torch.Tensor.clone)
    scores(name, named)
    assert all(torch.equal(x, before[k]) for k, x in named.items() if isinstance(x, Tensor))


@pytest.mark.parametrize("name", OWN)
def test_a_nan_image_spoils_no_other(name: str) -> None:
    named = images(n=3)
    clean = scores(name, named)
    named["fused"][1] = math.nan
    found = scores(name, named)
    assert torch.equal(found[:, ::2], clean[:, ::2])
    if name == "q2n":  # rounding to 16-bit integers makes 0 of NaN
        assert found[0, 1].abs() < 1e-9
    else:
        assert found[0, 1].isnan()


@pytest.mark.parametrize("name", OWN)
def test_one_nan_pixel_shows_in_the_score(name: str) -> None:
    named = images(n=2)
    clean = scores(name, named)
    named["fused"][1, 2, 10, 20] = math.nan
    found = scores(name, named)
    assert torch.equal(found[:, 0], clean[:, 0])
    assert found[0, 1].isnan() if name != "q2n" else found[0, 1] < clean[0, 1]


@pytest.mark.parametrize("name", REDUCED)
def test_no_images_give_no_scores(name: str) -> None:
    assert scores(name, mapped(images(), lambda x: x[:0])).shape[1] == 0


@pytest.mark.parametrize("name", REDUCED)
def test_wrong_shapes_are_named(name: str) -> None:
    named = images(n=2)
    for fused in (named["fused"][:1], named["fused"][:, :3], named["fused"][..., :-1], named["fused"][0]):
        with pytest.raises(ValueError) as error:
            scores(name, {**named, "fused": fused})
        assert str(tuple(fused.shape)) in str(error.value) and "(2, 4, 64, 64)" in str(error.value)


@pytest.mark.parametrize("name", FULL)
def test_wrong_full_resolution_shapes_are_named(name: str) -> None:
    named = images(n=2)
    for key in ("fused", "ms", "pan", "lms"):
        for wrong in (named[key][:1], named[key][..., :-1]):
            with pytest.raises(ValueError) as error:
                scores(name, {**named, key: wrong})
            assert f"{key} {tuple(wrong.shape)}" in str(error.value)
    with pytest.raises(ValueError, match=r"multiples of 32.*\(2, 4, 48, 48\)"):
        scores(name, images(n=2, side=48))


@pytest.mark.parametrize(
    ("name", "smallest"), [("q_avg", 32), ("q2n", 16), ("ssim", 11), ("ssim_uniform", 7), ("scc", 4)]
)
def test_images_smaller_than_a_window(name: str, smallest: int) -> None:
    x = torch.rand(1, 4, smallest, smallest, dtype=torch.float64) * 2047
    assert scores(name, {"fused": x, "reference": x}).item() == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match=f"at least {smallest} x {smallest}"):
        scores(name, {"fused": x[..., 1:], "reference": x[..., 1:]})


def test_image_of_zeros() -> None:
    reference = images()["reference"]
    zeros = torch.zeros_like(reference)
    assert metrics.sam(zeros, reference).isnan() and metrics.scc(zeros, reference).isnan()
    assert metrics.q_avg(zeros, reference) == 0 and metrics.q2n(zeros, reference) < 1e-9
    assert metrics.ergas(zeros, reference).isfinite() and metrics.psnr(zeros, reference).isfinite()
    assert metrics.q_avg(zeros, zeros) == 1 and metrics.q2n(zeros, zeros) == 1
    assert metrics.q2n(zeros + 3, zeros) == 8 / 17  # 0 is moved to 1 and 3 to 4: 2 · 4 / (4² + 1)
    five = torch.zeros(1, 5, 32, 32)  # and three more that stay at 1: 2 √8 √83 / (8 + 83)
    assert metrics.q2n(five + 3, five).item() == pytest.approx(2 * math.sqrt(8 * 83) / 91, rel=1e-12)
    named = images()
    full = metrics.hqnr(zeros, named["ms"], named["pan"], "qb")
    plain = metrics.qnr(zeros, named["ms"], named["pan"])
    assert full.d_lambda == pytest.approx(1, abs=1e-9) and full.d_s.isfinite()
    assert plain.qnr.isnan() and plain.d_lambda.isnan() and torch.equal(plain.d_s, full.d_s)
    assert metrics.hqnr(zeros, named["ms"], 0 * named["pan"], "qb").d_s.isnan()


def test_sam_leaves_out_pixels_without_a_spectrum() -> None:
    reference = images()["reference"]
    fused = reference.clone()
    fused[..., :32, :] *= 3  # the same directions
    fused[..., 32:, :] = 0
    assert metrics.sam(fused, reference).item() == pytest.approx(0, abs=1e-5)
    fused[..., :32, :] *= -1  # the opposite ones
    assert metrics.sam(fused, reference).item() == pytest.approx(180, abs=1e-5)


def test_q2n_rounds_half_away_from_zero_and_saturates() -> None:
    reference = images()["reference"].round()
    assert metrics.q2n(reference - 0.5, reference).item() == 1  # up again to where it was
    assert metrics.q2n(reference + 0.499, reference).item() == 1
    assert metrics.q2n(reference + 0.5, reference).item() < 1
    bright = reference * 100
    assert torch.equal(metrics.q2n(bright, reference), metrics.q2n(bright.clamp(max=65535), reference))
    assert torch.equal(
        metrics.q2n(reference - 700, reference), metrics.q2n((reference - 700).relu(), reference)
    )
    infinite = torch.where(bright > 65535, math.inf, bright)
    assert torch.equal(metrics.q2n(infinite, reference), metrics.q2n(bright, reference))


def test_q2n_takes_its_normalisation_from_the_reference() -> None:
    named = images()
    assert metrics.q2n(named["fused"], named["reference"]) != metrics.q2n(named["reference"], named["fused"])


def test_q2n_mirrors_and_fills_bands() -> None:
    named = images(c=3, side=72)
    wide = [
        torch.cat([x, x[..., -24:].flip(-1)], -1)
        for x in (named["fused"].round(), named["reference"].round())
    ]
    whole = [torch.cat([x, x[..., -24:, :].flip(-2)], -2) for x in wide]
    four = [torch.cat([x, torch.zeros_like(x[:, :1])], 1) for x in whole]
    for images_ in (wide, whole, four):
        torch.testing.assert_close(metrics.q2n(*images_), metrics.q2n(named["fused"], named["reference"]))


def test_q2n_of_what_is_trained_after_an_inference():
    """What it keeps is no inference tensor, which autograd would refuse. No other test has sixteen bands."""
    named = images(c=16)
    with torch.inference_mode():
        expected = metrics.q2n(named["fused"], named["reference"])
    assert torch.equal(metrics.q2n(named["fused"].requires_grad_(), named["reference"]).detach(), expected)


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_hypercomplex_product_multiplies_norms(n: int) -> None:
    """Complex numbers, quaternions and octonions are the algebras where |a ∘ b| = |a| |b|."""
    a, b = torch.randn(2, 50, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    product = torch.einsum("bi,bj,ijk->bk", a, b, cayley_dickson(n))
    torch.testing.assert_close(product.norm(dim=1), a.norm(dim=1) * b.norm(dim=1))


def test_equal_to_scikit_image() -> None:
    """Values of scikit-image 0.26: structural_similarity(data_range=2047, channel_axis=-1), the same with
    gaussian_weights, sigma 1.5 and population moments, and peak_signal_noise_ratio."""
    y, x, b = torch.meshgrid(torch.arange(40), torch.arange(56), torch.arange(3), indexing="ij")
    reference = (37 * x + 91 * y + 53 * b + x * y * (b + 1)) % 1500 + 200
    fused = reference + (17 * x * x + 29 * y + 7 * b) % 211 - 100
    f, g = (v.permute(2, 0, 1)[None].double() for v in (fused, reference))
    assert metrics.ssim_uniform(f, g).item() == pytest.approx(0.9868585842119136, rel=1e-12)
    assert metrics.ssim(f, g).item() == pytest.approx(0.980500592610043, rel=1e-12)
    assert metrics.psnr(f, g).item() == pytest.approx(30.509129514313752, rel=1e-12)


@pytest.mark.parametrize("name", OWN)
def test_everything_is_computed_where_the_images_are(name: str) -> None:
    """The meta device refuses to be mixed with another one, and holds no values to look at from Python."""
    found = scores(name, mapped(images(n=2), lambda x: x.to("meta")))
    assert found.device.type == "meta" and found.shape[1] == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("c", [4, 8])
@pytest.mark.parametrize("name", OWN)
def test_cuda_equals_cpu(name: str, c: int) -> None:
    named = images(n=3, c=c, side=256, dtype=torch.float32) | {"sensor": {4: "qb", 8: "wv3"}[c]}
    found = scores(name, mapped(named, torch.Tensor.cuda))
    assert found.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), scores(name, named), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "function", [getattr(metrics, n) for n in metrics.__all__ if n.islower() and n != "q2n_map"]
)
def test_every_metric_has_an_example(function: Callable) -> None:
    assert doctest.DocTestFinder(recurse=False).find(function)[0].examples
