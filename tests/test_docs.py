"""Pages lead where they say: links, headings, commands and their options, examples."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import torch

from pansharp_bench.cli import main
from pansharp_bench.method import resolve_config
from pansharp_bench.registry import METHODS

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
