"""Judges resources by the newest forecasts of their series, and tells when that changes.

A row of the table capacity is an effect to come and its claim: who has told of the rows up to which
hour is the position `told:capacity`. A crash between telling and that commit tells again, with the
same identities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from varve.anomaly.minute_values import Ints
from varve.forecast.breach import CLEAR, FIRING, find_breach
from varve.forecast.hourly import HORIZON
from varve.forecast.resources import Resource, Threshold
from varve.forecast.rows import FORECASTS
from varve.model.alert_event import NAME_LABEL, AlertEvent
from varve.model.clock import utc_text
from varve.model.identity import identify
from varve.model.schema import table_schema
from varve.model.window import DAY_MS, HOUR_MS
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table

TABLE = "capacity"
ALERT = "CapacityRunsOut"

_TOLD = "told:capacity"

LastValues = Callable[[Ints, int], dict[int, tuple[int, float]]]
"""End and number of the last hour of some series, as of a frontier."""

Series = tuple[str, dict[str, str]]
"""Metric and tags."""


@dataclass(frozen=True, slots=True)
class Judged:
    """New rows of the table capacity. breaches: those whose forecast reaches the threshold."""

    rows: pa.Table
    breaches: int


def selected_ids(series: pa.Table, resources: Sequence[Resource]) -> Ints:
    """Ids, sorted, of the series that a resource selects. series: columns metric and tags, too."""
    ids = series["series_id"].to_numpy()
    chosen = np.zeros(len(ids), np.bool_)
    for resource in resources:
        chosen |= resource.matcher.select(series).to_numpy(zero_copy_only=False)
    return np.unique(ids[chosen])


def judge(
    store: Store, resources: Sequence[Resource], last_values: LastValues, frontier_ms: int
) -> Judged:
    """Judges every series of a resource with a threshold that has a forecast for now."""
    series = snapshot(store, "series").scan(Bounds(), ("series_id", "metric", "tags"))
    before = newest(store)
    rows: list[dict[str, Any]] = []
    for resource in resources:
        if resource.threshold is None or not series.num_rows:
            continue
        chosen = series.filter(resource.matcher.select(series))
        named = {
            i: (metric, dict(tags))
            for i, metric, tags in zip(
                *(chosen[name].to_pylist() for name in ("series_id", "metric", "tags")), strict=True
            )
        }
        ids = np.array(sorted(named), np.int64)
        forecasts = newest_forecasts(store, ids, frontier_ms)
        there = np.array(sorted(forecasts), np.int64)
        last = last_values(there, frontier_ms)
        levels = _levels(
            resource.threshold, {i: named[i] for i in forecasts}, last_values, frontier_ms
        )
        for series_id in there.tolist():
            if series_id not in last:
                continue
            level, reason = levels[series_id]
            row = _row(resource, forecasts[series_id], level, last[series_id][1], frontier_ms)
            held = before.get((series_id, resource.name))
            same = held is not None and held["state"] == row["state"]
            since = held["since"] if held is not None and same else frontier_ms
            rows.append({"series_id": series_id, **row, "since": since, "reason": reason})
    rows.sort(key=lambda row: (row["series_id"], row["resource"]))
    table = pa.Table.from_pylist(rows, table_schema(TABLE).arrow)
    return Judged(table, sum(row["reaches_at"] is not None for row in rows))


def newest(store: Store, series: Ints | None = None) -> dict[tuple[int, str], dict[str, Any]]:
    """The last row of each series and resource."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for row in snapshot(store, TABLE).scan(Bounds(series_ids=series)).to_pylist():
        key = row["series_id"], row["resource"]
        if key not in found or row["evaluated_at"] >= found[key]["evaluated_at"]:
            found[key] = row
    return found


def tell_changes(
    store: Store,
    resources: Sequence[Resource],
    tell: Callable[[Sequence[AlertEvent]], None],
) -> int:
    """Sends an alert event for each change of state that was not told of yet; how many.

    Raises TemporaryError if they cannot be sent: the next call sends them.
    """
    table = Table(store, TABLE)
    told = table.position(_TOLD)
    rows = snapshot(store, TABLE).scan(Bounds(start_ms=told)).to_pylist()
    if not rows:
        return 0
    silent = {resource.name for resource in resources if not resource.alert}
    changed = [row for row in rows if row["since"] == row["evaluated_at"]]
    ids = np.unique(np.array([row["series_id"] for row in changed], np.int64))
    named = named_series(store, ids)
    events = []
    earlier: dict[tuple[int, str], str] = {}
    before = snapshot(store, TABLE).scan(Bounds(end_ms=told, series_ids=ids)) if told else None
    for row in sorted(before.to_pylist() if before else [], key=lambda row: row["evaluated_at"]):
        earlier[row["series_id"], row["resource"]] = row["state"]
    for row in sorted(changed, key=lambda row: (row["evaluated_at"], row["series_id"])):
        key = row["series_id"], row["resource"]
        was, earlier[key] = earlier.get(key, CLEAR), row["state"]
        fires, fired = row["state"] == FIRING, was == FIRING
        if row["resource"] not in silent and fires != fired and row["series_id"] in named:
            events.append(event_of(row, named[row["series_id"]]))
    if events:
        tell(events)
    newest_ms = max(row["evaluated_at"] for row in rows)
    commit(table, [], transactions={_TOLD: Step(told, newest_ms)}, metadata={"events": len(events)})
    return len(events)


def event_of(row: Mapping[str, Any], series: Series) -> AlertEvent:
    """The alert event of a row of capacity, which began or ended to reach its threshold."""
    metric, tags = series
    labels = {**tags, NAME_LABEL: ALERT, "resource": row["resource"], "metric": metric}
    if row["state"] != FIRING:
        return AlertEvent(labels, "resolved", row["since"], row["evaluated_at"], value=row["value"])
    days = (row["reaches_at"] - row["evaluated_at"]) / DAY_MS
    summary = (
        f"{metric} is forecast to be {row['reached']} {row['threshold']:g} in {days:.1f} days, at"
        f" {utc_text(row['reaches_at'])}"
    )
    return AlertEvent(
        labels, "firing", row["since"], row["evaluated_at"], {"summary": summary}, row["value"]
    )


def _row(
    resource: Resource,
    forecast: pa.Table,
    level: float,
    value: float,
    frontier_ms: int,
) -> dict[str, Any]:
    breach, state = None, CLEAR
    if math.isfinite(level):
        columns = [forecast[name].to_numpy() for name in ("ts", "value", "lower", "upper")]
        breach = find_breach(*columns, threshold=level, reached=resource.reached)
        state = breach.state
    return {
        "threshold": level,
        "reaches_at": None if breach is None else breach.reaches_at,
        "earliest_at": None if breach is None else breach.earliest_at,
        "horizon_ms": HORIZON * HOUR_MS,
        "trained_until": forecast["trained_until"][0].as_py(),
        "resource": resource.name,
        "reached": resource.reached,
        "value": value,
        "probability": 0.0 if breach is None else breach.probability,
        "state": state,
        "evaluated_at": frontier_ms,
    }


def newest_forecasts(store: Store, ids: Ints, after_ms: int) -> dict[int, pa.Table]:
    """What the newest forecast of each series says of the hours after a time, in their order."""
    if not len(ids):
        return {}
    rows = snapshot(store, FORECASTS).scan(Bounds(after_ms, None, ids))
    order = [("series_id", "ascending"), ("trained_until", "descending"), ("ts", "ascending")]
    rows = rows.sort_by(order)
    found = {}
    series, trained = rows["series_id"].to_numpy(), rows["trained_until"].to_numpy()
    unique, starts = np.unique(series, return_index=True)
    ends = [*starts[1:].tolist(), len(series)][: len(starts)]
    for series_id, low, high in zip(unique.tolist(), starts.tolist(), ends, strict=True):
        count = int((trained[low:high] == trained[low]).sum())
        found[series_id] = rows.slice(low, count)
    return found


def _levels(
    threshold: Threshold,
    series: Mapping[int, Series],
    last_values: LastValues,
    frontier_ms: int,
) -> dict[int, tuple[float, str]]:
    """The level of each series, and why there is none."""
    if not threshold.metric:
        return dict.fromkeys(series, (threshold.times, ""))
    wholes = {i: identify(threshold.metric, tags)[0] for i, (_, tags) in series.items()}
    last = last_values(np.unique(np.array(list(wholes.values()), np.int64)), frontier_ms)
    return {
        i: (last[whole][1] * threshold.times, "")
        if whole in last
        else (math.nan, f"no {threshold.metric} with the same labels within the last day")
        for i, whole in wholes.items()
    }


def named_series(store: Store, ids: Ints) -> dict[int, Series]:
    """Metric and tags of some series."""
    rows = snapshot(store, "series").scan(Bounds(series_ids=ids), ("series_id", "metric", "tags"))
    columns = (rows[name].to_pylist() for name in ("series_id", "metric", "tags"))
    return {i: (metric, dict(tags)) for i, metric, tags in zip(*columns, strict=True)}
