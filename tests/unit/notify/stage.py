"""A notifier on a clock that is set, with receivers that answer at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from varve.notify.alerts import Sending
from varve.notify.config import read_config
from varve.notify.groups import Outcome
from varve.notify.notifier import Notifier
from varve.notify.records import Record
from varve.notify.state import Options

MINUTE_MS = 60_000
CONFIG = """
route: {receiver: team, group_by: [alertname], group_wait: 30s, group_interval: 5m}
receivers: [{name: team, webhook_configs: [{url: 'http://team/'}]}]
"""


@dataclass(frozen=True)
class Heard:
    at_ms: int
    to: str
    firing: frozenset[str]
    resolved: frozenset[str]
    key: str
    """The idempotency key."""


@dataclass
class Stage:
    config: str = CONFIG
    options: Options = field(default_factory=Options)
    now_ms: int = 0
    outcome: Callable[[str], Outcome] = lambda _: Outcome.TAKEN
    """What an integration answers."""

    def __post_init__(self) -> None:
        self.stored: list[Record] = []
        self.heard: list[Heard] = []
        self.attempts: list[tuple[int, str, str]] = []
        self.start()

    def start(self) -> None:
        """Begins, or goes on from what was stored."""
        self.notifier = Notifier(read_config(self.config), self.options, chance=random.Random(0))
        self.notifier.start(self.now_ms, list(self.stored))
        self.store()

    def store(self) -> None:
        self.stored += self.notifier.journal
        self.notifier.journal = []

    def send(
        self,
        *names: str,
        lasts_ms: int = 4 * MINUTE_MS,
        labels: Mapping[str, str] | None = None,
        starts_ms: int | None = None,
    ) -> list[str]:
        """Sends alerts that last from now on, each of the name Down and an instance."""
        sendings = [
            Sending(
                {"alertname": "Down", "instance": name, **(labels or {})},
                {},
                self.now_ms if starts_ms is None else starts_ms,
                self.now_ms + lasts_ms,
            )
            for name in names
        ]
        wrong = self.notifier.put_alerts(sendings, self.now_ms)
        self.store()
        return wrong

    def resolve(self, *names: str, labels: Mapping[str, str] | None = None) -> None:
        self.send(*names, lasts_ms=0, labels=labels, starts_ms=0)

    def run_until(self, until_ms: int) -> None:
        while (due_ms := self.notifier.next_due_ms()) is not None and due_ms <= until_ms:
            self.now_ms = max(self.now_ms, due_ms)
            for delivery in self.notifier.due(self.now_ms):
                integration = delivery.message.integration
                outcome = self.outcome(integration.receiver)
                self.attempts.append((self.now_ms, integration.receiver, delivery.idempotency_key))
                if outcome is Outcome.TAKEN:
                    told = delivery.message.alerts
                    self.heard.append(
                        Heard(
                            self.now_ms,
                            integration.receiver,
                            _names(t.alert.labels for t in told if t.firing),
                            _names(t.alert.labels for t in told if not t.firing),
                            delivery.idempotency_key,
                        )
                    )
                self.notifier.attempted(delivery, outcome, self.now_ms)
            self.store()
        self.now_ms = max(self.now_ms, until_ms)


def _names(sets: Iterable[tuple[tuple[str, str], ...]]) -> frozenset[str]:
    return frozenset(dict(labels)["instance"] for labels in sets)
