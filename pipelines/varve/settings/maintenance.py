"""What keeps tables small without a scheduler: `varve serve maintenance`."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Maintenance(Section):
    enabled: bool = True
    """Whether `varve up` compacts and vacuums its tables by itself. On a cluster a scheduler may
    run the same work as jobs instead."""
    compact_every_s: float = Field(30, gt=0)
    """Seconds between looks for small files to merge. 30: some dozen files a table wait."""
