"""Scraping: which prometheus.yml, which networks, the address of the service."""

from __future__ import annotations

import ipaddress
from typing import ClassVar

from pydantic import Field, field_validator

from varve.settings.listener import Listener
from varve.settings.rules import require_addresses


class Scrape(Listener):
    config_file: str = ""
    """The prometheus.yml whose scrape_configs are followed; read again when it changes. With it
    `varve up` starts scraping."""
    port: int = Field(9695, ge=1, le=65535)
    """Port of the service, for /api/v1/targets and /metrics. 9695: next to the other services."""
    networks: str = ""
    """Networks, comma separated, that targets and what discovery asks may be in, such as
    10.0.0.0/8. Empty: all but link-local addresses and the metadata services of clouds, which are
    never connected to."""

    group: str = ""
    """Name that several instances of one file have in common, to share its targets: who is there is
    known by Kafka. Empty: this one scrapes all of them."""
    services: str = ""
    """Addresses of scrape services, comma separated, that the query service asks for targets.
    Empty: the one that `varve up` runs in the same home."""

    _what_anybody_could: ClassVar[str] = "see its targets"

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: str) -> str:
        for network in filter(None, map(str.strip, networks.split(","))):
            try:
                ipaddress.ip_network(network)
            except ValueError as err:
                raise ValueError(f"{network!r} is no network such as 10.0.0.0/8: {err}") from None
        return networks

    @field_validator("services", mode="after")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        return require_addresses(value)

    def allowed(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """The networks; empty for all."""
        named = filter(None, map(str.strip, self.networks.split(",")))
        return [ipaddress.ip_network(network) for network in named]
