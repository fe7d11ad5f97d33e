"""The records as one pandas DataFrame, for analyses and figures that no table of ours draws."""

from __future__ import annotations

import os
import warnings
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pansharp_bench.errors import BenchError
from pansharp_bench.record import Record, read_all, spec_hash, uncollected

if TYPE_CHECKING:
    from pandas import DataFrame

_COLUMNS = (
    "track", "dataset", "method", "title", "kind", "sees", "training", "preset", "changed", "weights", "seed",
    "protocol", "image", "metric", "value", "better", "test_sha256", "spec_sha256", "record",
)  # fmt: skip


def load_results(
    root: str | os.PathLike[str] = "results",
    options: Sequence[str] = (),
    datasets: Sequence[str] | None = None,
    categories: bool = False,
) -> DataFrame:
    """Every score of every record under a folder: a row per run (so per seed), protocol, image and metric.

    ================  ============================================================================================
    ``track``         ``pansharpening``, ``calibration``, ``bands``
    ``dataset``       by the name shown: ``qb``, ``qb-mini``, ``qb-sim``
    ``method``        registered name; ``title``, ``kind``, ``sees`` and ``training`` are from its card
    ``preset``        ``untrained`` where nothing is learnt
    ``changed``       options that differ from the preset's, ``"levels=6, steps=2400"``
    ``weights``       SHA-256 of the weights file that was given, empty where there was none
    ``seed``          0 where nothing is drawn
    ``image``         index in the split; missing for a metric of the whole set
    ``metric``        the column of a table: ``ERGAS``, ``Q2n``, ``chi2``
    ``value``         NaN where the image has no score
    ``better``        ``high`` or ``low``
    ``test_sha256``   of the test files' SHA-256: equal for rows that were scored on the same files
    ``spec_sha256``   of the run's specification
    ``record``        the file
    ================  ============================================================================================

    Args:
        root: the folder of records.
        options: options of methods that become columns of their own, ``options.NAME``, changed or not; missing
            where a run's method has no such option.
        datasets: only records of these, by the names shown; no others are read.
        categories: words as pandas' categories instead of strings: a third of the memory where rows are millions.
            Grouping by them, ask for ``observed=True`` before pandas 3.

    A broken record is left out with a warning that names the file. Raises BenchError where there are no records,
    none of one of ``datasets``, or none whose method has one of ``options``.

    >>> frame = load_results(Path(__file__).parents[1] / "results")  # in a clone: "results"
    >>> mini = frame[(frame.dataset == "qb-mini") & (frame.protocol == "reduced")]
    >>> mini.pivot_table(index="method", columns="metric", values="value").loc["gsa", ["ERGAS", "Q2n"]].round(3)
    metric
    ERGAS    0.769
    Q2n      0.940
    Name: gsa, dtype: float64
    """
    import numpy as np
    import pandas as pd

    runs: list[dict[str, Any]] = []
    scored: list[tuple[int, str, str, str | None, int, bool]] = []
    values = array("d")
    with uncollected():
        for path, item in read_all(Path(root), datasets):
            if isinstance(item, BenchError):
                warnings.warn(f"left out: {item}", stacklevel=2)
                continue
            for protocol, found in item.protocols.items():
                for metric, scores in found["scores"].items():
                    better = found.get("better", {}).get(metric)
                    of_set = len(scores) == 1 < found["images"]
                    scored.append((len(runs), protocol, metric, better, len(scores), of_set))
                    values.extend(scores)
            runs.append(_run(item, path, options))
    if not runs:
        raise BenchError(f"no records under {root}: `bench run` writes one")
    columns = [f"options.{name}" for name in options]
    if unknown := [c.partition(".")[2] for c in columns if not any(c in run for run in runs)]:
        raise BenchError(f"no record under {root} is of a method with option {', '.join(unknown)}")

    table = pd.DataFrame(scored, columns=["run", "protocol", "metric", "better", "scores", "of_set"])
    known = table.dropna(subset="better").drop_duplicates("metric").set_index("metric")["better"]
    table["better"] = table["better"].fillna(table["metric"].map(known))  # the oldest records do not say
    table = table.join(pd.DataFrame(runs), on="run")
    if categories:
        words = [c for c in table.columns if c in _COLUMNS and c != "seed"]
        table[words] = table[words].astype("category")
    each = table["scores"].to_numpy()
    image = np.arange(len(values)) - np.repeat(each.cumsum() - each, each)
    of_set = np.repeat(table["of_set"].to_numpy(), each)
    table[["image", "value"]] = 0  # columns in their places: to move them later would copy all
    frame = table[[*_COLUMNS, *columns]].loc[table.index.repeat(each)].reset_index(drop=True)
    frame["image"] = pd.arrays.IntegerArray(image, of_set)
    frame["value"] = np.frombuffer(values)
    return frame


def _run(record: Record, path: Path, options: Sequence[str]) -> dict[str, Any]:
    """What all rows of a run have in common."""
    spec, card = record.spec, record.method
    return {
        **{k: spec[k] for k in ("track", "dataset", "method", "preset", "seed")},
        "title": card["title"] or card["name"],
        **{k: card.get(k, "") for k in ("kind", "sees", "training")},
        "changed": ", ".join(f"{k}={spec['options'].get(k)}" for k in spec["changed"]),
        "weights": spec["weights"].get("file_sha256", ""),
        "test_sha256": spec_hash(record.dataset["test_fingerprint"]),
        "spec_sha256": record.spec_sha256,
        "record": str(path),
        **{f"options.{k}": spec["options"][k] for k in options if k in spec["options"]},
    }
