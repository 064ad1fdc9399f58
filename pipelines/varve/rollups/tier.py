"""The driver's side of a tier: what to close, what to repair, and the commit of it.

A tier is a function of the table below it. Its two positions are in its own table: `frontier:`,
up to which its windows are closed, and `source:`, the version below up to which every late row is
repaired. Both move in the commit of the rows they stand for, so a crash loses nothing: what is
pending is derived again from the logs. docs/adr/0008.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from varve.model.clock import Clock
from varve.model.window import Tier, Window, window_end
from varve.rollups import task_ranges
from varve.rollups.frontier import reachable
from varve.rollups.late_rows import (
    NOTHING,
    SETTLED_KEY,
    VERSION_KEY,
    Late,
    find,
    first_start,
    settled_since,
)
from varve.rollups.pending_repairs import Pending
from varve.rollups.repair_log import REPAIRS_KEY, RepairNotes, rows_of
from varve.rollups.repair_throttle import Pace
from varve.rollups.task import NO_KEYS, RollupTask
from varve.rollups.task_ranges import Part
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import NewFile
from varve.storage.snapshot import Follower, Snapshot
from varve.storage.store import Store

# Tasks of one commit that closes, for each that can run side by side: a backlog is worked off in
# steps, each of which is kept. A repair has one for each: closes wait for no more than that.
WAVES_PER_STEP = 4
# With nothing to write, `source:` moves after this many versions, so that the log can expire.
VERSIONS_PER_MARK = 1_000


@dataclass(frozen=True, slots=True)
class TierPlan:
    """How a tier is run. queries: the input queries whose completeness bounds the first tier.

    grace_ms: how long a window stays open after its input is complete. Late windows are gathered
    until repair_every_ms have passed or there are repair_keys. at_once: tasks that can run side by
    side.
    """

    store: Store
    tier: Tier
    queries: tuple[str, ...]
    grace_ms: int
    repair_every_ms: int
    repair_keys: int
    at_once: int = 2


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks to run, and what is true once their rows are committed."""

    tasks: tuple[RollupTask, ...]
    steps: dict[str, Step]
    version: int
    """Of the table below, that the tasks read."""
    closed: Window | None = None
    settled: tuple[Window, ...] = ()
    """Ranges of closed windows that then lack nothing of that version."""
    repaired: Late = NOTHING
    refused: Late = NOTHING
    notes: tuple[dict[str, Any], ...] = ()
    begun_ms: int = 0
    ends_sweep: bool = False
    more: bool = False
    """There is more to do at once."""


@dataclass(frozen=True, slots=True)
class TierState:
    """How far a tier is. frontier_ms: None before its first commit. pending: windows touched by
    late rows and not repaired. behind: versions of the table below since `source:`.
    """

    frontier_ms: int | None
    pending: int
    behind: int


@dataclass(slots=True)
class _Memory:
    """What a worker knows besides the tables, all of it derived from them. turn: of the commit it
    is true after.
    """

    turn: int | None
    pending: Pending


class TierWorker:
    """Plans and commits the work of one tier. Not safe to share by threads."""

    def __init__(self, plan: TierPlan, clock: Clock, pace: Pace | None = None) -> None:
        """pace: one for all tiers of a job. Raises NeedsOperator if a table is missing."""
        self._plan = plan
        self._clock = clock
        self._pace = pace or Pace()
        self._source = Follower(plan.store, plan.tier.source)
        self._target = Follower(plan.store, plan.tier.table)
        self._notes = RepairNotes(plan.store, plan.tier)
        self._memory: _Memory | None = None
        self.recover()

    @property
    def tier(self) -> Tier:
        return self._plan.tier

    def recover(self) -> None:
        """Forgets what is in memory, for the next plan to derive from the tables, and completes
        what a driver that died has left undone.
        """
        self._memory = None
        self._target.refresh()
        self._notes.finish(self._target.table)

    def plan(self) -> Work | None:
        """What there is to do now; None if nothing. Closes go before repairs."""
        return self.plan_close() or self.plan_repair()

    def plan_close(self) -> Work | None:
        """The next windows to close; None if none can be closed now."""
        source, now_ms = self._look()
        tier = self._plan.tier
        frontier = self._target.position(positions.frontier(tier.name))
        end = reachable(tier, self._source.table, self._plan.queries, self._plan.grace_ms)
        begin = first_start(source, tier) if frontier is None else frontier
        if begin is None or end is None or end <= begin:
            return None
        if frontier is None:
            self._memory = _Memory(self._turn(), Pending(tier, source.version))
        else:
            self._gather(source, frontier, now_ms)
        return self._close(source, Window(begin, end), now_ms)

    def plan_repair(self) -> Work | None:
        """The next piece of repairs; None if none is due."""
        source, now_ms = self._look()
        frontier = self._target.position(positions.frontier(self._plan.tier.name))
        if frontier is None:
            return None
        memory = self._gather(source, frontier, now_ms)
        if self._due(memory, now_ms):
            return self._repair(source, memory, now_ms)
        return self._mark(source, memory)

    def _look(self) -> tuple[Snapshot, int]:
        """The newest snapshot of the table below, and the time."""
        now_ms = self._clock.now_ms()
        # In this order: then no commit of the tier was computed from a newer version than we see.
        self._target.refresh()
        return self._source.refresh(), now_ms

    def state(self) -> TierState:
        """As of the last plan or commit."""
        name, seen = self._plan.tier.name, self._source.snapshot.version
        marked = self._target.position(positions.source(name))
        return TierState(
            self._target.position(positions.frontier(name)),
            len(self._memory.pending) if self._memory else 0,
            seen - (-1 if marked is None else marked),
        )

    def commit(self, work: Work, files: Sequence[NewFile]) -> dict[str, Any]:
        """Commits the rows of a work and moves the tier's positions; returns its accounting.

        Raises Conflict if another driver has moved the tier: `recover`, then plan again.
        """
        memory, tier = self._memory, self._plan.tier
        if memory is None:
            raise ValueError(
                "a work is committed by the worker that planned it, before it recovers"
            )
        metadata = {
            "tier": tier.name,
            VERSION_KEY: work.version,
            "rows": sum(f.rows for f in files),
            "files": len(files),
            "written_bytes": sum(f.size for f in files),
            "closed": _pair(work.closed) if work.closed else None,
            SETTLED_KEY: [_pair(w) for w in work.settled],
            "repaired": len(work.repaired.keys),
            "refused": len(work.refused.keys),
            REPAIRS_KEY: list(work.notes),
        }
        commit(self._target.table, files, transactions=work.steps, metadata=metadata)
        memory.turn = work.steps[positions.turn(tier.name)].new
        is_repair = bool(work.repaired)
        for window in work.settled:
            memory.pending.settle(window, sweep=is_repair)
        now_ms = self._clock.now_ms()
        if is_repair:
            self._pace.worked(max(now_ms - work.begun_ms, 0), now_ms)
        if work.ends_sweep:
            memory.pending.end_sweep(now_ms)
        if work.notes:
            self._notes.write(memory.turn, work.notes)
        return metadata

    def _gather(self, source: Snapshot, frontier: int, now_ms: int) -> _Memory:
        """What is pending, with what has come since the last look."""
        plan, tier = self._plan, self._plan.tier
        memory = self._memory
        if memory is None or memory.turn != self._turn():
            # After a start, or a rival was here: what it left open may be what we took for settled.
            marked = self._target.position(positions.source(tier.name))
            marked = -1 if marked is None else marked
            settled = settled_since(plan.store, tier, self._target.table.version, marked)
            late = find(plan.store, tier, source, marked, frontier, settled)
            memory = self._memory = _Memory(self._turn(), Pending(tier, source.version))
        else:
            late = find(plan.store, tier, source, memory.pending.seen, frontier)
        memory.pending.gather(
            late,
            source.version,
            frontier,
            now_ms,
            lambda window: task_ranges.rows_within(self._target.refresh(), window),
        )
        return memory

    def _due(self, memory: _Memory, now_ms: int) -> bool:
        pending, plan = memory.pending, self._plan
        if pending.target is not None:
            return True
        if pending.since_ms is None:
            return False
        if plan.tier.source == "samples" and self._pace.rests(now_ms):
            return False
        waited = now_ms - pending.since_ms
        return waited >= plan.repair_every_ms or len(pending) >= plan.repair_keys

    def _close(self, source: Snapshot, open_: Window, now_ms: int) -> Work:
        """The next windows to close, up to WAVES_PER_STEP for each task at once."""
        tier, memory = self._plan.tier, self._memory
        steps = self._turn_step()
        begin, refused = self._first_exact(open_), NOTHING
        if begin > open_.start_ms:
            refused = Late(NO_KEYS, (Window(open_.start_ms, begin),))
            held = self._target.position(positions.expired())
            steps[positions.expired()] = Step(held, begin if held is None else max(held, begin))
        tasks: list[RollupTask] = []
        reached = begin
        if begin < open_.end_ms:
            at_once = self._plan.at_once
            parts = task_ranges.by_time(
                source, Window(begin, open_.end_ms), tier, task_ranges.ROWS_PER_TASK
            )
            # Parts of the time keep everybody busy; parts of a part would read its files again.
            pieces = 1 if len(parts) >= at_once else at_once
            for part in parts:
                if len(tasks) >= WAVES_PER_STEP * at_once:
                    break
                tasks += self._tasks(source, part, pieces)
                reached = part.window.end_ms
        closed = Window(open_.start_ms, reached)
        frontier = self._target.position(positions.frontier(tier.name))
        steps[positions.frontier(tier.name)] = Step(frontier, reached)
        if memory is not None and not len(memory.pending):
            steps |= self._source_step(source.version)
        work = Work(tuple(tasks), steps, source.version, closed, (closed,), refused=refused)
        return self._noted(work, now_ms, more=reached < open_.end_ms)

    def _repair(self, source: Snapshot, memory: _Memory, now_ms: int) -> Work:
        """The next piece of a sweep, a task for each that can run at once."""
        pending = memory.pending
        pending.begin_sweep()
        expired = self._source.position(positions.expired())
        gone = None if expired is None else pending.before(expired)
        if gone is not None:
            # Nothing else is done in this step: what is left is seen in the next.
            work = Work((), self._turn_step(), source.version, None, (gone,), NOTHING)
            return self._noted(replace(work, refused=pending.inside(gone)), now_ms, more=True)
        ahead = pending.ahead()
        tasks: list[RollupTask] = []
        settled: tuple[Window, ...] = ()
        repaired = NOTHING
        finished = True
        if ahead is not None:
            reached = ahead.start_ms
            for part in self._parts(source, ahead, pending):
                if len(tasks) >= self._plan.at_once:
                    finished = False
                    break
                tasks += self._repairs(source, pending.inside(part.window))
                reached = part.window.end_ms
            settled = (Window(ahead.start_ms, reached),)
            repaired = pending.inside(settled[0])
        steps = self._turn_step()
        if finished and pending.target is not None:
            done = pending.all_inside(settled)
            steps |= self._source_step(source.version if done else pending.target)
        work = Work(
            tuple(tasks), steps, source.version, None, settled, repaired, ends_sweep=finished
        )
        return self._noted(work, now_ms, more=not finished)

    def _mark(self, source: Snapshot, memory: _Memory) -> Work | None:
        """Moves `source:` now and then when there is nothing else to do."""
        marked = self._target.position(positions.source(self._plan.tier.name)) or 0
        if len(memory.pending) or source.version - marked < VERSIONS_PER_MARK:
            return None
        return Work((), self._turn_step() | self._source_step(source.version), source.version)

    def _parts(self, source: Snapshot, ahead: Window, pending: Pending) -> Iterator[Part]:
        """Of a sweep: wide where windows are repaired one by one, which keeps few of the rows that
        are read, and reads files that span days once.
        """
        tier = self._plan.tier
        for part in task_ranges.by_time(source, ahead, tier, task_ranges.ROWS_TO_LOOK_THROUGH):
            is_sparse = not pending.inside(part.window).whole
            if is_sparse:
                yield part
            else:
                yield from task_ranges.by_time(source, part.window, tier, task_ranges.ROWS_PER_TASK)

    def _tasks(self, source: Snapshot, part: Part, pieces: int) -> list[RollupTask]:
        """All windows of a part. pieces: into which it is cut if that pays."""
        files = tuple(source.select(Bounds(part.window.start_ms, part.window.end_ms)))
        if not files:
            return []
        plan = self._plan
        task = RollupTask(plan.store, plan.tier, part.window, source.version, files)
        return [
            task
            if cut is None
            else replace(task, series=cut, files=task_ranges.overlapping(files, cut))
            for cut in task_ranges.by_series(source, files, part.rows, pieces)
        ]

    def _repairs(self, source: Snapshot, late: Late) -> list[RollupTask]:
        """Late windows: one task, or none."""
        if not late:
            return []
        plan = self._plan
        times = late.ranges(plan.tier.width_ms)
        window = Window(times[0].start_ms, times[-1].end_ms)
        ids = None if late.whole else np.unique(late.keys[:, 0])
        files = tuple(source.select(Bounds(window.start_ms, window.end_ms, ids)))
        if not files:
            return []
        task = RollupTask(plan.store, plan.tier, window, source.version, files)
        return [replace(task, keys=late.keys, whole=late.whole)]

    def _noted(self, work: Work, now_ms: int, *, more: bool) -> Work:
        """With the rows for the table repairs."""
        tier = self._plan.tier
        notes = [
            *rows_of(tier, work.repaired, "repaired", work.version, now_ms),
            *rows_of(tier, work.refused, "refused", work.version, now_ms),
        ]
        steps = work.steps
        if notes:
            held = self._target.position(positions.repairs(tier.name))
            steps |= {
                positions.repairs(tier.name): Step(held, steps[positions.turn(tier.name)].new)
            }
        return replace(work, steps=steps, notes=tuple(notes), begun_ms=now_ms, more=more)

    def _first_exact(self, open_: Window) -> int:
        """Start of the first window to close whose samples are certainly all there."""
        expired = self._source.position(positions.expired())
        if expired is None or expired <= open_.start_ms:
            return open_.start_ms
        return min(window_end(expired, self._plan.tier.width_ms), open_.end_ms)

    def _turn(self) -> int | None:
        return self._target.position(positions.turn(self._plan.tier.name))

    def _turn_step(self) -> dict[str, Step]:
        turn = self._turn()
        return {positions.turn(self._plan.tier.name): Step(turn, 0 if turn is None else turn + 1)}

    def _source_step(self, version: int) -> dict[str, Step]:
        name = positions.source(self._plan.tier.name)
        return {name: Step(self._target.position(name), version)}


def _pair(window: Window) -> list[int]:
    return [window.start_ms, window.end_ms]
