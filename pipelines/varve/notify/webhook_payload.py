"""The JSON of a webhook, version 4."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from varve.notify.message import Message, ToldAlert
from varve.notify.times import ZERO, format_ms


def webhook_payload(
    message: Message,
    *,
    external_url: str,
    max_alerts: int = 0,
    route_labels: Mapping[str, str],
    acknowledge_url: Callable[[ToldAlert | None], str] = lambda _: "",
) -> dict[str, Any]:
    """What a webhook is sent; max_alerts 0 leaves none out. route_labels: expanded.
    acknowledge_url: the link of an alert, or of all for None; "" leaves it out.
    """
    shown = message.alerts[:max_alerts] if max_alerts > 0 else message.alerts
    payload: dict[str, Any] = {
        "receiver": message.receiver,
        "status": message.status,
        "alerts": [alert_json(told) | _link(acknowledge_url(told)) for told in shown],
        "groupLabels": dict(message.group_labels),
        "commonLabels": message.common_labels,
        "commonAnnotations": message.common_annotations,
        "externalURL": external_url,
        "version": "4",
        "groupKey": message.group_key,
        "truncatedAlerts": len(message.alerts) - len(shown),
    }
    if route_labels:
        payload["routeLabels"] = dict(route_labels)
    return payload | _link(acknowledge_url(None))


def _link(url: str) -> dict[str, str]:
    return {"acknowledgeURL": url} if url else {}


def alert_json(told: ToldAlert) -> dict[str, Any]:
    alert = told.alert
    return {
        "status": told.status,
        "labels": dict(alert.labels),
        "annotations": alert.annotations,
        "startsAt": format_ms(alert.starts_ms),
        "endsAt": ZERO if told.firing else format_ms(alert.ends_ms),
        "generatorURL": alert.generator_url,
        "fingerprint": f"{alert.fingerprint:016x}",
    }
