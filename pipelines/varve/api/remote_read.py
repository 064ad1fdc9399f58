"""Prometheus' remote read: what Prometheus, Thanos' sidecar and others take whole series by.

Source: Prometheus 3, prompb/remote.proto, storage/remote/{read_handler,codec,chunked}.go.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import cramjam
import crc32c
import numpy as np

from varve.api.call import Answer, Body, Call
from varve.gateway.protobuf import delimited_field, fields, signed, varints, write_varint
from varve.gateway.refusals import Refused
from varve.gateway.snappy import expand
from varve.model import xor_chunk
from varve.model.errors import BadRequest
from varve.promql.interrupt import Check, checked
from varve.promql.labels.label_table import Labels
from varve.promql.storage import SelectHints, Selection
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.derived_storage import storage_of

MAX_REQUEST_BYTES: Final = 32 << 20

_OPS: Final = (MatchOp.EQUAL, MatchOp.NOT_EQUAL, MatchOp.REGEX, MatchOp.NOT_REGEX)
_STREAMED: Final = 1
_MASK: Final = (1 << 64) - 1
_XOR: Final = 1
_FRAME_BYTES: Final = 1 << 20
"""About what a frame of the stream has at most, as in Prometheus."""
# What a sample and a series take in either form at most, besides its labels.
_SAMPLE_BYTES, _SERIES_BYTES = 24, 64

Points = tuple[np.ndarray, np.ndarray]
"""Times, Unix ms, and values."""


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """Series that all matchers match, with their samples in [start_ms, end_ms]."""

    start_ms: int
    end_ms: int
    matchers: tuple[Matcher, ...]


def remote_read(call: Call) -> Answer:
    """Answers each query with the raw samples, as a stream of chunks if the client takes it. Where
    samples have expired, the headers say that the answer is partial.

    Raises BadRequest for a body that is none of remote read.
    """
    try:
        queries, accepted = _read(bytes(expand(call.body, MAX_REQUEST_BYTES)))
    except Refused as err:
        raise BadRequest(str(err)) from err
    streamed = _STREAMED in accepted
    reader = call.reader
    storage = storage_of(reader)
    parts: list[bytes] = []
    samples = 0
    for index, query in enumerate(queries):
        check = call.options.check_running
        try:
            found = storage.select(
                query.matchers, query.start_ms - 1, query.end_ms, SelectHints(check=check)
            )
        except ValueError as err:
            raise BadRequest(f"a matcher's regular expression cannot be read: {err}") from err
        size = int((found.samples.ends - found.samples.begins).sum())
        samples += size
        call.options.memory.take(size * _SAMPLE_BYTES + found.labels.size * _SERIES_BYTES)
        series = checked(_series(found, query, check), check)
        if streamed:
            parts += map(_frame, _messages(series, index))
        else:
            parts.append(delimited_field(1, b"".join(map(_time_series, series))))
    body = b"".join(parts)
    if streamed:
        kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
        return Answer(Body(body, kind), samples=samples, provenance=reader.provenance)
    packed = bytes(cramjam.snappy.compress_raw(body))
    answer = Body(packed, "application/x-protobuf", "snappy")
    return Answer(answer, samples=samples, provenance=reader.provenance)


def _read(request: bytes) -> tuple[list[ReadQuery], list[int]]:
    """The queries, and the kinds of answer that the client takes. Raises Malformed."""
    queries: list[ReadQuery] = []
    accepted: list[int] = []
    for field in fields(request):
        if field.number == 1:
            queries.append(_query(field.delimited()))
        elif field.number == 2:
            accepted += varints(field)
    return queries, accepted


def _query(message: bytes) -> ReadQuery:
    start_ms = end_ms = 0
    matchers = []
    for field in fields(message):
        if field.number == 1:
            start_ms = signed(field.varint())
        elif field.number == 2:
            end_ms = signed(field.varint())
        elif field.number == 3:
            matchers.append(_matcher(field.delimited()))
    return ReadQuery(start_ms, end_ms, tuple(matchers))


def _matcher(message: bytes) -> Matcher:
    kind, name, value = 0, b"", b""
    for field in fields(message):
        if field.number == 1:
            kind = field.varint()
        elif field.number == 2:
            name = field.delimited()
        elif field.number == 3:
            value = field.delimited()
    if kind >= len(_OPS):
        raise BadRequest(f"there is no matcher of type {kind}")
    return Matcher(_text(name), _OPS[kind], _text(value))


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _series(found: Selection, query: ReadQuery, check: Check) -> Iterator[tuple[Labels, Points]]:
    """Each series that has samples in the range, with these."""
    samples = found.samples
    for labels, begin, end in zip(
        found.labels.labels(check), samples.begins.tolist(), samples.ends.tolist(), strict=True
    ):
        ts = samples.ts[begin:end]
        low, high = np.searchsorted(ts, [query.start_ms, query.end_ms + 1])
        if low < high:
            yield labels, (ts[low:high], samples.values[begin + low : begin + high])


def _label_fields(labels: Labels) -> bytes:
    return b"".join(
        delimited_field(1, delimited_field(1, _bytes(name)) + delimited_field(2, _bytes(value)))
        for name, value in labels
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _time_series(series: tuple[Labels, Points]) -> bytes:
    labels, (ts, values) = series
    samples = [
        delimited_field(2, b"\x09" + struct.pack("<Q", bits) + b"\x10" + write_varint(t & _MASK))
        for t, bits in zip(ts.tolist(), values.view(np.uint64).tolist(), strict=True)
    ]
    return delimited_field(1, _label_fields(labels) + b"".join(samples))


def _messages(series: Iterable[tuple[Labels, Points]], index: int) -> Iterator[bytes]:
    """A message for each series, or several where its chunks are many."""
    tail = b"\x10" + write_varint(index) if index else b""
    for labels, (ts, values) in series:
        head = _label_fields(labels)
        held: list[bytes] = []
        size = 0
        for number, data in enumerate(xor_chunk.encode(ts, values)):
            begin = number * xor_chunk.MOST_SAMPLES
            times = ts[begin : begin + xor_chunk.MOST_SAMPLES]
            held.append(delimited_field(2, _chunk(int(times[0]), int(times[-1]), data)))
            size += len(held[-1])
            if size > _FRAME_BYTES:
                yield delimited_field(1, head + b"".join(held)) + tail
                held, size = [], 0
        if held:
            yield delimited_field(1, head + b"".join(held)) + tail


def _chunk(first_ms: int, last_ms: int, data: bytes) -> bytes:
    times = b"\x08" + write_varint(first_ms & _MASK) + b"\x10" + write_varint(last_ms & _MASK)
    return times + b"\x18" + write_varint(_XOR) + delimited_field(4, data)


def _frame(message: bytes) -> bytes:
    """Length, checksum, message."""
    return write_varint(len(message)) + struct.pack(">I", crc32c.crc32c(message)) + message
