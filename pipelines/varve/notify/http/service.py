"""What the application needs to answer requests, and what it counts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from varve import __version__
from varve.notify.driver import Driver, Result
from varve.notify.groups import Delivery, Outcome
from varve.notify.notifier import Notifier
from varve.notify.silences import State, state_of
from varve.telemetry.metrics import NotifyMetrics

_log = logging.getLogger("varve.notify")


class Recorder:
    """Counts attempts, and says which fail."""

    def __init__(self, metrics: NotifyMetrics) -> None:
        self._metrics = metrics

    def attempted(self, delivery: Delivery, result: Result, seconds: float) -> None:
        integration = delivery.message.integration
        name, kind = integration.receiver, integration.kind
        self._metrics.seconds.labels(kind).observe(max(seconds, 0.0))
        fields: dict[str, object] = {
            "receiver": name,
            "integration": f"{kind}[{integration.index}]",
        }
        fields |= {"group": delivery.message.group_key, "alerts": len(delivery.message.alerts)}
        if result.detail:
            fields["err"] = result.detail
        if result.outcome is Outcome.TAKEN:
            self._metrics.messages.labels(name, kind, delivery.reason).inc()
            _log.debug("Notify success", extra={"fields": fields})
            return
        self._metrics.failures.labels(name, kind, result.outcome.value).inc()
        if result.outcome is Outcome.REFUSED:
            _log.error("Notify failed for good", extra={"fields": fields})
        elif delivery.attempts <= 1:  # more of them would say the same
            _log.warning("Notify attempt failed, will retry later", extra={"fields": fields})


@dataclass
class NotifyService:
    driver: Driver
    metrics: NotifyMetrics
    reload: Callable[[], Awaitable[str]]
    """Reads the configuration again; "" or why the old one stays."""
    started_ms: int
    route_prefix: str = "/"
    can_tell: bool = False
    """Whether what speaks to receivers is loaded: ready, where it answered before."""
    cluster: Callable[[], dict[str, Any]] = lambda: {"status": "disabled", "peers": []}
    version: dict[str, str] = field(
        default_factory=lambda: {
            "version": __version__,
            "revision": "",
            "branch": "",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        }
    )

    @property
    def notifier(self) -> Notifier:
        return self.driver.notifier

    def now_ms(self) -> int:
        return self.driver.clock.now_ms()

    def refresh_metrics(self) -> None:
        """Sets what is a count of the state, before the page is read."""
        notifier, metrics, now_ms = self.notifier, self.metrics, self.now_ms()
        ended = sum(entry.alert.resolved_at(now_ms) for entry in notifier.entries.values())
        metrics.alerts.labels("firing").set(len(notifier.entries) - ended)
        metrics.alerts.labels("resolved").set(ended)
        metrics.groups.set(len(notifier.groups))
        states = Counter(state_of(silence, now_ms) for silence in notifier.silences)
        for state in State:
            metrics.silences.labels(str(state)).set(states[state])
        counts = notifier.take_counts()
        metrics.received.labels("firing").inc(counts.received_firing)
        metrics.received.labels("resolved").inc(counts.received_resolved)
        metrics.invalid.inc(counts.invalid)
        for key, circuit in notifier.dispatcher.circuits.items():
            receiver, kind, _ = key.rsplit("/", 2)
            metrics.circuits.labels(receiver, kind).set(circuit.is_open)
        metrics.storing.set(not self.driver.failure)
