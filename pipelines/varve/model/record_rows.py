"""Rows of the tables beside samples that ingest writes: native histograms and exemplars.

They are records of several columns, few next to samples. Each table has an ingest query of its
name, and keeps that query's positions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

RECORD_TABLES: Final = ("histograms", "exemplars")

SAMPLES: Final = "samples"


def table_of(query: str) -> str:
    """The table that an ingest query writes, and keeps its positions in."""
    return query if query in RECORD_TABLES else SAMPLES


def arranged(table: str, rows: pa.Table) -> pa.Table:
    """Rows of a record table sorted by (series_id, ts), each of several copies once.

    Of histograms of one series and time the greatest count wins, then the greatest text; a
    staleness marker is least: the same one in any order of arrival. Exemplars are copies only if
    they are equal.
    """
    if rows.num_rows == 0:
        return rows
    rows = rows.combine_chunks()
    ids, times = (rows.column(name).to_numpy() for name in ("series_id", "ts"))
    order = np.lexsort((times, ids))
    ids, times = ids[order], times[order]
    same = np.flatnonzero((ids[1:] == ids[:-1]) & (times[1:] == times[:-1])) + 1
    if len(same):
        order = np.array(_without_copies(table, rows, order.tolist(), set(same.tolist())))
    return rows.take(pa.array(order))


def _without_copies(table: str, rows: pa.Table, order: list[int], same: set[int]) -> list[int]:
    """The rows of `order` that count. same: places in it that have the key of the one before."""
    kept: list[int] = []
    group: list[int] = []
    for place, row in enumerate([*order, -1]):
        if place not in same:
            if len(group) > 1:
                ranked = sorted((_rank(table, _row(rows, at)), at) for at in group)
                if table == "histograms":
                    group = [ranked[-1][1]]
                else:
                    group = list(dict(reversed(ranked)).values())[::-1]
            kept += group
            group = []
        group.append(row)
    return kept


def _row(rows: pa.Table, at: int) -> Mapping[str, Any]:
    found: Mapping[str, Any] = rows.slice(at, 1).to_pylist()[0]
    return found


def _rank(table: str, row: Mapping[str, Any]) -> tuple[bool, float, str]:
    """What copies are compared by."""
    if table == "exemplars":
        return not math.isnan(row["value"]), _number(row["value"]), repr(sorted(row["labels"]))
    return row["schema"] is not None, _number(row["count"]), repr(row)


def _number(value: float | None) -> float:
    return -math.inf if value is None or math.isnan(value) else value
