"""Exemplars of the series that an expression selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from varve.promql.errors import StorageError
from varve.promql.labels.label_table import LabelTable
from varve.promql.syntax.ast import Matcher
from varve.query.view import FileGone, View

_EARLIEST_MS = -(1 << 62)
_ROW_BYTES = 1_000
"""What an exemplar takes in memory, about."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A single observation. ts_ms: Unix ms."""

    labels: Sequence[tuple[str, str]]
    value: float
    ts_ms: int


def exemplars_of(
    view: View,
    matchers: Sequence[Sequence[Matcher]],
    start_ms: int,
    end_ms: int,
    check: Callable[[], None],
    take: Callable[[int], None],
) -> tuple[LabelTable, list[list[Exemplar]]]:
    """The series with exemplars in [start_ms, end_ms] that one of the matcher lists selects, sorted
    by labels, and those of each by time.

    check is called between files, take before memory is taken. Raises FileGone if a file has been
    deleted, StorageError if one cannot be read.
    """
    records = view.records.get("exemplars")
    if records is None or not matchers:
        return LabelTable.empty_sets(0), []
    series = view.index.find_any(matchers, check)
    ids = series.series_ids[series.by_id]
    try:
        rows = records.rows(ids, max(start_ms - 1, _EARLIEST_MS), end_ms, check)
    except FileNotFoundError as err:
        raise FileGone(f"cannot read exemplars: {err}") from err
    except OSError as err:
        raise StorageError(f"cannot read exemplars: {err}") from err
    take(rows.num_rows * _ROW_BYTES)
    found: dict[int, list[Exemplar]] = {}
    for row in rows.to_pylist():
        exemplar = Exemplar(sorted(row["labels"]), row["value"], row["ts"])
        found.setdefault(row["series_id"], []).append(exemplar)
    owners = [i for i, series_id in enumerate(series.series_ids.tolist()) if series_id in found]
    chosen = series.labels.take(np.array(owners, np.int64))
    return chosen, [found[int(series.series_ids[i])] for i in owners]
