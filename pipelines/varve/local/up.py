"""`varve up`: the whole platform on this machine, started in order, watched, stopped in order.

Components fail alone: what still works goes on, the rest is tried for as long as it takes, and the
state of `up` says degraded meanwhile. Only the start may be refused, and a run with --for gives up.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from varve.local import components
from varve.local.alert_log import alert_log, default_config
from varve.local.bounded_run import BoundedRun
from varve.local.components import (
    COLLECTOR,
    FORECASTS,
    GATEWAY,
    HISTORY,
    KAFKA,
    MAINTENANCE,
    NOTIFY,
    PRODUCERS,
    QUERY,
    RULES,
    SCRAPE,
    STREAMS,
    WRITER,
)
from varve.local.condition import Condition
from varve.local.disk import Disks, Shortage, disk_paths
from varve.local.findings import Findings
from varve.local.journal import Journal
from varve.local.kafka_setup import KafkaSetup
from varve.local.needed_ports import require_free_ports
from varve.local.supervisor import Component, Health, RestartPolicy, Supervisor
from varve.model.clock import SystemClock
from varve.model.errors import VarveError
from varve.services.home import Home
from varve.services.metrics_page import serving
from varve.services.progress import Lag, lags, left_of, table_store
from varve.services.status import ComponentStatus, forget
from varve.settings import Settings
from varve.telemetry.metrics import declare_components, declare_disks
from varve.telemetry.registry import Telemetry

_POLL_S = 0.1
_MEASURE_S = 1.0
_DRAIN_S = 60.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What only the command line says.

    for_s: seconds to run once all is ready; None: until told to stop. config: the settings file,
    for the components.
    """

    for_s: float | None = None
    demo: bool = False
    config: Path | None = None


class GaveUp(VarveError):
    """A component of a bounded run does not run, and was started again often enough."""


class _Stopped(Exception):
    """Somebody asked to stop."""


def run(settings: Settings, origins: dict[str, str], options: UpOptions, show: Say) -> int:
    """Blocks until stopped. 0 after an orderly end; 1 if the summary has something to complain of.

    show: prints a text for a person. Raises NeedsOperator before anything is started if something
    is in the way (the home is held, a port is taken, the Kafka of one's own does not answer);
    GaveUp if a component of a bounded run cannot be kept running.
    """
    home = Home.at(settings.home)
    settings = settings.model_copy(update={"home": home.path})
    with home.held():
        home.mark()
        require_free_ports(settings, gateway=settings.gateway.enabled or options.demo)
        journal = Journal(home.logs, settings, show)
        try:
            return _Up(settings, origins, options, home, journal.say).run()
        finally:
            journal.close()


class _Up:
    def __init__(
        self, settings: Settings, origins: dict[str, str], options: UpOptions, home: Home, say: Say
    ) -> None:
        self._settings = settings
        self._options = options
        self._home = home
        self._say = say
        self._environment = components.environment(settings, origins)
        self._kafka = KafkaSetup(settings, home, say)
        supervision = settings.supervision
        self._status = ComponentStatus(home.path, "up")
        self._supervisor = Supervisor(
            home.logs,
            RestartPolicy(
                supervision.backoff_s, supervision.max_backoff_s, supervision.healthy_after_s
            ),
            supervision.log_bytes,
            say,
            self._started,
        )
        self._disks = Disks(disk_paths(settings), supervision.free_mb)
        self._shortage: Shortage | None = None
        self._stopping = False
        self._measured_at = -_MEASURE_S
        self._reported: dict[str, str] = {}
        self._positions_accepted = False
        self._kafka_shown = self._alert_log = ""
        self._url = f"{settings.query.url()}/"
        self._condition = Condition(home.path, self._url, say)
        self._findings = None
        if options.demo:
            self._findings = Findings(table_store(settings), SystemClock(), self._url, say)
        self._bounded = None
        if options.for_s is not None:
            self._bounded = BoundedRun(settings, options.for_s, self._findings, self._url, say)

    def run(self) -> int:
        telemetry, page = Telemetry(), self._settings.telemetry
        declare_components(telemetry, self._supervisor.used)
        declare_disks(telemetry, lambda: self._disks.spaces)
        with (
            serving(telemetry, page.host, page.up_port, "telemetry.up_port") as url,
            alert_log(self._say) as self._alert_log,
        ):
            servers = self._settings.kafka.servers()
            self._status.update(
                state="starting", detail={"url": self._url, "metrics": url, "kafka": servers}
            )
            return self._run()

    def _run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)
        self._say(f"Varve starts in {self._home.path}; logs are in {self._home.logs}")
        try:
            self._add_components()
            while self._bounded is None or not self._bounded.over():
                self._step()
        except _Stopped:
            self._say("stopping")
        except VarveError as err:  # the others still end in order
            self._say(f"stopping: {err}")
            self._stop_components()
            self._status.update(state="failed", detail={"components": None, "error": str(err)})
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

    def _add_components(self) -> None:
        """Each starts once nothing is left that it has to wait for."""
        if not self._kafka.embedded:
            self._kafka.make_topics()
        self._add(QUERY, self._environment)
        self._add(STREAMS, self._environment | components.spark_environment())
        if self._settings.maintenance.enabled:
            self._add(MAINTENANCE, self._environment)
        if self._settings.forecasts.enabled:
            self._add(FORECASTS, self._environment)
        if self._options.demo:
            self._add(HISTORY, self._environment)
        if self._settings.collector.enabled:
            self._add(COLLECTOR, self._environment)
        if self._settings.gateway.enabled or self._options.demo:
            self._add(GATEWAY, self._environment)
        if self._settings.rules.enabled:
            told = components.rules_environment(self._settings, demo=self._options.demo)
            self._add(RULES, self._environment | told)
        if self._settings.notify.enabled:
            self._add_notifier()
        if self._settings.scrape.config_file:
            self._add(SCRAPE, self._environment)
        if self._options.demo and not self._settings.gateway.cert_file:
            self._add(WRITER, self._environment)

    def _add(self, name: str, environment: dict[str, str]) -> None:
        forget(self._home.path, name)
        component = components.service(
            name, self._settings, self._home, self._options.config, environment
        )
        self._supervisor.add(component, held=self._reason_to_wait(name))

    def _add_notifier(self) -> None:
        forget(self._home.path, NOTIFY)
        named = self._settings.notify.config_file
        config = Path(named) if named else default_config(self._home.run, self._alert_log)
        self._supervisor.add(
            components.notifier(self._settings, self._home, config, self._environment)
        )

    def _started(self, component: Component, pid: int) -> None:
        # Until it speaks for itself; and nobody takes the word of the process before it.
        ComponentStatus(self._home.path, component.name, pid=pid).update(state="starting")

    def _reason_to_wait(self, name: str) -> str:
        """Why a component must not run now; "" if it may."""
        if self._shortage is not None and (name != KAFKA or self._shortage.severe):
            # Maintenance may be what makes room.
            return "" if name in (QUERY, MAINTENANCE, NOTIFY) else self._shortage.why
        if name in (KAFKA, QUERY, MAINTENANCE, NOTIFY):
            return ""
        broker_up = self._supervisor.is_up(KAFKA) or not self._kafka.embedded
        if not (self._kafka.topics_made and broker_up):
            return "it waits for kafka"
        # A broker that has lost messages would fill their offsets anew before ingest has seen it.
        if name in PRODUCERS and not self._positions_accepted:
            return "it waits for streams to accept its positions"
        return ""

    def _hold_back(self, health: Mapping[str, Health]) -> None:
        for name in health:
            why = self._reason_to_wait(name)
            # What runs rides out a broker's restart; a full disk it must not go on to fill.
            if self._shortage is not None or not health[name].pid:
                self._supervisor.hold(name, why)

    def _start_kafka(self) -> None:
        """Starts the broker of this home, once there is room for it."""
        if not self._kafka.embedded or KAFKA in self._supervisor.health():
            return
        if self._shortage is not None and self._shortage.severe:
            return
        forget(self._home.path, KAFKA)
        self._supervisor.add(self._kafka.broker())

    # Running

    def _step(self) -> None:
        """A moment of watching. Raises _Stopped, and GaveUp in a bounded run."""
        if self._stopping:
            raise _Stopped
        if time.monotonic() - self._measured_at >= _MEASURE_S:
            self._measured_at = time.monotonic()
            self._look_at_disks()
            self._start_kafka()
            self._report()
        elif _states(self._supervisor.health()) != self._reported:
            self._report()  # whoever reads what was said finds it in the status, too
        if self._supervisor.is_up(KAFKA):
            self._kafka.make_topics()
        if self._shortage is None and self._supervisor.is_up(STREAMS):
            self._positions_accepted = True
        self._hold_back(self._supervisor.health())
        self._supervisor.poll()
        time.sleep(_POLL_S)

    def _look_at_disks(self) -> None:
        before, self._shortage = self._shortage, self._disks.look()
        if self._shortage is not None:
            # A broker that met a full disk may have cut off messages that it had acknowledged.
            self._positions_accepted = False
        if self._shortage is not None and before is None:
            self._say(f"{self._shortage.why}: what writes waits until there is room")
        elif self._shortage is None and before is not None:
            self._say("there is room on the disk again: going on")

    def _report(self) -> None:
        """Says how everything is: to a person, in the status files, to the supervisor of this."""
        rss = self._supervisor.measure()
        health = self._supervisor.health()
        self._reported = _states(health)
        self._condition.update(health, self._shortage)
        self._show_kafka(health)
        self._status.update(
            state=self._condition.state,
            detail={
                "components": {
                    name: {
                        "state": h.state,
                        "pid": h.pid,
                        "restarts": h.restarts,
                        "why": h.why or None,
                    }
                    for name, h in health.items()
                },
                "waiting": self._condition.wrong or None,
                "rss_bytes": rss,
                "peak_rss_bytes": self._supervisor.peak_rss_bytes,
            },
        )
        self._status.progressed()
        self._kafka.keep_unread(ingesting=self._supervisor.is_up(STREAMS))
        if self._findings is not None and self._condition.was_ready:
            self._findings.look()
        if self._bounded is not None:
            self._give_up_on(health)
            if self._condition.was_ready:
                self._bounded.start()

    def _show_kafka(self, health: Mapping[str, Health]) -> None:
        """Says in the broker's place how it is."""
        if KAFKA not in health or health[KAFKA].state == self._kafka_shown:
            return
        self._kafka_shown = health[KAFKA].state
        if self._kafka_shown == "ready":
            pid = health[KAFKA].pid
            ComponentStatus(self._home.path, KAFKA, pid=pid).update(state="ready")

    def _give_up_on(self, health: Mapping[str, Health]) -> None:
        attempts = self._settings.supervision.attempts
        for name, h in health.items():
            if h.state == "failed" or (h.failures > attempts and not h.up):
                raise GaveUp(
                    f"{name} {h.why}, {h.failures} times in a row;"
                    f" {self._supervisor.last_words(name)}"
                )

    # Stopping

    def _finish(self) -> int:
        """The orderly end: producers first, then what reads from them, so that all is stored."""
        self._stopping = True  # from here on another signal ends it at once
        health = self._supervisor.health()
        try:
            if self._bounded is not None:
                self._bounded.stop_measuring()
            for name in PRODUCERS:
                self._supervisor.stop(name)
            streaming = self._supervisor.is_up(STREAMS)
            unstored = self._drain() if streaming else None
            found = []
            if self._bounded is not None:
                found = self._bounded.summary(
                    health, unstored, self._supervisor.peak_rss_bytes, streaming=streaming
                )
        except BaseException:
            self._supervisor.kill_all()
            raise
        self._stop_components()
        self._status.update(state="stopped", detail={"components": None, "waiting": None})
        self._say("stopped")
        return 1 if found else 0

    def _stop_components(self) -> None:
        self._stopping = True
        embedded = KAFKA in self._supervisor.health()
        try:
            last = (STREAMS, QUERY, KAFKA)
            others = [name for name in self._supervisor.health() if name not in last]
            for name in (*PRODUCERS, *others, *last):
                self._supervisor.stop(name)
        except BaseException:
            self._supervisor.kill_all()
            raise
        if embedded:
            ComponentStatus(self._home.path, KAFKA, pid=0).update(state="stopped")

    def _drain(self) -> int | None:
        """Waits until what Kafka has now is stored, for _DRAIN_S at most.

        What producers go on to send is left to the next start. Returns how many messages are not
        stored; None if that cannot be told.
        """
        deadline = time.monotonic() + _DRAIN_S
        seen: list[Lag] | None = None
        while True:
            self._status.progressed()
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


def _states(health: Mapping[str, Health]) -> dict[str, str]:
    return {name: h.state for name, h in health.items()}
