"""Two rows image by image: against numbers of others, and refusing what cannot be told."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from records import make

from pansharp_bench import record as records
from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError
from pansharp_bench.tables import bootstrap_interval, compare, find_row, tables

# heights of cross- and self-fertilised maize plants, Darwin 1876, in eighths of an inch: Wilcoxon's classic
DARWIN = (6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75)


def of(scores, *, method="exp", seed=0, **extra):
    record = make(seed, **scores)
    spec = record.spec | {"method": method} | extra
    card = record.method | {"name": method, "title": method.upper(), "kind": "classical"}
    return replace(record, spec=spec, spec_sha256=records.spec_hash(spec), method=card)


def against(first, second, metric="", **choice):
    (table,) = tables([*first, *second], **choice)
    return compare(
        table, find_row(table, first[0].method["name"]), find_row(table, second[0].method["name"]), metric
    )


def test_the_test_is_wilcoxons():
    (it,) = against(
        [of({"Q2n": [float(d) for d in DARWIN]}, method="cross")], [of({"Q2n": [0.0] * 15}, method="self")]
    )
    assert it.p == pytest.approx(0.04126, abs=1e-5)  # exact, as R's wilcox.test has it
    assert it.effect == pytest.approx((96 - 24) / 120)  # W+ = 96, W- = 24
    assert (it.wins, it.ties, it.losses, it.images) == (13, 0, 2, 15)
    assert it.difference == pytest.approx(20.9333, abs=1e-4)
    assert it.sentence.startswith("CROSS is better than SELF in Q4 by 20.9333 on average (95 % interval ")
    assert (
        "better on 13 of 15 images, worse on 2 (Wilcoxon p = 0.041, rank-biserial effect 0.60 of 1)"
        in it.sentence
    )


def test_low_is_better_where_the_card_says_so_and_ties_are_ties():
    values = [1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    (it,) = against([of({"ERGAS": values}, method="a")], [of({"ERGAS": [1.0] * 8}, method="b")])
    assert (it.wins, it.ties, it.losses) == (0, 3, 5) and it.effect == -1
    (same,) = against([of({"ERGAS": values}, method="a")], [of({"ERGAS": values}, method="b")])
    assert same.p == 1 and same.sentence.startswith("No difference in ERGAS between A and B is shown")


def test_an_interval_about_zero_begins_there_and_an_effect_against_the_mean_is_no_difference():
    """Ranks are sure of what one image makes unsure of the mean, and turns round."""
    for last, said in (
        (-9.0, "A is better than B in Q4 by 0.5855 on average (95 % interval 0.0000 to 1."),
        (
            -40.0,
            "No difference in Q4 between A and B is shown on these 20 images: the mean difference is -0.9645",
        ),
    ):
        gains = [1.0 + i / 100 for i in range(19)] + [last]
        (it,) = against([of({"Q2n": gains}, method="a")], [of({"Q2n": [0.0] * 20}, method="b")])
        assert it.p < 0.05 and it.effect > 0.8 and it.interval[0] < 0 < it.interval[1]
        assert it.sentence.startswith(said), it.sentence


def test_a_score_that_one_row_lacks_is_not_compared():
    six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    found = against([of({"SAM": six, "ERGAS": six}, method="a")], [of({"SAM": six}, method="b")])
    assert [it.column.name for it in found] == ["SAM"]


def test_seeds_are_means_over_images_with_their_spread_beside():
    low, high = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    first = [of({"SAM": low}, method="a"), of({"SAM": high}, method="a", seed=1)]
    (it,) = against(first, [of({"SAM": low}, method="b")])
    assert it.difference == pytest.approx(1) and it.images == 6 and it.seeds == (2, 1)
    assert it.between_seeds[0] == pytest.approx(math.sqrt(2)) and math.isnan(it.between_seeds[1])


def test_fewer_than_six_images_are_not_compared_and_missing_ones_do_not_count():
    six = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    torn = [*six[:5], math.nan]
    with pytest.raises(
        BenchError, match=r"have 5 images in common with scores by any column .* needs 6 at least"
    ):
        against([of({"SAM": torn}, method="a")], [of({"SAM": six}, method="b")])
    (it,) = against([of({"SAM": [*six, math.nan]}, method="a")], [of({"SAM": [*six, 1.0]}, method="b")])
    assert (it.images, it.missing) == (6, 1)
    with pytest.raises(BenchError, match="no column 'Q8'; there are: SAM"):
        against([of({"SAM": six}, method="a")], [of({"SAM": six}, method="b")], "Q8")


def test_images_that_overlap_are_compared_block_by_block():
    """Fifty copies of each of eight images say no more than the eight, whichever record tells the blocks."""
    rng = np.random.default_rng(1)
    gain, base = rng.normal(0.5, 1, 8), rng.normal(5, 1, 8)
    (eight,) = against(
        [of({"SSIM": (base + gain).tolist()}, method="a")], [of({"SSIM": base.tolist()}, method="b")]
    )
    many = [of({"SSIM": np.repeat(x, 50).tolist()}, method=m) for m, x in (("a", base + gain), ("b", base))]
    (naive,) = against(many[:1], many[1:])
    assert naive.p < 1e-4 < eight.p and (naive.units, naive.unit) == (400, "images")
    many[1].protocols["reduced"]["origins"] = {"block": np.repeat(np.arange(8), 50).tolist()}
    (it,) = against(many[:1], many[1:])
    assert (it.images, it.units, it.unit) == (400, 8, "blocks") and "8 blocks" in it.sentence
    assert (it.p, it.wins, it.losses) == (eight.p, eight.wins, eight.losses)
    assert it.interval == pytest.approx(eight.interval) and it.effect == pytest.approx(eight.effect)
    (table,) = tables(many, spread="ci")
    low, high = find_row(table, "a").cells[it.column].interval
    assert high - low == pytest.approx(np.subtract(*bootstrap_interval(base + gain)[::-1]))
    for record in many:  # an image more of the first block moves no mean of a block
        scores = record.protocols["reduced"]["scores"]["SSIM"]
        scores.insert(0, scores[0])
    many[1].protocols["reduced"]["origins"]["block"].insert(0, 0)
    (it,) = against(many[:1], many[1:])
    assert (it.images, it.p) == (401, eight.p) and it.effect == pytest.approx(eight.effect)
    many[1].protocols["reduced"]["origins"] = {"block": [0] * 401}
    with pytest.raises(BenchError, match="have 1 blocks in common"):
        against(many[:1], many[1:])


def test_a_row_is_named_by_method_preset_or_record():
    six = {"SAM": [1.0] * 6}
    found = [
        of(six, preset="quick"),
        of(six, preset="paper"),
        of(six, preset="paper", changed=["x"], options={"x": 1}),
    ]
    (table,) = tables(found)
    assert find_row(table, "exp:paper").records == (found[1],)
    assert find_row(table, found[2].spec_sha256[:8]).records == (found[2],)
    with pytest.raises(BenchError, match=rf"several rows .* {found[0].spec_sha256[:8]} \(quick\)"):
        find_row(table, "exp")
    with pytest.raises(BenchError, match="no row 'gsa'; there are: exp"):
        find_row(table, "gsa")


def test_the_command_prints_a_table_and_a_sentence_or_json(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(5, 1, 20)
    for name, values in (("a", base), ("b", base + 1 + rng.normal(0, 0.1, 20))):
        records.write(of({"SAM": values.tolist(), "ERGAS": (values / 2).tolist()}, method=name), tmp_path)
    words = ["compare", "a", "b", "--dataset", "tiny", "--results", str(tmp_path)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "A is better than B in ERGAS by 0.5" in done.output and "20 / 0 / 0" in done.output
    (it,) = json.loads(CliRunner().invoke(main, [*words, "--metric", "SAM", "--json"]).stdout)
    assert it["metric"] == "SAM" and it["ci95"][0] < it["difference"] < it["ci95"][1] < 0
    assert it["std_over_seeds"] == [None, None]  # NaN is not JSON
    refused = CliRunner().invoke(main, [*words[:1], "a", "c", *words[3:]])
    assert refused.exit_code == 2 and "no row 'c'; there are: a, b" in refused.stderr
