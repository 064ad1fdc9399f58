"""How `varve up` keeps its components running."""

from __future__ import annotations

from pydantic import Field

from varve.settings.section import Section


class Supervision(Section):
    attempts: int = Field(5, ge=0)
    """Restarts of a component in a row before `varve up` gives up. 5: half a minute of trying."""
    backoff_s: float = Field(1.0, gt=0)
    """Seconds before the first restart; each further one waits twice as long. 1: most causes
    pass."""
    healthy_after_s: float = Field(60, gt=0)
    """Seconds a component must be ready for its restarts to be forgotten. 60: past its start."""
    log_bytes: int = Field(10_000_000, gt=0)
    """Bytes of a component's log before it is rotated; three older ones are kept. 10 MB can still
    be opened in an editor."""
