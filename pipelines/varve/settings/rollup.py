"""How windows are closed and repaired."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Rollup(Section):
    trigger_s: float = Field(5.0, gt=0)
    """Seconds between looks at the table below. 5: a minute is closed well before the next ends."""
    grace_s: float = Field(10.0, ge=0)
    """Seconds a window stays open after everything produced before its end is stored. 10: samples
    of clients that batch arrive before their window closes, later ones are repairs."""
    repair_every_s: float = Field(60.0, ge=0)
    """Seconds for which late samples are gathered before their windows are repaired. 60: a
    straggler that comes in pieces costs one repair."""
    repair_keys: int = Field(100_000, gt=0)
    """Windows that, once touched, are repaired without waiting for repair_every_s. 100,000: a
    backfill need not wait."""
