"""The batch job that forecasts series and says when resources run out.

A series is fitted again a day after its last fit, as soon as most of the hours since have left
their interval, or when history has come late. Fits are committed some at a time: a run that is
killed keeps what it has done. Every run judges all resources by their newest forecasts, and tells
of changes on the topic alerts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from varve.anomaly.baseline_job import newest_rows
from varve.anomaly.minute_values import COLUMNS, Ints, Mask, judged_kinds, minute_values
from varve.forecast import capacity
from varve.forecast.hourly import HISTORY, Hourly, hourly_of
from varve.forecast.resources import Resource
from varve.forecast.rows import FITS, FORECASTS, fit_rows, forecast_rows, newest_fits
from varve.forecast.series_forecast import (
    FORECAST,
    SKIPPED,
    SeriesForecast,
    forecast_series,
)
from varve.model.alert_event import AlertEvent
from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.errors import Conflict, NeedsOperator, TemporaryError
from varve.model.window import DAY_MS, HOUR_MS, TIERS
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.state import load
from varve.storage.store import Store
from varve.storage.table import Table

REFIT_AFTER_MS = DAY_MS
"""How long a forecast is good for at most."""

AT_ONCE = 200
"""Series that are read, fitted and committed together."""

_TIER = TIERS[2]
_LEAST_NEW_HOURS = 3
_LOOKBACK_MS = 2 * HOUR_MS


@dataclass(frozen=True, slots=True)
class FitTask:
    """One series to forecast."""

    series_id: int
    history: Hourly
    floor: float | None = None
    cap: float | None = None
    calendar: Calendar = NO_HOLIDAYS


Fit = Callable[[Sequence[FitTask]], Iterable[SeriesForecast]]
"""Forecasts series in any order, each by `forecast_series`: here, or on a cluster."""

Tell = Callable[[Sequence[AlertEvent]], None]
"""Sends alert events. Raises TemporaryError."""


@dataclass(frozen=True, slots=True)
class DueForecasts:
    """Series to forecast, by why. frontier_ms: end of the last closed hour; None for none."""

    frontier_ms: int | None
    rollup_version: int
    new: Ints
    """Never forecast before."""
    old: Ints
    """Last forecast a day ago."""
    off: Ints
    """Most of the new hours are outside of the interval."""
    grown: Ints
    """History has come since, by a tenth at least."""
    selected: int
    """Series that the resources select."""

    @property
    def series(self) -> Ints:
        return np.concatenate([self.new, self.off, self.grown, self.old])

    def as_json(self) -> Mapping[str, Any]:
        return {
            "selected": self.selected,
            "new": len(self.new),
            "old": len(self.old),
            "off": len(self.off),
            "grown": len(self.grown),
        }

    def lines(self) -> Iterable[str]:
        yield (
            f"{self.selected:,} series are selected; to be forecast: {len(self.new):,} for the"
            f" first time, {len(self.old):,} a day after the last, {len(self.off):,} as they left"
            f" their interval, {len(self.grown):,} as history has come late"
        )


@dataclass(slots=True)
class Forecasted:
    """What a run did."""

    by_model: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    """Series without a forecast, or without one of the models, by why."""
    failed: int = 0
    resources: int = 0
    """Series that were judged by a threshold."""
    breaches: int = 0
    """Of these, those whose forecast reaches it."""
    events: int = 0
    waiting: str = ""
    """Why events are still to be sent."""
    is_done: bool = True
    """False if a rival was in the way: the rest is left to the next run."""

    def as_json(self) -> Mapping[str, Any]:
        return {
            "by_model": self.by_model,
            "reasons": self.reasons,
            "failed": self.failed,
            "resources": self.resources,
            "breaches": self.breaches,
            "events": self.events,
            "waiting": self.waiting or None,
            "is_done": self.is_done,
        }

    def lines(self) -> Iterable[str]:
        for model, count in sorted(self.by_model.items()):
            yield f"{count:,} series forecast by {model}"
        for reason, count in sorted(self.reasons.items()):
            yield f"{count:,} series: {reason}"
        yield (
            f"{self.resources:,} resources judged, {self.breaches:,} run out within a week,"
            f" {self.events:,} events sent"
        )
        if self.waiting:
            yield f"events wait for the next run: {self.waiting}"
        if not self.is_done:
            yield "a rival was here: the rest is left to the next run"


class Forecasting:
    """The batch job."""

    name: ClassVar[str] = "forecast"
    tables: ClassVar[tuple[str, ...]] = ("series", _TIER.table, FITS, FORECASTS)

    def __init__(
        self,
        store: Store,
        resources: Sequence[Resource],
        fit: Fit,
        tell: Tell,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
        calendar: Calendar = NO_HOLIDAYS,
    ) -> None:
        """progress: called with the numbers of series that are done and due."""
        self._store, self._resources, self._fit = store, tuple(resources), fit
        self._tell, self._progress, self._calendar = tell, progress, calendar

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> DueForecasts:
        """now_ms is not looked at: what is due follows from the frontier of rollup_1h."""
        del now_ms
        rollup = snapshots[_TIER.table]
        frontier = self._frontier(rollup)
        none = np.empty(0, np.int64)
        series = snapshots["series"].scan(Bounds(), ("series_id", "metric", "tags", "type"))
        selected = capacity.selected_ids(series, self._resources)
        if frontier is None:
            return DueForecasts(None, rollup.version, none, none, none, none, len(selected))
        last = newest_fits(snapshots[FITS], selected)
        ids, fitted = last["series_id"].to_numpy(), last["fitted_at"].to_numpy()
        new = np.setdiff1d(selected, ids)
        # A series that had too little history may have enough in an hour.
        again = np.array([status != FORECAST for status in last["status"].to_pylist()], np.bool_)
        is_old = (frontier - fitted >= REFIT_AFTER_MS) | (again & (frontier > fitted))
        rest = ids[~is_old]
        grown = rest[self._has_grown(rollup, last.filter(pa.array(~is_old)), frontier)]
        off = self._off(snapshots[FORECASTS], rollup, np.setdiff1d(rest, grown), frontier)
        return DueForecasts(frontier, rollup.version, new, ids[is_old], off, grown, len(selected))

    def run(self, work: DueForecasts) -> Forecasted:
        """Raises OSError if the storage fails: what is committed stays done."""
        done = Forecasted()
        if work.frontier_ms is None:
            return done
        try:
            ids = work.series
            for start in range(0, len(ids), AT_ONCE):
                self._progress(start, len(ids))
                self._forecast(np.sort(ids[start : start + AT_ONCE]), work, done)
            self._progress(len(ids), len(ids))
            self._judge(work, done)
        except Conflict:
            done.is_done = False
        return done

    def _forecast(self, ids: Ints, work: DueForecasts, done: Forecasted) -> None:
        """Fits some series and commits what became of them."""
        frontier = work.frontier_ms or 0
        histories = self._histories(ids, work.rollup_version, frontier, HISTORY)
        tasks, outcomes = [], []
        bounds = self._bounds(ids)
        for series_id in ids.tolist():
            history = histories.get(series_id)
            if history is None or frontier - history.end_ms >= DAY_MS:
                outcomes.append(_skipped(series_id, history))
            else:
                limits = bounds.get(series_id, (None, None))
                tasks.append(FitTask(series_id, history, *limits, self._calendar))
        outcomes += self._fit(tasks)
        outcomes.sort(key=lambda outcome: outcome.series_id)
        self._append(FORECASTS, forecast_rows(outcomes))
        self._append(FITS, fit_rows(outcomes, frontier))
        for outcome in outcomes:
            if outcome.status == FORECAST:
                done.by_model[outcome.model] = done.by_model.get(outcome.model, 0) + 1
            else:
                done.failed += outcome.status != SKIPPED
            if outcome.reason:
                done.reasons[outcome.reason] = done.reasons.get(outcome.reason, 0) + 1

    def _judge(self, work: DueForecasts, done: Forecasted) -> None:
        judged = capacity.judge(
            self._store, self._resources, self._last_values, work.frontier_ms or 0
        )
        self._append(capacity.TABLE, judged.rows)
        done.resources = judged.rows.num_rows
        done.breaches = judged.breaches
        try:
            done.events = capacity.tell_changes(self._store, self._resources, self._tell)
        except TemporaryError as err:
            done.waiting = str(err)

    def _append(self, name: str, rows: pa.Table) -> None:
        """One commit with some rows, unless there are none."""
        if not rows.num_rows:
            return
        table, turn = Table(self._store, name), positions.turn(name)
        held = table.position(turn)
        file = write_file(self._store, name, rows)
        commit(table, [file], transactions={turn: Step(held, 0 if held is None else held + 1)})

    def _histories(self, ids: Ints, version: int, until_ms: int, hours: int) -> dict[int, Hourly]:
        """Numbers of the last hours of some series; none of a series without any."""
        if not len(ids):
            return {}
        bounds = Bounds(until_ms - hours * HOUR_MS - _LOOKBACK_MS - HOUR_MS, until_ms, ids)
        source = snapshot(self._store, _TIER.table, version)
        rows = newest_rows(source.scan(bounds, COLUMNS))
        numbers = minute_values(
            rows, self._rate_ids(ids), width_ms=HOUR_MS, lookback_ms=_LOOKBACK_MS
        )
        return hourly_of(numbers.within(until_ms - hours * HOUR_MS, until_ms))

    def _last_values(self, ids: Ints, frontier_ms: int) -> dict[int, tuple[int, float]]:
        """End and number of the last hour of some series, of the last day."""
        version = Table(self._store, _TIER.table).version
        found = self._histories(ids, version, frontier_ms, 24)
        return {i: (h.end_ms, float(h.values[-1])) for i, h in found.items()}

    def _rate_ids(self, ids: Ints) -> Ints:
        rows = snapshot(self._store, "series").scan(
            Bounds(series_ids=ids), ("series_id", "metric", "tags", "type")
        )
        known, is_rate = judged_kinds(rows)
        return known[is_rate]

    def _bounds(self, ids: Ints) -> dict[int, tuple[float | None, float | None]]:
        """floor and cap by series, of those that have any."""
        given = [r for r in self._resources if r.floor is not None or r.cap is not None]
        if not given:
            return {}
        rows = snapshot(self._store, "series").scan(
            Bounds(series_ids=ids), ("series_id", "metric", "tags")
        )
        found: dict[int, tuple[float | None, float | None]] = {}
        for resource in given:
            chosen = rows.filter(resource.matcher.select(rows))["series_id"].to_pylist()
            for series_id in chosen:
                found.setdefault(series_id, (resource.floor, resource.cap))
        return found

    def _has_grown(self, rollup: Snapshot, fits: pa.Table, frontier_ms: int) -> Mask:
        """Of the series of some fits, which have a tenth more hours than were there, and have come
        since.
        """
        if not fits.num_rows:
            return np.empty(0, np.bool_)
        ids = fits["series_id"].to_numpy()
        bounds = Bounds(frontier_ms - HISTORY * HOUR_MS, frontier_ms, ids)
        rows = newest_rows(rollup.scan(bounds, ("series_id", "window_end", "revision")))
        found = np.searchsorted(rows["series_id"].to_numpy(), ids, "right")
        found -= np.searchsorted(rows["series_id"].to_numpy(), ids, "left")
        since = (frontier_ms - fits["fitted_at"].to_numpy()) // HOUR_MS
        grown: Mask = found > 1 + 1.1 * (fits["hours"].to_numpy() + since)
        return grown

    def _off(self, forecasts: Snapshot, rollup: Snapshot, ids: Ints, frontier_ms: int) -> Ints:
        """Of some series those most of whose new hours are outside of their interval."""
        if not len(ids):
            return ids
        rows = forecasts.scan(
            Bounds(frontier_ms - REFIT_AFTER_MS, frontier_ms, ids),
            ("series_id", "ts", "lower", "upper", "trained_until"),
        )
        if not rows.num_rows:
            return np.empty(0, np.int64)
        newest: dict[tuple[int, int], dict[str, Any]] = {}
        for row in rows.to_pylist():
            key = row["series_id"], row["ts"]
            if key not in newest or row["trained_until"] > newest[key]["trained_until"]:
                newest[key] = row
        actual = self._histories(
            np.unique(rows["series_id"].to_numpy()), rollup.version, frontier_ms, 24
        )
        outside: dict[int, list[bool]] = {}
        for (series_id, ts), row in newest.items():
            history = actual.get(series_id)
            if history is None:
                continue
            at = len(history.values) - 1 - (history.end_ms - ts) // HOUR_MS
            if 0 <= at < len(history.values) and not np.isnan(value := history.values[at]):
                is_off = not row["lower"] <= value <= row["upper"]
                outside.setdefault(series_id, []).append(is_off)
        found = [
            series_id
            for series_id, hours in outside.items()
            if len(hours) >= _LEAST_NEW_HOURS and 2 * sum(hours) > len(hours)
        ]
        return np.array(sorted(found), np.int64)

    def _frontier(self, seen: Snapshot) -> int | None:
        """As of the snapshot."""
        state = load(self._store, seen.table, version=seen.version, files=False)
        if state is None:
            raise NeedsOperator(f"no table {seen.table} under {self._store.root}")
        return state.positions.get(positions.frontier(_TIER.name))


def _skipped(series_id: int, history: Hourly | None) -> SeriesForecast:
    """A series without hours to fit to."""
    end_ms = 0 if history is None else history.end_ms
    reason = "it has no closed hour yet" if history is None else "it has ended a day ago"
    nothing = np.empty(0)
    return SeriesForecast(
        *(series_id, end_ms, 0, SKIPPED, reason, "", None, None, 0.0),
        *(nothing, nothing, nothing),
    )


def fit_here(tasks: Sequence[FitTask]) -> Iterator[SeriesForecast]:
    """Forecasts series one after the other in this process."""
    for task in tasks:
        yield forecast_series(
            task.series_id,
            task.history,
            floor=task.floor,
            cap=task.cap,
            calendar=task.calendar,
        )
