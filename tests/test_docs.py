"""Pages lead where they say: links, headings, commands and their options, examples."""

import json
import os
import re
import shlex
import shutil
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from pansharp_bench.cli import main
from pansharp_bench.method import TrainedMethod, build, resolve_config
from pansharp_bench.registry import DATASETS, METHODS
from pansharp_bench.scene import as_sensor

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(p for d in ("docs", "results", "benchmarks", "tests") for p in (ROOT / d).rglob("*.md")),
]
FENCE = re.compile(r"^ *(```+) *(\w*)[^\n]*\n(.*?)^ *\1 *$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[(?:[^\[\]]|!?\[[^\]]*\]\([^)]*\))*\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)")
SHELL = ("", "sh", "bash", "console")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def prose(text: str) -> str:
    return FENCE.sub("", text)


def headings(text: str) -> set[str]:
    """Anchors as GitHub makes them of headings."""
    found: list[str] = []
    for title in re.findall(r"^#+ +(.+?) *#*$", prose(text), re.MULTILINE):
        shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).replace("`", "").lower()
        slug = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return {*found, *re.findall(r'<a (?:id|name)="([^"]+)"', text)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page):
    broken = []
    for link in LINK.findall(SPAN.sub("", prose(page.read_text()))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        there = target.exists() and target.resolve().is_relative_to(ROOT)
        if not there or (anchor and anchor not in headings(target.read_text())):
            broken.append(link)
    assert not broken


# -- commands --


@dataclass(frozen=True)
class Mention:
    """A command as a page shows it: whole on a line of its own, or named in a sentence, perhaps in part."""

    page: str
    text: str
    whole: bool


def mentions(page: Path) -> list[Mention]:
    text, found = page.read_text(), []
    for _, language, body in FENCE.findall(text):
        for line in re.sub(r"\s*\\\n\s*", " ", body).splitlines() if language in SHELL else ():
            command = re.split(r" #" if language else r" {2,}", line.strip())[0]  # a remark follows
            if command.startswith("bench "):
                found.append(Mention(name(page), command.strip(), True))
    for span in SPAN.findall(prose(text)):
        if re.match(r"bench [a-z]", span):
            found.append(Mention(name(page), " ".join(span.split()), False))
    return list(dict.fromkeys(found))


COMMANDS = [m for page in PAGES for m in mentions(page)]


def check(text: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises click's own UsageError where the command would; nothing is run."""
    words = shlex.split(text)[1:]
    command: click.Command = main
    context = click.Context(command, info_name="bench")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        word, found, words = command.resolve_command(context, words)
        assert found is not None
        command, context = found, click.Context(found, info_name=word, parent=context)
    if not whole:
        options = {o for p in (*command.params, command.get_help_option(context)) if p for o in p.opts}
        for word in words:
            if word.startswith("-") and word.partition("=")[0] not in options:
                raise click.NoSuchOption(word, ctx=context)
        return
    for parameter in command.params:
        monkeypatch.setattr(parameter, "callback", None)  # these would load plug-ins
    given = command.make_context(context.info_name, list(words), parent=context.parent).params
    if command.name == "run" and "--plugin" not in words:
        options = dict(pair.split("=") for pair in given["options"])
        for method in given["method"].split(","):
            resolve_config(METHODS.get(method), given["preset"] or "quick", options)


@pytest.mark.parametrize("mention", COMMANDS, ids=lambda m: f"{m.page}: {m.text}")
def test_commands_exist_with_their_options(mention, monkeypatch):
    check(mention.text, mention.whole, monkeypatch)


def test_pages_are_read():
    """What the tests above go through is there."""
    shown = {m.text for m in COMMANDS if m.whole and m.page == "README.md"}
    assert "bench data project JNCE_*-raw.png --kernels DIR --out map.tif" in shown
    assert len(COMMANDS) > 50 and any(not m.whole for m in COMMANDS)
    assert "the-second-stage-ultraviolet-and-methane" in headings((ROOT / "docs/junocam2hst.md").read_text())
    assert LINK.findall('[![a](b.png)](c.md) [d](e.md#f "g") ![h](i.png)') == ["c.md", "e.md#f", "i.png"]


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("bench walk", False),
        ("bench data walk", False),
        ("bench run --methods gsa", False),
        ("bench run --method gsa", True),
        ("bench run --method gsa --dataset qb --seed one", True),
        ("bench leaderboard --format pdf", True),
        ("bench table 2 --seeds", True),
        ("bench figure cost --dataset qb-sim", True),
    ],
)
def test_commands_that_do_not_exist_are_noticed(text, whole, monkeypatch):
    with pytest.raises(click.UsageError):
        check(text, whole, monkeypatch)


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {t for page in PAGES for t in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(), re.MULTILINE)}
    assert {"run", "test"} <= named <= targets


# -- Python --


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_examples_are_python(page):
    for _, language, body in FENCE.findall(page.read_text()):
        if language == "python":
            compile(body, name(page), "exec")


def test_a_scene_is_sharpened_as_the_page_says(tmp_path, monkeypatch, capsys):
    import rasterio
    from rasterio.transform import from_origin

    from pansharp_bench.imaging import wald_degrade

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 5, 16, 16, generator=generator)
    bands = torch.nn.functional.interpolate(coarse, (128, 128), mode="bicubic").clamp(0, 1)
    truth = 200 + 900 * (bands[:, :4] + 2 * bands[:, 4:]) / 3
    ms = wald_degrade(truth, truth.mean(1, keepdim=True), "qb").ms
    monkeypatch.chdir(tmp_path)
    for file, image, pixel in (("pan.tif", truth.mean(1), 0.6), ("ms.tif", ms[0], 2.4)):
        values = image.round().short().numpy()
        count, height, width = values.shape
        with rasterio.open(
            file, "w", driver="GTiff", width=width, height=height, count=count, dtype="int16",
            crs="EPSG:32633", transform=from_origin(5e5, 5e6, pixel, pixel),
        ) as out:  # fmt: skip
            out.write(values)

    blocks = [
        b
        for _, language, b in FENCE.findall((ROOT / "docs/sharpening.md").read_text())
        if language == "python"
    ]
    exec("\n".join(blocks), {})
    with rasterio.open("fused.tif") as fused, rasterio.open("pan.tif") as pan:
        assert fused.count == 4 and fused.crs == pan.crs and fused.transform == pan.transform
        error = torch.from_numpy(fused.read())[None] - truth
    expanded = torch.nn.functional.interpolate(ms, (128, 128), mode="bicubic") - truth
    assert error.square().mean() < expanded.square().mean()
    said = capsys.readouterr().out
    assert "'gsa'" in said and "HQNR(hqnr=" in said


# -- commands, run --

ORIGINALS = "needs the originals, or a day of a GPU"
FRAMES = "needs raw frames, kernels or maps: tests/test_junocam_command.py, tests/test_junocam2hst_build.py"
SEGMENTS = "needs segments of a map: tests/test_calibration.py, test_uncertainty.py, test_second_stage.py"
NOT_RUN = {
    r"bench data (project|build|mosaic|spectra)": FRAMES,
    r"bench figure (mosaic|errors)": SEGMENTS,
    r"bench run .*(--each-fold|uvm)": SEGMENTS,
    r"bench data (info|check) +junocam2hst": "needs a file of segments: tests/test_junocam2hst_build.py",
    r"bench data list": "looks for files: tests/test_cli_data.py",
    r"bench table [1-4]$": "minutes of trainings: tests/test_cli_table.py; README.md's --dry-run is run",
    r"bench table . .*--preset paper": ORIGINALS,
    r"bench table . .*--data": "what `bench table N` without it does, on other files",
    r"bench table . .*--recorded": "is run on the records of this repository: tests/test_tables.py",
    r"bench (fuse|assess) .*utm34": "needs an MS in another system: tests/test_resampled.py",
    r"bench fuse .*--scheduler": "starts processes: tests/test_cluster.py",
    r"bench .*--devices": "starts processes: tests/test_teams.py",
    r"bench sweep sweep.toml (--workers|--preset)": "starts processes: tests/test_sweep.py",
}
INSTEAD = {
    "bench sweep --method": "bench run --method",  # the same runs without processes of their own
    "--method cut,unsb,sp-i2i ": "--method grey-affine,exp ",
    "--method sp-i2i,cut ": "--method grey-affine,exp ",
    "grey-net --dataset qb-sim --seeds 0,1,2": "grey-net --dataset qb-sim --seeds 0,1",
    "--out scene": "--out scene --size 320",
    "--out off": "--out off --size 128",
    "--levels 1,2,4,6 --no-gating": "--levels 1",
}
BEFORE = {
    "README.md": [
        "bench run --method gsa,exp,pannet --dataset qb",
        "bench run --method identity --dataset junocam2hst",
    ],
    "docs/extending.md": ["bench new method sharper_bands.py", "bench run --method gsa,exp --dataset qb-sim"],
}


def reason_not_to_run(mention: Mention) -> str:
    shown = f"{mention.page}: {mention.text}"
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, shown)), "")


RUN_PAGES = sorted({m.page for m in COMMANDS if m.whole and not reason_not_to_run(m)})


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what pages presuppose, and tiny sets in the place of those that pages name."""
    import scenes
    from apart import apart
    from stand_ins import stand_ins

    from pansharp_bench.weights import save_weights

    def short(cls, preset, options=None, configure=TrainedMethod.configure.__func__):
        config = configure(cls, preset, options)
        return replace(config, steps=min(config.steps, 2)) if getattr(config, "steps", 0) else config

    monkeypatch.setattr(TrainedMethod, "configure", classmethod(short))
    stack = ExitStack()
    stack.enter_context(apart())
    DATASETS._entries = DATASETS._entries | stand_ins()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PANSHARP_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    for folder in ("PanCollection", "scenes", "data", "DIR"):
        Path(folder).mkdir()
    scenes.write_pair(tmp_path, size=128)
    for number in (2, 3, 4, 5):
        scenes.write(Path(f"B{number}.TIF"), torch.rand(1, 64, 64) * 900 + 100, 30)
    scenes.write(Path("B8.TIF"), torch.rand(1, 128, 128) * 900 + 100, 15)
    for page, begins, file in (("README.md", "# mine.py", "mine.py"), ("docs/scenes.md", "[mine]", "mine.toml"),
                               ("docs/sweeps.md", "datasets =", "sweep.toml")):  # fmt: skip
        bodies = [body for _, _, body in FENCE.findall((ROOT / page).read_text())]
        Path(file).write_text(next(body for body in bodies if body.startswith(begins)))
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    method = build(METHODS.get("pnn"), as_sensor("qb"))
    told = {"method": "pnn", "sensor": "qb", "options": asdict(method.config)}
    save_weights(method.state_dict(), Path("weights.safetensors"), json.dumps(told))
    bench("bench run --method exp --dataset qb --save-fused their-images --results other --runs other")
    for path in (ROOT / "results").glob("pansharpening/*-*/*/*.json"):
        if path.parent.name in ("exp", "gsa", "mtf-glp-fs", "fusionnet"):
            copied = tmp_path / "records" / path.relative_to(ROOT / "results")
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_bytes(path.read_bytes())
    shutil.copytree(ROOT / "results/speed", "results/speed")
    yield tmp_path
    stack.close()


def bench(text: str) -> None:
    for shown, run in INSTEAD.items():
        text = re.sub(re.escape(shown.rstrip()) + r"(?!\S)", run.rstrip(), text)
    words = [os.path.expanduser(word) for word in shlex.split(text)[1:]]
    no_pictures = {command: {"pictures": 0} for command in ("run", "table", "ablate")}
    done = CliRunner().invoke(main, words, default_map=no_pictures)
    assert done.exit_code == 0, f"{text}\n{done.output[-2000:]}\n{done.exception!r}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", RUN_PAGES)
def test_what_pages_show_runs(page, desk):
    if page == "results/README.md":
        shutil.copytree(desk / "records", desk / "results", dirs_exist_ok=True)
    for text in BEFORE.get(page, []):
        bench(text)
    for mention in COMMANDS:
        if mention.page == page and mention.whole and not reason_not_to_run(mention):
            bench(mention.text)


def test_most_of_what_pages_show_is_run():
    """And no reason is kept for a command that no page shows any more."""
    shown = [m for m in COMMANDS if m.whole]
    for pattern in (*NOT_RUN, *map(re.escape, INSTEAD)):
        assert any(re.search(pattern, f"{m.page}: {m.text}") for m in shown), pattern
    run = [m for m in shown if not reason_not_to_run(m)]
    assert len(run) >= 0.65 * len(shown), f"{len(run)} of {len(shown)}"
