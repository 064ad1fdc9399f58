"""Metrics kept in the process, to be queried and aggregated without Kafka: for applications that
watch themselves, and for learning.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.client.instruments import Gauge, Instruments, number, timestamp
from varve.model.clock import Clock, SystemClock
from varve.model.errors import BadRequest

PERCENTILES = (50.0, 95.0, 99.0)

_FIRST_ROOM = 1_024
_TAGS = pa.map_(pa.string(), pa.string())
# The part of max_samples that is made free when there are too many samples, as it takes long to
# look for the oldest.
_FREED = 1 / 8

Where = Mapping[str, "str | re.Pattern[str]"]


class Forward(Protocol):
    """What `MetricsCollector` passes samples on to, such as a Producer."""

    def gauge(
        self,
        name: str,
        value: float,
        tags: Mapping[str, str] | None = None,
        ts_ms: int | None = None,
    ) -> None: ...


class MetricsCollector:
    """The latest samples of an application, in columns. May be shared by threads.

    Holds at most max_samples samples (20 bytes each), and none older than retention_s seconds. When
    it is full the oldest by timestamp go, an eighth of all, and are counted. Ranges are left-open,
    (start, end], as everywhere in Varve. Of several values of a series in one millisecond the
    greatest counts, a number before NaN.
    """

    def __init__(
        self,
        *,
        retention_s: float = 3_600.0,
        max_samples: int = 1_000_000,
        forward_to: Forward | None = None,
        clock: Clock | None = None,
    ) -> None:
        """forward_to: it is given every sample as that of a gauge, with its timestamp."""
        if retention_s <= 0 or max_samples < 1:
            raise BadRequest("retention_s and max_samples must be greater than 0")
        self._retention_ms = int(retention_s * 1000)
        self._max_samples = max_samples
        self._forward_to = forward_to
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._instruments = Instruments()
        self._numbers: dict[int, int] = {}
        self._labels: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        room = min(_FIRST_ROOM, max_samples)
        self._series = np.empty(room, np.int32)
        self._ts = np.empty(room, np.int64)
        self._values = np.empty(room, np.float64)
        self._size = 0
        self.dropped = 0
        """Samples that were dropped before they were retention_s old, for lack of room."""

    def __len__(self) -> int:
        """The number of samples held, which includes old ones that are not removed yet."""
        return self._size

    def record(
        self,
        name: str,
        value: float,
        tags: Mapping[str, str] | None = None,
        ts_ms: int | None = None,
    ) -> None:
        """Adds a sample. ts_ms: since the Unix epoch; now by default.

        Raises BadRequest for names, labels and values that a Producer would not take either.
        """
        value = number(name, value)
        at_ms = self._clock.now_ms() if ts_ms is None else timestamp(name, ts_ms)
        with self._lock:
            if self._size == len(self._ts):
                self._make_room()  # before it is found: what has no sample is forgotten
            gauge, _ = self._instruments.find(Gauge, name, tags)
            series = self._numbers.get(id(gauge))
            if series is None:
                series = self._numbers[id(gauge)] = len(self._labels)
                self._labels.append((gauge.series[0].metric, gauge.series[0].tags))
            self._series[self._size] = series
            self._ts[self._size] = at_ms
            self._values[self._size] = value
            self._size += 1
        if self._forward_to is not None:
            self._forward_to.gauge(name, value, tags, at_ms)

    def query(
        self,
        name: str | None = None,
        *,
        where: Where | None = None,
        without: Where | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> pa.Table:
        """The samples in (start_ms, end_ms] as metric, tags, ts (ms) and value, sorted by series,
        then time.

        name: the metric; all metrics by default. where: labels that must have the value, or match
        the compiled expression as a whole. without: labels that must not. The value of a label
        that a series does not have is "".
        """
        labels, owner, ts, values = self._select(name, where, without, start_ms, end_ms)
        return pa.table(
            {
                "metric": pa.array([labels[i][0] for i in owner], pa.string()),
                "tags": pa.array([list(labels[i][1]) for i in owner], _TAGS),
                "ts": ts,
                "value": values,
            }
        )

    def aggregate(
        self,
        name: str,
        *,
        window_s: float,
        by: Sequence[str] | None = None,
        where: Where | None = None,
        without: Where | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        percentiles: Sequence[float] = PERCENTILES,
    ) -> pa.Table:
        """Aggregates a metric over windows (window_end - window_s, window_end], for each group of
        series: tags, window_end (ms), count, sum, min, max, avg, p50, ...

        Windows end at multiples of window_s since the epoch; one without a sample has no row. by:
        labels to group series by; each series is a group by default, all are one if it is empty.
        NaN is left out. Percentiles (0 to 100) are linear between the two nearest values.
        """
        width_ms = round(window_s * 1000)
        if width_ms < 1:
            raise BadRequest("window_s is a millisecond at least")
        if not all(0 <= p <= 100 for p in percentiles):  # per cent
            raise BadRequest("percentiles are numbers from 0 to 100")
        labels, owner, ts, values = self._select(name, where, without, start_ms, end_ms)
        numbers = ~np.isnan(values)
        owner, ts, values = owner[numbers], ts[numbers], values[numbers]
        groups, owner = _groups(labels, owner, by)
        ends = -(-ts // width_ms) * width_ms
        order = np.lexsort((values, ends, owner))
        owner, ends, values = owner[order], ends[order], values[order]
        new = np.ones(len(ends), bool)
        new[1:] = (owner[1:] != owner[:-1]) | (ends[1:] != ends[:-1])
        starts = np.flatnonzero(new)
        counts = np.diff(np.append(starts, len(ends)))
        sums = np.add.reduceat(values, starts) if len(starts) else np.empty(0)
        lasts = starts + counts - 1
        columns: dict[str, Any] = {
            "tags": pa.array([groups[i] for i in owner[starts]], _TAGS),
            "window_end": ends[starts],
            "count": counts,
            "sum": sums,
            "min": values[starts],
            "max": values[lasts],
            "avg": sums / counts,
        }
        columns |= {f"p{p:g}": _percentile(values, starts, counts, p) for p in percentiles}
        return pa.table(columns)

    def to_arrow(self) -> pa.Table:
        """All samples held, as `query` returns them."""
        return self.query()

    def to_pandas(self) -> Any:
        """All samples held as a DataFrame: its index is ts as UTC times, each label is a column."""
        table = self.query()
        tags = [dict(t) for t in table["tags"].to_pylist()]
        frame = table.drop_columns(["tags"]).to_pandas()
        for label in sorted({label for t in tags for label in t}):
            frame[label] = [t.get(label, "") for t in tags]
        frame["ts"] = frame["ts"].astype("datetime64[ms]").dt.tz_localize("UTC")
        return frame.set_index("ts")

    def _select(
        self,
        name: str | None,
        where: Where | None,
        without: Where | None,
        start_ms: int | None,
        end_ms: int | None,
    ) -> tuple[
        list[tuple[str, tuple[tuple[str, str], ...]]],
        npt.NDArray[np.intp],
        npt.NDArray[np.int64],
        npt.NDArray[np.float64],
    ]:
        """The labels of all series, and of the samples asked for: the index of the series, ts and
        value, sorted, one value for each (series, ts).
        """
        with self._lock:
            oldest_ms = self._clock.now_ms() - self._retention_ms
            labels = self._labels
            wanted = np.array([_matches(s, name, where, without) for s in labels], bool)
            owner, ts = self._series[: self._size].astype(np.intp), self._ts[: self._size]
            chosen = (ts > oldest_ms) if start_ms is None else (ts > max(start_ms, oldest_ms))
            if end_ms is not None:
                chosen &= ts <= end_ms
            if not wanted.all():
                chosen &= wanted[owner]
            owner, ts, values = owner[chosen], ts[chosen], self._values[: self._size][chosen]
        order = np.lexsort((values, ~np.isnan(values), ts, owner))
        owner, ts, values = owner[order], ts[order], values[order]
        last = np.ones(len(ts), bool)
        last[:-1] = (owner[1:] != owner[:-1]) | (ts[1:] != ts[:-1])
        return labels, owner[last], ts[last], values[last]

    def _make_room(self) -> None:
        """Makes room for a sample: removes old ones, then grows or drops the oldest. The caller
        holds the lock.
        """
        ts = self._ts[: self._size]
        kept = ts > self._clock.now_ms() - self._retention_ms
        left = int(kept.sum())
        most = int(self._max_samples * (1 - _FREED))
        if left > most and len(ts) == self._max_samples:
            excess = left - most
            # Of equal timestamps as many as it takes.
            oldest = np.argsort(np.where(kept, ts, np.iinfo(np.int64).max), kind="stable")[:excess]
            kept[oldest] = False
            self.dropped += excess
            left -= excess
        room = len(ts)
        while left > room // 2 and room < self._max_samples:
            room = min(2 * room, self._max_samples)
        self._keep(kept, room)

    def _keep(self, kept: npt.NDArray[np.bool_], room: int) -> None:
        """Rows to keep, in columns of `room` rows; series without any are forgotten."""
        alive, owner = np.unique(self._series[: self._size][kept], return_inverse=True)
        # A new list: the old one may be in use by a query.
        self._labels = [self._labels[i] for i in alive]
        renumbered = {int(old): new for new, old in enumerate(alive)}
        for instrument in list(self._instruments):
            number_of = renumbered.get(self._numbers.pop(id(instrument), -1))
            if number_of is None:
                series = instrument.series[0]
                self._instruments.remove(series.metric, dict(series.tags))
            else:
                self._numbers[id(instrument)] = number_of
        size = len(owner)
        for name, column in (
            ("_series", owner),
            ("_ts", self._ts[: self._size][kept]),
            ("_values", self._values[: self._size][kept]),
        ):
            grown = np.empty(room, getattr(self, name).dtype)
            grown[:size] = column
            setattr(self, name, grown)
        self._size = size


def _matches(
    series: tuple[str, tuple[tuple[str, str], ...]],
    name: str | None,
    where: Where | None,
    without: Where | None,
) -> bool:
    metric, tags = series[0], dict(series[1])
    return (
        (name is None or metric == name)
        and all(_has(tags, k, v) for k, v in (where or {}).items())
        and not any(_has(tags, k, v) for k, v in (without or {}).items())
    )


def _has(tags: Mapping[str, str], label: str, wanted: str | re.Pattern[str]) -> bool:
    value = tags.get(label, "")
    return value == wanted if isinstance(wanted, str) else bool(wanted.fullmatch(value))


def _groups(
    labels: Sequence[tuple[str, tuple[tuple[str, str], ...]]],
    owner: npt.NDArray[np.intp],
    by: Sequence[str] | None,
) -> tuple[list[list[tuple[str, str]]], npt.NDArray[np.intp]]:
    """The tags of each group, and the index of each sample's group."""
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    of_series = np.array(
        [
            numbers.setdefault(
                tags if by is None else tuple((k, v) for k, v in tags if k in by), len(numbers)
            )
            for _, tags in labels
        ],
        np.intp,
    )
    return [list(tags) for tags in numbers], of_series[owner]


def _percentile(
    values: npt.NDArray[np.float64],
    starts: npt.NDArray[np.intp],
    counts: npt.NDArray[np.intp],
    percent: float,
) -> npt.NDArray[np.float64]:
    """A percentile of each window. values: sorted within each. counts: values of each."""
    rank = percent / 100 * (counts - 1)
    low = np.floor(rank).astype(np.intp)
    share = rank - low
    below = values[starts + low]
    above = values[starts + np.minimum(low + 1, counts - 1)]
    # Equal neighbours, infinities among them, need no interpolation.
    between = (share > 0) & (below != above)
    found = below.copy()
    share = share[between]
    found[between] = below[between] * (1 - share) + above[between] * share
    return found
