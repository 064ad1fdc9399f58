"""The driver's side of a tier: what to close, what to repair, and the commit of it.

A tier is a function of the table below it. Its two positions are in its own table: `frontier:`,
up to which its windows are closed, and `source:`, the version below up to which every late row is
repaired. Both move in the commit of the rows they stand for, so a crash loses nothing: what is
pending is derived again from the log between `source:` and now. docs/adr/0008.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from varve.model.clock import Clock
from varve.model.window import Tier, Window, floor_to
from varve.rollups.frontier import expired_id, frontier_id, reachable, source_id
from varve.rollups.task import RollupTask, touched, unique_keys
from varve.storage.commit import Step, commit
from varve.storage.files import NewFile
from varve.storage.log import LogEntry, entries
from varve.storage.snapshot import Bounds, Follower, Snapshot
from varve.storage.store import Store
from varve.storage.table import Table

# Source rows of one task: a second or two of work, tens of MB.
ROWS_PER_TASK = 2_000_000
# Tasks of one commit: a backlog is worked off in steps, each of which is kept.
TASKS_PER_STEP = 8
# With nothing to write, `source:` moves after this many versions, so that the log can expire.
VERSIONS_PER_MARK = 1_000

_NO_KEYS = np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True, slots=True)
class TierPlan:
    """How a tier is run. queries: the input queries whose completeness bounds the first tier.

    grace_ms: how long a window stays open after its input is complete. Late windows are gathered
    until repair_every_ms have passed or there are repair_keys.
    """

    store: Store
    tier: Tier
    queries: tuple[str, ...]
    grace_ms: int
    repair_every_ms: int
    repair_keys: int


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks to run, and what is true once their rows are committed."""

    tasks: tuple[RollupTask, ...]
    steps: dict[str, Step]
    closed: Window | None
    repaired: npt.NDArray[np.int64] = field(default_factory=lambda: _NO_KEYS)
    refused: npt.NDArray[np.int64] = field(default_factory=lambda: _NO_KEYS)
    more: bool = False
    """There is more to close at once."""


class TierWorker:
    """Plans and commits the work of one tier. Not safe to share by threads."""

    def __init__(self, plan: TierPlan, clock: Clock) -> None:
        self._plan = plan
        self._clock = clock
        self._source = Follower(plan.store, plan.tier.source)
        self._target = Table(plan.store, plan.tier.table)
        self._repairs = Table(plan.store, "repairs")
        self.recover()

    def recover(self) -> None:
        """Forgets what is in memory; the next plan derives it from the tables."""
        self._seen: int | None = None
        self._pending = _NO_KEYS
        self._pending_since = 0

    def plan(self) -> Work | None:
        """What there is to do now; None if nothing."""
        tier, now_ms = self._plan.tier, self._clock.now_ms()
        source = self._source.refresh()
        self._target.refresh()
        frontier = self._target.position(frontier_id(tier.name))
        end = reachable(tier, self._source.table, self._plan.queries, self._plan.grace_ms)
        if end is None:
            return None
        start = _first_start(source, tier) if frontier is None else frontier
        if start is None:
            return None
        self._look(source, frontier, now_ms)
        tasks, closed, more = self._close(source, Window(start, end) if end > start else None)
        refused, repaired = _NO_KEYS, _NO_KEYS
        if self._due(now_ms):
            refused, repaired = self._split_expired(self._pending)
            tasks = [*tasks, *self._repair(source, repaired)]
        settled = not len(self._pending) or bool(len(repaired) or len(refused))
        marked = self._target.position(source_id(tier.name))
        version = source.version if settled else marked
        overdue = settled and source.version - (marked or 0) >= VERSIONS_PER_MARK
        if closed is None and not len(repaired) and not len(refused) and not overdue:
            return None
        steps = {}
        if closed is not None:
            steps[frontier_id(tier.name)] = Step(frontier, closed.end_ms)
        if version is not None:
            steps[source_id(tier.name)] = Step(marked, version)
        return Work(tuple(tasks), steps, closed, repaired, refused, more)

    def commit(self, work: Work, files: Sequence[NewFile]) -> dict[str, Any]:
        """Commits the rows of a work and moves the tier's positions; returns its accounting.

        Raises Conflict if another driver has moved the tier: `recover`, then plan again.
        """
        metadata = {
            "tier": self._plan.tier.name,
            "rows": sum(f.rows for f in files),
            "closed": [work.closed.start_ms, work.closed.end_ms] if work.closed else None,
            "repaired": len(work.repaired),
            "refused": len(work.refused),
        }
        commit(self._target, files, transactions=work.steps, metadata=metadata)
        if len(work.repaired) or len(work.refused):
            self._pending = _NO_KEYS
        return metadata

    def _look(self, source: Snapshot, frontier: int | None, now_ms: int) -> None:
        """Adds the closed windows that new files touch to the pending ones."""
        tier = self._plan.tier
        if frontier is None:
            self._seen = source.version
            return
        first_look = self._seen is None
        if self._seen is None:
            self._seen = self._target.position(source_id(tier.name)) or -1
        log = list(entries(self._plan.store, tier.source, self._seen, source.version))
        self._seen = source.version
        if first_look:
            keys = self._unrepaired(source, log, frontier)
        else:
            files = [f for entry in log for f in entry.adds]
            keys = touched(source, files, tier, frontier)
        if not len(keys):
            return
        if not len(self._pending):
            self._pending_since = now_ms
        self._pending = unique_keys(np.concatenate([self._pending, keys]))

    def _unrepaired(
        self, source: Snapshot, log: Sequence[LogEntry], frontier: int
    ) -> npt.NDArray[np.int64]:
        """After a start: windows touched by a version that their row does not include yet."""
        found, versions = [], []
        for entry in log:
            keys = touched(source, entry.adds, self._plan.tier, frontier)
            found.append(keys)
            versions.append(np.full(len(keys), entry.version))
        if not any(len(keys) for keys in found):
            return _NO_KEYS
        keys, version = np.concatenate(found), np.concatenate(versions)
        revision = self._revisions(keys)
        return unique_keys(keys[revision < version])

    def _revisions(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Greatest revision there is of each window; -1 where there is no row."""
        target = Follower(self._plan.store, self._plan.tier.table).snapshot
        bounds = Bounds(keys[:, 1].min() - 1, keys[:, 1].max(), np.unique(keys[:, 0]))
        rows = target.scan(bounds, ["series_id", "window_end", "revision"])
        greatest: dict[tuple[int, int], int] = {}
        columns = [rows.column(c).to_pylist() for c in rows.schema.names]
        for series, end, revision in zip(*columns, strict=True):
            key = (series, end)
            greatest[key] = max(revision, greatest.get(key, -1))
        return np.array([greatest.get((s, e), -1) for s, e in keys.tolist()], dtype=np.int64)

    def _due(self, now_ms: int) -> bool:
        if not len(self._pending):
            return False
        waited = now_ms - self._pending_since
        return waited >= self._plan.repair_every_ms or len(self._pending) >= self._plan.repair_keys

    def _split_expired(
        self, keys: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Windows whose samples may be gone, which keep their old row, and the others."""
        if self._plan.tier.source != "samples":
            return _NO_KEYS, keys
        expired = self._source.position(expired_id())
        gone = np.zeros(len(keys), dtype=bool)
        if expired is not None:
            gone = keys[:, 1] - self._plan.tier.width_ms < expired
        return keys[gone], keys[~gone]

    def _close(
        self, source: Snapshot, window: Window | None
    ) -> tuple[list[RollupTask], Window | None, bool]:
        if window is None:
            return [], None, False
        ranges = _split(source, window, self._plan.tier)
        kept = ranges[:TASKS_PER_STEP]
        closed = Window(window.start_ms, kept[-1].end_ms)
        return self._tasks(source, kept), closed, len(kept) < len(ranges)

    def _repair(self, source: Snapshot, keys: npt.NDArray[np.int64]) -> list[RollupTask]:
        if not len(keys):
            return []
        width = self._plan.tier.width_ms
        whole = Window(int(keys[:, 1].min()) - width, int(keys[:, 1].max()))
        tasks = []
        for part in _split(source, whole, self._plan.tier):
            inside = keys[(keys[:, 1] > part.start_ms) & (keys[:, 1] <= part.end_ms)]
            if len(inside):
                tight = Window(int(inside[:, 1].min()) - width, int(inside[:, 1].max()))
                tasks += self._tasks(source, [tight], inside)
        return tasks

    def _tasks(
        self,
        source: Snapshot,
        ranges: Sequence[Window],
        keys: npt.NDArray[np.int64] | None = None,
    ) -> list[RollupTask]:
        ids = None if keys is None else np.unique(keys[:, 0])
        tasks = []
        for part in ranges:
            files = tuple(source.select(Bounds(part.start_ms, part.end_ms, ids)))
            if files:
                tasks.append(
                    RollupTask(self._plan.store, self._plan.tier, part, source.version, files, keys)
                )
        return tasks


def _first_start(source: Snapshot, tier: Tier) -> int | None:
    """Start of the first window that holds a row; None for an empty source."""
    times = [f.minimum[source.time_column] for f in source.files]
    return floor_to(min(times) - 1, tier.width_ms) if times else None


def _split(source: Snapshot, whole: Window, tier: Tier) -> list[Window]:
    """Cuts a range of whole windows into parts of about ROWS_PER_TASK source rows each.

    A file's rows are taken to be spread evenly over its time range.
    """
    files = source.select(Bounds(whole.start_ms, whole.end_ms))
    if not files:
        return [whole]
    low = np.array([f.minimum[source.time_column] for f in files], dtype=np.float64)
    high = np.array([f.maximum[source.time_column] for f in files], dtype=np.float64)
    rows = np.array([f.rows for f in files], dtype=np.float64)
    windows = (whole.end_ms - whole.start_ms) // tier.width_ms
    cuts = whole.start_ms + tier.width_ms * np.unique(
        np.linspace(0, windows, min(int(windows), 500) + 1).round().astype(np.int64)
    )
    shares = np.clip((cuts[:, None] - low) / np.maximum(high - low, 1), 0, 1)
    cumulative = shares @ rows
    parts, begin = [], 0
    for i in range(1, len(cuts)):
        is_last = i == len(cuts) - 1
        if is_last or cumulative[i + 1] - cumulative[begin] > ROWS_PER_TASK:
            parts.append(Window(int(cuts[begin]), int(cuts[i])))
            begin = i
    return parts
