"""Telegraf's JSON: an object a measurement, whose fields are samples of series of their own.

Field `value` of measurement m is metric m, field f is m_f: schemas/wire/telegraf.schema.json.
Source: Telegraf, "JSON Serializer": one metric an object, or {"metrics": [...]} in batch format.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from varve.ingest.decoded import Reject
from varve.ingest.json_shapes import Identities, Read, Row, series
from varve.ingest.json_values import NOT_JSON, tags_of, timestamp_ms
from varve.ingest.reject_reasons import Reason
from varve.model.errors import BadRecord
from varve.model.identity import SeriesDefinition


class _Metric(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    fields: dict[str, msgspec.Raw]
    timestamp: float | str
    tags: msgspec.Raw = msgspec.Raw(b"{}")


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    metrics: list[msgspec.Raw]


_metric = msgspec.json.Decoder(_Metric)
_batch = msgspec.json.Decoder(_Batch)
_value = msgspec.json.Decoder(float | bool)


class TelegrafShape:
    """Measurements, one by one or in batches."""

    marks: ClassVar = frozenset({"fields", "metrics"})
    schema_file: ClassVar = "telegraf.schema.json"

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def read(self, part: bytes) -> Read:
        try:
            batch = _batch.decode(part)
        except NOT_JSON:
            return self._read(part)
        rows: list[Row] = []
        rejects: list[Reject] = []
        for metric in map(bytes, batch.metrics):
            try:
                found = self._read(metric)
            except BadRecord as bad:
                rejects.append(Reject(Reason(bad.reason), bad.detail, 1, metric))
            except NOT_JSON as err:
                rejects.append(Reject(Reason.MALFORMED, str(err), 1, metric))
            else:
                rows += found.rows
                rejects += found.rejects
        return Read(rows, rejects)

    def _read(self, part: bytes) -> Read:
        """One measurement. Raises BadRecord if none of its fields is a sample."""
        record = _metric.decode(part)
        ts, tags = timestamp_ms(record.timestamp), bytes(record.tags)
        rows: list[Row] = []
        bad_fields: list[tuple[str, BadRecord]] = []
        for field, value in record.fields.items():
            try:
                rows.append((self._owner(record.name, field, tags), ts, _number(field, value)))
            except BadRecord as bad:
                bad_fields.append((field, bad))
        if not rows:
            raise bad_fields[0][1] if bad_fields else BadRecord(Reason.MALFORMED, "fields: none")
        return Read(rows, [_alone(record, field, bad) for field, bad in bad_fields])

    def _owner(self, name: str, field: str, tags: bytes) -> SeriesDefinition:
        def make() -> SeriesDefinition:
            if not name:
                raise BadRecord(Reason.INVALID_LABEL, "the measurement has no name")
            if not field:
                raise BadRecord(Reason.INVALID_LABEL, "a field has no name")
            return series(name if field == "value" else f"{name}_{field}", tags_of(tags))

        size = len(name) + len(field) + len(tags)
        return self._identities.get((name, field, tags), size, make)


def _number(field: str, value: msgspec.Raw) -> float:
    """A field that is a number, or true or false: 1 or 0. Raises BadRecord that names the field."""
    try:
        found = _value.decode(value)
    except NOT_JSON as err:
        raise BadRecord(Reason.MALFORMED, f"fields: {field!r}: {err}") from err
    return float(found)


def _alone(record: _Metric, field: str, bad: BadRecord) -> Reject:
    """A field that cannot be stored, as a message that can be sent again."""
    fields = {field: record.fields[field]}
    text = msgspec.json.encode(msgspec.structs.replace(record, fields=fields))
    return Reject(Reason(bad.reason), bad.detail, 1, text)
