"""``python -m pansharp_bench`` is ``bench``."""

from pansharp_bench.cli import main

main(prog_name="bench")
