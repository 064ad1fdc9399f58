"""Receivers that page somebody, open a ticket or hand the message on."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from varve.notify.config.basic_receivers import HttpIntegration
from varve.notify.config.fields import (
    NO_SECRET,
    DurationMs,
    Fields,
    FilePath,
    Flag,
    Integer,
    Secret,
    Template,
    Text,
    TextMap,
    Texts,
    Url,
    is_set,
)
from varve.notify.config.http_client import SigV4

_RESPONDER_TYPES = re.compile(r"team|teams|user|escalation|schedule", re.IGNORECASE)
# What VictorOps itself has in a message.
_VICTOROPS_FIELDS = frozenset(
    {
        *("routing_key", "message_type", "state_message", "entity_display_name"),
        *("monitoring_tool", "entity_id", "entity_state"),
    }
)


class PagerdutyLink(Fields):
    href: Template = ""
    text: Template = ""


class PagerdutyImage(Fields):
    src: Template = ""
    alt: Template = ""
    href: Template = ""


class PagerdutyConfig(HttpIntegration):
    routing_key: Secret = NO_SECRET
    routing_key_file: FilePath = ""
    service_key: Secret = NO_SECRET
    service_key_file: FilePath = ""
    url: Url = ""
    client: Template = '{{ template "pagerduty.default.client" . }}'
    client_url: Template = '{{ template "pagerduty.default.clientURL" . }}'
    description: Template = '{{ template "pagerduty.default.description" .}}'
    # Nested values are allowed, and each text in them is a template.
    details: dict[str, Any] = Field(default_factory=dict)
    images: tuple[PagerdutyImage, ...] = ()
    links: tuple[PagerdutyLink, ...] = ()
    source: Template = ""
    severity: Template = "error"
    class_: Template = Field("", alias="class")
    component: Template = ""
    group: Template = ""
    timeout: DurationMs = 0

    required = (("routing_key", "routing_key_file", "service_key", "service_key_file"),)
    exclusive = (("routing_key", "routing_key_file"), ("service_key", "service_key_file"))


class OpsgenieResponder(Fields):
    id: Template = ""
    name: Template = ""
    username: Template = ""
    type: Template = ""

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if not (self.id or self.name or self.username):
            raise ValueError("a responder needs id, username or name")
        if "{{" not in self.type and not _RESPONDER_TYPES.fullmatch(self.type):
            raise ValueError(
                f"the type {self.type!r} of a responder is none of team, teams, user, escalation,"
                " schedule"
            )
        return self


class OpsgenieConfig(HttpIntegration):
    api_key: Secret = NO_SECRET
    api_key_file: FilePath = ""
    api_url: Url = ""
    message: Template = '{{ template "opsgenie.default.message" . }}'
    description: Template = '{{ template "opsgenie.default.description" . }}'
    source: Template = '{{ template "opsgenie.default.source" . }}'
    details: TextMap = Field(default_factory=dict)
    entity: Template = ""
    responders: tuple[OpsgenieResponder, ...] = ()
    actions: Template = ""
    tags: Template = ""
    note: Template = ""
    priority: Template = ""
    update_alerts: Flag = False

    exclusive = (("api_key", "api_key_file"),)


class VictoropsConfig(HttpIntegration):
    api_key: Secret = NO_SECRET
    api_key_file: FilePath = ""
    api_url: Url = ""
    routing_key: Template = ""
    message_type: Template = "CRITICAL"
    state_message: Template = '{{ template "victorops.default.state_message" . }}'
    entity_display_name: Template = '{{ template "victorops.default.entity_display_name" . }}'
    monitoring_tool: Template = '{{ template "victorops.default.monitoring_tool" . }}'
    custom_fields: TextMap = Field(default_factory=dict)

    required = (("routing_key",),)
    exclusive = (("api_key", "api_key_file"),)

    @model_validator(mode="after")
    def _keeps_its_fields(self) -> Self:
        for name in sorted(_VICTOROPS_FIELDS & self.custom_fields.keys()):
            raise ValueError(f"custom_fields cannot have {name!r}, which the message has already")
        return self


class PushoverConfig(HttpIntegration):
    user_key: Secret = NO_SECRET
    user_key_file: FilePath = ""
    token: Secret = NO_SECRET
    token_file: FilePath = ""
    title: Template = '{{ template "pushover.default.title" . }}'
    message: Template = '{{ template "pushover.default.message" . }}'
    url: Template = '{{ template "pushover.default.url" . }}'
    url_title: Template = ""
    device: Template = ""
    sound: Template = ""
    priority: Template = '{{ if eq .Status "firing" }}2{{ else }}0{{ end }}'
    retry: DurationMs = 60_000
    expire: DurationMs = 3_600_000
    ttl: DurationMs = 0
    html: Flag = False
    monospace: Flag = False

    required = (("user_key", "user_key_file"), ("token", "token_file"))
    exclusive = (("user_key", "user_key_file"), ("token", "token_file"), ("html", "monospace"))


class SnsConfig(HttpIntegration):
    api_url: Template = ""
    sigv4: SigV4 = SigV4()
    topic_arn: Template = ""
    phone_number: Template = ""
    target_arn: Template = ""
    subject: Template = '{{ template "sns.default.subject" . }}'
    message: Template = '{{ template "sns.default.message" . }}'
    attributes: TextMap = Field(default_factory=dict)

    required = (("topic_arn", "phone_number", "target_arn"),)
    exclusive = (("topic_arn", "phone_number", "target_arn"),)


class IncidentioConfig(HttpIntegration):
    url: Url = ""
    url_file: FilePath = ""
    alert_source_token: Secret = NO_SECRET
    alert_source_token_file: FilePath = ""
    max_alerts: Integer = Field(0, ge=0)
    timeout: DurationMs = 0
    metadata: TextMap = Field(default_factory=dict)

    required = (("url", "url_file"),)
    exclusive = (("url", "url_file"), ("alert_source_token", "alert_source_token_file"))

    @model_validator(mode="after")
    def _has_its_token(self) -> Self:
        token = is_set(self.alert_source_token) or is_set(self.alert_source_token_file)
        authorization = self.http_config is not None and self.http_config.authorization is not None
        if token and authorization:
            raise ValueError("alert_source_token excludes http_config.authorization")
        if not (token or authorization):
            raise ValueError("alert_source_token or alert_source_token_file must be set")
        return self


def _template_or_mapping(value: Any) -> Any:
    return value if isinstance(value, dict) else {"template": value}


class JiraText(Fields):
    """A field of an issue, and whether later messages change it."""

    template: Template = ""
    enable_update: Flag = True


class JiraConfig(HttpIntegration):
    api_url: Url = ""
    api_type: Text = "auto"
    project: Template = ""
    summary: Annotated[JiraText, BeforeValidator(_template_or_mapping)] = JiraText(
        template='{{ template "jira.default.summary" . }}'
    )
    description: Annotated[JiraText, BeforeValidator(_template_or_mapping)] = JiraText(
        template='{{ template "jira.default.description" . }}'
    )
    labels: Texts = ()
    priority: Template = '{{ template "jira.default.priority" . }}'
    issue_type: Template = ""
    reopen_transition: Text = ""
    resolve_transition: Text = ""
    wont_fix_resolution: Text = ""
    reopen_duration: DurationMs = 0
    fields: dict[str, Any] = Field(default_factory=dict)
    custom_fields: dict[str, Any] = Field(default_factory=dict)

    required = (("project",), ("issue_type",))

    @model_validator(mode="after")
    def _has_a_known_type(self) -> Self:
        if self.api_type not in {"auto", "cloud", "datacenter"}:
            raise ValueError(f"api_type {self.api_type!r} should be auto, cloud or datacenter")
        return self
