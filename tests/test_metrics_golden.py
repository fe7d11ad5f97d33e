"""Every metric equals the field's MATLAB toolbox: all cases, variants and configurations of the golden folder."""

import json
import os
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from goldens import GOLDEN, nchw
from torch import Tensor

from pansharp_bench import metrics
from pansharp_bench.imaging import interp23, resize_bicubic
from pansharp_bench.protocols.pansharpening import crop_border
from pansharp_bench.registry import SENSORS
from pansharp_bench.scene import Sensor

FOLDER = GOLDEN / "metrics"
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}
CASES: dict[str, Any] = (
    json.loads((FOLDER / "golden.json").read_text())["cases"] if (FOLDER / "golden.json").exists() else {}
)
REDUCED = {
    "ERGAS": metrics.ergas, "SAM": metrics.sam, "SCC": metrics.scc, "Q_avg": metrics.q_avg, "Q2n": metrics.q2n,
}  # fmt: skip
SENSOR_NAMES = {
    "QB": "qb", "IKONOS": "ikonos", "GEOEYE1": "ge1", "GE1": "ge1", "WV4": "wv4", "WORLDVIEW4": "wv4",
    "WV2": "wv2", "WORLDVIEW2": "wv2", "WV3": "wv3", "WORLDVIEW3": "wv3",
}  # fmt: skip


def leaves(kind: str, section: str) -> list:
    """(case, variant, configuration, index) of every recorded number of one kind."""
    return [
        pytest.param(case, variant, configuration, index, id=f"{case}-{variant}-{configuration}-{index}")
        for case, entry in CASES.items()
        if entry["kind"] == kind
        for variant, recorded in entry["fused"].items()
        for configuration, values in (
            recorded["out"].items() if section == "out" else [("nocut", recorded.get(section, {}))]
        )
        for index in values
        if index != "peak"
    ]


@cache
def arrays(case: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / CASES[case]["file"]) as file:
        return dict(file)


@cache
def image(case: str, name: str) -> Tensor:
    """(1, C, H, W) float64: an array of the case's file, or one that its description says how to derive."""
    derived = re.match(r"derive:interp23tap\((\w+),\s*(\d+)\)", name)
    if derived:
        return interp23(image(case, derived[1]), int(derived[2]))
    return nchw(arrays(case)[name])


def configured(x: Tensor, case: str, configuration: str) -> Tensor:
    """What the toolbox does to the fused image before the indices: ``th1`` clips it to [0, 2^L]."""
    return x.clamp(0, 2 ** CASES[case]["L"]) if configuration.endswith("th1") else x


def pair(case: str, variant: str, configuration: str) -> tuple[Tensor, Tensor]:
    """Fused image and reference of a reduced-resolution case, cut as the configuration says."""
    fused = configured(image(case, CASES[case]["fused"][variant]["array"]), case, configuration)
    reference = image(case, "gt")
    if cut := re.match(r"cut(\d+)", configuration):
        fused, reference = (crop_border(x, int(cut[1])) for x in (fused, reference))
    return fused, reference


def sensor_of(case: str) -> Sensor:
    """The case's sensor; one that the toolbox does not know has gains of 0.3."""
    bands, ratio = CASES[case]["shape"][-1], CASES[case]["ratio"]
    name = SENSOR_NAMES.get(re.sub(r"[^A-Z0-9]", "", CASES[case]["sensor"].upper()))
    if name is None:
        return Sensor("none", "none", ("?",) * bands, 2047, (0.3,) * bands, 0.15, (0, 0, 0), ratio)
    return replace(SENSORS.get(name).obj, ratio=ratio)


@cache
def full_scores(case: str, variant: str, configuration: str) -> dict[str, Tensor]:
    entry = CASES[case]
    fused = configured(image(case, entry["fused"][variant]["array"]), case, configuration)
    ms, pan = image(case, "ms"), image(case, "pan")
    lms = image(case, entry["lms"].split()[0]) if "lms" in entry else None
    hybrid = metrics.hqnr(fused, ms, pan, sensor_of(case), lms)
    plain = metrics.qnr(fused, ms, pan, lms, entry["ratio"])
    names = ("HQNR", "D_lambda_K", "D_s", "QNR", "D_lambda", "D_s_qnr")
    return dict(zip(names, (*hybrid, *plain), strict=True))


def check(found: Tensor, expected: Any) -> None:
    expected = torch.tensor([float(expected)], dtype=torch.float64)
    torch.testing.assert_close(found, expected, **TOLERANCE, equal_nan=True)


@pytest.mark.parametrize(("case", "variant", "configuration", "index"), leaves("RR", "out"))
def test_reduced_resolution(case: str, variant: str, configuration: str, index: str) -> None:
    expected = CASES[case]["fused"][variant]["out"][configuration][index]
    options = {"ratio": CASES[case]["ratio"]} if index == "ERGAS" else {}
    check(REDUCED[index](*pair(case, variant, configuration), **options), expected)


@pytest.mark.parametrize(("case", "variant", "configuration", "index"), leaves("RR", "extra_nocut"))
def test_psnr_and_ssim(case: str, variant: str, configuration: str, index: str) -> None:
    recorded = CASES[case]["fused"][variant]["extra_nocut"]
    fused, reference = pair(case, variant, configuration)
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


@pytest.mark.parametrize(
    ("case", "variant"),
    [
        pytest.param(case, variant, id=f"{case}-{variant}")
        for case, entry in CASES.items()
        if entry["kind"] == "RR"
        for variant in entry["fused"]
    ],
)
def test_q2n_of_every_block(case: str, variant: str) -> None:
    name = f"q2nmap_{variant}"
    if name not in arrays(case):
        pytest.skip(f"{case} holds no {name}")
    found = metrics.q2n_map(*pair(case, variant, "nocut_th0"))[0]
    torch.testing.assert_close(found, torch.from_numpy(arrays(case)[name]), **TOLERANCE)


@pytest.mark.parametrize("case", [c for c, entry in CASES.items() if entry["kind"] == "FR"])
def test_low_resolution_pan_of_d_s(case: str) -> None:
    name = "pan_lp_ds_topleft32"
    if name not in arrays(case):
        pytest.skip(f"{case} holds no {name}")
    ratio = CASES[case]["ratio"]
    low = interp23(resize_bicubic(image(case, "pan"), 1 / ratio), ratio)[..., :32, :32]
    torch.testing.assert_close(low, nchw(arrays(case)[name]), **TOLERANCE)


def test_golden_values_were_found() -> None:
    if "PANSHARP_GOLDEN" in os.environ and not CASES:
        pytest.skip(f"{FOLDER} holds no golden.json")
    assert leaves("RR", "out") or leaves("FR", "out")
