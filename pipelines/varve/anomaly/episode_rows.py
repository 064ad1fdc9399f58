"""Rows of the table episodes, and the messages of the topic metric-anomalies."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from varve.anomaly.episodes import (
    IS_OPEN,
    IS_WITHDRAWN,
    OPEN,
    WITHDRAW,
    Deviation,
    Episode,
    Event,
)
from varve.anomaly.minute_values import Ints
from varve.model.alert_event import NAME_LABEL, AlertEvent
from varve.model.schema import table_schema
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.store import Store

EPISODES = "episodes"
ALERT = "SeriesDeviates"

Series = tuple[str, dict[str, str]]
"""Metric and tags."""


def event_rows(events: Sequence[Event], turn: int) -> pa.Table:
    """Rows of episodes, in the order of the events."""
    rows = [
        {
            "event_id": event.event_id,
            "episode_id": event.episode.episode_id,
            "series_id": event.episode.series_id,
            "event": event.event,
            "state": event.episode.state,
            "starts_at": event.episode.starts_at,
            "last_at": event.episode.last_at,
            "windows": event.episode.windows,
            "value": event.episode.peak.value,
            "expected": event.episode.peak.expected,
            "score": event.episode.peak.score,
            "severity": event.episode.severity,
            "rule": event.episode.rule,
            "baseline_at": event.episode.peak.baseline_at,
            "group_id": event.episode.group_id,
            "is_alert": event.episode.is_alert,
            "decided_at": event.decided_at,
            "turn": turn,
        }
        for event in events
    ]
    return pa.Table.from_pylist(rows, table_schema(EPISODES).arrow)


def newest_episodes(
    episodes: Snapshot, *, since_ms: int | None = None, series: Ints | None = None
) -> list[dict[str, Any]]:
    """The last row of each episode that something happened to after a time, by when it began."""
    rows = episodes.scan(Bounds(since_ms, None, series)).to_pylist()
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows):
        key = (row["turn"], row["decided_at"], row["state"] != IS_OPEN, number)
        if row["episode_id"] not in found or key > found[row["episode_id"]]["key"]:
            found[row["episode_id"]] = row | {"key": key}
    return sorted(found.values(), key=lambda row: (row["starts_at"], row["series_id"]))


def episode_of(row: Mapping[str, Any]) -> Episode:
    """The episode as a row has it; the time of its furthest minute is not kept and is its last."""
    peak = Deviation(
        row["last_at"], row["value"], row["expected"], row["score"], row["baseline_at"]
    )
    return Episode(
        row["episode_id"],
        row["series_id"],
        row["rule"],
        row["starts_at"],
        row["last_at"],
        row["windows"],
        peak,
        row["severity"],
        row["state"],
        row["decided_at"],
        row["group_id"],
        row["is_alert"],
    )


def told_value(row: Mapping[str, Any]) -> float | None:
    """The value of a row of episodes; None for silence."""
    value: float = row["value"]
    return None if math.isnan(value) else value


def messages(
    rows: Iterable[Mapping[str, Any]], named: Mapping[int, Series]
) -> list[tuple[bytes, bytes]]:
    """Key and value for each row; openings of one group are one message that names them all, the
    furthest off first.
    """
    found: list[tuple[bytes, bytes]] = []
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["group_id"] is not None and row["event"] == OPEN:
            groups.setdefault(row["group_id"], []).append(row)
        else:
            found.append(_message(row["episode_id"], row, [row], named))
    for group_id, members in groups.items():
        members.sort(key=lambda row: -abs(row["score"]))
        found.append(_message(group_id, members[0], members, named))
    return found


def _message(
    key: str,
    row: Mapping[str, Any],
    members: Sequence[Mapping[str, Any]],
    named: Mapping[int, Series],
) -> tuple[bytes, bytes]:
    is_over = row["state"] != IS_OPEN
    message = {
        "event_id": row["event_id"],
        "episode_id": row["episode_id"],
        "group_id": row["group_id"],
        "event": row["event"],
        "state": row["state"],
        "severity": max((m["severity"] for m in members), key=("warning", "critical").index),
        "rule": row["rule"],
        "starts_at": row["starts_at"],
        "ends_at": row["last_at"] if is_over else None,
        "decided_at": row["decided_at"],
        "series": [
            {
                "episode_id": member["episode_id"],
                "metric": named.get(member["series_id"], ("", {}))[0],
                "tags": named.get(member["series_id"], ("", {}))[1],
                "windows": member["windows"],
                "value": told_value(member),
                "expected": member["expected"],
                "score": member["score"],
                "baseline_at": member["baseline_at"],
            }
            for member in members
        ],
    }
    return key.encode(), json.dumps(message, ensure_ascii=False).encode()


def alert_events(
    rows: Iterable[Mapping[str, Any]], named: Mapping[int, Series]
) -> list[AlertEvent]:
    """Firing for an opening or a change of an open episode that is told as an alert, resolved for
    its end.
    """
    found = []
    for row in rows:
        if not row["is_alert"] or row["series_id"] not in named:
            continue
        metric, tags = named[row["series_id"]]
        labels = {**tags, NAME_LABEL: ALERT, "metric": metric}
        value = told_value(row)
        summary = (
            f"{metric} has no samples where {row['expected']:g} is expected"
            if value is None
            else f"{metric} is {value:g} where {row['expected']:g} is expected,"
            f" {row['score']:+.1f} standard deviations"
        )
        is_over = row["state"] != IS_OPEN
        annotations = {"summary": summary, "severity": row["severity"]}
        if row["event"] == WITHDRAW or row["state"] == IS_WITHDRAWN:
            annotations["summary"] = f"late samples have brought {metric} back to what is expected"
        found.append(
            AlertEvent(
                labels,
                "resolved" if is_over else "firing",
                row["starts_at"],
                max(row["decided_at"], row["starts_at"]),
                annotations,
                value,
            )
        )
    return found


def named_series(store: Store, ids: Iterable[int]) -> dict[int, Series]:
    """Metric and tags of some series."""
    wanted = np.unique(np.array(list(ids), np.int64))
    if not len(wanted):
        return {}
    rows = snapshot(store, "series").scan(
        Bounds(series_ids=wanted), ("series_id", "metric", "tags")
    )
    columns = (rows[name].to_pylist() for name in ("series_id", "metric", "tags"))
    return {i: (metric, dict(tags)) for i, metric, tags in zip(*columns, strict=True)}
