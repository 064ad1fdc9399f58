"""How far the source of a tier lets its frontier go."""

from __future__ import annotations

from collections.abc import Sequence

from varve.model.window import Tier, floor_to
from varve.storage import positions
from varve.storage.table import Table


def reachable_frontier(
    tier: Tier, source: Table, queries: Sequence[str], grace_ms: int
) -> int | None:
    """The frontier the tier could have from the source as the handle sees it, rounded down.

    For the first tier the least time up to which all input queries are complete, less grace; for
    the others the frontier of the tier below. None while that is not known.
    """
    if tier.source == "samples":
        complete = [source.position(positions.complete(query)) for query in queries]
        stored = [at for at in complete if at is not None]
        if len(stored) < len(complete) or not stored:
            return None
        return floor_to(min(stored) - grace_ms, tier.width_ms)
    below = source.position(positions.frontier(tier.source.removeprefix("rollup_")))
    return None if below is None else floor_to(below, tier.width_ms)
