"""Alerts of other jobs: read from the topic alerts, kept in the table, told to notifiers.

Anomalies, capacity, quality and schedulers say on the topic when an alert begins and when it is
over. The process that holds the shard of these alerts reads it: rows of the table and the place in
the topic are one commit, and only then are notifiers told. So whoever comes next knows from the
table what fires, and an event that comes again within a day changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from varve.model.errors import Conflict
from varve.model.schema import table_schema
from varve.rules.alerts import ENDS_AHEAD, RESOLVED_KEPT_MS, Sent
from varve.rules.label_sets import Labels, labels_of
from varve.rules.running.changes import FIRING, TABLE
from varve.rules.running.claims import ClaimLog, shard_of
from varve.rules.running.event_topic import Read
from varve.rules.running.job_events import RefusedEvent, event_row
from varve.rules.running.living_rows import living_rows
from varve.storage.commit import Step
from varve.storage.store import Store
from varve.telemetry.metrics import RulesMetrics

log = logging.getLogger(__name__)

GROUP: Final = "topic alerts"
"""Stands for all of these alerts where shards are given to processes."""

_MOST_UNNOTED: Final = 10_000
"""Messages that say nothing new are not worth a commit, but a successor reads them again."""


class Topic(Protocol):
    """What `EventTopic` does."""

    def start(self) -> None: ...
    def take(self) -> list[Read]:
        """What has been read since. Does not block."""
        ...

    def stop(self) -> None: ...


class Tells(Protocol):
    """Who is told."""

    def put_of_jobs(self, shard: int, sent: Sequence[Sent]) -> None:
        """Does not block."""
        ...


@dataclass(slots=True)
class JobAlert:
    """What was last said of an alert. ends_ms: when it ended or is to end by itself, None while
    that is open. Times are Unix ms.
    """

    event_id: str
    evaluated_ms: int
    fires: bool
    starts_ms: int
    ends_ms: int | None
    annotations: Mapping[str, str]
    sent_ms: int | None = None

    def ended_ms(self, now_ms: int) -> int | None:
        """When it ended; None while it fires."""
        if self.fires:
            return self.ends_ms if self.ends_ms is not None and self.ends_ms <= now_ms else None
        return self.evaluated_ms if self.ends_ms is None else self.ends_ms


@dataclass(slots=True)
class JobAlerts:
    """One thread uses it. open_topic: reads the topic from positions of the table on. history_ms:
    an alert that ended is remembered for so long, so that an event of it that comes again changes
    nothing.
    """

    claims: ClaimLog
    store: Store
    open_topic: Callable[[Mapping[str, int]], Topic]
    tells: Tells
    metrics: RulesMetrics
    now_ms: Callable[[], int]
    resend_ms: int
    history_ms: int
    _topic: Topic | None = None
    _alerts: dict[Labels, JobAlert] = field(default_factory=dict)
    _places: dict[str, int] = field(default_factory=dict)
    """By position, the offset up to which messages have been read."""
    _unnoted: int = 0

    @property
    def _shard(self) -> int:
        return shard_of(GROUP, len(self.claims.shards))

    def tick(self) -> None:
        """Takes what the topic has, and tells what is due; nothing if another process does.

        Raises OSError or another error where the table cannot be reached: call again.
        """
        if self._shard not in self.claims.mine():
            self.leave()
            return
        try:
            self._tick()
        except Conflict as err:
            self.metrics.conflicts.inc()
            log.info("alerts of jobs: another process was faster: %s", err)
            self.leave()
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """Forgets everything that is not in the table."""
        if self._topic is not None:
            self._topic.stop()
        self._topic, self._alerts, self._places, self._unnoted = None, {}, {}, 0

    def _tick(self) -> None:
        topic = self._topic or self._take_up()
        rows = self._read(topic)
        if rows or self._unnoted >= _MOST_UNNOTED:
            self._note(rows)
        self._tell()

    def _take_up(self) -> Topic:
        rows = living_rows(self.store, self.now_ms() - self.history_ms)
        for row in rows.filter(pc.is_null(rows["rule_group"])).to_pylist():
            self._apply(row)
        topic = self._topic = self.open_topic(self.claims.positions())
        topic.start()
        return topic

    def _read(self, topic: Topic) -> list[dict[str, Any]]:
        """Rows of what is new."""
        found = []
        for read in topic.take():
            self._places[read.position] = read.next_offset
            self._unnoted += len(read.values)
            for value in read.values:
                try:
                    row = event_row(value)
                except RefusedEvent as err:
                    self.metrics.job_events.labels("refused").inc()
                    log.warning("an event before offset %d is left out: %s", read.next_offset, err)
                    continue
                if row is None:
                    continue  # of rules, which have told it themselves
                is_new = self._apply(row)
                self.metrics.job_events.labels("taken" if is_new else "repeated").inc()
                if is_new:
                    found.append(row)
        return found

    def _apply(self, row: Mapping[str, Any]) -> bool:
        """Takes a row if it is not known; False if it is, or an older one than is known."""
        labels = labels_of(dict(row["labels"]))
        known = self._alerts.get(labels)
        at_ms = row["evaluated_at"]
        if known is not None and (at_ms < known.evaluated_ms or row["event_id"] == known.event_id):
            return False
        self._alerts[labels] = JobAlert(
            row["event_id"],
            at_ms,
            row["state"] == FIRING,
            row["starts_at"],
            row["ends_at"],
            dict(row["annotations"]),
        )
        return True

    def _note(self, rows: Sequence[dict[str, Any]]) -> None:
        """Commits rows and how far the topic has been read."""
        stored = self.claims.positions()
        steps = {
            name: Step(stored.get(name), max(offset, stored.get(name, 0)))
            for name, offset in self._places.items()
        }
        table = pa.Table.from_pylist(rows, table_schema(TABLE).arrow) if rows else None
        self.claims.note(self._shard, table, steps)
        self._places, self._unnoted = {}, 0

    def _tell(self) -> None:
        now_ms, sent = self.now_ms(), []
        firing, gone = 0, []
        for labels, alert in self._alerts.items():
            ended_ms = alert.ended_ms(now_ms)
            firing += ended_ms is None
            if ended_ms is not None and now_ms - ended_ms > RESOLVED_KEPT_MS:
                if now_ms - ended_ms > self.history_ms:
                    gone.append(labels)
            elif self._is_due(alert, ended_ms, now_ms):
                alert.sent_ms = now_ms
                ends_ms = now_ms + ENDS_AHEAD * self.resend_ms if ended_ms is None else ended_ms
                sent.append(Sent(labels, alert.annotations, alert.starts_ms, ends_ms))
        for labels in gone:
            del self._alerts[labels]
        self.metrics.job_alerts.set(firing)
        if sent:
            self.tells.put_of_jobs(self._shard, sent)

    def _is_due(self, alert: JobAlert, ended_ms: int | None, now_ms: int) -> bool:
        if alert.sent_ms is None or alert.sent_ms + self.resend_ms <= now_ms:
            return True
        return ended_ms is not None and alert.sent_ms < ended_ms
