"""What a receiver is told: the alerts of a group as one look at it found them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from varve.notify.config.load import NamedIntegration
from varve.notify.records import Alert, Key


@dataclass(frozen=True, slots=True)
class ToldAlert:
    """An alert, and whether it fired when its group was looked at: it stays so in the message."""

    alert: Alert
    firing: bool

    @property
    def status(self) -> str:
        return "firing" if self.firing else "resolved"


@dataclass(frozen=True)
class Message:
    """One message to one integration, whatever its form."""

    integration: NamedIntegration
    group_key: str
    group_labels: Key
    route_labels: dict[str, str]
    """Templates, by name."""
    alerts: tuple[ToldAlert, ...]
    """Those that are told, in order: by job, instance, then all labels."""
    at_ms: int
    """When the group was looked at."""
    data: dict[str, str] = field(default_factory=dict)
    """What the receiver answered to the last message of this group."""

    @property
    def receiver(self) -> str:
        return self.integration.receiver

    @property
    def status(self) -> str:
        return "firing" if any(told.firing for told in self.alerts) else "resolved"

    @cached_property
    def common_labels(self) -> dict[str, str]:
        return _common(dict(told.alert.labels) for told in self.alerts)

    @cached_property
    def common_annotations(self) -> dict[str, str]:
        return _common(told.alert.annotations for told in self.alerts)

    @cached_property
    def group_hash(self) -> str:
        """64 hexadecimal digits that name the group: receivers that open incidents go by it."""
        return group_hash(self.group_key)


def group_hash(group_key: str) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(group_key.encode()).hexdigest()


def order(told: ToldAlert) -> tuple[object, ...]:
    """Sorts alerts as messages have them: by job, instance, then all labels; without one, last."""
    labels = dict(told.alert.labels)
    job, instance = labels.get("job"), labels.get("instance")
    return (
        job is None,
        job or "",
        instance is None,
        instance or "",
        len(labels),
        told.alert.labels,
    )


def idempotency_key(
    log_key: str, firing: Iterable[int], resolved: Iterable[int], last_ms: int
) -> str:
    """The same for every attempt at one message, also by a process that takes over: it follows
    from the group, what fires and has ended in it, and when it was told last.
    """
    text = f"{log_key}|{sorted(firing)}|{sorted(resolved)}|{last_ms}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _common(sets: Iterable[dict[str, str]]) -> dict[str, str]:
    common: dict[str, str] | None = None
    for labels in sets:
        if common is None:
            common = dict(labels)
            continue
        common = {name: value for name, value in common.items() if labels.get(name) == value}
        if not common:
            break
    return dict(sorted((common or {}).items()))
