"""Metrics of OTLP as series: the points of each metric, and what is said of a resource.

Source: Prometheus, storage/remote/otlptranslator/prometheusremotewrite; OpenTelemetry,
"Prometheus and OpenMetrics Compatibility".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    DataPointFlags,
    Metric,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Exemplar as OtlpExemplar

from varve.gateway.first_sight import Exemplar
from varve.gateway.kernel_otlp import INFO_EVERY_MS, MOST_INFOS
from varve.gateway.otlp.attributes import Origin, text_of, with_name
from varve.gateway.otlp.buckets import Explicit, Exponential, InvalidPoint
from varve.gateway.otlp.config import OtlpConfig
from varve.gateway.otlp.delta import Count, DeltaTotals, TooManyTotals
from varve.gateway.otlp.names import InvalidName, Names
from varve.gateway.refusals import Refusal, Refusals
from varve.gateway.write_request import STALE, Labels, WriteRequest
from varve.model.metadata import Metadata
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.syntax.literals import format_number

_DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA
_CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_NO_VALUE = DataPointFlags.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK
_TARGET_INFO = Metadata("gauge", "", "Target metadata")
_MOST_EXEMPLAR_CHARACTERS = 128
_ALL = slice(None)


@dataclass
class Translation:
    """A request of Prometheus' from one of OTLP's, and which points are not in it."""

    request: WriteRequest = field(default_factory=WriteRequest)
    refusals: Refusals = field(default_factory=Refusals)


def translate(
    export: ExportMetricsServiceRequest, config: OtlpConfig, totals: DeltaTotals | None
) -> Translation:
    """totals: those of deltas; None refuses deltas, as Prometheus does."""
    found = Translation()
    names = Names(config)
    for of_resource in export.resource_metrics:
        times = Times()
        origin: Origin | None = None
        for of_scope in of_resource.scope_metrics:
            origin = Origin(names, of_resource.resource, of_scope.scope, of_scope.schema_url)
            for metric in of_scope.metrics:
                MetricTranslation(found, origin, totals, times).run(metric)
        if origin is not None:
            add_target_info(found, origin, times)
    return found


@dataclass
class Times:
    """The span of a resource's points, ms."""

    first: int = 1 << 62
    last: int = -1

    def note(self, ts_ms: int) -> None:
        self.first, self.last = min(self.first, ts_ms), max(self.last, ts_ms)


def add_target_info(found: Translation, origin: Origin, times: Times) -> None:
    """Adds what is said of a resource, over the time of its points."""
    if times.last < 0:
        return
    try:
        labels = origin.target_info()
    except InvalidName as bad:
        found.refusals.add(Refusal.INVALID_LABELS, str(bad))
        return
    if labels is None:
        return
    first = max(times.first, times.last - MOST_INFOS * INFO_EVERY_MS)
    for ts_ms in (*range(first, times.last, INFO_EVERY_MS), times.last):
        found.request.add(labels, 1.0, ts_ms, metadata=_TARGET_INFO)


A = TypeVar("A", Count, Explicit, Exponential)


_Take = Callable[[Any, dict[str, str], DeltaTotals | None], None]


class _TemporalityError(ValueError):
    """A metric cannot be taken; the text says why."""


class MetricTranslation:
    """The translation of one metric."""

    def __init__(
        self, found: Translation, origin: Origin, totals: DeltaTotals | None, times: Times
    ) -> None:
        self._request = found.request
        self._refusals = found.refusals
        self._origin = origin
        self._totals = totals
        self._times = times
        self._name = ""
        self._metadata = Metadata()

    def run(self, metric: Metric, chosen: slice = _ALL) -> None:
        """chosen: which of its points are translated."""
        kind = metric.WhichOneof("data")
        if kind is None:
            return
        data = getattr(metric, kind)
        points = data.data_points[chosen]
        if not points:
            return
        is_counter = kind == "sum" and data.is_monotonic
        names = self._origin.names
        try:
            totals = None if kind in ("gauge", "summary") else self._totals_for(metric, data)
            self._name = names.metric(
                metric.name, metric.unit, is_counter=is_counter, is_gauge=kind == "gauge"
            )
        except _TemporalityError as bad:
            self._refusals.add(Refusal.TEMPORALITY, str(bad), len(points))
            return
        except InvalidName as bad:
            self._refusals.add(Refusal.INVALID_LABELS, str(bad), len(points))
            return
        type_name = {"gauge": "gauge", "summary": "summary", "sum": "gauge"}.get(kind, "histogram")
        type_name = "counter" if is_counter else type_name
        self._metadata = Metadata(type_name, names.unit(metric.unit), metric.description)
        take: Callable[[Any, dict[str, str], DeltaTotals | None], None] = getattr(
            self, f"_take_{kind}"
        )
        for point in points:
            try:
                take(point, self._origin.labels(point.attributes), totals)
            except InvalidName as bad:
                self._refusals.add(Refusal.INVALID_LABELS, f"{self._name}: {bad}", 1)
            except InvalidPoint as bad:
                self._refusals.add(Refusal.INVALID_HISTOGRAM, f"{self._name}: {bad}", 1)
            except TooManyTotals as bad:
                self._refusals.add(Refusal.TEMPORALITY, f"{self._name}: {bad}", 1)
            else:
                self._times.note(_ms(point.time_unix_nano))

    def _totals_for(self, metric: Metric, data: Any) -> DeltaTotals | None:
        """Where points are added up, if they are deltas. Raises _TemporalityError for what cannot
        be taken.
        """
        if data.aggregation_temporality == _CUMULATIVE:
            return None
        if data.aggregation_temporality != _DELTA:
            raise _TemporalityError(f"{metric.name}: neither cumulative nor delta")
        if self._totals is None:
            text = "deltas are not taken here: gateway.otlp_deltas is false"
            raise _TemporalityError(f"{metric.name}: {text}")
        return self._totals

    def _take_gauge(self, point: Any, labels: dict[str, str], _: DeltaTotals | None) -> None:
        # A gauge has no beginning, whatever it says: it must get no zero there.
        self._put(with_name(self._name, labels), _value(point), point, start_ns=0)

    def _take_sum(self, point: Any, labels: dict[str, str], totals: DeltaTotals | None) -> None:
        series = with_name(self._name, labels)
        total = self._total(totals, series, Count(_value(point)), point)
        if total is not None:
            exemplars = _exemplars(point.exemplars)
            self._put(series, total[0].value, point, start_ns=total[1], exemplars=exemplars)

    def _take_histogram(
        self, point: Any, labels: dict[str, str], totals: DeltaTotals | None
    ) -> None:
        series = with_name(self._name, labels)
        total = self._total(totals, series, Explicit.of(point), point)
        if total is None:
            return
        found, start_ns = total
        exemplars = sorted(_exemplars(point.exemplars), key=lambda e: e.value)
        if self._origin.names.config.convert_histograms_to_nhcb:
            self._put_native(series, point, found.as_custom(), start_ns, exemplars)
            return
        name = self._name
        values: list[tuple[Labels, float, list[Exemplar]]] = []
        if found.sum is not None:
            values.append((with_name(f"{name}_sum", labels), found.sum, []))
        values.append((with_name(f"{name}_count", labels), float(found.count), []))
        for bound, count in [*found.cumulative(), (math.inf, found.count)]:
            of_bucket = list(
                itertools.takewhile(lambda e: e.value <= bound or bound == math.inf, exemplars)  # noqa: B023 - is used up here
            )
            exemplars = exemplars[len(of_bucket) :]
            bucket = with_name(f"{name}_bucket", labels, le=format_number(bound))
            values.append((bucket, float(count), of_bucket))
        for series, value, own in values:
            shown = STALE if _has_no_value(point) else value
            self._put(series, shown, point, start_ns=start_ns, exemplars=own)

    def _take_exponential_histogram(
        self, point: Any, labels: dict[str, str], totals: DeltaTotals | None
    ) -> None:
        series = with_name(self._name, labels)
        total = self._total(totals, series, Exponential.of(point), point)
        if total is not None:
            found, start_ns = total
            exemplars = _exemplars(point.exemplars)
            self._put_native(series, point, found.as_native(), start_ns, exemplars)

    def _take_summary(self, point: Any, labels: dict[str, str], _: DeltaTotals | None) -> None:
        values = [
            (with_name(f"{self._name}_sum", labels), float(point.sum)),
            (with_name(f"{self._name}_count", labels), float(point.count)),
        ]
        for quantile in point.quantile_values:
            shown = format_number(quantile.quantile)
            values.append((with_name(self._name, labels, quantile=shown), float(quantile.value)))
        for series, value in values:
            shown_value = STALE if _has_no_value(point) else value
            self._put(series, shown_value, point, start_ns=point.start_time_unix_nano)

    def _total(
        self, totals: DeltaTotals | None, series: Labels, amount: A, point: Any
    ) -> tuple[A, int] | None:
        """The amount that counts, and since when; None if the point is too old to be added."""
        start_ns, end_ns = point.start_time_unix_nano, point.time_unix_nano
        if totals is None or _has_no_value(point):
            return amount, start_ns
        total = totals.add(series, amount, start_ns, end_ns)
        if total is None:
            text = f"{self._name}: a delta is older than the last one of its series"
            self._refusals.add(Refusal.OLD_DELTA, text, 1)
        return total

    def _put(
        self,
        series: Labels,
        value: float,
        point: Any,
        *,
        start_ns: int,
        exemplars: Iterable[Exemplar] = (),
    ) -> None:
        ts_ms, start_ms = _ms(point.time_unix_nano), _ms(start_ns)
        self._request.add(
            series, value, ts_ms, start_ms, exemplars=exemplars, metadata=self._metadata
        )

    def _put_native(
        self,
        series: Labels,
        point: Any,
        histogram: FloatHistogram,
        start_ns: int,
        exemplars: Iterable[Exemplar],
    ) -> None:
        shown = None if _has_no_value(point) else histogram
        self._request.add(
            series, shown, _ms(point.time_unix_nano), _ms(start_ns),
            exemplars=exemplars, metadata=self._metadata, is_whole=True,
        )  # fmt: skip


def _value(point: Any) -> float:
    if _has_no_value(point):
        return STALE
    return float(point.as_int if point.WhichOneof("value") == "as_int" else point.as_double)


def _has_no_value(point: Any) -> bool:
    return bool(point.flags & _NO_VALUE)


def _ms(ns: int) -> int:
    return ns // 1_000_000


def _exemplars(exemplars: Iterable[OtlpExemplar]) -> Iterator[Exemplar]:
    for e in exemplars:
        value = e.as_int if e.WhichOneof("value") == "as_int" else e.as_double
        labels = {}
        if e.trace_id.strip(b"\0"):
            labels["trace_id"] = e.trace_id.hex()
        if e.span_id.strip(b"\0"):
            labels["span_id"] = e.span_id.hex()
        more = {kv.key: text_of(kv.value) for kv in e.filtered_attributes if kv.key}
        if sum(len(k) + len(v) for k, v in (labels | more).items()) <= _MOST_EXEMPLAR_CHARACTERS:
            labels |= more
        yield Exemplar(labels, float(value), _ms(e.time_unix_nano))
