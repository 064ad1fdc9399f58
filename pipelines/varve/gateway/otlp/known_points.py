"""Exports in protobuf, read by what is known of their bytes: a point that was here before, but for
its numbers, becomes samples without Python (ADR 46).

`translate` says what bytes mean; it is asked once for each point that is new, and each time for
those that are never known: deltas, exponential histograms, summaries, points with exemplars.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from varve.gateway import kernel_otlp as kernel
from varve.gateway.catalogue import Catalogue, Samples
from varve.gateway.first_sight import Exemplar
from varve.gateway.hash_table import HashTable
from varve.gateway.kernel_hashes import UNKNOWN
from varve.gateway.kernel_otlp_messages import HISTOGRAM_PLACES
from varve.gateway.otlp.attributes import Origin
from varve.gateway.otlp.config import OtlpConfig
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.names import Names
from varve.gateway.otlp.translation import (
    MetricTranslation,
    Times,
    Translation,
    add_target_info,
    translate,
)
from varve.gateway.refusals import Malformed, Refused
from varve.gateway.remote_write import MOST_SAMPLES
from varve.gateway.write_request import Labels, WriteRequest
from varve.model.metadata import NOTHING_KNOWN, Metadata
from varve.promql.histograms.native_histogram import FloatHistogram

# What may be remembered until all of it is forgotten: some hundred bytes each, and texts.
_MOST_KNOWN = 1_000_000
_MOST_TEXT_BYTES = 128 << 20
_LEAST_ROWS = 1_024
_BYTES_A_ROW, _BYTES_AN_ITEM = 16, 64


def export_of(body: bytes) -> ExportMetricsServiceRequest:
    """Raises Malformed."""
    try:
        return ExportMetricsServiceRequest.FromString(body)
    except DecodeError as err:
        raise Malformed(f"the body is no ExportMetricsServiceRequest: {err}") from err


class ExportReader:
    """Reads exports, and remembers their points. For one thread."""

    def __init__(
        self, config: OtlpConfig, totals: DeltaTotals | None, *, most_known: int = _MOST_KNOWN
    ) -> None:
        """totals: those of deltas; None refuses deltas. most_known: points, and series of them."""
        self.config = config
        self.totals = totals
        self._most_known = most_known
        self._forget()

    def read(self, body: bytes) -> Translation:
        """What `translate` makes of the export. Raises Malformed, and Refused for one of over
        MOST_SAMPLES.
        """
        known = max(len(self.table), len(self.catalogue))
        if known > self._most_known or self.catalogue.text_bytes > _MOST_TEXT_BYTES:
            self._forget()
        walked = self._walk(body)
        if walked is None:
            return translate(export_of(body), self.config, self.totals)
        if walked.is_judged and not len(walked.items):
            found = Translation()
            found.request.add_known(self.catalogue, walked.samples)
            return found
        reading = _Reading(self, export_of(body))
        if reading.learn(walked.items):
            walked = self._walk(body) or walked
        return reading.translate(walked)

    def _forget(self) -> None:
        self.table = HashTable()
        self.catalogue = Catalogue()

    def _walk(self, body: bytes) -> _Walked | None:
        """None for an export that encoders do not write in this way."""
        data = np.frombuffer(body, np.uint8)
        rows = min(_LEAST_ROWS + len(body) // _BYTES_A_ROW, MOST_SAMPLES)
        items = min(_LEAST_ROWS + len(body) // _BYTES_AN_ITEM, MOST_SAMPLES)
        state = np.empty(3, np.int64)
        scratch = np.empty(HISTOGRAM_PLACES, np.int64)
        while True:
            series, times, starts = (np.empty(rows, np.int64) for _ in range(3))
            values = np.empty(rows, np.uint64)
            listed = np.empty((items, kernel.ITEM_COLUMNS), np.int64)
            status = kernel.walk_export(
                data, self.table.seeds, self.table.slots,
                not self.config.convert_histograms_to_nhcb,
                series, values, times, starts, listed, scratch, state,
            )  # fmt: skip
            if status == kernel.UNUSUAL:
                return None
            if status == kernel.OK:
                break
            if (rows if status == kernel.MORE_ROWS else items) == MOST_SAMPLES:
                raise Refused(413, f"over {MOST_SAMPLES:,} samples: send fewer in a request")
            if status == kernel.MORE_ROWS:
                rows = min(4 * rows, MOST_SAMPLES)
            else:
                items = min(4 * items, MOST_SAMPLES)
        row, item, unjudged = state.tolist()
        samples = Samples(series[:row], values[:row], times[:row], starts[:row])
        return _Walked(samples, listed[:item], not unjudged)


@dataclass(frozen=True, slots=True)
class _Walked:
    """The samples of known points, and what is between them. is_judged: what nothing was made of is
    known, too.
    """

    samples: Samples
    items: np.ndarray
    is_judged: bool


class _Series(WriteRequest):
    """Notes which series a point has."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[tuple[tuple[str, str], ...], Metadata]] = []

    def add(
        self,
        labels: Labels,
        value: float | FloatHistogram | None,  # noqa: ARG002 - of the request alone
        ts_ms: int,  # noqa: ARG002
        start_ms: int = 0,  # noqa: ARG002
        *,
        exemplars: Iterable[Exemplar] = (),  # noqa: ARG002
        metadata: Metadata = NOTHING_KNOWN,
        is_whole: bool = False,  # noqa: ARG002
    ) -> None:
        self.found.append((tuple(labels), metadata))


class _Reading:
    """The reading of an export that not all is known of."""

    def __init__(self, reader: ExportReader, export: ExportMetricsServiceRequest) -> None:
        self._reader = reader
        self._export = export
        self._names = Names(reader.config)
        self._origins: dict[tuple[int, int], Origin] = {}

    def learn(self, items: np.ndarray) -> int:
        """Gives numbers to what is new; returns to how much."""
        is_new = np.isin(items[:, kernel.KIND], (kernel.NEW_POINT, kernel.NEW_INFO))
        table, catalogue = self._reader.table, self._reader.catalogue
        hashes = items[:, [kernel.HASH0, kernel.HASH1]].view(np.uint64)
        for row in np.flatnonzero(is_new).tolist():
            if table.get(hashes[row]) != UNKNOWN:
                continue
            item = _Item(*items[row].tolist())
            noted = _Series()
            found = Translation(noted)
            if item.kind == kernel.NEW_INFO:
                add_target_info(found, self._origin(item), Times(0, 0))
            else:
                self._translate(found, item, Times(), None)
            if found.refusals.count or len(noted.found) not in (0, item.series_count):
                number = kernel.NEVER_KNOWN
            elif not noted.found:
                number = kernel.NOTHING if item.kind == kernel.NEW_INFO else kernel.NEVER_KNOWN
            else:
                number, *_ = [catalogue.add(*one) for one in noted.found]  # one after the other
            table.put(hashes[row], number)
        return int(is_new.sum())

    def translate(self, walked: _Walked) -> Translation:
        """The samples of known points, and those of the others between them."""
        found = Translation()
        samples, catalogue = walked.samples, self._reader.catalogue
        times: dict[int, Times] = {}
        row = 0
        for item in (_Item(*columns) for columns in walked.items.tolist()):
            if item.row > row:
                found.request.add_known(catalogue, _part(samples, row, item.row))
                row = item.row
            of_resource = times.setdefault(item.resource, Times())
            if item.kind in (kernel.INFO, kernel.NEW_INFO):
                of_resource.first = min(of_resource.first, item.first_ms)
                of_resource.last = max(of_resource.last, item.last_ms)
                add_target_info(found, self._origin(item), of_resource)
            else:
                self._translate(found, item, of_resource, self._reader.totals)
        if len(samples.series) > row:
            found.request.add_known(catalogue, _part(samples, row, len(samples.series)))
        return found

    def _translate(
        self, found: Translation, item: _Item, times: Times, totals: DeltaTotals | None
    ) -> None:
        of_resource = self._export.resource_metrics[item.resource]
        metric = of_resource.scope_metrics[item.scope].metrics[item.metric]
        translation = MetricTranslation(found, self._origin(item), totals, times)
        translation.run(metric, slice(item.point, item.points_end))

    def _origin(self, item: _Item) -> Origin:
        key = item.resource, item.scope
        if key not in self._origins:
            of_resource = self._export.resource_metrics[item.resource]
            of_scope = of_resource.scope_metrics[item.scope]
            self._origins[key] = Origin(
                self._names, of_resource.resource, of_scope.scope, of_scope.schema_url
            )
        return self._origins[key]


class _Item(NamedTuple):
    """A row of a walk's items, its columns in their order."""

    kind: int
    row: int
    resource: int
    scope: int
    metric: int
    point: int
    points_end: int
    hash0: int
    hash1: int
    series_count: int
    first_ms: int
    last_ms: int


def _part(samples: Samples, begin: int, end: int) -> Samples:
    return Samples(*(column[begin:end] for column in samples))
