"""The collector of this machine's metrics."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Collector(Section):
    enabled: bool = True
    """Whether `varve up` measures this machine."""
    interval_s: float = Field(5.0, gt=0)
    """Seconds between measurements. 5: a spike of ten seconds shows."""
    instance: str = ""
    """Label instance of its series. Empty: this machine's name."""
