"""The number that each minute of a series is judged by: its mean, or the rate of a counter.

Pure: rows of rollup_1m in, columns out. docs/anomalies.md says the same for users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varve.model.window import MINUTE_MS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LOOKBACK_MS = 5 * MINUTE_MS
"""How old the sample may be that the growth of a counter's minute is counted from. As an instant
selector of PromQL: a counter that was away for longer begins anew."""

COLUMNS = (
    *("series_id", "window_end", "count", "nan_count", "sum", "sum_error", "first_ts"),
    *("first_value", "last_ts", "last_value", "reset_correction", "resets", "stale_ts", "revision"),
)
"""Columns of rollup_1m that are read."""

_COUNTING = ("_total", "_count", "_sum")


@dataclass(frozen=True, slots=True)
class MinuteValues:
    """Numbers of minutes, sorted by (series_id, window_end); every array has one entry for each.

    Minutes without a finite number are left out.
    """

    series_ids: Ints
    ends: Ints
    values: Floats
    resets: Ints

    def with_silence(self, series_ids: Ints, ends: Ints) -> MinuteValues:
        """With more minutes, whose number is NaN: those of a series that should have had one."""
        ids, at = np.append(self.series_ids, series_ids), np.append(self.ends, ends)
        values = np.append(self.values, np.full(len(ends), np.nan))
        resets = np.append(self.resets, np.zeros(len(ends), np.int64))
        order = np.lexsort((at, ids))
        return MinuteValues(ids[order], at[order], values[order], resets[order])

    def within(self, start_ms: int, end_ms: int) -> MinuteValues:
        """Those that end in (start_ms, end_ms]."""
        return self.where((self.ends > start_ms) & (self.ends <= end_ms))

    def where(self, mask: Mask) -> MinuteValues:
        """Those that the mask selects."""
        return MinuteValues(
            self.series_ids[mask], self.ends[mask], self.values[mask], self.resets[mask]
        )


def judged_kinds(series: pa.Table) -> tuple[Ints, Mask]:
    """The ids, sorted, of the series that are judged, and whether each is judged by its rate.

    series: columns series_id, metric, tags and type. A counter is judged by its rate: a series of
    that type, the sum and the count of a histogram or summary, and what has no type but a name that
    ends in _total, _count or _sum. The buckets of a histogram are not judged: each says little, and
    all of them the same. Record a quantile, which is.
    """
    metric, kind = series["metric"], pc.fill_null(series["type"], "unknown")
    by_name = pc.match_substring_regex(metric, f"(?:{'|'.join(_COUNTING)})$")
    untyped = pc.is_in(kind, pa.array(["unknown", "", "histogram", "summary"]))
    is_rate = pc.or_(pc.equal(kind, "counter"), pc.and_(untyped, by_name))
    has_bound = pc.is_valid(pc.map_lookup(series["tags"], "le", "first"))
    is_bucket = pc.and_(pc.ends_with(metric, "_bucket"), has_bound)
    ids = series["series_id"].to_numpy()
    rates = is_rate.to_numpy(zero_copy_only=False) if len(ids) else np.empty(0, np.bool_)
    kept = ~is_bucket.to_numpy(zero_copy_only=False) if len(ids) else np.empty(0, np.bool_)
    unique, first = np.unique(ids[kept], return_index=True)
    return unique, rates[kept][first]


def minute_values(
    rows: pa.Table, rate_ids: Ints, *, width_ms: int = MINUTE_MS, lookback_ms: int = LOOKBACK_MS
) -> MinuteValues:
    """The numbers of minutes, or of the windows of another tier of that width.

    rows: COLUMNS of rollup_1m, the newest revision of each window only, sorted by
    (series_id, window_end). rate_ids: series that are judged by their rate, sorted; the first
    minutes of these are only right if rows begin lookback_ms and a window before what is wanted.
    """
    columns = {name: _numbers(rows, name) for name in COLUMNS}
    ids, ends = columns["series_id"].astype(np.int64), columns["window_end"].astype(np.int64)
    numbers = columns["count"] - columns["nan_count"]
    with np.errstate(all="ignore"):
        values = (columns["sum"] + columns["sum_error"]) / numbers
        is_rate = np.isin(ids, rate_ids)
        if is_rate.any():
            values = np.where(is_rate, _rates(ids, ends - width_ms - lookback_ms, columns), values)
    usable = (numbers > 0) & np.isfinite(values)
    resets = columns["resets"].astype(np.int64)
    return MinuteValues(ids[usable], ends[usable], values[usable], resets[usable])


def _rates(ids: Ints, since: Ints, columns: dict[str, Floats]) -> Floats:
    """Growth per second since the last sample before each window, if that is later than `since`;
    NaN where there is none.
    """
    first_ts, last_ts = columns["first_ts"], columns["last_ts"]
    first, last = columns["first_value"], columns["last_value"]
    inside = last - first + columns["reset_correction"]
    own = inside / (last_ts - first_ts) * 1000
    before = _previous(ids, columns["count"] > 0)
    there = before >= 0
    at = np.where(there, before, 0)
    # A window may have nothing but the end of the series.
    stale_ts = np.nan_to_num(columns["stale_ts"], nan=-np.inf)
    marked = np.maximum(_previous(ids, np.isfinite(stale_ts)), 0)
    ended = (marked >= at) & (stale_ts[marked] > last_ts[at])
    recent = last_ts[at] > since
    joined = there & recent & ~ended
    step = np.where(first >= last[at], first - last[at], first)
    spanning = (inside + step) / (last_ts - last_ts[at]) * 1000
    return np.where(joined, spanning, np.where(columns["count"] > 1, own, np.nan))


def _previous(ids: Ints, chosen: Mask) -> Ints:
    """Index of the nearest earlier chosen row of the same series; -1 if there is none."""
    here = np.arange(len(ids))
    newest = np.maximum.accumulate(np.where(chosen, here, -1))
    before = np.empty(len(ids), np.int64)
    before[:1], before[1:] = -1, newest[:-1]
    same = (before >= 0) & (ids[np.maximum(before, 0)] == ids)
    return np.where(same, before, -1)


def _numbers(rows: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """A column as numbers, NaN for NULL; whole ones stay whole where none is NULL."""
    column = rows.column(name)
    if column.null_count:
        column = column.cast(pa.float64())
    found: npt.NDArray[np.float64] = column.to_numpy()
    return found
