"""``bench cache``: what is kept because making it again takes time, how large it is, and away with it."""

from __future__ import annotations

from pathlib import Path

import click

from pansharp_bench.errors import BenchError


@click.command(short_help="List what the cache holds, and empty it.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--empty", is_flag=True, help="Delete these, or all; what is needed again is made again.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def cache(names: tuple[str, ...], empty: bool, yes: bool) -> None:
    """List what the cache holds (PANSHARP_CACHE, or the user's cache folder): simulated scenes, hashes of files and
    the like. Records, weights and pictures are not in it.

    \b
    bench cache
    bench cache sim/qb-v4-s0-default --empty
    """
    import shutil

    from tabulate import tabulate

    from pansharp_bench.files import cache_dir

    root = cache_dir()
    parts = {path.relative_to(root).as_posix(): path for path in _parts(root)}
    if unknown := [name for name in names if name not in parts]:
        raise BenchError(f"{root} holds no {', '.join(unknown)}; it holds {', '.join(parts) or 'nothing'}")
    chosen = {name: path for name, path in parts.items() if not names or name in names}
    sizes = {name: folder_size(path) for name, path in chosen.items()}
    rows = [[name, f"{files:,}", size_text(size)] for name, (files, size) in sizes.items()]
    rows.append(
        ["in all", f"{sum(f for f, _ in sizes.values()):,}", size_text(sum(s for _, s in sizes.values()))]
    )
    click.echo(f"{root}\n")
    click.echo(
        tabulate(rows, ["part", "files", "size"], disable_numparse=True, colalign=["left", "right", "right"])
    )
    if not empty or not chosen:
        return
    if not yes:
        click.confirm(f"\ndelete {len(chosen)} part(s)?", abort=True)
    for path in chosen.values():
        shutil.rmtree(path)
    click.echo(f"deleted {', '.join(chosen)}")


def _parts(root: Path) -> list[Path]:
    """The folders that stand for something: simulations one by one, other kinds whole."""
    if not root.is_dir():
        return []
    kinds = sorted(p for p in root.iterdir() if p.is_dir())
    return [part for kind in kinds for part in sorted(p for p in kind.iterdir() if p.is_dir()) or [kind]]


def folder_size(folder: Path) -> tuple[int, int]:
    """How many files a folder holds, and their bytes."""
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
    return len(sizes), sum(sizes)


def size_text(size: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
