"""Builds remote write requests of version 2.0: the form in which every other protocol takes the
gateway's road.

Decoders of OTLP, exposition text, StatsD and the like give series here, so identity, limits,
replicas, quotas and messages are those of remote write (ADR 32). Source: Prometheus,
prompb/io/prometheus/write/v2/types.proto.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from varve.gateway.catalogue import Catalogue, Samples
from varve.gateway.first_sight import TYPE_NAMES, Exemplar
from varve.gateway.negotiation import Version
from varve.gateway.protobuf import delimited_field, write_varint
from varve.gateway.refusals import Refusals
from varve.model.metadata import NOTHING_KNOWN, Metadata
from varve.model.staleness import STALE_BITS
from varve.promql.histograms.native_histogram import FloatHistogram

STALE = struct.unpack("<d", struct.pack("<Q", STALE_BITS))[0]
"""The value of a sample that ends its series."""

Labels = Sequence[tuple[str, str]]
"""Name and value of each label, `__name__` among them, sorted by name; none is empty."""

_U64 = (1 << 64) - 1
_SAMPLE = struct.Struct("<BdB")
_TYPES = {name: number for number, name in enumerate(TYPE_NAMES)}
_HINTS = {"unknown": 0, "reset": 1, "not_reset": 2, "gauge": 3}


@dataclass(frozen=True, slots=True)
class Message:
    """An expanded body for the batcher, and what of the original was refused before it."""

    content: np.ndarray
    version: Version
    refusals: Refusals = field(default_factory=Refusals)


class Symbols:
    """The texts that a request refers to by number."""

    def __init__(self) -> None:
        self._numbers: dict[str, bytes] = {"": b"\0"}
        self._fields: list[bytes] = [delimited_field(4, b"")]

    def refer(self, text: str) -> bytes:
        """The number of a text, as it is written. Raises UnicodeEncodeError."""
        found = self._numbers.get(text)
        if found is None:
            self._fields.append(delimited_field(4, text.encode()))
            found = self._numbers[text] = write_varint(len(self._numbers))
        return found

    def fields(self) -> list[bytes]:
        return self._fields

    def written(self, labels: Labels, metadata: Metadata = NOTHING_KNOWN) -> tuple[bytes, bytes]:
        """What stands before and behind the samples of a series."""
        refs = b"".join([self.refer(text) for pair in labels for text in pair])
        tail = b""
        if metadata is not NOTHING_KNOWN:
            tail = delimited_field(5, self.described(metadata))
        return delimited_field(1, refs), tail

    def described(self, said: Metadata) -> bytes:
        """A Metadata message."""
        kind = b"\x08" + write_varint(_TYPES.get(said.type, 0))
        return kind + b"\x18" + self.refer(said.help) + b"\x20" + self.refer(said.unit)


class WriteRequest:
    """A request that grows. Text that is no UTF-8 raises UnicodeEncodeError."""

    def __init__(self) -> None:
        self._symbols = Symbols()
        self._parts: list[bytes | tuple[Catalogue, Samples]] = []
        self._count = 0

    def add(
        self,
        labels: Labels,
        value: float | FloatHistogram | None,
        ts_ms: int,
        start_ms: int = 0,
        *,
        exemplars: Iterable[Exemplar] = (),
        metadata: Metadata = NOTHING_KNOWN,
        is_whole: bool = False,
    ) -> None:
        """Appends a sample of a series. None is the staleness marker of a histogram. is_whole: a
        histogram's counts are whole numbers, and are judged as such.
        """
        head, tail = self._symbols.written(labels, metadata)
        if isinstance(value, float):
            point = delimited_field(2, sample_message(value, ts_ms, start_ms))
        else:
            message = histogram_message(value, ts_ms, start_ms, is_whole=is_whole)
            point = delimited_field(3, message)
        body = [head, point]
        body += [delimited_field(4, self._exemplar(e)) for e in exemplars]
        body.append(tail)
        self._parts.append(delimited_field(5, b"".join(body)))
        self._count += 1

    def add_known(self, catalogue: Catalogue, samples: Samples) -> None:
        """Appends samples of series that a catalogue has, which is not to change until the message
        is written. A request has those of one catalogue.
        """
        self._parts.append((catalogue, samples))
        self._count += len(samples.series)

    def add_samples(self, labels: Labels, samples: bytes, count: int) -> None:
        """Appends `count` samples of a series, written as fields of the series' message."""
        head, _ = self._symbols.written(labels)
        self._parts.append(delimited_field(5, head + samples))
        self._count += count

    def message(self, refusals: Refusals | None = None) -> Message:
        """What has been added."""
        symbols = [*self._symbols.fields()]
        known = [part for part in self._parts if isinstance(part, tuple)]
        series: Iterator[bytes] = iter(())
        if known:
            written = known[0][0].write([samples for _, samples in known], len(symbols))
            symbols.append(written.symbols)
            series = iter(written.series)
        parts = (part if isinstance(part, bytes) else next(series) for part in self._parts)
        content = np.frombuffer(b"".join([*symbols, *parts]), np.uint8)
        return Message(content, Version.V2, refusals or Refusals())

    def __len__(self) -> int:
        return self._count

    def _exemplar(self, exemplar: Exemplar) -> bytes:
        refs = b"".join(
            self._symbols.refer(text) for pair in exemplar.labels.items() for text in pair
        )
        value = b"\x11" + struct.pack("<d", exemplar.value)
        return delimited_field(1, refs) + value + b"\x18" + write_varint(exemplar.ts_ms & _U64)


def sample_message(value: float, ts_ms: int, start_ms: int = 0) -> bytes:
    """A Sample message."""
    head = _SAMPLE.pack(0x09, value, 0x10) + write_varint(ts_ms & _U64)
    return head + b"\x18" + write_varint(start_ms & _U64) if start_ms else head


def histogram_message(
    histogram: FloatHistogram | None, ts_ms: int, start_ms: int = 0, *, is_whole: bool = False
) -> bytes:
    """A Histogram message; None is the staleness marker."""
    times = b"\x78" + write_varint(ts_ms & _U64)
    if start_ms:
        times += b"\x88\x01" + write_varint(start_ms & _U64)
    if histogram is None:
        return b"\x11" + bytes(8) + b"\x19" + struct.pack("<Q", STALE_BITS) + times
    h = histogram
    if is_whole:
        counts = b"\x08" + write_varint(int(h.count)) + b"\x30" + write_varint(int(h.zero_count))
    else:
        counts = b"\x11" + struct.pack("<d", h.count) + b"\x39" + struct.pack("<d", h.zero_count)
    parts = [
        counts,
        b"\x19" + struct.pack("<d", h.sum),
        b"\x20" + _zigzag(h.schema),
        b"\x29" + struct.pack("<d", h.zero_threshold),
        *_buckets(8, h.negative, is_whole=is_whole),
        *_buckets(11, h.positive, is_whole=is_whole),
        b"\x70" + write_varint(_HINTS[h.hint]),
        times,
    ]
    if h.custom_values:
        bounds = struct.pack(f"<{len(h.custom_values)}d", *h.custom_values)
        parts.append(delimited_field(16, bounds))
    return b"".join(parts)


def _buckets(first_field: int, buckets: Mapping[int, float], *, is_whole: bool) -> list[bytes]:
    """Spans of neighbouring buckets, and their counts: deltas if they are whole."""
    parts: list[bytes] = []
    indexes = sorted(buckets)
    if not indexes:
        return parts
    expected = 0
    for _, run in itertools.groupby(enumerate(indexes), lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        span = b"\x08" + _zigzag(members[0] - expected) + b"\x10" + write_varint(len(members))
        parts.append(delimited_field(first_field, span))
        expected = members[-1] + 1
    counts = [buckets[index] for index in indexes]
    if is_whole:
        deltas = [int(b) - int(a) for a, b in itertools.pairwise([0, *counts])]
        return [*parts, delimited_field(first_field + 1, b"".join(map(_zigzag, deltas)))]
    return [*parts, delimited_field(first_field + 2, struct.pack(f"<{len(counts)}d", *counts))]


def _zigzag(value: int) -> bytes:
    return write_varint(value << 1 if value >= 0 else (-value << 1) - 1)
