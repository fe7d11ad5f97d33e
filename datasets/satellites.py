"""Satellites: one dataset a sensor, of real scenes under one folder.

The files are PanCollection's, or pairs of PAN and MS; whichever lie there are read. Where both do, PanCollection's
are: they are the ones whose originals are known.
"""

from __future__ import annotations

from pathlib import Path

from pansharp_bench.datasets._real import RealFiles
from pansharp_bench.datasets.pancollection import WHERE, PanCollection, find_files
from pansharp_bench.errors import BenchError
from pansharp_bench.files import expanded
from pansharp_bench.registry import register_dataset

_PAIRMAX = "PAirMax (Vivone et al., IEEE JSTARS 14, 2021)"
_NBU = (
    "the NBU collection (Meng et al. 2021, https://ieeexplore.ieee.org/document/9082183; links: "
    "https://github.com/Lihui-Chen/Awesome-Pansharpening)"
)
_OWN = "no collection of its scenes is known here: take your own"


def _register(sensor: str, title: str, where: str, summary: str, **card: str) -> None:
    @register_dataset(sensor, title=title, sensor=sensor, summary=f"{summary}, {title}", where=where, **card)
    def load(root: Path | None = None, label: str | None = None, **options: object) -> RealFiles:
        if given := [k for k, v in options.items() if v is not None]:
            raise BenchError(f"dataset {sensor!r} is made of files and has no option {', '.join(given)}")
        folder = expanded(root) if root else None
        if folder and not any(name == sensor for name, _ in find_files(folder)):
            from pansharp_bench.datasets._pairs import Pairs, scenes_under

            if found := scenes_under(folder, sensor):
                return Pairs(sensor, folder, found, label)
        return PanCollection(
            sensor, root, label
        )  # which says what was looked for, where that is not there either


for _sensor, _title, _card in (
    ("qb", "QuickBird", {"stand_in": "qb-sim", "published": "QB"}),
    ("gf2", "GaoFen-2", {"stand_in": "gf2-sim", "published": "GF2"}),
    ("wv3", "WorldView-3", {"stand_in": "wv3-sim", "published": "WV3"}),
    ("wv2", "WorldView-2", {"published": "WV2"}),
):
    _register(_sensor, _title, WHERE, "PanCollection, or pairs of PAN and MS", **_card)

for _sensor, _title, _where in (
    ("ge1", "GeoEye-1", _PAIRMAX),
    ("wv4", "WorldView-4", f"{_PAIRMAX}, or {_NBU}"),
    ("ikonos", "IKONOS", _NBU),
    ("pleiades", "Pléiades-1", _OWN),
    ("spot6", "SPOT-6 and SPOT-7", _OWN),
    ("deimos2", "Deimos-2", _OWN),
    ("l8", "Landsat-8 and Landsat-9 (OLI)", "https://earthexplorer.usgs.gov"),
):
    _register(_sensor, _title, _where, "pairs of PAN and MS, or files of PanCollection's form")
