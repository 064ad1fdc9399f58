"""How `varve up` keeps its components running."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Supervision(Section):
    attempts: int = Field(5, ge=0)
    """Restarts of a component in a row before `varve up --for` gives up; without --for it tries for
    as long as it takes. 5: half a minute of trying."""
    backoff_s: float = Field(1.0, gt=0)
    """Seconds before the first restart; each further one waits twice as long. 1: most causes
    pass."""
    max_backoff_s: float = Field(60.0, gt=0)
    """Seconds between two restarts at most. 60: a minute after an outage of hours all runs."""
    healthy_after_s: float = Field(60, gt=0)
    """Seconds a component must be ready for its restarts to be forgotten. 60: past its start."""
    stalled_after_s: float = Field(120, ge=5)
    """Seconds in which a component that is ready must get on, else it hangs and is started again;
    streams, whose batches may be large, have three times as many. 120: what is merely slow is
    left alone."""
    free_mb: int = Field(1_024, ge=0)
    """MiB, or a tenth of the disk if that is less, that stay free where home and tables are. Below
    it ingest, rollups and collector wait until there is half as much again; below half of it the
    broker waits, too. 1024: what is under way can be finished, and a person has room to tidy up."""
    log_bytes: int = Field(10_000_000, gt=0)
    """Bytes of a component's log before it is rotated; three older ones are kept. 10 MB can still
    be opened in an editor."""
