"""Inhibition: an alert that fires makes others needless."""

from __future__ import annotations

from collections.abc import Iterable

from varve.notify.config.routing import InhibitRuleConfig
from varve.notify.matchers import Labels, all_match
from varve.notify.records import Alert

Equal = tuple[str, ...]


class Inhibitor:
    """Knows which alerts may inhibit others, by rule and by the values of the equal labels."""

    def __init__(self, rules: Iterable[InhibitRuleConfig]) -> None:
        self._rules = [_Rule(rule) for rule in rules]

    def observe(self, alert: Alert) -> None:
        """Takes in an alert, or what has become of it."""
        if self._rules:
            labels = dict(alert.labels)
            for rule in self._rules:
                rule.observe(alert, labels)

    def forget(self, alert: Alert) -> None:
        for rule in self._rules:
            rule.forget(alert, dict(alert.labels))

    def inhibited_by(self, labels: Labels, now_ms: int) -> list[int]:
        """Fingerprints of alerts that fire and inhibit one with these labels, one for each rule."""
        found = (rule.source_of(labels, now_ms) for rule in self._rules)
        return sorted({alert.fingerprint for alert in found if alert is not None})


class _Rule:
    """The sources of one rule, in two parts: an alert that matches both sides inhibits none that
    does so, too.
    """

    def __init__(self, config: InhibitRuleConfig) -> None:
        self._sources = config.sources
        self._targets = config.targets
        self._equal = config.equal
        self._by_equal: dict[tuple[bool, Equal], dict[int, Alert]] = {}

    def observe(self, alert: Alert, labels: Labels) -> None:
        if all_match(self._sources, labels):
            both = all_match(self._targets, labels)
            self._by_equal.setdefault((both, self._values(labels)), {})[alert.id] = alert

    def forget(self, alert: Alert, labels: Labels) -> None:
        for both in (False, True):
            key = both, self._values(labels)
            if alerts := self._by_equal.get(key):
                alerts.pop(alert.id, None)
                if not alerts:
                    del self._by_equal[key]

    def source_of(self, labels: Labels, now_ms: int) -> Alert | None:
        if not self._by_equal or not all_match(self._targets, labels):
            return None
        values = self._values(labels)
        found = self._firing((False, values), now_ms)
        if found is None and not all_match(self._sources, labels):
            found = self._firing((True, values), now_ms)
        return found

    def _firing(self, key: tuple[bool, Equal], now_ms: int) -> Alert | None:
        alerts = self._by_equal.get(key)
        if not alerts:
            return None
        for alert in list(alerts.values()):
            if not alert.resolved_at(now_ms):
                return alert
            # It counts again only once it is sent again, and observed then.
            del alerts[alert.id]
        del self._by_equal[key]
        return None

    def _values(self, labels: Labels) -> Equal:
        return tuple(labels.get(name, "") for name in self._equal)
