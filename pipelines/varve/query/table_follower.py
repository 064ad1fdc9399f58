"""Keeps a view of the tables up to date in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time

from deltalake.exceptions import DeltaError

from varve.model.errors import NeedsOperator
from varve.promql.kernels import warm_up
from varve.query.tables import Tables
from varve.query.view import View
from varve.storage.store import Store
from varve.telemetry.metrics import QueryMetrics

# How long a storage may be out of reach before answers would be too old to give.
_STALE_S = 30.0
_RETRY_S = 0.5

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
        metrics: QueryMetrics,
    ) -> None:
        """`queries` and `cache_bytes` are as for Tables; `poll_s` lies between two polls."""
        self._store = store
        self._queries = queries
        self._cache_bytes = cache_bytes
        self._poll_s = poll_s
        self._metrics = metrics
        self._tables: Tables | None = None
        self._why = "loading compiled code"
        self._seen_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self.error: BaseException | None = None
        self.looks = 0
        """How often it has looked at the tables, with or without success."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; one that waits for the storage is left behind, being a daemon."""
        self._stop.set()
        self._thread.join(timeout=0.5)
        if self._tables is not None:
            self._tables.close()

    def view(self) -> View | None:
        """The newest view, None until the tables are open."""
        return None if self._tables is None else self._tables.view

    def state(self) -> str:
        """Why answers cannot be given or trusted now; "" if they can."""
        if self._tables is None:
            return self._why
        behind_s = time.monotonic() - self._seen_at
        if behind_s > _STALE_S:
            return f"no look at the tables for {behind_s:.0f} s: {self._why}"
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
            self._tables = Tables(self._store, self._queries, self._cache_bytes)
            self._seen_at = time.monotonic()
        except (NeedsOperator, OSError, DeltaError) as err:
            # Started before the first ingest: the tables are about to be created.
            self._why = str(err)
            self._stop.wait(_RETRY_S)

    def _poll(self, tables: Tables) -> None:
        try:
            tables.poll()
            self._seen_at = time.monotonic()
        except (OSError, DeltaError) as err:
            self._why = str(err)
            self._metrics.poll_failures.inc()
            log.warning("cannot look at the tables: %s", err)
            self._stop.wait(_RETRY_S)
        if tables.caught_up:
            self._stop.wait(self._poll_s)
