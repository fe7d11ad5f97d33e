"""The command line, `bench`: a file for each command or two.

Command modules import nothing heavy at the top, so that help and completion answer at once.
"""

from __future__ import annotations

import errno
from typing import Any

import click

from pansharp_bench import __version__
from pansharp_bench.cli.assess import assess
from pansharp_bench.cli.cache import cache
from pansharp_bench.cli.compare import compare
from pansharp_bench.cli.console import write_plainly
from pansharp_bench.cli.data import data
from pansharp_bench.cli.doctor import doctor
from pansharp_bench.cli.figure import figure
from pansharp_bench.cli.fuse import fuse
from pansharp_bench.cli.leaderboard import leaderboard
from pansharp_bench.cli.list import list_command
from pansharp_bench.cli.new import check, new
from pansharp_bench.cli.report import report
from pansharp_bench.cli.run import run
from pansharp_bench.cli.score import score
from pansharp_bench.cli.speed import speed
from pansharp_bench.cli.sweep import sweep
from pansharp_bench.cli.table import ablate, table
from pansharp_bench.errors import BenchError, interruption


class UserMistake(click.ClickException):
    """A BenchError on its way out: one message, exit code 2."""

    exit_code = 2


class Bench(click.Group):
    """The group that turns a mistake or a refusal of the system, in any command, into one clear message, and Ctrl-C
    into exit code 130."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Before anything is printed, help included: signs that the console lacks are written plainly."""
        write_plainly()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            if stop := interruption(error):  # of a training that was stopped, it says where
                command = self.commands.get(ctx.invoked_subcommand or "")
                resumes = command is not None and any(p.name == "resume" for p in command.params)
                what = f"{stop}; the state is saved" if stop.args else "interrupted"
                click.echo(
                    f"\n{what}{'; the same command with --resume goes on' if resumes else ''}", err=True
                )
                raise SystemExit(130) from None
            if isinstance(error, BenchError):
                raise UserMistake(str(error)) from error
            if (
                not isinstance(error, OSError) or error.errno == errno.EPIPE
            ):  # `bench list | head` has read enough
                raise
            named = f"{error.filename}: " if error.filename else ""
            raise UserMistake(f"{named}{error.strerror or error}") from error


@click.group(cls=Bench, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bench")
def main() -> None:
    """Pansharpening benchmark: run methods, keep records, print the paper's tables.

    \b
    bench run --method sp-i2i --dataset qb     train, evaluate, write a record
    bench sweep --method a,b --dataset c,d     many runs side by side
    bench list                                 what is registered
    bench leaderboard                          tables from the records
    bench compare gsa exp --dataset qb         two methods, image by image
    bench data check qb                        are these the right files?
    bench doctor                               is everything here that is needed?
    """


_COMMANDS = (
    run, sweep, list_command, leaderboard, compare, table, ablate, figure, report, data, fuse, assess, score, new,
    check, cache, speed, doctor,
)  # fmt: skip
for _command in _COMMANDS:
    main.add_command(_command)

__all__ = ["main"]
