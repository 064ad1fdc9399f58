"""Native histograms of remote write: decoded, and judged as Prometheus judges them.

Both versions have the same message. Source: Prometheus, prompb/types.proto, message Histogram;
model/histogram/histogram.go and float_histogram.go, Validate.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from varve.gateway.protobuf import Field, doubles, fields, signed, varints, zigzag
from varve.model.staleness import STALE_BITS
from varve.promql.histograms.native_histogram import CUSTOM_BUCKETS, FloatHistogram, ResetHint

_FINEST_STORED: Final = 8
_FINEST_KNOWN: Final = 52
_COARSEST: Final = -4
# In all, so that one fits into a message of Kafka.
_MOST_BUCKETS: Final = 20_000
# An index that no float64 has at any resolution that is stored: those go to 2**18.
_FURTHEST: Final = 1 << 24

_HINTS: Final[dict[int, ResetHint]] = {1: "reset", 2: "not_reset", 3: "gauge"}


class InvalidHistogram(ValueError):
    """The histogram contradicts itself; the text says how."""


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """A native histogram at a time, in ms. histogram None: a staleness marker. start_ms: since when
    it counts; 0 if that is not said.
    """

    ts_ms: int
    histogram: FloatHistogram | None
    start_ms: int = 0


@dataclass
class _Draft:
    """The message's fields as they were sent."""

    is_float: bool = False
    count: float = 0.0
    sum: float = 0.0
    schema: int = 0
    zero_threshold: float = 0.0
    zero_count: float = 0.0
    negative_spans: list[tuple[int, int]] = field(default_factory=list)
    positive_spans: list[tuple[int, int]] = field(default_factory=list)
    negative_deltas: list[int] = field(default_factory=list)
    positive_deltas: list[int] = field(default_factory=list)
    negative_counts: list[float] = field(default_factory=list)
    positive_counts: list[float] = field(default_factory=list)
    hint: ResetHint = "unknown"
    ts_ms: int = 0
    custom_values: list[float] = field(default_factory=list)
    start_ms: int = 0


def decode_histogram(message: bytes) -> HistogramSample:
    """Raises Malformed, and InvalidHistogram if the message says what no histogram can be."""
    draft = _Draft()
    for found in fields(message):
        _FIELDS.get(found.number, _pass_over)(draft, found)
    if struct.unpack("<Q", struct.pack("<d", draft.sum))[0] == STALE_BITS:
        return HistogramSample(draft.ts_ms, None, draft.start_ms)
    return HistogramSample(draft.ts_ms, _judged(draft), draft.start_ms)


def _judged(draft: _Draft) -> FloatHistogram:
    is_custom = draft.schema == CUSTOM_BUCKETS
    if not is_custom and not _COARSEST <= draft.schema <= _FINEST_KNOWN:
        raise InvalidHistogram(f"schema {draft.schema} is unknown")
    buckets = sum(n for _, n in (*draft.positive_spans, *draft.negative_spans))
    if buckets + len(draft.custom_values) > _MOST_BUCKETS:
        raise InvalidHistogram(f"over {_MOST_BUCKETS:,} buckets")
    positive = _buckets("positive", draft.positive_spans, _counts(draft, positive=True))
    negative = _buckets("negative", draft.negative_spans, _counts(draft, positive=False))
    if is_custom:
        _require_custom(draft)
    elif draft.custom_values:
        raise InvalidHistogram("custom bounds belong to schema -53 only")
    for name, number in (("count", draft.count), ("zero bucket", draft.zero_count)):
        if number < 0:
            raise InvalidHistogram(f"the {name} is negative")
    if not draft.is_float:
        total = sum(positive.values()) + sum(negative.values()) + draft.zero_count
        # Observations of NaN are counted and in no bucket.
        if total > draft.count if math.isnan(draft.sum) else total != draft.count:
            raise InvalidHistogram(
                f"{total:g} observations are in buckets, and its count is {draft.count:g}"
            )
    histogram = FloatHistogram(
        draft.schema,
        draft.count,
        draft.sum,
        draft.zero_threshold,
        draft.zero_count,
        positive,
        negative,
        tuple(draft.custom_values),
        draft.hint,
    )
    if not is_custom:
        histogram = histogram.to_schema(min(draft.schema, _FINEST_STORED))
    for index in (*histogram.positive, *histogram.negative):
        if abs(index) > _FURTHEST:
            raise InvalidHistogram(f"bucket {index} is beyond every number")
    return histogram


def _require_custom(draft: _Draft) -> None:
    """Raises InvalidHistogram if the fields are not those of custom buckets."""
    bounds = draft.custom_values
    if any(not a < b for a, b in itertools.pairwise(bounds)) or any(map(math.isnan, bounds)):
        raise InvalidHistogram("custom bounds do not ascend")
    if bounds and bounds[-1] == math.inf:
        raise InvalidHistogram("the last custom bound is +Inf, which is never written")
    if draft.zero_count or draft.zero_threshold:
        raise InvalidHistogram("custom buckets have no zero bucket")
    if draft.negative_spans or draft.negative_deltas or draft.negative_counts:
        raise InvalidHistogram("custom buckets have no negative ones")
    reach = sum(offset + length for offset, length in draft.positive_spans)
    if reach > len(bounds) + 1 or (draft.positive_spans and draft.positive_spans[0][0] < 0):
        raise InvalidHistogram(f"{len(bounds)} custom bounds have no bucket {reach - 1}")


def _counts(draft: _Draft, *, positive: bool) -> Sequence[float]:
    """The absolute count of each bucket."""
    if draft.is_float:
        return draft.positive_counts if positive else draft.negative_counts
    return list(itertools.accumulate(draft.positive_deltas if positive else draft.negative_deltas))


def _buckets(
    side: str, spans: Sequence[tuple[int, int]], counts: Sequence[float]
) -> dict[int, float]:
    if sum(length for _, length in spans) != len(counts):
        needed = sum(length for _, length in spans)
        raise InvalidHistogram(f"{side} spans need {needed} buckets, and there are {len(counts)}")
    found: dict[int, float] = {}
    index, taken = 0, 0
    for n, (offset, length) in enumerate(spans):
        if n and offset < 0:
            raise InvalidHistogram(f"{side} span {n + 1} has the negative offset {offset}")
        index += offset
        for count in counts[taken : taken + length]:
            if count < 0:
                raise InvalidHistogram(f"{side} bucket {index} counts {count:g}")
            if count != 0:
                found[index] = float(count)
            index += 1
        taken += length
    return found


def _span(found: Field) -> tuple[int, int]:
    offset = length = 0
    for part in fields(found.delimited()):
        if part.number == 1:
            offset = zigzag(part.varint() & 0xFFFFFFFF)
        elif part.number == 2:
            length = part.varint() & 0xFFFFFFFF
    return offset, length


def _set_count(draft: _Draft, found: Field) -> None:
    draft.count, draft.is_float = float(found.varint()), False


def _set_float_count(draft: _Draft, found: Field) -> None:
    draft.count, draft.is_float = found.double(), True


def _set_zero_count(draft: _Draft, found: Field) -> None:
    draft.zero_count = float(found.varint())


def _pass_over(draft: _Draft, found: Field) -> None:
    """A field of a newer sender."""


_FIELDS: Final[dict[int, Callable[[_Draft, Field], None]]] = {
    1: _set_count,
    2: _set_float_count,
    3: lambda draft, found: setattr(draft, "sum", found.double()),
    4: lambda draft, found: setattr(draft, "schema", zigzag(found.varint() & 0xFFFFFFFF)),
    5: lambda draft, found: setattr(draft, "zero_threshold", found.double()),
    6: _set_zero_count,
    7: lambda draft, found: setattr(draft, "zero_count", found.double()),
    8: lambda draft, found: draft.negative_spans.append(_span(found)),
    9: lambda draft, found: draft.negative_deltas.extend(map(zigzag, varints(found))),
    10: lambda draft, found: draft.negative_counts.extend(doubles(found)),
    11: lambda draft, found: draft.positive_spans.append(_span(found)),
    12: lambda draft, found: draft.positive_deltas.extend(map(zigzag, varints(found))),
    13: lambda draft, found: draft.positive_counts.extend(doubles(found)),
    14: lambda draft, found: setattr(draft, "hint", _HINTS.get(found.varint(), "unknown")),
    15: lambda draft, found: setattr(draft, "ts_ms", signed(found.varint())),
    16: lambda draft, found: draft.custom_values.extend(doubles(found)),
    17: lambda draft, found: setattr(draft, "start_ms", signed(found.varint())),
}
