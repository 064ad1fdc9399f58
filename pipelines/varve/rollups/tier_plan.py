"""What the driver's side of a tier is told, plans, and tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from varve.model.window import Tier, Window
from varve.rollups.late_rows import NO_LATE_WINDOWS, LateWindows
from varve.rollups.task import RollupTask
from varve.storage.commit import Step
from varve.storage.store import Store


@dataclass(frozen=True, slots=True)
class TierPlan:
    """How a tier is run."""

    store: Store
    tier: Tier
    queries: tuple[str, ...]
    """The ingest queries whose completeness bounds the frontier of the first tier."""
    grace_ms: int
    """How long a window stays open after its input is complete."""
    repair_every_ms: int
    """How long late windows are gathered before they are repaired."""
    repair_keys: int
    """Number of late windows from which they are repaired without further waiting."""
    at_once: int = 2
    """Tasks that can run side by side."""


@dataclass(frozen=True, slots=True)
class PlannedCommit:
    """The next commit of a tier: its tasks, and what is true once their rows are committed."""

    tasks: tuple[RollupTask, ...]
    steps: dict[str, Step]
    """How the tier's positions move."""
    source_version: int
    """Version of the table below that the tasks read."""
    closed: Window | None = None
    """The range that the frontier passes; None for a commit that closes nothing."""
    computed: tuple[Window, ...] = ()
    """Ranges of closed windows that then include every row of source_version."""
    repaired: LateWindows = NO_LATE_WINDOWS
    refused: LateWindows = NO_LATE_WINDOWS
    """Late windows that keep their row, since samples of theirs may have expired."""
    notes: tuple[dict[str, Any], ...] = ()
    """Rows for the table repairs."""
    begun_ms: int = 0
    """When it was planned, Unix ms by the worker's clock."""
    swept_to_ms: int | None = None
    """How far the sweep of repairs comes; None for a commit that is no piece of one."""
    ends_sweep: bool = False
    more: bool = False
    """Whether there is more of the same to do at once."""


@dataclass(frozen=True, slots=True)
class TierProgress:
    """How far a tier's worker is."""

    frontier_ms: int | None
    """End of the last closed window; None before the tier's first commit."""
    pending: int
    """Late windows that wait for their repair; a range in which all are late counts as one."""
    behind: int
    """Versions of the table below since `source:`."""
    unreadable: tuple[str, ...] = ()
    """Files of the table below that cannot be read, and what is wrong with each: the windows that
    they have rows of wait for them."""
    failure: str = ""
    """Why the tier could not be worked on when it was tried last; empty if it could."""
