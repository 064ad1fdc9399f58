"""Hands alerts to notifiers, Varve's or any Alertmanager, by API v2."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlsplit

import httpx

from varve.rules.alerts import Sent
from varve.rules.api_json import rfc3339
from varve.rules.label_sets import ALERT_NAME, Labels, labels_of
from varve.rules.rule_file import AlertingRule
from varve.telemetry.metrics import RulesMetrics

log = logging.getLogger(__name__)

PATH: Final = "/api/v2/alerts"
MOST_WAITING: Final = 10_000
"""Alerts that wait for a notifier; beyond it the oldest are left to their next sending."""

_AT_ONCE: Final = 256
_TIMEOUT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 15.0


def told_now(
    sent: Iterable[tuple[AlertingRule, Sent]], at_ms: int, now_ms: int
) -> list[tuple[AlertingRule, Sent]]:
    """What an evaluation for at_ms tells, when it is made later than that: what fires has its end
    as far ahead as if it were made in time. Otherwise it would be over when it is first heard of.
    """
    late_ms = max(0, now_ms - at_ms)
    return [
        (rule, replace(one, ends_at_ms=one.ends_at_ms + late_ms) if one.ends_at_ms > at_ms else one)
        for rule, one in sent
    ]


class Posted(NamedTuple):
    """An alert as API v2 takes it, and the shard of who says it."""

    labels: Labels
    shard: int
    alert: dict[str, Any]


_PAGES: Final = {"SeriesDeviates": "/anomalies", "CapacityRunsOut": "/capacity"}
"""Pages of the query service about alerts of jobs."""


@dataclass(slots=True)
class _Firing:
    """What was last told of an alert that fires. shard: of its rule. evaluated_ms: when that was
    found; told_ms: when it was last told, then or again by `hold`. Unix ms.
    """

    shard: int
    sent: Sent
    path: str
    evaluated_ms: int
    told_ms: int


class Notifiers:
    """All notifiers; each has a queue and a thread of its own, so that none holds up another. One
    thread calls `put`, `put_of_jobs`, `hold` and `keep`.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        external_labels: Mapping[str, str],
        external_url: str,
        metrics: RulesMetrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._labels, self._url = external_labels, external_url.rstrip("/")
        self._now_ms = now_ms
        self._firing: dict[Labels, _Firing] = {}
        self._shards: frozenset[int] | None = None
        self._queues = [NotifierQueue(url, metrics) for url in urls]

    def start(self) -> None:
        for queue in self._queues:
            queue.start()

    def put(self, shard: int, sent: Iterable[tuple[AlertingRule, Sent]]) -> None:
        """Takes alerts of rules of a shard for sending. Does not block."""
        self._put(
            shard,
            ((f"/graph?g0.expr={quote(rule.expr, safe='')}&g0.tab=1", one) for rule, one in sent),
        )

    def put_of_jobs(self, shard: int, sent: Iterable[Sent]) -> None:
        """Takes alerts of other jobs for sending. Does not block."""
        self._put(shard, ((_PAGES.get(dict(one.labels)[ALERT_NAME], "/"), one) for one in sent))

    def keep(self, shards: Collection[int]) -> None:
        """Forgets what was said of all other shards, told or not: whoever has them knows what has
        ended since.
        """
        if self._shards == shards:
            return
        self._shards = frozenset(shards)
        for labels, one in list(self._firing.items()):
            if one.shard not in shards:
                del self._firing[labels]
        for queue in self._queues:
            queue.keep(self._shards)

    def hold(self, *, every_ms: int, most_ms: int) -> None:
        """Tells what fired at its last evaluation again, each time its end as far ahead: while
        nothing can be evaluated nobody knows that it is over. every_ms: the time between. most_ms:
        an alert that was not evaluated for so long is left to end.
        """
        now_ms, again = self._now_ms(), []
        for labels, one in list(self._firing.items()):
            if one.sent.ends_at_ms <= now_ms or now_ms - one.evaluated_ms > most_ms:
                del self._firing[labels]
            elif now_ms - one.told_ms >= every_ms:
                ends_ms = one.sent.ends_at_ms + now_ms - one.told_ms
                one.sent, one.told_ms = replace(one.sent, ends_at_ms=ends_ms), now_ms
                again.append(self._posted(one.shard, one.sent, one.path))
        self._queue(again)

    def _put(self, shard: int, sent: Iterable[tuple[str, Sent]]) -> None:
        now_ms, ready = self._now_ms(), []
        for path, one in sent:
            self._firing.pop(one.labels, None)
            if one.ends_at_ms > now_ms:
                self._firing[one.labels] = _Firing(shard, one, path, now_ms, now_ms)
            ready.append(self._posted(shard, one, path))
        self._queue(ready)

    def _queue(self, ready: Sequence[Posted]) -> None:
        if ready:
            for queue in self._queues:
                queue.put(ready)

    def _posted(self, shard: int, one: Sent, path: str) -> Posted:
        """path: where the query service shows it."""
        labels = {**self._labels, **dict(one.labels)}
        alert = {
            "labels": {name: value for name, value in labels.items() if value},
            "annotations": dict(one.annotations),
            "startsAt": rfc3339(one.starts_at_ms),
            "endsAt": rfc3339(one.ends_at_ms),
            "generatorURL": self._url + path,
        }
        return Posted(labels_of(labels), shard, alert)

    def stop(self, timeout_s: float) -> None:
        """Sends what waits, for up to timeout_s."""
        for queue in self._queues:
            queue.ask_to_stop()
        for queue in self._queues:
            queue.join(timeout_s)

    def to_json(self) -> dict[str, Any]:
        """What /api/v1/alertmanagers has in data."""
        active = [{"url": queue.url} for queue in self._queues]
        return {"activeAlertmanagers": active, "droppedAlertmanagers": []}


class NotifierQueue:
    """The alerts that one notifier is to get: of each, what was last to be said of it."""

    def __init__(self, base: str, metrics: RulesMetrics) -> None:
        self.url = base.rstrip("/") + PATH
        self.name = urlsplit(base).netloc
        self._metrics = metrics
        self._waiting: OrderedDict[Labels, Posted] = OrderedDict()
        self._shards: frozenset[int] | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._failing = ""
        self._thread = threading.Thread(target=self._run, name=f"to {self.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, alerts: Iterable[Posted]) -> None:
        with self._changed:
            for one in alerts:
                self._waiting.pop(one.labels, None)
                self._waiting[one.labels] = one
            self._bound()
            self._changed.notify_all()

    def keep(self, shards: frozenset[int]) -> None:
        """Forgets what waits of other shards, and what is being tried if it fails."""
        with self._changed:
            self._shards = shards
            for labels in [key for key, one in self._waiting.items() if one.shard not in shards]:
                del self._waiting[labels]
            self._bound()

    def ask_to_stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)
        with self._changed:
            if self._waiting:
                log.warning("%s: %d alerts are not told", self.url, len(self._waiting))

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        with httpx.Client(timeout=_TIMEOUT_S, trust_env=False) as client:
            while (batch := self._take()) is not None:
                if self._post(client, batch):
                    pause_s = _FIRST_PAUSE_S
                    continue
                with self._changed:
                    self._put_back(batch)
                    self._changed.wait_for(lambda: self._stopping, pause_s)
                    if self._stopping:
                        return
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _take(self) -> list[Posted] | None:
        """The next alerts, once there are some; None if there are none and it is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            if not self._waiting:
                return None
            count = min(_AT_ONCE, len(self._waiting))
            return [self._waiting.popitem(last=False)[1] for _ in range(count)]

    def _put_back(self, batch: Sequence[Posted]) -> None:
        """What nothing newer has been said of meanwhile waits again, first."""
        for one in reversed(batch):
            is_left = self._shards is not None and one.shard not in self._shards
            if one.labels not in self._waiting and not is_left:
                self._waiting[one.labels] = one
                self._waiting.move_to_end(one.labels, last=False)
        self._bound()

    def _bound(self) -> None:
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)
            self._metrics.alerts_dropped.labels(self.name).inc()
        self._metrics.alerts_waiting.labels(self.name).set(len(self._waiting))

    def _post(self, client: httpx.Client, batch: Sequence[Posted]) -> bool:
        """Whether the notifier has them, or will never take them."""
        try:
            answer = client.post(self.url, json=[one.alert for one in batch])
        except httpx.HTTPError as err:
            return self._failed(f"{type(err).__name__}: {err}")
        with self._changed:
            self._metrics.alerts_waiting.labels(self.name).set(len(self._waiting))
        if answer.is_success:
            if self._failing:
                log.info("%s takes alerts again", self.url)
            self._failing = ""
            self._metrics.alerts_sent.labels(self.name).inc(len(batch))
            return True
        why = f"{answer.status_code} {answer.text[:200]}"
        if answer.is_client_error and answer.status_code not in (408, 429):
            log.warning("%s refuses %d alerts: %s", self.url, len(batch), why)
            self._metrics.alerts_dropped.labels(self.name).inc(len(batch))
            return True
        return self._failed(why)

    def _failed(self, why: str) -> bool:
        self._metrics.send_failures.labels(self.name).inc()
        if self._failing != why:
            log.warning("%s takes no alerts: %s", self.url, why)
        self._failing = why
        return False
