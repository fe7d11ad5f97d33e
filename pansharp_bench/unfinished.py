"""A scene that is being fused: what is finished lies beside the file it is to become, so that no work is lost."""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pansharp_bench.errors import BenchError, DataError, ImageError
from pansharp_bench.files import atomically, locked, write_text
from pansharp_bench.record import jsonable
from pansharp_bench.tiles import Reached

_TOLD = 100  # characters of a change that are easily read
Window = tuple[tuple[int, int], tuple[int, int]]


class Tile(NamedTuple):
    """Finished samples (C, h, w), where they belong (rows, columns), and what was counted up to this tile."""

    samples: Tensor
    window: Window
    counted: dict[str, Any]


class Unfinished:
    """The folder ``.<name>.part`` beside a file: all that is temporary of it, the statistics of the scene, and the
    finished tiles, each whole or not there."""

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(f".{out.name}.part")

    @property
    def tiles(self) -> list[Path]:
        """Of the finished tiles, in order."""
        return sorted(self.folder.glob("tile-*.pt"))

    @property
    def begun(self) -> bool:
        """Whether there is anything to go on with."""
        return self._plan.exists() and (self._statistics.exists() or bool(self.tiles))

    @property
    def _statistics(self) -> Path:
        return self.folder / "statistics.pt"

    @property
    def _plan(self) -> Path:
        return self.folder / "plan.json"

    def keep_statistics(self, reached: Reached) -> None:
        """After every round over the scene."""
        _save(vars(reached), self._statistics)

    def keep(self, number: int, tile: Tile) -> None:
        """After every tile, in their order."""
        _save(tile._asdict(), self.folder / f"tile-{number:06d}.pt")

    def reached(self) -> Reached:
        """How far the fusion has come."""
        found = Reached(**_load(self._statistics)) if self._statistics.exists() else Reached()
        if tiles := self.tiles:
            counted = _load(tiles[-1])["counted"]
            found.tiles, found.beyond, found.seams = len(tiles), counted["beyond"], counted["seams"]
        return found

    def finished(self) -> Iterator[Tile]:
        """The tiles, in order."""
        for path in self.tiles:
            yield Tile(**_load(path))

    @contextlib.contextmanager
    def held(self, plan: Mapping[str, object], resume: bool, force: bool) -> Iterator[None]:
        """Around the work, which ``plan`` describes by all that its tiles depend on. The folder goes when the work
        is done, or when the images are at fault; else what is finished stays.

        Raises BenchError where unfinished work lies there, and is neither to be resumed nor replaced (``force``);
        where there is none to resume, or it is of another plan, naming what differs.
        """
        busy = f"another process is writing this file (in {self.folder})"
        with locked(self.folder / ".lock", busy):
            try:
                self._begin(json.loads(json.dumps(jsonable(plan))), resume, force)
                yield
            except BaseException as error:
                if isinstance(error, (DataError, ImageError)) or not self.begun:
                    self._clear()
                elif not isinstance(error, Refused):
                    warnings.warn(
                        f"what is finished is kept in {self.folder}: go on with it by --resume, or begin anew by "
                        "--force",
                        stacklevel=4,
                    )
                raise
            else:
                self._clear()
            finally:
                if not self.begun:
                    (self.folder / ".lock").unlink(missing_ok=True)
                    with contextlib.suppress(OSError):
                        self.folder.rmdir()

    def _begin(self, plan: dict[str, Any], resume: bool, force: bool) -> None:
        if not self.begun:
            if resume:
                raise Refused(
                    f"nothing to resume: {self.folder} holds no finished work; run without --resume"
                )
        elif resume:
            self._compare(plan)
            self._clear(all_but=("plan.json", self._statistics.name, *(p.name for p in self.tiles)))
            return
        elif not force:
            raise Refused(
                f"an interrupted fusion lies in {self.folder}: go on with it by --resume, or begin anew by --force"
            )
        self._clear()
        write_text(self._plan, json.dumps(plan))

    def _compare(self, plan: Mapping[str, Any]) -> None:
        begun = json.loads(self._plan.read_text(encoding="utf-8"))
        differ = [name for name in {**begun, **plan} if begun.get(name) != plan.get(name)]
        if differ:
            told = "; ".join(_change(name, begun.get(name), plan.get(name)) for name in differ)
            raise Refused(
                f"the fusion in {self.folder} was begun with other inputs or options: {told}. Give the same, or "
                "begin anew by --force"
            )

    def _clear(self, all_but: tuple[str, ...] = ()) -> None:
        for path in self.folder.iterdir():
            if path.name not in (".lock", *all_but):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _change(name: str, before: object, now: object) -> str:
    told = f"{name} was {before}, is {now}"
    return told if len(told) < _TOLD else f"{name} is not what it was"


class Refused(BenchError):
    """Unfinished work is in the way, or is not what was asked for; it is left as it is."""


def _save(value: object, path: Path) -> None:
    with atomically(path) as part:
        torch.save(value, part)


def _load(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:  # whatever torch makes of a damaged file
        raise BenchError(f"{path} is damaged ({error}); begin anew by --force") from error
