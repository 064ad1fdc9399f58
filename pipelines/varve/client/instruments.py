"""The instruments of a producer: what it keeps of a metric and its tags between reports.

There are no threads, clocks or I/O here.
"""

from __future__ import annotations

import bisect
import itertools
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from varve.client.messages import Sample
from varve.client.quantiles import SlidingQuantiles
from varve.ingest.name_rules import check_names
from varve.model.errors import BadRecord, BadRequest
from varve.model.identity import MetricType, SeriesDefinition, define

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of a histogram that names none. They suit the seconds that web requests take, and
are those of Prometheus' client libraries."""

QUANTILES = (0.5, 0.9, 0.95, 0.99)
"""Quantiles of a summary that names none."""

SUMMARY_WINDOW_MS = 600_000
"""How far a summary's quantiles look back: 10 minutes, as in Prometheus' client for Go."""

# Timestamps are milliseconds from March 1973 to the year 5138; numbers beyond are of another unit.
OLDEST_MS, NEWEST_MS = 10**11, 10**14


class Meta:
    """The name, tags, unit and help that the series of an instrument have in common."""

    __slots__ = ("help_text", "metric", "tags", "unit")

    def __init__(self, metric: str, tags: Mapping[str, str], unit: str, help_text: str) -> None:
        self.metric, self.tags = metric, tags
        self.unit, self.help_text = unit, help_text

    def series(
        self, kind: MetricType, suffix: str = "", extra: Mapping[str, str] | None = None
    ) -> SeriesDefinition:
        return define(
            self.metric + suffix,
            {**self.tags, **(extra or {})},
            metric_type=kind,
            unit=self.unit,
            help_text=self.help_text,
        )


class Instrument:
    """The state of a metric and its tags, which is one series or several."""

    kind: MetricType = "unknown"
    reserved = ""
    """A label that its series use themselves."""

    def __init__(self, _meta: Meta, shape: tuple[float, ...] = ()) -> None:
        self.shape = shape
        """Its buckets or quantiles."""
        self.series: Sequence[SeriesDefinition] = ()
        self.last_ms = 0
        """Timestamp of its latest sample."""
        self.own_time = False
        """Whether the caller gives timestamps; then reports leave it out."""

    def values(self, ts_ms: int) -> Sequence[float]:
        """The value of each series as of ts_ms."""
        raise NotImplementedError

    def read(self, ts_ms: int) -> Iterator[Sample]:
        """A sample of each series as of ts_ms."""
        self.last_ms = max(self.last_ms, ts_ms)
        return (Sample(s, ts_ms, v) for s, v in zip(self.series, self.values(ts_ms), strict=True))

    def end(self, now_ms: int) -> Iterator[Sample]:
        """A stale marker of each series, later than its samples. Where the caller gives timestamps
        it is a millisecond later than the last.
        """
        ts_ms = self.last_ms + 1 if self.own_time else max(now_ms, self.last_ms + 1)
        return (Sample(s, ts_ms, None) for s in self.series)


class Gauge(Instrument):
    kind = "gauge"

    def __init__(self, meta: Meta, shape: tuple[float, ...] = ()) -> None:
        super().__init__(meta, shape)
        self.series = [meta.series("gauge")]
        self.value = math.nan
        self.fresh = False
        """Whether it was set, and so sent, since the last report."""

    def set(self, value: float) -> None:
        self.value = value

    def values(self, _ts_ms: int) -> Sequence[float]:
        return (self.value,)


class Counter(Instrument):
    kind = "counter"

    def __init__(self, meta: Meta, shape: tuple[float, ...] = ()) -> None:
        super().__init__(meta, shape)
        self.series = [meta.series("counter")]
        self.total = 0.0

    def values(self, _ts_ms: int) -> Sequence[float]:
        return (self.total,)


class Histogram(Instrument):
    kind = "histogram"
    reserved = "le"

    def __init__(self, meta: Meta, shape: tuple[float, ...] = BUCKETS) -> None:
        super().__init__(meta, shape)
        les = [*map(repr, shape), "+Inf"]
        self.series = [
            *(meta.series("histogram", "_bucket", {"le": le}) for le in les),
            meta.series("histogram", "_sum"),
            meta.series("histogram", "_count"),
        ]
        self._counts = [0] * len(les)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect.bisect_left(self.shape, value)] += 1
        self._sum += value

    def values(self, _ts_ms: int) -> Sequence[float]:
        below = [float(n) for n in itertools.accumulate(self._counts)]
        return [*below, self._sum, below[-1]]


class Summary(Instrument):
    kind = "summary"
    reserved = "quantile"

    def __init__(self, meta: Meta, shape: tuple[float, ...] = QUANTILES) -> None:
        super().__init__(meta, shape)
        self.series = [
            *(meta.series("summary", "", {"quantile": repr(q)}) for q in shape),
            meta.series("summary", "_sum"),
            meta.series("summary", "_count"),
        ]
        self._recent = SlidingQuantiles(SUMMARY_WINDOW_MS)
        self._sum = 0.0
        self._count = 0

    def observe(self, value: float, ts_ms: int) -> None:
        self._recent.observe(value, ts_ms)
        self._sum += value
        self._count += 1

    def values(self, ts_ms: int) -> Sequence[float]:
        return [*self._recent.quantiles(self.shape, ts_ms), self._sum, float(self._count)]


I = TypeVar("I", bound=Instrument)  # noqa: E741  # an instrument


class Instruments:
    """The instruments of one producer, by name and tags.

    All instruments of a name are of one kind, and have the same buckets or quantiles.
    """

    def __init__(self, tags: Mapping[str, str] | None = None) -> None:
        """tags: what every instrument has besides its own tags."""
        _require_tags("tags", tags or {})
        _require_names("tags", tags or {})
        self._tags = dict(tags or {})
        self._by_given: dict[tuple[str, frozenset[tuple[str, str]]], Instrument] = {}
        """By name and tags as they were given, which may say one series in several ways."""
        self._given: dict[int, list[tuple[str, frozenset[tuple[str, str]]]]] = {}
        """Keys of _by_given, by the id() of the instrument."""
        self._by_series: dict[tuple[str, frozenset[tuple[str, str]]], Instrument] = {}
        """By name and all tags that are not empty."""
        self._shapes: dict[str, tuple[type[Instrument], tuple[float, ...]]] = {}

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_series.values())

    def find(
        self,
        kind: type[I],
        name: str,
        tags: Mapping[str, str] | None,
        shape: tuple[float, ...] = (),
        unit: str = "",
        help_text: str = "",
    ) -> tuple[I, bool]:
        """The instrument, and whether it is new. shape: its buckets or quantiles.

        Raises BadRequest for an invalid name or label, and for another kind or shape than the name
        has already.
        """
        try:
            found = self._by_given.get((name, frozenset(tags.items() if tags else ())))
        except (TypeError, AttributeError):
            found = None  # what is wrong with the tags is said below
        if type(found) is kind and self._shapes[name][1] == shape:
            return found, False
        return self._make(kind, name, {} if tags is None else tags, shape, unit, help_text)

    def remove(self, name: str, tags: Mapping[str, str] | None) -> Instrument | None:
        """Forgets an instrument and returns it; None if there was none."""
        removed = self._by_series.pop((name, _key({**self._tags, **(tags or {})})), None)
        for key in self._given.pop(id(removed), ()):
            del self._by_given[key]
        return removed

    def _make(
        self,
        kind: type[I],
        name: str,
        tags: Mapping[str, str],
        shape: tuple[float, ...],
        unit: str,
        help_text: str,
    ) -> tuple[I, bool]:
        if not isinstance(name, str):
            raise BadRequest(f"the name of a metric is a text, not {name!r}")
        _require_tags(name, tags)
        whole = {**self._tags, **tags}
        _require_names(name, whole)
        if kind.reserved in whole:
            raise BadRequest(f"{name}: the label {kind.reserved} is the {kind.kind}'s own")
        given = self._shapes.get(name, (kind, shape))
        if given[0] is not kind:
            raise BadRequest(f"{name} is a {given[0].kind} already, it cannot be a {kind.kind} too")
        if given[1] != shape:
            raise BadRequest(f"{name} has {_words(given[1])} already, not {_words(shape)}")
        for text in (unit, help_text):
            if not isinstance(text, str):
                raise BadRequest(f"{name}: unit and help_text are texts, not {text!r}")
        self._shapes[name] = given
        there = self._by_series.get((name, _key(whole)))
        is_new = type(there) is not kind
        found = there if type(there) is kind else kind(Meta(name, whole, unit, help_text), shape)
        key = name, frozenset(tags.items())
        self._by_given[key] = self._by_series[name, _key(whole)] = found
        self._given.setdefault(id(found), []).append(key)
        return found, is_new


def number(name: str, value: Any) -> float:
    """A value as a double. Raises BadRequest for what is no number."""
    if not isinstance(value, numbers.Real) and not hasattr(value, "__float__"):
        raise BadRequest(f"{name}: a value is a number, not {value!r}")
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError) as err:
        raise BadRequest(f"{name}: {value!r} is no number a double can hold") from err


def finite(name: str, value: Any) -> float:
    """A finite value as a double: NaN and infinities would never leave a sum. Raises BadRequest."""
    found = number(name, value)
    if not math.isfinite(found):
        raise BadRequest(f"{name}: {found} cannot be added up")
    return found


def timestamp(name: str, ts_ms: Any) -> int:
    """A timestamp. Raises BadRequest for what is not milliseconds since the Unix epoch."""
    if not isinstance(ts_ms, numbers.Integral):
        raise BadRequest(f"{name}: ts_ms is whole milliseconds since 1970, not {ts_ms!r}")
    ts_ms = int(ts_ms)
    if not OLDEST_MS <= ts_ms < NEWEST_MS:
        unit = "seconds" if ts_ms < OLDEST_MS else "µs or ns"
        raise BadRequest(f"{name}: ts_ms is milliseconds since 1970: {ts_ms} looks like {unit}")
    return ts_ms


def buckets(name: str, bounds: Sequence[float]) -> tuple[float, ...]:
    """Upper bounds of buckets without +Inf, which every histogram has. Raises BadRequest unless
    they ascend.
    """
    found = tuple(number(name, b) for b in bounds)
    if found and found[-1] == math.inf:
        found = found[:-1]
    if not found or not all(a < b for a, b in itertools.pairwise((-math.inf, *found, math.inf))):
        raise BadRequest(f"{name}: buckets are upper bounds, each greater than the one before")
    return found


def quantiles(name: str, wanted: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of a summary. Raises BadRequest unless each is from 0 to 1 and none comes twice."""
    found = tuple(number(name, q) for q in wanted)
    if not all(0 <= q <= 1 for q in found) or len(set(found)) < len(found):
        raise BadRequest(f"{name}: quantiles are different numbers from 0 to 1")
    return found


def _key(tags: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """The labels of a series as a key: a label with an empty value is an absent one."""
    return frozenset((label, value) for label, value in tags.items() if value)


def _words(shape: tuple[float, ...]) -> str:
    return ", ".join(f"{x:g}" for x in shape) or "none"


def _require_tags(name: str, tags: Any) -> None:
    if not isinstance(tags, Mapping):
        raise BadRequest(f"{name}: tags are a mapping of label names to values, not {tags!r}")
    for label, value in tags.items():
        if not isinstance(label, str) or not isinstance(value, str):
            raise BadRequest(f"{name}: a label and its value are texts, not {label!r}: {value!r}")


def _require_names(name: str, tags: Mapping[str, str]) -> None:
    try:
        check_names(name, tags)
    except BadRecord as bad:
        raise BadRequest(f"{name!r} cannot be sent: {bad.detail}") from bad
    for text in (name, *itertools.chain.from_iterable(tags.items())):
        try:
            text.encode()
        except UnicodeEncodeError as err:
            raise BadRequest(f"{name!r} cannot be sent: {text!r} is not valid Unicode") from err
