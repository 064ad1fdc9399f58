"""The rules service as a process: one thread evaluates, HTTP is answered beside it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa

from varve.access.browsers import BrowserRules
from varve.api.server import Server, server_of
from varve.model.clock import SteadyClock
from varve.model.errors import NeedsOperator, VarveError
from varve.model.resources import conf_dir
from varve.model.window import DAY_MS
from varve.promql import engine
from varve.promql.engine import Engine
from varve.query.head_series import HeadSeries
from varve.query.memory import MemoryBudget
from varve.query.snapshots import Snapshots
from varve.query.table_follower import TableFollower
from varve.rules.alerts import Environment
from varve.rules.for_state import Restoring
from varve.rules.group_run import Evaluator, RuleOutcome
from varve.rules.rule_file import Group
from varve.rules.running.changes import TABLE
from varve.rules.running.claims import ClaimLog
from varve.rules.running.event_topic import EventTopic
from varve.rules.running.head_selection import head_selection
from varve.rules.running.job_alerts import JobAlerts
from varve.rules.running.loading import Loader, Tables
from varve.rules.running.notifiers import Notifiers
from varve.rules.running.outcomes import OutcomeSender
from varve.rules.running.outlet import KafkaOutlet
from varve.rules.running.rule_files import RuleFiles
from varve.rules.running.runner import Runner
from varve.rules.running.slots import Timing
from varve.rules.series_buffer import SeriesBuffer
from varve.services.discovery import HEADER
from varve.services.home import identity
from varve.services.listening import listening
from varve.services.progress import kafka_cluster, table_store
from varve.services.query_limits import query_limits
from varve.services.rules_http import RulesService, create_app
from varve.services.rules_member import is_gone, member_name
from varve.services.status import ComponentStatus, State
from varve.settings import Settings
from varve.settings.rules import listed
from varve.storage.table import create_tables
from varve.telemetry.metrics import QueryMetrics, RulesMetrics
from varve.telemetry.registry import Telemetry

COMPONENT = "rules"

_LOOK_S = 5.0
"""Seconds between looks at the files of rules."""
_PAUSE_S = 1.0
_STOP_S = 10.0
_SHORTEST_LEASE_S = 3.0
# What passes by itself, or once somebody has mended the storage.
_PASSING = (OSError, VarveError, pa.ArrowException)

Run = Callable[[int], RuleOutcome]

log = logging.getLogger(__name__)


def run(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; 0 then, 1 if a defect ended the evaluations.

    Raises NeedsOperator if the files of rules or the port cannot be used.
    """
    return _Process(settings).run()


class _Process:
    def __init__(self, settings: Settings) -> None:
        rules = settings.rules
        self._settings, self._rules = settings, rules
        self._status = ComponentStatus(settings.home, COMPONENT)
        self._telemetry = Telemetry()
        self._metrics = RulesMetrics(self._telemetry)
        self._clock = SteadyClock()
        self._stopping = threading.Event()
        self._files = rule_files(settings)
        self._version = ""
        self._groups: tuple[Group, ...] = ()
        self._waiting = "starting"
        self._reloading, self._telling = threading.Lock(), threading.Lock()
        self._runner: Runner | None = None
        self._failure: BaseException | None = None
        self._external_url = rules.external_url or settings.query.url()
        self._evaluator = Evaluator(
            interval_ms=round(rules.interval_s * 1000),
            query_offset_ms=round(rules.query_offset_s * 1000),
            resend_ms=round(rules.resend_delay_s * 1000),
            environment=Environment(rules.external_labels, self._external_url),
            restoring=Restoring(
                round(rules.outage_tolerance_s * 1000), round(rules.grace_s * 1000)
            ),
        )

    def run(self) -> int:
        self._groups = self._files.read()
        self._version = self._files.version()
        self._metrics.files_ok.set(1)
        with ExitStack() as stack:
            host, port = self._rules.host, self._rules.port
            listener = stack.enter_context(listening(host, port, "rules.port"))
            url = _url(host, listener)
            detail = {"url": url, "metrics": f"{url}/metrics"}
            self._status.update(state="starting", detail=detail)
            tables = self._tables()
            self._follower.start()
            stack.callback(self._follower.stop)
            pool = stack.enter_context(ThreadPoolExecutor(self._rules.evaluators, "rule"))
            notifiers = Notifiers(
                listed(self._rules.notifiers),
                external_labels=self._rules.external_labels,
                external_url=self._external_url,
                metrics=self._metrics,
                now_ms=self._clock.now_ms,
            )
            notifiers.start()
            worker = threading.Thread(
                target=self._work, args=(tables, notifiers, pool), name="rules"
            )
            worker.start()
            try:
                asyncio.run(self._serve(listener, notifiers))
            finally:
                self._stopping.set()
                worker.join()
                notifiers.stop(_STOP_S)
        if self._failure is not None:
            self._status.update(state="failed", detail={"error": str(self._failure)})
            return 1
        self._status.update(state="stopped")
        return 0

    def _selection(self) -> HeadSeries:
        """What of the samples the rules read."""
        return head_selection(self._groups, self._settings.query.lookback_s * 1000)

    def _tables(self) -> Tables:
        settings, query = self._settings, self._settings.query
        store = table_store(settings)
        queries = tuple(settings.sample_queries())
        memory = MemoryBudget(query.memory_bytes())
        self._follower = follower = TableFollower(
            store,
            queries,
            self._rules.cache_mb << 20,
            query.poll_ms / 1000,
            memory,
            QueryMetrics(Telemetry()),
            self._selection(),
            settings.holidays.calendar(),
        )
        snapshots = Snapshots(store, queries, follower.view, memory)
        history_ms = max(DAY_MS, round(2000 * self._rules.catch_up_s))
        return Tables(store, follower.view, snapshots.at, query.max_samples, history_ms)

    def reload(self) -> str:
        """Reads the files again; why the old rules stay, or ""."""
        with self._reloading:
            self._version = self._files.version()
            try:
                groups = self._files.read()
            except NeedsOperator as err:
                self._metrics.files_ok.set(0)
                log.error("the rules stay as they were: %s", err)  # noqa: TRY400 - says it all
                self._tell(degraded="files of rules cannot be read")
                return str(err)
            self._groups = groups
            self._follower.hold(self._selection())
            if self._runner is not None:
                self._runner.update(groups)
            self._metrics.files_ok.set(1)
            self._tell(degraded=None)
            log.info("%d groups of rules are read", len(groups))
            return ""

    # Evaluating

    def _work(self, tables: Tables, notifiers: Notifiers, pool: ThreadPoolExecutor) -> None:
        """The thread that evaluates. What defect ends it ends the process."""
        try:
            self._evaluate(tables, notifiers, pool)
        except BaseException as err:
            self._failure = err
            log.critical("evaluations have ended", exc_info=err)
        finally:
            if not self._stopping.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    def _evaluate(self, tables: Tables, notifiers: Notifiers, pool: ThreadPoolExecutor) -> None:
        """Evaluates until it is to stop, and then leaves the rest to others."""
        outlet = self._outlet()
        sender = OutcomeSender(outlet, self._clock.now_ms)
        sender.start()
        runner: Runner | None = None
        jobs: JobAlerts | None = None
        try:
            while not self._stopping.is_set():
                try:
                    if runner is None or jobs is None:
                        runner = self._runner = self._make(tables, notifiers, pool, sender)
                        jobs = self._job_alerts(runner, notifiers)
                    more = runner.tick()
                    jobs.tick()
                except _PASSING as err:
                    log.warning("rules are taken up again: %s", err)
                    self._waiting = str(err)
                    if runner is not None:
                        runner.unload()
                    self._hold(notifiers)
                    self._stopping.wait(_PAUSE_S)
                    continue
                self._say(runner.waiting)
                if runner.waiting:
                    self._hold(notifiers)
                if not more:
                    self._pause(sender)
        finally:
            if jobs is not None:
                jobs.leave()
            sender.stop(_STOP_S)
            outlet.close()
            self._tell(samples=outlet.samples)
        if runner is not None:
            self._leave(runner)

    def _hold(self, notifiers: Notifiers) -> None:
        """What fires does not end because the tables are away."""
        most_ms = round(1000 * self._rules.catch_up_s)
        notifiers.hold(every_ms=self._evaluator.resend_ms, most_ms=most_ms)

    def _pause(self, sender: OutcomeSender) -> None:
        """Until the next look at the tables, or an outcome can be noted."""
        sender.sent.wait(self._settings.query.poll_ms / 1000)
        sender.sent.clear()

    def _leave(self, runner: Runner) -> None:
        try:
            runner.stop()
        except _PASSING as err:
            log.warning("whoever comes next evaluates the last claims again: %s", err)

    def _make(
        self,
        tables: Tables,
        notifiers: Notifiers,
        pool: ThreadPoolExecutor,
        sender: OutcomeSender,
    ) -> Runner:
        """Raises NeedsOperator or OSError if the tables cannot be had yet."""
        rules, settings = self._rules, self._settings
        create_tables(tables.store, (TABLE,))
        query = settings.query
        options = engine.Options(lookback_ms=query.lookback_s * 1000, limits=query_limits(query))
        evaluator = replace(
            self._evaluator,
            engine=Engine(SeriesBuffer(), options),
            jobs=partial(_side_by_side, pool),
        )
        groups = self._groups
        shortest_ms = min(map(evaluator.interval_of, groups), default=evaluator.interval_ms)
        claims = ClaimLog(
            tables.store,
            rules.shards,
            member_name(),
            lease_s=max(_SHORTEST_LEASE_S, 1.5 * shortest_ms / 1000),
            monotonic_s=time.monotonic,
            now_ms=self._clock.now_ms,
            is_gone=is_gone,
        )
        timing = Timing(round(rules.wait_s * 1000), round(rules.catch_up_s * 1000))
        loader = Loader(evaluator, timing, rules.shards, self._metrics, self._clock.now_ms)
        runner = Runner(
            tables, claims, loader, sender, notifiers, self._metrics, self._clock.now_ms
        )
        runner.update(groups)
        return runner

    def _job_alerts(self, runner: Runner, notifiers: Notifiers) -> JobAlerts:
        """Those of other jobs, which this process tells if the shard of them is its own."""
        kafka = self._settings.kafka
        return JobAlerts(
            runner.claims,
            runner.tables.store,
            partial(EventTopic, kafka_cluster(self._settings), kafka.topics.alerts),
            notifiers,
            self._metrics,
            self._clock.now_ms,
            resend_ms=self._evaluator.resend_ms,
            history_ms=runner.tables.history_ms,
        )

    def _outlet(self) -> KafkaOutlet:
        kafka = self._settings.kafka
        return KafkaOutlet(
            kafka.servers(),
            samples_topic=kafka.topics.raw,
            events_topic=kafka.topics.alerts,
            options=kafka.client_options(),
            metrics=self._metrics,
            stopping=self._stopping,
        )

    def _say(self, waiting: str) -> None:
        """Tells the status file when evaluations begin or have to wait."""
        self._status.progressed()
        if waiting == self._waiting:
            return
        self._waiting = waiting
        self._tell("starting" if waiting else "ready", waiting=waiting or None)
        if not waiting:
            log.info("ready")

    def _tell(self, state: State | None = None, **detail: str | int | None) -> None:
        """Says it in the status file; any thread may."""
        with self._telling:
            self._status.update(state=state, detail=detail)

    # Serving

    async def _serve(self, listener: socket.socket, notifiers: Notifiers) -> None:
        service = RulesService(
            lambda: [] if self._runner is None else self._runner.groups,
            self._evaluator,
            notifiers.to_json,
            self.reload,
            lambda: self._waiting,
            self._telemetry,
            self._browsers(),
        )
        server = server_of(create_app(service), [(HEADER, identity(self._settings))])
        loop = asyncio.get_running_loop()

        def stop() -> None:
            server.should_exit = True

        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop)
        loop.add_signal_handler(signal.SIGHUP, lambda: loop.run_in_executor(None, self.reload))
        watching = asyncio.create_task(self._watch_files(server))
        await server.serve(sockets=[listener])
        watching.cancel()

    def _browsers(self) -> BrowserRules:
        """Under which names it may be asked: any, where more than this machine reaches it."""
        local = self._rules.host in ("localhost", "::1") or self._rules.host.startswith("127.")
        remedy = "ask it by its address, or set rules.host"
        hosts = [] if local else ["*"]
        return replace(BrowserRules.of(hosts, []), host_remedy=remedy, origin_remedy=remedy)

    async def _watch_files(self, server: Server) -> None:
        """Takes files that have changed."""
        while not server.should_exit:
            await asyncio.sleep(_LOOK_S)
            version = await asyncio.to_thread(self._files.version)
            if version != self._version:
                await asyncio.to_thread(self.reload)


def rule_files(settings: Settings) -> RuleFiles:
    """The files that the settings name. A relative one lies with the settings that ship, or else in
    the folder that the process is started in.
    """
    shipped, here = conf_dir(), Path.cwd()
    patterns = listed(settings.rules.files)
    folder = shipped if RuleFiles(shipped, patterns).are_there() else here
    return RuleFiles(folder, patterns)


def _side_by_side(
    pool: ThreadPoolExecutor, run: Run, places: Iterable[int]
) -> Iterable[RuleOutcome]:
    """Independent rules at once; one alone on the caller's thread."""
    listed_places = list(places)
    return (pool.map if len(listed_places) > 1 else map)(run, listed_places)


def _url(host: str, listener: socket.socket) -> str:
    """The address that the socket has, whose port may have been any."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listener.getsockname()[1]}"
