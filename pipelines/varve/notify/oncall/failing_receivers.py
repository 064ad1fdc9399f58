"""Receivers that take nothing: told to another one, and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from varve.notify.alerts import Sending
from varve.notify.circuit import Circuit
from varve.notify.oncall.on_call import Fallback
from varve.notify.records import Alert
from varve.notify.times import format_ms

RECEIVER_ALERT = "ReceiverFails"
"""The alert that tells of one."""

# Whoever has something to tell tries again every few minutes: after so long there is nothing.
_TRIED_WITHIN_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Integration:
    """What of a receiver takes nothing, and since when."""

    receiver: str
    name: str
    """Its kind and number: webhook[0]."""
    since_ms: int
    is_open: bool
    """Whether it is left alone for now."""


def failing(circuits: Mapping[str, Circuit], now_ms: int) -> list[Integration]:
    """All whose last attempt was not taken. circuits: by the key of the integration."""
    return [
        Integration(*_names(key), circuit.failing_since_ms, circuit.is_open)
        for key, circuit in sorted(circuits.items())
        if circuit.failing_since_ms is not None and now_ms - circuit.tried_ms < _TRIED_WITHIN_MS
    ]


def sendings(
    fallback: Fallback,
    circuits: Mapping[str, Circuit],
    known: Callable[[Mapping[str, str]], Alert | None],
    now_ms: int,
) -> Iterator[Sending]:
    """Alerts that begin, go on or end, of receivers that fail for as long as the fallback waits.

    Of several notifiers the one that tells ends what it began: the others make no attempts. One
    that dies leaves its alerts to end by resolve_timeout. known: the alert of a label set, if any.
    """
    for one in failing(circuits, now_ms):
        if now_ms - one.since_ms >= fallback.after_ms and one.receiver != fallback.receiver:
            what = f"{one.receiver}, {one.name}, takes nothing since {format_ms(one.since_ms)}"
            yield Sending(_labels(fallback, one.receiver, one.name), {"summary": what})
    for key, circuit in circuits.items():
        if circuit.failing_since_ms is None:
            labels = _labels(fallback, *_names(key))
            alert = known(labels)
            if alert and alert.starts_ms < circuit.taken_ms and not alert.resolved_at(now_ms):
                yield Sending(labels, alert.annotations, ends_ms=now_ms)


def _labels(fallback: Fallback, receiver: str, integration: str) -> dict[str, str]:
    return {
        **fallback.labels,
        "alertname": RECEIVER_ALERT,
        "receiver": receiver,
        "integration": integration,
    }


def _names(key: str) -> tuple[str, str]:
    receiver, kind, number = key.rsplit("/", 2)
    return receiver, f"{kind}[{number}]"
