"""The Spark session that `varve up` starts."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from varve.settings.section import Section

_LOCAL_MASTER = re.compile(
    r"local(\[([1-9]\d{0,4}|\*)(\s*,\s*[1-9]\d{0,4})?\])?"
    r"|local-cluster\[\s*\d+\s*,\s*\d+\s*,\s*\d+\s*\]",
    re.ASCII,
)


class Spark(Section):
    master: str = "local[2]"
    """Spark master of `varve up`. Jobs started by spark-submit take theirs from it."""
    driver_memory_mb: int = Field(1_024, ge=512)
    """Java heap of the Spark process in MiB. Rows never enter it; 1 GiB leaves room for Python."""

    @field_validator("master")
    @classmethod
    def _has_cores(cls, master: str) -> str:
        if not master or (master.startswith("local") and not _LOCAL_MASTER.fullmatch(master)):
            raise ValueError(
                f"{master or 'an empty text'} is no Spark master: write local[2], or local[*] for"
                " all cores, or its address (spark://...)"
            )
        return master
