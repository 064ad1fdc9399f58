"""Forecasts, and the warnings that come of them."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Forecasts(Section):
    enabled: bool = True
    """Whether `varve up` forecasts what capacity.toml selects. On a cluster a scheduler runs
    jobs/forecast.py."""
    look_every_s: float = Field(60, gt=0)
    """Seconds between looks for series to forecast. 60: a series whose history has just come is
    forecast a minute later; most looks find nothing to do."""
