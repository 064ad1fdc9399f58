"""Which records notifiers share, and which of two of one thing counts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from varve.notify.notifier import Notifier
from varve.notify.records import Acknowledged, Alert, Record, Sent, Silence, Told


def shared(notifier: Notifier, records: Iterable[Record]) -> Iterator[Record]:
    """Those of some records that others need: alerts as a whole, silences, acknowledgements, what
    was told.

    Groups are each notifier's own: they follow from the alerts and the configuration.
    """
    for record in records:
        match record:
            case Alert() | Silence() | Told() | Acknowledged():
                yield record
            case Sent():
                alert = notifier.alert(record.id)
                if alert is not None:
                    yield alert
            case _:
                pass


def everything(notifier: Notifier) -> list[Record]:
    """All that others need of a state."""
    return list(shared(notifier, notifier.snapshot()))


def merge(notifier: Notifier, records: Iterable[Record], now_ms: int) -> list[Record]:
    """Takes what another notifier has; those records that were news here.

    The later of two silences, alerts or lines of the log counts; of two of one time, the one that
    is greater in some order that all share. So all come to the same state in whatever order
    records arrive, and a record ends its way where it is known.
    """
    news: list[Record] = []
    for record in records:
        match record:
            case Silence():
                old = notifier.silences.find(record.id)
                if old is None or _later(record.updated_ms, old.updated_ms, record, old):
                    notifier.take_silence(record)
                    news.append(record)
            case Told():
                told = notifier.log.find(record.key)
                if told is None or _later(record.at_ms, told.at_ms, record, told):
                    notifier.take_told(record)
                    news.append(record)
            case Acknowledged():
                known = notifier.acknowledged.get(record.labels)
                if known is None or _later(record.at_ms, known.at_ms, record, known):
                    notifier.take_acknowledged(record)
                    news.append(record)
            case Alert():
                alert = notifier.take_alert(record, now_ms)
                if alert is not None:
                    news.append(alert)
            case _:
                pass
    return news


def _later(new_ms: int, old_ms: int, new: object, old: object) -> bool:
    return new_ms > old_ms or (new_ms == old_ms and repr(new) > repr(old))
