"""Receivers by open standards: webhooks and email. What every receiver has in common."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from varve.notify.config.fields import (
    NO_SECRET,
    NO_WEBHOOK,
    DurationMs,
    Fields,
    FilePath,
    Flag,
    Integer,
    PartlySecretUrl,
    Secret,
    Template,
    Text,
    is_set,
)
from varve.notify.config.http_client import HttpConfig, TlsConfig


class Integration(Fields):
    """One way of one receiver to tell somebody."""

    required: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Of each tuple one field must be set."""

    send_resolved: Flag = True

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        for names in self.required:
            if not any(is_set(getattr(self, name)) for name in names):
                raise ValueError(f"{' or '.join(names)} must be set")
        return self


class HttpIntegration(Integration):
    """One that is told by HTTP. `http_config` is the global one where there is none."""

    http_config: HttpConfig | None = None


class WebhookConfig(HttpIntegration):
    url: PartlySecretUrl = NO_WEBHOOK
    url_file: FilePath = ""
    max_alerts: Integer = Field(0, ge=0)
    timeout: DurationMs = 0

    required = (("url", "url_file"),)
    exclusive = (("url", "url_file"),)


class EmailThreading(Fields):
    enabled: Flag = False
    thread_by_date: Text = "daily"

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.thread_by_date not in {"daily", "none"}:
            raise ValueError("thread_by_date should be daily or none")
        return self


class EmailConfig(Integration):
    send_resolved: Flag = False
    to: Template = ""
    from_: Template = Field("", alias="from")
    hello: Text = ""
    smarthost: Text = ""
    auth_username: Text = ""
    auth_password: Secret = NO_SECRET
    auth_password_file: FilePath = ""
    auth_secret: Secret = NO_SECRET
    auth_secret_file: FilePath = ""
    auth_identity: Text = ""
    headers: dict[str, Template] = Field(default_factory=dict)
    html: Template = '{{ template "email.default.html" . }}'
    text: Template = ""
    require_tls: Flag | None = None
    force_implicit_tls: Flag | None = None
    tls_config: TlsConfig | None = None
    threading: EmailThreading = EmailThreading()

    required = (("to",),)
    exclusive = (("auth_password", "auth_password_file"), ("auth_secret", "auth_secret_file"))

    @model_validator(mode="after")
    def _has_each_header_once(self) -> Self:
        seen: set[str] = set()
        for name in self.headers:
            if name.lower() in seen:
                raise ValueError(f"duplicate header {name!r} in email config")
            seen.add(name.lower())
        return self


ParseMode = Literal["", "Markdown", "MarkdownV2", "HTML"]
