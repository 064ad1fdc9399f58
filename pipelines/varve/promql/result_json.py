"""Writes query results as the JSON of Prometheus' HTTP API.

Source: Prometheus, web/api/v1/json_codec.go and util/jsonutil/marshal.go.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.promql.evaluation.histogram_range_functions import in_order
from varve.promql.evaluation.values import Int64s, Matrix, QueryResult, RangeVector
from varve.promql.evaluation.windows import points_of
from varve.promql.evaluation.workers import Workers
from varve.promql.histograms.native_histogram import Bucket, FloatHistogram
from varve.promql.interrupt import Check, checked, never
from varve.promql.kernels.json import (
    POINT_BYTES,
    SERIES_BYTES,
    write_floats,
    write_matrix,
    write_samples,
)
from varve.promql.label_json import Bytes, Offsets, label_array, label_buffer, label_texts
from varve.promql.labels.label_table import LabelTable
from varve.promql.syntax.go_numbers import format_f

_POINTS_A_BLOCK: Final = 1_000_000
"""Points that are written between two checks: less than a tenth of a second."""

_POINTS_A_THREAD: Final = 10_000
"""From so many points on, half a millisecond, it is worth it that another thread writes them."""

_LABELS_AS_POINTS: Final = 4
"""The labels of a series take as long as so many points."""


def to_json(result: QueryResult, workers: Workers | None = None) -> bytes:
    """`{"resultType": .., "result": ..}`, the data of an answer to /api/v1/query or query_range.

    workers: whose idle cores may write a part of it.
    """
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
        return head + _range_vector(result, value, workers) + tail
    return head + _matrix(result, value, workers) + tail


def label_sets(table: LabelTable, check: Check = never) -> bytes:
    """A JSON array of every row's labels, as /api/v1/series answers. check: see interrupt.py."""
    return table.cached("json array", lambda: label_array(table, check))


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


def _label_buffer(table: LabelTable, check: Check) -> tuple[Bytes, Offsets]:
    """The JSON objects of all rows in one buffer. Row i is at offsets[i]:offsets[i+1]."""
    return table.cached("json", lambda: label_buffer(table, check))


def _matrix(result: QueryResult, matrix: Matrix, workers: Workers | None) -> bytes:
    if matrix.histograms is not None:
        return _mixed_matrix(result, matrix)
    labels, offsets = _label_buffer(matrix.labels, result.check)
    values, present = np.ascontiguousarray(matrix.values), np.ascontiguousarray(matrix.present)
    lengths = np.count_nonzero(present, axis=1)
    single = result.kind == "vector"

    def write(buffer: Bytes, end: int, rows: Int64s) -> int:
        return write_matrix(
            buffer, end, labels, offsets, rows, result.times, values, present, single, end == 0
        )

    return _written(result, lengths, offsets, write, workers)


def _range_vector(result: QueryResult, vector: RangeVector, workers: Workers | None) -> bytes:
    samples = vector.samples
    if samples.histograms is not None:
        return _mixed_range_vector(result, vector)
    labels, offsets = _label_buffer(vector.labels, result.check)
    begins, ends, ts, values = samples.begins, samples.ends, samples.ts, samples.values

    def write(buffer: Bytes, end: int, rows: Int64s) -> int:
        return write_samples(buffer, end, labels, offsets, rows, begins, ends, ts, values, end == 0)

    return _written(result, ends - begins, offsets, write, workers)


def _written(
    result: QueryResult,
    lengths: Int64s,
    offsets: Offsets,
    write: Callable[[Bytes, int, Int64s], int],
    workers: Workers | None,
) -> bytes:
    """All series in their order. `write` writes some rows into a buffer, from an offset on, and
    returns where their text ends. lengths: how many points each series has.
    """

    def written(order: Int64s) -> Bytes:
        """Pages of the buffer that are not written to take no memory."""
        texts = int((offsets[order + 1] - offsets[order]).sum())
        size = int(lengths[order].sum()) * POINT_BYTES + len(order) * SERIES_BYTES + texts
        buffer, end = np.empty(size, np.uint8), 0
        for rows in _blocks(result, order, len(lengths) and int(lengths.sum()) // len(lengths)):
            end = write(buffer, end, rows)
        return buffer[:end]

    count = 1 + min(workers.idle if workers else 0, int(lengths.sum()) // _POINTS_A_THREAD)
    order = np.ascontiguousarray(result.order)
    if workers is None or count == 1:
        return written(order).tobytes()
    jobs = [partial(written, part) for part in np.array_split(order, count)]
    with workers.busy():
        return b",".join([text.data for text in workers.side_by_side(jobs) if len(text)])


def _blocks(result: QueryResult, order: Int64s, points_a_row: int) -> Iterator[Int64s]:
    """The rows in `order`, so many at a time that a kernel is done soon, with checks between."""
    count = max(1, _POINTS_A_BLOCK // (points_a_row + _LABELS_AS_POINTS))
    for begin in range(0, len(order), count):
        result.check()
        yield order[begin : begin + count]


def _mixed_matrix(result: QueryResult, matrix: Matrix) -> bytes:
    """A matrix with histograms among its samples, point by point."""
    single = result.kind == "vector"
    texts = label_texts(matrix.labels, result.check)
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
    texts = label_texts(vector.labels, result.check)
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
