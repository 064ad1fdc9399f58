"""The query service: follows the tables in one thread, answers HTTP in others."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import uvloop

from varve.access.browsers import BrowserRules
from varve.access.credentials import Credentials
from varve.api.active_queries import ActiveQueries
from varve.api.app import create_app
from varve.api.call import Process
from varve.api.http_protocol import Bounds
from varve.api.server import Server, server_of
from varve.api.service import Service
from varve.ingest.limits import LimitsFile
from varve.model.clock import SystemClock
from varve.model.errors import NeedsOperator
from varve.model.interpreter import set_up_for_requests
from varve.promql.evaluation.workers import Workers
from varve.query.evaluation import Options
from varve.query.kept_footers import KeptFooters
from varve.query.memory import MemoryBudget
from varve.query.shared_steps import SharedSteps
from varve.query.snapshots import Snapshots
from varve.query.sql_processes import Bounds as SqlBounds
from varve.query.sql_processes import SqlProcesses
from varve.query.step_cache import StepCache, Steps
from varve.query.storage_usage import as_json, usage
from varve.query.table_follower import TableFollower
from varve.services.asked_services import AskedServices
from varve.services.component_views import condition
from varve.services.descriptors import use_all_descriptors
from varve.services.discovery import HEADER
from varve.services.home import Home, identity
from varve.services.limits import limits_files
from varve.services.listening import listening
from varve.services.own_services import leave_token
from varve.services.progress import prices, table_store
from varve.services.query_limits import query_limits
from varve.services.status import ComponentStatus, State
from varve.services.tls import tls_of
from varve.settings import Settings
from varve.settings.query import Query
from varve.settings.text import as_yaml
from varve.storage.store import Store
from varve.telemetry.metrics import QueryMetrics
from varve.telemetry.registry import Telemetry

if TYPE_CHECKING:
    from varve.spark.executors import SparkExecutors

COMPONENT = "query"

_WATCH_S = 0.2
_USAGE_EVERY_S = 300.0
# Who has the token that lies in the home.
_HOME = "varve"

log = logging.getLogger(__name__)


def run(settings: Settings, reread: Callable[[], Settings]) -> int:
    """Serves until SIGTERM or SIGINT. Returns 0 then, 1 if the tables could not be followed.

    reread: the settings as they are now; POST /-/reload takes tokens, users and admins from them.
    Raises NeedsOperator if the port is taken, or a file of the certificate is missing.
    """
    query = settings.query
    tls = tls_of(query, "query")
    use_all_descriptors()
    status = ComponentStatus(settings.home, COMPONENT)
    with listening(query.host, query.port, "query.port") as listener:
        url = query.url()
        token = leave_token(settings)
        status.update(state="starting", detail={"url": url, "metrics": f"{url}/metrics"})
        store = table_store(settings)
        queries = tuple(settings.sample_queries())
        metrics = QueryMetrics(Telemetry())
        memory = MemoryBudget(query.memory_bytes())
        footers = _footers(settings, store)
        follower = TableFollower(
            *(store, queries, query.cache_mb << 20, query.poll_ms / 1000, memory, metrics),
            calendar=settings.holidays.calendar(),
            footers=footers,
        )
        steps = _steps(query, memory)
        executors = executors_of(query, store)
        workers = Workers(query.cores or len(os.sched_getaffinity(0)))
        options = Options(
            query_limits(query),
            query.lookback_s * 1000,
            workers,
            newer_view=follower.newer_view,
            say_why_empty=True,
            steps=steps,
            executors=executors,
        )
        browsers = BrowserRules.of(_listed(query.allowed_hosts), _listed(query.allowed_origins))
        sql = SqlProcesses(store, _sql_bounds(query)) if query.sql else None
        service = Service(
            options,
            SystemClock(),
            follower.view,
            follower.state,
            follower.lag,
            browsers,
            credentials_of(query, token),
            lambda: credentials_of(reread().query, token),
            memory,
            metrics,
            components=lambda: condition(settings.home, SystemClock().now_ms()),
            process=process_of(settings),
            snapshots=Snapshots(store, queries, follower.view, memory),
            rules=AskedServices(settings, "rules", settings.rules.services).ask,
            scraping=AskedServices(settings, "scrape", settings.scrape.services).ask,
            sql=sql,
            sql_at_once=query.sql_at_once,
            threads=query.at_once,
            most_waiting=query.most_waiting,
            places_of_one=query.at_once_of_one,
            active=ActiveQueries(
                Home.at(settings.home).run / "queries.active", query.at_once + query.sql_at_once
            ),
            slow_s=query.slow_s,
            route_prefix=query.route_prefix,
            store=store,
        )
        follower.start()
        if sql is not None:
            sql.warm()
        try:
            server = server_of(
                create_app(service),
                [(HEADER, identity(settings))],
                tls=tls,
                bounds=Bounds(query.max_connections),
            )
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(service, server, listener, follower, status))
        finally:
            service.stopping.set()
            follower.stop()
            if sql is not None:
                sql.close()
            if steps is not None:
                steps.close()
            if executors is not None:
                executors.close()
            if footers is not None:
                footers.close()
    if follower.error is not None:
        status.update(state="failed", detail={"error": str(follower.error)})
        return 1
    status.update(state="stopped")
    return 0


async def _serve(
    service: Service,
    server: Server,
    listener: socket.socket,
    follower: TableFollower,
    status: ComponentStatus,
) -> None:
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
    service: Service, follower: TableFollower, status: ComponentStatus, server: Server
) -> None:
    """Says in what state the service is, and that its work goes on; ends it with its follower."""
    said: tuple[str, str] | None = None
    looks, has_been_ready = 0, False
    while not server.should_exit:
        if follower.error is not None:
            server.should_exit = True
            return
        if follower.looks != looks:
            looks = follower.looks
            status.progressed()
        why = service.state()
        state: State = "starting" if why else "ready"
        if said != (state, why):
            said = (state, why)
            status.update(state=state, detail={"waiting": why or None})
            if not why:
                if not has_been_ready:
                    set_up_for_requests()
                has_been_ready = True
                log.info("ready")
        await asyncio.sleep(_WATCH_S)


def _steps(query: Query, memory: MemoryBudget) -> Steps | None:
    """Where steps are kept. NeedsOperator if the address of Redis is none."""
    if not query.step_cache_mb:
        return None
    own, url = StepCache(query.step_cache_mb << 20, memory), query.redis_url.get_secret_value()
    try:
        return SharedSteps(own, url) if url else own
    except ValueError as err:
        raise NeedsOperator(f"query.redis_url cannot be read: {err}") from err


def _footers(settings: Settings, store: Store) -> KeptFooters | None:
    """Those of files that are a request away; a local disk gives them as soon as another."""
    if all(root.is_local for root in store.roots()) or not settings.query.footers_mb:
        return None
    folder = Home.at(settings.home).run
    return KeptFooters(folder / "footers.sqlite", settings.query.footers_mb << 20)


def executors_of(query: Query, store: Store) -> SparkExecutors | None:
    """Who computes what is too much for this machine. Spark's client is imported only for it."""
    if not (url := query.spark_remote.get_secret_value()):
        return None
    from varve.spark.executors import SparkExecutors  # noqa: PLC0415 - takes seconds

    return SparkExecutors(url, store, query.spark_rows)


def _sql_bounds(query: Query) -> SqlBounds:
    return SqlBounds(query.sql_memory_mb, query.sql_max_rows, query.sql_max_mb, query.sql_at_once)


def credentials_of(query: Query, home_token: str) -> Credentials:
    """Who the settings let in; with them, who may read this home, if anybody needs a token."""
    tokens, users = query.tokens_and_users()
    if tokens or users:
        tokens[_HOME] = home_token
    return Credentials(tokens, users, {_HOME, *_listed(query.admins)})


def process_of(settings: Settings) -> Process:
    """What a service with these settings says of itself, from now on."""
    query = settings.query
    flags = {
        "query.lookback-delta": f"{query.lookback_s}s",
        "query.max-concurrency": str(query.at_once),
        "query.max-samples": str(query.max_samples),
        "query.timeout": f"{query.timeout_s:g}s",
        "storage.tsdb.retention.time": f"{settings.retention.samples_days:g}d",
        "web.enable-admin-api": "false",
        "web.enable-lifecycle": "false",
        "web.listen-address": f"{query.host}:{query.port}",
    }
    return Process(
        *(SystemClock().now_ms(), as_yaml(settings), flags, query.memory_bytes()),
        usage=_usage_reader(settings),
    )


def _usage_reader(settings: Settings) -> Callable[[int], Mapping[str, Any]]:
    """Adds up what is stored, at most every some minutes: that reads a part of the tables."""
    lock, kept = threading.Lock(), dict[int, tuple[float, Mapping[str, Any]]]()

    def read(top: int) -> Mapping[str, Any]:
        with lock:
            added_s, found = kept.get(top, (-math.inf, {}))
            if time.monotonic() - added_s > _USAGE_EVERY_S:
                limits = LimitsFile(limits_files(settings)).current()
                found = as_json(usage(table_store(settings), prices(settings), limits, top))
                kept.clear()
                kept[top] = time.monotonic(), found
            return found

    return read


def _listed(names: str) -> list[str]:
    """What is separated by commas in a setting."""
    return [name.strip() for name in names.split(",") if name.strip()]
