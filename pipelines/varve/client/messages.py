"""Kafka messages of samples: what encoders have in common, and the encoder of JSON arrays.

All samples of a series go to one partition.

Source of the format: schemas/wire/sample.schema.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from varve.model.identity import SeriesDefinition

# A message ends at the first of these bounds that it reaches: large enough that its overhead does
# not matter, small enough for a broker's default limit of 1 MiB.
MESSAGE_SAMPLES = 1_000
MESSAGE_BYTES = 768 * 1024

# How many series' rendered labels are kept; a full cache is emptied.
_CACHED_SERIES = 100_000


class Sample(NamedTuple):
    """One value of a series."""

    series: SeriesDefinition
    ts_ms: int
    """Milliseconds since the Unix epoch, UTC."""
    value: float | None
    """None is a staleness marker."""


class Message(NamedTuple):
    """A Kafka message of samples, or of definitions alone."""

    partition: int | None
    """None lets Kafka's client choose, for a message of definitions alone."""
    key: bytes
    """The series_id of its first sample, 8 bytes big-endian."""
    value: bytes
    samples: int
    """How many samples it holds: 0 in a message of definitions alone."""
    defines: Sequence[SeriesDefinition] = ()
    """The definitions it holds, for `Encoder.delivered`."""


class Encoder(Protocol):
    """Makes messages. Not to be shared between threads, except for `delivered`."""

    def messages(self, samples: Iterable[Sample]) -> Iterator[Message]:
        """Yields messages of the samples, in their order within each partition."""
        ...

    def delivered(self, message: Message) -> None:
        """Is told that a message has reached the broker. May be called from any thread."""
        ...


@dataclass
class _Draft:
    """A message being filled."""

    first: int
    """series_id of its first sample."""
    parts: list[str] = field(default_factory=list)
    size: int = 0
    described: set[str] = field(default_factory=set)


class JsonEncoder:
    """Renders samples as JSON; remembers the text of each series."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._rendered: dict[tuple[int, int], tuple[str, str]] = {}

    def messages(self, samples: Iterable[Sample]) -> Iterator[Message]:
        """Yields messages of the samples, in their order within each partition.

        Type, unit and help of a series are said once in each message.
        """
        drafts: dict[int, _Draft] = {}
        for series, ts_ms, value in samples:
            series_id = series.series_id
            partition = partition_of(series_id, self._partitions)
            draft = drafts.get(partition)
            if draft is None:
                draft = drafts[partition] = _Draft(series_id)
            start, description = self._render(series)
            rest = f',"timestamp":{ts_ms},"value":{number(value)}}}'
            size = len(start) + len(description) + len(rest)
            if draft.parts and draft.size + size > MESSAGE_BYTES:
                yield _message(partition, draft)
                draft = drafts[partition] = _Draft(series_id)
            if start in draft.described:
                description = ""
            else:
                draft.described.add(start)
            part = start + description + rest
            draft.parts.append(part)
            draft.size += len(part) + 1
            if len(draft.parts) == MESSAGE_SAMPLES:
                yield _message(partition, drafts.pop(partition))
        for partition, draft in drafts.items():
            yield _message(partition, draft)

    def delivered(self, message: Message) -> None:
        """Does nothing: every sample says what its series is."""

    def _render(self, series: SeriesDefinition) -> tuple[str, str]:
        """The text that every sample of the series starts with, and what the first sample of a
        message adds.
        """
        identity = (series.series_id, series.check)
        rendered = self._rendered.get(identity)
        if rendered is None:
            if len(self._rendered) >= _CACHED_SERIES:
                self._rendered.clear()
            known = {"type": series.type, "unit": series.unit, "help": series.help}
            start = {"metric": series.metric, "tags": dict(series.tags)}
            extra = "".join(f",{_text(k)}:{_text(v)}" for k, v in known.items() if v)
            rendered = _text(start)[:-1], extra
            self._rendered[identity] = rendered
        return rendered


def partition_of(series_id: int, partitions: int) -> int:
    """The partition of a series: its samples stay in order, whoever sends them."""
    return series_id % partitions


def number(value: float | None) -> str:
    """A value as JSON of the wire format."""
    if value is None:
        return "null"
    if math.isfinite(value):
        return repr(float(value))
    if math.isnan(value):
        return '"NaN"'
    return '"+Inf"' if value > 0 else '"-Inf"'


def _message(partition: int, draft: _Draft) -> Message:
    body = "[" + ",".join(draft.parts) + "]"
    key = draft.first.to_bytes(8, "big", signed=True)
    return Message(partition, key, body.encode(), len(draft.parts))


def _text(value: object) -> str:
    """A value as JSON in ASCII: characters are bytes, and compression makes up for the length."""
    return json.dumps(value, separators=(",", ":"))
