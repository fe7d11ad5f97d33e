"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from pansharp_bench.registry import load_plugin


def _load(ctx: click.Context, param: click.Parameter, paths: tuple[str, ...]) -> None:
    for path in paths:
        load_plugin(path)


def plugin_option(command: Callable) -> Callable:
    """``--plugin FILE``: register what a Python file defines, before anything else is read."""
    return click.option(
        "--plugin",
        multiple=True,
        metavar="FILE",
        expose_value=False,
        is_eager=True,
        callback=_load,
        help="Python file that registers methods, metrics or datasets; may be repeated.",
    )(command)


def results_option(command: Callable) -> Callable:
    return click.option(
        "--results",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("results"),
        show_default=True,
        help="Folder of records.",
    )(command)
