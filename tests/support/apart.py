"""Plug-ins that tests load, kept from other tests."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pansharp_bench.registry import TABLES


@contextmanager
def apart() -> Iterator[None]:
    """Within it plug-ins may be loaded; after it they never were."""
    for table in TABLES:
        table.discover()
    tables, modules = [dict(table._entries) for table in TABLES], set(sys.modules)
    try:
        yield
    finally:
        for table, entries in zip(TABLES, tables, strict=True):
            table._entries = entries
        for name in [m for m in sys.modules if m.startswith("pansharp_bench_plugin_") and m not in modules]:
            del sys.modules[name]
