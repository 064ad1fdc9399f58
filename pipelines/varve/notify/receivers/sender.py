"""Sends the messages of one configuration, each to its kind of receiver."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from varve.model.clock import Clock
from varve.notify.config.basic_receivers import EmailConfig, HttpIntegration
from varve.notify.config.http_client import HttpConfig
from varve.notify.config.load import Configuration, NamedIntegration
from varve.notify.driver import Result
from varve.notify.groups import Delivery, Outcome
from varve.notify.oncall.signed_links import SignedLinks
from varve.notify.receivers import chat, paging
from varve.notify.receivers.addresses import GuardedBackend, Networks
from varve.notify.receivers.call import Call
from varve.notify.receivers.email import send_email
from varve.notify.receivers.http_client import HttpClient, failure_of
from varve.notify.receivers.jira import jira
from varve.notify.receivers.slack import slack
from varve.notify.receivers.sns import sns
from varve.notify.receivers.webhook import incidentio, webhook
from varve.notify.receivers.wechat import wechat
from varve.notify.templates import Rendering, Templates
from varve.templates.errors import TemplateError

RECEIVERS: dict[str, Callable[[Call, Any], Awaitable[Result]]] = {
    "webhook": webhook,
    "incidentio": incidentio,
    "pagerduty": paging.pagerduty,
    "opsgenie": paging.opsgenie,
    "victorops": paging.victorops,
    "pushover": paging.pushover,
    "slack": slack,
    "discord": chat.discord,
    "msteams": chat.msteams,
    "msteamsv2": chat.msteamsv2,
    "webex": chat.webex,
    "telegram": chat.telegram,
    "rocketchat": chat.rocketchat,
    "mattermost": chat.mattermost,
    "wechat": wechat,
    "sns": sns,
    "jira": jira,
}
"""By the kind of integration; email goes another way."""


class ReceiverSender:
    """Keeps an HTTP client for each integration of a configuration."""

    def __init__(
        self,
        config: Configuration,
        clock: Clock,
        external_url: str,
        links: SignedLinks | None = None,
        networks: Networks = (),
        templates: Templates | None = None,
    ) -> None:
        """links: those in messages that acknowledge. networks: the only ones that HTTP goes to, if
        there are any. templates: those of the configuration, if they have been read. Raises
        ConfigError if a template file cannot be used.
        """
        self._clock = clock
        self._external_url = external_url
        self._links = links
        self._networks = networks
        self._templates = templates or Templates.load(config.templates)
        self._clients: dict[str, HttpClient] = {}
        self._memories: dict[str, dict[str, Any]] = {}

    async def send(self, delivery: Delivery) -> Result:
        """Makes one attempt. Failures of the network or of templates are results, not raised."""
        message = delivery.message
        integration = message.integration
        try:
            rendering = Rendering(
                self._templates,
                message,
                external_url=self._external_url,
                reason=delivery.reason,
                now_ms=self._clock.now_ms,
                links=self._links,
            )
            if isinstance(integration.config, EmailConfig):
                return await send_email(
                    message,
                    rendering,
                    integration.config,
                    idempotency_key=delivery.idempotency_key,
                    now_ms=message.at_ms,
                )
            call = Call(
                message=message,
                rendering=rendering,
                client=self._client(integration),
                external_url=self._external_url,
                idempotency_key=delivery.idempotency_key,
                now_ms=self._clock.now_ms,
                memory=self._memories.setdefault(integration.key, {}),
            )
            return await RECEIVERS[integration.kind](call, integration.config)
        except TemplateError as err:
            return Result(Outcome.REFUSED, f"a template fails: {err}")
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as err:
            return failure_of(err)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()

    def _client(self, integration: NamedIntegration) -> HttpClient:
        client = self._clients.get(integration.key)
        if client is None:
            config = integration.config
            assert isinstance(config, HttpIntegration)  # noqa: S101 - only email is none
            client = HttpClient(
                config.http_config or HttpConfig(),
                backend=GuardedBackend(self._networks, "--receivers.network"),
            )
            self._clients[integration.key] = client
        return client
