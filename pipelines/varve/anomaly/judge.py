"""One task of the detector: reads the minutes of some series, and scores them.

It runs in the driver or on an executor; what it returns are the few minutes that matter.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa

from varve.anomaly.baseline_job import newest_rows
from varve.anomaly.judge_task import JudgeTask
from varve.anomaly.minute_values import COLUMNS, LOOKBACK_MS, minute_values
from varve.anomaly.scores import score
from varve.anomaly.silence import silent_minutes
from varve.model.baseline_index import BaselineIndex
from varve.model.calendar import Calendar
from varve.model.window import MINUTE_MS
from varve.rollups.window_keys import isin
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

_MINUTES = "rollup_1m"
_BASELINES = "baselines"


SCORES = pa.schema(
    [
        ("series_id", pa.int64()),
        ("window_end", pa.int64()),
        ("value", pa.float64()),
        ("expected", pa.float64()),
        ("stddev", pa.float64()),
        ("score", pa.float64()),
        ("is_deviation", pa.bool_()),
        ("rule", pa.int64()),
        ("baseline_at", pa.int64()),
        ("opens_beyond", pa.float64()),
        ("extreme_beyond", pa.float64()),
        ("interval_ms", pa.int64()),
    ]
)


def judge(task: JudgeTask) -> pa.Table:
    """SCORES of the deviations; with keys, of every key that could be judged. Sorted by
    (series_id, window_end).

    Raises OSError if the storage fails, FileNotFoundError if a version's file has been deleted.
    """
    subjects = task.subjects
    if not len(subjects.ids):
        return SCORES.empty_table()
    source = snapshot(task.store, _MINUTES, task.source_version)
    wanted = subjects.ids
    if task.keys is not None:
        wanted = np.intersect1d(wanted, np.unique(task.keys[:, 0]))
    bounds = Bounds(task.window.start_ms - LOOKBACK_MS - MINUTE_MS, task.window.end_ms, wanted)
    rows = newest_rows(source.scan(bounds, COLUMNS, threads=1))
    minutes = minute_values(rows, subjects.ids[subjects.is_rate])
    minutes = minutes.within(task.window.start_ms, task.window.end_ms)
    if task.keys is not None:
        minutes = minutes.where(isin(minutes.series_ids, minutes.ends, task.keys))
    silence = silent_minutes(task, source)
    minutes = minutes.with_silence(silence.series_ids, silence.ends)
    rule_of = subjects.rule[np.searchsorted(subjects.ids, minutes.series_ids)]
    low, high = int(subjects.ids[0]), int(subjects.ids[-1])
    index = _index(
        task.store.root, task.baselines_version, low, high, task.calendar, _Hidden(task.store)
    )
    found = silence.restated(score(minutes, rule_of, task.rules, index))
    if task.keys is None:
        found = found.where(found.is_deviation)
    columns = [
        *(found.series_ids, found.ends, found.values, found.expected, found.stddev, found.score),
        *(found.is_deviation, found.rule, found.baseline_at),
        *(found.opens_beyond, found.extreme_beyond, found.interval_ms),
    ]
    return pa.table(columns, schema=SCORES)


class _Hidden:
    """A store as an argument that a cache does not look at: its root names it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=4)
def _index(
    root: str, version: int, low: int, high: int, calendar: Calendar, hidden: _Hidden
) -> BaselineIndex:
    """The baselines of a range of series, kept from minute to minute by the worker."""
    del root
    rows = snapshot(hidden.store, _BASELINES, version).scan(Bounds(series=(low, high)), threads=1)
    return BaselineIndex.of(rows, calendar)
