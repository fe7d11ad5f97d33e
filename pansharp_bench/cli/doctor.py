"""``bench doctor``: is everything here that runs need, and what is to be done where it is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

import click

from pansharp_bench.cli.data import COLOURS, summaries
from pansharp_bench.cli.options import json_option, results_option
from pansharp_bench.errors import BenchError, UnderWay

_DISTRIBUTION = "pansharp-bench"
_ENOUGH_MEMORY = 4e9  # bytes: what `quick` trainings and the tests get along with
_ENOUGH_DISK = 2e9  # bytes: simulated sets, checkpoints and pictures of some runs
EXTRAS = {
    "juno": "raw JunoCam frames and FITS maps",
    "sweep": "`bench sweep`",
    "test": "the test suite",
    "browser": "the tests of `bench report` in Chromium",
}
"""What each optional set of packages is for."""


@dataclass(frozen=True)
class Symptom:
    """One thing looked at; ``error`` means that something is broken, and ``mend`` says what to do."""

    about: str
    level: Literal["ok", "note", "warning", "error"]
    text: str
    mend: str = ""


@click.command(short_help="Check this machine: what is missing or broken, and how to mend it.")
@click.option(
    "--data", "root", envvar="PANSHARP_DATA", type=click.Path(path_type=Path), metavar="DIR",
    help="Folder of the data files (or PANSHARP_DATA).",
)  # fmt: skip
@click.option(
    "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
    help="Folder for checkpoints, logs and pictures.",
)  # fmt: skip
@results_option
@json_option
def doctor(root: Path | None, runs: Path, results: Path, as_json: bool) -> None:
    """Look at Python, torch and its devices, memory, data, folders and their locks, extras and plug-ins.

    Takes seconds, needs no network and leaves nothing but cards in the cache. Exit code 1 where something is
    broken; what is only missing, such as real imagery or an extra, is a note.
    """
    try:
        Path.cwd()
    except OSError as error:  # torch would end the process, without a word of why
        raise BenchError("the current folder is not there any more: change to one that is") from error

    checks: list[tuple[str, Callable[[], Iterator[Symptom]]]] = [
        ("python", _python),
        ("torch", _torch),
        ("memory", _memory),
        ("packages", _packages),
        ("plug-ins", _plugins),
        ("data", partial(_data, root)),
        *(
            (name, partial(_folder, name, path, mend))
            for name, path, mend in (
                ("results", results, "choose another folder with --results"),
                ("runs", runs, "choose another folder with --runs"),
                ("cache", None, "name another folder with PANSHARP_CACHE"),
            )
        ),
    ]
    findings = []
    for about, check in checks:
        for finding in _guarded(about, check):
            findings.append(finding)
            if not as_json:
                _print(finding)
    if as_json:
        click.echo(json.dumps([asdict(f) for f in findings], indent=2, ensure_ascii=False))
    if any(f.level == "error" for f in findings):
        raise SystemExit(1)


def _print(finding: Symptom) -> None:
    mark = click.style(f"{finding.level:8}", fg=COLOURS[finding.level])
    click.echo(f"{mark} {finding.about:10}{finding.text}")
    if finding.mend:
        click.echo(f"{'':19}-> {finding.mend}")


def _guarded(about: str, check: Callable[[], Iterator[Symptom]]) -> Iterator[Symptom]:
    """What a check finds; that it fails itself is found too; the other checks go on."""
    try:
        yield from check()
    except Exception as error:
        text = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        yield Symptom(
            about,
            "error",
            " ".join(text.split()),
            "mend what it names; nothing else of this kind was looked at",
        )


def _python() -> Iterator[Symptom]:
    import platform

    from pansharp_bench import __version__

    system = f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    yield Symptom("python", "ok", system)
    yield Symptom("python", "ok", f"pansharp-bench {__version__} from {Path(__file__).resolve().parents[1]}")


def _torch() -> Iterator[Symptom]:
    import torch

    built = torch.version.cuda or torch.version.hip
    kind = f"for {'CUDA' if torch.version.cuda else 'ROCm'} {built}" if built else "for CPUs alone"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    yield Symptom("torch", "ok", f"{torch.__version__}, built {kind}")
    for warning in said:
        yield Symptom("torch", "warning", str(warning.message).splitlines()[0], "update the GPU's driver")
    for index in range(torch.cuda.device_count() if there else 0):
        yield _device(index)
    if not there and shutil.which("nvidia-smi"):
        why, mend = (
            (f"built for CUDA {built}, but it finds no device", "see whether `nvidia-smi` finds one; the driver "
             "must be as new as this CUDA, and CUDA_VISIBLE_DEVICES must not hide it")
            if built
            else ("the driver of an NVIDIA GPU is here, but this torch cannot use it", "install torch's CUDA build")
        )  # fmt: skip
        yield Symptom("torch", "warning", why, mend)
    elif not there:
        yield Symptom("torch", "note", "no GPU: runs are on the CPU, with the preset `quick` by default")
    threads, cores = torch.get_num_threads(), _cores()
    if threads > cores:
        yield Symptom(
            "torch",
            "warning",
            f"{threads} threads on {cores} CPU cores: slow",
            f"set OMP_NUM_THREADS={cores}",
        )
    else:
        yield Symptom("torch", "ok", f"{threads} thread(s), {cores} CPU core(s)")


def _device(index: int) -> Symptom:
    """A CUDA device, asked for its memory and for a product."""
    import torch

    from pansharp_bench.cli.cache import size_text

    try:
        free, total = torch.cuda.mem_get_info(index)
        (torch.ones(8, 8, device=f"cuda:{index}") @ torch.ones(8, 8, device=f"cuda:{index}")).sum().item()
    except RuntimeError as error:
        return Symptom(
            "torch", "error", f"cuda:{index} does not compute: {str(error).splitlines()[0]}",
            "end what else uses it (`nvidia-smi`), or install a torch built for it; until then --device cpu",
        )  # fmt: skip
    name = torch.cuda.get_device_name(index)
    return Symptom("torch", "ok", f"cuda:{index} {name}, {size_text(free)} of {size_text(total)} free")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> Iterator[Symptom]:
    from pansharp_bench.cli.cache import size_text

    total = _total_memory()
    if total is None:
        yield Symptom("memory", "note", "the system does not tell how much there is")
    elif total < _ENOUGH_MEMORY:
        yield Symptom(
            "memory", "warning", f"{size_text(total)}: trainings may be ended for want of it",
            "take smaller batches (--set batch=1), or allow the container or job more",
        )  # fmt: skip
    else:
        yield Symptom("memory", "ok", size_text(total))


def _total_memory() -> int | None:
    """Bytes that this process may use: the machine's, or less where a container or a job has a limit."""
    try:
        sizes = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, OSError, ValueError):  # Windows
        return None
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            sizes.append(int(Path(limit).read_text(encoding="utf-8")))
        except (OSError, ValueError):  # no such control group, or "max"
            continue
    return min(sizes)


def _packages() -> Iterator[Symptom]:
    try:
        wanted = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Symptom(
            "packages", "note", "not installed (imported from a folder): packages were not looked at",
            "pip install -e . in the checkout",
        )  # fmt: skip
        return
    missing: dict[str, list[str]] = {"": []}  # by extra; none is what is always needed
    for requirement in wanted:
        name, _, marker = requirement.partition(";")
        of = re.search(r"extra == [\"'](\w+)[\"']", marker)
        package = re.split(r"[^\w.-]", name.strip())[0]
        of_extra = missing.setdefault(of[1] if of else "", [])
        if not _installed(package):
            of_extra.append(package)
    if needed := missing.pop(""):
        yield Symptom("packages", "error", f"missing: {', '.join(needed)}", f"pip install {' '.join(needed)}")
    else:
        yield Symptom("packages", "ok", "all that is always needed is installed")
    for extra, packages in missing.items():
        what = f"extra {extra}" + (f", for {EXTRAS[extra]}" if extra in EXTRAS else "")
        if packages:
            yield Symptom(
                "packages", "note", f"{what}: {', '.join(packages)} not installed",
                f'where you need it: pip install "{_DISTRIBUTION}[{extra}]"',
            )  # fmt: skip
        else:
            yield Symptom("packages", "ok", f"{what}: installed")


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _plugins() -> Iterator[Symptom]:
    from pansharp_bench import registry

    counts = ", ".join(f"{sum(1 for _ in table)} {table.kind}s" for table in registry.TABLES)
    yield Symptom("plug-ins", "ok", counts)
    for table in registry.TABLES:
        for point in metadata.entry_points(group=table.entry_points) if table.entry_points else ():
            if f"{point.name} = {point.value}" not in registry.broken:
                yield Symptom("plug-ins", "ok", f"{point.name} = {point.value} ({table.entry_points})")
    for origin, error in sorted(registry.broken.items()):
        mend = (
            "mend or uninstall the package that brings it"
            if "=" in origin
            else "it belongs to pansharp-bench: install that anew"
        )
        yield Symptom(
            "plug-ins", "error", f"{origin} failed to import: {_last(error)}",
            f"{mend}; `bench list` shows where it failed",
        )  # fmt: skip


def _last(text: str) -> str:
    """What a traceback ends with, in a line: all that is below the last line of code."""
    lines = text.strip().splitlines()
    code = max((i for i, line in enumerate(lines) if line.startswith(" ")), default=len(lines) - 2)
    return " ".join(" ".join(lines[code + 1 :]).split()) or lines[-1].strip()


def _data(root: Path | None) -> Iterator[Symptom]:
    from pansharp_bench.files import expanded

    if root is None:
        yield Symptom(
            "data", "note", "no folder of real imagery: simulated sensors stand in, and everything says so",
            "where you have files: --data DIR or PANSHARP_DATA (`bench data list`)",
        )  # fmt: skip
    elif not expanded(root).is_dir():
        yield Symptom(
            "data", "error", f"{root} is no folder", "correct --data or PANSHARP_DATA, or mount what it names"
        )
        return
    absent = []
    for row in summaries(root):
        name, splits = row["name"], row["splits"]
        made = Path(row["where"]).exists()  # samples of what is made on first use may not be known before
        unread = [split for split, samples in splits.items() if made and samples is None]
        if row["missing"]:
            absent.append(name)
        elif unread:
            yield Symptom(
                "data", "error", f"{name}: {', '.join(unread)} cannot be read, in {row['where']}",
                f"`bench data check {name}` says why; fetch the file anew",
            )  # fmt: skip
        else:
            held = ", ".join(
                f"{split} {'?' if samples is None else samples}" for split, samples in splits.items()
            )
            yield Symptom("data", "ok", f"{name}: {held} ({row['where']})")
    if absent:
        mend = "" if root is None else "`bench data list` says what was looked for"
        yield Symptom("data", "note", f"not here: {', '.join(absent)}", mend)


def _folder(name: str, path: Path | None, mend: str) -> Iterator[Symptom]:
    """Whether files can be made there (by default in the cache) and locked, and how much room is left. A folder
    that is not there yet is judged by the nearest that is, and not made."""
    from pansharp_bench.cli.cache import folder_size, size_text
    from pansharp_bench.files import cache_dir

    path = (path or cache_dir()).absolute()
    try:
        held = f", {size_text(folder_size(path)[1])} in it" if path.is_dir() and name == "cache" else ""
        there = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(there).free
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=there) as own:
            Path(own, "probe").write_bytes(bytes(4096))  # a full disk has room for names
            locks = _locks(Path(own) / "lock")
    except OSError as error:
        yield Symptom(name, "error", f"{path}: nothing can be written ({error.strerror})", mend)
        return
    yield Symptom(name, "ok", f"{path}: can be written{held}, {size_text(free)} free")
    if free < _ENOUGH_DISK:
        room = "`bench cache --empty`, or " if name == "cache" else "make room, or "
        yield Symptom(name, "warning", f"{path}: {size_text(free)} left on its disk", room + mend)
    if not locks:
        yield Symptom(
            name, "warning", f"{path}: file locks do not keep a second process out",
            f"let one process work there at a time, or {mend}",
        )  # fmt: skip


def _locks(path: Path) -> bool:
    """Whether a lock that is held is refused to another who asks."""
    from pansharp_bench.files import locked

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said by the caller
        try:
            with locked(path), locked(path, refusal="held"):
                return False
        except UnderWay:
            return True
