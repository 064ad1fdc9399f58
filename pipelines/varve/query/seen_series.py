"""Which series were seen in a range of time: those with a row of a rollup tier for a window of it,
and past the tier's frontier those with a sample; and those with a native histogram in the range.

A window has one bit for each series, made from the files that hold its rows when it is first asked
for and kept with what else is decoded: a day of a million series takes 125 kB. So a range costs in
proportion to its windows, whatever was registered since or before.

Source: docs/adr/0010-last-seen-comes-from-the-rollups.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from varve.model.window import DAY_MS, Window
from varve.promql.kernels.types import I64
from varve.query.decoded_files import DecodedFiles
from varve.query.sample_columns import SampleColumns, SeriesRows
from varve.query.series_index import Among, SeriesIndex
from varve.query.tier_view import TierView
from varve.query.view import View
from varve.rollups import time_ranges
from varve.storage.log import LiveFile

# A range up to so long is looked up in hours; in days beyond, and up to the end of the first one.
_IN_HOURS_MS = 3 * DAY_MS
# Rows of files that a range may need, whether they are kept or not: what is answered must not
# depend on that. So many take a second to read.
MOST_ROWS = 40_000_000

Bits = npt.NDArray[np.uint8]

_NONE: Bits = np.empty(0, dtype=np.uint8)


def seen_within(
    view: View,
    start_ms: int,
    end_ms: int,
    check: Callable[[], None],
    *,
    most_rows: int = MOST_ROWS,
    exact: bool = True,
) -> Among | None:
    """The series of the view's index with a sample in a window that overlaps (start_ms, end_ms].

    A window is an hour, or in longer ranges a day; past the last one that is closed, and where late
    samples wait for their repair, it is the sample that counts, or without `exact` one in memory
    that lies near. None stands for all series: without rollups, where their rows have expired, or
    if over most_rows would be read. Raises OSError if a file cannot be read, FileNotFoundError if
    it is gone.
    """
    plan = _plan(view, start_ms, end_ms, most_rows)
    if plan is None or view.rollups is None:
        return None
    seen = _Seen(view.index, view.rollups.files, check)
    found = np.zeros((view.index.size + 7) // 8, dtype=np.uint8)
    for tier, span, files in plan.tiers:
        for file in files:
            for window_end, bits in seen.in_rollup(tier.tier.table, file).items():
                if span.start_ms < window_end < span.end_ms + tier.tier.width_ms:
                    _set(found, bits)
    for span in plan.raw:
        for run in view.head:
            _set(found, seen.in_run(run, span, exact=exact))
        for file in view.files.within(span.start_ms, span.end_ms):
            _set(found, seen.in_samples(file, span))
    if (histograms := view.records.get("histograms")) is not None:
        _set(found, seen.bits_of(histograms.series_within(start_ms, end_ms, check)))
    rows = np.unpackbits(found, count=view.index.size).view(np.bool_)
    # Equal sets have equal tokens, however many series are registered beyond the last of them.
    return Among(rows, hashlib.blake2b(found.tobytes().rstrip(b"\0"), digest_size=16).digest())


@dataclass(frozen=True, slots=True)
class _Plan:
    """Files of tiers with the span each answers for, and spans that samples answer for."""

    tiers: Sequence[tuple[TierView, Window, Sequence[LiveFile]]]
    raw: Sequence[Window]


def _plan(view: View, start_ms: int, end_ms: int, most_rows: int) -> _Plan | None:
    """What to read; None if that is too much, or there is no rollup."""
    by_name = {tier.tier.name: tier for tier in view.tiers}
    hours, days = by_name.get("1h"), by_name.get("1d")
    if hours is None or hours.frontier_ms is None or end_ms <= start_ms:
        return None
    if end_ms - start_ms <= _IN_HOURS_MS and not _has_expired(hours, start_ms):
        days = None
    tiers, raw, begin_ms = [], [], start_ms
    for tier in (days, hours):
        if tier is None or tier.frontier_ms is None or tier.frontier_ms <= begin_ms:
            continue
        if _has_expired(tier, begin_ms):
            return None  # what has no row any more may have samples, or wider rows
        span = Window(begin_ms, min(end_ms, tier.frontier_ms))
        last_ms = span.end_ms + tier.tier.width_ms - 1
        tiers.append((tier, span, tier.files.within(span.start_ms, last_ms)))
        raw += time_ranges.clip(tier.pending, span)
        begin_ms = span.end_ms
        if begin_ms == end_ms:
            break
    if begin_ms < end_ms:
        raw.append(Window(begin_ms, end_ms))
    rows: float = sum(file.rows for *_, files in tiers for file in files)
    rows += sum(view.all_files.rows_within(span.start_ms, span.end_ms) for span in raw)
    rows += sum(table.rows_within(start_ms, end_ms) for table in view.records.values())
    return None if rows > most_rows else _Plan(tiers, raw)


def _has_expired(tier: TierView, start_ms: int) -> bool:
    """Whether rows from start_ms on may have expired, of all series or of a retention class."""
    until = [mark.until_ms for mark in tier.classes]
    if tier.refused_until_ms is not None:
        until.append(tier.refused_until_ms)
    return start_ms < max(until, default=start_ms)


@dataclass(frozen=True, slots=True)
class _Seen:
    """Bits by file and window, for the rows of one index; kept in `kept`."""

    index: SeriesIndex
    kept: DecodedFiles
    check: Callable[[], None]

    def in_rollup(self, table: str, file: LiveFile) -> Mapping[int, Bits]:
        """Series with a row of the file, by the end of its window."""
        key = (table, file.path, ("seen", self.index.numbering))
        held: Mapping[int, Bits] | None = self.kept.get(key)
        if held is None:
            self.check()
            rows = self.kept.read_file(table, file.path, ["series_id", "window_end"])
            ids, ends = (rows.column(c).to_numpy() for c in ("series_id", "window_end"))
            held, is_whole = self._by_window(ids, ends)
            if is_whole:
                self.kept.put(key, held, sum(bits.nbytes for bits in held.values()) + 64)
        return held

    def in_run(self, run: SampleColumns, span: Window, *, exact: bool) -> Bits:
        """Series with a sample of the run in the span; without `exact` all of one that overlaps."""
        key = ("seen", self.index.numbering)
        held: tuple[Window, Bits] | None = run.derived.get(key)
        if held is None:
            if not run.rows:
                return _NONE
            within = Window(run.first_ms - 1, run.last_ms)
            bits, is_whole = self._bits(run.series_ids)
            held = within, bits
            if is_whole:
                run.derived[key] = held
        within, bits = held
        if within.end_ms <= span.start_ms or within.start_ms >= span.end_ms:
            return _NONE
        if not exact or (span.start_ms <= within.start_ms and within.end_ms <= span.end_ms):
            return bits
        rows = SeriesRows.empty(len(run.series_ids))
        run.find(run.series_ids, span.start_ms, span.end_ms, rows)
        return self._bits(run.series_ids[rows.high > rows.low])[0]

    def in_samples(self, file: LiveFile, span: Window) -> Bits:
        """Series with a sample of the file in the span."""
        self.check()
        rows = self.kept.read_file("samples", file.path, ["series_id", "ts"])
        ids, ts = (rows.column(c).to_numpy() for c in ("series_id", "ts"))
        return self._bits(_ids_within(ids, ts, span))[0]

    def bits_of(self, ids: I64) -> Bits:
        return self._bits(ids)[0]

    def _by_window(self, ids: I64, ends: I64) -> tuple[dict[int, Bits], bool]:
        """Bits by window, and whether all ids are in the index."""
        found, is_whole = {}, True
        for window_end in np.unique(ends).tolist():
            found[window_end], known = self._bits(np.unique(ids[ends == window_end]))
            is_whole &= known
        return found, is_whole

    def _bits(self, ids: I64) -> tuple[Bits, bool]:
        """The bits of some series, and whether all are in the index."""
        rows = self.index.rows_of(ids)
        is_known = rows >= 0
        bits = np.zeros(self.index.size, dtype=np.bool_)
        bits[rows[is_known]] = True
        return np.packbits(bits), bool(is_known.all())


def _ids_within(ids: I64, ts: I64, span: Window) -> I64:
    """The distinct ids with a time in the span."""
    found = ids[(ts > span.start_ms) & (ts <= span.end_ms)]
    return np.unique(found)


def _set(found: Bits, bits: Bits) -> None:
    """Sets the bits of another array, which may be shorter or longer, in `found`."""
    size = min(len(found), len(bits))
    np.bitwise_or(found[:size], bits[:size], out=found[:size])
