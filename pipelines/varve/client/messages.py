"""Samples as Kafka messages, each series always in one partition: what encoders have in common,
and the one for JSON arrays.

Source of the format: schemas/wire/sample.schema.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from varve.model.identity import SeriesDefinition

# A message ends at the first of these it reaches: enough to make its overhead vanish, small enough
# for every broker's default limit of 1 MiB.
MESSAGE_SAMPLES = 1_000
MESSAGE_BYTES = 768 * 1024

# Series whose rendered labels are kept; a full cache is emptied.
_CACHED_SERIES = 100_000


class Sample(NamedTuple):
    """One value of a series. ts_ms since the Unix epoch, UTC; None is a staleness marker."""

    series: SeriesDefinition
    ts_ms: int
    value: float | None


class Message(NamedTuple):
    """key: the series_id of its first sample, 8 bytes big-endian. samples: how many it holds;
    none in a message for the topic of definitions, which has no partition of ours either.

    defines: what `Encoder.delivered` is to hear of once the broker has it.
    """

    partition: int | None
    key: bytes
    value: bytes
    samples: int
    defines: Sequence[SeriesDefinition] = ()


class Encoder(Protocol):
    """Makes messages. Not to be shared between threads, except for `delivered`."""

    def messages(self, samples: Iterable[Sample]) -> Iterator[Message]:
        """Messages of the samples, in their order within each partition."""
        ...

    def delivered(self, message: Message) -> None:
        """A message has reached the broker. May be called from any thread."""
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
        """Messages of the samples, in their order within each partition.

        Type, unit and help of a series are said once a message.
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
        """Nothing to remember: every sample says what its series is."""

    def _render(self, series: SeriesDefinition) -> tuple[str, str]:
        """What every sample of the series starts with, and what the first of a message adds."""
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
    """A value as Kafka JSON has it."""
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
    """ASCII, so that characters are bytes; compression makes up for the length."""
    return json.dumps(value, separators=(",", ":"))
