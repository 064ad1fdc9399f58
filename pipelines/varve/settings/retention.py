"""How long each table keeps its rows at least. Series that are kept for a shorter time are named in
limits.toml.
"""

from __future__ import annotations

import itertools

from pydantic import Field, model_validator

from varve.settings.section import Section


class Retention(Section):
    samples_days: float = Field(15, ge=0.01)
    """Days raw samples are kept. Samples older than four fifths of it are refused."""
    rollup_1m_days: float = Field(30, gt=0)
    """Days 1-minute rollups are kept. Longer than samples, so that they
    can take their place."""
    rollup_5m_days: float = Field(90, gt=0)
    """Days 5-minute rollups are kept. A season on one chart."""
    rollup_1h_days: float = Field(395, gt=0)
    """Days hourly rollups are kept. 13 months: this month against the
    same one last year."""
    rollup_1d_days: float = Field(395, gt=0)
    """Days daily rollups are kept. 13 months, as the hourly ones."""
    quarantine_days: float = Field(30, gt=0)
    """Days refused records are kept, whether or not they wait for a replay. 30: time to notice, to
    mend the cause and to replay."""
    quarantine_bytes: int = Field(4 * 2**30, ge=2**20)
    """Bytes of files that refused records may have; beyond it the oldest go, once an hour, and a
    flood of them leaves mostly numbers. 4 GiB: more than anybody looks through, and a small part of
    a disk."""

    @model_validator(mode="after")
    def _each_tier_outlives_the_one_below(self) -> Retention:
        chain = ("samples", "rollup_1m", "rollup_5m", "rollup_1h")
        for below, above in itertools.pairwise(chain):
            if getattr(self, f"{above}_days") < getattr(self, f"{below}_days") + 1:
                raise ValueError(f"{above}_days must exceed {below}_days by a day at least")
        if self.rollup_1d_days < self.rollup_1h_days:
            raise ValueError("rollup_1d_days must be at least rollup_1h_days")
        return self
