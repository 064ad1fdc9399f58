"""What is usual for series, and what is told when they leave it."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Anomalies(Section):
    enabled: bool = True
    """Whether `varve up` keeps baselines and judges every minute by them. On a cluster a scheduler
    runs jobs/baseline.py, and jobs/detect_anomalies.py is a stream of its own."""
    trigger_s: float = Field(5.0, gt=0)
    """Seconds between looks for minutes to judge. 5: an episode is told within 40 s of the end of
    the minute that opens it."""
    baseline_every_s: float = Field(300, gt=0)
    """Seconds between looks for hours to bring into the baselines. 300: an hour is in them minutes
    after it has closed."""
