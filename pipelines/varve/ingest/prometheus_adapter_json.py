"""The JSON of prometheus-kafka-adapter: what Prometheus' remote write sends, an object a sample.

schemas/wire/prometheus-adapter.schema.json. Source: prometheus-kafka-adapter, README, "JSON".
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from varve.ingest.json_shapes import Identities, Read, series
from varve.ingest.json_values import number_in_text, tags_of, timestamp_ms
from varve.ingest.reject_reasons import Reason
from varve.model.errors import BadRecord
from varve.model.identity import SeriesDefinition


class _Sample(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    name: str
    labels: msgspec.Raw
    timestamp: float | str
    value: float | str


_sample = msgspec.json.Decoder(_Sample)


class PrometheusAdapterShape:
    """Samples whose labels have their metric's name, too, and whose values are text."""

    marks: ClassVar = frozenset({"labels"})
    schema_file: ClassVar = "prometheus-adapter.schema.json"

    def __init__(self, identities: Identities) -> None:
        self._identities = identities

    def read(self, part: bytes) -> Read:
        record = _sample.decode(part)
        labels = bytes(record.labels)

        def make() -> SeriesDefinition:
            tags = tags_of(labels, "labels")
            if (name := tags.pop("__name__", record.name)) != record.name:
                text = f"the name is {record.name!r}, but the label __name__ is {name!r}"
                raise BadRecord(Reason.INVALID_LABEL, text)
            return series(record.name, tags)

        # Labels of our own format are under (name, tags): there __name__ is no label.
        key = ("labels", record.name, labels)
        owner = self._identities.get(key, len(record.name) + len(labels), make)
        return Read([(owner, timestamp_ms(record.timestamp), number_in_text(record.value))])
