"""What quality checks expect of the tables: `jobs/check_quality.py`."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Quality(Section):
    rows: int = Field(100_000, gt=0)
    """Rows of each table that a check looks at, at random. 100,000: seconds."""
    hours: int = Field(2, ge=0)
    """Hours of the range, at random, whose rollups are computed again from the samples. 2: another
    two each day, and seconds."""
    max_null_share: float = Field(0.05, ge=0, le=1)
    """Share of samples that may be staleness markers. More of them mean that series come and go."""
    max_gap_share: float = Field(0.1, ge=0, le=1)
    """Share of the windows of a series that may be missing between its first and last. 0.1: a
    restart now and then."""
    max_reset_share: float = Field(0.02, ge=0, le=1)
    """Share of a counter's samples that may be lower than the one before. 0.02: restarts, and no
    gauge that calls itself a counter."""
    share_of_series: float = Field(0.95, gt=0, le=1)
    """Share of series that must keep within those two. 0.95: jobs that run now and then."""
