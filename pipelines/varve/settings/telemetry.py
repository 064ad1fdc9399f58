"""Varve's own metrics: where they are served, and whether they are collected."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Telemetry(Section):
    host: str = Field("127.0.0.1", min_length=1)
    """Address that streams, jobs and `varve up` serve /metrics on. Loopback: it has no
    authentication. The query service serves its own on query.port."""
    port: int = Field(9691, ge=0, le=65535)
    """Port of the streams, and of the first job of a machine; others take the next free one of
    ten. 9691, next to the query service. 0: any that is free; the log and the status file name
    it."""
    up_port: int = Field(9692, ge=0, le=65535)
    """Port of `varve up` itself: whether its components run. 0: any that is free."""
    collected: bool = True
    """Whether the collector sends these metrics through Kafka into Varve, as any others."""
