"""The generated history of `varve up --demo`."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Demo(Section):
    days: float = Field(8, gt=0)
    """Days of generated history. 8: a week for a baseline and a day to compare."""
    interval_s: int = Field(60, gt=0)
    """Seconds between its samples. 60: a million samples in all."""
    seed: int = 1
    """Equal seeds and end times give equal values."""
