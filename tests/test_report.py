"""The site without a browser: it is whole, its links resolve, its numbers are those of the records."""

import json
import math
import re
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pages
import pytest
from click.testing import CliRunner
from PIL import Image

from pansharp_bench.cli import main
from pansharp_bench.errors import BenchError
from pansharp_bench.figures import read_panels
from pansharp_bench.record import read_all, short_hash
from pansharp_bench.report import svg, write_site
from pansharp_bench.tables import MISSING, columns_of, tables, to_html
from pansharp_bench.tables.formatting import format_value
from pansharp_bench.timings import Figure, Rates, Speeds
from pansharp_bench.timings import write as write_speeds


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    first, records = pages.build(tmp_path_factory.mktemp("report"))
    site = first.parent
    parsed = {p.relative_to(site).as_posix(): pages.parse(p) for p in sorted(site.rglob("*.html"))}
    return site, parsed, records


def of(page):
    return {a.attributes["href"] for a in page.all("a")}


def test_every_page_is_well_formed_and_every_link_leads_somewhere(built):
    site, parsed, records = built
    assert len(parsed) > len(records)
    ids = {name: [e for e in re.findall(r' id="([^"]+)"', (site / name).read_text())] for name in parsed}
    for name, page in parsed.items():
        assert len(ids[name]) == len(set(ids[name])), f"{name} has an id twice"
        for tag, attribute in (("a", "href"), ("link", "href"), ("script", "src"), ("img", "src")):
            for element in page.all(tag):
                target = element.attributes.get(attribute, "")
                if target.startswith("https://"):
                    assert tag == "a", f"{name} loads {target}"
                    continue
                if not target or target == "data:,":
                    continue
                path, _, fragment = target.partition("#")
                at = ((site / name).parent / path).resolve() if path else site / name
                assert at.is_file(), f"{name} leads to {target}"
                if fragment:
                    assert fragment in ids[at.relative_to(site.resolve()).as_posix() if path else name]


def test_notes_show_commands_as_code(tmp_path, built):
    _, _, records = built
    board = replace(tables(records)[0], notes=["by `bench <speed>` & others"])
    assert "<li>by <code>bench &lt;speed&gt;</code> &amp; others</li>" in to_html(board)
    site = write_site(records[:1], tmp_path / "site", results=pages.RESULTS).parent  # with its speeds
    notes = [
        p.read_text().partition('<ul class="notes">')[2].partition("</ul>")[0] for p in site.glob("boards/*")
    ]
    assert any("<code>bench " in n for n in notes) and not any("`" in n for n in notes)


def test_a_large_board_draws_its_first_rows_and_names_no_more_points_than_fit(tmp_path, built):
    _, _, records = built
    item = next(r for r in records if r.method["name"] == "gsa" and r.simulated)
    many = []
    for i in range(104):
        card = item.method | {"name": f"gsa-{i}", "title": f"No. {i}"}
        many.append(replace(item, spec=item.spec | {"method": card["name"]}, method=card))
    timed = [
        Figure("inference", r.spec["method"], r.dataset["channels"], 1 << 16, seconds=0.01) for r in many
    ]
    here = {"device": "cpu", "processor": "Some Chip", "threads": 1}
    write_speeds(Speeds("2026-01-01", here, {}, Rates(1e9, 1e9), timed), tmp_path)
    site = write_site(many, tmp_path / "site", results=tmp_path).parent
    board = pages.parse(next(site.glob("boards/*reduced.html")))
    assert "Of the first 100 rows." in board.text
    dots, boxes, *_ = [c for c in board.all("svg") if "chart" in c.attributes.get("class", "")]
    assert len(list(dots.all("circle"))) == 104 and not any(list(a.all("text")) for a in dots.all("a"))
    assert sum("No. " in t.text for t in boxes.all("text")) == 100


def test_nothing_is_loaded_from_elsewhere(built):
    site, _, _ = built
    for asset in ("style.css", "site.js"):
        text = (site / asset).read_text()
        assert "http" not in text and "import " not in text and "fetch" not in text
        assert set(re.findall(r"url\((.)", text)) <= {"#"}


def board_rows(page):
    """(cells by column label, row) of every row of a leaderboard."""
    table = page.first("table", id="board")
    labels = [b.text for b in table.first("thead").all("th")]
    for row in table.all("tr"):
        if "data-source" in row.attributes:
            cells = [c for c in row.children if not isinstance(c, str)]
            yield dict(zip(labels, cells, strict=True)), row


def test_every_number_of_a_board_is_that_of_the_records_its_row_links_to(built):
    _, parsed, records = built
    by_page = {f"runs/{r.spec['method']}-{short_hash(r)}.html": r for r in records}
    checked = 0
    for name in [n for n in parsed if n.startswith("boards/")]:
        protocol = re.fullmatch(r"boards/.*-(\w+)\.html", name)[1]
        for cells, row in board_rows(parsed[name]):
            found = [by_page[link.removeprefix("../")] for link in of(cells["Record"])]
            if not found:
                assert row.attributes["data-source"] == "published"
                continue
            entry = {
                c.label: c for c in columns_of(_protocol(found[0], protocol), found[0].dataset["channels"])
            }
            for heading, cell in cells.items():
                column = entry.get(heading.partition(" ")[0])
                if column is None or "data-v" not in cell.attributes:
                    continue
                means = [r.protocols[protocol]["mean"][column.name] for r in found]
                mean, shown = sum(means) / len(means), float(cell.attributes["data-v"])
                assert shown == pytest.approx(mean, rel=1e-12, nan_ok=True)
                assert cell.own_text("small") == format_value(mean, column.digits)
                checked += 1
    assert checked > 500


def _protocol(record, name):
    from pansharp_bench.registry import TRACKS

    return next(p for p in TRACKS.get(record.spec["track"]).obj.protocols if p.name == name)


def test_a_run_shows_its_scores_its_values_per_image_and_its_provenance(built):
    _, parsed, records = built
    for record in records:
        page = parsed[f"runs/{record.spec['method']}-{short_hash(record)}.html"]
        text = page.text
        for told in (record.spec_sha256, record.created, record.path(Path("results")).as_posix()):
            assert told in text
        for file in record.dataset["files"]:
            assert file["sha256"] in text and file["path"] in text
        assert record.environment["packages"]["torch"] in text
        assert all(k in text for k in record.spec["options"])
        for name, scored in record.protocols.items():
            columns = {c.label: c for c in columns_of(_protocol(record, name), record.dataset["channels"])}
            for row in page.first("table", data_protocol=name).first("tbody").all("tr"):
                heading, mean, std, chart, _ = (c for c in row.children if not isinstance(c, str))
                column = columns[heading.text.partition(" ")[0]]
                assert mean.text == format_value(scored["mean"][column.name], column.digits)
                assert std.text == format_value(scored["std"][column.name], column.digits)
                finite = sum(map(math.isfinite, scored["scores"][column.name]))
                assert bool(list(chart.all("svg"))) == (finite > 1)
            for block in page.all("pre", data_protocol=name):
                head, *lines = [line.split("\t") for line in block.text.strip().splitlines()]
                assert len(lines) == scored["images"]
                for i, label in enumerate(head):
                    column = columns[label]
                    values = [format_value(v, column.digits) for v in scored["scores"][column.name]]
                    assert [line[i] for line in lines] == values


def printed_beside(page):
    """(measured, text of what is printed below it) of every cell that has both."""
    for cells, row in board_rows(page):
        for cell in cells.values():
            for small in cell.all("small", **{"class": "printed"}):
                assert row.attributes["data-source"] == "measured"
                yield float(cell.attributes["data-v"]), small


def test_a_published_value_of_other_images_stands_beside_the_measured_one_alone(built):
    _, parsed, _ = built
    page = parsed["boards/qb-sim-reduced.html"]
    beside = list(printed_beside(page))
    assert len(beside) > 10 and "orientation only" in page.text
    assert all(small.text == small.attributes["data-v"] for _, small in beside)


def test_of_the_very_images_the_difference_is_told(built, tmp_path):
    """As if the files were PanCollection's own."""
    _, _, records = built
    own = []
    for item in (r for r in records if r.dataset["name"] == "gf2-mini" and not r.spec["changed"]):
        files = [{**f, "verified": True} for f in item.dataset["files"]]
        spec = {**item.spec, "dataset": "gf2"}
        own.append(replace(item, spec=spec, dataset={**item.dataset, "name": "gf2", "files": files}))
    write_site(own, tmp_path / "site", pictures=0)
    beside = list(printed_beside(pages.parse(tmp_path / "site" / "boards" / "gf2-reduced.html")))
    assert len(beside) > 10
    for measured, small in beside:
        printed, difference = re.fullmatch(r"(\S+) \((\S+)\)", small.text).groups()
        decimals = len(difference.partition(".")[2])
        expected = measured - float(printed)
        assert float(difference.replace("−", "-")) == pytest.approx(expected, abs=0.51 * 10**-decimals)


def test_rows_of_other_options_are_told_apart(built):
    _, parsed, records = built
    rows = list(board_rows(parsed["boards/gf2-mini-reduced.html"]))
    trials = [cells for cells, row in rows if "data-trial" in row.attributes]
    trial = records[-1]  # see pages.records
    pages_of_trials = set().union(*(of(cells["Record"]) for cells in trials))
    assert f"../runs/{trial.spec['method']}-{short_hash(trial)}.html" in pages_of_trials
    (of_trial,) = (c for c in trials if f"{short_hash(trial)}.html" in "".join(of(c["Record"])))
    assert "steps=7" in of_trial["Method"].text
    own = [
        cells["Method"].first("a").text
        for cells, row in rows
        if "data-trial" not in row.attributes and of(cells["Record"])
    ]
    assert {cells["Method"].first("a").text for cells in trials} <= set(own)


def test_a_method_has_its_card_its_presets_and_all_its_rows(built):
    _, parsed, records = built
    page = parsed["methods/sp-i2i.html"]
    assert "Structure-Preserving Unpaired Image Translation" in page.text
    options = next(t for t in page.all("table") if "standard" in t.text and "timesteps" in t.text)
    assert [h.text for h in options.first("thead").all("th")] == ["option", "quick", "standard", "paper"]
    runs = {f"../runs/sp-i2i-{short_hash(r)}.html" for r in records if r.method["name"] == "sp-i2i"}
    assert runs & of(page) and "https://doi.org/10.1109/TGRS.2007.901007" in of(parsed["methods/gsa.html"])


def test_a_dataset_says_what_it_is_where_it_comes_from_and_what_is_wrong_with_it(built):
    _, parsed, _ = built
    mini, simulated = parsed["datasets/gf2-mini.html"].text, parsed["datasets/qb-sim.html"].text
    assert "not the originals" in mini and "github.com/liangjiandeng/PanCollection" in mini
    assert "this PAN is aliased" in mini  # of results/remarks.toml
    assert (
        "bench data check qb-sim" in simulated and "not comparable with results on real imagery" in simulated
    )
    assert "red, of the source" in parsed["datasets/junocam2hst-sim.html"].text


def test_pictures_are_those_of_simulated_sets_alone_and_written_once(built):
    site, parsed, _ = built
    assert "viewer" not in (site / "datasets/gf2-mini.html").read_text()
    page = parsed["datasets/qb-sim.html"]
    scenes = json.loads(page.first("script", type="application/json").text)
    assert len(scenes) == 1 and [*scenes[0]["inputs"]] == ["PAN", "MS", "reference"]
    assert {run["label"] for run in scenes[0]["runs"]} == {"GSA", "EXP"}
    shown = [*scenes[0]["inputs"].values(), *(p for run in scenes[0]["runs"] for p in run["panels"].values())]
    assert sorted(shown) == sorted(p.relative_to(site).as_posix() for p in (site / "pictures").iterdir())
    assert all(Image.open(site / p).width in (24, 96) for p in shown)
    assert all(run["top"] > 0 for run in scenes[0]["runs"])


def test_a_row_of_pictures_can_be_taken_apart_again(tmp_path, built):
    _, _, records = built
    item = next(r for r in records if r.method["name"] == "gsa")
    pages.draw(item, tmp_path)
    (path,) = tmp_path.rglob("*.png")
    panels, top = read_panels(path)
    assert [*panels] == ["PAN", "MS", "fused", "reference", "mean |error| over bands"] and 0 < top < 200
    assert panels["MS"].size == (24, 24) and panels["PAN"].size == (96, 96)
    Image.new("RGB", (9, 9)).save(tmp_path / "plain.png")
    assert read_panels(tmp_path / "plain.png") == ({}, None)


def test_spectra_and_histograms_of_the_calibration_track_are_drawn(built):
    _, parsed, _ = built
    text = parsed["boards/junocam2hst-sim-calibration.html"].text
    assert "Power spectra" in text and "Histogram, blue" in text
    paths = [
        p
        for p in parsed["boards/junocam2hst-sim-calibration.html"].all("path")
        if "dashed" in p.attributes.get("class", "")
    ]
    assert {p.first("title").text for p in paths} == {"source", "target", "truth"}


def test_losses_of_a_run_are_drawn_where_its_log_lies(tmp_path, built):
    _, _, records = built
    item = next(r for r in records if r.method["name"] == "sp-i2i")
    log = item.path(tmp_path / "runs").with_suffix("") / "losses.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps({"step": s, "G": 1 / s, "D": s}) + "\n" for s in (1, 2, 3)))
    first = write_site([item], tmp_path / "site", runs=tmp_path / "runs")
    page = pages.parse(first.parent / f"runs/sp-i2i-{short_hash(item)}.html")
    captions = [f.text for f in page.all("figcaption")]
    assert {"G", "D"} <= set(captions)


def test_a_methods_page_shows_its_newest_training_and_its_pictures_by_dataset(tmp_path, built):
    _, _, records = built
    runs = tmp_path / "runs"
    mine = [r for r in records if r.method["name"] == "sp-i2i" and r.simulated]
    newest = {r.dataset["name"]: r for r in sorted(mine, key=lambda r: r.created)}
    for item in mine:
        pages.draw(item, runs)
        log = item.path(runs).with_suffix("") / "losses.jsonl"
        log.write_text("".join(json.dumps({"step": s, "G": 1 / s}) + "\n" for s in (1, 2, 3)))
    first = write_site(mine, tmp_path / "site", runs=runs)
    page = pages.parse(first.parent / "methods/sp-i2i.html")
    assert [f.text for f in page.all("figcaption")].count("G") == len(newest)
    assert all(f"{name}, preset" in page.text and short_hash(r) in page.text for name, r in newest.items())
    scenes = json.loads(page.first("script", type="application/json").text)
    assert {s["name"].partition(",")[0] for s in scenes} == set(newest)


def test_the_same_records_give_the_same_site(tmp_path, built):
    _, _, records = built
    some = [r for r in records if r.method["name"] in ("gsa", "cut")]
    contents = []
    for order in (some, some[::-1]):
        first = write_site(order, tmp_path / "site", pages.RESULTS)
        contents.append(
            {p.relative_to(first.parent): p.read_bytes() for p in first.parent.rglob("*") if p.is_file()}
        )
    assert contents[0] == contents[1]
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_a_folder_of_something_else_is_left_alone(tmp_path, built):
    _, _, records = built
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(BenchError, match="something else"):
        write_site(records[:1], tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]


def test_what_a_plugin_calls_itself_is_text(tmp_path, built):
    _, _, records = built
    item = next(r for r in records if r.method["name"] == "gsa" and r.simulated)
    rogue = replace(item, method=item.method | {"name": "rogue", "title": "<script>x</script>&"})
    pages.draw(rogue, tmp_path / "runs")
    first = write_site([rogue], tmp_path / "site", runs=tmp_path / "runs")
    for path in first.parent.rglob("*.html"):
        assert "<script>x" not in path.read_text()
        pages.parse(path)


def test_a_score_that_is_missing_or_infinite_is_shown_as_such(tmp_path, built):
    _, _, records = built
    item = next(r for r in records if r.method["name"] == "gsa" and r.simulated)
    scores = {"ERGAS": [1.0, math.nan, 2.0], "PSNR": [math.inf] * 3}
    from pansharp_bench.record import summarise

    odd = replace(item, protocols={"reduced": summarise(scores)})
    site = write_site([odd], tmp_path / "site").parent
    cells, _ = next(board_rows(pages.parse(next(site.glob("boards/*.html")))))
    assert cells["ERGAS ↓"].own_text("small") == MISSING and cells["PSNR ↑"].own_text("small") == "∞"
    assert "1 missing" in pages.parse(next(site.glob("runs/*.html"))).text
    assert 'data-v="inf">∞' in (site / "methods/gsa.html").read_text()  # which sorts it


def test_the_command_says_where_the_page_is(tmp_path):
    args = [
        "report",
        "--results",
        str(pages.RESULTS),
        "--out",
        str(tmp_path / "site"),
        "--runs",
        str(tmp_path),
    ]
    done = CliRunner().invoke(main, [*args, "--dataset", "junocam2hst-uvm-sim"])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith((tmp_path / "site/index.html").as_uri())
    refused = CliRunner().invoke(main, [*args, "--dataset", "qb-simm"])
    assert refused.exit_code == 2 and "qb-simm" in refused.output and "qb-sim," in refused.output


def test_ticks_are_round_and_lie_within():
    for low, high in ((0.013, 0.97), (3, 12.9), (1e-7, 400), (5, 5.0001), (-3, 8)):
        for log in (False, True) if low > 0 else (False,):
            found = svg.ticks(low, high, log)
            assert all(low <= t <= high * (1 + 1e-9) for t in found) and 1 <= len(found) <= 12
            if log:
                assert all(float(f"{t:.0e}") == pytest.approx(t) for t in found)
            else:
                (step,) = {f"{b - a:.3e}"[:5] for a, b in pairwise(found)}
                assert len(found) >= 4 and step in ("1.000", "2.000", "5.000")
    assert svg.distribution([1.0]) == "" and svg.distribution([math.nan, 1.0, 2.0])


def test_the_committed_site_is_of_the_committed_records():
    """Renewed by `bench report --dataset SETS --out docs/site --runs RUNS`, SETS being all simulated ones."""
    root = Path(__file__).resolve().parents[1]
    listed = subprocess.run(["git", "ls-files", "results"], cwd=root, capture_output=True, text=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("not a git checkout")
    staged = {root / line for line in listed.stdout.splitlines()}  # whatever was run here since
    records = (r for p, r in read_all(root / "results") if p in staged)
    wanted = {
        f"{r.spec['method']}-{short_hash(r)}.html" for r in records if r.dataset["name"].endswith("-sim")
    }
    assert {p.name for p in (root / "docs" / "site" / "runs").iterdir()} == wanted
