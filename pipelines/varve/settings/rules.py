"""Rules: their files, when they are evaluated, whom they tell."""

from __future__ import annotations

from pydantic import Field, field_validator

from varve.settings.section import Section


class Rules(Section):
    enabled: bool = True
    """Whether `varve up` starts the rules service."""
    host: str = Field("127.0.0.1", min_length=1)
    """Address it listens on. Loopback: it has no authentication."""
    port: int = Field(9694, ge=0, le=65535)
    """Port it listens on. 9694: next to the other services. 0: any that is free."""
    files: str = "alerts.yml"
    """Files of rules, comma separated, with * and ? for many. A relative one lies in conf/ of the
    checkout, or else in the folder that the service is started in."""
    interval_s: float = Field(15, gt=0)
    """Seconds between evaluations of a group that states none. 15: three scrapes of a collector."""
    query_offset_s: float = Field(0, ge=0)
    """Seconds that queries of a group look back which states no query_offset. 0 as in
    Prometheus."""
    wait_s: float = Field(30, ge=0)
    """Seconds after its time at which an evaluation no longer waits for its data: alerting rules
    then go on without, marked incomplete. 30: many times what data takes."""
    catch_up_s: float = Field(3_600, ge=0)
    """Seconds for which evaluations that were missed are made up for. One hour, as long as
    for-states are restored. 0: none but those just missed."""
    resend_delay_s: float = Field(60, gt=0)
    """Seconds after which a firing alert is sent again. 60 as in Prometheus."""
    outage_tolerance_s: float = Field(3_600, ge=0)
    """Seconds that nobody evaluated after which for-states are not restored. One hour as in
    Prometheus."""
    grace_s: float = Field(600, ge=0)
    """Seconds that a restored alert which was pending waits at least. 600 as in Prometheus."""
    evaluators: int = Field(4, ge=1, le=64)
    """Rules of a group that are evaluated side by side, if they do not see each other. 4: while one
    waits for a file others go on."""
    cache_mb: int = Field(64, ge=16)
    """MiB of samples kept in memory: those of the series that rules select, as far as they look
    back, and files that had to be read besides. 64: 5,000 series at 5 s for half an hour."""
    shards: int = Field(8, ge=1, le=1024)
    """Parts that groups are spread over, for several processes to share. 8: enough for three or
    four. To change it stop all of them first."""
    notifiers: str = "http://127.0.0.1:9696"
    """Addresses of notifiers, Varve's or Alertmanagers, comma separated: every one is told."""
    external_url: str = ""
    """Where links of alerts lead. Empty: the query service's address."""
    external_labels: dict[str, str] = Field(default_factory=dict)
    """Labels that every alert gets on its way to notifiers, and templates see; as in Prometheus."""
    services: str = ""
    """Addresses of rules services, comma separated, that the query service asks for rules and
    alerts. Empty: the one that `varve up` runs in the same home."""

    @field_validator("notifiers", "services", mode="after")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        return require_addresses(value)


def require_addresses(value: str) -> str:
    """The setting, if it lists addresses of services. Raises ValueError."""
    for url in listed(value):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} should be an address such as http://127.0.0.1:9696")
    return value


def listed(text: str) -> list[str]:
    """What is separated by commas in a setting."""
    return [part.strip() for part in text.split(",") if part.strip()]
