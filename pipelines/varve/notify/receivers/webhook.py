"""Webhooks: the JSON of version 4, to any address; incident.io takes it, too."""

from __future__ import annotations

from varve.notify.config.basic_receivers import WebhookConfig
from varve.notify.config.fields import NO_SECRET, read_secret
from varve.notify.config.paging_receivers import IncidentioConfig
from varve.notify.driver import Result
from varve.notify.receivers.call import Call
from varve.notify.webhook_payload import webhook_payload


async def webhook(call: Call, config: WebhookConfig) -> Result:
    url = call.text(read_secret(config.url, config.url_file))
    payload = webhook_payload(
        call.message,
        external_url=call.external_url,
        max_alerts=config.max_alerts,
        route_labels=call.rendering.route_labels,
        acknowledge_url=call.rendering.acknowledge_url,
    )
    return await call.post(url, payload)


async def incidentio(call: Call, config: IncidentioConfig) -> Result:
    url = config.url
    if config.url_file:
        url = read_secret(NO_SECRET, config.url_file)
    payload = webhook_payload(
        call.message,
        external_url=call.external_url,
        max_alerts=config.max_alerts,
        route_labels=call.rendering.route_labels,
    )
    if config.metadata:
        payload["metadata"] = call.texts(config.metadata)
    token = read_secret(config.alert_source_token, config.alert_source_token_file)
    return await call.post(url, payload, {"Authorization": f"Bearer {token}"} if token else None)
