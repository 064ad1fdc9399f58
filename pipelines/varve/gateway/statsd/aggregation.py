"""What the lines of StatsD add up to. Pure: times are arguments.

Counters are totals since the start, so that a flush that is lost loses no count.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from varve.gateway.statsd.lines import (
    COUNTER,
    GAUGE,
    OBSERVATIONS,
    SET,
    InvalidLine,
    Labels,
    Line,
    is_no_metric,
    is_plain,
    lines_of,
    parse,
    value_of,
)
from varve.gateway.statsd.native import NativeObservations
from varve.gateway.write_request import STALE, WriteRequest
from varve.model.metadata import Metadata
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.syntax.go_numbers import format_open_metrics

Key = tuple[str, Labels]
"""Name and tags of a series."""

DEFAULT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_MOST_SET_VALUES = 100_000
# How many ways of writing the lines of a series are remembered, on average.
_PLANS_A_SERIES, _PLANS_AT_LEAST = 2, 1_000
_METADATA = {
    COUNTER: Metadata("counter"),
    GAUGE: Metadata("gauge"),
    OBSERVATIONS: Metadata("histogram"),
    SET: Metadata("gauge"),
}


@dataclass(slots=True)
class _Series:
    """A series' state. counts: of observations, by bucket, the last one without a bound."""

    kind: str
    seen_ms: int
    value: float = 0.0
    counts: list[int] = field(default_factory=list)
    native: NativeObservations | None = None
    """Instead of counts."""
    values: set[str] = field(default_factory=set)
    is_forgotten: bool = False


class _Plan(NamedTuple):
    """What lines do that differ in their one value alone."""

    series: _Series
    line: Line


class Aggregation:
    """All series. For one thread."""

    def __init__(
        self,
        buckets: Sequence[float] = DEFAULT_BUCKETS,
        *,
        most: int = 1_000_000,
        forgotten_after_ms: int = 3_600_000,
        are_native: bool = False,
    ) -> None:
        """buckets: upper bounds of histograms, ascending. are_native: observations become native
        histograms instead. most: series there may be; lines of more
        are refused. forgotten_after_ms: when a series without lines ends.
        """
        self._buckets = tuple(buckets)
        self._bounds = [*(format_open_metrics(bound) for bound in buckets), "+Inf"]
        self._most = most
        self._are_native = are_native
        self._forgotten_after_ms = forgotten_after_ms
        self._series: dict[Key, _Series] = {}
        self._kinds: dict[str, tuple[str, int]] = {}
        self._plans: dict[tuple[str, str], _Plan] = {}
        self._timed = WriteRequest()
        self.lines = self.rejected = 0
        """Lines that came, and those of them that were refused in whole or in part."""
        self.last_problem = ""

    def __len__(self) -> int:
        return len(self._series)

    def take(self, packet: bytes, now_ms: int) -> None:
        """Adds the lines of a packet."""
        plans = self._plans
        for line in lines_of(packet):
            # Most lines are one that was here before, with another value.
            name, _, rest = line.partition(":")
            text, _, sections = rest.partition("|")
            plan = plans.get((name, sections))
            if plan is None or plan.series.is_forgotten or not is_plain(text):
                self._take_line(line, now_ms)
                continue
            self.lines += 1
            series, known = plan
            series.seen_ms = now_ms
            self._count(series, known, text, float(text))

    def _take_line(self, line: str, now_ms: int) -> None:
        if not line.strip():
            return
        self.lines += 1
        if is_no_metric(line):
            return
        try:
            parsed = parse(line)
            series = self._add(parsed, now_ms)
        except InvalidLine as bad:
            self.rejected += 1
            self.last_problem = f"{line[:100]!r}: {bad}"
            return
        if series is not None and len(parsed.values) == 1 and parsed.at_s is None:
            if len(self._plans) >= _PLANS_A_SERIES * len(self._series) + _PLANS_AT_LEAST:
                self._plans.clear()
            name, _, rest = line.partition(":")
            self._plans[name, rest.partition("|")[2]] = _Plan(series, parsed)

    def flush(self, now_ms: int) -> WriteRequest:
        """The samples of now, those that said their own time, and the ends of what is forgotten."""
        request, self._timed = self._timed, WriteRequest()
        gone = []
        for key, series in self._series.items():
            if now_ms - series.seen_ms >= self._forgotten_after_ms:
                gone.append(key)
                for labels, value in self._samples(key, series):
                    request.add(labels, STALE if isinstance(value, float) else None, now_ms)
            else:
                self._write(request, key, series, now_ms)
            series.values.clear()
        for key in gone:
            self._forget(key)
        return request

    def _add(self, line: Line, now_ms: int) -> _Series | None:
        """The line's series. Raises InvalidLine; what is valid of the line counts all the same."""
        kind = self._kinds.get(line.name, (line.kind, 0))[0]
        if kind != line.kind:
            raise InvalidLine(f"{line.name} has another kind")
        problem: InvalidLine | None = None
        series: _Series | None = None
        for text in line.values:
            try:
                amount = self._amount(line, text)
            except InvalidLine as bad:
                problem = bad
                continue
            series = self._found(line, now_ms)
            self._count(series, line, text, amount)
        if series is not None and line.at_s is not None:
            self._write(self._timed, (line.name, line.tags), series, line.at_s * 1000)
        if problem is not None:
            raise problem
        return series

    def _amount(self, line: Line, text: str) -> float:
        if line.kind == SET:
            if not text:
                raise InvalidLine("there is no value")
            return 0.0
        amount = value_of(text)
        if line.kind == COUNTER and amount < 0:
            raise InvalidLine("a counter does not fall")
        return amount

    def _found(self, line: Line, now_ms: int) -> _Series:
        key = line.name, line.tags
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= self._most:
                raise InvalidLine(f"there are {self._most:,} series, and no room for more")
            series = self._series[key] = _Series(line.kind, now_ms)
            if line.kind == OBSERVATIONS and self._are_native:
                series.native = NativeObservations()
            elif line.kind == OBSERVATIONS:
                series.counts = [0] * len(self._bounds)
            count = self._kinds.get(line.name, (line.kind, 0))[1]
            self._kinds[line.name] = line.kind, count + 1
        series.seen_ms = now_ms
        return series

    def _count(self, series: _Series, line: Line, text: str, amount: float) -> None:
        if line.kind == COUNTER:
            series.value += amount / line.rate
        elif line.kind == GAUGE:
            series.value = series.value + amount if text[0] in "+-" else amount
        elif line.kind == SET:
            if len(series.values) < _MOST_SET_VALUES:
                series.values.add(text)
        else:
            times = int(1 / line.rate)
            observed = amount / 1000 if line.is_ms else amount
            if series.native is not None:
                series.native.observe(observed, times)
                return
            series.counts[bisect.bisect_left(self._buckets, observed)] += times
            series.value += observed * times

    def _forget(self, key: Key) -> None:
        series = self._series.pop(key)
        series.is_forgotten = True
        count = self._kinds[key[0]][1] - 1
        if count:
            self._kinds[key[0]] = series.kind, count
        else:
            del self._kinds[key[0]]

    def _write(self, request: WriteRequest, key: Key, series: _Series, at_ms: int) -> None:
        metadata = _METADATA[series.kind]
        for labels, value in self._samples(key, series):
            request.add(labels, value, at_ms, metadata=metadata, is_whole=True)

    def _samples(
        self, key: Key, series: _Series
    ) -> Iterator[tuple[Labels, float | FloatHistogram]]:
        name, tags = key
        if series.native is not None:
            yield _labels(name, tags), series.native.histogram()
        elif series.kind == OBSERVATIONS:
            total = 0
            for bound, count in zip(self._bounds, series.counts, strict=True):
                total += count
                yield _labels(f"{name}_bucket", tags, (("le", bound),)), float(total)
            yield _labels(f"{name}_sum", tags), series.value
            yield _labels(f"{name}_count", tags), float(total)
        elif series.kind == SET:
            yield _labels(name, tags), float(len(series.values))
        else:
            yield _labels(name, tags), series.value


def _labels(name: str, tags: Labels, more: Labels = ()) -> Labels:
    return tuple(sorted((("__name__", name), *tags, *more)))
