"""Recomputes rows from raw samples, by the tree, and compares every bit with what is stored.

A row is checked against the newest samples: unless late ones wait for their repair, which is known
(varve.rollups.completeness) and left out, it must equal what they give now as it equals what the
version it names gave. So a repair that was forgotten shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from varve.model.window import DAY_MS, HOUR_MS, TIERS, Tier, Window, floor_to, window_end
from varve.rollups import algebra, kernel, task_ranges, time_ranges, window_keys
from varve.rollups.algebra import Ints, Rows
from varve.rollups.completeness import CompletenessReader, TierState
from varve.rollups.task import rolled_up
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Snapshot
from varve.storage.store import Store


@dataclass(frozen=True, slots=True)
class Difference:
    """stored, computed: None where there is no such row."""

    tier: str
    series_id: int
    window_end: int
    column: str
    stored: Any
    computed: Any


@dataclass(slots=True)
class Report:
    """rows: compared, by tier. left_out: ranges not compared as late samples wait, by tier."""

    rows: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, tuple[Window, ...]] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


def verify(store: Store, window: Window, tiers: Sequence[Tier] = TIERS) -> Report:
    """Compares the closed windows of `tiers` that lie within `window` and start after the mark up
    to which samples may have expired.

    Reads the samples of the range once, in parts of a size that memory holds. Raises NeedsOperator
    if a table is missing.
    """
    reader = CompletenessReader(store)
    states, snapshots = reader.refresh_with_snapshots()
    by_name = {state.tier.name: state for state in states}
    report = Report(rows=dict.fromkeys((t.name for t in tiers), 0))
    marks = [state.unmade_until_ms for state in states]
    marks.append(reader.positions.get(positions.expired()))
    begin_ms = max([window.start_ms, *(m for m in marks if m is not None)])
    allowed = {t.name: _allowed(by_name[t.name], begin_ms, window.end_ms) for t in tiers}
    for tier in tiers:
        inside = time_ranges.clip(by_name[tier.name].pending, window)
        report.left_out[tier.name] = tuple(inside)
    samples = snapshots["samples"]
    if not samples.files:
        return report
    first, last = int(samples.zones.first_ms.min()) - 1, int(samples.zones.last_ms.max())
    for tier, span, computed in _computed(samples, time_ranges.clip([window], Window(first, last))):
        if tier.name in allowed:
            _compare(tier, span, computed, snapshots[tier.table], allowed[tier.name], report)
    return report


def _allowed(state: TierState, begin_ms: int, end_ms: int) -> list[Window]:
    """Ranges of whole windows to compare."""
    if state.frontier_ms is None:
        return []
    width = state.tier.width_ms
    start = window_end(begin_ms, width)
    end = floor_to(min(end_ms, state.frontier_ms), width)
    return time_ranges.subtract([Window(start, end)], state.pending) if start < end else []


def _computed(samples: Snapshot, inside: Sequence[Window]) -> Iterator[tuple[Tier, Window, Rows]]:
    """Rows of each tier, range by range, of the range of its windows that end there."""
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
    """Rows of all tiers but the last of about so many samples; span: whole hours."""
    files = samples.select(Bounds(span.start_ms, span.end_ms))
    found: list[list[Rows]] = []
    for series in task_ranges.by_series(samples, files, about, 1) if files else [None]:
        raw = samples.scan(Bounds(span.start_ms, span.end_ms, series=series), files=files)
        rows = [rolled_up(raw, TIERS[0], span, series)]
        for tier in TIERS[1:3]:
            rows.append(kernel.merge(rows[-1], np.arange(len(rows[-1])), tier.width_ms))
        found.append(rows)
    return [_concatenated(parts) for parts in zip(*found, strict=True)]


def _concatenated(parts: Sequence[Rows]) -> Rows:
    """Rows one part after the other."""
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
    report: Report,
) -> None:
    table = target.scan(Bounds(span.start_ms, span.end_ms))
    stored = algebra.from_table(table)
    newest = window_keys.newest(
        stored.series_id, stored.window_end, table.column("revision").to_numpy()
    )
    newest = newest[time_ranges.within(stored.window_end[newest], allowed)]
    wanted = np.flatnonzero(time_ranges.within(computed.window_end, allowed))
    wanted = wanted[np.lexsort((computed.window_end[wanted], computed.series_id[wanted]))]
    here, there = _keys(stored, newest), _keys(computed, wanted)
    missing, extra = _absent(there, here), _absent(here, there)
    for series, end in there[missing].tolist():
        report.differences.append(Difference(tier.name, series, end, "row", None, "a row"))
    for series, end in here[extra].tolist():
        report.differences.append(Difference(tier.name, series, end, "row", "a row", None))
    pairs = newest[~extra], wanted[~missing]
    report.rows[tier.name] += len(pairs[0])
    for column, differs in _differing(stored, computed, *pairs).items():
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


def _absent(keys: Ints, others: Ints) -> npt.NDArray[np.bool_]:
    """Which of `others` are not among `keys`."""
    found: npt.NDArray[np.bool_] = window_keys.among(others[:, 0].copy(), others[:, 1].copy(), keys)
    return ~found


def _keys(rows: Rows, chosen: Ints) -> Ints:
    return np.stack([rows.series_id[chosen], rows.window_end[chosen]], axis=1)


def _differing(left: Rows, right: Rows, i: Ints, j: Ints) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Where rows i of left and j of right differ in a bit, by column."""
    found = {}
    for name in algebra.COLUMNS:
        a, b = getattr(left, name)[i], getattr(right, name)[j]
        if a.dtype == np.float64:
            a, b = a.view(np.int64), b.view(np.int64)
        found[name] = a != b
    found["sketch"] = _sketches_differ(left, right, i, j)
    return found


def _sketches_differ(left: Rows, right: Rows, i: Ints, j: Ints) -> npt.NDArray[np.bool_]:
    lengths = np.diff(left.sketch_starts)[i]
    found = lengths != np.diff(right.sketch_starts)[j]
    same = np.flatnonzero(~found)
    lengths = lengths[same]
    # The entries of all these sketches, one after the other.
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    a = np.repeat(left.sketch_starts[i[same]], lengths) + within
    b = np.repeat(right.sketch_starts[j[same]], lengths) + within
    differs = left.sketch_keys[a] != right.sketch_keys[b]
    differs |= left.sketch_counts[a] != right.sketch_counts[b]
    found[np.repeat(same, lengths)[differs]] = True
    return found


def _value(rows: Rows, column: str, at: int) -> Any:
    if column != "sketch":
        return getattr(rows, column)[at].item()
    entries = slice(int(rows.sketch_starts[at]), int(rows.sketch_starts[at + 1]))
    return (rows.sketch_keys[entries].tobytes(), rows.sketch_counts[entries].tobytes())
