"""``bench new`` and ``bench check``: a file of your own, and whether what it registers keeps to what is asked."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import click

from pansharp_bench.cli.options import say
from pansharp_bench.errors import BenchError

KINDS = ("method", "metric", "dataset", "sensor")


@click.command(short_help="Write a commented file that registers something, and its test.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--learns",
    type=click.Choice(["paired", "unpaired"]),
    help="A method that is trained, on registered pairs or on images of other places.",
)
def new(kind: str, file: Path, learns: str | None) -> None:
    """Write FILE, which registers a method, metric, dataset or sensor and runs as it is, and test_FILE beside it.

    \b
    bench new method mine.py
    bench new method my_net.py --learns paired
    bench new metric my_metric.py
    """
    from pansharp_bench.files import write_text

    if learns and kind != "method":
        raise BenchError(f"--learns {learns} is of methods; a {kind} does not learn")
    if file.suffix != ".py" or not re.fullmatch(r"[a-z][a-z0-9_]*", file.stem):
        raise BenchError(f"{file.name}: call it like a Python module, in lower case, e.g. my_{kind}.py")
    test = file.with_name(f"test_{file.name}")
    for path in (file, test):
        if path.exists():
            raise BenchError(f"{path} exists; nothing was written")
    text = rendered(learns or kind, file)
    for path, content in ((file, text), (test, rendered("test", file, learns or kind))):
        write_text(path, content)
    click.echo(f"wrote {file} and {test}")
    click.echo(f"next: bench check --plugin {file}")


def rendered(template: str, file: Path, kind: str = "") -> str:
    """A template as the text of a file of this name."""
    from jinja2 import Environment

    source = resources.files("pansharp_bench").joinpath(f"templates/{template}.py.jinja")
    environment = Environment(keep_trailing_newline=True, trim_blocks=True)
    words = file.stem.split("_")
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        kind=kind,
        file=file.name,
        name="-".join(words),
        identifier=file.stem,
        title=" ".join(words).capitalize(),
        camel="".join(w.capitalize() for w in words),
        column="".join(w.capitalize() for w in words),
    )


@click.command(short_help="Check what a plug-in file registers, in seconds.")
@click.option(
    "--plugin",
    "files",
    multiple=True,
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Python file that registers methods, metrics, datasets or sensors; may be repeated.",
)
@click.option(
    "--data", "root", envvar="PANSHARP_DATA", type=click.Path(path_type=Path), metavar="DIR",
    help="Folder of a dataset's files; default: PANSHARP_DATA.",
)  # fmt: skip
@click.argument("name", required=False)
def check(files: tuple[Path, ...], name: str | None, root: Path | None) -> None:
    """Check what FILE registers (or only NAME) as the project's own methods, metrics and datasets are checked.

    Methods that learn are trained for two steps, on random scenes of two sensors, on the CPU. Exit code 1 where
    something is broken.

    \b
    bench check --plugin mine.py
    bench check --plugin mine.py my-method
    bench check --plugin reader.py --data DIR
    """
    from pansharp_bench.contract import check_plugin

    broken = asked = 0
    for file in files:
        heading = ""
        for found in check_plugin(file, name, root):
            if heading != (heading := f"{found.name} ({found.kind})"):
                click.secho(heading, bold=True)
            asked += 1
            broken += bool(found.problem)
            mark = (
                click.style("BROKEN", fg="red", bold=True)
                if found.problem
                else click.style("ok    ", fg="green")
            )
            click.echo(f"  {mark}  {found.asked}")
            if found.problem:
                click.echo(f"          {found.problem}")
    if broken:
        say(f"{broken} of {asked} things asked are broken")
        raise SystemExit(1)
    click.echo(f"all {asked} things asked are kept")
