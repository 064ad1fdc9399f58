"""The protobuf format: delimited messages of io.prometheus.client.MetricFamily.

Source: prometheus/client_model, io/prometheus/client/metrics.proto; Prometheus,
model/textparse/protobufparse.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from varve.gateway.exposition.samples import (
    ExposedExemplar,
    ExposedSample,
    Exposition,
    InvalidExposition,
    Said,
    labels_of,
)
from varve.gateway.histograms import InvalidHistogram, decode_histogram
from varve.gateway.protobuf import Field, delimited_field, fields, read_varint, signed, write_varint
from varve.gateway.refusals import Malformed
from varve.promql.syntax.go_numbers import format_open_metrics

_KINDS: Final = ("counter", "gauge", "summary", "unknown", "histogram", "gaugehistogram")

# Fields of a histogram that make it a native one, and their numbers in remote write's message.
_NATIVE: Final = {
    1: 1, 2: 3, 4: 2, 5: 4, 6: 5, 7: 6, 8: 7, 9: 8, 10: 9, 11: 10, 12: 11, 13: 12, 14: 13,
}  # fmt: skip

Pairs = Sequence[tuple[str, str]]


def parse_families(content: bytes) -> Exposition:
    """The samples of a body. A native histogram replaces the classic one it comes with. Raises
    InvalidExposition.
    """
    found = Exposition()
    at = 0
    try:
        while at < len(content):
            size, at = read_varint(content, at)
            if size > len(content) - at:
                raise Malformed("a family reaches over the body's end")  # noqa: TRY301 - said below
            _Family(found).read(content[at : at + size])
            at += size
    except (InvalidExposition, Malformed, InvalidHistogram, UnicodeDecodeError) as bad:
        refused = InvalidExposition(str(bad))
        refused.before = found.samples
        raise refused from None
    return found


class _Family:
    def __init__(self, found: Exposition) -> None:
        self._found = found
        self._name = ""
        self._labels: Pairs = ()
        self._ts_ms: int | None = None
        self._kind = "counter"

    def read(self, message: bytes) -> None:
        texts = {1: "", 2: "", 5: ""}
        kind, metrics = 0, []
        for part in fields(message):
            if part.number in texts:
                texts[part.number] = part.delimited().decode()
            elif part.number == 3:
                kind = part.varint()
            elif part.number == 4:
                metrics.append(part.delimited())
        self._name = texts[1]
        if not self._name:
            raise InvalidExposition("a family has no name")
        if kind >= len(_KINDS):
            raise InvalidExposition(f"{self._name} has the type {kind}, which there is not")
        self._kind = _KINDS[kind]
        self._found.describe(Said(self._name, self._kind, texts[2], texts[5]))
        for metric in metrics:
            self._metric(metric)

    def _metric(self, message: bytes) -> None:
        labels: list[tuple[str, str]] = []
        self._ts_ms = None
        parts: dict[int, bytes] = {}
        for part in fields(message):
            if part.number == 1:
                labels.append(_pair(part.delimited()))
            elif part.number == 6:
                self._ts_ms = signed(part.varint())
            else:
                parts[part.number] = part.delimited()
        self._labels = labels
        if self._kind in ("gauge", "unknown"):
            body = parts.get(2 if self._kind == "gauge" else 5)
            if body is None:
                raise InvalidExposition(f"{self._name} has a metric that is no {self._kind}")
            self._put(self._name, _double(body, 1))
        else:
            number, read = _READERS[self._kind]
            if number not in parts:
                raise InvalidExposition(f"{self._name} has a metric that is no {self._kind}")
            read(self, parts[number])

    def _counter(self, message: bytes) -> None:
        value, start_ms = 0.0, 0
        exemplars = []
        for part in fields(message):
            if part.number == 1:
                value = part.double()
            elif part.number == 2:
                exemplars.append(_exemplar(part.delimited()))
            elif part.number == 3:
                start_ms = _time_ms(part.delimited())
        self._put(self._name, value, start_ms=start_ms, exemplars=exemplars)

    def _summary(self, message: bytes) -> None:
        count, total, start_ms = 0.0, 0.0, 0
        quantiles = []
        for part in fields(message):
            if part.number == 1:
                count = float(part.varint())
            elif part.number == 2:
                total = part.double()
            elif part.number == 3:
                quantiles.append((_double(part.delimited(), 1), _double(part.delimited(), 2)))
            elif part.number == 4:
                start_ms = _time_ms(part.delimited())
        self._put(f"{self._name}_count", count, start_ms=start_ms)
        self._put(f"{self._name}_sum", total, start_ms=start_ms)
        for quantile, value in quantiles:
            more = ("quantile", format_open_metrics(quantile))
            self._put(self._name, value, more, start_ms=start_ms)

    def _histogram(self, message: bytes) -> None:
        parts = list(fields(message))
        start_ms = next((_time_ms(p.delimited()) for p in parts if p.number == 15), 0)
        if _is_native(parts):
            self._native(parts, start_ms)
            return
        count, total = 0.0, 0.0
        buckets = []
        for part in parts:
            if part.number == 1:
                count = count or float(part.varint())
            elif part.number == 4:
                count = part.double() or count
            elif part.number == 2:
                total = part.double()
            elif part.number == 3:
                buckets.append(_bucket(part.delimited()))
        self._put(f"{self._name}_count", count, start_ms=start_ms)
        self._put(f"{self._name}_sum", total, start_ms=start_ms)
        if not buckets or buckets[-1][0] != math.inf:
            buckets.append((math.inf, count, []))
        for bound, value, exemplars in buckets:
            more = ("le", format_open_metrics(bound))
            name = f"{self._name}_bucket"
            self._put(name, value, more, start_ms=start_ms, exemplars=exemplars)

    def _native(self, parts: Sequence[Field], start_ms: int) -> None:
        message = b"".join(_renumbered(p, _NATIVE[p.number]) for p in parts if p.number in _NATIVE)
        if self._kind == "gaugehistogram":
            message += b"\x70\x03"
        sample = decode_histogram(message)
        exemplars = [_exemplar(p.delimited()) for p in parts if p.number == 16]
        if not exemplars:
            buckets = [_bucket(p.delimited()) for p in parts if p.number == 3]
            exemplars = [exemplar for _, _, own in buckets for exemplar in own]
        labels = labels_of(self._name, self._labels)
        if sample.histogram is None:
            raise InvalidExposition(f"{self._name} has a histogram that is a staleness marker")
        timed = [exemplar for exemplar in exemplars if exemplar.ts_ms is not None]
        self._found.samples.append(
            ExposedSample(labels, sample.histogram, self._ts_ms, start_ms, timed, self._name)
        )

    def _put(
        self,
        name: str,
        value: float,
        *more: tuple[str, str],
        start_ms: int = 0,
        exemplars: Sequence[ExposedExemplar] = (),
    ) -> None:
        labels = labels_of(name, [*self._labels, *more])
        value = math.nan if math.isnan(value) else value
        self._found.samples.append(
            ExposedSample(labels, value, self._ts_ms, start_ms, exemplars, self._name)
        )


_READERS: Final[dict[str, tuple[int, Callable[[_Family, bytes], None]]]] = {
    "counter": (3, _Family._counter),  # noqa: SLF001 - its own table
    "summary": (4, _Family._summary),  # noqa: SLF001
    "histogram": (7, _Family._histogram),  # noqa: SLF001
    "gaugehistogram": (7, _Family._histogram),  # noqa: SLF001
}


def _is_native(parts: Sequence[Field]) -> bool:
    """Whether a histogram has what classic ones have not: spans, or a zero bucket."""
    for part in parts:
        if part.number in (9, 12) or (part.number == 7 and part.varint()):
            return True
        if part.number in (6, 8) and part.double() > 0:
            return True
    return False


def _renumbered(part: Field, number: int) -> bytes:
    """A field under another number."""
    if part.wire_type == 2:
        return delimited_field(number, part.content)
    _, at = read_varint(part.raw, 0)
    return write_varint(number << 3 | part.wire_type) + part.raw[at:]


def _bucket(message: bytes) -> tuple[float, float, list[ExposedExemplar]]:
    bound, count = 0.0, 0.0
    exemplars = []
    for part in fields(message):
        if part.number == 1:
            count = count or float(part.varint())
        elif part.number == 2:
            bound = part.double()
        elif part.number == 3:
            exemplars.append(_exemplar(part.delimited()))
        elif part.number == 4:
            count = part.double() or count
    return bound, count, exemplars


def _exemplar(message: bytes) -> ExposedExemplar:
    labels, value, ts_ms = [], 0.0, None
    for part in fields(message):
        if part.number == 1:
            labels.append(_pair(part.delimited()))
        elif part.number == 2:
            value = part.double()
        elif part.number == 3:
            ts_ms = _time_ms(part.delimited())
    return ExposedExemplar(sorted(labels), value, ts_ms)


def _pair(message: bytes) -> tuple[str, str]:
    texts = {1: "", 2: ""}
    for part in fields(message):
        if part.number in texts:
            texts[part.number] = part.delimited().decode()
    return texts[1], texts[2]


def _double(message: bytes, number: int) -> float:
    return next((part.double() for part in fields(message) if part.number == number), 0.0)


def _time_ms(message: bytes) -> int:
    """A google.protobuf.Timestamp."""
    seconds = nanos = 0
    for part in fields(message):
        if part.number == 1:
            seconds = signed(part.varint())
        elif part.number == 2:
            nanos = part.varint()
    return seconds * 1000 + nanos // 1_000_000
