"""Columns of samples, and the Kafka messages that they become."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from varve.gateway import kernel_messages
from varve.ingest import arrow_codec
from varve.model.identity import SeriesDefinition
from varve.model.metadata import Metadata

# Samples of a message at most. 6,000: a batch of 16,000 over four partitions is a message each.
MESSAGE_SAMPLES = 6_000
# Definitions take at most so many bytes of a message, unless a single one is longer; with
# MESSAGE_SAMPLES samples it stays below a broker's default limit of 1 MiB.
_DEFINITION_BYTES = 768 * 1024
_PART_DEFINITIONS = 2_000

_ROW_BYTES = 28
_HEAD_BYTES = 592
_END_BYTES = 8


@dataclass
class SampleColumns:
    """Samples, a row each; `rows` of them count. The arrays are longer."""

    ids: np.ndarray
    checks: np.ndarray
    ts: np.ndarray
    values: np.ndarray
    starts: np.ndarray
    """When the counter started, ms; 0 if it is not said; -1 for a zero that such a start became."""
    targets: np.ndarray
    rows: int = 0

    @classmethod
    def empty(cls, capacity: int) -> SampleColumns:
        """Without rows. Memory is taken as rows are written."""
        kinds = (np.int64, np.int32, np.int64, np.float64, np.int64, np.int32)
        columns: list[Any] = [np.empty(capacity, kind) for kind in kinds]
        return cls(*columns)


@dataclass(frozen=True, slots=True)
class TargetMessage:
    """A message for a target. samples: how many it holds. derived: those of them that no sender has
    sent: the zeros at starts.
    """

    target: int
    key: bytes
    value: bytes
    samples: int
    derived: int = 0


class _Definitions(NamedTuple):
    """A stream of definitions, and the key of the first."""

    key: bytes
    value: bytes


def encode(
    samples: SampleColumns, definitions: Mapping[int, Sequence[SeriesDefinition]]
) -> Iterator[TargetMessage]:
    """Messages of all samples and definitions. A definition goes with or before the first sample
    that needs it.
    """
    targets = samples.targets[: samples.rows]
    parts = {target: list(_written(defined)) for target, defined in definitions.items()}
    for target, pieces in parts.items():
        while len(pieces) > 1:
            yield _definitions_alone(target, pieces.pop(0))
    if samples.rows:
        yield from _samples(samples, targets, parts)
    for target, pieces in parts.items():
        for piece in pieces:
            yield _definitions_alone(target, piece)


def encode_metadata(said: Mapping[str, Metadata]) -> Iterator[TargetMessage]:
    """Messages of what is said of metrics, by their names. They are for any partition; it is the
    first.
    """
    part: dict[str, Metadata] = {}
    size = 0
    for name, one in said.items():
        length = 4 * (len(name) + len(one.unit) + len(one.help))
        if part and size + length > _DEFINITION_BYTES:
            yield _metadata(part)
            part, size = {}, 0
        part[name] = one
        size += length
    if part:
        yield _metadata(part)


def _metadata(part: Mapping[str, Metadata]) -> TargetMessage:
    return TargetMessage(0, next(iter(part)).encode(), arrow_codec.write_metadata(part), 0)


def _samples(
    samples: SampleColumns, targets: np.ndarray, parts: dict[int, list[_Definitions]]
) -> Iterator[TargetMessage]:
    rows = len(targets)
    order = np.empty(rows, np.int64)
    plan = np.empty((rows // MESSAGE_SAMPLES + int(targets.max()) + 2, 3), np.int64)
    count = kernel_messages.plan_messages(targets, rows, MESSAGE_SAMPLES, plan, order)
    head, places = _head()
    longest = int(plan[:count, 2].max())
    words = np.empty((_HEAD_BYTES + _END_BYTES + 8 + longest * _ROW_BYTES) // 8 + 1, np.int64)
    halves, doubles = words.view(np.int32), words.view(np.float64)
    is_derived = samples.starts[:rows] < 0
    any_derived = bool(is_derived.any())
    for target, first, size in plan[:count].tolist():
        chosen = order[first : first + size]
        end = kernel_messages.write_message(
            samples.ids, samples.checks, samples.ts, samples.values, chosen,
            head, places, 0, words, halves, doubles,
        )  # fmt: skip
        value = words[:end].tobytes()
        pieces = parts.get(target)
        if pieces:
            value += pieces.pop().value
        yield TargetMessage(
            target,
            int(samples.ids[chosen[0]]).to_bytes(8, "big", signed=True),
            value,
            size,
            int(is_derived[chosen].sum()) if any_derived else 0,
        )


def _definitions_alone(target: int, part: _Definitions) -> TargetMessage:
    """A message without samples."""
    none = arrow_codec.write(arrow_codec.wire_schema("samples").empty_table())
    return TargetMessage(target, part.key, none + part.value, 0)


def _written(defined: Sequence[SeriesDefinition]) -> Iterator[_Definitions]:
    """Definitions as they are sent, in parts of at most _DEFINITION_BYTES."""
    for first in range(0, len(defined), _PART_DEFINITIONS):
        yield from _within_bound(defined[first : first + _PART_DEFINITIONS])


def _within_bound(part: Sequence[SeriesDefinition]) -> Iterator[_Definitions]:
    value = arrow_codec.write_definitions(part)
    if len(value) > _DEFINITION_BYTES and len(part) > 1:
        half = len(part) // 2
        yield from _within_bound(part[:half])
        yield from _within_bound(part[half:])
    else:
        yield _Definitions(part[0].series_id.to_bytes(8, "big", signed=True), value)


@cache
def _head() -> tuple[np.ndarray, np.ndarray]:
    """The bytes of a message before its columns, and where its numbers are, both in words."""
    rows = 1 << 20  # a number that is nothing else
    table = pa.Table.from_arrays(
        [pa.array(np.zeros(rows, kind)) for kind in (np.int64, np.int32, np.int64, np.float64)],
        schema=arrow_codec.wire_schema("samples"),
    )
    message = arrow_codec.write(table)
    body = rows * _ROW_BYTES
    head = np.frombuffer(message[: len(message) - body - _END_BYTES], np.int64).copy()
    if len(head) * 8 != _HEAD_BYTES:
        raise AssertionError(f"this pyarrow writes a head of {len(head) * 8} bytes")
    found = np.flatnonzero(head == rows).tolist()
    buffers: list[int] = []
    offset = 0
    for size in (8 * rows, 4 * rows, 8 * rows, 8 * rows):
        for length in (0, size):
            start = buffers[-1] + 2 if buffers else 0
            pairs = np.flatnonzero((head[:-1] == offset) & (head[1:] == length))
            buffers.append(
                int(pairs[(pairs >= start)][0]) if buffers else _first_buffer(head, rows)
            )
        offset += size
    places = [int(np.flatnonzero(head == body)[0]), *found, *buffers]
    if len(places) != kernel_messages.PLACES:
        raise AssertionError("this pyarrow's messages have another layout")
    return head, np.array(places, np.int64)


def _first_buffer(head: np.ndarray, rows: int) -> int:
    """Where the pair of the first, empty, buffer is: right before that of the first column."""
    return int(np.flatnonzero((head[:-1] == 0) & (head[1:] == 8 * rows))[0]) - 2
