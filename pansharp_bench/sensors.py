"""Sensors read from TOML files, and such of which little is known.

A file holds a table a sensor, under its name (all figures of the shipped ones stand in ``datasets/sensors.toml``)::

    [mine]
    title = "My camera"
    bands = ["blue", "green", "red", "nir"]
    peak = 4095                       # the largest DN
    ratio = 4                         # of the pixel sizes; 4 where it is left out
    mtf = [0.3, 0.3, 0.3, 0.3]        # gains at the Nyquist frequency of the MS grid
    mtf_pan = 0.15
    rgb = [2, 1, 0]                   # bands, from 0 on, of a true-colour picture
    source.mtf = "data sheet, 2024"   # where figures come from

``phase`` (see :class:`~pansharp_bench.scene.Sensor`) may be added; of images with a georeference it is computed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pansharp_bench.errors import BenchError
from pansharp_bench.scene import Sensor, as_sensor

SUFFIX = ".toml"
DEFAULT_MTF, DEFAULT_MTF_PAN = 0.3, 0.15
"""The toolbox's, for sensors that it does not know."""

_KEYS = {f.name for f in fields(Sensor)} - {"name", "source"}


def read_sensors(path: Path) -> list[tuple[Sensor, str]]:
    """The sensors of a TOML file, and where their figures come from. Raises BenchError, naming file and figure."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise BenchError(f"sensor file {path} cannot be read: {why}") from error
    found = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise BenchError(f"sensor file {path}: {name!r} stands outside a table; begin with a line [name]")
        found.append(_sensor(name, table, f"sensor file {path}, [{name}]"))
    if not found:
        raise BenchError(f"sensor file {path} holds no sensor; begin with a line [name]")
    return found


def _sensor(name: str, table: dict[str, Any], where: str) -> tuple[Sensor, str]:
    source = table.pop("source", "")
    if isinstance(source, Mapping):
        source = "; ".join(f"{key}: {text}" for key, text in source.items())
    table.setdefault("title", name)
    if unknown := sorted(table.keys() - _KEYS):
        raise BenchError(
            f"{where}: unknown {', '.join(unknown)}; known are: {', '.join(sorted(_KEYS))}, source"
        )
    table = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    try:
        return Sensor(name=name, **table), str(source)
    except (TypeError, ValueError) as error:
        raise BenchError(f"{where}: {str(error).removeprefix('Sensor.__init__() ')}") from error


def sensor_given(name: str) -> Sensor:
    """The sensor of a registered name, or the one of a TOML file. Raises BenchError (UnknownName)."""
    if not name.lower().endswith(SUFFIX):
        return as_sensor(name)
    sensors = read_sensors(Path(name))
    if len(sensors) > 1:
        raise BenchError(
            f"sensor file {name} holds several ({', '.join(s.name for s, _ in sensors)}): leave one in it"
        )
    return sensors[0][0]


def unknown_sensor(
    bands: Sequence[str],
    peak: float,
    ratio: int,
    mtf: tuple[float, ...] = (),
    mtf_pan: float = DEFAULT_MTF_PAN,
) -> Sensor:
    """A sensor of which only this is known; ``bands``: their names, numbered where one is "" or there twice;
    ``mtf``: a gain each band, one for all, or none for the default.

    Raises BenchError for figures that cannot be.
    """
    count = len(bands)
    gains = mtf * count if len(mtf) == 1 else mtf or (DEFAULT_MTF,) * count
    told = all(bands) and len(set(bands)) == count
    names = tuple(bands) if told else tuple(f"band {i}" for i in range(1, count + 1))
    picture = (2, 1, 0) if count > 2 else (0, 0, 0)
    if {"red", "green", "blue"} <= set(names):
        picture = names.index("red"), names.index("green"), names.index("blue")
    try:
        return Sensor("unknown", "unnamed sensor", names, peak, gains, mtf_pan, picture, ratio)
    except ValueError as error:
        raise BenchError(str(error)) from error
