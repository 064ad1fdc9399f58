"""PagerDuty, OpsGenie, VictorOps and Pushover: an incident a group, closed when it has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from varve.notify.config.fields import is_set, read_secret
from varve.notify.config.paging_receivers import (
    OpsgenieConfig,
    PagerdutyConfig,
    PushoverConfig,
    VictoropsConfig,
)
from varve.notify.driver import Result
from varve.notify.groups import Outcome
from varve.notify.receivers.call import Call, cut, given
from varve.notify.receivers.http_client import result_of

PAGERDUTY_V1 = "https://events.pagerduty.com/generic/2010-04-15/create_event.json"
PAGERDUTY_V2 = "https://events.pagerduty.com/v2/enqueue"
PUSHOVER = "https://api.pushover.net/1/messages.json"

_PAGERDUTY_BYTES = 512_000
_PAGERDUTY_DETAILS = {
    "firing": '{{ template "pagerduty.default.instances" .Alerts.Firing }}',
    "resolved": '{{ template "pagerduty.default.instances" .Alerts.Resolved }}',
    "num_firing": "{{ .Alerts.Firing | len }}",
    "num_resolved": "{{ .Alerts.Resolved | len }}",
}


async def pagerduty(call: Call, config: PagerdutyConfig) -> Result:
    """Events API v2, or v1 for a service key; dedup_key is the group's."""
    details = call.texts({**_PAGERDUTY_DETAILS, **config.details})
    summary = cut(call.text(config.description), 1024)
    if is_set(config.service_key) or config.service_key_file:
        return await _pagerduty_v1(call, config, summary, details)
    client = call.text(config.client)
    event: dict[str, Any] = {
        "routing_key": call.text(read_secret(config.routing_key, config.routing_key_file)).strip(),
        "dedup_key": call.message.group_hash,
        "event_action": "resolve" if call.resolved else "trigger",
        "client": client,
        "client_url": call.text(config.client_url),
        "payload": {
            "summary": summary,
            "source": call.text(config.source) or client,
            "severity": call.text(config.severity),
            **given(
                component=call.text(config.component),
                group=call.text(config.group),
                **{"class": call.text(config.class_)},
            ),
            "custom_details": details,
        },
        **given(
            images=[
                image
                for image in call.texts([given(**i.model_dump()) for i in config.images])
                if image.get("src")
            ],
            links=[
                link
                for link in call.texts([given(**i.model_dump()) for i in config.links])
                if link.get("href")
            ],
        ),
    }
    if len(json.dumps(event).encode()) > _PAGERDUTY_BYTES:
        event["payload"]["custom_details"] = _too_large()
    return await call.post(config.url or PAGERDUTY_V2, event)


async def _pagerduty_v1(
    call: Call, config: PagerdutyConfig, summary: str, details: dict[str, Any]
) -> Result:
    event = {
        "service_key": call.text(read_secret(config.service_key, config.service_key_file)).strip(),
        "event_type": "resolve" if call.resolved else "trigger",
        "incident_key": call.message.group_hash,
        "description": summary,
        "details": details,
        **({} if call.resolved else given(client=call.text(config.client))),
        **({} if call.resolved else given(client_url=call.text(config.client_url))),
    }
    if len(json.dumps(event).encode()) > _PAGERDUTY_BYTES:
        event["details"] = _too_large()
    url = config.url if config.url and config.url != PAGERDUTY_V2 else PAGERDUTY_V1
    response = await call.post_for_answer(url, event)
    # This API says 403 where it is asked too often.
    return (
        Result(Outcome.FAILED, "asked too often")
        if response.status_code == 403
        else result_of(response)
    )


def _too_large() -> dict[str, str]:
    return {"error": "Custom details have been left out because the event would exceed 512 KB."}


async def opsgenie(call: Call, config: OpsgenieConfig) -> Result:
    """Alert API v2; the alias is the group's."""
    key = read_secret(config.api_key, config.api_key_file)
    headers = {"Authorization": f"GenieKey {key}"}
    base = config.api_url.rstrip("/") + "/v2/alerts"
    alias = call.message.group_hash
    source = call.text(config.source)
    if call.resolved:
        url = f"{base}/{alias}/close?identifierType=alias"
        return await call.post(url, {"source": source}, headers)
    message = cut(call.text(config.message), 130)
    description = cut(call.text(config.description), 15_000)
    body = {
        "alias": alias,
        "message": message,
        **given(
            description=description,
            details={**call.message.common_labels, **call.texts(config.details)},
            source=source,
            responders=list(_responders(call, config)),
            tags=_listed(call.text(config.tags)),
            note=call.text(config.note),
            priority=call.text(config.priority),
            entity=call.text(config.entity),
            actions=_listed(call.text(config.actions)),
        ),
    }
    result = await call.post(base, body, headers)
    if result.outcome is not Outcome.TAKEN or not config.update_alerts:
        return result
    for name, value in (("message", message), ("description", description)):
        url = f"{base}/{alias}/{name}?identifierType=alias"
        response = await call.client.request(
            "PUT", url, json={name: value}, headers=call.headers(headers)
        )
        result = result_of(response)
        if result.outcome is not Outcome.TAKEN:
            return result
    return result


def _responders(call: Call, config: OpsgenieConfig) -> Iterator[dict[str, str]]:
    for responder in config.responders:
        named = given(**call.texts(responder.model_dump()))
        kind = named.get("type", "").lower()
        if kind == "teams":
            for name in _listed(named.get("name", "")):
                yield {"name": name, "type": "team"}
        elif len(named) > 1:
            yield {**named, "type": kind}


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


async def victorops(call: Call, config: VictoropsConfig) -> Result:
    """The REST endpoint; entity_id is the group's."""
    key = read_secret(config.api_key, config.api_key_file)
    url = f"{config.api_url.rstrip('/')}/{key}/{call.text(config.routing_key)}"
    kind = call.text(config.message_type)
    if call.resolved:
        kind = "RECOVERY"
    elif kind not in {"CRITICAL", "WARNING", "INFO"}:
        kind = "CRITICAL"
    body = {
        "message_type": kind,
        "entity_id": call.message.group_hash,
        "entity_display_name": call.text(config.entity_display_name),
        "state_message": cut(call.text(config.state_message), 20_480),
        "monitoring_tool": call.text(config.monitoring_tool),
        **call.texts(config.custom_fields),
    }
    return await call.post(url, body)


async def pushover(call: Call, config: PushoverConfig) -> Result:
    render = call.rendering.html if config.html else call.rendering.text
    message = cut(render(config.message), 1024).strip() or "(no details)"
    form = {
        "token": call.text(read_secret(config.token, config.token_file)),
        "user": call.text(read_secret(config.user_key, config.user_key_file)),
        "title": cut(call.text(config.title), 250),
        "message": message,
        "priority": call.text(config.priority),
        "retry": str(config.retry // 1000),
        "expire": str(config.expire // 1000),
        **given(
            url=cut(call.text(config.url), 512),
            url_title=cut(call.text(config.url_title), 100),
            device=call.text(config.device),
            sound=call.text(config.sound),
            ttl=str(config.ttl // 1000) if config.ttl else "",
            html="1" if config.html else "",
            monospace="1" if config.monospace else "",
        ),
    }
    response = await call.client.request("POST", PUSHOVER, form=form, headers=call.headers())
    return result_of(response)
