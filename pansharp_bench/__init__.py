"""A pansharpening benchmark suite: metrics equal to the field's toolbox, methods, datasets, tables.

Images are tensors of digital numbers (DN) with axes N,C,H,W. :func:`fuse` and :func:`load` take tensors,
:func:`fuse_files` and :func:`assess_files` take GeoTIFFs; :func:`load_dataset` gives scenes, and
:func:`load_results` the records as a DataFrame; ``register_…`` adds methods and the like. Metrics are in
:mod:`pansharp_bench.metrics`, filters in :mod:`pansharp_bench.imaging`. Everything is loaded on first use, so
importing the package costs nothing.

>>> import pansharp_bench as pb
>>> pb.list_methods("mtf-glp-hpm*", kind="classical")
['mtf-glp-hpm', 'mtf-glp-hpm-h', 'mtf-glp-hpm-r']
>>> "ergas" in pb.list_metrics()
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pansharp_bench.registry import (
    DATASETS,
    METHODS,
    METRICS,
    register_dataset,
    register_method,
    register_metric,
    register_sensor,
)

if TYPE_CHECKING:
    from pansharp_bench.assess import assess_files
    from pansharp_bench.method import Loaded, fuse, load
    from pansharp_bench.results import load_results
    from pansharp_bench.scene import Dataset, Scene, Sensor, Split, load_dataset
    from pansharp_bench.scenes import fuse_files

__version__ = "0.1.0"

_LAZY = {
    "Dataset": ("scene", "Dataset"),
    "Scene": ("scene", "Scene"),
    "Sensor": ("scene", "Sensor"),
    "Split": ("scene", "Split"),
    "Loaded": ("method", "Loaded"),
    "fuse": ("method", "fuse"),
    "load": ("method", "load"),
    "load_dataset": ("scene", "load_dataset"),
    "assess_files": ("assess", "assess_files"),
    "fuse_files": ("scenes", "fuse_files"),
    "load_results": ("results", "load_results"),
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        module, attribute = _LAZY[name]
        return getattr(import_module(f"pansharp_bench.{module}"), attribute)
    raise AttributeError(f"module 'pansharp_bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})  # what an interactive shell completes


def list_methods(pattern: str = "*", **where: Any) -> list[str]:
    """Names of the registered methods that match a pattern, and whose cards have these values, sorted.

    ``list_methods("mtf-*", kind="classical")``; ``help(register_method)`` names the fields of a card. Raises
    UnknownName for a field that no card has.
    """
    return METHODS.names(pattern, **where)


def list_metrics(pattern: str = "*", **where: Any) -> list[str]:
    """Names of registered metrics, as :func:`list_methods`: ``list_metrics(protocol="full")``."""
    return METRICS.names(pattern, **where)


def list_datasets(pattern: str = "*", **where: Any) -> list[str]:
    """Names of registered datasets, as :func:`list_methods`: ``list_datasets("*-sim")``."""
    return DATASETS.names(pattern, **where)


def get_method(name: str) -> Any:
    """The registered function or class of that name, unconfigured; :func:`load` gives one ready to fuse.

    Raises UnknownName, which tells the nearest names.
    """
    return METHODS.get(name).obj


__all__ = [
    "Dataset",
    "Loaded",
    "Scene",
    "Sensor",
    "Split",
    "assess_files",
    "fuse",
    "fuse_files",
    "get_method",
    "list_datasets",
    "list_methods",
    "list_metrics",
    "load",
    "load_dataset",
    "load_results",
    "register_dataset",
    "register_method",
    "register_metric",
    "register_sensor",
]
