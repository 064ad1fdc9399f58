"""Four days of two series in tables that have a colder root, and what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.tables import WrittenTables
from varve.maintenance.batch_job import execute
from varve.maintenance.compaction import Compaction
from varve.maintenance.tiering import HANDOVER_MS, TABLES, Tiering
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

BEGIN = 1_795_305_600_000
"""Midnight, UTC."""
DAYS = 4
NOW = BEGIN + DAYS * DAY_MS
AFTER = 2 * DAY_MS
A, B = (define("up", {"host": host}, metric_type="gauge") for host in "ab")


def fill(tables: WrittenTables) -> None:
    """A sample of each series every ten minutes, rolled up and compacted."""
    tables.define([A, B])
    for hour in range(DAYS * 24):
        times = range(BEGIN + hour * HOUR_MS + 600_000, BEGIN + (hour + 1) * HOUR_MS + 1, 600_000)
        rows = [(d.series_id, ts, float(n)) for d in (A, B) for n, ts in enumerate(times)]
        tables.put(rows, complete_ms=times[-1])
        if hour % 24 == 23:
            tables.roll_up()
    execute(Compaction(tables.store), tables.store, NOW)


def rows_of(table: pa.Table) -> list[str]:
    return sorted(map(repr, table.to_pylist()))


def contents(store: Store) -> dict[str, list[str]]:
    """Every row of every table, copies included."""
    return {name: rows_of(snapshot(store, name).scan(Bounds())) for name in TABLES}


def rows_of_a(store: Store) -> dict[str, int]:
    """How many each table has."""
    bounds = Bounds(series_ids=np.array([A.series_id]))
    return {name: snapshot(store, name).scan(bounds, ["series_id"]).num_rows for name in TABLES}


def tier(store: Store, now: int = NOW, after: Sequence[int] = (AFTER,)) -> Mapping[str, Any]:
    return execute(Tiering(store, after), store, now).as_json()


def settle(store: Store, now: int = NOW, after: Sequence[int] = (AFTER,)) -> int:
    """Runs until nothing is due; returns when that was."""
    for _ in range(20):
        if not tier(store, now, after)["planned"]["moves"]:
            return now
        now += HANDOVER_MS
    pytest.fail("it moves for ever")
