"""What the stored bytes are spent on, and what less of something would save.

Sizes of tables are exact. Bytes of a metric or label are an estimate: of each table some files are
looked at, spread over time, and the bytes of a file are shared out among series by their rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from varve.ingest.limits import UNLIMITED, Limits
from varve.model.record_rows import RECORD_TABLES, SAMPLES
from varve.model.schema import TABLES, table_schema
from varve.model.window import DAY_MS, TIERS
from varve.promql.labels.label_table import METRIC_NAME
from varve.query.index_labels import IndexLabels
from varve.query.series_index import COLUMNS, IndexBuilder, SeriesIndex
from varve.storage.bounds import Bounds
from varve.storage.log import LiveFile
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.state import load
from varve.storage.store import COLDER, Store

ROWS_LOOKED_AT = 20_000_000
"""Rows of a table whose series are looked at: below that it is all of them. Under a second."""

GB = 1e9
SHORT_DAYS = 1
"""How long rows of a metric would be kept in the proposal to keep them for a shorter time."""

_BY_SERIES = (SAMPLES, *RECORD_TABLES, *(tier.table for tier in TIERS))
_ROOTS = ("hot", "warm", "cold")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prices:
    """What a GB (10^9 bytes) costs in a month, by root: hot, warm, cold."""

    hot: float
    warm: float
    cold: float
    currency: str

    def of(self, root: str) -> float:
        return {"hot": self.hot, "warm": self.warm, "cold": self.cold}[root]


@dataclass(frozen=True, slots=True)
class TableUse:
    """What a table takes in one root. cost: a month. days: from its first row to its last; None if
    its rows stand for no time.
    """

    table: str
    root: str
    files: int
    rows: int
    bytes: int
    cost: float
    days: float | None


@dataclass(frozen=True, slots=True)
class MetricUse:
    """What a metric takes in all tables. samples: rows of raw samples, copies included."""

    metric: str
    series: int
    samples: int
    bytes: int
    cost: float


@dataclass(frozen=True, slots=True)
class LabelUse:
    """What series with a label take in all tables. series_without: how many series would be left of
    them if none had it.
    """

    label: str
    values: int
    series: int
    series_without: int
    bytes: int
    cost: float


@dataclass(frozen=True, slots=True)
class Saving:
    """What something would save, in the long run. cost: a month."""

    what: str
    bytes: int
    cost: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What all tables take. cost: a month. Lists have what takes or saves most first."""

    bytes: int
    cost: float
    currency: str
    samples: int
    series: int
    tables: list[TableUse]
    metrics: list[MetricUse]
    labels: list[LabelUse]
    savings: list[Saving]


def usage(store: Store, prices: Prices, limits: Limits, top: int) -> Usage:
    """Reads the newest versions of the tables. top: the length of each list but that of the tables.

    Raises NeedsOperator without the table series, OSError if the storage fails.
    """
    held = [snapshot(store, name) for name in TABLES if load(store, name, files=False) is not None]
    there = _used_roots(store)
    tables = [use for one in held for use in _tables(one, there, prices)]
    index = _index(store)
    taken = _Taken(index, there, prices)
    for one in held:
        if one.table in _BY_SERIES:
            taken.add(one)
    metrics = _metrics(index.labels, taken)
    labels = _labels(index.labels, taken)
    savings = [
        *_by_retention(held, there, prices),
        *_by_class(metrics, taken, held),
        *_by_label(labels),
        *_by_limit(metrics, limits),
    ]
    return Usage(
        bytes=sum(use.bytes for use in tables),
        cost=sum(use.cost for use in tables),
        currency=prices.currency,
        samples=sum(use.rows for use in tables if use.table == SAMPLES),
        series=index.size,
        tables=sorted(tables, key=lambda use: -use.bytes),
        metrics=sorted(metrics, key=lambda use: (-use.cost, -use.bytes, use.metric))[:top],
        labels=sorted(labels, key=lambda use: (-use.cost, -use.bytes, use.label))[:top],
        savings=sorted((s for s in savings if s.bytes > 0), key=lambda s: -s.cost)[:top],
    )


class _Taken:
    """Bytes, costs and samples by row of the index of series."""

    def __init__(self, index: SeriesIndex, roots: Sequence[str], prices: Prices) -> None:
        self._index, self._roots, self._prices = index, roots, prices
        self.bytes, self.costs, self.samples, self.raw = (np.zeros(index.size) for _ in range(4))
        """raw: bytes of raw samples."""

    def add(self, seen: Snapshot) -> None:
        looked_at = _spread(seen.files)
        whole = sum(file.size for file in seen.files)
        part = sum(file.size for file in looked_at)
        for file in looked_at:
            ids = seen.scan(Bounds(), ["series_id"], [file])["series_id"].to_numpy()
            unique, counts = np.unique(ids, return_counts=True)
            rows = self._index.rows_of(unique)
            is_known = rows >= 0
            rows, counts = rows[is_known], counts[is_known]
            scale = whole / part
            share = counts * (scale * file.size / max(file.rows, 1))
            self.bytes[rows] += share
            self.costs[rows] += share * (self._prices.of(_root(file, self._roots)) / GB)
            if seen.table == SAMPLES:
                self.samples[rows] += counts * scale
                self.raw[rows] += share


def _used_roots(store: Store) -> Sequence[str]:
    """The names of the roots that there are, the hot one first."""
    return {1: _ROOTS[:1], 2: (_ROOTS[0], _ROOTS[2])}.get(len(store.roots()), _ROOTS)


def _root(file: LiveFile, roots: Sequence[str]) -> str:
    return roots[file.path.count(COLDER)]


def _index(store: Store) -> SeriesIndex:
    builder = IndexBuilder()
    builder.add(snapshot(store, "series").scan(Bounds(), COLUMNS))
    return builder.index()


def _tables(seen: Snapshot, roots: Sequence[str], prices: Prices) -> Iterable[TableUse]:
    column = table_schema(seen.table).time_column
    for number, root in enumerate(roots):
        files = [file for file in seen.files if file.path.count(COLDER) == number]
        if not files:
            continue
        nbytes = sum(file.size for file in files)
        times = [
            (file.minimum[column], file.maximum[column])
            for file in files
            if column is not None and column in file.minimum and column in file.maximum
        ]
        days = (max(t[1] for t in times) - min(t[0] for t in times)) / DAY_MS if times else None
        yield TableUse(
            *(seen.table, root, len(files), sum(file.rows for file in files), nbytes),
            *(nbytes / GB * prices.of(root), days),
        )


def _spread(files: Sequence[LiveFile]) -> Sequence[LiveFile]:
    """Files of about ROWS_LOOKED_AT rows, every n-th of them in the order they came."""
    rows = sum(file.rows for file in files)
    return files[:: max(1, -(-rows // ROWS_LOOKED_AT))]


def _metrics(labels: IndexLabels, taken: _Taken) -> list[MetricUse]:
    column = labels.columns.get(METRIC_NAME)
    if column is None:
        return []
    codes, names = column.at(np.arange(labels.size)), column.interned.values
    series = np.bincount(codes, minlength=len(names))
    sums = [
        np.bincount(codes, weights=one, minlength=len(names))
        for one in (taken.samples, taken.bytes, taken.costs)
    ]
    return [
        MetricUse(name, int(count), round(samples), round(nbytes), float(cost))
        for name, count, samples, nbytes, cost in zip(names, series, *sums, strict=True)
        if count
    ]


def _labels(labels: IndexLabels, taken: _Taken) -> list[LabelUse]:
    """Series are told apart by the sum of a random number for each of their values."""
    rows = np.arange(labels.size)
    codes = {name: column.at(rows) for name, column in labels.columns.items()}
    mixed = {name: _mixed(name, of_label) for name, of_label in codes.items()}
    whole = np.zeros(labels.size, np.uint64)
    for numbers in mixed.values():
        whole += numbers
    found = []
    for name, of_label in codes.items():
        if name == METRIC_NAME:
            continue
        mine = np.flatnonzero(of_label)  # 0 is the code of no value
        found.append(
            LabelUse(
                name,
                len(np.unique(of_label[mine])),
                len(mine),
                len(np.unique(whole[mine] - mixed[name][mine])),
                round(taken.bytes[mine].sum()),
                float(taken.costs[mine].sum()),
            )
        )
    return found


def _mixed(name: str, codes: npt.NDArray[np.int32]) -> npt.NDArray[np.uint64]:
    """A number for each value of a label, 0 for none (code 0): the same wherever it occurs."""
    seed = int.from_bytes(name.encode()[:64], "little")
    rng = np.random.default_rng(seed)
    numbers = rng.integers(1, 1 << 63, int(codes.max(initial=0)) + 1, dtype=np.uint64)
    numbers[0] = 0
    return numbers[codes]


def _by_retention(
    held: Sequence[Snapshot], roots: Sequence[str], prices: Prices
) -> Iterable[Saving]:
    """Half the retention of a table: what is older than the middle of its rows' times would go."""
    for seen in held:
        column = table_schema(seen.table).time_column
        if seen.table not in _BY_SERIES or column is None or not seen.files:
            continue
        first = min(file.minimum[column] for file in seen.files)
        last = max(file.maximum[column] for file in seen.files)
        days = (last - first) / DAY_MS
        if days < 2 * SHORT_DAYS:
            continue
        middle, nbytes, cost = (first + last) / 2, 0.0, 0.0
        for file in seen.files:
            low, high = file.minimum[column], file.maximum[column]
            old = min(1.0, max(0.0, (middle - low) / max(1, high - low)))
            nbytes += old * file.size
            cost += old * file.size * prices.of(_root(file, roots)) / GB
        yield Saving(
            f"keep {seen.table} for {days / 2:.1f} days, not {days:.1f}", round(nbytes), cost
        )


def _by_class(
    metrics: Sequence[MetricUse], taken: _Taken, held: Sequence[Snapshot]
) -> Iterable[Saving]:
    """Raw samples of one metric kept for SHORT_DAYS."""
    samples = next((seen for seen in held if seen.table == SAMPLES and seen.files), None)
    total = float(taken.raw.sum())
    every = sum(use.samples for use in metrics)
    if samples is None or not total or not every:
        return
    times = [(file.minimum["ts"], file.maximum["ts"]) for file in samples.files]
    days = (max(t[1] for t in times) - min(t[0] for t in times)) / DAY_MS
    if days < 2 * SHORT_DAYS:
        return
    gone = 1 - SHORT_DAYS / days
    for use in metrics:
        raw = total * use.samples / every
        cost = use.cost * raw / use.bytes if use.bytes else 0.0
        yield Saving(
            f"keep samples of {use.metric} for {SHORT_DAYS} day (limits.toml, [retention.NAME])",
            *(round(raw * gone), cost * gone),
        )


def _by_label(labels: Sequence[LabelUse]) -> Iterable[Saving]:
    """A label that no series has: those that differ in nothing else become one."""
    for use in labels:
        gone = 1 - use.series_without / use.series if use.series else 0.0
        yield Saving(
            f"drop the label {use.label}: {use.series:,} series become {use.series_without:,}",
            *(round(use.bytes * gone), use.cost * gone),
        )


def _by_limit(metrics: Sequence[MetricUse], limits: Limits) -> Iterable[Saving]:
    """Metrics that have more series than their limit: registered before it, or no longer active."""
    for use in metrics:
        limit = limits.of(use.metric).series
        if limit < UNLIMITED and use.series > limit:
            gone = 1 - limit / use.series
            yield Saving(
                f"hold {use.metric} to its limit of {limit:,} series, not {use.series:,}",
                *(round(use.bytes * gone), use.cost * gone),
            )


def as_json(found: Usage) -> Mapping[str, object]:
    """For programs and the page."""
    return asdict(found)
