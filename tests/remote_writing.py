"""What senders send: remote write requests, by protobuf bindings that are made here.

The messages are described as Prometheus' prompb/types.proto and prompb/io/prometheus/write/v2/
types.proto have them. The bindings are an oracle: no code of Varve's takes part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_KINDS = {
    "double": 1, "int64": 3, "uint64": 4, "string": 9, "message": 11, "uint32": 13, "enum": 5,
    "sint32": 17, "sint64": 18,
}  # fmt: skip

# Message: field: (number, type). A type in brackets is repeated; one with a capital is a message.
_HISTOGRAM = {
    "count_int": (1, "uint64"), "count_float": (2, "double"), "sum": (3, "double"),
    "schema": (4, "sint32"), "zero_threshold": (5, "double"), "zero_count_int": (6, "uint64"),
    "zero_count_float": (7, "double"), "negative_spans": (8, "[BucketSpan]"),
    "negative_deltas": (9, "[sint64]"), "negative_counts": (10, "[double]"),
    "positive_spans": (11, "[BucketSpan]"), "positive_deltas": (12, "[sint64]"),
    "positive_counts": (13, "[double]"), "reset_hint": (14, "enum"), "timestamp": (15, "int64"),
    "custom_values": (16, "[double]"), "start_timestamp": (17, "int64"),
}  # fmt: skip
_SPAN = {"offset": (1, "sint32"), "length": (2, "uint32")}
_V1 = {
    "WriteRequest": {"timeseries": (1, "[TimeSeries]"), "metadata": (3, "[MetricMetadata]")},
    "MetricMetadata": {
        "type": (1, "enum"), "metric_family_name": (2, "string"), "help": (4, "string"),
        "unit": (5, "string"),
    },
    "TimeSeries": {
        "labels": (1, "[Label]"), "samples": (2, "[Sample]"), "exemplars": (3, "[Exemplar]"),
        "histograms": (4, "[Histogram]"),
    },
    "Label": {"name": (1, "string"), "value": (2, "string")},
    "Sample": {"value": (1, "double"), "timestamp": (2, "int64")},
    "Exemplar": {"labels": (1, "[Label]"), "value": (2, "double"), "timestamp": (3, "int64")},
    "Histogram": _HISTOGRAM,
    "BucketSpan": _SPAN,
}  # fmt: skip
_V2 = {
    "Request": {"symbols": (4, "[string]"), "timeseries": (5, "[TimeSeries]")},
    "TimeSeries": {
        "labels_refs": (1, "[uint32]"), "samples": (2, "[Sample]"),
        "histograms": (3, "[Histogram]"), "exemplars": (4, "[Exemplar]"),
        "metadata": (5, "Metadata"),
    },
    "Sample": {"value": (1, "double"), "timestamp": (2, "int64"), "start_timestamp": (3, "int64")},
    "Exemplar": {"labels_refs": (1, "[uint32]"), "value": (2, "double"), "timestamp": (3, "int64")},
    "Metadata": {"type": (1, "enum"), "help_ref": (3, "uint32"), "unit_ref": (4, "uint32")},
    "Histogram": _HISTOGRAM,
    "BucketSpan": _SPAN,
}  # fmt: skip


def _bindings(package: str, messages: Mapping[str, Mapping[str, tuple[int, str]]]) -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package)
    file.syntax = "proto3"
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number)
            bare = kind.strip("[]")
            added.label = 3 if kind.startswith("[") else 1
            added.type = _KINDS["message" if bare[0].isupper() else bare]
            if bare[0].isupper():
                added.type_name = f".{package}.{bare}"
            if bare.endswith(("_int", "_float")):
                added.proto3_optional = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = message_factory.GetMessageClassesForFiles([file.name], pool)
    return {name.rpartition(".")[2]: kind for name, kind in found.items()}


V1 = _bindings("prometheus", _V1)
V2 = _bindings("write2", _V2)

HEADERS_V1 = {
    "content-type": "application/x-protobuf",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "0.1.0",
}
HEADERS_V2 = {
    "content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "2.0.0",
}

Labels = Mapping[str, str]
Points = Sequence[tuple[int, float]]


def write_request(series: Iterable[tuple[Labels, Points]]) -> bytes:
    """A request of version 1.0, not compressed. Points are (ts_ms, value)."""
    request = V1["WriteRequest"]()
    for labels, points in series:
        one = request.timeseries.add()
        for name, value in sorted(labels.items()):
            one.labels.add(name=name, value=value)
        for ts, value in points:
            one.samples.add(timestamp=ts, value=value)
    return bytes(request.SerializeToString())


def metadata_request(said: Iterable[tuple[str, int, str, str]]) -> bytes:
    """A request of version 1.0 without series, not compressed. said: name, number of the type, unit
    and help of each family.
    """
    request = V1["WriteRequest"]()
    for name, kind, unit, text in said:
        request.metadata.add(metric_family_name=name, type=kind, unit=unit, help=text)
    return bytes(request.SerializeToString())


def write_request_v2(series: Iterable[tuple[Labels, Points]], start_ms: int = 0) -> bytes:
    """A request of version 2.0, not compressed."""
    request = V2["Request"]()
    symbols = {"": 0}
    for labels, points in series:
        one = request.timeseries.add()
        for pair in sorted(labels.items()):
            one.labels_refs.extend(symbols.setdefault(text, len(symbols)) for text in pair)
        for ts, value in points:
            one.samples.add(timestamp=ts, value=value, start_timestamp=start_ms)
    request.symbols.extend(symbols)
    return bytes(request.SerializeToString())


def snappy(content: bytes) -> bytes:
    return bytes(cramjam.snappy.compress_raw(content))
