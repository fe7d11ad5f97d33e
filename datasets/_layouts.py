"""Which files under a folder are the PAN, MS and reference of which scene, split and sensor, by their names.

Nothing is opened for that but ``.mat`` files whose name does not say what they hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from pansharp_bench.datasets._real import walk
from pansharp_bench.errors import DataError
from pansharp_bench.scene import SplitName

T = TypeVar("T")

SUFFIXES = (".tif", ".tiff", ".mat")

# "MS" is what the sensor took, unless MS_LR lies beside it: then it is MS expanded, as in the field's toolbox
_ROLES = {
    "pan": "pan", "panchromatic": "pan", "ms": "ms", "mul": "ms", "mslr": "low", "lrms": "low", "lms": "lms",
    "gt": "gt", "truth": "truth", "rgb": "rgb", "nir": "nir",
}  # fmt: skip
_ROLE = "|".join(("panchromatic", "pan", "ms_?lr", "lr_?ms", "lms", "ms", "mul", "gt", "truth", "rgb", "nir"))
_ALONE = re.compile(rf"(?:i_|img_?)?({_ROLE})", re.IGNORECASE)
_SIZED = re.compile(rf"({_ROLE})(?:_?\d+)?", re.IGNORECASE)  # of a folder: PAN_1024
_LAST = re.compile(rf"(.+?)[ _.-]({_ROLE})", re.IGNORECASE)
_FIRST = re.compile(rf"({_ROLE})[ _.-]?(\d+)", re.IGNORECASE)

_MORE = r"(?:data|dataset|set|examples?|resolution|res)*(?:h5format|matformat)?\d*"
_SPLITS: dict[str, re.Pattern[str]] = {
    "train": re.compile(rf"train(?:ing)?{_MORE}"),
    "valid": re.compile(rf"val(?:id(?:ation)?)?{_MORE}"),
    "full": re.compile(rf"(?:fr|full|origscale){_MORE}"),
    "reduced": re.compile(rf"(?:rr|reduced){_MORE}"),
}

# what collections call their satellites; of those that are no sensor here it is good to know that they are others
_CALLED = {
    "quickbird": "qb", "gaofen2": "gf2", "worldview2": "wv2", "worldview3": "wv3", "worldview4": "wv4",
    "geoeye1": "ge1", "geoeye": "ge1", "ikonos": "ikonos", "pleiades1": "pleiades", "phr": "pleiades",
    "spot7": "spot6", "landsat8": "l8", "landsat9": "l8", "lc8": "l8", "gf1": "gf1", "gaofen1": "gf1", "gf6": "gf6",
    "gaofen6": "gf6", "lc7": "l7", "landsat7": "l7",
}  # fmt: skip
_CALLED |= {n: n for n in ("qb", "gf2", "wv2", "wv3", "wv4", "ge1", "pleiades", "spot6", "deimos2", "l8")}
_PAIRMAX = re.compile(r"(GE|W2|W3|W4|Pl|S7)_[A-Z][a-z]{3}_(?:Urb|Mix|Nat)")
_PAIRMAX_SENSORS = {"GE": "ge1", "W2": "wv2", "W3": "wv3", "W4": "wv4", "Pl": "pleiades", "S7": "spot6"}
_PANBENCH = {"IN": "ikonos"}


@dataclass(frozen=True)
class SceneFiles:
    """One scene: its name (the place below the root) and the files of each role, ``pan``, ``ms``, and perhaps
    ``lms`` and ``gt``. One ``.mat`` may hold several roles. MS may be several files, which hold its bands
    ``coloured`` red, green, blue, near infrared."""

    name: str
    split: SplitName
    files: Mapping[str, tuple[Path, ...]]
    coloured: bool = False

    @property
    def paths(self) -> list[Path]:
        """Every file, once."""
        return list(dict.fromkeys(path for paths in self.files.values() for path in paths))


def role_of(name: str) -> str | None:
    """What an array or a file of this name holds; None where the name does not say."""
    match = _ALONE.fullmatch(name)
    return _ROLES[match[1].lower().replace("_", "")] if match else None


def resolved(named: Mapping[str, T]) -> dict[str, T]:
    """By the roles of a scene, what was named by these: of MS and MS_LR, the first is MS expanded."""
    own = dict(named)
    if "low" in own:
        own |= {"lms": own["ms"]} if "ms" in own else {}
        own["ms"] = own.pop("low")
    if "truth" in own:
        own["gt"] = own.pop("truth")
    return own


def find_scenes(
    root: Path, sensor: str, names_in: Callable[[Path], tuple[str, ...]]
) -> dict[SplitName, list[SceneFiles]]:
    """The scenes of a sensor below a folder, by split, in natural order; ``names_in`` tells the arrays of a file.

    Where any folder or file below says its satellite, those of this sensor alone are taken; else all are.
    Raises DataError for a scene that lacks its PAN, MS or reference, or has several.
    """
    parts: dict[tuple[str, ...], dict[str, list[Path]]] = {}
    for path in _images(root):
        key, role = _place(path.relative_to(root))
        roles = [role] if role else _roles_of_arrays(path, names_in)
        for role in roles:
            parts.setdefault(key, {}).setdefault(role, []).append(path)
    satellites = {key: _satellite(key) for key in parts}
    if any(satellites.values()):
        parts = {key: roles for key, roles in parts.items() if satellites[key] == sensor}
    scenes = [_scene(root, key, parts[key]) for key in sorted(parts, key=_naturally)]
    order = ("train", "valid", "reduced", "full")
    found = {cast(SplitName, s): [scene for scene in scenes if scene.split == s] for s in order}
    return {split: some for split, some in found.items() if some}


def satellites_in(root: Path) -> set[str]:
    """The sensors that names of folders and images below a folder tell."""
    return {name for path in _images(root) if (name := _satellite(_place(path.relative_to(root))[0]))}


def _images(root: Path) -> Iterator[Path]:
    for folder, _, files in walk(root):
        for name in files:
            if Path(name).suffix.lower() in SUFFIXES:
                yield folder / name


def _place(path: Path) -> tuple[tuple[str, ...], str | None]:
    """To which scene a file belongs, as the parts of a path, and what it holds (None: its name does not say)."""
    folders, stem = path.parts[:-1], path.stem
    within = _SIZED.fullmatch(folders[-1]) if folders else None
    role = role_of(stem)
    if role:
        return folders, role
    if match := _LAST.fullmatch(stem):
        rest, own = match[1], match[2]
    elif match := _FIRST.fullmatch(stem):
        rest, own = match[2], match[1]
    else:
        rest, own = stem, ""
    if within and (not own or own.lower() == within[1].lower()):
        own, folders = within[1], folders[:-1]
    return (*folders, rest), _ROLES[own.lower().replace("_", "")] if own else None


def _roles_of_arrays(path: Path, names_in: Callable[[Path], tuple[str, ...]]) -> list[str]:
    """Of a file that holds a whole scene; none where it holds something else."""
    if path.suffix.lower() != ".mat":
        return []
    roles = [role for name in names_in(path) if (role := role_of(name))]
    return roles if {"pan"} < set(roles) else []


def _scene(root: Path, key: tuple[str, ...], roles: Mapping[str, list[Path]]) -> SceneFiles:
    name = "/".join(key) or root.name
    if double := next((paths for paths in roles.values() if len(paths) > 1), None):
        listed = ", ".join(str(p) for p in double)
        raise DataError(
            f"scene {name} under {root} has {len(double)} files for one image: {listed}; leave one"
        )
    split, told = _split(key, roles)
    own = resolved({role: tuple(paths) for role, paths in roles.items()})
    coloured = "ms" not in own and {"rgb", "nir"} <= own.keys()
    if coloured:
        own["ms"] = own["rgb"] + own["nir"]
    wanted = ("pan", "ms", "gt") if told and split == "reduced" else ("pan", "ms")
    if missing := [role for role in wanted if role not in own]:
        here = ", ".join(str(p.relative_to(root)) for paths in roles.values() for p in paths)
        names = {"pan": "pan.tif", "ms": "ms.tif (or MS_LR.tif, or RGB_256/ and NIR_256/)", "gt": "gt.tif"}
        raise DataError(
            f"scene {name} under {root} has no {' and no '.join(m.upper() for m in missing)}: found {here}; looked "
            f"for {', '.join(names[m] for m in missing)} or the like"
        )
    kept: dict[str, tuple[Path, ...]] = {
        role: own[role] for role in ("pan", "ms", "lms", "gt") if role in own
    }
    return SceneFiles(name, split, kept, coloured)


def _split(key: tuple[str, ...], roles: Container[str]) -> tuple[SplitName, bool]:
    """The split of a scene, and whether a name tells it. Else a reference makes it one of reduced resolution."""
    for part in key:
        plain = re.sub(r"[^a-z0-9]", "", part.lower())
        words = [w for w in re.split(r"[^a-z0-9]+", part.lower()) if re.fullmatch(r"(?:fr|rr)\d*", w)]
        for split, pattern in _SPLITS.items():
            if any(pattern.fullmatch(word) for word in (plain, *words)):
                return cast(SplitName, split), True
    return ("reduced" if "gt" in roles else "full"), False


def _satellite(key: tuple[str, ...]) -> str | None:
    for part in key:
        if match := _PAIRMAX.fullmatch(part):
            return _PAIRMAX_SENSORS[match[1]]
        if part in _PANBENCH:
            return _PANBENCH[part]
        plain = re.sub(r"^\d+\s+", "", part.lower())  # "1 IKONOS"
        for word in (re.sub(r"[^a-z0-9]", "", plain), *re.split(r"[^a-z0-9]+", plain)):
            if word in _CALLED:
                return _CALLED[word]
    return None


def _naturally(key: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """So that 2 comes before 10."""
    pieces = re.findall(r"\d+|\D+", "/".join(key))
    return [(0, int(p), "") if p.isdigit() else (1, 0, p.lower()) for p in pieces]
