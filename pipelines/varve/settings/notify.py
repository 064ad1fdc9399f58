"""The notifier that `varve up` runs. One that stands alone has options by Alertmanager's names."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Notify(Section):
    enabled: bool = True
    """Whether `varve up` starts the notifier."""
    host: str = Field("127.0.0.1", min_length=1)
    """Address it listens on. Loopback: it has no authentication."""
    port: int = Field(9696, ge=1, le=65535)
    """Port it listens on. 9696: next to the other services, as Kafka's controller has 9093."""
    config_file: str = ""
    """Its alertmanager.yml. Empty: conf/alertmanager.yml, whose only receiver is the log of
    `varve up`."""
    oncall_file: str = ""
    """Its oncall.yml: escalation, schedules, watchdogs (docs/notify.md). Empty: none."""
    external_url: str = ""
    """Its address as links in messages have it. Empty: the one it listens on."""
