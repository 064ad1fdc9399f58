"""Who would have been told of the alerts of a backtest, by an alertmanager.yml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from varve.notify.alerts import Sending
from varve.notify.config import Configuration
from varve.notify.groups import Outcome
from varve.notify.message import Message
from varve.notify.notifier import Notifier
from varve.rules.backtest.backtest import Backtest, SentAt
from varve.rules.label_sets import Labels

_AFTERWARDS_MS = 3_600_000
"""For how long after the span what is to be told of it is waited for."""


@dataclass(frozen=True, slots=True)
class Told:
    """A message. alerts: labels of each, and whether it fires."""

    at_ms: int
    receiver: str
    integration: str
    status: str
    group: Labels
    alerts: tuple[tuple[Labels, bool], ...]


def told(run: Backtest, config: Configuration) -> list[Told]:
    """The messages, with receivers that take each at once and nobody who silences anything."""
    notifier = Notifier(config)
    notifier.start(run.start_ms)
    found: list[Told] = []

    def until(to_ms: int) -> None:
        while (due_ms := notifier.next_due_ms()) is not None and due_ms <= to_ms:
            for delivery in notifier.due(due_ms):
                found.append(_told(delivery.message))
                notifier.attempted(delivery, Outcome.TAKEN, due_ms)
        notifier.journal.clear()

    for at_ms, sent in _by_time(run.sent):
        until(at_ms - 1)
        notifier.put_alerts(
            [
                Sending(dict(one.labels), one.annotations, one.starts_at_ms, one.ends_at_ms)
                for _, _, one in sent
            ],
            at_ms,
        )
    until(run.end_ms + _AFTERWARDS_MS)
    # What fires at the end of the span is not over: that nobody evaluates it any more ends nothing.
    return [one for one in found if one.at_ms <= run.end_ms or one.status == "firing"]


def _by_time(sent: Sequence[SentAt]) -> list[tuple[int, list[SentAt]]]:
    found: dict[int, list[SentAt]] = {}
    for one in sent:
        found.setdefault(one[0], []).append(one)
    return sorted(found.items())


def _told(message: Message) -> Told:
    alerts = tuple((one.alert.labels, one.firing) for one in message.alerts)
    return Told(
        message.at_ms,
        message.receiver,
        f"{message.integration.kind}[{message.integration.index}]",
        message.status,
        message.group_labels,
        alerts,
    )
