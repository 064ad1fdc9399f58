"""The ports that `varve up` needs, looked at before anything is started."""

from __future__ import annotations

from varve.local import broker
from varve.services.ports import require_free
from varve.settings import Settings


def require_free_ports(settings: Settings, *, gateway: bool) -> None:
    """Raises NeedsOperator, naming the holder and the setting, if one is taken."""
    if not settings.kafka.bootstrap_servers:
        require_free(broker.HOST, settings.kafka.port, "kafka.port")
        require_free(broker.HOST, settings.kafka.controller_port, "kafka.controller_port")
    require_free(settings.query.host, settings.query.port, "query.port")
    for section in ("rules", "notify"):
        if (service := settings.at(section)).enabled:
            require_free(service.host, service.port, f"{section}.port")
    if gateway:
        require_free(settings.gateway.host, settings.gateway.port, "gateway.port")
    if settings.scrape.config_file:
        require_free(settings.scrape.host, settings.scrape.port, "scrape.port")
    telemetry = settings.telemetry
    for port, setting in ((telemetry.port, "port"), (telemetry.up_port, "up_port")):
        require_free(telemetry.host, port, f"telemetry.{setting}")
