"""Keeps a view of the tables up to date in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time

import pyarrow as pa

from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.errors import NeedsOperator
from varve.promql.kernels import warm_up
from varve.query.head_series import HeadSeries
from varve.query.kept_footers import KeptFooters
from varve.query.memory import MemoryBudget
from varve.query.tables import Tables
from varve.query.view import View
from varve.storage.store import Store
from varve.telemetry.metrics import QueryMetrics

# How long a storage may be out of reach before answers would be too old to give.
_STALE_S = 30.0
# Without a look for so long, the view is said to lag.
_LAG_S = 2.0
# How long a query that met a deleted file waits for a newer view.
_NEWER_S = 2.0
_RETRY_S = 0.5
# Windows close once a minute: until their rows are seen, samples answer as well.
_TIERS_S = 1.0

# What passes by itself, or once somebody has mended the storage.
_PASSING = (OSError, pa.ArrowException)

log = logging.getLogger(__name__)


class TableFollower:
    """Opens the tables once they exist and polls them. `view` and `state` are for any thread.

    `error` is what ended the thread, None while it runs or after `stop`. A storage that cannot be
    reached does not end it.
    """

    def __init__(
        self,
        store: Store,
        queries: tuple[str, ...],
        cache_bytes: int,
        poll_s: float,
        budget: MemoryBudget,
        metrics: QueryMetrics,
        head_series: HeadSeries | None = None,
        calendar: Calendar = NO_HOLIDAYS,
        footers: KeptFooters | None = None,
    ) -> None:
        """queries, cache_bytes, budget, head_series, calendar and footers are as for Tables;
        `poll_s` lies between two polls.
        """
        self._store = store
        self._queries = queries
        self._cache_bytes = cache_bytes
        self._poll_s = poll_s
        self._budget = budget
        self._metrics = metrics
        self._head_series = self._held = head_series
        self._calendar = calendar
        self._footers = footers
        self._tables: Tables | None = None
        self._why = "loading compiled code"
        self._seen_at = time.monotonic()
        self._stop = threading.Event()
        self._look_now = threading.Event()
        self._looked = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self.error: BaseException | None = None
        self.looks = 0
        """How often it has looked at the tables, with or without success."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; one that waits for the storage is left behind, being a daemon."""
        self._stop.set()
        self._look_now.set()
        self._thread.join(timeout=0.5)
        if self._tables is not None:
            self._tables.close()

    def view(self) -> View | None:
        """The newest view, None until the tables are open."""
        return None if self._tables is None else self._tables.view

    def hold(self, series: HeadSeries | None) -> None:
        """Has other series in the head, from one of the next polls on."""
        self._head_series = series

    def newer_view(self, than: View) -> View:
        """The view after this one, looked for at once; this one if none comes within 2 s."""
        with self._looked:
            self._look_now.set()
            self._looked.wait_for(lambda: self.view() is not than, _NEWER_S)
        return self.view() or than

    def lag(self) -> str:
        """Since when and why the view is not kept up to date; "" if it is."""
        if self._tables is None:
            return self._why
        behind_s = time.monotonic() - self._seen_at
        if behind_s <= _LAG_S + self._poll_s:
            return ""
        return f"no look at the tables for {behind_s:.0f} s: {self._why or 'one is under way'}"

    def state(self) -> str:
        """Why answers cannot be given or trusted now; "" if they can."""
        if self._tables is None or time.monotonic() - self._seen_at > _STALE_S:
            return self.lag()
        return ""

    def _run(self) -> None:
        try:
            warm_up()
            while self._tables is None and not self._stop.is_set():
                self._open()
                self.looks += 1
            while self._tables is not None and not self._stop.is_set():
                self._poll(self._tables)
                self.looks += 1
        except BaseException as err:
            self.error = err
            raise

    def _open(self) -> None:
        try:
            self._held = self._head_series
            self._tables = Tables(
                *(self._store, self._queries, self._cache_bytes, self._budget),
                tiers_every_s=_TIERS_S,
                head_series=self._held,
                calendar=self._calendar,
                footers=self._footers,
            )
            self._seen_at, self._why = time.monotonic(), ""
        except (NeedsOperator, *_PASSING) as err:
            # Started before the first ingest: the tables are about to be created.
            self._why = str(err)
            self._stop.wait(_RETRY_S)

    def _poll(self, tables: Tables) -> None:
        try:
            if self._head_series != self._held:
                self._held = self._head_series
                tables.hold(self._held)
            tables.poll()
            self._seen_at, self._why = time.monotonic(), ""
        except _PASSING as err:
            if not self._why:
                log.warning("cannot look at the tables: %s", err)
            self._why = str(err)
            self._metrics.poll_failures.inc()
            self._stop.wait(_RETRY_S)
        with self._looked:
            self._looked.notify_all()
        if tables.caught_up:
            self._look_now.wait(self._poll_s)
            self._look_now.clear()
