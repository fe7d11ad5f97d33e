"""Every metric equals the field's MATLAB toolbox: all cases, variants and configurations of the golden folder."""

import re
from functools import cache
from typing import Any

import pytest
import torch
from goldens import (
    TOOLBOX,
    TOOLBOX_KINDS,
    nchw,
    toolbox_arrays,
    toolbox_cases,
    toolbox_kind,
    toolbox_sensor,
)
from torch import Tensor

from pansharp_bench import metrics
from pansharp_bench.imaging import interp23, resize_bicubic
from pansharp_bench.protocols.pansharpening import crop_border

TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
CASES = toolbox_cases()
REDUCED = {
    "ERGAS": metrics.ergas, "SAM": metrics.sam, "SCC": metrics.scc, "Q_avg": metrics.q_avg, "Q2n": metrics.q2n,
}  # fmt: skip
FULL = ("HQNR", "D_lambda_K", "D_s", "QNR", "D_lambda", "D_s_qnr")
EXTRA = (
    "extra_"  # sections of a variant beside its ``out`` hold what the toolbox does not, for one configuration
)


def leaves(kind: str, section: str) -> list:
    """(case, variant, configuration, index) of every recorded number of one kind."""
    return [
        pytest.param(case, variant, configuration, index, id=f"{case}-{variant}-{configuration}-{index}")
        for case in toolbox_kind(kind)
        for variant, recorded in CASES[case]["fused"].items()
        for configuration, values in (
            recorded["out"].items()
            if section == "out"
            else [(name, recorded[name]) for name in recorded if name.startswith(EXTRA)]
        )
        for index in values
        if index != "peak"
    ]


def variants(kind: str) -> list:
    return [
        pytest.param(case, variant, id=f"{case}-{variant}")
        for case in toolbox_kind(kind)
        for variant in CASES[case]["fused"]
    ]


@cache
def image(case: str, name: str) -> Tensor:
    """(1, C, H, W) float64: an array of the case's file, or one that its description says how to derive."""
    derived = re.match(r"derive:interp23tap\((\w+),\s*(\d+)\)", name)
    if derived:
        return interp23(image(case, derived[1]), int(derived[2]))
    return nchw(toolbox_arrays(case)[name])


def settings(configuration: str) -> tuple[int, bool]:
    """Pixels cut at the border (0: none), and whether the fused image is clipped: of ``nocut_th0``, ``cut21_th1``,
    ``th1`` or ``nocut``."""
    read = re.fullmatch(r"(?:nocut|cut(\d+))?_?(?:th([01]))?", configuration)
    assert read, f"what is configuration {configuration!r}?"
    return int(read[1] or 0), read[2] == "1"


def fused_image(case: str, variant: str, configuration: str) -> Tensor:
    fused = image(case, CASES[case]["fused"][variant]["array"])
    return fused.clamp(0, 2 ** CASES[case]["L"]) if settings(configuration)[1] else fused


def pair(case: str, variant: str, configuration: str) -> tuple[Tensor, Tensor]:
    """Fused image and reference of a reduced-resolution case, cut as the configuration says."""
    fused, reference = fused_image(case, variant, configuration), image(case, "gt")
    border, _ = settings(configuration)
    return (crop_border(fused, border), crop_border(reference, border)) if border else (fused, reference)


@cache
def full_scores(case: str, variant: str, configuration: str) -> dict[str, Tensor]:
    entry = CASES[case]
    fused = fused_image(case, variant, configuration)
    ms, pan = image(case, "ms"), image(case, "pan")
    lms = image(case, entry["lms"].split()[0]) if "lms" in entry else None
    hybrid = metrics.hqnr(fused, ms, pan, toolbox_sensor(case), lms)
    plain = metrics.qnr(fused, ms, pan, lms, entry["ratio"])
    return dict(zip(FULL, (*hybrid, *plain), strict=True))


def check(found: Tensor, expected: Any) -> None:
    expected = torch.tensor([float(expected)], dtype=torch.float64)
    torch.testing.assert_close(found, expected, **TOLERANCE, equal_nan=True)


@pytest.mark.parametrize(("case", "variant", "configuration", "index"), leaves("RR", "out"))
def test_reduced_resolution(case: str, variant: str, configuration: str, index: str) -> None:
    expected = CASES[case]["fused"][variant]["out"][configuration][index]
    options = {"ratio": CASES[case]["ratio"]} if index == "ERGAS" else {}
    check(REDUCED[index](*pair(case, variant, configuration), **options), expected)


@pytest.mark.parametrize(("case", "variant", "section", "index"), leaves("RR", EXTRA))
def test_psnr_and_ssim(case: str, variant: str, section: str, index: str) -> None:
    recorded = CASES[case]["fused"][variant][section]
    fused, reference = pair(case, variant, section.removeprefix(EXTRA))
    if index == "SSIM_wang_per_band" or index == "MSE_per_band":
        bands = [(f[:, None], g[:, None]) for f, g in zip(fused.unbind(1), reference.unbind(1), strict=True)]
        for (f, g), expected in zip(bands, recorded[index], strict=True):
            if index == "MSE_per_band":
                check(10 ** (-metrics.psnr(f, g, 1) / 10), expected)
            else:
                check(metrics.ssim(f, g, recorded["peak"]), expected)
        return
    metric = {
        "SSIM_wang_bandmean": metrics.ssim, "PSNR_global": metrics.psnr, "PSNR_bandmean": metrics.psnr_band_mean,
    }[index]  # fmt: skip
    check(metric(fused, reference, recorded["peak"]), recorded[index])


@pytest.mark.parametrize(("case", "variant", "configuration", "index"), leaves("FR", "out"))
def test_full_resolution(case: str, variant: str, configuration: str, index: str) -> None:
    expected = CASES[case]["fused"][variant]["out"][configuration][index]
    check(full_scores(case, variant, configuration)[index], expected)


@pytest.mark.parametrize(("case", "variant"), variants("RR"))
def test_q2n_of_every_block(case: str, variant: str) -> None:
    name = f"q2nmap_{variant}"
    if name not in toolbox_arrays(case):
        pytest.skip(f"{case} holds no {name}")
    found = metrics.q2n_map(*pair(case, variant, "nocut_th0"))[0]
    torch.testing.assert_close(found, torch.from_numpy(toolbox_arrays(case)[name]), **TOLERANCE)


@pytest.mark.parametrize("case", toolbox_kind("FR"))
def test_low_resolution_pan_of_d_s(case: str) -> None:
    ratio = CASES[case]["ratio"]
    low = interp23(resize_bicubic(image(case, "pan"), 1 / ratio), ratio)
    corners = [name for name in toolbox_arrays(case) if name.startswith("pan_lp_ds_topleft")]
    if not corners:
        pytest.skip(f"{case} holds no low-resolution PAN")
    for name in corners:
        corner = nchw(toolbox_arrays(case)[name])
        torch.testing.assert_close(low[..., : corner.shape[-2], : corner.shape[-1]], corner, **TOLERANCE)


def test_every_case_is_of_a_known_kind() -> None:
    """Building blocks are compared in test_imaging.py, fused images in test_classical.py."""
    assert not {case: about["kind"] for case, about in CASES.items() if about["kind"] not in TOOLBOX_KINDS}
    assert {path.name for path in TOOLBOX.glob("*.npz")} <= {about["file"] for about in CASES.values()}


def test_every_number_of_an_index_is_compared() -> None:
    for case in toolbox_kind("RR") + toolbox_kind("FR"):
        for variant, recorded in CASES[case]["fused"].items():
            others = {s for s in recorded if s not in ("array", "out") and not s.startswith(EXTRA)}
            assert not others, f"{case}, {variant}"
