"""API v2: functions from a request to what is answered, with no HTTP in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from varve.notify.groups import Entry, Group
from varve.notify.http.bodies import (
    Query,
    Refused,
    read_alerts,
    read_silence,
    require_silence_id,
)
from varve.notify.matchers import Labels, Matcher
from varve.notify.notifier import Notifier
from varve.notify.records import Silence
from varve.notify.silences import (
    BadSilence,
    UnknownSilence,
    order,
    state_of,
    stored_matchers,
)
from varve.notify.times import format_ms

Json = dict[str, Any]


def post_alerts(notifier: Notifier, body: bytes, now_ms: int) -> None:
    """Takes alerts. Raises Refused if some are bad; the others count all the same."""
    refuse(notifier.put_alerts(read_alerts(body), now_ms))


def refuse(wrong: list[str]) -> None:
    """Raises Refused if anything is wrong with alerts."""
    if wrong:
        raise Refused(400, "; ".join(dict.fromkeys(wrong)))


def post_silence(notifier: Notifier, body: bytes, now_ms: int) -> Json:
    """Makes or changes a silence; its id. Raises Refused."""
    wanted = read_silence(body)
    try:
        return {"silenceID": notifier.put_silence(wanted, now_ms)}
    except BadSilence as err:
        raise Refused(400, str(err)) from None
    except UnknownSilence as err:
        raise Refused(404, str(err)) from None


def delete_silence(notifier: Notifier, silence_id: str, now_ms: int) -> None:
    require_silence_id(silence_id)
    try:
        notifier.expire_silence(silence_id, now_ms)
    except UnknownSilence as err:
        raise Refused(404, str(err)) from None


def get_silence(notifier: Notifier, silence_id: str, now_ms: int) -> Json:
    require_silence_id(silence_id)
    try:
        return _silence(notifier, notifier.silences.get(silence_id), now_ms)
    except UnknownSilence as err:
        raise Refused(404, str(err)) from None


def get_silences(notifier: Notifier, query: Query, now_ms: int) -> list[Json]:
    """All silences that have each of the filters as one of their matchers, active ones first."""
    wanted = set(stored_matchers(query.filters()))
    found = [silence for silence in notifier.silences if wanted <= set(silence.matchers)]
    found.sort(key=lambda silence: order(silence, now_ms))
    return [_silence(notifier, silence, now_ms) for silence in found]


def get_receivers(notifier: Notifier) -> list[Json]:
    return [{"name": name} for name in notifier.config.receivers]


def get_alerts(notifier: Notifier, query: Query, now_ms: int) -> Iterator[Json]:
    """Alerts that have not ended, sorted by fingerprint, as they are made.

    Raises Refused, before the first of them, if a parameter is bad.
    """
    filters, receiver, shown = query.filters(), query.receiver(), _Shown(query)
    shown.unprocessed = query.flag("unprocessed")
    entries = sorted(notifier.entries.values(), key=lambda entry: entry.alert.fingerprint)

    def found() -> Iterator[Json]:
        for entry in entries:
            if entry.alert.resolved_at(now_ms) or not _passes(filters, entry.labels):
                continue
            names = _receivers(notifier, entry)
            if receiver is not None and not any(map(receiver.fullmatch, names)):
                continue
            status = _status(notifier, entry, now_ms)
            if shown.has(status):
                yield _alert(entry, names, status)

    return found()


def get_groups(notifier: Notifier, query: Query, now_ms: int) -> Iterator[Json]:
    """Groups with their alerts that have not ended, by labels and receiver; as get_alerts."""
    filters, receiver, shown = query.filters(), query.receiver(), _Shown(query)
    shown.muted = query.flag("muted")
    groups = sorted(
        notifier.groups.values(), key=lambda group: (group.labels, group.route.receiver)
    )

    def found() -> Iterator[Json]:
        for group in groups:
            name = group.route.receiver
            if receiver is not None and not receiver.fullmatch(name):
                continue
            muted_by = list(notifier.muted_by(group, now_ms) or ())
            if muted_by and not shown.muted:
                continue
            alerts = list(_group_alerts(notifier, group, filters, muted_by, shown, now_ms))
            if alerts:
                yield {
                    "labels": dict(group.labels),
                    "receiver": {"name": name},
                    "alerts": alerts,
                }

    return found()


class _Shown:
    """Which states of alerts are wanted."""

    def __init__(self, query: Query) -> None:
        self.active = query.flag("active")
        self.silenced = query.flag("silenced")
        self.inhibited = query.flag("inhibited")
        self.unprocessed = True
        self.muted = True

    def has(self, status: Json) -> bool:
        return not (
            (not self.active and status["state"] == "active")
            or (not self.silenced and status["silencedBy"])
            or (not self.inhibited and status["inhibitedBy"])
        )


def _group_alerts(
    notifier: Notifier,
    group: Group,
    filters: list[Matcher],
    muted_by: list[str],
    shown: _Shown,
    now_ms: int,
) -> Iterator[Json]:
    members = sorted(group.members.values(), key=lambda entry: entry.alert.fingerprint)
    for entry in members:
        if entry.alert.resolved_at(now_ms) or not _passes(filters, entry.labels):
            continue
        status = _status(notifier, entry, now_ms, muted_by)
        if shown.has(status):
            yield _alert(entry, _receivers(notifier, entry), status)


def _passes(filters: Iterable[Matcher], labels: Labels) -> bool:
    return all(m.matches(labels) for m in filters)


def _receivers(notifier: Notifier, entry: Entry) -> list[str]:
    return list(dict.fromkeys(route.receiver for route, _, _ in notifier.targets_of(entry)))


def _status(
    notifier: Notifier, entry: Entry, now_ms: int, muted_by: list[str] | None = None
) -> Json:
    silenced_by = notifier.silences.covering(entry.alert.id, entry.labels, now_ms)
    inhibited_by = notifier.inhibitor.inhibited_by(entry.labels, now_ms)
    suppressed = silenced_by or inhibited_by or muted_by
    return {
        "inhibitedBy": [f"{fingerprint:016x}" for fingerprint in inhibited_by],
        "mutedBy": muted_by or [],
        "silencedBy": silenced_by,
        "state": "suppressed" if suppressed else "active",
    }


def _alert(entry: Entry, receivers: list[str], status: Json) -> Json:
    alert = entry.alert
    answer: Json = {
        "annotations": alert.annotations,
        "endsAt": format_ms(alert.ends_ms),
        "fingerprint": f"{alert.fingerprint:016x}",
        "receivers": [{"name": name} for name in receivers],
        "startsAt": format_ms(alert.starts_ms),
        "status": status,
        "updatedAt": format_ms(alert.updated_ms),
        "labels": entry.labels,
    }
    if alert.generator_url:
        answer["generatorURL"] = alert.generator_url
    return answer


def _silence(notifier: Notifier, silence: Silence, now_ms: int) -> Json:
    answer: Json = {
        "id": silence.id,
        "status": {"state": str(state_of(silence, now_ms))},
        "updatedAt": format_ms(silence.updated_ms),
        "comment": silence.comment,
        "createdBy": silence.created_by,
        "endsAt": format_ms(silence.ends_ms),
        "matchers": [
            {"isEqual": m.is_equal, "isRegex": m.is_regex, "name": m.name, "value": m.value}
            for m in notifier.silences.matchers_of(silence.id)
        ],
        "startsAt": format_ms(silence.starts_ms),
    }
    if silence.annotations:
        answer["annotations"] = silence.annotations
    return answer
