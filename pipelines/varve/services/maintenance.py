"""`varve serve maintenance`: compacts, expires, moves, trims and vacuums the tables until told to
stop, and keeps the baselines of series.

On one machine this is all the upkeep that tables need. It runs at a low priority, a merge at a
time, and what fails is tried again at the next look: nobody waits for it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence

from varve.anomaly.baseline_job import Baselines
from varve.maintenance import compaction, deletion, vacuum
from varve.maintenance.batch_job import execute
from varve.maintenance.expiry import EXPIRING, Expiration, Retention
from varve.maintenance.series_trimming import SERIES, Trimming
from varve.maintenance.tiering import Tiering
from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.clock import Clock, SystemClock, utc_text
from varve.model.errors import NeedsOperator, VarveError
from varve.model.schema import TABLES
from varve.model.window import DAY_MS, HOUR_MS
from varve.services.metrics_page import serving
from varve.services.progress import table_store
from varve.services.retention import move_ages_ms, retention_reader
from varve.services.signals import stop_requested
from varve.services.status import ComponentStatus
from varve.settings import Settings
from varve.storage.snapshot import Follower
from varve.storage.store import Store
from varve.storage.table import Table
from varve.telemetry.metrics import MaintenanceMetrics
from varve.telemetry.registry import Telemetry

log = logging.getLogger(__name__)

COMPONENT = "maintenance"

_NICE = 10
_TIDY_EVERY_MS = HOUR_MS
# Rows expire by the day, so series do not lose their last one more often.
_TRIM_EVERY_MS = DAY_MS
# Hours of series in one run from which on history is being loaded: more are on their way.
_LOADING = 10_000
_FAILURES = (OSError, VarveError)


class Maintenance:
    """The upkeep of one store. Not safe to share between threads."""

    def __init__(
        self,
        store: Store,
        metrics: MaintenanceMetrics,
        retention: Callable[[], Retention],
        *,
        clock: Clock | None = None,
        stopping: threading.Event | None = None,
        progressed: Callable[[], None] = lambda: None,
        baseline_every_ms: int | None = None,
        calendar: Calendar = NO_HOLIDAYS,
        move_ages_ms: Sequence[int] = (),
    ) -> None:
        """retention: tells what is in force whenever it is called. stopping: ends a look between
        two pieces of work. progressed: called after each. baseline_every_ms: how often baselines
        are brought up to date, by the calendar; None for never. move_ages_ms: as Tiering takes
        them.
        """
        self._baseline_every_ms = baseline_every_ms
        self._calendar = calendar
        self._baseline_due_ms = 0
        self._has_baselines = False
        self._progressed = progressed
        self._store, self._metrics, self._retention = store, metrics, retention
        self._clock = clock or SystemClock()
        self._stopping = stopping or threading.Event()
        self._tiering = Tiering(store, move_ages_ms) if store.colder is not None else None
        self._followers: dict[str, Follower] = {}
        self._tidied_ms: int | None = None
        self._trimmed_ms: int | None = None

    def look(self) -> None:
        """Brings baselines up to date, for which episodes wait; merges what is due in every table;
        once an hour deletes what is older than its retention, and then the files that nobody needs;
        once a day takes out series without a row.

        A table that fails is left for the next look, logged and counted.
        """
        now_ms = self._clock.now_ms()
        if self._baseline_every_ms is not None and now_ms >= self._baseline_due_ms:
            self._baseline_due_ms = now_ms + self._baseline_every_ms
            self._guarded("baselines", "baseline", self._bring_baselines)
        for name in compaction.TABLES:
            self._guarded(name, "compaction", self._compact)
        now_ms = self._clock.now_ms()
        if self._tidied_ms is None or now_ms - self._tidied_ms >= _TIDY_EVERY_MS:
            self._tidied_ms = now_ms
            self._guarded("samples", "deletion", self._finish_deletion)
            for name in EXPIRING:
                self._guarded(name, "expiry", self._expire)
            for name in Tiering.tables:
                self._guarded(name, "tiering", self._move)
            if self._trimmed_ms is None or now_ms - self._trimmed_ms >= _TRIM_EVERY_MS:
                self._guarded(SERIES, "trimming", self._trim)
            for name in TABLES:
                self._guarded(name, "vacuum", self._vacuum)

    def _guarded(self, name: str, work: str, run: Callable[[str], None]) -> None:
        if self._stopping.is_set():
            return
        try:
            run(name)
        except _FAILURES as err:
            self._followers.pop(name, None)
            self._metrics.failures.labels(name, work).inc()
            log.warning("%s of %s is left to the next look: %s", work, name, err)
        self._progressed()

    def _compact(self, name: str) -> None:
        if name not in self._followers:
            try:
                self._followers[name] = Follower(self._store, name)
            except NeedsOperator:
                return  # not created yet
        snapshot = self._followers[name].refresh()
        self._metrics.live_files.labels(name).set(len(snapshot.files))
        due = compaction.due_merges(snapshot, self._clock.now_ms())
        table = Table(self._store, name, files=True) if due else None
        for merge in due:
            if self._stopping.is_set():
                return
            merged = compaction.merge_files(self._store, merge, table)
            self._progressed()
            if merged is None:
                continue  # a rival was here: planned again at the next look
            self._metrics.files_merged.labels(name).inc(merged.files_before)
            self._metrics.rows_written.labels(name).inc(merged.rows)
            log.info(
                "%s: %d files became %d, %d rows, %d copies dropped",
                *(name, merged.files_before, merged.files_after),
                *(merged.rows, merged.rows_dropped),
            )

    def _bring_baselines(self, _name: str) -> None:
        try:
            job = Baselines(self._store, self._calendar)
            done = execute(job, self._store, self._clock.now_ms()).done
        except NeedsOperator:
            return  # not created yet
        hours = done.as_json()["hours"] if done is not None else 0
        if done is not None and hours:
            log.info("baselines: %s", " ".join(done.lines()))
        if hours > _LOADING or not self._has_baselines:
            self._baseline_due_ms = 0  # more is to come: at the next look
        self._has_baselines |= hours > 0

    def _finish_deletion(self, name: str) -> None:
        if name in self._followers:
            deletion.finish(self._store)

    def _expire(self, name: str) -> None:
        if name not in self._followers:
            return  # not created yet
        job = Expiration(self._store, self._retention())
        for due in job.due(self._followers[name].refresh(), self._clock.now_ms()):
            if self._stopping.is_set():
                return
            done = job.expire(due)
            self._progressed()
            self._metrics.rows_expired.labels(name).inc(done.rows)
            log.info(
                "%s: %d rows of %s up to %s expired, %d files removed, %d rewritten",
                *(name, done.rows, done.series, utc_text(done.until_ms)),
                *(done.files_removed, done.files_rewritten),
            )
            if done.left:
                log.warning("%s: %s", name, done.left)

    def _trim(self, name: str) -> None:
        if name not in self._followers:
            return  # not created yet
        job, now_ms = Trimming(self._store), self._clock.now_ms()
        due = job.plan(now_ms, {name: self._followers[name].refresh()})
        self._progressed()
        done = job.run(due)
        if done.is_done:
            self._trimmed_ms = now_ms
        self._metrics.series_trimmed.inc(done.series)
        for line in done.lines():
            log.info("%s", line)

    def _move(self, name: str) -> None:
        if self._tiering is None or name not in self._followers:
            return
        for due in self._tiering.due(name, self._clock.now_ms()):
            if self._stopping.is_set():
                return
            done = self._tiering.move(due)
            self._progressed()
            self._metrics.files_moved.labels(name).inc(done.removed)
            log.info(
                "%s: %d files copied to %s, %d removed above, %d stay above",
                *(name, done.copied, done.to, done.removed, done.kept),
            )

    def _vacuum(self, name: str) -> None:
        try:
            garbage = vacuum.find_all_garbage(self._store, name, self._clock.now_ms())
        except NeedsOperator:
            return  # not created yet
        for found in garbage:
            done = vacuum.delete(found)
            self._metrics.files_deleted.labels(name).inc(done.files)
            if done.files or done.log_entries:
                log.info(
                    "%s: %d files of %d bytes and %d log entries deleted",
                    *(name, done.files, found.nbytes, done.log_entries),
                )


def run(settings: Settings) -> int:
    """Blocks until SIGTERM or SIGINT; 0."""
    stopping = stop_requested()
    os.nice(_NICE)
    status = ComponentStatus(settings.home, COMPONENT)
    telemetry = Telemetry()
    store = table_store(settings)
    anomalies = settings.anomalies
    every_ms = int(anomalies.baseline_every_s * 1000) if anomalies.enabled else None
    work = Maintenance(
        store,
        MaintenanceMetrics(telemetry),
        retention_reader(settings),
        stopping=stopping,
        progressed=status.progressed,
        baseline_every_ms=every_ms,
        calendar=settings.holidays.calendar(),
        move_ages_ms=move_ages_ms(settings),
    )
    with serving(telemetry, settings.telemetry.host, 0, "telemetry.host") as url:
        status.update(state="ready", detail={"metrics": url})
        while not stopping.wait(settings.maintenance.compact_every_s):
            work.look()
    status.update(state="stopped")
    return 0
