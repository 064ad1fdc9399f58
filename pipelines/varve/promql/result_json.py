"""Writes query results as the JSON of Prometheus' HTTP API.

Source: Prometheus, web/api/v1/json_codec.go and util/jsonutil/marshal.go.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.promql.evaluation.histogram_range_functions import in_order
from varve.promql.evaluation.values import Int64s, Matrix, QueryResult, RangeVector
from varve.promql.evaluation.windows import points_of
from varve.promql.histograms.native_histogram import Bucket, FloatHistogram
from varve.promql.interrupt import Check, checked, never
from varve.promql.kernels.json import (
    POINT_BYTES,
    SERIES_BYTES,
    write_floats,
    write_matrix,
    write_samples,
)
from varve.promql.labels.label_table import LabelTable
from varve.promql.syntax.go_numbers import format_f

_POINTS_A_BLOCK: Final = 1_000_000
"""Points that are written between two checks: less than a tenth of a second."""

_LABELS_AS_POINTS: Final = 4
"""The labels of a series take as long as so many points."""

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


def to_json(result: QueryResult) -> bytes:
    """`{"resultType": .., "result": ..}`, the data of an answer to /api/v1/query or query_range."""
    value = result.value
    head = b'{"resultType":"%s","result":[' % result.kind.encode()
    tail = b"]}"
    if isinstance(value, str):
        stamp = seconds(int(result.times[0]))
        text = json.dumps(value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        return head + stamp + b"," + text.encode() + tail
    if isinstance(value, float):
        stamp = seconds(int(result.times[0]))
        number = format_f(value).encode()  # unlike points it has no exponent
        return head + stamp + b',"' + number + b'"' + tail
    if isinstance(value, RangeVector):
        return _range_vector(result, value, head, tail)
    return _matrix(result, value, head, tail)


def label_sets(table: LabelTable, check: Check = never) -> bytes:
    """A JSON array of every row's labels, as /api/v1/series answers. check: see interrupt.py."""
    return table.cached("json array", lambda: b"[" + b",".join(_label_texts(table, check)) + b"]")


def seconds(ms: int) -> bytes:
    """A time in seconds, with three decimals unless they are all zero."""
    sign, ms = (b"-", -ms) if ms < 0 else (b"", ms)
    whole, rest = divmod(ms, 1000)
    return sign + (b"%d.%03d" % (whole, rest) if rest else b"%d" % whole)


def floats(values: npt.NDArray[np.float64]) -> list[bytes]:
    """The shortest text of each value as in Go: an exponent below 1e-6 and from 1e21 on."""
    buffer, ends = np.empty(len(values) * 26, np.uint8), np.empty(len(values), np.int64)
    write_floats(buffer, np.ascontiguousarray(values, dtype=np.float64), ends)
    text = buffer.tobytes()
    return [text[begin:end] for begin, end in pairwise([0, *ends.tolist()])]


def _label_texts(table: LabelTable, check: Check = never) -> list[bytes]:
    """The labels of every row as a JSON object. check: see interrupt.py."""
    quoted: dict[str, str] = {}

    def quote(text: str) -> str:
        known = quoted.get(text)
        if known is None:
            clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            known = quoted[text] = json.dumps(clean, ensure_ascii=False)
        return known

    return [
        ("{" + ",".join(f"{quote(name)}:{quote(value)}" for name, value in row) + "}").encode()
        for row in checked(table.labels(check), check)
    ]


def _label_buffer(table: LabelTable, check: Check) -> tuple[Bytes, Offsets]:
    """The JSON objects of all rows in one buffer. Row i is at offsets[i]:offsets[i+1]."""

    def make() -> tuple[Bytes, Offsets]:
        texts = _label_texts(table, check)
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        np.cumsum([len(text) for text in texts], out=offsets[1:])
        return np.frombuffer(b"".join(texts), np.uint8), offsets

    return table.cached("json", make)


def _room(head: bytes, points: int, series: int, labels: int, tail: bytes) -> Bytes:
    """A buffer for an answer that begins with `head`. Pages not written to take no memory."""
    size = len(head) + points * POINT_BYTES + series * SERIES_BYTES + labels + len(tail)
    buffer = np.empty(size, np.uint8)
    buffer[: len(head)] = np.frombuffer(head, np.uint8)
    return buffer


def _ended(buffer: Bytes, end: int, tail: bytes) -> bytes:
    """What was written up to `end`, followed by `tail`."""
    buffer[end : end + len(tail)] = np.frombuffer(tail, np.uint8)
    return buffer[: end + len(tail)].tobytes()


def _matrix(result: QueryResult, matrix: Matrix, head: bytes, tail: bytes) -> bytes:
    if matrix.histograms is not None:
        return head + _mixed_matrix(result, matrix) + tail
    labels, offsets = _label_buffer(matrix.labels, result.check)
    points = int(np.count_nonzero(matrix.present))
    buffer = _room(head, points, matrix.present.shape[0], len(labels), tail)
    values, present = np.ascontiguousarray(matrix.values), np.ascontiguousarray(matrix.present)
    end = len(head)
    for rows in _blocks(result, len(result.times)):
        end = write_matrix(
            buffer,
            end,
            labels,
            offsets,
            rows,
            result.times,
            values,
            present,
            result.kind == "vector",
            end == len(head),
        )
    return _ended(buffer, end, tail)


def _range_vector(result: QueryResult, vector: RangeVector, head: bytes, tail: bytes) -> bytes:
    samples = vector.samples
    if samples.histograms is not None:
        return head + _mixed_range_vector(result, vector) + tail
    labels, offsets = _label_buffer(vector.labels, result.check)
    points = int((samples.ends - samples.begins).sum())
    buffer = _room(head, points, samples.series, len(labels), tail)
    end = len(head)
    for rows in _blocks(result, points // max(1, samples.series)):
        end = write_samples(
            buffer,
            end,
            labels,
            offsets,
            rows,
            samples.begins,
            samples.ends,
            samples.ts,
            samples.values,
            end == len(head),
        )
    return _ended(buffer, end, tail)


def _blocks(result: QueryResult, points_a_row: int) -> Iterator[Int64s]:
    """The rows of the answer, so many at a time that a kernel is done soon, with checks between."""
    count = max(1, _POINTS_A_BLOCK // (points_a_row + _LABELS_AS_POINTS))
    for begin in range(0, len(result.order), count):
        result.check()
        yield result.order[begin : begin + count]


def _mixed_matrix(result: QueryResult, matrix: Matrix) -> bytes:
    """A matrix with histograms among its samples, point by point."""
    single = result.kind == "vector"
    texts = _label_texts(matrix.labels, result.check)
    times = result.times.tolist()
    series = []
    for row in checked(result.order.tolist(), result.check, 1):
        points: list[tuple[int, float | FloatHistogram]] = []
        for step in np.flatnonzero(matrix.present[row]).tolist():
            sample: float | FloatHistogram = float(matrix.values[row, step])
            if matrix.histograms is not None and matrix.histograms[row, step] is not None:
                sample = matrix.histograms[row, step]
            points.append((times[step], sample))
        series.append(_series(texts[row], points, result.check, single=single))
    return b",".join(series)


def _mixed_range_vector(result: QueryResult, vector: RangeVector) -> bytes:
    texts = _label_texts(vector.labels, result.check)
    series = []
    for row in checked(result.order.tolist(), result.check, 1):
        points = [(t, sample) for t, sample, _ in in_order(points_of(vector, row))]
        if points:
            series.append(_series(texts[row], points, result.check, single=False))
    return b",".join(series)


def _series(
    labels: bytes,
    points: list[tuple[int, float | FloatHistogram]],
    check: Check,
    *,
    single: bool,
) -> bytes:
    numbers = [(t, sample) for t, sample in points if not isinstance(sample, FloatHistogram)]
    texts = floats(np.array([sample for _, sample in numbers], dtype=np.float64))
    values = [
        b"[" + seconds(t) + b',"' + text + b'"]'
        for (t, _), text in zip(numbers, texts, strict=True)
    ]
    # A selector finds the same histogram at many steps, until the next one comes.
    written: dict[int, bytes] = {}
    histograms = []
    for t, sample in checked(points, check):
        if isinstance(sample, FloatHistogram):
            text = written.get(id(sample)) or written.setdefault(id(sample), histogram(sample))
            histograms.append(b"[" + seconds(t) + b"," + text + b"]")
    parts = [b'{"metric":' + labels]
    for name, items in ((b"value", values), (b"histogram", histograms)):
        if items:
            key = name if single else name + b"s"
            body = items[0] if single else b"[" + b",".join(items) + b"]"
            parts.append(b'"' + key + b'":' + body)
    return b",".join(parts) + b"}"


def histogram(h: FloatHistogram) -> bytes:
    """Count, sum and populated buckets: [which bounds belong to it, lower, upper, count]."""
    count, total = floats(np.array([h.count, h.sum]))
    body = b'{"count":"' + count + b'","sum":"' + total + b'"'
    buckets = [_bucket(bucket) for bucket in h.all_buckets() if bucket.count != 0]
    if buckets:
        body += b',"buckets":[' + b",".join(buckets) + b"]"
    return body + b"}"


def _bucket(bucket: Bucket) -> bytes:
    rule = 2
    if bucket.lower_inclusive:
        rule = 3 if bucket.upper_inclusive else 1
    elif bucket.upper_inclusive:
        rule = 0
    numbers = floats(np.array([bucket.lower, bucket.upper, bucket.count]))
    quoted = b",".join(b'"' + number + b'"' for number in numbers)
    return b"[%d," % rule + quoted + b"]"
