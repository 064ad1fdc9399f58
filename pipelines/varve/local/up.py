"""`varve up`: the whole platform on this machine, started in order, watched, stopped in order."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from varve.kafka.connection import connect
from varve.kafka.topics import Bounds, ensure_topics
from varve.local import broker, components
from varve.local.components import COLLECTOR, HISTORY, KAFKA, QUERY, STREAMS
from varve.local.freshness import FreshnessProbe, range_query
from varve.local.summary import FreshnessFigures, Summary, as_json, as_text, complaints
from varve.local.supervisor import Component, Health, RestartPolicy, Supervisor
from varve.model.errors import NeedsOperator, TemporaryError, VarveError
from varve.services.collector import instance_name
from varve.services.home import Home
from varve.services.metrics_page import serving
from varve.services.ports import require_free
from varve.services.progress import Lag, kafka_options, lags, left_of, progress
from varve.services.status import ComponentStatus, Record, forget, read_status, replace_file
from varve.settings import Settings
from varve.telemetry.metrics import declare_components
from varve.telemetry.registry import Telemetry

WARM_UP_S = 30.0
"""Seconds after everything is ready in which freshness is not measured."""

_POLL_S = 0.1
_MEASURE_S = 1.0
_PROGRESS_S = 10.0
_DRAIN_S = 60.0
_KAFKA_DEADLINE_S = 15.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What only the command line says. for_s: seconds to run once all is ready; None: until told
    to stop. config: the settings file, for the components.
    """

    for_s: float | None = None
    demo: bool = False
    config: Path | None = None


class _Stopped(Exception):
    """Asked to stop while waiting for something else."""


def run(settings: Settings, origins: dict[str, str], options: UpOptions, say: Say) -> int:
    """Blocks until stopped. 0 after an orderly end; 1 if the summary has something to complain of.

    Raises NeedsOperator before anything is started if something is in the way (the home is held, a
    port is taken), GaveUp if a component cannot be kept running.
    """
    home = Home.at(settings.home)
    settings = settings.model_copy(update={"home": home.path})
    with home.held():
        _require_free_ports(settings)
        return _Up(settings, origins, options, home, say).run()


def _require_free_ports(settings: Settings) -> None:
    if not settings.kafka.bootstrap_servers:
        require_free(broker.HOST, settings.kafka.port, "kafka.port")
        require_free(broker.HOST, settings.kafka.controller_port, "kafka.controller_port")
    require_free(settings.query.host, settings.query.port, "query.port")
    telemetry = settings.telemetry
    for port, setting in ((telemetry.port, "port"), (telemetry.up_port, "up_port")):
        require_free(telemetry.host, port, f"telemetry.{setting}")


class _Up:
    def __init__(
        self, settings: Settings, origins: dict[str, str], options: UpOptions, home: Home, say: Say
    ) -> None:
        self._settings = settings
        self._options = options
        self._home = home
        self._say = say
        self._environment = components.environment(settings, origins)
        supervision = settings.supervision
        self._status = ComponentStatus(home.path, "up")
        self._supervisor = Supervisor(
            home.logs,
            RestartPolicy(supervision.attempts, supervision.backoff_s, supervision.healthy_after_s),
            supervision.log_bytes,
            say,
            self._started,
        )
        self._bounded = options.for_s is not None
        self._begun = time.monotonic()
        self._stopping = False
        self._measured_at = 0.0
        self._kafka_shown = ""
        host = f"[{settings.query.host}]" if ":" in settings.query.host else settings.query.host
        self._url = f"http://{host}:{settings.query.port}/"
        selector = f'node_time_seconds{{job="node",instance="{instance_name(settings)}"}}'
        self._probe = FreshnessProbe(range_query(self._url.rstrip("/"), selector))

    def run(self) -> int:
        telemetry, page = Telemetry(), self._settings.telemetry
        declare_components(telemetry, self._supervisor.used)
        with serving(telemetry, page.host, page.up_port, "telemetry.up_port") as url:
            self._status.update(detail={"metrics": url})
            return self._run()

    def _run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)
        self._say(f"Varve starts in {self._home.path}; logs are in {self._home.logs}")
        self._status.update(state="starting", detail={"url": self._url})
        try:
            self._start_all()
            self._serve()
        except _Stopped:
            self._say("stopping")
        except VarveError:  # the others still end in order
            self._stop_components()
            self._status.update(state="failed", detail={"components": None})
            raise
        except BaseException:
            self._supervisor.kill_all()
            raise
        return self._finish()

    def _asked_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        if self._stopping:  # asked twice: at once
            raise KeyboardInterrupt
        self._stopping = True

    # Starting

    def _start_all(self) -> None:
        self._start_kafka()
        spark = self._environment | components.spark_environment()
        self._start(self._service(STREAMS, spark, stop_s=60.0))
        self._start(self._service(QUERY, self._environment))
        if self._options.demo:
            self._start(self._service(HISTORY, self._environment))
            self._wait_for(HISTORY)
        if self._settings.collector.enabled:
            self._start(self._service(COLLECTOR, self._environment))
            self._wait_for(COLLECTOR)
        self._wait_for(STREAMS)
        self._wait_for(QUERY)
        self._status.update(state="ready")
        self._say(f"\nReady after {time.monotonic() - self._begun:.0f} s: open {self._url}\n")

    def _start_kafka(self) -> None:
        kafka = self._settings.kafka
        bounds = None
        if not kafka.bootstrap_servers:
            config = components.broker_config(self._settings, self._home)
            self._say(f"starting kafka on {config.bootstrap_servers}")
            broker.prepare(config)
            self._start(components.kafka(config))
            self._wait_for(KAFKA)
            bounds = Bounds(kafka.retention_s * 1000, kafka.retention_bytes)
        try:
            admin = connect(
                KafkaAdminClient,
                kafka_options(self._settings)
                | {"bootstrap_timeout_ms": int(_KAFKA_DEADLINE_S * 1000)},
            )
            made = ensure_topics(admin, components.topic_plans(self._settings), bounds=bounds)
            admin.close()
        except (KafkaError, TemporaryError) as err:
            raise NeedsOperator(
                f"Kafka at {kafka.servers()}: {err}; correct kafka.bootstrap_servers or"
                " kafka.options, or leave them out and `varve up` starts a broker"
            ) from err
        if made:
            self._say(f"created topics {', '.join(made)}")

    def _service(self, name: str, environment: dict[str, str], stop_s: float = 15.0) -> Component:
        return components.service(
            name, self._home, self._options.config, environment, stop_s=stop_s
        )

    def _start(self, component: Component) -> None:
        forget(self._home.path, component.name)
        self._supervisor.start(component)

    def _started(self, component: Component, pid: int) -> None:
        # Until it speaks for itself; and nobody takes the word of the process before it.
        ComponentStatus(self._home.path, component.name, pid=pid).update(state="starting")

    def _show_kafka(self, health: Mapping[str, Health]) -> None:
        """Says in its place how the broker is."""
        if KAFKA not in health or health[KAFKA].state == self._kafka_shown:
            return
        self._kafka_shown = health[KAFKA].state
        if self._kafka_shown == "ready":
            pid = health[KAFKA].pid
            ComponentStatus(self._home.path, KAFKA, pid=pid).update(state="ready")

    def _wait_for(self, name: str) -> None:
        said = time.monotonic()
        while not self._supervisor.is_up(name):
            self._step()
            if time.monotonic() - said > _PROGRESS_S:
                said = time.monotonic()
                self._say_progress()

    def _say_progress(self) -> None:
        """A line on whatever is not up yet."""
        statuses = read_status(self._home.path)
        waiting = []
        for name, health in self._supervisor.health().items():
            if health.state not in ("starting", "waiting"):
                continue
            detail = statuses[name].detail if name in statuses else {}
            sent = f" ({detail['samples']:,} of {detail['of']:,} samples)" if "of" in detail else ""
            waiting.append(name + sent)
        if waiting:
            elapsed = time.monotonic() - self._begun
            self._say(f"{elapsed:4.0f} s: still starting {', '.join(waiting)}")

    # Running

    def _serve(self) -> None:
        self._probe.start(after_s=WARM_UP_S)
        until = None if self._options.for_s is None else time.monotonic() + self._options.for_s
        while until is None or time.monotonic() < until:
            self._step()

    def _step(self) -> None:
        """A moment of watching. Raises _Stopped, GaveUp."""
        if self._stopping:
            raise _Stopped
        self._supervisor.poll()
        if time.monotonic() - self._measured_at >= _MEASURE_S:
            self._measured_at = time.monotonic()
            rss = self._supervisor.measure()
            health = self._supervisor.health()
            self._show_kafka(health)
            self._status.update(
                detail={
                    "components": {
                        name: {"state": h.state, "pid": h.pid, "restarts": h.restarts}
                        for name, h in health.items()
                    },
                    "rss_bytes": rss,
                    "peak_rss_bytes": self._supervisor.peak_rss_bytes,
                }
            )
        time.sleep(_POLL_S)

    # Stopping

    def _finish(self) -> int:
        """The orderly end: producers first, then what reads from them, so that all is stored."""
        self._stopping = True  # from here on another signal ends it at once
        health = self._supervisor.health()
        try:
            self._probe.stop()
            self._supervisor.stop(HISTORY)
            self._supervisor.stop(COLLECTOR)
            streaming = STREAMS in health and health[STREAMS].state == "ready"
            unstored = self._drain() if streaming else None
            found = self._summary(health, unstored) if self._bounded else []
        except BaseException:
            self._supervisor.kill_all()
            raise
        self._stop_components()
        self._status.update(state="stopped", detail={"components": None})
        self._say("stopped")
        return 1 if found else 0

    def _stop_components(self) -> None:
        self._stopping = True
        embedded = KAFKA in self._supervisor.health()
        try:
            for name in (HISTORY, COLLECTOR, STREAMS, QUERY, KAFKA):
                self._supervisor.stop(name)
        except BaseException:
            self._supervisor.kill_all()
            raise
        if embedded:
            ComponentStatus(self._home.path, KAFKA, pid=0).update(state="stopped")

    def _drain(self) -> int | None:
        """Waits until everything produced by now is stored, for _DRAIN_S at most. A producer that
        goes on sending holds up nothing.

        Returns how many messages are not; None if that cannot be told.
        """
        deadline = time.monotonic() + _DRAIN_S
        seen: list[Lag] | None = None
        while True:
            try:
                if seen is None:
                    seen = lags(self._settings)
                left = left_of(self._settings, seen)
            except VarveError as err:
                self._say(f"cannot tell what is not yet stored: {err}")
                return None
            if left == 0:
                return 0
            if time.monotonic() > deadline or not self._supervisor.is_up(STREAMS):
                self._say(f"{left} messages are not yet stored; the next start takes them up")
                return left
            self._supervisor.poll()
            time.sleep(_POLL_S)

    def _summary(self, health: Mapping[str, Health], unstored: int | None) -> list[str]:
        statuses = read_status(self._home.path)
        probe = self._probe
        ages = probe.freshness
        figures = FreshnessFigures(
            p50_s=ages.quantile_s(0.5),
            p99_s=ages.quantile_s(0.99),
            max_s=ages.quantile_s(1.0),
            samples=len(ages.ages_ms),
            answers=probe.answers,
            failures=probe.failures,
        )
        done = progress(self._settings)
        summary = Summary(
            live_samples=_samples(statuses, COLLECTOR),
            generated_samples=_samples(statuses, HISTORY),
            rows=done.rows,
            rejected=done.rejected,
            frontier_ms=done.frontier_ms,
            freshness=figures,
            unstored=unstored,
            restarts={name: h.restarts for name, h in health.items()},
            peak_rss_bytes=self._supervisor.peak_rss_bytes,
            seconds=round(time.monotonic() - self._begun, 1),
            url=self._url,
        )
        found = complaints(summary, live=COLLECTOR in health, demo=self._options.demo)
        self._say("\n" + as_text(summary))
        if self._options.demo:
            path = self._home.path / "demo-summary.json"
            replace_file(path, json.dumps(as_json(summary, found), indent=2) + "\n")
            self._say(f"  as JSON in     {path}")
        for complaint in found:
            self._say(f"MISSING: {complaint} ({self._home.logs})")
        return found


def _samples(statuses: Mapping[str, Record], name: str) -> int:
    record = statuses.get(name)
    return int(record.detail.get("samples", 0)) if record else 0
