"""The positions of a tier, all in its own table, and how far its source lets it go."""

from __future__ import annotations

from collections.abc import Sequence

from varve.model.window import Tier, floor_to
from varve.storage.table import Table


def frontier_id(tier: str) -> str:
    """End of the tier's last closed window, ms, inclusive."""
    return f"frontier:{tier}"


def source_id(tier: str) -> str:
    """Version of the table below up to which everything that touches a closed window is repaired:
    that table's log is needed from there on.
    """
    return f"source:{tier}"


def turn_id(tier: str) -> str:
    """Number of the tier's last commit, from 0. Every commit of it moves this one, so of rivals
    only one wins, and the others notice even what moved nothing else.
    """
    return f"turn:{tier}"


def repairs_id(tier: str) -> str:
    """Number of the last commit that had something to note in the table repairs: on the tier's
    table that it has to be noted, on repairs that it is.
    """
    return f"repairs:{tier}"


def expired_id() -> str:
    """On samples: raw samples up to this time, ms, may have been deleted. On a rollup table: rows
    up to this time were never made, as the samples had gone before their windows were closed.
    """
    return "expired:default"


def reachable(tier: Tier, source: Table, queries: Sequence[str], grace_ms: int) -> int | None:
    """The frontier the tier could have from the source as the handle sees it, rounded down.

    For the first tier the least time up to which all input queries are complete, less grace; for
    the others the frontier of the tier below. None while that is not known.
    """
    if tier.source == "samples":
        complete = [source.position(f"complete:{query}") for query in queries]
        known = [at for at in complete if at is not None]
        if len(known) < len(complete) or not known:
            return None
        return floor_to(min(known) - grace_ms, tier.width_ms)
    below = source.position(frontier_id(tier.source.removeprefix("rollup_")))
    return None if below is None else floor_to(below, tier.width_ms)
