"""The query service: follows the tables in one thread, answers HTTP in others."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from deltalake.exceptions import DeltaError

from varve.api.app import Service, create_app
from varve.api.queries import Options
from varve.model.clock import SystemClock
from varve.model.errors import NeedsOperator
from varve.promql.evaluation.limits import Limits
from varve.promql.evaluation.workers import Workers
from varve.promql.kernels import warm_up
from varve.query.tables import Tables
from varve.query.view import View
from varve.services.ports import require_free
from varve.services.status import ComponentStatus, State
from varve.settings import Settings
from varve.storage.store import Store
from varve.telemetry.metrics import QueryMetrics
from varve.telemetry.registry import Telemetry

COMPONENT = "query"

# How long a storage may be out of reach before answers would be too old to give.
_STALE_S = 30.0
_RETRY_S = 0.5
_WATCH_S = 0.2

log = logging.getLogger(__name__)


class TableFollower:
    """Opens the tables once they exist and polls them, in a thread of its own."""

    def __init__(
        self,
        store: Store,
        queries: tuple[str, ...],
        cache_bytes: int,
        poll_s: float,
        metrics: QueryMetrics,
    ) -> None:
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
        """What ended the thread."""

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=0.5)
        if self._tables is not None:
            self._tables.close()

    def view(self) -> View | None:
        return None if self._tables is None else self._tables.view

    def state(self) -> str:
        """Why answers cannot be given or trusted now; "" if they can."""
        if self._tables is None:
            return self._why
        behind_s = time.monotonic() - self._seen_at
        return (
            f"no look at the tables for {behind_s:.0f} s: {self._why}"
            if behind_s > _STALE_S
            else ""
        )

    def _run(self) -> None:
        try:
            warm_up()
            while self._tables is None and not self._stop.is_set():
                self._open()
            while self._tables is not None and not self._stop.is_set():
                self._poll(self._tables)
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


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT. Returns 0 then, 1 if the tables could not be followed.

    Raises NeedsOperator if the port is taken.
    """
    query = settings.query
    status = ComponentStatus(settings.home, COMPONENT)
    with _listening(query.host, query.port) as listener:
        url = f"http://{query.host}:{query.port}"
        status.update(state="starting", detail={"url": url, "metrics": f"{url}/metrics"})
        store = Store(settings.storage_root(), settings.storage_options())
        queries = tuple(settings.ingest_queries())
        metrics = QueryMetrics(Telemetry())
        follower = TableFollower(
            store, queries, query.cache_mb << 20, query.poll_ms / 1000, metrics
        )
        limits = Limits(
            max_samples=query.max_samples, max_points=query.max_points, timeout_s=query.timeout_s
        )
        workers = Workers(query.cores or len(os.sched_getaffinity(0)))
        options = Options(limits, query.lookback_s * 1000, workers)
        service = Service(options, SystemClock(), follower.view, follower.state, metrics)
        follower.start()
        try:
            asyncio.run(_serve(service, listener, follower, status))
        finally:
            service.stopping.set()
            follower.stop()
    if follower.error is not None:
        status.update(state="failed", detail={"error": str(follower.error)})
        return 1
    status.update(state="stopped")
    return 0


async def _serve(
    service: Service, listener: socket.socket, follower: TableFollower, status: ComponentStatus
) -> None:
    config = uvicorn.Config(
        create_app(service),
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        service.stopping.set()  # queries under way end, so that nothing is waited for
        server.should_exit = True

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop)
    watch = asyncio.create_task(_watch(service, follower, status, server))
    await server.serve(sockets=[listener])
    watch.cancel()


async def _watch(
    service: Service, follower: TableFollower, status: ComponentStatus, server: uvicorn.Server
) -> None:
    """Says in the status file what state the service is in; ends it with its follower."""
    said: tuple[str, str] | None = None
    while not server.should_exit:
        if follower.error is not None:
            server.should_exit = True
            return
        why = service.state()
        state: State = "starting" if why else "ready"
        if said != (state, why):
            said = (state, why)
            status.update(state=state, detail={"waiting": why or None})
            if not why:
                log.info("ready")
        await asyncio.sleep(_WATCH_S)


class _Server(uvicorn.Server):
    """uvicorn would raise the signal again once it has stopped; we return instead."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to the address. NeedsOperator, naming the holder, if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            require_free(host, port, "query.port")  # says what is wrong
            raise
        yield listener
