"""Expiry of tables that say what happened: alerts, anomalies, forecasts, results of checks.

They are small, and nothing is computed from their old rows, so no mark has to go ahead. Only files
that are old as a whole go. Of alerts the last word on each that is still pending or firing stays,
however old it is: whoever takes over its rule goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from varve.model.window import DAY_MS
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.files import write_file
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot
from varve.storage.table import Table

TABLES = (
    "features",
    "day_features",
    "anomalies",
    "episodes",
    "episode_labels",
    "alerts",
    "forecasts",
    "forecast_fits",
    "capacity",
    "quality",
)

KEPT_MS = 400 * DAY_MS
"""How long rows of these tables are kept: as hourly rollups by default, thirteen months."""

_ALERTS = "alerts"
_OPEN = frozenset({"pending", "firing"})


def old_files(seen: Snapshot, until_ms: int) -> list[LiveFile]:
    """The files of a table whose rows are all of times up to until_ms and not all still needed."""
    column = seen.time_column
    old = [f for f in seen.files if f.maximum.get(column, until_ms + 1) <= until_ms]
    if not old or seen.table != _ALERTS:
        return old
    kept = _last_words(seen, old)
    return old if kept.num_rows < sum(file.rows for file in old) else []


def drop(seen: Snapshot, old: Sequence[LiveFile]) -> int:
    """Removes the files; how many rows have gone.

    Raises Conflict if a rival has removed one of them, OSError if the storage fails.
    """
    table = Table(seen.store, seen.table, files=True)
    removals = [Removal(file.path, file.size, rows_disappear=True) for file in old]
    adds, left = [], 0
    if seen.table == _ALERTS and (kept := _last_words(seen, old)).num_rows:
        adds, left = [write_file(seen.store, seen.table, kept)], kept.num_rows
    rewrite(table, adds, removals)
    return sum(file.rows for file in old) - left


def _last_words(seen: Snapshot, files: Sequence[LiveFile]) -> pa.Table:
    """The rows of the files that are the last of an alert which has not ended."""
    columns = ["rule_group", "fingerprint", "evaluated_at", "state", "review"]
    last: dict[tuple[str, str], tuple[int, str]] = {}
    for row in seen.scan(Bounds(), columns).to_pylist():
        if row["review"] is None and row["rule_group"] is not None:
            key, said = (row["rule_group"], row["fingerprint"]), (row["evaluated_at"], row["state"])
            last[key] = max(last.get(key, said), said)
    rows = seen.scan(Bounds(), files=files)
    wanted = [
        row["review"] is None
        and row["state"] in _OPEN
        and last.get((row["rule_group"], row["fingerprint"])) == (row["evaluated_at"], row["state"])
        for row in rows.select(columns).to_pylist()
    ]
    return rows.filter(pa.array(wanted, pa.bool_()))
