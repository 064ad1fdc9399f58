"""Native histograms and exemplars as Kafka messages: a row each, with what defines their series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from varve.client.messages import partition_of
from varve.gateway.first_sight import Exemplar
from varve.gateway.histograms import HistogramSample
from varve.gateway.messages import TargetMessage
from varve.ingest import arrow_codec
from varve.model.identity import SeriesDefinition
from varve.promql.histograms.stored_rows import row_of

MOST_BYTES: Final = 384 * 1024
"""Bytes of a message, about; one row may have as much again. A broker takes 1 MiB by default."""

_ROW_BYTES: Final = 100
_BUCKET_BYTES: Final = 16
_DEFINITION_BYTES: Final = 100


@dataclass(frozen=True, slots=True)
class Record:
    """A row of a record table. derived: whether no sender has sent it."""

    series: SeriesDefinition
    ts_ms: int
    row: Mapping[str, Any]
    size: int
    """Bytes it takes in a message, at most."""
    derived: bool = False


def of_histogram(
    series: SeriesDefinition, sample: HistogramSample, *, derived: bool = False
) -> Record:
    found = sample.histogram
    buckets = 0
    if found is not None:
        buckets = len(found.positive) + len(found.negative) + len(found.custom_values)
    size = _ROW_BYTES + _BUCKET_BYTES * buckets
    return Record(series, sample.ts_ms, row_of(found), size, derived)


def of_exemplar(series: SeriesDefinition, exemplar: Exemplar) -> Record:
    labels = sorted(exemplar.labels.items())
    size = _ROW_BYTES + sum(len(n.encode()) + len(v.encode()) for n, v in labels)
    return Record(series, exemplar.ts_ms, {"value": exemplar.value, "labels": labels}, size)


def encode(
    table: str,
    records: Iterable[Record],
    partitions: int,
    is_told: Callable[[SeriesDefinition], bool],
) -> Iterator[TargetMessage]:
    """Messages of records of a table; targets are partitions. is_told: whether a series need not be
    defined. A definition goes before or with the first row that needs it.
    """
    waiting: dict[int, _Draft] = {}
    for record in records:
        partition = partition_of(record.series.series_id, partitions)
        draft = waiting.setdefault(partition, _Draft())
        if draft.records and draft.size + record.size > MOST_BYTES:
            yield draft.message(table, partition)
            draft = waiting[partition] = _Draft()
        draft.add(record, is_told(record.series))
    for partition, draft in waiting.items():
        yield draft.message(table, partition)


class _Draft:
    """A message that grows."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.size = 0
        self._definitions: dict[int, SeriesDefinition] = {}

    def add(self, record: Record, is_told: bool) -> None:  # noqa: FBT001 - one call
        self.records.append(record)
        self.size += record.size
        series = record.series
        if not is_told and series.series_id not in self._definitions:
            self._definitions[series.series_id] = series
            self.size += _DEFINITION_BYTES + _size(series)

    def message(self, table: str, partition: int) -> TargetMessage:
        rows = [
            {"series_id": r.series.series_id, "check": r.series.check, "ts": r.ts_ms} | dict(r.row)
            for r in self.records
        ]
        columns = pa.Table.from_pylist(rows, schema=arrow_codec.wire_schema(table))
        return TargetMessage(
            partition,
            self.records[0].series.series_id.to_bytes(8, "big", signed=True),
            arrow_codec.write(columns, self._definitions.values()),
            len(rows),
            sum(record.derived for record in self.records),
        )


def _size(series: SeriesDefinition) -> int:
    texts: Sequence[str] = [series.metric, series.unit, series.help]
    return sum(len(text.encode()) for pair in (texts, *series.tags) for text in pair)
