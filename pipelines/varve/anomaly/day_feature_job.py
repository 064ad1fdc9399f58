"""Keeps the table day_features: days that have closed, and those that repaired hours are in.

Its positions are `frontier:day_features`, the end of the last day it has, and
`source:day_features`, the version of features up to which repaired hours are in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from varve.anomaly.day_features import DAYS_BEFORE, HOURS_READ_MS, TABLE, day_rows, days_of
from varve.anomaly.minute_values import Ints
from varve.model.window import DAY_MS
from varve.rollups.late_rows import log_since
from varve.rollups.window_keys import newest_revisions, unique_keys
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.store import Store
from varve.storage.table import Table

_FEATURES = "features"
_COLUMNS = (*("series_id", "window_end", "is_rate", "minutes", "mean", "m2", "resets", "revision"),)
_WEEKS_AGAIN = 4
"""Weeks that are computed again where the log of features has expired."""


def bring_day_features(store: Store, until_ms: int, *, piece_rows: int) -> int:
    """Writes the days up to a time, in one commit; how many rows. piece_rows: hours of features
    that are in memory at once.

    Raises Conflict if a rival was here, OSError if the storage fails.
    """
    source, table = snapshot(store, _FEATURES), Table(store, TABLE)
    frontier, version = positions.frontier(TABLE), positions.source(TABLE)
    reached, seen = table.position(frontier), table.position(version)
    end = until_ms // DAY_MS * DAY_MS
    if not source.files or (seen == source.version and reached is not None and reached >= end):
        return 0
    files = []
    for day, ids in _due(store, source, reached, seen, end):
        for rows in _pieces(source, day, ids, piece_rows):
            found = day_rows(rows, day, source.version)
            if found.num_rows:
                files.append(write_file(store, TABLE, found))
    steps = {
        frontier: Step(reached, max(end, reached or 0)),
        version: Step(seen, max(source.version, seen or 0)),
    }
    commit(table, files, transactions=steps)
    return sum(file.rows for file in files)


def _due(
    store: Store, source: Snapshot, reached: int | None, seen: int | None, end_ms: int
) -> Iterator[tuple[int, Ints | None]]:
    """Ends of days, and the series whose day is to be computed; None for all."""
    first = int(days_of(source.zones.first_ms.min()))
    begin = first - DAY_MS if reached is None else reached
    again = None if reached is None or seen is None else _repaired(store, source, seen, reached)
    if again is None and reached is not None:
        begin = max(first - DAY_MS, reached - _WEEKS_AGAIN * DAYS_BEFORE * DAY_MS)
    elif again is not None:
        for day in np.unique(again[:, 1]).tolist():
            yield day, again[again[:, 1] == day, 0]
    for day in range(begin + DAY_MS, end_ms + 1, DAY_MS):
        yield day, None


def _repaired(store: Store, source: Snapshot, after: int, until_ms: int) -> Ints | None:
    """series_id and end of the days up to a time that hours which came since a version of features
    are in, or are in the week before; shape (n, 2), sorted. None if the log does not tell.
    """
    unknown_to, log = log_since(store, _FEATURES, after, source.version)
    if unknown_to > after:
        return None
    files = [file for entry in log for file in entry.adds]
    try:
        rows = source.scan(Bounds(), ("series_id", "window_end"), files)
    except FileNotFoundError:  # merged and deleted since
        return None
    ids, days = rows["series_id"].to_numpy(), days_of(rows["window_end"].to_numpy())
    later = days[:, None] + DAY_MS * np.arange(DAYS_BEFORE + 1)
    keys = np.stack([np.repeat(ids, DAYS_BEFORE + 1), later.ravel()], axis=1)
    keys = keys[keys[:, 1] <= until_ms]
    return unique_keys(keys) if len(keys) else np.empty((0, 2), np.int64)


def _pieces(
    source: Snapshot, day_end_ms: int, ids: Ints | None, piece_rows: int
) -> Iterator[pa.Table]:
    """The hours that a day's rows are made of, each once, some series at a time."""
    bounds = Bounds(day_end_ms - HOURS_READ_MS, day_end_ms, ids)
    if ids is None:
        ids = np.unique(source.scan(bounds, ("series_id",))["series_id"].to_numpy())
    at_once = max(1, piece_rows // (24 * (DAYS_BEFORE + 1)))
    for start in range(0, len(ids), at_once):
        part = ids[start : start + at_once]
        within = Bounds(bounds.start_ms, bounds.end_ms, part)
        rows = source.scan(within, _COLUMNS, threads=1)
        keys = (rows[name].to_numpy() for name in ("series_id", "window_end", "revision"))
        yield rows.take(newest_revisions(*map(np.ascontiguousarray, keys)))
