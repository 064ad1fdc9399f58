"""The batch job that keeps features and baselines: hours that have closed, or were repaired since.

The table features has its position beside its rows: `frontier:features`, the end of the last hour
it has, and `source:features`, the version of rollup_1m up to which every repair is in it. So a run
reads the minutes of new and of repaired hours only, and a crash costs what was not committed. The
baselines follow from the features alone and are appended anew as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from varve.anomaly.baselines import HISTORY_HOURS, baseline_rows
from varve.anomaly.day_feature_job import bring_day_features
from varve.anomaly.hour_features import RANGES, as_hours, empty_hours, hour_features
from varve.anomaly.minute_values import (
    COLUMNS,
    LOOKBACK_MS,
    Ints,
    Mask,
    judged_kinds,
    minute_values,
)
from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.clock import utc_text
from varve.model.errors import Conflict, NeedsOperator
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS, Window, floor_to
from varve.rollups.late_rows import log_since
from varve.rollups.task import touched_windows
from varve.rollups.window_keys import in_windows, isin, newest_revisions, unique_keys
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, Step, commit, rewrite
from varve.storage.files import NewFile, write_file
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.state import load
from varve.storage.store import Store
from varve.storage.table import Table

FEATURES, BASELINES = "features", "baselines"

PIECE_ROWS = 4_000_000
"""Minutes that are in memory at once; about 0.5 GB."""

_MINUTES, _FIVE, _HOURS = TIERS[0], TIERS[1], TIERS[2]
_NOTHING = np.empty((0, 2), np.int64)


@dataclass(frozen=True, slots=True)
class DueFeatures:
    """Hours that have to be computed."""

    source_version: int
    """Version of rollup_1m they are computed from."""
    features_version: int
    steps: Mapping[str, Step]
    new: Window | None
    """Hours that have closed since the last run, of all series."""
    repaired: Ints
    """series_id and end of the hours before these that were repaired; shape (n, 2), sorted."""
    suspect: tuple[Window, ...] = ()
    """Hours before these of which it is not known which were repaired: the log has expired."""

    def as_json(self) -> Mapping[str, Any]:
        new = self.new
        return {
            "new_hours": 0 if new is None else (new.end_ms - new.start_ms) // HOUR_MS,
            "until_ms": None if new is None else new.end_ms,
            "repaired_hours": len(self.repaired),
            "suspect_hours": sum((w.end_ms - w.start_ms) // HOUR_MS for w in self.suspect),
        }

    def lines(self) -> Iterable[str]:
        if self.new is not None:
            hours = (self.new.end_ms - self.new.start_ms) // HOUR_MS
            yield f"{hours:,} hours have closed, the last at {utc_text(self.new.end_ms)}"
        if len(self.repaired):
            yield f"{len(self.repaired):,} hours of single series were repaired"
        if self.suspect:
            yield "the log of rollup_1m has expired: all hours that it told of are computed again"
        if self.new is None and not len(self.repaired) and not self.suspect:
            yield "no hour has closed or was repaired"


@dataclass(frozen=True, slots=True)
class BaselinesKept:
    """What a run did."""

    hours: int
    """Rows of features that were written."""
    series: int
    """Series that have a baseline."""
    seasonal: Mapping[str, int]
    """Of these, by season."""
    robust: int
    """Of these, those whose mean would be poisoned."""
    is_done: bool = True
    """False if a rival was in the way: left to the next run."""

    def as_json(self) -> Mapping[str, Any]:
        return {
            "hours": self.hours,
            "series": self.series,
            "seasonal": dict(self.seasonal),
            "robust": self.robust,
            "is_done": self.is_done,
        }

    def lines(self) -> Iterable[str]:
        if not self.is_done:
            yield "a rival was here: the rest is left to the next run"
            return
        day, week = self.seasonal.get("day", 0), self.seasonal.get("week", 0)
        yield (
            f"{self.hours:,} hours written; {self.series:,} series have a baseline, {day:,} by the"
            f" hour of the day, {week:,} by the hour of the week, {self.robust:,} from medians"
        )


class Baselines:
    """The batch job: brings features and baselines up to the last closed hour."""

    name: ClassVar[str] = "baseline"
    tables: ClassVar[tuple[str, ...]] = (_MINUTES.table, FEATURES)

    def __init__(
        self, store: Store, calendar: Calendar = NO_HOLIDAYS, *, piece_rows: int = PIECE_ROWS
    ) -> None:
        self._store, self._calendar, self._piece_rows = store, calendar, piece_rows

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> DueFeatures:
        """now_ms is not looked at: what is due follows from the frontier of rollup_1m."""
        del now_ms
        source, target = snapshots[_MINUTES.table], snapshots[FEATURES]
        held = self._positions(target)
        reached, version = (held.get(name) for name in _OWN)
        frontier = self._positions(source).get(positions.frontier(_MINUTES.name))
        end = None if frontier is None else floor_to(frontier, HOUR_MS)
        oldest = None if end is None else end - HISTORY_HOURS * HOUR_MS
        steps = {_OWN[1]: Step(version, max(source.version, version or 0))}
        if end is None or oldest is None or not source.files:
            return DueFeatures(source.version, target.version, steps, None, _NOTHING)
        first = floor_to(int(source.zones.first_ms.min()) - 1, HOUR_MS)
        begin = max(oldest, first) if reached is None else max(oldest, reached)
        new = Window(begin, end) if begin < end else None
        steps[_OWN[0]] = Step(reached, max(end, reached or 0))
        repaired = _NOTHING
        suspect: tuple[Window, ...] = ()
        if reached is not None and version is not None and reached > oldest:
            repaired, suspect = self._repaired(source, version, Window(oldest, reached))
        return DueFeatures(source.version, target.version, steps, new, repaired, suspect)

    def run(self, work: DueFeatures) -> BaselinesKept:
        """Raises OSError if the storage fails: what is committed stays done."""
        try:
            hours = self._write_features(work)
            end = Table(self._store, FEATURES).position(_OWN[0])
            if end is not None:
                bring_day_features(self._store, end, piece_rows=self._piece_rows)
            return self._write_baselines(hours)
        except Conflict:
            return BaselinesKept(0, 0, {}, 0, is_done=False)

    def _positions(self, seen: Snapshot) -> Mapping[str, int]:
        """As of the snapshot: a frontier read later might be beyond its rows."""
        state = load(self._store, seen.table, version=seen.version, files=False)
        if state is None:
            raise NeedsOperator(f"no table {seen.table} under {self._store.root}")
        return state.positions

    def _repaired(
        self, source: Snapshot, after: int, within: Window
    ) -> tuple[Ints, tuple[Window, ...]]:
        """Hours that rows which came after a version of rollup_1m are about."""
        unknown_to, log = log_since(self._store, source.table, after, source.version)
        if unknown_to > after:
            return _NOTHING, (within,)
        files = [file for entry in log for file in entry.adds]
        try:
            keys = touched_windows(source, files, _FIVE, within.end_ms)
        except FileNotFoundError:  # merged and deleted since
            return _NOTHING, (within,)
        ends = -(-keys[:, 1] // HOUR_MS) * HOUR_MS
        # The rate of the next hour's first minutes begins with the last of this one.
        following = keys[:, 1] == ends
        both = np.concatenate(
            [
                np.stack([keys[:, 0], ends], axis=1),
                np.stack([keys[following, 0], ends[following] + HOUR_MS], axis=1),
            ]
        )
        both = both[(both[:, 1] > within.start_ms) & (both[:, 1] <= within.end_ms)]
        if not len(both):
            return _NOTHING, ()
        return unique_keys(both), ()

    def _write_features(self, work: DueFeatures) -> int:
        source = snapshot(self._store, _MINUTES.table, work.source_version)
        ids, is_rate = self._kinds()
        rate_ids = ids[is_rate]
        files: list[NewFile] = []
        for window in work.suspect:
            for part in self._pieces(window, len(ids)):
                files += self._features_of(source, part, ids, rate_ids, self._held(part, ids))
        if work.new is not None:
            for part in self._pieces(work.new, len(ids)):
                files += self._features_of(source, part, ids, rate_ids, _NOTHING)
        if len(work.repaired):
            ends = work.repaired[:, 1]
            for end in np.unique(-(-ends // DAY_MS) * DAY_MS).tolist():
                day = Window(end - DAY_MS, end)
                keys = work.repaired[(ends > day.start_ms) & (ends <= day.end_ms)]
                files += self._features_of(source, day, ids, rate_ids, self._held(day, ids), keys)
        table = Table(self._store, FEATURES)
        if files or any(step.expected != step.new for step in work.steps.values()):
            commit(table, files, transactions=work.steps, metadata={"hours": _rows_of(files)})
        return _rows_of(files)

    def _pieces(self, window: Window, series: int) -> Iterator[Window]:
        """Parts of some hours that fit into memory: as many hours at once as their rows allow."""
        hours = max(1, self._piece_rows // max(1, series * 60))
        start = window.start_ms
        while start < window.end_ms:
            end = min(start + hours * HOUR_MS, window.end_ms)
            yield Window(start, end)
            start = end

    def _features_of(
        self,
        source: Snapshot,
        window: Window,
        ids: Ints,
        rate_ids: Ints,
        held: Ints,
        keys: Ints | None = None,
    ) -> list[NewFile]:
        """One file with the hours of a window; of those in `keys` only, if given. held: hours of it
        that have a row. Where a repair has left none of their minutes, they get one that says so.
        """
        wanted = ids if keys is None else np.intersect1d(np.unique(keys[:, 0]), ids)
        bounds = Bounds(window.start_ms - LOOKBACK_MS - MINUTE_MS, window.end_ms, series_ids=wanted)
        rows = newest_rows(source.scan(bounds, COLUMNS, threads=1))
        minutes = minute_values(rows, rate_ids).within(window.start_ms, window.end_ms)
        ordered = np.ascontiguousarray(_NOTHING if keys is None else keys)
        if keys is not None and len(minutes.ends):
            minutes = minutes.where(in_windows(minutes.series_ids, minutes.ends, HOUR_MS, ordered))
        found = hour_features(minutes, rate_ids, source.version)
        held = held if keys is None else held[_among(held, ordered)]
        gone = held[~_among(held, _keys_of(found))]
        if len(gone):
            found = pa.concat_tables([found, empty_hours(gone, rate_ids, source.version)])
            found = found.sort_by([("series_id", "ascending"), ("window_end", "ascending")])
        return [write_file(self._store, FEATURES, found)] if found.num_rows else []

    def _held(self, window: Window, ids: Ints) -> Ints:
        """series_id and end of the hours of a window that have a row; shape (n, 2), sorted."""
        bounds = Bounds(window.start_ms, window.end_ms, ids)
        rows = snapshot(self._store, FEATURES).scan(bounds, ("series_id", "window_end"))
        keys = _keys_of(rows)
        return unique_keys(keys) if len(keys) else _NOTHING

    def _kinds(self) -> tuple[Ints, Any]:
        series = snapshot(self._store, "series").scan(
            Bounds(), ("series_id", "metric", "tags", "type")
        )
        return judged_kinds(series)

    def _write_baselines(self, hours: int) -> BaselinesKept:
        features = snapshot(self._store, FEATURES)
        table = Table(self._store, BASELINES, files=True)
        held = table.position(positions.source(BASELINES))
        held_end = table.position(positions.frontier(BASELINES))
        end = self._positions(features).get(_OWN[0])
        replaced = [
            Removal(f.path, f.size, rows_disappear=True) for f in table.live_files().values()
        ]
        counts: dict[str, set[int]] = {"day": set(), "week": set(), "median": set(), "": set()}
        files = []
        # Hours without a sample move the days that a baseline is about, too.
        if end is not None and (end != held_end or self._has_news(features, held)):
            for rows in self._baseline_parts(features, end):
                files.append(write_file(self._store, BASELINES, rows))
                _count(rows, counts)
            if files or replaced:
                steps = {
                    positions.source(BASELINES): Step(held, features.version),
                    positions.frontier(BASELINES): Step(held_end, end),
                }
                commit(table, files, transactions=steps)
            if replaced:
                rewrite(table, [], replaced)
        else:
            rows = snapshot(self._store, BASELINES).scan(
                Bounds(), ("series_id", "season", "method")
            )
            _count(rows, counts)
        seasonal = {name: len(counts[name]) for name in ("day", "week")}
        return BaselinesKept(hours, len(counts[""]), seasonal, len(counts["median"]))

    def _has_news(self, features: Snapshot, since: int | None) -> bool:
        """Whether hours have come since the baselines were computed from a version."""
        if since is None:
            return bool(features.files)
        unknown_to, log = log_since(self._store, FEATURES, since, features.version)
        return unknown_to > since or any(entry.adds for entry in log)

    def _baseline_parts(self, features: Snapshot, end_ms: int) -> Iterator[pa.Table]:
        """Baselines of ranges of series that fit into memory."""
        bounds = Bounds(end_ms - HISTORY_HOURS * HOUR_MS, end_ms)
        ids = np.unique(features.scan(bounds, ["series_id"])["series_id"].to_numpy())
        at_once = max(1, self._piece_rows // (4 * HISTORY_HOURS))
        columns = (
            "series_id",
            "window_end",
            "is_rate",
            "minutes",
            "mean",
            "m2",
            *RANGES,
            "revision",
        )
        for start in range(0, len(ids), at_once):
            part = ids[start : start + at_once]
            within = Bounds(bounds.start_ms, bounds.end_ms, series=(int(part[0]), int(part[-1])))
            rows = newest_rows(features.scan(within, columns, threads=1))
            hours = as_hours(rows, end_ms, HISTORY_HOURS, self._calendar)
            first = np.searchsorted(rows["series_id"].to_numpy(), hours.series_ids)
            is_rate = rows["is_rate"].to_numpy(zero_copy_only=False)[first]
            found = baseline_rows(hours, is_rate, features.version)
            if found.num_rows:
                yield found


_OWN = (positions.frontier(FEATURES), positions.source(FEATURES))


def newest_rows(rows: pa.Table) -> pa.Table:
    """The greatest revision of each window, sorted by (series_id, window_end). rows: as they were
    read, with the columns series_id, window_end and revision.
    """
    keys = [np.ascontiguousarray(rows[c].to_numpy()) for c in _KEYS]
    return rows.take(newest_revisions(*keys))


_KEYS = ("series_id", "window_end", "revision")


def _keys_of(rows: pa.Table) -> Ints:
    """series_id and window_end of rows, shape (n, 2)."""
    columns = [rows[name].to_numpy() for name in ("series_id", "window_end")]
    return np.ascontiguousarray(np.stack(columns, axis=1))


def _among(keys: Ints, others: Ints) -> Mask:
    """Which keys are among others; both sorted, shape (n, 2)."""
    ids, ends = (np.ascontiguousarray(keys[:, column]) for column in (0, 1))
    found: Mask = isin(ids, ends, others)
    return found


def _rows_of(files: Iterable[NewFile]) -> int:
    return sum(file.rows for file in files)


def _count(rows: pa.Table, counts: dict[str, set[int]]) -> None:
    for series_id, season, method in zip(
        rows["series_id"].to_pylist(),
        rows["season"].to_pylist(),
        rows["method"].to_pylist(),
        strict=True,
    ):
        counts[""].add(series_id)
        for name in (season, method):
            if name in counts:
                counts[name].add(series_id)
