"""Finds positions that lie in the future, and puts them back.

Completeness and frontiers only grow, so a clock that was ahead once leaves a home in which no
window closes until that time has come. Putting them back loses nothing: rows of windows that were
closed too early are computed again, with a higher revision, when their time comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from varve.model.clock import MAX_STEP_MS
from varve.model.errors import NeedsOperator
from varve.model.record_rows import RECORD_TABLES, SAMPLES
from varve.model.window import TIERS, floor_to
from varve.storage import positions
from varve.storage.commit import Reset, Step, reset_positions
from varve.storage.log import entries
from varve.storage.store import Store
from varve.storage.table import Table, existing

REASON = "varve reset positions"


@dataclass(frozen=True, slots=True)
class AheadPosition:
    """A position that lies in the future. Times are ms since the Unix epoch."""

    table: str
    name: str
    at_ms: int
    back_to_ms: int
    """Its last value that does not lie in the future."""


def positions_ahead(store: Store, now_ms: int) -> list[AheadPosition]:
    """`complete:` and `frontier:` positions that are more than a minute ahead of now_ms.

    Raises NeedsOperator if there are no tables.
    """
    found = [
        AheadPosition(table.name, name, at_ms, _last_until(table, name, now_ms, 0))
        for table in (Table(store, SAMPLES), *existing(store, RECORD_TABLES))
        for name, at_ms in sorted(table.positions().items())
        if name.startswith(positions.COMPLETE) and at_ms > now_ms + MAX_STEP_MS
    ]
    below_ms = now_ms
    for tier in TIERS:
        table, name = Table(store, tier.table), positions.frontier(tier.name)
        at_ms = table.position(name)
        if at_ms is None:
            continue
        if at_ms > now_ms + MAX_STEP_MS:
            # Where the log no longer tells: windows that were closed early count as late samples
            # come, which are repaired.
            default_ms = floor_to(below_ms, tier.width_ms)
            back_ms = min(_last_until(table, name, now_ms, default_ms), default_ms)
            found.append(AheadPosition(tier.table, name, at_ms, back_ms))
            at_ms = back_ms
        below_ms = min(below_ms, at_ms)
    return found


def put_back(store: Store, ahead: Sequence[AheadPosition]) -> None:
    """Puts the positions back, samples first, then tier by tier from the finest on.

    Raises Conflict if work has moved one of them since they were found: look again.
    """
    for name in (SAMPLES, *RECORD_TABLES, *(tier.table for tier in TIERS)):
        resets = {p.name: Reset(p.at_ms, p.back_to_ms) for p in ahead if p.table == name}
        if not resets:
            continue
        table = Table(store, name)
        steps: dict[str, Step] = {}
        if name not in (SAMPLES, *RECORD_TABLES):
            turn = positions.turn(name.removeprefix("rollup_"))
            held = table.position(turn)
            steps[turn] = Step(held, 0 if held is None else held + 1)
        reset_positions(table, resets, transactions=steps, reason=REASON)


def _last_until(table: Table, name: str, until_ms: int, default_ms: int) -> int:
    """The position's newest value in the log that is at most until_ms."""
    for version in range(table.version, -1, -1):
        try:
            (entry,) = entries(table.store, table.name, version - 1, version)
        except NeedsOperator:
            break  # the log has expired before
        at_ms = entry.positions.get(name)
        if at_ms is not None and at_ms <= until_ms:
            return at_ms
    return default_ms
