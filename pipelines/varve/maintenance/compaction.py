"""Compaction: small files of a table become few sorted ones, while everything else goes on.

Ingest and rollups leave a file every few seconds. Files of one period (an hour of samples, a day
of rollup rows) are merged, FANOUT at a time while the period is open and all of them once it has
closed, so a row is written a few times in all and live files stay in proportion to the periods.
Of several copies of a sample and several revisions of a rollup row only the one that counts is
kept, and files of a closed period are laid out to stay (varve.storage.layout). Rows that came late
lie in files that spread over many periods: once there are enough of them they are dealt out to the
periods they belong to, so that a query of an hour need not look at the late rows of ten days. A
merge replaces exactly the files it read, in one commit whose rows are no news (dataChange=false):
whoever follows the table sees the same rows before and after.

Three tables are left alone: quarantine, as a replay takes its files out by name, and repairs and
baselines, which their writers replace.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.model import copies, record_rows
from varve.model.errors import Conflict
from varve.model.record_rows import RECORD_TABLES
from varve.model.staleness import from_column, to_column
from varve.model.window import DAY_MS, HOUR_MS, TIERS
from varve.rollups import window_keys
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.files import NewFile, write_file
from varve.storage.layout import ARRIVAL, COMPACT, CONDEMNED, Layout
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot
from varve.storage.store import COLDER, Store
from varve.storage.table import Table

FANOUT = 32
"""Files of like size that an open period gathers before they are merged."""

LATE_FANOUT = 8
"""The same of files that lie over several of the narrowest periods. They are few beside all others,
and who asks for one of these periods opens all of them.
"""

MAX_ROWS = 6_000_000
"""Rows that one merge holds in memory; about 0.5 GB of samples, 1.5 GB of rollup rows."""

WORTH_COMPACTING = 10_000
"""Rows of a period from which its file is laid out anew although there is none to merge it with,
and from which rows of a wider one are dealt out to it; a few late rows wait until there are
more."""

CLOSED_AFTER_MS = 2 * HOUR_MS
"""How long after its end a period counts as closed. Later files are late ones, and few."""

# Spans that a file may lie in, the narrowest that holds it first. None is all of time.
_SPANS: dict[str, tuple[int | None, ...]] = {
    "samples": (HOUR_MS, DAY_MS, None),
    **dict.fromkeys(RECORD_TABLES, (HOUR_MS, DAY_MS, None)),
    **{tier.table: (DAY_MS, 32 * DAY_MS, None) for tier in TIERS},
    "features": (32 * DAY_MS, None),
    "day_features": (32 * DAY_MS, None),
    "anomalies": (DAY_MS, 32 * DAY_MS, None),
    "episodes": (32 * DAY_MS, None),
    "episode_labels": (32 * DAY_MS, None),
    "forecasts": (32 * DAY_MS, None),
    "forecast_fits": (32 * DAY_MS, None),
    "capacity": (32 * DAY_MS, None),
    "alerts": (32 * DAY_MS, None),
    "quality": (32 * DAY_MS, None),
    "series": (None,),
}

TABLES = tuple(_SPANS)
"""The tables that are compacted."""

Span = tuple[int | None, int]
"""A period: its width, and its number from the epoch."""


@dataclass(frozen=True, slots=True)
class Merge:
    """Files of one period of a table, which become one sorted file, or several of MAX_ROWS.

    width: of the periods that each get a file of their own, if it is not None.
    """

    table: str
    span: Span
    files: tuple[LiveFile, ...]
    layout: Layout = ARRIVAL
    width: int | None = None

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did. rows_dropped: copies and old revisions that no longer take space."""

    table: str
    files_before: int
    files_after: int
    rows: int
    rows_dropped: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class DueMerges:
    """The merges that are due."""

    merges: tuple[Merge, ...]

    def as_json(self) -> Mapping[str, Any]:
        return {
            "merges": [
                {"table": m.table, "files": len(m.files), "rows": m.rows} for m in self.merges
            ]
        }

    def lines(self) -> Iterable[str]:
        for merge in self.merges:
            yield f"{merge.table}: {len(merge.files):,} files of {merge.rows:,} rows to merge"
        if not self.merges:
            yield "no table has files to merge"


@dataclass(frozen=True, slots=True)
class Compacted:
    """What the merges of a run did. left: those that a rival was in the way of."""

    merged: tuple[Merged, ...]
    left: int

    def as_json(self) -> Mapping[str, Any]:
        return {"merged": [asdict(merged) for merged in self.merged], "left": self.left}

    def lines(self) -> Iterable[str]:
        for m in self.merged:
            yield (
                f"{m.table}: {m.files_before:,} files became {m.files_after:,},"
                f" {m.bytes_before:,} bytes {m.bytes_after:,}, {m.rows_dropped:,} copies dropped"
            )
        yield f"{len(self.merged)} merges done, {self.left} left to the next run"


class Compaction:
    """The batch job: one round of merges in every table."""

    name: ClassVar[str] = "compact"
    tables: ClassVar[tuple[str, ...]] = TABLES

    def __init__(self, store: Store) -> None:
        self._store = store

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> DueMerges:
        return DueMerges(
            tuple(merge for table in snapshots.values() for merge in due_merges(table, now_ms))
        )

    def run(self, work: DueMerges) -> Compacted:
        handles: dict[str, Table] = {}
        done = []
        for merge in work.merges:
            if merge.table not in handles:
                handles[merge.table] = Table(self._store, merge.table, files=True)
            done.append(merge_files(self._store, merge, handles[merge.table]))
        merged = tuple(report for report in done if report is not None)
        return Compacted(merged, len(done) - len(merged))


def due_merges(snapshot: Snapshot, now_ms: int) -> list[Merge]:
    """The merges that are due in a table, the periods with most files first. Files in colder roots
    and of condemned series are left alone. No I/O.

    A period's files are disjoint from those of any other, so the merges can run in any order.
    """
    periods: dict[Span, list[LiveFile]] = {}
    for file in snapshot.files:
        if file.path.startswith(COLDER) or CONDEMNED.wrote(file.path):
            continue
        periods.setdefault(_span(snapshot, file), []).append(file)
    found: list[Merge] = []
    for span, files in periods.items():
        if _is_closed(span, now_ms):
            chosen, layout = _of_closed(files), COMPACT
        else:
            narrowest = span[0] == _SPANS[snapshot.table][0]
            chosen = _of_open(files, FANOUT if narrowest else LATE_FANOUT)
            layout = ARRIVAL
        if not chosen and (alone := next((f for f in files if _narrower(snapshot, [f])), None)):
            chosen = [alone]
        if chosen:
            width = _narrower(snapshot, chosen)
            if width is not None:
                newest = max(file.maximum[snapshot.time_column] for file in chosen)
                closed = _is_closed((width, (newest - 1) // width), now_ms)
                layout = COMPACT if closed else ARRIVAL
            found.append(Merge(snapshot.table, span, tuple(chosen), layout, width))
    return sorted(found, key=lambda merge: -len(merge.files))


def merge_files(store: Store, merge: Merge, table: Table | None = None) -> Merged | None:
    """Writes the merged file and swaps it in. Returns None if a rival has removed one of the files.

    table: a handle on the table with its files, for several merges; by default a new one.
    Raises OSError if the storage fails: the files stay as they were.
    """
    table = table or Table(store, merge.table, files=True)
    snapshot = Snapshot(store, merge.table, table.version, merge.files)
    rows = _order(merge.table)(snapshot.scan(Bounds()))
    parts = [rows] if merge.width is None else _dealt_out(rows, snapshot.time_column, merge.width)
    added = [file for part in parts for file in _written(store, merge, part)]
    removed = [Removal(file.path, file.size) for file in merge.files]
    report = Merged(
        merge.table,
        files_before=len(removed),
        files_after=len(added),
        rows=rows.num_rows,
        rows_dropped=merge.rows - rows.num_rows,
        bytes_before=sum(file.size for file in merge.files),
        bytes_after=sum(file.size for file in added),
    )
    try:
        rewrite(
            table,
            added,
            removed,
            metadata={"compaction": {"rows": report.rows, "rows_dropped": report.rows_dropped}},
        )
    except Conflict:
        return None
    return report


def _span(snapshot: Snapshot, file: LiveFile) -> Span:
    """The narrowest period of the table's that holds all rows of the file.

    Periods are left-open, as windows are: a task that reads the hour up to 10:00 reads no file of
    the next.
    """
    for width in _SPANS[snapshot.table]:
        if width is None:
            break
        column = snapshot.time_column
        low, high = file.minimum.get(column), file.maximum.get(column)
        if low is None or high is None:
            break
        if (low - 1) // width == (high - 1) // width:
            return width, (low - 1) // width
    return None, 0


def _narrower(snapshot: Snapshot, files: Sequence[LiveFile]) -> int | None:
    """The least width of periods that such files are worth dealing out to, None if none is: those
    that they reach over have WORTH_COMPACTING rows each on average. Files that are too large to be
    merged again are dealt out anyhow, to the widest periods. No I/O.
    """
    if _SPANS[snapshot.table] == (None,):
        return None
    column, rows = snapshot.time_column, sum(file.rows for file in files)
    if any(column not in file.minimum or column not in file.maximum for file in files):
        return None
    low = min(file.minimum[column] for file in files)
    high = max(file.maximum[column] for file in files)
    widest = None
    for width in _SPANS[snapshot.table]:
        if width is None:
            break
        periods = (high - 1) // width - (low - 1) // width + 1
        if periods == 1:
            break
        if rows >= WORTH_COMPACTING * periods:
            return width
        widest = width
    return widest if rows > MAX_ROWS // 2 else None


def _dealt_out(rows: pa.Table, column: str, width: int) -> Iterator[pa.Table]:
    """The rows of each period, oldest first, in their order."""
    periods = (rows.column(column).to_numpy() - 1) // width
    order = np.argsort(periods, kind="stable")
    sorted_periods = periods[order]
    edges = np.flatnonzero(sorted_periods[1:] != sorted_periods[:-1]) + 1
    for places in np.split(order, edges):
        yield rows.take(pa.array(places))


def _is_closed(span: Span, now_ms: int) -> bool:
    width, number = span
    return width is not None and (number + 1) * width + CLOSED_AFTER_MS <= now_ms


def _of_open(files: Sequence[LiveFile], fanout: int) -> list[LiveFile]:
    """`fanout` files or more of like size, as many as fit into memory.

    Sizes are alike within a factor of `fanout`, so a row is written again once for each such factor
    that its period grows by.
    """
    levels: dict[int, list[LiveFile]] = {}
    for file in _small(files):
        levels.setdefault(int(math.log(file.rows, fanout)), []).append(file)
    for _, same in sorted(levels.items()):
        if len(same) < fanout:
            continue
        sums = itertools.accumulate(file.rows for file in same)
        return [file for file, rows in zip(same, sums, strict=True) if rows <= MAX_ROWS]
    return []


def _of_closed(files: Sequence[LiveFile]) -> list[LiveFile]:
    """The smallest files of like size: each at most twice as large as those before it together.

    So a late file waits beside a large one until there is as much of it, and a row is written
    again only when its file at least grows by a third. Failing that, a file that is laid out as it
    arrived.
    """
    chosen: list[LiveFile] = []
    rows = 0
    for file in sorted(_small(files), key=lambda f: f.rows):
        if file.rows > 2 * rows or rows + file.rows > MAX_ROWS:
            if len(chosen) > 1:
                break
            chosen, rows = [], 0
        chosen.append(file)
        rows += file.rows
    if len(chosen) > 1:
        return chosen
    loose = (f for f in files if f.rows >= WORTH_COMPACTING and not COMPACT.wrote(f.path))
    return list(itertools.islice(loose, 1))


def _small(files: Sequence[LiveFile]) -> list[LiveFile]:
    """Files that a merge with another as large would not make larger than a merge may be."""
    return [file for file in files if file.rows <= MAX_ROWS // 2]


def _order(table: str) -> Callable[[pa.Table], pa.Table]:
    if table == "samples":
        return _samples
    if table in RECORD_TABLES:
        return partial(record_rows.arranged, table)
    if table in {"features", "anomalies", *(tier.table for tier in TIERS)}:
        return _rollup_rows
    return _series if table == "series" else lambda rows: rows


def _samples(rows: pa.Table) -> pa.Table:
    """Sorted by (series_id, ts); of copies the one that counts."""
    ids, ts, values = copies.merge(
        _integers(rows, "series_id"), _integers(rows, "ts"), from_column(rows.column("value"))
    )
    return pa.table({"series_id": ids, "ts": ts, "value": to_column(values)})


def _rollup_rows(rows: pa.Table) -> pa.Table:
    """Sorted by (series_id, window_end); of revisions the greatest."""
    chosen = window_keys.newest_revisions(
        _integers(rows, "series_id"), _integers(rows, "window_end"), _integers(rows, "revision")
    )
    return rows.take(chosen)


def _series(rows: pa.Table) -> pa.Table:
    """Sorted by series_id; of a series that was registered again the last registration."""
    ids = _integers(rows, "series_id")
    order = np.lexsort((_integers(rows, "last_seen"), ids))
    is_last = np.append(ids[order][1:] != ids[order][:-1], True)[: len(ids)]
    return rows.take(order[is_last])


def _integers(rows: pa.Table, column: str) -> npt.NDArray[np.int64]:
    return np.ascontiguousarray(rows.column(column).to_numpy())


def _written(store: Store, merge: Merge, rows: pa.Table) -> Iterator[NewFile]:
    for start in range(0, rows.num_rows, MAX_ROWS):
        yield write_file(store, merge.table, rows.slice(start, MAX_ROWS), merge.layout)
