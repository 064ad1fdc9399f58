"""Who is on call, and acknowledging: beside API v2, which has neither."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from varve.notify.groups import Entry
from varve.notify.http.bodies import Refused
from varve.notify.matchers import Matcher, MatcherError, parse_matchers
from varve.notify.message import group_hash
from varve.notify.notifier import Notifier
from varve.notify.oncall.failing_receivers import failing
from varve.notify.oncall.signed_links import Acknowledging, BadLinkError
from varve.notify.records import Acknowledged, Alert
from varve.notify.times import format_ms

Json = dict[str, Any]


class _Posted(msgspec.Struct):
    matchers: list[str]
    by: str


_POSTED = msgspec.json.Decoder(_Posted)


def get_on_call(notifier: Notifier, now_ms: int) -> Json:
    """Who is on call now by each schedule, which alerts somebody takes care of, and which receivers
    take nothing.
    """
    return {
        "schedules": [
            {"name": name, "onCall": list(schedule.on_call(now_ms))}
            for name, schedule in sorted(notifier.on_call.schedules.items())
        ],
        "acknowledged": [
            {"labels": dict(record.labels), "by": record.by, "at": format_ms(record.at_ms)}
            for record in notifier.acknowledged.values()
            if (entry := notifier.entries.get(record.labels)) is not None
            and not entry.alert.resolved_at(now_ms)
            and notifier.acknowledged_by(entry.alert)
        ],
        "failing": [
            {
                "receiver": one.receiver,
                "integration": one.name,
                "since": format_ms(one.since_ms),
                "leftAlone": one.is_open,
            }
            for one in failing(notifier.dispatcher.circuits, now_ms)
        ],
    }


def acknowledge(notifier: Notifier, body: bytes, now_ms: int) -> Json:
    """Acknowledges the alerts that fire and match: {"matchers": ["alertname=X"], "by": "anna"}.

    Raises Refused if the body is none, names nobody or no matcher.
    """
    try:
        posted = _POSTED.decode(body)
    except msgspec.DecodeError as err:
        raise Refused(400, f"no acknowledgement: {err}") from err
    if not posted.by.strip():
        raise Refused(400, "by is to name who takes care of the alerts")
    if not posted.matchers:
        raise Refused(400, "matchers are to name the alerts: all at once is not meant")
    matchers: list[Matcher] = []
    for text in posted.matchers:
        try:
            matchers += parse_matchers(text, notifier.options.mode)
        except MatcherError as err:
            raise Refused(400, str(err)) from err
    found = notifier.acknowledge(matchers, posted.by.strip(), now_ms)
    return {"acknowledged": [dict(entry.alert.labels) for entry in found]}


def linked(
    notifier: Notifier, query: Mapping[str, str], now_ms: int
) -> tuple[Acknowledging, list[Entry]]:
    """What a link in a message acknowledges, and the alerts of that which fire still and began
    before the message. Raises Refused if the link cannot be used.
    """
    links = notifier.on_call.links
    if links is None:
        raise Refused(404, "oncall.yml of this notifier has no acknowledge_links")
    try:
        said = links.read(query, now_ms)
    except BadLinkError as err:
        raise Refused(403, str(err)) from err
    if said.kind == "alert":
        found = [e for e in notifier.entries.values() if _name(e.alert) == said.id]
    else:
        groups = [g for g in notifier.groups.values() if group_hash(g.key) == said.id]
        found = [entry for group in groups for entry in group.members.values()]
    return said, [
        entry
        for entry in found
        if not entry.alert.resolved_at(now_ms) and entry.alert.starts_ms <= said.as_of_ms
    ]


def acknowledge_linked(
    notifier: Notifier, query: Mapping[str, str], now_ms: int
) -> tuple[Acknowledging, list[Entry]]:
    """Acknowledges what a link is about. Raises Refused as `linked`."""
    said, found = linked(notifier, query, now_ms)
    for entry in found:
        notifier.take_acknowledged(Acknowledged(entry.alert.labels, said.by, now_ms))
    return said, found


def _name(alert: Alert) -> str:
    return f"{alert.fingerprint:016x}"
