"""Where series come from: the metrics, labels and values that have most of them, and what is new.

`counts` looks at the labels that a query service has in its index; `report` reads the tables, tells
active series from others, and compares them with the limits.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from varve.ingest.active_series import RecentHours
from varve.ingest.limits import Limits
from varve.ingest.reject_reasons import LIMITS
from varve.model.window import DAY_MS, HOUR_MS
from varve.promql.labels.label_table import METRIC_NAME, LabelTable
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.index_labels import IndexColumn, IndexLabels
from varve.query.series_index import COLUMNS, IndexBuilder
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

_EXAMPLES = 3

Ranked = list[tuple[str, int]]
"""Names with numbers, the greatest number first, equal ones by name."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How often metrics, labels and values occur in a table of labels.

    Each list has the greatest only. bytes_of_label counts the bytes of a label's values, once for
    each series that has them.
    """

    series: int
    label_pairs: int
    series_of_metric: Ranked
    values_of_label: Ranked
    bytes_of_label: Ranked
    series_of_pair: Ranked


@dataclass(frozen=True, slots=True)
class MetricUse:
    """Series of one metric.

    `active` ones count against `limit`. new_1h and new_24h were registered in the last hour, day.
    """

    metric: str
    active: int
    limit: int
    new_1h: int
    new_24h: int


@dataclass(frozen=True, slots=True)
class LabelUse:
    """How many distinct values a label has among active series, and a few of them."""

    label: str
    values: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """The series of a home and what limits say of them.

    A series is active if it was seen or registered after since_ms; all are if that is None.
    `refused` counts samples beyond limits in the last 24 h, by reason.
    """

    registered: int
    active: int
    limit: int
    since_ms: int | None
    new_1h: int
    new_24h: int
    metrics: list[MetricUse]
    labels: list[LabelUse]
    refused: dict[str, int]


def counts(labels: IndexLabels | LabelTable, top: int) -> Counts:
    """Counts the labels; `top` is the length of each list, at least 1."""
    pairs, values, sizes, best, of_metric = 0, [], [], [], []
    for name, column in labels.columns.items():
        numbers = _numbers(column)
        distinct = np.flatnonzero(numbers)
        pairs += len(distinct)
        values.append((name, len(distinct)))
        texts = column.interned.values
        each = [(texts[code], int(numbers[code])) for code in distinct.tolist()]
        sizes.append((name, sum(len(text.encode()) * number for text, number in each)))
        ranked = _top(each, top)
        best += [(f"{name}={text}", number) for text, number in ranked]
        if name == METRIC_NAME:
            of_metric = ranked
    return Counts(
        labels.size, pairs, of_metric, _top(values, top), _top(sizes, top), _top(best, top)
    )


def report(
    store: Store, limits: Limits, *, active_ms: int, now_ms: int, top: int, metric: str | None
) -> Report:
    """Reads the newest versions of the tables. `metric` narrows the report to one metric.

    active_ms is the time for which varve.ingest.active_series keeps a series active. `top` is the
    length of each list. Raises NeedsOperator without the table series.
    """
    table = snapshot(store, "series")
    rows = table.scan(Bounds(), [*COLUMNS, "last_seen"])
    builder = IndexBuilder()
    builder.add(rows.select(COLUMNS))
    index = builder.index()
    ids, hours = index.series_ids, RecentHours(store, active_ms)
    order = np.argsort(ids)
    since = np.empty(len(ids), np.int64)
    since[order[np.searchsorted(ids[order], rows.column("series_id").to_numpy())]] = rows.column(
        "last_seen"
    ).to_numpy()
    active = np.empty(len(ids), np.bool_)
    active[order] = hours.saw(ids[order])
    if hours.since_ms is not None:
        active |= since > hours.since_ms
    if metric is not None:
        of_metric = index.find([Matcher(METRIC_NAME, MatchOp.EQUAL, metric)])
        mine = np.zeros(index.size, np.bool_)
        mine[index.rows_of(of_metric.series_ids)] = True
        active, since = active & mine, np.where(mine, since, np.iinfo(np.int64).min)
    new_1h, new_24h = since > now_ms - HOUR_MS, since > now_ms - DAY_MS
    alive = index.labels.take(np.flatnonzero(active))
    metrics = _metrics(index.labels, limits, active, new_1h, new_24h)
    return Report(
        registered=len(ids),
        active=alive.size,
        limit=limits.series,
        since_ms=hours.since_ms,
        new_1h=int(new_1h.sum()),
        new_24h=int(new_24h.sum()),
        metrics=heapq.nsmallest(top, metrics, key=lambda m: (-m.active, -m.new_24h, m.metric)),
        labels=_labels(alive, top),
        refused=_refused(store, now_ms - DAY_MS),
    )


def _metrics(
    labels: IndexLabels,
    limits: Limits,
    active: npt.NDArray[np.bool_],
    *new: npt.NDArray[np.bool_],
) -> list[MetricUse]:
    column = labels.columns.get(METRIC_NAME)
    if column is None:
        return []
    texts = column.interned.values
    by_code = [
        np.bincount(column.at(np.flatnonzero(mask)), minlength=len(texts))
        for mask in (active, *new)
    ]
    return [
        MetricUse(name, used, limits.of(name).series, hour, day)
        for name, used, hour, day in zip(texts, *(n.tolist() for n in by_code), strict=True)
        if used or day
    ]


def _labels(labels: LabelTable, top: int) -> list[LabelUse]:
    columns = {name: c for name, c in labels.columns.items() if name != METRIC_NAME}
    numbers = {name: _numbers(column) for name, column in columns.items()}
    ranked = _top(((name, int(np.count_nonzero(n))) for name, n in numbers.items()), top)
    return [
        LabelUse(
            name,
            count,
            tuple(
                columns[name].interned.values[code]
                for code in np.argsort(-numbers[name], kind="stable")[:_EXAMPLES].tolist()
                if numbers[name][code]
            ),
        )
        for name, count in ranked
        if count
    ]


def _refused(store: Store, since_ms: int) -> dict[str, int]:
    table = snapshot(store, "quarantine")
    files = [f for f in table.files if f.maximum.get("rejected_at", since_ms) >= since_ms]
    rows = table.scan(Bounds(), ["reason", "samples", "rejected_at"], files)
    found: Counter[str] = Counter()
    wanted = {reason.value for reason in LIMITS}
    for row in rows.group_by(["reason", "rejected_at"]).aggregate([("samples", "sum")]).to_pylist():
        if row["rejected_at"] > since_ms and row["reason"] in wanted:
            found[row["reason"]] += row["samples_sum"]
    return dict(sorted(found.items()))


def _numbers(column: IndexColumn) -> npt.NDArray[np.int64]:
    """How many series have the value of each code; 0 for code 0, the absent value."""
    numbers = np.bincount(column.codes, minlength=len(column.interned.values))
    numbers[0] = 0
    return numbers


def _top(entries: Iterable[tuple[str, int]], top: int) -> Ranked:
    return heapq.nsmallest(top, entries, key=lambda entry: (-entry[1], entry[0]))
