"""The driver's side of a tier: what to close, what to repair, and the commit of it.

A tier is a function of the table below it. Its two positions are in its own table: `frontier:`,
up to which its windows are closed, and `source:`, the version of the table below up to which every
late row is repaired. Both move in the commit of the rows they stand for, so a crash loses nothing:
what is pending is derived again from the logs. docs/adr/0008.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from varve.model.clock import Clock
from varve.model.window import Tier, Window, window_end
from varve.rollups import task_ranges, tier_tasks, time_ranges
from varve.rollups.expired_series import ExpiredSeriesReader, refused_windows
from varve.rollups.frontier import reachable_frontier
from varve.rollups.late_rows import (
    COMPUTED_KEY,
    NO_LATE_WINDOWS,
    VERSION_KEY,
    LateWindows,
    computed_since,
    find_late_windows,
    first_window_start,
)
from varve.rollups.pending_repairs import PendingRepairs
from varve.rollups.repair_log import REPAIRS_KEY, RepairNotes, rows_of
from varve.rollups.repair_throttle import RepairThrottle
from varve.rollups.task import NO_KEYS, RollupTask
from varve.rollups.tier_plan import PlannedCommit, TierPlan, TierProgress
from varve.storage import positions
from varve.storage.commit import Step, commit
from varve.storage.files import NewFile
from varve.storage.snapshot import Follower, Snapshot

log = logging.getLogger(__name__)

# With nothing to write, `source:` moves after this many versions, so that the log can expire.
VERSIONS_PER_MARK = 1_000


class TierWorker:
    """Plans and commits the work of one tier. Not safe to share by threads.

    Besides the tables it keeps only what is pending: `_pending` is None, or true as of the tier's
    commit `_pending.turn`. If that is not the tier's last commit, a rival was here, and what is
    pending is derived from the logs again.
    """

    def __init__(
        self, plan: TierPlan, clock: Clock, throttle: RepairThrottle | None = None
    ) -> None:
        """throttle: one for all tiers of a job. Raises NeedsOperator if a table is missing."""
        self._plan = plan
        self._clock = clock
        self._throttle = throttle or RepairThrottle()
        self._source = Follower(plan.store, plan.tier.source)
        self._target = Follower(plan.store, plan.tier.table)
        self._notes = RepairNotes(plan.store, plan.tier)
        self._expired_series = ExpiredSeriesReader(plan.store)
        self._pending: PendingRepairs | None = None
        self._unreadable: tuple[str, ...] = ()
        self._is_recovered = False

    @property
    def tier(self) -> Tier:
        return self._plan.tier

    def recover(self) -> None:
        """Forgets what is in memory, for the next plan to derive from the tables, and completes
        what a driver that died has left undone.
        """
        self.forget()
        self._target.refresh()
        self._notes.finish(self._target.table)
        self._is_recovered = True

    def forget(self) -> None:
        """Forgets what is in memory: the next plan begins with `recover`."""
        self._pending = None
        self._is_recovered = False

    def plan(self) -> PlannedCommit | None:
        """What there is to do now; None if nothing. Closes go before repairs."""
        return self.plan_close() or self.plan_repair()

    def plan_close(self) -> PlannedCommit | None:
        """The next windows to close; None if none can be closed now."""
        source, now_ms = self._look()
        tier = self._plan.tier
        frontier = self._position(positions.frontier(tier.name))
        end = reachable_frontier(tier, self._source.table, self._plan.queries, self._plan.grace_ms)
        begin = first_window_start(source, tier) if frontier is None else frontier
        if begin is None or end is None or end <= begin:
            return None
        if frontier is None:
            self._pending = PendingRepairs(tier, source.version, self._turn())
        else:
            self._gather(source, frontier, now_ms)
        return self._close(source, Window(begin, end), now_ms)

    def plan_repair(self) -> PlannedCommit | None:
        """The next piece of repairs; None if none is due."""
        source, now_ms = self._look()
        frontier = self._position(positions.frontier(self._plan.tier.name))
        if frontier is None:
            # No window is closed, so none lacks rows, whatever the version.
            self._pending = PendingRepairs(self._plan.tier, source.version, self._turn())
            return self._mark(source, self._pending)
        pending = self._gather(source, frontier, now_ms)
        if self._is_due(pending, now_ms):
            return self._repair(source, pending, now_ms)
        return self._mark(source, pending)

    def progress(self) -> TierProgress:
        """How far the tier is as of the last plan or commit."""
        name, seen = self._plan.tier.name, self._source.snapshot.version
        marked = self._position(positions.source(name))
        return TierProgress(
            self._position(positions.frontier(name)),
            len(self._pending) if self._pending else 0,
            seen - (-1 if marked is None else marked),
            self._unreadable,
        )

    def commit(
        self,
        planned: PlannedCommit,
        files: Sequence[NewFile],
        *,
        gaps: Sequence[Window] = (),
        unreadable: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Commits the rows of the tasks and moves the tier's positions; returns the accounting.

        gaps: ranges of windows that the tasks could not compute, which stay pending, and the files
        that could not be read. Raises Conflict if another driver has moved the tier: `recover`,
        then plan again.
        """
        pending, tier = self._pending, self._plan.tier
        if pending is None:
            raise ValueError("a commit is made by the worker that planned it, before it recovers")
        if gaps:
            planned = self._without(planned, gaps)
        metadata = {
            "tier": tier.name,
            VERSION_KEY: planned.source_version,
            "rows": sum(f.rows for f in files),
            "files": len(files),
            "written_bytes": sum(f.size for f in files),
            "closed": _pair(planned.closed) if planned.closed else None,
            COMPUTED_KEY: [_pair(w) for w in planned.computed],
            "repaired": len(planned.repaired.keys),
            "refused": len(planned.refused.keys),
            REPAIRS_KEY: list(planned.notes),
        }
        commit(self._target.table, files, transactions=planned.steps, metadata=metadata)
        turn = planned.steps[positions.turn(tier.name)].new
        pending.turn = turn
        pending.remove(planned.computed)
        now_ms = self._clock.now_ms()
        if planned.swept_to_ms is not None:
            pending.sweep_to(planned.swept_to_ms)
            self._throttle.record(max(now_ms - planned.begun_ms, 0), now_ms)
        if gaps:
            self._block(pending, gaps, unreadable, now_ms)
        if planned.ends_sweep:
            pending.end_sweep(now_ms)
        if planned.notes:
            self._notes.write(turn, planned.notes)
        return metadata

    def _look(self) -> tuple[Snapshot, int]:
        """The newest snapshot of the table below, and the time."""
        if not self._is_recovered:
            self.recover()
        now_ms = self._clock.now_ms()
        # In this order: then no commit of the tier was computed from a newer version than we see.
        self._target.refresh()
        return self._source.refresh(), now_ms

    def _gather(self, source: Snapshot, frontier: int, now_ms: int) -> PendingRepairs:
        """What is pending, with what has come since the last look."""
        plan, tier = self._plan, self._plan.tier
        pending = self._pending
        if pending is None or pending.turn != self._turn():
            # After a start, or a rival was here: it may have closed windows from an older version
            # than the one up to which we took their rows to be computed.
            marked = self._position(positions.source(tier.name))
            marked = -1 if marked is None else marked
            computed = computed_since(plan.store, tier, self._target.table.version, marked)
            late = find_late_windows(plan.store, tier, source, marked, frontier, computed)
            pending = self._pending = PendingRepairs(tier, source.version, self._turn())
        else:
            late = find_late_windows(plan.store, tier, source, pending.gathered_to, frontier)
        pending.gather(
            late,
            source.version,
            frontier,
            now_ms,
            lambda window: task_ranges.rows_within(self._target.refresh(), window),
        )
        if not pending.blocked:
            self._unreadable = ()
        return pending

    def _is_due(self, pending: PendingRepairs, now_ms: int) -> bool:
        """Whether a piece of repairs is to be made now."""
        plan = self._plan
        if pending.sweep_version is not None:
            return True
        if pending.oldest_ms is None:
            return False
        if plan.tier.source == "samples" and self._throttle.is_paused(now_ms):
            return False
        waited_ms = now_ms - pending.oldest_ms
        return waited_ms >= plan.repair_every_ms or len(pending) >= plan.repair_keys

    def _close(self, source: Snapshot, window: Window, now_ms: int) -> PlannedCommit:
        """Closes the windows of a range, or of its first part."""
        tier = self._plan.tier
        steps = self._turn_step()
        begin, refused = self._first_exact(window), NO_LATE_WINDOWS
        if begin > window.start_ms:
            refused = LateWindows(NO_KEYS, (Window(window.start_ms, begin),))
            held = self._position(positions.expired())
            steps[positions.expired()] = Step(held, begin if held is None else max(held, begin))
        tasks: tuple[RollupTask, ...] = ()
        reached = begin
        if begin < window.end_ms:
            cut = tier_tasks.cut_close(
                tier, source, Window(begin, window.end_ms), self._plan.at_once
            )
            tasks, reached = self._sparing_expired(cut.tasks), cut.reached_ms
        closed = Window(window.start_ms, reached)
        frontier = self._position(positions.frontier(tier.name))
        steps[positions.frontier(tier.name)] = Step(frontier, reached)
        if self._pending is not None and not len(self._pending):
            steps |= self._source_step(source.version)
        planned = PlannedCommit(
            tasks, steps, source.version, closed=closed, computed=(closed,), refused=refused
        )
        return self._noted(planned, now_ms, more=reached < window.end_ms)

    def _repair(self, source: Snapshot, pending: PendingRepairs, now_ms: int) -> PlannedCommit:
        """The next piece of the sweep, with one task for each that can run at once."""
        pending.begin_sweep()
        expired = self._source.position(positions.expired())
        gone = None if expired is None else pending.starting_before(expired)
        if gone is not None:
            # The commit refuses these windows and does nothing else: the next plan sees the rest.
            planned = PlannedCommit(
                (),
                self._turn_step(),
                source.version,
                computed=(gone,),
                refused=pending.inside(gone),
            )
            return self._noted(planned, now_ms, more=True)
        left = pending.left_to_sweep()
        tasks: tuple[RollupTask, ...] = ()
        computed: tuple[Window, ...] = ()
        repaired = refused = NO_LATE_WINDOWS
        is_finished = True
        if left is not None:
            cut = tier_tasks.cut_repair(self._plan.tier, source, left, pending, self._plan.at_once)
            tasks, is_finished = self._sparing_expired(cut.tasks), cut.reached_ms == left.end_ms
            swept = Window(left.start_ms, cut.reached_ms)
            computed = tuple(time_ranges.subtract([swept], pending.blocked))
            repaired, refused = self._repairable(pending.free_inside(swept))
        steps = self._turn_step()
        if is_finished and pending.sweep_version is not None and not pending.blocked:
            is_all = pending.all_inside(computed)
            steps |= self._source_step(source.version if is_all else pending.sweep_version)
        planned = PlannedCommit(
            tasks,
            steps,
            source.version,
            computed=computed,
            repaired=repaired,
            refused=refused,
            swept_to_ms=None if left is None else cut.reached_ms,
            ends_sweep=is_finished,
        )
        return self._noted(planned, now_ms, more=not is_finished)

    def _mark(self, source: Snapshot, pending: PendingRepairs) -> PlannedCommit | None:
        """Moves `source:` now and then when there is nothing else to do."""
        marked = self._position(positions.source(self._plan.tier.name)) or 0
        if len(pending) or source.version - marked < VERSIONS_PER_MARK:
            return None
        return PlannedCommit(
            (), self._turn_step() | self._source_step(source.version), source.version
        )

    def _noted(self, planned: PlannedCommit, now_ms: int, *, more: bool) -> PlannedCommit:
        """With the rows for the table repairs."""
        tier, version = self._plan.tier, planned.source_version
        notes = [
            *rows_of(tier, planned.repaired, "repaired", version, now_ms),
            *rows_of(tier, planned.refused, "refused", version, now_ms),
        ]
        steps = planned.steps
        if notes:
            name = positions.repairs(tier.name)
            turn = steps[positions.turn(tier.name)].new
            steps |= {name: Step(self._position(name), turn)}
        return replace(planned, steps=steps, notes=tuple(notes), begun_ms=now_ms, more=more)

    def _without(self, planned: PlannedCommit, gaps: Sequence[Window]) -> PlannedCommit:
        """The commit of all but some ranges of windows. `source:` stays, so they stay pending after
        a crash, too.
        """
        tier = self._plan.tier.name
        left_out = (positions.source(tier), positions.repairs(tier))
        reduced = replace(
            planned,
            computed=tuple(time_ranges.subtract(planned.computed, gaps)),
            repaired=planned.repaired.outside(gaps),
            refused=planned.refused.outside(gaps),
            steps={name: step for name, step in planned.steps.items() if name not in left_out},
        )
        return self._noted(reduced, planned.begun_ms, more=planned.more)

    def _block(
        self,
        pending: PendingRepairs,
        gaps: Sequence[Window],
        unreadable: Sequence[str],
        now_ms: int,
    ) -> None:
        pending.block(gaps, now_ms)
        for text in unreadable:
            if text not in self._unreadable:
                self._unreadable += (text,)
                log.error("%s: %s: its windows wait for it", self._plan.tier.table, text)

    def _first_exact(self, window: Window) -> int:
        """Start of the first window of a range whose samples are certainly all there."""
        expired = self._source.position(positions.expired())
        if expired is None or expired <= window.start_ms:
            return window.start_ms
        return min(window_end(expired, self._plan.tier.width_ms), window.end_ms)

    def _sparing_expired(self, tasks: Sequence[RollupTask]) -> tuple[RollupTask, ...]:
        """The tasks, told of which series the rows they read may have expired already."""
        marks = self._expired_series.marks(self._source.table.positions())
        return tuple(replace(task, expired=marks) for task in tasks)

    def _repairable(self, late: LateWindows) -> tuple[LateWindows, LateWindows]:
        """Late windows that are repaired, and those that keep their row as rows of their series
        may have expired.
        """
        marks = self._expired_series.marks(self._source.table.positions())
        if not marks:
            return late, NO_LATE_WINDOWS
        ids, ends = late.keys[:, 0], late.keys[:, 1]
        return late.split(refused_windows(marks, ids, ends, self._plan.tier.width_ms))

    def _position(self, name: str) -> int | None:
        """A position of the tier's own table, as of the last look."""
        return self._target.position(name)

    def _turn(self) -> int | None:
        return self._position(positions.turn(self._plan.tier.name))

    def _turn_step(self) -> dict[str, Step]:
        turn = self._turn()
        return {positions.turn(self._plan.tier.name): Step(turn, 0 if turn is None else turn + 1)}

    def _source_step(self, version: int) -> dict[str, Step]:
        name = positions.source(self._plan.tier.name)
        return {name: Step(self._position(name), version)}


def _pair(window: Window) -> list[int]:
    return [window.start_ms, window.end_ms]
