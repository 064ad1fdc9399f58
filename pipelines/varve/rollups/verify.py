"""Recomputes rows from raw samples, tier by tier, and compares every bit with what is stored.

A row is compared with what the newest samples give, not those of the version it names, so that a
forgotten repair shows. Windows whose repair is pending (varve.rollups.completeness) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from varve.model.window import DAY_MS, HOUR_MS, TIERS, Tier, Window, floor_to, window_end
from varve.rollups import algebra, kernel, task_ranges, time_ranges, window_keys
from varve.rollups.algebra import Ints, Rows
from varve.rollups.completeness import CompletenessReader, TierCompleteness
from varve.rollups.differing_rows import differing
from varve.rollups.expired_series import ExpiredSeries, ExpiredSeriesReader, refused_windows
from varve.rollups.task import roll_up
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store
from varve.storage.unreadable import READ_ERRORS, require_readable
from varve.storage.zone_map import Mask


@dataclass(frozen=True, slots=True)
class Difference:
    """A column of a window that is not what the samples give."""

    tier: str
    series_id: int
    window_end: int
    column: str
    stored: Any
    """None where no such row is stored."""
    computed: Any
    """None where the samples give no such row."""


@dataclass(slots=True)
class Report:
    """What was compared, and what differs."""

    rows: dict[str, int] = field(default_factory=dict)
    """Rows compared, by tier."""
    left_out: dict[str, tuple[Window, ...]] = field(default_factory=dict)
    """Ranges not compared, since late samples wait for their repair, by tier."""
    differences: list[Difference] = field(default_factory=list)


def verify(store: Store, window: Window, tiers: Sequence[Tier] = TIERS) -> Report:
    """Compares the closed windows of `tiers` that lie within `window` and start after the mark up
    to which samples of their series may have expired.

    Reads the samples of the range once, in parts of a size that memory holds. Raises NeedsOperator
    if a table is missing, or a file that has rows of the range cannot be read.
    """
    reader = CompletenessReader(store)
    found, snapshots = reader.refresh_with_snapshots()
    completeness = {c.tier.name: c for c in found}
    report = Report(rows=dict.fromkeys((t.name for t in tiers), 0))
    marks = [c.expired_until_ms for c in found]
    marks.append(reader.positions.get(positions.expired()))
    begin_ms = max([window.start_ms, *(m for m in marks if m is not None)])
    allowed = {t.name: _allowed(completeness[t.name], begin_ms, window.end_ms) for t in tiers}
    for tier in tiers:
        inside = time_ranges.clip(completeness[tier.name].pending, window)
        report.left_out[tier.name] = tuple(inside)
    samples = snapshots["samples"]
    expired = ExpiredSeriesReader(store).marks(reader.positions)
    if not samples.files:
        return report
    first, last = int(samples.zones.first_ms.min()) - 1, int(samples.zones.last_ms.max())
    inside = time_ranges.clip([window], Window(first, last))
    try:
        for tier, span, computed in _computed(samples, inside):
            if tier.name in allowed:
                ranges = allowed[tier.name]
                _compare(tier, span, computed, snapshots[tier.table], ranges, expired, report)
    except READ_ERRORS:
        days = Bounds(floor_to(window.start_ms, DAY_MS), window_end(window.end_ms, DAY_MS))
        for read in (samples, *(snapshots[tier.table] for tier in tiers)):
            require_readable(store, read.table, read.select(days))
        raise
    return report


def _allowed(tier: TierCompleteness, begin_ms: int, end_ms: int) -> list[Window]:
    """Ranges of whole windows to compare."""
    if tier.frontier_ms is None:
        return []
    width = tier.tier.width_ms
    start = window_end(begin_ms, width)
    end = floor_to(min(end_ms, tier.frontier_ms), width)
    return time_ranges.subtract([Window(start, end)], tier.pending) if start < end else []


def _computed(samples: Snapshot, inside: Sequence[Window]) -> Iterator[tuple[Tier, Window, Rows]]:
    """Computes rows range by range: yields the tier, the range, and its rows of windows within."""
    if not inside:
        return
    start, end = inside[0].start_ms, inside[-1].end_ms
    hourly = Window(floor_to(start, HOUR_MS), window_end(end, HOUR_MS))
    for day in range(floor_to(start, DAY_MS), end, DAY_MS):
        whole = Window(day, day + DAY_MS)
        hours: list[Rows] = []
        for part in task_ranges.by_time(samples, whole, TIERS[2], task_ranges.ROWS_PER_TASK):
            for span in time_ranges.clip([hourly], part.window):
                rows = _rolled_up(samples, span, part.rows)
                for tier, made in zip(TIERS, rows, strict=False):
                    yield tier, span, made
                hours.append(rows[-1])
        if hours:
            everything = _concatenated(hours)
            chosen = np.lexsort((everything.window_end, everything.series_id))
            yield TIERS[3], whole, kernel.merge(everything, chosen, DAY_MS)


def _rolled_up(samples: Snapshot, span: Window, about: float) -> list[Rows]:
    """Rows of all tiers but the last. span: whole hours. about: estimate of their samples."""
    files = samples.select(Bounds(span.start_ms, span.end_ms))
    found: list[list[Rows]] = []
    for series in task_ranges.by_series(samples, files, about, 1) if files else [None]:
        raw = samples.scan(Bounds(span.start_ms, span.end_ms, series=series), files=files)
        rows = [roll_up(raw, TIERS[0], span, series)]
        for tier in TIERS[1:3]:
            rows.append(kernel.merge(rows[-1], np.arange(len(rows[-1])), tier.width_ms))
        found.append(rows)
    return [_concatenated(parts) for parts in zip(*found, strict=True)]


def _concatenated(parts: Sequence[Rows]) -> Rows:
    """All rows in one, in the order of the parts."""
    columns = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in Rows.__slots__
        if name != "sketch_starts"
    }
    lengths = np.concatenate([np.diff(part.sketch_starts) for part in parts])
    return Rows(**columns, sketch_starts=np.concatenate([[0], np.cumsum(lengths)]))


def _compare(
    tier: Tier,
    span: Window,
    computed: Rows,
    target: Snapshot,
    allowed: Sequence[Window],
    expired: Sequence[ExpiredSeries],
    report: Report,
) -> None:
    table = target.scan(Bounds(span.start_ms, span.end_ms))
    stored = algebra.from_table(table)
    newest = window_keys.newest_revisions(
        stored.series_id, stored.window_end, table.column("revision").to_numpy()
    )
    newest = newest[time_ranges.within(stored.window_end[newest], allowed)]
    newest = newest[~_expired(stored, newest, expired, tier)]
    wanted = np.flatnonzero(time_ranges.within(computed.window_end, allowed))
    wanted = wanted[~_expired(computed, wanted, expired, tier)]
    wanted = wanted[np.lexsort((computed.window_end[wanted], computed.series_id[wanted]))]
    here, there = _keys(stored, newest), _keys(computed, wanted)
    missing, extra = _absent(here, there), _absent(there, here)
    for series, end in there[missing].tolist():
        report.differences.append(Difference(tier.name, series, end, "row", None, "a row"))
    for series, end in here[extra].tolist():
        report.differences.append(Difference(tier.name, series, end, "row", "a row", None))
    pairs = newest[~extra], wanted[~missing]
    report.rows[tier.name] += len(pairs[0])
    for column, differs in differing(stored, computed, *pairs).items():
        for at in np.flatnonzero(differs):
            i, j = int(pairs[0][at]), int(pairs[1][at])
            report.differences.append(
                Difference(
                    tier.name,
                    int(stored.series_id[i]),
                    int(stored.window_end[i]),
                    column,
                    _value(stored, column, i),
                    _value(computed, column, j),
                )
            )


def _expired(rows: Rows, chosen: Ints, marks: Sequence[ExpiredSeries], tier: Tier) -> Mask:
    """Tells which of the chosen rows stay as they are, whatever samples come."""
    ids, ends = rows.series_id[chosen], rows.window_end[chosen]
    return refused_windows(marks, ids, ends, tier.width_ms)


def _absent(keys: Ints, others: Ints) -> npt.NDArray[np.bool_]:
    """Tells which of `others` are not among `keys`."""
    there: npt.NDArray[np.bool_] = window_keys.isin(others[:, 0].copy(), others[:, 1].copy(), keys)
    return ~there


def _keys(rows: Rows, chosen: Ints) -> Ints:
    return np.stack([rows.series_id[chosen], rows.window_end[chosen]], axis=1)


def _value(rows: Rows, column: str, at: int) -> Any:
    if column != "sketch":
        return getattr(rows, column)[at].item()
    entries = slice(int(rows.sketch_starts[at]), int(rows.sketch_starts[at + 1]))
    return (rows.sketch_keys[entries].tobytes(), rows.sketch_counts[entries].tobytes())
