"""Episodes of anomalies for the page: what they are, what is drawn of them, what people say."""

from __future__ import annotations

from typing import Any

import numpy as np

from varve.anomaly.episode_rows import EPISODES, newest_episodes, told_value
from varve.anomaly.labels import EXPECTED, LABELS, REAL, labels, put_label
from varve.anomaly.minute_values import judged_kinds
from varve.api.call import Answer, Call
from varve.api.series_text import expected_text, selector_of
from varve.model.errors import BadRequest, NeedsOperator
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import create_tables

_KEPT = (
    *("episode_id", "group_id", "state", "severity", "rule", "starts_at", "last_at", "windows"),
    *("expected", "score"),
)


def episodes(call: Call) -> Answer:
    """Answers with the episodes that something happened to between start and end, the newest first:
    what they are, what people said of them, and the PromQL of the value and of what was expected.
    """
    store = _store(call)
    start_ms, end_ms = call.parameters.time_bounds_ms()
    most = call.parameters.limit()
    try:
        rows = newest_episodes(snapshot(store, EPISODES), since_ms=start_ms)
        said = labels(store)
    except NeedsOperator:  # nothing has been judged yet
        return Answer([])
    rows = [row for row in rows if row["starts_at"] <= end_ms]
    rows.sort(key=lambda row: (row["starts_at"], row["episode_id"]), reverse=True)
    rows = rows[:most] if most else rows
    about = _series(store, {row["series_id"] for row in rows})
    return Answer(
        [
            {name: row[name] for name in _KEPT}
            | {"value": told_value(row), "label": said.get(row["episode_id"])}
            | about[row["series_id"]]
            for row in rows
            if row["series_id"] in about
        ]
    )


def label(call: Call) -> Answer:
    """Keeps what somebody says of an episode: real, or expected. Raises BadRequest for an episode
    that is not known, or another word.
    """
    store, said = _store(call), call.parameters.get("label")
    if said not in (REAL, EXPECTED):
        raise BadRequest(f'label is "{REAL}" or "{EXPECTED}", not {said!r}')
    create_tables(store, (LABELS,))
    row = put_label(store, call.parameters.get("episode"), said, call.now_ms)
    return Answer({"episode_id": row["episode_id"], "label": said})


def _series(store: Store, ids: set[int]) -> dict[int, dict[str, Any]]:
    """What is said of the series of episodes."""
    bounds = Bounds(series_ids=np.unique(np.array(sorted(ids), np.int64)))
    rows = snapshot(store, "series").scan(bounds, ("series_id", "metric", "tags", "type", "unit"))
    known, is_rate = judged_kinds(rows)
    rates = dict(zip(known.tolist(), is_rate.tolist(), strict=True))
    found = {}
    for row in rows.to_pylist():
        metric, tags = row["metric"], dict(row["tags"])
        rate = rates.get(row["series_id"], False)
        selector = selector_of(metric, tags)
        found[row["series_id"]] = {
            "metric": metric,
            "tags": tags,
            "unit": row["unit"] or "",
            "is_rate": rate,
            "expression": f"rate({selector}[3m])" if rate else f"avg_over_time({selector}[1m])",
            "mean": expected_text("varve_baseline_mean", metric, tags),
            "stddev": expected_text("varve_baseline_stddev", metric, tags),
        }
    return found


def _store(call: Call) -> Store:
    if call.store is None:
        raise BadRequest("this service reads no tables but those of samples")
    return call.store
