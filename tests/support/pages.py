"""A site of committed records, some with pictures, and what a reader of HTML without a browser needs."""

from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import torch

from pansharp_bench import record
from pansharp_bench.figures import compare_scene
from pansharp_bench.report import write_site
from pansharp_bench.scene import Scene, as_sensor

RESULTS = Path(__file__).resolve().parents[2] / "results"
DATASETS = ("qb-sim", "junocam2hst-sim", "gf2-mini")  # simulated, with curves, and a real one with trials
VOID = {"meta", "link", "input", "img", "br"}


def records():
    """Those of the datasets, and one more of other options than its preset's."""
    found = [item for _, item in record.read_all(RESULTS) if item.dataset["name"] in DATASETS]
    own = next(r for r in found if r.dataset["name"] == "gf2-mini" and r.spec["options"].get("steps"))
    spec = own.spec | {"options": own.spec["options"] | {"steps": 7}, "changed": ["steps"]}
    return [*found, replace(own, spec=spec, spec_sha256=record.spec_hash(spec))]


def draw(item, runs, seed=0):
    """A run's pictures, of an invented scene."""
    generator = torch.Generator().manual_seed(seed)
    gt = torch.rand(1, 4, 96, 96, generator=generator) * 2047
    ms = torch.nn.functional.avg_pool2d(gt, 4)
    scene = Scene(as_sensor("qb"), pan=gt.mean(1, keepdim=True), ms=ms, lms=None, gt=gt)
    fused = gt + 200 * torch.rand(
        gt.shape, generator=torch.Generator().manual_seed(ord(item.method["name"][0]))
    )
    compare_scene(scene, fused, item.path(runs).with_suffix("") / "pictures" / "reduced-00.png", "drawn")


def build(folder):
    """The site of these records below ``folder``; its first page, and the records."""
    chosen, runs = records(), folder / "runs"
    for dataset in ("qb-sim", "gf2-mini"):
        for item in [
            r for r in chosen if r.dataset["name"] == dataset and r.method["name"] in ("gsa", "exp")
        ]:
            draw(item, runs)
    return write_site(chosen, folder / "site", RESULTS, runs), chosen


@dataclass
class Element:
    tag: str
    attributes: dict
    children: list = field(default_factory=list)

    def all(self, tag, **having):
        """Every element of this tag below, in order, with these attributes (``data_v`` for ``data-v``)."""
        for child in self.children:
            if isinstance(child, Element):
                wanted = {k.replace("_", "-"): v for k, v in having.items()}
                if child.tag == tag and all(child.attributes.get(k) == v for k, v in wanted.items()):
                    yield child
                yield from child.all(tag, **having)

    def first(self, tag, **having):
        return next(self.all(tag, **having))

    @property
    def text(self):
        return "".join(c if isinstance(c, str) else c.text for c in self.children)

    def own_text(self, without):
        """Text outside of the elements of a tag."""
        kept = (c for c in self.children if isinstance(c, str) or c.tag != without)
        return "".join(c if isinstance(c, str) else c.text for c in kept)


class _Strict(HTMLParser):
    """Refuses what a browser would mend: elements left open or closed crosswise."""

    def __init__(self):
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}> at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data):
        self.open[-1].children.append(data)


def parse(path):
    """The elements of a page; AssertionError where it is not well-formed."""
    parser = _Strict()
    parser.feed(Path(path).read_text(encoding="utf-8"))
    parser.close()
    assert len(parser.open) == 1, f"{path}: <{parser.open[-1].tag}> is left open"
    return parser.open[0]
