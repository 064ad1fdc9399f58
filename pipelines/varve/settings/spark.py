"""The Spark session that `varve up` starts."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Spark(Section):
    master: str = "local[2]"
    """Spark master of `varve up`. Jobs started by spark-submit take theirs from it."""
    driver_memory_mb: int = Field(1_024, ge=512)
    """Java heap of the Spark process in MiB. Rows never enter it; 1 GiB leaves room for Python."""
