"""Chooses what answers a selector: samples, or which tiers' rows, and says why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from varve.model.clock import utc_text
from varve.model.window import RAW
from varve.promql.errors import QueryError
from varve.promql.function_table import FUNCTIONS
from varve.promql.signatures import Accuracy
from varve.promql.storage import TierChoice, WindowFunction
from varve.promql.syntax.literals import format_duration
from varve.query.cover import Cover, Ranges, cover, finest_at, move_edges
from varve.query.tier_view import TierView

CHEAP_SAMPLES: Final = 500_000
"""So many samples are read rather than rows: some milliseconds, and the answer has the bits that
Prometheus would give it."""

# What reading takes, about, in ns: of a sample, of a column of a row, of a row.
_SAMPLE_NS, _COLUMN_NS, _ROW_NS = 12.0, 6.0, 25.0
# Rows must save so much of the time to be worth an answer that may differ in its last bits.
_WORTH = 0.5
# So many windows at most one cover may have, in memory of a byte each and work.
_MOST_WINDOWS: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """About how much a selector has: series; samples over all its windows; row_share: how many of
    all rows, of samples and of tiers, are of its series.

    It follows from the snapshot alone, and not from what is in memory: so does the choice, and an
    answer is the same in every bit whenever it is asked for.
    """

    series: int
    samples: int
    row_share: float


@dataclass(frozen=True, slots=True)
class PlannedRows(TierChoice):
    """A choice with the rows that it means. columns: those that the function reads."""

    cover: Cover | None = field(default=None, compare=False, repr=False)
    columns: tuple[str, ...] = ()


def choose(
    windows: WindowFunction,
    tiers: Sequence[TierView],
    raw_from_ms: int | None,
    estimate: Estimate,
    forced: str | None = None,
    of_whom: str = "",
) -> PlannedRows | None:
    """Chooses rows of rollups for a function of windows; None where samples are to answer.

    tiers: the finest first, those that have a closed window. raw_from_ms: samples up to there may
    have been deleted; None if none have. forced: one of TIER_NAMES. QueryError if samples and rows
    have expired, or rows that are left are too wide; its text says what to ask instead. of_whom: of
    which series the samples are, for that text.
    """
    columns = columns_of(windows.name)
    start_ms, _ = windows.span
    expired = raw_from_ms is not None and start_ms < raw_from_ms
    if columns is None or forced == RAW:
        return None
    if forced is None and not expired and estimate.samples <= CHEAP_SAMPLES:
        return None
    chains = list(_chains(tiers, forced))
    if not chains:
        if forced is not None and forced not in {v.tier.name for v in tiers}:
            raise QueryError(f"tier {forced} has no closed window yet: ask without tier=, or later")
        return None
    times = windows.times if windows.step_ms else np.array([windows.first_ms], dtype=np.int64)
    ranges = Ranges(times - windows.range_ms, times, windows.is_instant)
    raw_ms_from = -(1 << 62) if raw_from_ms is None else raw_from_ms
    planned = (_planned(windows, ranges, c, raw_ms_from, estimate, columns) for c in chains)
    ranked = [(_rank(f, raw_from_ms, estimate, windows), f) for f in planned if f is not None]
    if not ranked:
        if expired:
            _require_some(windows, ranges, tiers, raw_ms_from, of_whom)
        return None
    (_, _, cost), best = min(ranked, key=lambda one: one[0])
    if forced is None and not expired and cost >= estimate.samples * _SAMPLE_NS * _WORTH:
        return None
    return best


def missing(cover: Cover, raw_from_ms: int | None) -> tuple[int, str] | None:
    """Up to when rows or samples of a cover are missing that have expired, and which; None if none
    are. raw_from_ms: samples up to there may have been deleted.
    """
    found = [
        (until, f"{level.tier.tier.name} rows")
        for level in cover.levels
        if (until := level.tier.refused_until_ms) is not None
        if level.windows and level.span[0] < until
    ]
    if raw_from_ms is not None:
        gone = cover.raw_ends[cover.raw_starts < raw_from_ms]
        found += [(int(until), "samples") for until in np.minimum(gone, raw_from_ms)[-1:]]
    return max(found, default=None)


def _rank(
    plan: PlannedRows, raw_from_ms: int | None, estimate: Estimate, windows: WindowFunction
) -> tuple[int, int, float]:
    """The least is the best: with least missing, then with ends moved least, then the cheapest."""
    lost = None if plan.cover is None else missing(plan.cover, raw_from_ms)
    until_ms = -(1 << 62) if lost is None else lost[0]
    return until_ms, plan.moved_ms, _cost(plan, estimate, windows)


def columns_of(function: str) -> tuple[str, ...] | None:
    """The columns of rollup rows that a function of windows reads; None if rows do not answer it.

    "" stands for an instant selector, which reads what timestamp() does and the value.
    """
    if function == "":
        return ("last_ts", "last_value", "stale_ts")
    answer = FUNCTIONS[function].tier
    if answer.accuracy in (Accuracy.RAW_ONLY, Accuracy.AS_ARGUMENTS):
        return None
    return answer.columns


def _chains(tiers: Sequence[TierView], forced: str | None) -> Iterator[tuple[TierView, ...]]:
    """The tiers that may be read together, the widest first: one with all finer ones, and alone."""
    widest_first = tuple(reversed(tiers))
    for place, view in enumerate(widest_first):
        if forced in (None, view.tier.name):
            yield widest_first[place:]
            if place + 1 < len(widest_first):
                yield (view,)


def _planned(
    windows: WindowFunction,
    ranges: Ranges,
    chain: tuple[TierView, ...],
    raw_from_ms: int,
    estimate: Estimate,
    columns: tuple[str, ...],
) -> PlannedRows | None:
    """The choice of some tiers; None if they cannot answer all ranges."""
    start, end = ranges.span
    if (end - start) // chain[-1].tier.width_ms > _MOST_WINDOWS:
        return None
    found = cover(ranges, chain)
    moved_ms = 0
    if len(found.raw_starts) and found.raw_starts[0] < raw_from_ms:
        moved = move_edges(ranges, chain, raw_from_ms)
        if moved is None:
            return None
        found, moved_ms = cover(moved[0], chain), moved[1]
        if _lacks(found, raw_from_ms, _first_of(chain)):
            return None
    if not found.windows:
        return None
    widest = next(level for level in found.levels if level.windows).tier
    rows = int(min(found.windows * estimate.series, _file_rows(found, estimate)))
    return PlannedRows(
        widest.tier.name,
        _why(windows, found, widest, moved_ms),
        estimate.series,
        rows + _raw_samples(found, estimate, windows),
        moved_ms,
        found,
        columns,
    )


def _lacks(found: Cover, raw_from_ms: int, first_ms: int) -> bool:
    """Whether samples are needed that have expired, later than rows are there at all."""
    gone = (found.raw_starts < raw_from_ms) & (np.minimum(found.raw_ends, raw_from_ms) > first_ms)
    return bool(gone.any())


def _first_of(tiers: Sequence[TierView]) -> int:
    """Where the oldest rows begin; far in the past if none have expired."""
    return min(-(1 << 62) if view.first_ms is None else view.first_ms for view in tiers)


def _file_rows(found: Cover, estimate: Estimate) -> float:
    total = 0.0
    for level in found.levels:
        if level.windows:
            start, end = level.span
            share = level.windows * level.tier.tier.width_ms / (end - start)
            total += level.tier.files.rows_within(start, end) * share
    return total * estimate.row_share


def _raw_samples(found: Cover, estimate: Estimate, windows: WindowFunction) -> int:
    start, end = windows.span
    return int(estimate.samples * min(1.0, found.raw_ms / max(1, end - start)))


def _cost(plan: PlannedRows, estimate: Estimate, windows: WindowFunction) -> float:
    """About how many ns the rows and the samples of a plan take."""
    found = plan.cover
    if found is None:
        return 0.0
    samples = _raw_samples(found, estimate, windows)
    rows = max(0, plan.rows - samples)
    return rows * (_ROW_NS + _COLUMN_NS * len(plan.columns)) + samples * (_SAMPLE_NS + _ROW_NS)


def _why(windows: WindowFunction, found: Cover, widest: TierView, moved_ms: int) -> str:
    """What the choice rests on, for the plan."""
    width = format_duration(widest.tier.width_ms / 1000)
    if moved_ms:
        return (
            f"as samples have expired: ends of windows are up to {format_duration(moved_ms / 1000)}"
            " earlier"
        )
    others = [name for name in found.tiers if name != widest.tier.name]
    what = "ends" if windows.is_instant else "ranges"
    text = f"as {what} are whole multiples of {width}" if not others else f"whole {width}"
    return text + (f", the rest from {', '.join(others)}" if others else "")


def _require_some(
    windows: WindowFunction,
    ranges: Ranges,
    tiers: Sequence[TierView],
    raw_from_ms: int,
    of_whom: str,
) -> None:
    """Raises QueryError where rows could answer another question about the same time.

    Returns where nothing can: samples answer what is left of them then.
    """
    widest_first = tuple(reversed(tiers))
    gone = ranges.starts < raw_from_ms
    ends = ranges.ends[gone]
    view = finest_at(widest_first, int(ends[0])) if len(ends) else None
    if view is None:
        return
    width = format_duration(view.tier.width_ms / 1000)
    asked = f"{windows.name}() over {format_duration(windows.range_ms / 1000)}"
    raise QueryError(
        f"{asked} needs samples{of_whom}, which have expired up to {utc_text(raw_from_ms)}; of"
        f" that time the finest tier is {view.tier.name}: ask for ranges of {width} or more, as in"
        f" [{width}], or for a later time"
    )
