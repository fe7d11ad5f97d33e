"""Options that several commands share."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pansharp_bench.errors import BenchError
from pansharp_bench.registry import load_plugin

if TYPE_CHECKING:
    from pansharp_bench.plan import RunSpec


def _load(ctx: click.Context, param: click.Parameter, paths: tuple[str, ...]) -> list[Path]:
    with running():
        for path in paths:
            load_plugin(path)
    return [Path(path).absolute() for path in paths]


def _plugins(told: bool) -> Callable:
    return click.option(
        "--plugin",
        "plugins",
        multiple=True,
        metavar="FILE",
        expose_value=told,
        is_eager=True,
        callback=_load,
        help="Python file that registers methods, metrics or datasets; may be repeated.",
    )


plugin_option = _plugins(told=False)
"""``--plugin FILE``: register what a Python file defines, before anything else is read."""


def results_option(command: Callable) -> Callable:
    """``--results DIR``."""
    return click.option(
        "--results",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("results"),
        show_default=True,
        help="Folder of records.",
    )(command)


def completes(kind: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """For the shell: names of the registry of this name, e.g. ``METHODS``; of ``a,b`` the last is completed."""

    def found(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
        from pansharp_bench import registry

        before, comma, last = begun.rpartition(",")
        return [before + comma + name for name in getattr(registry, kind).names(f"{last}*")]

    return found


def _presets(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    from pansharp_bench.presets import PRESETS

    return [name for name in PRESETS if name.startswith(begun)]


def comma_separated(flag: str, name: str, help: str) -> Callable:
    """An option of several values, ``a,b``, or given several times; None where it is not given."""

    def read(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> list[str] | None:
        values = [word.strip() for text in given for word in text.split(",") if word.strip()]
        return list(dict.fromkeys(values)) or None

    return click.option(flag, name, multiple=True, metavar="A,B", callback=read, help=help)


def read_seeds(ctx: click.Context, param: click.Parameter, text: str | None) -> list[int] | None:
    """``0,1,2`` as numbers; None where nothing is given."""
    if text is None:
        return None
    try:
        seeds = [int(s) for s in text.split(",")]
    except ValueError:
        raise BenchError(f"--seeds {text!r} is not a comma-separated list of integers") from None
    return list(dict.fromkeys(seeds))


def json_option(command: Callable) -> Callable:
    """``--json``: the command prints JSON, and nothing else, to standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


@dataclass(frozen=True)
class RunOptions:
    """What every command that carries out runs is told: the values of :func:`run_options`."""

    data: Path | None
    label: str | None
    preset: str | None
    device: str
    precision: str
    runs: Path
    quiet: bool
    accept_faults: bool
    plugins: list[Path]
    results: Path = Path("results")
    pictures: int = 2
    devices: int = 1
    nodes: int = 1
    metrics: Sequence[str] = ()

    @property
    def progress(self) -> bool:
        """Whether to show progress bars."""
        return not self.quiet and sys.stderr.isatty()

    def spec(
        self,
        method: str,
        dataset: str,
        options: Mapping[str, Any],
        seed: int = 0,
        weights: Path | None = None,
    ) -> RunSpec:
        """One run of this method on this dataset."""
        from pansharp_bench.plan import RunSpec

        return RunSpec(
            method=method,
            dataset=dataset,
            preset=self.preset,
            options=options,
            seed=seed,
            label=self.label,
            data=self.data,
            weights=weights,
            device=self.device,
            precision=self.precision,
            accept_faults=self.accept_faults,
            devices=self.devices,
            nodes=self.nodes,
            metrics=self.metrics,
        )

    def row(
        self, method: str, dataset: str, own: Mapping[str, Any], common: Mapping[str, Any], seed: int = 0
    ) -> RunSpec:
        """One run among others of one table: what is said of training goes to the methods that train, ``common``
        options of all rows, and more than one device, to those that do so step by step."""
        from pansharp_bench.presets import is_trained, takes_steps
        from pansharp_bench.registry import METHODS

        entry = METHODS.get(method)
        shared = self if is_trained(entry) else replace(self, preset=None, precision="auto")
        if not takes_steps(entry):
            shared = replace(shared, devices=1, nodes=1)
        return shared.spec(method, dataset, {**(common if takes_steps(entry) else {}), **own}, seed)


_RUN_OPTIONS: dict[str, Callable] = {
    "data": click.option(
        "--data",
        envvar="PANSHARP_DATA",
        type=click.Path(path_type=Path),
        help="Folder of the data files (or PANSHARP_DATA). Without it the simulated sensor stands in.",
    ),
    "label": click.option(
        "--label", help="Name for files that are not the known originals: shown as <dataset>-<label>."
    ),
    "accept_faults": click.option(
        "--accept-faults", is_flag=True, help="Run on files in which errors are found; the record says so."
    ),
    "preset": click.option(
        "--preset",
        shell_complete=_presets,
        help="quick (default on CPU), standard (default on CUDA) or paper.",
    ),
    "device": click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N."),
    "devices": click.option(
        "--devices",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Train on this many GPUs together (on a CPU: processes), which share each batch.",
    ),
    "nodes": click.option(
        "--nodes",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Number of machines, with --devices on each.",
    ),
    "precision": click.option(
        "--precision", default="auto", show_default=True, help="auto: bf16-mixed on CUDA, 32-true on CPU."
    ),
    "pictures": click.option(
        "--pictures",
        type=click.IntRange(0),
        default=2,
        show_default=True,
        help="Scenes of each split to draw.",
    ),
    "runs": click.option(
        "--runs",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Folder for checkpoints, logs and pictures.",
    ),
    "quiet": click.option("--quiet", is_flag=True, help="No progress bars."),
    "results": results_option,
    "plugins": _plugins(told=True),
}
"""By the field of RunOptions that each gives."""


def run_options(*without: str) -> Callable[[Callable], Callable]:
    """The options of every command that carries out runs, but those of these names, which it would not heed; it
    gets them as one, ``shared``: RunOptions."""
    offered = {name: option for name, option in _RUN_OPTIONS.items() if name not in without}

    def decorated(command: Callable) -> Callable:
        @wraps(command)
        def collected(*args: Any, **given: Any) -> Any:
            shared = RunOptions(**{name: given.pop(name) for name in offered})
            if shared.devices * shared.nodes > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
                from pansharp_bench.training.launch import assist, launched, stand_by

                here = launched(shared.devices, shared.nodes)
                if here.rank:
                    return assist(here)
                if here.standing:
                    stand_by(here)
                shared = replace(shared, devices=here.devices, nodes=here.nodes)
            return command(*args, shared=shared, **given)

        for option in reversed(offered.values()):
            collected = option(collected)
        return collected

    return decorated


def into_option(kind: str) -> Callable:
    """``--into PAGE``, any number of times; the command gets ``pages``."""
    return click.option(
        "--into",
        "pages",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"Also renew the tables that this page shows between <!-- {kind}: NAME --> marks; may be repeated.",
    )


def read_page(page: Path) -> str:
    """Its text. Raises BenchError."""
    try:
        return page.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise BenchError(f"{page} cannot be read: {error}") from error


def names_of(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """The names in ``--option a,b --option c``, each once."""
    names = (name.strip() for text in given for name in text.split(","))
    return list(dict.fromkeys(filter(None, names)))


def check_settable(methods: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raises BenchError where there are options for methods of which none is trained step by step."""
    from pansharp_bench.presets import takes_steps
    from pansharp_bench.registry import METHODS

    if options and not any(takes_steps(METHODS.get(name)) for name in methods):
        raise BenchError(f"none of {', '.join(methods)} is trained step by step: there is nothing to --set")


seeds_option = click.option(
    "--seeds",
    default="0",
    show_default=True,
    callback=read_seeds,
    help="Comma-separated; a row of a table is the mean over seeds.",
)
"""``--seeds 0,1,2``: the command gets a list."""


metric_option = click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME[:SETTING=VALUE,…]",
    help="Also score by this metric: one that is not of the usual table, or with other settings, in a column of "
    "its own, e.g. q2n:block=64; may be repeated (`bench list NAME` shows the settings).",
)
"""``--metric q2n:block=64``, any number of times; the command gets ``metrics``, a tuple."""


def set_option(help: str | None = None) -> Callable:
    """``--set NAME=VALUE``, any number of times; the command gets ``options``, a dict."""
    return click.option(
        "--set", "options", multiple=True, metavar="NAME=VALUE", callback=_read_pairs, help=help
    )


def _read_pairs(ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    parsed: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not of the form name=value")
        name = name.strip().replace("-", "_")
        if name in parsed:
            raise click.BadParameter(f"{name} is given twice: {parsed[name]} and {value.strip()}")
        parsed[name] = value.strip()
    return parsed


def say(text: str) -> None:
    """To standard error, so that what a command prints can be piped."""
    click.echo(text, err=True)


@contextmanager
def running() -> Iterator[None]:
    """Around what takes its time, or is from outside: warnings stand out, each once."""
    said: set[str] = set()

    def loud(message, category, filename, lineno, file=None, line=None) -> None:
        if str(message) not in said:
            click.secho(f"! {message}", fg="yellow", bold=True, err=True)
        said.add(str(message))

    with warnings.catch_warnings():
        warnings.showwarning = loud
        warnings.filterwarnings("always", module=r"pansharp_bench\b")
        yield
