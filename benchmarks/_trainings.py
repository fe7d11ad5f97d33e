"""Many trainings in one process, which a GPU's start-up and the imports are paid for once.

    python benchmarks/_trainings.py make DATASET...      make simulated sets, where they are not made yet
    python benchmarks/_trainings.py run OPTION... <LIST  `bench ablate` of every line, each with these options

One that fails is told and costs the others nothing; a stop by SIGINT ends all, as each resumes.
"""

import sys
import time

from pansharp_bench.cli import main
from pansharp_bench.registry import DATASETS, load_plugin


def make(words: list[str]) -> int:
    for at in [i for i, word in enumerate(words) if word == "--plugin"]:
        load_plugin(words[at + 1])
    for name in words[: words.index("--plugin") if "--plugin" in words else None]:
        begun = time.perf_counter()
        DATASETS.get(name).obj(root=None, label=None).files()
        print(f"{name}: {time.perf_counter() - begun:.1f} s", flush=True)
    return 0


def run(options: list[str]) -> int:
    failed = []
    for line in filter(str.strip, sys.stdin):
        print(f"\n== {line.strip()}", flush=True)
        status = 0
        try:
            main(["ablate", *line.split(), *options], prog_name="bench")
        except SystemExit as end:
            status = end.code
        except Exception as error:
            status = f"{type(error).__name__}: {error}"
        if status == 130:
            return 130
        if status:
            failed.append(f"{line.strip()}: {status}")
    print("\n".join(["", *(f"failed: {f}" for f in failed)]), flush=True)
    return bool(failed)


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    raise SystemExit({"make": make, "run": run}[verb](rest))
